"""What a run spends over time: amounts shared out over equal intervals, beside their sums."""

from __future__ import annotations

from array import array
from collections.abc import Hashable
from typing import Generic, TypeVar

import numpy as np

from dcsim.cluster.rows import LIMITS

Key = TypeVar("Key", bound=Hashable)

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
        """A row for each interval that a note reaches into, and the sums of rows alike."""
        width = self.interval_ps
        keys, amounts, begins, ends = np.frombuffer(self._notes, np.float64).reshape(-1, 4).T.copy()
        self._notes = array("d")
        first = (begins // width).astype(np.int64)
        reach = np.maximum(0, -(-ends // width).astype(np.int64) - 1 - first) + 1
        note = np.repeat(np.arange(len(keys)), reach)
        place = first[note] + np.arange(len(note)) - np.repeat(np.cumsum(reach) - reach, reach)
        passed = np.minimum(ends[note], (place + 1.0) * width) - np.maximum(begins[note], place * float(width))
        share = np.where(reach[note] == 1, 1.0, passed / np.maximum(1.0, (ends - begins)[note]))
        rows, row = np.unique(np.stack([place, keys[note].astype(np.int64)], 1), axis=0, return_inverse=True)
        sums = np.bincount(row.ravel(), amounts[note] * share, len(rows))
        names, known = list(self._numbers), self._amounts
        for (at, number), amount in zip(rows.tolist(), sums.tolist(), strict=True):
            entry = at, names[number]
            known[entry] = known.get(entry, 0.0) + amount


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
