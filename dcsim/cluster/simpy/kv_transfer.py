"""KV on its way from replicas that read prompts to replicas that decode.

A read request waits for room in a decoding replica while its KV stays where it was made. Once admitted its KV is
copied over the fabric's links (`copies`); both ends hold room until the copy is done.
"""

from __future__ import annotations

from collections.abc import Callable

import simpy

from dcsim.cluster.request import Request
from dcsim.cluster.simpy.events import Environment, call_at
from dcsim.cluster.simpy.replica import Replica
from dcsim.results.records import IN_FLIGHT


class KvFlow:
    """Connects replicas. `send(source, target, tokens, now)` says when KV sent from one replica is at another, ps.

    `choose` gives the decoding replica of a request; `lost` hears of requests whose KV a fault destroyed.
    """

    def __init__(
        self,
        env: Environment,
        send: Callable[[int, int, int, int], int],
        choose: Callable[[Request], Replica],
        lost: Callable[[Request], None],
    ) -> None:
        self._env, self._send, self._choose, self._lost = env, send, choose, lost
        self._sources: dict[int, Replica] = {}  # request index -> where its KV was made
        self._copies: dict[int, simpy.Event] = {}  # request index -> end of the copy under way

    def connect(self, source: Replica) -> None:
        """Let a replica that reads prompts pass its requests on."""
        source.pass_on = lambda request: self._offer(source, request)

    def receive(self, target: Replica) -> None:
        """Let a replica that decodes fetch KV."""
        target.fetch = lambda request: self._fetch(target, request)
        target.forget = self._forget

    def offer_again(self, request: Request) -> bool:
        """Find another decoding replica for a request whose KV is still at its source; False if it is not."""
        source = self._sources.get(request.index)
        if source is None or not source.holds_copy(request):
            return False
        self._offer(source, request)
        return True

    def _offer(self, source: Replica, request: Request) -> None:
        self._sources[request.index] = source
        self._copies.pop(request.index, None)
        self._choose(request).submit(request)
        if request.status != IN_FLIGHT:  # rejected
            self._forget(request)

    def _fetch(self, target: Replica, request: Request) -> None:
        source = self._sources[request.index]
        end = self._send(source.index, target.index, request.to_read - 1, self._env.now)
        self._copies[request.index] = call_at(self._env, end, lambda event: self._arrive(target, request, event))

    def _arrive(self, target: Replica, request: Request, copy: simpy.Event) -> None:
        if self._copies.get(request.index) is not copy:  # a fault at the target or the client ended it
            return
        if self._sources[request.index].holds_copy(request):
            self._forget(request)
            target.landed(request)
        else:
            self._forget(request)
            target.drop(request)
            self._lost(request)

    def _forget(self, request: Request) -> None:
        self._copies.pop(request.index, None)
        source = self._sources.pop(request.index, None)
        if source is not None:
            source.copied(request)
