"""The narrowest cut found between equal halves of the active chips.

Finding the true minimum is NP-hard, so the figure is an upper bound with its rule named in `CUT_RULE`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dcsim.fabric.graph import Fabric

CUT_RULE = (
    "best of contiguous halves of the active chips, in their order and in their order modulo each divisor of their "
    "number, of halves of whole switches, nodes, racks and groups, and of shuffled ones, then improved by moving racks, "
    "nodes, switches and chips while that helps (Fiduccia-Mattheyses)"
)
STARTS_IMPROVED = 4
DIVISORS_MAX = 24
SHUFFLED, SHUFFLED_CHIPS_MAX = 12, 512  # starts in random order, for fabrics where that costs little
PASSES_MAX = 20

Side = NDArray[np.int8]


def bisection(fabric: Fabric, link_width: NDArray[np.float64]) -> tuple[float, Side]:
    """(cut one way, side 0 or 1 of each vertex), `link_width` [link] in any unit, equal both ways of a cable.

    The halves hold equally many active chips (one more on side 1 when their number is odd).
    """
    if fabric.chip_active.sum() < 2:
        return 0.0, np.zeros(fabric.vertex_count, np.int8)
    halves = list(_halves(fabric))
    starts = [_place_free(fabric, side, link_width) for side in halves]
    starts += [np.where(halves[0] < 0, np.int8(all_free), halves[0]) for all_free in (0, 1)]
    starts.sort(key=lambda side: cut_width(fabric, side, link_width))
    small = fabric.chip_count <= SHUFFLED_CHIPS_MAX
    ends = [_improved(fabric, side, link_width) for side in (starts if small else starts[:STARTS_IMPROVED])]
    best = min(ends, key=lambda side: cut_width(fabric, side, link_width))
    return cut_width(fabric, best, link_width), best


def cut_width(fabric: Fabric, side: Side, link_width: NDArray[np.float64]) -> float:
    """The width of all links from side 0 to side 1."""
    return float(link_width[(side[fabric.link_source] == 0) & (side[fabric.link_target] == 1)].sum())


def _halves(fabric: Fabric) -> Iterator[NDArray[np.int8]]:
    """Sides [vertex] with -1 for switches and spare chips, which are still free."""
    active = np.flatnonzero(fabric.chip_active)
    count = len(active)
    divisors = [m for m in range(2, count) if count % m == 0][::-1][:DIVISORS_MAX]
    place = np.arange(count)
    orders = [active[np.argsort(place % m, kind="stable")] for m in [count, *divisors]]
    orders += [_whole_units_first(active, label[active]) for label in (_switch_of(fabric), *_labels(fabric))]
    if count <= SHUFFLED_CHIPS_MAX:
        random = np.random.default_rng(0)
        orders += [random.permutation(active) for _ in range(SHUFFLED)]
    for order in orders:
        side = np.full(fabric.vertex_count, -1, np.int8)
        side[order[: count // 2]], side[order[count // 2 :]] = 0, 1
        yield side


def _labels(fabric: Fabric) -> tuple[NDArray[np.int32], ...]:
    return fabric.node_of, fabric.rack_of, fabric.group_of


def _switch_of(fabric: Fabric) -> NDArray[np.int32]:
    """[chip] the vertex at the end of its first link, itself for a chip that has none."""
    own = np.arange(fabric.chip_count, dtype=np.int32)
    first, last = fabric.first_link[: fabric.chip_count], fabric.first_link[1 : fabric.chip_count + 1]
    own[last > first] = fabric.link_target[first[last > first]]
    return own


def _whole_units_first(active: NDArray[np.intp], label: NDArray[np.int32]) -> NDArray[np.intp]:
    """The chips so ordered that the first half holds whole units (chips of one label) as far as sizes allow.

    Sums of sizes are bits of a number: bit s of reach[i] says that some of the first i units have s chips.
    """
    names, unit, sizes = np.unique(label, return_inverse=True, return_counts=True)
    half, reach = len(active) // 2, [1]
    for size in sizes.tolist():
        reach.append(reach[-1] | reach[-1] << size)
    total = next(s for s in range(half, -1, -1) if reach[-1] >> s & 1)
    inside = np.zeros(len(names), np.bool_)
    for i in range(len(names) - 1, -1, -1):
        if not reach[i] >> total & 1:
            inside[i] = True
            total -= int(sizes[i])
    return active[np.lexsort((unit, ~inside[unit]))]


def _place_free(fabric: Fabric, side: Side, link_width: NDArray[np.float64]) -> Side:
    """Free vertices join the side they have more width to, nearest to chips first; ties go to side 0."""
    side = side.copy()
    while (side < 0).any():
        known = side[fabric.link_target] >= 0
        pull = np.where(known, link_width * (2.0 * side[fabric.link_target] - 1.0), 0.0)
        total = np.bincount(fabric.link_source, pull, fabric.vertex_count)
        touched = np.bincount(fabric.link_source, known, fabric.vertex_count) > 0
        free = (side < 0) & touched
        if not free.any():
            side[side < 0] = 0
            break
        side[free] = total[free] > 0
    return side


def _improved(fabric: Fabric, side: Side, link_width: NDArray[np.float64]) -> Side:
    """Improve by whole groups, racks and nodes, then chips."""
    for label in (fabric.group_of, fabric.rack_of, fabric.node_of, np.arange(fabric.vertex_count)):
        side = _improved_by(fabric, side, link_width, label)
    return side


def _improved_by(fabric: Fabric, side: Side, link_width: NDArray[np.float64], label: NDArray[np.integer]) -> Side:
    """Improve with units that are the chips of one label on one side, spare ones apart; a switch is its own unit."""
    from dcsim.fabric import bisection_kernel as kernel

    vertices = np.arange(fabric.vertex_count)
    spare = np.zeros(fabric.vertex_count, bool)
    spare[: fabric.chip_count] = ~fabric.chip_active
    alone = (vertices >= fabric.chip_count) | (label < 0)
    key = np.stack([alone, spare, np.where(alone, vertices, label), side], axis=1)
    unit = np.unique(key, axis=0, return_inverse=True)[1]
    count = int(unit.max()) + 1
    weight = np.bincount(unit[: fabric.chip_count], fabric.chip_active, count).astype(np.int64)
    unit_side = np.zeros(count, np.int8)
    unit_side[unit] = side
    source, target = unit[fabric.link_source], unit[fabric.link_target]
    outer = source != target
    order = np.argsort(source[outer], kind="stable")
    first = np.searchsorted(source[outer][order], np.arange(count + 1))
    kernel.improve(first, target[outer][order], link_width[outer][order], weight, unit_side, PASSES_MAX)
    return unit_side[unit]
