"""What a run spends over time: amounts shared out over equal intervals, beside their sums."""

from __future__ import annotations

from array import array
from collections.abc import Hashable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dcsim.cluster.rows import LIMITS

Key = TypeVar("Key", bound=Hashable)
Array = NDArray[np.float64]

_NOTES = 65_536  # kept before they are shared out


class OverTime(Generic[Key]):
    """Amounts by interval of time (0 is the first) and key; what is spent over longer than one is spent evenly."""

    def __init__(self, interval_ps: int) -> None:
        self.interval_ps = interval_ps
        self._numbers: dict[Key, int] = {}
        self._notes = array("d")  # [note, (key, amount, begin, end)]
        self._amounts: dict[tuple[int, Key], float] = {}

    def add(self, key: Key, amount: int, begin: int, end: int) -> None:
        """So much was spent from `begin` to `end`; all at `begin` where they are the same."""
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._numbers)
        self._notes.extend((number, amount, begin, end))
        if len(self._notes) >= 4 * _NOTES:
            self._share_out()

    def amounts(self) -> dict[tuple[int, Key], float]:
        """What was spent so far, by interval and key."""
        self._share_out()
        return self._amounts

    def _share_out(self) -> None:
        """Add the notes so far to the amounts, interval by interval."""
        notes = np.frombuffer(self._notes, np.float64).reshape(-1, 4).copy()
        self._notes = array("d")
        for key, number in self._numbers.items():
            _, amounts, begins, ends = notes[notes[:, 0] == number].T
            if not len(amounts):
                continue
            start, sums = _by_interval(amounts, begins, ends, self.interval_ps)
            for place in np.flatnonzero(sums).tolist():
                entry = start + place, key
                self._amounts[entry] = self._amounts.get(entry, 0.0) + float(sums[place])


def _by_interval(amounts: Array, begins: Array, ends: Array, width: int) -> tuple[int, Array]:
    """The first interval that any of them reaches into, and from there what falls into each."""
    first = (begins // width).astype(np.int64)
    last = np.maximum(first, -(-ends // width).astype(np.int64) - 1)
    start, count = int(first.min()), int(last.max() - first.min()) + 1
    first, last = first - start, last - start
    rate = amounts / np.maximum(1.0, ends - begins)
    is_long = last > first
    head = np.where(is_long, rate * ((first + start + 1.0) * width - begins), amounts)
    tail = np.where(is_long, rate * (ends - (last + start) * float(width)), 0.0)
    sums = np.bincount(first, head, count) + np.bincount(last, tail, count)
    # Whole intervals between the two: a step up after the first, and one down at the last.
    whole, steps, open_ = rate[is_long] * width, np.zeros(count + 1), np.zeros(count + 1, np.int64)
    for places, sign in ((first[is_long] + 1, 1), (last[is_long], -1)):
        np.add.at(steps, places, sign * whole)
        np.add.at(open_, places, sign)
    between = np.where(np.cumsum(open_) > 0, np.cumsum(steps), 0.0)[:count]
    return start, np.asarray(sums + between)


class TimeSpent:
    """What requests' time was spent on or waiting for, in request-picoseconds: `totals` by name, and the same over time."""

    def __init__(self, interval_ps: int) -> None:
        self.totals = dict.fromkeys(LIMITS, 0)
        self.over_time: OverTime[str] = OverTime(interval_ps)

    def book(self, name: str, amount: int, begin: int, end: int) -> None:
        """Requests spent so much on `name`, evenly from `begin` to `end`."""
        if amount:
            self.totals[name] += amount
            self.over_time.add(name, amount, begin, end)
