"""What happens to requests, written down as it happens: counts, gaps between tokens, what time went to, and rows.

A request's row is written when its turn comes in order of arrival, so memory holds only those in flight and those
that wait for an earlier one to end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import simpy

from dcsim.cluster.request import Request
from dcsim.cluster.rows import limits_over_time_rows, program_rows, request_rows, sums_tables
from dcsim.cluster.simpy.environment import Environment
from dcsim.cluster.simpy.over_time import OverTime, TimeSpent
from dcsim.llm.program import Shape
from dcsim.results.records import FINISHED, IN_FLIGHT, Table, TableWriter

_BLOCK_ROWS = 65_536
NOT_KNOWN = -2  # not -1, which is the last of no requests


@dataclass(slots=True)
class Ledger:
    """One for a run. `on_close` hears of every request that reaches its end. What is kept over time is kept by `interval_ps`."""

    env: Environment
    rows: TableWriter
    interval_ps: int
    class_names: tuple[str, ...] = ("default",)
    on_close: Callable[[Request], None] | None = None
    gaps: dict[int, int] = field(default_factory=dict)  # gap in ps -> how often
    spent: TimeSpent = field(init=False)
    iterations: OverTime[tuple[int, Shape]] = field(init=False)  # that replicas carried out, by replica and compiled shape
    in_system: int = 0
    closed: int = 0
    last: int = NOT_KNOWN  # index of the last request to come
    area: int = 0  # integral of in_system over time
    changed: int = 0  # when in_system last changed
    done: simpy.Event = field(init=False)  # succeeds when the last request has come and none is open
    _open: dict[int, Request] = field(default_factory=dict)  # arrived, row not written
    _next_row: int = 0
    _block: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.done = self.env.event()
        self.spent, self.iterations = TimeSpent(self.interval_ps), OverTime(self.interval_ps)

    def arrive(self, request: Request) -> None:
        """The request comes now."""
        self._open[request.index] = request
        self._count(1)

    def close(self, request: Request, status: str, reason: str = "") -> None:
        """The request reaches its end now."""
        request.status = status
        request.reason = reason
        self._count(-1)
        self.closed += 1
        if request.index == self._next_row:
            self._write_in_order()
        if self.on_close:
            self.on_close(request)
        self._check_done()

    def finish(self, request: Request, reply_ps: int) -> None:
        """The request's last token was made now and reaches the user `reply_ps` later."""
        request.finished_ps = self.env.now + reply_ps
        self.spent.book("host", reply_ps, self.env.now, request.finished_ps)
        self.area += reply_ps
        self.close(request, FINISHED)

    def no_more(self, last: int) -> None:
        """Request `last` was the last to come."""
        self.last = last
        self._check_done()

    def _check_done(self) -> None:
        if self.closed == self.last + 1 and not self.done.triggered:
            self.done.succeed()

    def _count(self, change: int) -> None:
        now = self.env.now
        self.area += self.in_system * (now - self.changed)
        self.in_system += change
        self.changed = now

    def concurrency_mean(self) -> float:
        """Time average of requests in the system from time 0 to now."""
        now = self.env.now
        return (self.area + self.in_system * (now - self.changed)) / now if now else 0.0

    def count_gap(self, gap_ps: int, times: int) -> None:
        """`times` tokens followed their predecessors after `gap_ps`."""
        self.gaps[gap_ps] = self.gaps.get(gap_ps, 0) + times

    def _write_in_order(self) -> None:
        waiting, block = self._open, self._block
        while (request := waiting.get(self._next_row)) is not None and request.status != IN_FLIGHT:
            block.append(waiting.pop(self._next_row))
            self._next_row += 1
        if len(block) >= _BLOCK_ROWS:
            self._flush()

    def _flush(self) -> None:
        self.rows.write(_rows(self._block, self.class_names))
        self._block.clear()

    def tables(self) -> dict[str, Table]:
        """The requests, gaps and limits tables and those over time, in seconds; requests still open get their rows now."""
        self._block += [self._open.pop(index) for index in sorted(self._open)]
        self._flush()
        over_time = {
            "limits_over_time": limits_over_time_rows(self.spent.over_time.amounts(), self.interval_ps, self.env.now),
            "programs": program_rows(self.iterations.amounts(), self.interval_ps, self.env.now),
        }
        return {"requests": self.rows.close(), **sums_tables(self.gaps, self.spent.totals), **over_time}


def _rows(block: list[Request], class_names: tuple[str, ...]) -> Table:
    counts = (
        np.array([(r.index, r.prompt, r.output, r.given, r.reused, r.replays, r.host, r.replica) for r in block], np.int64)
        .reshape(-1, 8)
        .T
    )
    times = (
        np.array([(r.arrival_ps, r.ready_ps, r.admitted_ps, r.first_token_ps, r.finished_ps) for r in block], np.int64)
        .reshape(-1, 5)
        .T
    )
    return request_rows(
        counts,
        times,
        np.array(class_names)[np.array([r.klass for r in block], np.int64)],
        np.array([r.status for r in block], "U9"),
        np.array([r.reason for r in block], "U"),
    )
