"""What the chips know while a schedule is carried out: which operations ran and which vectors came, and when."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from dcsim.errors import ScheduleError
from dcsim.network.scheduled.rules import ScheduleRules
from dcsim.network.tasks import COMPUTE, Tasks

_WHOLE, _FIRST, _PART = range(3)  # how much of its inputs a task needs before it may start


class Needs:
    """What each task waits for and yields: worked out once for any number of inboxes."""

    def __init__(self, tasks: Tasks, figures: ScheduleRules) -> None:
        count = len(tasks)
        self.send_cycles = figures.send_cycles
        self.compute = (tasks.kind == COMPUTE).tolist()
        self.local = (tasks.chip == tasks.target).tolist()
        self.size = [figures.vectors(size) for size in tasks.size_bytes.tolist()]
        self.first_cycles, self.last_cycles = tasks.first_cycles.tolist(), tasks.last_cycles.tolist()
        self.rows, self.lead_rows = tasks.rows.tolist(), tasks.lead_rows.tolist()
        self.lead = [
            _WHOLE if lead == rows else _PART if lead else _FIRST for lead, rows in zip(self.lead_rows, self.rows, strict=True)
        ]
        starts, before = tasks.before_start.tolist(), tasks.before.tolist()
        self.before = [before[starts[task] : starts[task + 1]] for task in range(count)]
        followers: list[list[int]] = [[] for _ in range(count)]
        for task, inputs in enumerate(self.before):
            for other in inputs:
                followers[other].append(task)
        self.after = followers
        self.missing = np.diff(tasks.before_start).tolist()
        self.ready = [task for task in range(count) if not self.missing[task] and not self.compute[task]]


class Inbox:
    """Per task: inputs still missing, and outputs once they are known. All times are program cycles.

    A task is done when its inputs are, and it has started (an operation) or all its vectors have come (a
    message). What was started or sent before the inputs' times were known is checked the moment they are.
    """

    def __init__(self, needs: Needs) -> None:
        count = len(needs.size)
        self._needs = needs
        self._missing, self._awaited = needs.missing.copy(), needs.size.copy()
        self._soonest, self._latest, self._started = [0] * count, [0] * count, [-1] * count
        self._left: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)  # (vector, cycle it left)
        self._came: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)  # (vector, cycle it is usable)
        self._out: list[tuple[int, int] | None] = [None] * count
        for task in needs.ready:
            self._settle(task)

    def start(self, task: int, cycle: int) -> None:
        """An operation starts."""
        self._started[task] = cycle
        if not self._missing[task]:
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
        if self._awaited[task] <= 0 and not self._missing[task]:
            self._settle(task)

    def finish_cycles(self) -> int:
        """Last output of all; ScheduleError when a task never ended."""
        unfinished = [task for task, out in enumerate(self._out) if out is None]
        if unfinished:
            raise ScheduleError(f"task {unfinished[0]} never ended", "dropped")
        return max((out[1] for out in self._out if out is not None), default=0)

    def _settle(self, task: int) -> None:
        """Find a task's outputs, whose inputs are known, if all is known; then those of the tasks behind it."""
        pending = [task]
        missing, outputs, after = self._missing, self._out, self._needs.after
        while pending:
            task = pending.pop()
            if outputs[task] is not None:
                continue
            out = self._outputs(task)
            if out is None:
                continue
            outputs[task] = out
            for follower in after[task]:
                missing[follower] -= 1
                if missing[follower] == 0:
                    self._inputs_known(follower)
                    pending.append(follower)

    def _inputs_known(self, task: int) -> None:
        """When a task may start, and when its last input comes (the rule of network/tasks.py)."""
        needs, outputs = self._needs, self._out
        soonest = latest = 0
        lead = needs.lead[task]
        for other in needs.before[task]:
            first, last = outputs[other] or (0, 0)
            if lead == _PART:
                first += (last - first) * needs.lead_rows[task] // needs.rows[task]
            elif lead == _WHOLE:
                first = last
            if first > soonest:
                soonest = first
            if last > latest:
                latest = last
        self._soonest[task], self._latest[task] = soonest, latest
        if task in self._left:
            self._check_ready(task, self._left[task])

    def _check_ready(self, task: int, ends: list[tuple[int, int]]) -> None:
        """No vector of a message left before it was ready."""
        size, send_cycles = self._needs.size[task], self._needs.send_cycles
        for vector, cycle in ends:
            ready = self._latest[task]
            if size > 1:
                run = self._latest[task] - self._soonest[task]
                ready = self._soonest[task] - (-run * vector // (size - 1))
            if cycle < ready + send_cycles:
                raise ScheduleError(
                    f"vector {vector} of message {task} leaves in cycle {cycle}, ready only in {ready + send_cycles}",
                    "early_send",
                    -1,
                    cycle,
                )

    def _outputs(self, task: int) -> tuple[int, int] | None:
        """First and last output, or None while something is to come."""
        needs = self._needs
        if needs.compute[task]:
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
            first = needs.first_cycles[task]
            return start + first, max(start + needs.last_cycles[task], self._latest[task] + first)
        if needs.local[task]:
            return self._soonest[task], self._latest[task]
        return None if self._awaited[task] > 0 else _line(self._came[task], needs.size[task])


def _line(came: list[tuple[int, int]], size: int) -> tuple[int, int]:
    """The latest arrival, and the smallest start of a straight line to it with no arrival behind."""
    if size == 1:
        last = max(cycle for _, cycle in came)
        return last, last
    last = max(cycle for _, cycle in came)
    starts = [-((last * k - cycle * (size - 1)) // (size - 1 - k)) for k, cycle in came if k < size - 1]
    return max(starts, default=last), last
