"""ResNet-50 on one chip: the chip-level measurement that fixes the cost of a dependent operation.

A convolution is a matrix product: one row for each output pixel, k = kernel area x input channels, n = output
channels (He et al. 2015, arXiv:1512.03385, table 1; stride in the 3 x 3 convolution). Pooling and additions
stream along.
"""

from __future__ import annotations

from dcsim.llm.cost import Work, operation_cost
from dcsim.spec.chip import LpuChip

# Bottlenecks in each of the four groups, and the inner channels of the first; both double in width from group
# to group.
GROUPS, CHANNELS, EXPANSION, IMAGE = (3, 4, 6, 3), 64, 4, 224


def layers() -> list[tuple[int, int, int]]:
    """(rows, k, n) of the 53 convolutions and the final classifier, in order, for one image."""
    side = IMAGE // 2
    found = [(side * side, 7 * 7 * 3, CHANNELS)]
    side, width = side // 2, CHANNELS
    for group, blocks in enumerate(GROUPS):
        inner = CHANNELS << group
        for block in range(blocks):
            wide = side * side
            if block == 0 and group > 0:
                side //= 2
            narrow = side * side
            found += [(wide, width, inner), (narrow, 9 * inner, inner), (narrow, inner, EXPANSION * inner)]
            if block == 0:
                found.append((narrow, width, EXPANSION * inner))
            width = EXPANSION * inner
    return [*found, (1, width, 1000)]


def cycles(chip: LpuChip) -> int:
    """Cycles of one image in 8-bit arithmetic, each layer after the one before: fixed cost and streaming."""
    works = [Work("matrix", rows, rows, ((1, rows, k, n),), 1, 1) for rows, k, n in layers()]
    return sum(operation_cost(chip, work).last_cycles for work in works)


def peak_cycles(chip: LpuChip) -> float:
    """Cycles of one image's multiplications at the chip's peak 8-bit rate, perfectly packed."""
    return sum(rows * k * n for rows, k, n in layers()) / (chip.tile**2 * chip.matrix_planes)


def fixed_cycles_for(chip: LpuChip, time_s: float) -> tuple[float, float]:
    """Bounds of the cost of a dependent operation, in cycles, if one image takes `time_s`.

    The upper bound charges all time that is not arithmetic at peak rate to the layers' fixed cost; the lower one
    pads every layer's tiles, as if no compiler packed several pixels of a narrow layer into one.
    """
    padded = cycles(chip.model_copy(update={"fixed_cycles": 0}))
    total = time_s * chip.clock_hz
    return (total - padded) / len(layers()), (total - peak_cycles(chip)) / len(layers())
