"""What the chips know while a schedule is replayed: which operations ran and which vectors came, and when."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from dcsim.errors import ScheduleError
from dcsim.network.scheduled.rules import Figures
from dcsim.network.tasks import COMPUTE, Tasks


class Inbox:
    """Per task: inputs still missing, and outputs once they are known. All times are program cycles.

    A task is done when its inputs are, and it has started (an operation) or all its vectors have come (a
    message). What was started or sent before the inputs' times were known is checked the moment they are.
    """

    def __init__(self, tasks: Tasks, figures: Figures) -> None:
        count = len(tasks)
        self._send_cycles = figures.send_cycles
        self._compute = (tasks.kind == COMPUTE).tolist()
        self._local = (tasks.chip == tasks.target).tolist()
        self._size = [figures.vectors(size) for size in tasks.size_bytes.tolist()]
        self._first_cycles, self._last_cycles = tasks.first_cycles.tolist(), tasks.last_cycles.tolist()
        self._rows, self._lead_rows = tasks.rows.tolist(), tasks.lead_rows.tolist()
        self._before_start, self._before = tasks.before_start.tolist(), tasks.before.tolist()
        followers = np.repeat(np.arange(count), np.diff(tasks.before_start))
        self._after = followers[np.argsort(tasks.before, kind="stable")].tolist()
        self._after_start = np.cumsum(np.bincount(tasks.before + 1, minlength=count + 1)).tolist()
        self._missing = np.diff(tasks.before_start).tolist()
        self._soonest, self._latest = [0] * count, [0] * count
        self._started = [-1] * count
        self._left: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)  # (vector, cycle it left)
        self._came: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)  # (vector, cycle it is usable)
        self._awaited = list(self._size)
        self._out: list[tuple[int, int] | None] = [None] * count
        for task in range(count):
            if not self._missing[task]:
                self._settle(task)

    def start(self, task: int, cycle: int) -> None:
        """An operation starts."""
        self._started[task] = cycle
        self._settle(task)

    def leave(self, task: int, vector: int, cycle: int, last_vector: int, last_cycle: int) -> None:
        """A run of a message's vectors, the first and last named, leaves its source."""
        ends = [(vector, cycle), (last_vector, last_cycle)]
        if self._missing[task] == 0:
            self._check_ready(task, ends)
        else:
            self._left[task] += ends

    def arrive(self, task: int, vector: int, step: int, vectors: int, cycle: int, stride: int) -> None:
        """A run of a message's vectors is complete at its target."""
        self._came[task] += [(vector, cycle), (vector + (vectors - 1) * step, cycle + (vectors - 1) * stride)]
        self._awaited[task] -= vectors
        self._settle(task)

    def finish_cycles(self) -> int:
        """Last output of all; ScheduleError when a task never ended."""
        unfinished = [task for task, out in enumerate(self._out) if out is None]
        if unfinished:
            raise ScheduleError(f"task {unfinished[0]} never ended", "dropped")
        return max((out[1] for out in self._out if out is not None), default=0)

    def _settle(self, task: int) -> None:
        """Find a task's outputs if all is known, then those of the tasks behind it."""
        pending = [task]
        while pending:
            task = pending.pop()
            if self._missing[task] or self._out[task] is not None:
                continue
            out = self._outputs(task)
            if out is None:
                continue
            self._out[task] = out
            for after in self._after[self._after_start[task] : self._after_start[task + 1]]:
                self._missing[after] -= 1
                if self._missing[after] == 0:
                    self._inputs_known(after)
                    pending.append(after)

    def _inputs_known(self, task: int) -> None:
        """When a task may start, and when its last input comes (the rule of network/tasks.py)."""
        soonest = latest = 0
        for other in self._before[self._before_start[task] : self._before_start[task + 1]]:
            first, last = self._out[other] or (0, 0)
            soonest = max(soonest, first + (last - first) * self._lead_rows[task] // self._rows[task])
            latest = max(latest, last)
        self._soonest[task], self._latest[task] = soonest, latest
        if task in self._left:
            self._check_ready(task, self._left[task])

    def _check_ready(self, task: int, ends: list[tuple[int, int]]) -> None:
        """No vector of a message left before it was ready."""
        for vector, cycle in ends:
            ready = self._latest[task]
            if self._size[task] > 1:
                run = self._latest[task] - self._soonest[task]
                ready = self._soonest[task] - (-run * vector // (self._size[task] - 1))
            if cycle < ready + self._send_cycles:
                raise ScheduleError(
                    f"vector {vector} of message {task} leaves in cycle {cycle}, ready only in {ready + self._send_cycles}",
                    "early_send",
                    -1,
                    cycle,
                )

    def _outputs(self, task: int) -> tuple[int, int] | None:
        """First and last output, or None while something is to come."""
        if self._compute[task]:
            start = self._started[task]
            if start < 0:
                return None
            if start < self._soonest[task]:
                raise ScheduleError(
                    f"task {task} starts in cycle {start}, before its inputs in cycle {self._soonest[task]}",
                    "dependency",
                    -1,
                    start,
                )
            first = self._first_cycles[task]
            return start + first, max(start + self._last_cycles[task], self._latest[task] + first)
        if self._local[task]:
            return self._soonest[task], self._latest[task]
        return None if self._awaited[task] > 0 else _line(self._came[task], self._size[task])


def _line(came: list[tuple[int, int]], size: int) -> tuple[int, int]:
    """The latest arrival, and the smallest start of a straight line to it with no arrival behind."""
    last = max(cycle for _, cycle in came)
    starts = [-((last * k - cycle * (size - 1)) // (size - 1 - k)) for k, cycle in came if k < size - 1]
    return max(starts, default=last), last
