"""A host server: its cores tokenise requests first come first served, its bus hands them to the chips.

Each request's visit is a process that queues for a core, works, crosses the bus and hands the request over. The server is
a process too: interrupted by a fault it ends the visits under way, and takes nothing in until it is repaired.
"""

from __future__ import annotations

from collections.abc import Callable

import simpy

from dcsim.cluster.request import Request
from dcsim.cluster.simpy.environment import READY, Environment, Process
from dcsim.cluster.simpy.ledger import Ledger
from dcsim.cluster.simpy.outage import Outage, outage_of
from dcsim.results.records import REJECTED
from dcsim.spec.host import HostSpec
from dcsim.units import to_ps

Core = simpy.resources.resource.Request


class HostServer:
    """Cores with one bounded queue.

    `deliver(request)` is called when a request stands ready at the chips, `lost(request, label)` when a fault has ended its
    visit, and `on_busy()`, where set, when a core begins to work that was free.
    """

    def __init__(
        self,
        env: Environment,
        index: int,
        spec: HostSpec,
        ledger: Ledger,
        deliver: Callable[[Request], None],
        lost: Callable[[Request, str], None],
    ) -> None:
        self._env, self.index, self._ledger, self._deliver, self._lost = env, index, ledger, deliver, lost
        self.on_busy: Callable[[], None] | None = None
        self.cores = simpy.Resource(env, spec.cores)
        self._queue_max = spec.queue_max
        self._request_ps, self._token_ps = to_ps(spec.request_s), to_ps(spec.tokenise_token_s)
        self._bus_ps, self._bus_token_ps = to_ps(spec.bus_s), to_ps(spec.token_bytes / spec.bus_bandwidth_bytes_per_s)
        self.reply_ps = self._bus_ps + to_ps(spec.detokenise_token_s)
        self._visits: dict[int, tuple[Request, simpy.Process]] = {}
        self._booked_ps = self._spent_ps = 0  # core time of all visits, and of those that have left their core
        self.works = True
        self.process = env.process(self._stand())

    def accept(self, request: Request) -> None:
        """A request comes in now, or is rejected where too many wait for a core."""
        request.host, request.since_ps = self.index, self._env.now
        is_busy = self.cores.count == self.cores.capacity
        if is_busy and len(self.cores.queue) >= self._queue_max:
            self._ledger.close(request, REJECTED, f"host {self.index}: queue of {self._queue_max} full")
            return
        work_ps = self._request_ps + request.prompt * self._token_ps
        self._booked_ps += work_ps
        self._visits[request.index] = request, self._env.process(self._visit(request, self.cores.request(), work_ps))
        if self.on_busy and not is_busy and work_ps:
            self.on_busy()

    def _visit(self, request: Request, core: Core, work_ps: int) -> Process:
        """One request: a core, the bus, the chips."""
        try:
            yield core
            if work_ps:  # else it is done before anybody else could want the core
                yield self._env.timeout(work_ps)
            self._spent_ps += work_ps
            self.cores.release(core)
            yield self._env.moment(self._bus_ps + request.prompt * self._bus_token_ps, READY, request.index)
        except simpy.Interrupt as interrupt:
            self._end_early(core, work_ps)
            self._leave(request)
            self._lost(request, outage_of(interrupt, f"host {self.index}").label)
            return
        request.ready_ps = self._env.now
        self._leave(request)
        self._deliver(request)

    def _end_early(self, core: Core, work_ps: int) -> None:
        """A visit ends before its time: its core is free, and what was left of its work is not done."""
        if core in self.cores.users:
            spent_ps = self._env.now - _since(core)
        elif core.triggered:  # it has left its core
            return
        else:
            spent_ps = 0
            core.cancel()
        self._spent_ps += spent_ps
        self._booked_ps -= work_ps - spent_ps
        self.cores.release(core)

    def _leave(self, request: Request) -> None:
        del self._visits[request.index]
        self._book(request)

    def _book(self, request: Request) -> None:
        since, now = request.since_ps, self._env.now
        self._ledger.spent.book("host", now - since, since, now)

    def _stand(self) -> Process:
        """The server itself: it works until a fault interrupts it, and then again when it is repaired."""
        until_ps = 0
        while True:
            try:
                yield self._env.event() if self.works else self._env.timeout(until_ps - self._env.now)
                self.works = True
            except simpy.Interrupt as interrupt:
                outage = outage_of(interrupt, f"host {self.index}")
                self.works, until_ps = False, max(until_ps, outage.until_ps)
                self._stop(outage)

    def _stop(self, outage: Outage) -> None:
        outage.hit += len(self._visits)
        for _, visit in self._visits.values():
            visit.interrupt(outage)

    def close_out(self) -> None:
        """The run ends now: book the stay of requests inside."""
        for request, _ in self._visits.values():
            self._book(request)

    def busy_cores(self) -> int:
        """How many cores work now."""
        return self.cores.count

    def backlog_ps(self) -> int:
        """Core time still to be spent on requests taken in."""
        return self._booked_ps - self.core_ps()

    def core_ps(self) -> int:
        """Core time spent by now."""
        now = self._env.now
        return self._spent_ps + sum(now - _since(core) for core in self.cores.users)


def _since(core: Core) -> int:
    """When a visit got its core."""
    return int(core.usage_since or 0)
