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
    "number, then improved by moving switches and spare chips and swapping racks, nodes and chips while that helps"
)
STARTS_IMPROVED = 3
DIVISORS_MAX = 24

Side = NDArray[np.int8]


def bisection(fabric: Fabric, link_width: NDArray[np.float64]) -> tuple[float, Side]:
    """(cut one way, side 0 or 1 of each vertex), `link_width` [link] in any unit, equal both ways of a cable.

    The halves hold equally many active chips (one more on side 1 when their number is odd).
    """
    if fabric.chip_active.sum() < 2:
        return 0.0, np.zeros(fabric.vertex_count, np.int8)
    starts = [_place_free(fabric, side, link_width) for side in _halves(fabric)]
    starts.sort(key=lambda side: cut_width(fabric, side, link_width))
    ends = [_improved(fabric, side, link_width) for side in starts[:STARTS_IMPROVED]]
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
    for m in [count, *divisors]:
        order = active[np.argsort(place % m, kind="stable")]
        side = np.full(fabric.vertex_count, -1, np.int8)
        side[order[: count // 2]], side[order[count // 2 :]] = 0, 1
        yield side


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
    """Improve by whole racks, then nodes, then chips."""
    for label in (fabric.rack_of, fabric.node_of, np.arange(fabric.vertex_count)):
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
    kernel.improve(first, target[outer][order], link_width[outer][order], weight, unit_side, 4 * count)
    return unit_side[unit]
