"""A host server: its cores tokenise requests first come first served, its bus hands them to the chips.

Compute, then wait once: a core's work is known when it is assigned, so a request costs one event.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

import simpy

from dcsim.cluster.ledger import Ledger, to_ps
from dcsim.records import REJECTED
from dcsim.spec.host import HostSpec


class HostServer:
    """Cores with one bounded queue. `deliver(request)` is called when a request stands ready at the chips."""

    def __init__(
        self, env: simpy.Environment, index: int, spec: HostSpec, ledger: Ledger, deliver: Callable[[int], None]
    ) -> None:
        self._env, self._index, self._ledger, self._deliver = env, index, ledger, deliver
        self._free_at = [0] * spec.cores  # heap: when each core is free
        self._starts: deque[int] = deque()  # start times of requests still waiting for a core
        self._queue_max = spec.queue_max
        self._request_ps, self._token_ps = to_ps(spec.request_s), to_ps(spec.tokenise_token_s)
        self._bus_ps, self._bus_token_ps = to_ps(spec.bus_s), to_ps(spec.token_bytes / spec.bus_bandwidth_bytes_per_s)
        self._detokenise_ps = to_ps(spec.detokenise_token_s)
        self.reply_ps = self._bus_ps + self._detokenise_ps
        self._cores, self._busy_w = spec.cores, spec.busy_w - spec.idle_w
        self.busy_core_ps = 0

    def accept(self, request: int) -> None:
        """A request arrives now."""
        now, ledger = self._env.now, self._ledger
        ledger.arrive(request, self._index)
        while self._starts and self._starts[0] <= now:
            self._starts.popleft()
        if self._free_at[0] > now and len(self._starts) >= self._queue_max:
            ledger.close(request, REJECTED, f"host {self._index}: queue of {self._queue_max} full")
            return
        prompt = int(ledger.requests.prompt_tokens[request])
        work = self._request_ps + prompt * self._token_ps
        start = max(now, self._free_at[0])
        heapq.heapreplace(self._free_at, start + work)
        if start > now:
            self._starts.append(start)
        # Streaming the answer back takes core time too; it is spread too thin to queue for, so only its energy counts.
        self.busy_core_ps += work + int(ledger.requests.output_tokens[request]) * self._detokenise_ps
        ready = start + work + self._bus_ps + prompt * self._bus_token_ps
        ledger.ready[request] = ready
        ledger.limits["host"] += ready - now
        event = self._env.event()
        event.callbacks.append(lambda _: self._deliver(request))
        event._ok, event._value = True, None
        # Ahead of anything else at that instant, so that a round boundary at the same time sees the request.
        self._env.schedule(event, simpy.events.URGENT, ready - now)

    def energy_j(self) -> float:
        """Energy above the idle draw so far: busy cores' share of the server's swing."""
        return self.busy_core_ps / 1e12 / self._cores * self._busy_w
