"""Who asks the compiled pool: a table of arrivals, block by block, or the users of a closed loop.

As `simpy/arrivals` and `simpy/users` have it. Both give the kernel rows for requests and say when the run stops: `until` is how
far it may run without asking again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dcsim.cluster.fast import layout as c
from dcsim.cluster.request import UNSET
from dcsim.units import PS_PER_S, to_ps
from dcsim.workload.closed import ClosedLoop
from dcsim.workload.requests import Requests

_ROOM = 4096  # rows for requests that users have still to make

Ints = NDArray[np.int64]


class Arrivals:
    """An open loop: the requests of a table's blocks. `level_of` [class] says who is served first."""

    def __init__(self, blocks: Iterator[Requests], level_of: Ints, drain_ps: int) -> None:
        self._blocks, self._level_of, self._drain_ps = blocks, level_of, drain_ps
        self._last = 0  # when the last of those so far comes
        self._more = True

    def into(self, now: Ints, fixed: Ints) -> tuple[Ints, Ints, Ints]:
        """(thinking, asks, asked) of the state, which are empty: nobody waits to ask."""
        now[c.MORE] = 1
        return np.zeros((0, 2), np.int64), np.zeros((0, 0, 3), np.int64), np.zeros(0, np.int64)

    def next_rows(self) -> tuple[Ints, int, bool] | None:
        """The next block: its rows, how many of them will come, and whether any is of a session; None behind the last."""
        block = next(self._blocks, None)
        if block is None:
            self._more = False
            return None
        rows = _rows(len(block))
        rows[:, c.ARRIVAL] = np.rint(block.arrival_s * PS_PER_S)
        rows[:, c.PROMPT], rows[:, c.OUTPUT], rows[:, c.KLASS] = block.prompt_tokens, block.output_tokens, block.klass
        rows[:, c.LEVEL], rows[:, c.SESSION] = self._level_of[block.klass], block.session
        rows[:, c.PREFIX] = block.prefix_tokens
        if len(rows):
            self._last = int(rows[-1, c.ARRIVAL])
        return rows, len(rows), bool((block.session >= 0).any())

    @property
    def until(self) -> int:
        """The end of draining, once that is known."""
        return c.NEVER if self._more else min(c.NEVER, self._last + self._drain_ps)

    def stop(self, now: Ints) -> int | None:
        """When the run stops, everything up to `until` having happened."""
        if now[c.CLOSED] == now[c.KNOWN]:
            return max(self._last, int(now[c.LAST_CLOSE]))
        return self._last + self._drain_ps


class Asking:
    """A closed loop. Without a duration it goes on while answers come, one at least in every time to drain."""

    def __init__(self, loop: ClosedLoop, drain_ps: int) -> None:
        self._loop, self._drain_ps = loop, drain_ps
        self._duration_ps = to_ps(loop.duration_s)
        self._window, self._closed = self._duration_ps + drain_ps, 0

    def into(self, now: Ints, fixed: Ints) -> tuple[Ints, Ints, Ints]:
        """(thinking, asks, asked) of the state, in which all users think before they ask for the first time."""
        loop = self._loop
        think_ps = np.rint(loop.think_s * PS_PER_S).astype(np.int64)
        asks = np.stack([think_ps, loop.prompt_tokens, loop.output_tokens], axis=2).astype(np.int64)
        fixed[c.ASKS_MAX], fixed[c.ASK_UNTIL] = loop.requests_max, self._duration_ps or c.NEVER
        due = sorted((int(first), user) for user, first in enumerate(think_ps[:, 0]) if first < fixed[c.ASK_UNTIL])
        thinking = np.zeros((loop.users, 2), np.int64)
        thinking[: len(due)] = np.array(due, np.int64).reshape(-1, 2)
        now[c.THINKING] = now[c.ACTIVE] = len(due)
        return thinking, asks, np.zeros(loop.users, np.int64)

    def next_rows(self) -> tuple[Ints, int, bool]:
        """Room for further requests, of which nobody knows yet that they come."""
        return _rows(_ROOM), 0, False

    @property
    def until(self) -> int:
        """The end of draining after the duration; without one, the end of the time in which an answer has to come."""
        return self._window if self._duration_ps else self._window - 1

    def stop(self, now: Ints) -> int | None:
        """When the run stops, everything up to `until` having happened; None if it goes on."""
        if not now[c.ACTIVE]:
            return int(now[c.DONE_AT])
        if self._duration_ps or now[c.CLOSED] == self._closed:
            return self._window
        self._closed = int(now[c.CLOSED])
        self._window += self._drain_ps
        return None


def _rows(count: int) -> Ints:
    """Rows of requests that have not come yet."""
    rows = np.zeros((count, c.REQUEST_COLUMNS), np.int64)
    rows[:, [c.HOST, c.REPLICA, c.READY, c.ADMITTED, c.FIRST, c.FINISHED]] = UNSET
    rows[:, [c.SESSION, c.USER, c.SOURCE]] = c.NONE
    return rows
