"""ResNet-50 on one chip: the chip-level measurement that fixes the cost of a dependent operation.

A convolution is a matrix product: one row for each output pixel, k = kernel area x input channels, n = output
channels (He et al. 2015, arXiv:1512.03385, table 1; stride in the 3 x 3 convolution). Pooling and additions
stream along.

A narrow convolution leaves most of a 320 x 320 weight tile empty. Its compiler can fill it: one row then makes a patch of
neighbouring output pixels at once. The patch's inputs overlap, so that k grows by what they add and n by the pixels; the matrix
holds each kernel once for each pixel, shifted. Which patch a layer takes is the one with the fewest passes of tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from dcsim.llm.cost import Work, operation_cost
from dcsim.spec.chip import LpuChip

# Bottlenecks in each of the four groups, and the inner channels of the first; both double in width from group
# to group.
GROUPS, CHANNELS, EXPANSION, IMAGE = (3, 4, 6, 3), 64, 4, 224
PATCH_MAX = 8, 16  # pixels down and across; beyond them a patch holds more zeros than kernels


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """A convolution of `kernel` x `kernel` pixels, `stride` apart, to an image of `side` x `side`."""

    side: int
    kernel: int
    stride: int
    inputs: int
    outputs: int

    @property
    def product(self) -> tuple[int, int, int]:
        """(rows, k, n), a row for each pixel."""
        return self.patched(1, 1)

    def patched(self, down: int, across: int) -> tuple[int, int, int]:
        """(rows, k, n), a row for each patch of `down` x `across` pixels; patches at the edges are padded."""
        rows = -(-self.side // down) * -(-self.side // across)
        return rows, self._span(down) * self._span(across) * self.inputs, down * across * self.outputs

    def _span(self, pixels: int) -> int:
        """Different input pixels under the kernel of so many outputs in a row."""
        return self.kernel + (pixels - 1) * min(self.stride, self.kernel)


def layers() -> list[ImageLayer]:
    """The 53 convolutions and the final classifier, in order, for one image."""
    side = IMAGE // 2
    found = [ImageLayer(side, 7, 2, 3, CHANNELS)]
    side, width = side // 2, CHANNELS
    for group, blocks in enumerate(GROUPS):
        inner = CHANNELS << group
        for block in range(blocks):
            wide, stride = side, 1
            if block == 0 and group > 0:
                side, stride = side // 2, 2
            found += [
                ImageLayer(wide, 1, 1, width, inner),
                ImageLayer(side, 3, stride, inner, inner),
                ImageLayer(side, 1, 1, inner, EXPANSION * inner),
            ]
            if block == 0:
                found.append(ImageLayer(side, 1, stride, width, EXPANSION * inner))
            width = EXPANSION * inner
    return [*found, ImageLayer(1, 1, 1, width, 1000)]


def packed(chip: LpuChip, layer: ImageLayer) -> tuple[int, int, int]:
    """(rows, k, n) of the layer with the patch that takes the fewest passes of tiles; the smallest such patch."""
    return _packed(chip.tile, layer)


@cache
def _packed(tile: int, layer: ImageLayer) -> tuple[int, int, int]:
    down_max, across_max = PATCH_MAX
    patches = [
        layer.patched(down, across)
        for down in range(1, min(down_max, layer.side) + 1)
        for across in range(1, min(across_max, layer.side) + 1)
    ]
    return min(patches, key=lambda patch: (patch[0] * -(-patch[1] // tile) * -(-patch[2] // tile), patch[2]))


def cycles(chip: LpuChip) -> int:
    """Cycles of one image in 8-bit arithmetic, each layer packed and after the one before: fixed cost and streaming."""
    return _cycles(chip, lambda layer: packed(chip, layer))


def padded_cycles(chip: LpuChip) -> int:
    """The same with a row for each pixel, however few weights a tile then holds."""
    return _cycles(chip, lambda layer: layer.product)


def peak_cycles(chip: LpuChip) -> float:
    """Cycles of one image's multiplications at the chip's peak 8-bit rate, without any fixed cost."""
    products = [layer.product for layer in layers()]
    return sum(rows * k * n for rows, k, n in products) / (chip.tile**2 * chip.matrix_planes)


def fixed_cycles_for(chip: LpuChip, time_s: float) -> tuple[float, float, float]:
    """The cost of a dependent operation, in cycles, if one image takes `time_s`: if no layer is packed, if each is, and if
    all arithmetic runs at the peak rate, which no packing of whole tiles reaches.
    """
    bare = chip.model_copy(update={"fixed_cycles": 0})
    total, count = time_s * chip.clock_hz, len(layers())
    arithmetic = padded_cycles(bare), cycles(bare), peak_cycles(bare)
    padded, middle, peak = ((total - busy) / count for busy in arithmetic)
    return padded, middle, peak


def _cycles(chip: LpuChip, product: Callable[[ImageLayer], tuple[int, int, int]]) -> int:
    works = [Work("matrix", rows, rows, ((1, rows, k, n),), 1, 1) for rows, k, n in map(product, layers())]
    return sum(operation_cost(chip, work).last_cycles for work in works)
