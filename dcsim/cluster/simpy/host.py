"""A host server: its cores tokenise requests first come first served, its bus hands them to the chips.

Compute, then wait once: a core's work is known when it is assigned, so a request costs one event.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

from dcsim.cluster.request import Request
from dcsim.cluster.simpy.events import Environment, call_at
from dcsim.cluster.simpy.ledger import Ledger
from dcsim.results.records import REJECTED
from dcsim.spec.host import HostSpec
from dcsim.units import to_ps


class HostServer:
    """Cores with one bounded queue. `deliver(request)` is called when a request stands ready at the chips."""

    def __init__(self, env: Environment, index: int, spec: HostSpec, ledger: Ledger, deliver: Callable[[Request], None]) -> None:
        self._env, self._index, self._ledger, self._deliver = env, index, ledger, deliver
        self.on_busy: Callable[[int], None] | None = None  # hears when a core that was free begins to work
        self._free_at = [0] * spec.cores  # heap: when each core is free
        self._starts: deque[int] = deque()  # start times of requests still waiting for a core
        self._inside: dict[int, Request] = {}  # accepted, not yet delivered
        self._queue_max = spec.queue_max
        self._request_ps, self._token_ps = to_ps(spec.request_s), to_ps(spec.tokenise_token_s)
        self._bus_ps, self._bus_token_ps = to_ps(spec.bus_s), to_ps(spec.token_bytes / spec.bus_bandwidth_bytes_per_s)
        self.reply_ps = self._bus_ps + to_ps(spec.detokenise_token_s)
        self._cores = spec.cores
        self._booked_ps = 0  # core time of all requests taken in
        self.down_until = 0

    def accept(self, request: Request) -> None:
        """A request comes in now."""
        now, starts = self._env.now, self._starts
        request.host = self._index
        while starts and starts[0] <= now:
            starts.popleft()
        free_at = self._free_at[0]
        if free_at > now and len(starts) >= self._queue_max:
            self._ledger.close(request, REJECTED, f"host {self._index}: queue of {self._queue_max} full")
            return
        work = self._request_ps + request.prompt * self._token_ps
        start = max(now, free_at)
        heapq.heapreplace(self._free_at, start + work)
        if start > now:
            starts.append(start)
        # Streaming the answer back takes core time too; it is spread too thin to queue for (see `power.hosts.token_pj`).
        self._booked_ps += work
        request.ready_ps = ready = start + work + self._bus_ps + request.prompt * self._bus_token_ps
        self._inside[request.index] = request
        self._ledger.limits["host"] += ready - now
        call_at(self._env, ready, lambda _: self._hand_over(request, ready))
        if self.on_busy and start == now:
            self.on_busy(now)

    def fail(self, until_ps: int) -> list[Request]:
        """The server stops now and takes nothing in until then; returns the requests it held."""
        now = self._env.now
        lost = list(self._inside.values())
        for request in lost:  # the rest of their stay never happens
            self._ledger.limits["host"] -= request.ready_ps - now
            request.ready_ps = -1
        self._booked_ps -= self.backlog_ps(now)
        self._inside.clear()
        self._starts.clear()
        self.down_until = max(self.down_until, until_ps)
        self._free_at = [now] * self._cores
        return lost

    def close_out(self) -> None:
        """The run ends now: the rest of the stay of requests inside never happens."""
        self._ledger.limits["host"] -= sum(request.ready_ps - self._env.now for request in self._inside.values())

    def _hand_over(self, request: Request, ready: int) -> None:
        if request.ready_ps == ready and request.index in self._inside:  # else a fault has taken it
            del self._inside[request.index]
            self._deliver(request)

    def busy_cores(self, now: int) -> int:
        """How many cores work now."""
        return sum(free_at > now for free_at in self._free_at)

    def backlog_ps(self, now: int) -> int:
        """Core time still to be spent on requests taken in."""
        return sum(free_at - now for free_at in self._free_at if free_at > now)

    def core_ps(self, now: int) -> int:
        """Core time spent by now."""
        return self._booked_ps - self.backlog_ps(now)
