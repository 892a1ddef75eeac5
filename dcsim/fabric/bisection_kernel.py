"""Compiled local improvement of a cut."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True)
def improve(first: Any, target: Any, width: Any, weight: Any, side: Any, swaps_max: int) -> None:
    """Lower the cut between side 0 and 1, in place, keeping the weight of each side.

    Units of weight 0 change sides, and pairs of units of equal weight swap, while that lowers the cut (the
    exchange step of Kernighan and Lin, 1970). Links of unit u are first[u]:first[u + 1], symmetric, `width` each.
    """
    count = len(weight)
    gain = np.zeros(count, np.float64)  # how much the cut falls when the unit changes sides
    for unit in range(count):
        for link in range(first[unit], first[unit + 1]):
            gain[unit] += width[link] if side[target[link]] != side[unit] else -width[link]
    smallest = 1e-9 * (1.0 + np.max(width) if len(width) else 1.0)
    for _ in range(swaps_max):
        a, b, best = _best_move(first, target, width, weight, side, gain)
        if best <= smallest:
            return
        _move(first, target, width, side, gain, a)
        if b >= 0:
            _move(first, target, width, side, gain, b)


@njit(cache=True)
def _best_move(first: Any, target: Any, width: Any, weight: Any, side: Any, gain: Any) -> Any:
    """(unit, its partner or -1, how much the cut falls). Partners: the best two of each side and weight."""
    heaviest = 0
    for unit in range(len(weight)):
        heaviest = max(heaviest, weight[unit])
    top = np.full((2, heaviest + 1, 2), -1, np.int64)
    for unit in range(len(weight)):
        slot = top[side[unit], weight[unit]]
        if slot[0] < 0 or gain[unit] > gain[slot[0]]:
            slot[1] = slot[0]
            slot[0] = unit
        elif slot[1] < 0 or gain[unit] > gain[slot[1]]:
            slot[1] = unit
    a, b, best = -1, -1, 0.0
    for s in range(2):
        unit = top[s, 0, 0]
        if unit >= 0 and gain[unit] > best:
            a, b, best = unit, -1, gain[unit]
    for load in range(1, heaviest + 1):
        for u in top[0, load]:
            for v in top[1, load]:
                if u >= 0 and v >= 0:
                    both = gain[u] + gain[v]
                    if both > best:
                        for link in range(first[u], first[u + 1]):
                            if target[link] == v:
                                both -= 2 * width[link]
                        if both > best:
                            a, b, best = u, v, both
    return a, b, best


@njit(cache=True)
def _move(first: Any, target: Any, width: Any, side: Any, gain: Any, unit: int) -> None:
    """Change sides and bring the gains of the unit and its neighbours up to date."""
    side[unit] = 1 - side[unit]
    gain[unit] = -gain[unit]
    for link in range(first[unit], first[unit + 1]):
        other = target[link]
        gain[other] += 2 * width[link] if side[other] != side[unit] else -2 * width[link]
