"""KV on the links between replicas that read prompts and replicas that decode: each transfer is a process.

A read request waits for room in a decoding replica while its KV stays where it was made. Once admitted its KV travels over
the fabric's links (`copies`), which carry one message after another; both ends hold room until all of it is there. A sequence
that a decoding replica has no more room for is read anew there.
"""

from __future__ import annotations

from collections.abc import Callable

import simpy

from dcsim.cluster.request import Request
from dcsim.cluster.simpy.environment import Environment, Process
from dcsim.cluster.simpy.replica import Replica
from dcsim.results.records import IN_FLIGHT


class KvTransfers:
    """Connects replicas. `send(source, target, tokens, now)` says when KV sent from one replica is at another, ps.

    `choose` gives the decoding replica of a request; `lost(request, label)` hears of requests whose KV a fault destroyed.
    """

    def __init__(
        self,
        env: Environment,
        send: Callable[[int, int, int, int], int],
        choose: Callable[[Request], Replica],
        lost: Callable[[Request, str], None],
    ) -> None:
        self._env, self._send, self._choose, self._lost = env, send, choose, lost
        self._sources: dict[int, Replica] = {}  # request index -> where its KV was made
        self._under_way: dict[int, simpy.Process] = {}  # request index -> its transfer

    def connect(self, readers: list[Replica], decoders: list[Replica]) -> None:
        """Let replicas that read prompts pass their requests on, and replicas that decode fetch KV."""
        for source in readers:
            source.pass_on = self.offer
        for target in decoders:
            target.fetch, target.forget = self._fetch, self._forget

    def offer(self, source: Replica, request: Request) -> None:
        """A request is read: find a replica that decodes it."""
        self._sources[request.index] = source
        self._choose(request).submit(request)
        if request.status != IN_FLIGHT:  # rejected
            self._forget(request)

    def offer_again(self, request: Request) -> bool:
        """Find another decoding replica for a request whose KV is still at its source; False if it is not."""
        self._end_early(request)
        source = self._sources.get(request.index)
        if source is None or not source.holds_copy(request):
            return False
        self.offer(source, request)
        return True

    def _fetch(self, target: Replica, request: Request) -> bool:
        """Have the request's KV sent to its target; False if it has been there, and was given up for want of room."""
        if request.index not in self._sources:
            return False
        self._under_way[request.index] = self._env.process(self._transfer(target, request))
        return True

    def _transfer(self, target: Replica, request: Request) -> Process:
        """The links carry a request's KV to its target."""
        source = self._sources[request.index]
        end = self._send(source.index, target.index, request.to_read - 1, self._env.now)
        try:
            yield self._env.timeout(end - self._env.now)
        except simpy.Interrupt:  # the target has stopped, or the client has gone
            return
        del self._under_way[request.index]
        arrives = source.holds_copy(request)
        self._forget(request)
        if arrives:
            target.landed(request)
        else:
            target.drop(request)
            self._lost(request, "fault at the prefill replica")

    def _end_early(self, request: Request) -> None:
        transfer = self._under_way.pop(request.index, None)
        if transfer is not None:
            transfer.interrupt()

    def _forget(self, request: Request) -> None:
        self._end_early(request)
        source = self._sources.pop(request.index, None)
        if source is not None:
            source.copied(request)
