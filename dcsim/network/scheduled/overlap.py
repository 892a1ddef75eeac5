"""What two iterations that are under way at once want of the same link or chip.

Each schedule is free of conflicts in itself (see `proof`). Iterations that follow each other at their occupancy are
compiled apart, so what they want together is counted here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.network.scheduled.schedule import Schedule
from dcsim.network.tasks import COMPUTE, Tasks

Int64 = NDArray[np.int64]


class Usage:
    """When one iteration uses each link and chip, in cycles from its epoch."""

    def __init__(self, schedule: Schedule, tasks: Tasks) -> None:
        self.makespan_cycles, self.slot_cycles = schedule.makespan_cycles, schedule.slot_cycles
        order = np.argsort(schedule.burst_link, kind="stable")
        flow = np.repeat(np.arange(len(schedule.flow_task)), schedule.hops)[order]
        self.link, self.first = schedule.burst_link[order], schedule.burst_start[order]
        self.vectors, self.stride = schedule.vectors[flow].astype(np.int64), schedule.stride[flow]
        self.end = self.first + (self.vectors - 1) * self.stride + self.slot_cycles
        operations = np.flatnonzero(tasks.kind == COMPUTE)
        self.chips, which = np.unique(tasks.chip[operations], return_inverse=True)
        self.chip_begin = np.full(len(self.chips), np.iinfo(np.int64).max)
        self.chip_end = np.zeros(len(self.chips), np.int64)
        np.minimum.at(self.chip_begin, which, schedule.start[operations])
        np.maximum.at(self.chip_end, which, schedule.last_out[operations])

    @property
    def slots(self) -> int:
        """Link slots in all: every vector counts once on every link."""
        return int(self.vectors.sum())


def shared_slots(first: Usage, second: Usage, later_cycles: int) -> int:
    """Vectors of `second`, which begins so much later, that would leave on a link while one of `first` still does."""
    begin, end = second.first + later_cycles, second.end + later_cycles
    low, high = (np.searchsorted(first.link, second.link, side) for side in ("left", "right"))
    ours, mine = _pairs(low, high - low)
    at_once = (first.first[ours] < end[mine]) & (begin[mine] < first.end[ours])
    ours, mine = ours[at_once], mine[at_once]
    # Of each such pair of bursts: every vector of the second, and the vector of the first that is nearest in time.
    count, pair = _pairs(np.zeros(len(mine), np.int64), second.vectors[mine])
    ours, mine = ours[pair], mine[pair]
    leaves = begin[mine] + count * second.stride[mine]
    stride = np.maximum(1, first.stride[ours])
    nearest = np.clip(np.rint((leaves - first.first[ours]) / stride), 0, first.vectors[ours] - 1).astype(np.int64)
    meets = np.abs(leaves - first.first[ours] - nearest * stride) < first.slot_cycles
    return len(np.unique(np.stack([mine[meets], count[meets]]), axis=1).T)


def shared_chips(first: Usage, second: Usage, later_cycles: int) -> int:
    """Chips that `second`, which begins so much later, needs before `first` has left them."""
    _, mine, other = np.intersect1d(first.chips, second.chips, return_indices=True)
    begin, end = second.chip_begin[other] + later_cycles, second.chip_end[other] + later_cycles
    return int(((begin < first.chip_end[mine]) & (first.chip_begin[mine] < end)).sum())


def _pairs(start: NDArray[Any], count: Int64) -> tuple[Int64, Int64]:
    """(start, start + 1, ... up to `count` of them) for each entry, and the index of the entry."""
    entry = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(entry)) - np.repeat(np.cumsum(count) - count, count)
    return start[entry] + within, entry
