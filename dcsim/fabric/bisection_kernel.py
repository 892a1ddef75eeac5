"""Compiled local improvement of a cut."""

from __future__ import annotations

from typing import Any

import numpy as np

from dcsim.kernels.jit import entry, part

SWAPS_A_UNIT = 4
HOPELESS = 200  # moves without a better cut that end a pass


@entry(makes_arrays=True)
def improve(first: Any, target: Any, width: Any, weight: Any, side: Any, passes: int) -> None:
    """Lower the cut between side 0 and 1, in place, keeping the weight of each side.

    First by the best single moves of units without weight and swaps of units of equal weight, while they help (Kernighan
    and Lin, 1970). Then by passes that go on where neither helps: each moves units one by one, each once, always the one
    whose move lowers the cut most or raises it least, from the side that is too heavy, and keeps the moves up to the
    narrowest balanced cut met (Fiduccia and Mattheyses, 1982).
    Links of unit u are first[u]:first[u + 1], symmetric, `width` each.
    """
    count = len(weight)
    gain = np.zeros(count, np.float64)  # how much the cut falls when the unit changes sides
    moved = np.empty(count, np.int64)
    locked = np.empty(count, np.bool_)
    for unit in range(count):
        for link in range(first[unit], first[unit + 1]):
            gain[unit] += width[link] if side[target[link]] != side[unit] else -width[link]
    least = 1e-9 * (1.0 + np.max(width) if len(width) else 1.0)
    for _ in range(SWAPS_A_UNIT * count):
        a, b, best = _best_move(first, target, width, weight, side, gain)
        if best <= least:
            break
        _move(first, target, width, side, gain, a)
        if b >= 0:
            _move(first, target, width, side, gain, b)
    failed = 0
    for turn in range(passes):
        better = _pass(first, target, width, weight, side, gain, moved, locked, least, turn % 2 == 1)
        failed = 0 if better else failed + 1
        if failed == 2:
            return


@part(makes_arrays=True)
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


@part
def _pass(
    first: Any, target: Any, width: Any, weight: Any, side: Any, gain: Any, moved: Any, locked: Any, least: float, last: bool
) -> bool:
    """One pass of moves, of which the best part is kept; False when that is none. Ties go to the first unit, or the last."""
    locked[:] = False
    heavy, fallen, best, kept, made = 0, 0.0, least, 0, 0  # heavy: weight side 0 has too much
    while made < len(weight) and made - kept < HOPELESS:
        unit = _next_unit(weight, side, gain, locked, heavy, last)
        if unit < 0:
            break
        fallen += gain[unit]
        heavy += weight[unit] if side[unit] == 1 else -weight[unit]
        _move(first, target, width, side, gain, unit)
        locked[unit] = True
        moved[made] = unit
        made += 1
        if heavy == 0 and fallen > best:
            best, kept = fallen, made
    for i in range(made - 1, kept - 1, -1):
        _move(first, target, width, side, gain, moved[i])
    return kept > 0


@part
def _next_unit(weight: Any, side: Any, gain: Any, locked: Any, heavy: int, last: bool) -> int:
    """The unit to move next: of no weight, or from the side that is too heavy; -1 for none."""
    found = -1
    for unit in range(len(weight)):
        if locked[unit] or (found >= 0 and (gain[unit] < gain[found] or (gain[unit] == gain[found] and not last))):
            continue
        if weight[unit] == 0 or heavy == 0 or (side[unit] == 0) == (heavy > 0):
            found = unit
    return found


@part
def _move(first: Any, target: Any, width: Any, side: Any, gain: Any, unit: int) -> None:
    """Change sides and bring the gains of the unit and its neighbours up to date."""
    side[unit] = 1 - side[unit]
    gain[unit] = -gain[unit]
    for link in range(first[unit], first[unit + 1]):
        other = target[link]
        gain[other] += 2 * width[link] if side[other] != side[unit] else -2 * width[link]
