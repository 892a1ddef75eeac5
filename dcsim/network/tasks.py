"""One iteration spelled out on chips: what the scheduled and the packet network both read.

A task is a compute operation on one chip or a message from one chip to another. Tasks are in topological
order: every predecessor has a lower index. Times are integer cycles of the chip clock.

Streaming: a compute task yields its first output vector `first_cycles` after it starts and its last
`last_cycles` after it starts, evenly in between; a message may carry vectors as they become ready. With
predecessors p (each with first and last output times; for a message: first and last vector arrived):

    start(t)      = max over p of  first_out(p) + (last_out(p) - first_out(p)) * lead_rows(t) // rows(t)
    first_out(t)  = start(t) + first_cycles(t)
    last_out(t)   = max(start(t) + last_cycles(t), max over p of last_out(p) + first_cycles(t))

`lead_rows == rows` means the whole input is needed first (a norm of a single row);
`lead_rows == 0` means the first vector is enough (a message).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

COMPUTE, MESSAGE = 0, 1

# What a task's time is booked under in breakdowns.
PARTS = ("matrix", "attention", "vector", "link", "hop", "wait", "host")
MATRIX, ATTENTION, VECTOR, LINK, HOP, WAIT, HOST = range(len(PARTS))

# Which library-software cost a message pays: none, the first step of a collective, a later step
# of the same collective, or a point-to-point send.
NO_CALL, COLLECTIVE_FIRST, COLLECTIVE_STEP, SEND = range(4)


@dataclass(frozen=True, slots=True)
class Tasks:
    """Struct of arrays, one entry a task (see the module's text for the timing rule)."""

    clock_hz: float
    kind: NDArray[np.int8]  # COMPUTE or MESSAGE
    part: NDArray[np.int8]  # index into PARTS
    call: NDArray[np.int16]  # NO_CALL, COLLECTIVE_FIRST, COLLECTIVE_STEP or SEND; beyond them a library's own kinds
    chip: NDArray[np.int32]  # where it runs; a message's source
    target: NDArray[np.int32]  # a message's destination chip; -1 for compute
    size_bytes: NDArray[np.int64]  # a message's payload; 0 for compute
    first_cycles: NDArray[np.int64]  # start to first output vector; 0 for a message
    last_cycles: NDArray[np.int64]  # start to last output vector; 0 for a message
    rows: NDArray[np.int32]  # rows of its input, at least 1
    lead_rows: NDArray[np.int32]  # rows needed before it may start, 0..rows
    before_start: NDArray[np.int64]  # [task + 1] offsets into `before`
    before: NDArray[np.int32]  # predecessors of each task

    def __len__(self) -> int:
        return len(self.kind)


TASK_COLUMNS = tuple(field.name for field in fields(Tasks) if field.name != "clock_hz")


class TaskBuilder:
    """Collects tasks in topological order, then gives the arrays."""

    def __init__(self, clock_hz: float) -> None:
        self.clock_hz = clock_hz
        self._rows: list[tuple[int, ...]] = []
        self._before: list[int] = []
        self._before_start: list[int] = [0]

    def compute(
        self,
        chip: int,
        part: int,
        first_cycles: int,
        last_cycles: int,
        before: list[int],
        rows: int = 1,
        lead_rows: int = 1,
    ) -> int:
        """Add an operation on `chip`; returns its task index."""
        return self._add((COMPUTE, part, NO_CALL, chip, -1, 0, first_cycles, last_cycles, rows, lead_rows), before)

    def message(
        self,
        source: int,
        target: int,
        size_bytes: int,
        before: list[int],
        part: int = LINK,
        call: int = SEND,
    ) -> int:
        """Add a message whose vectors leave as its predecessors make them ready; returns its task index."""
        return self._add((MESSAGE, part, call, source, target, size_bytes, 0, 0, 1, 0), before)

    def _add(self, row: tuple[int, ...], before: list[int]) -> int:
        self._rows.append(row)
        self._before.extend(before)
        self._before_start.append(len(self._before))
        return len(self._rows) - 1

    def build(self) -> Tasks:
        """The tasks added so far as arrays."""
        table = np.array(self._rows, np.int64).reshape(-1, 10)
        kind, part, call, chip, target, size, first, last, rows, lead = table.T
        return Tasks(
            clock_hz=self.clock_hz,
            kind=kind.astype(np.int8),
            part=part.astype(np.int8),
            call=call.astype(np.int16),
            chip=chip.astype(np.int32),
            target=target.astype(np.int32),
            size_bytes=size.copy(),
            first_cycles=first.copy(),
            last_cycles=last.copy(),
            rows=rows.astype(np.int32),
            lead_rows=lead.astype(np.int32),
            before_start=np.array(self._before_start, np.int64),
            before=np.array(self._before, np.int32),
        )
