"""Who gets a request next: a host server in turn, then a replica by the router, and after a fault again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dcsim.cluster.admission import Limits
from dcsim.cluster.request import UNSET, Request
from dcsim.cluster.simpy.client import Patience
from dcsim.cluster.simpy.environment import Environment
from dcsim.cluster.simpy.host import HostServer
from dcsim.cluster.simpy.ledger import Ledger
from dcsim.cluster.simpy.link import KvTransfers
from dcsim.cluster.simpy.replica import Replica
from dcsim.policies.routers import Router
from dcsim.results.records import FAILED, REJECTED
from dcsim.spec.topology import Topology

TOLD = 64  # requests between two times that it is told how far the run is


class Dispatcher:
    """One for a run; `hosts`, `replicas` and `transfers` are set once they are made.

    Where prefill and decode are apart the first so many replicas, `readers`, have a router of their own.
    """

    def __init__(
        self,
        env: Environment,
        spec: Topology,
        ledger: Ledger,
        limits: Limits,
        patience: Patience,
        replicas: int,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._env, self._ledger, self._limits, self._patience = env, ledger, limits, patience
        self._faults, self._progress = spec.faults, progress
        self.hosts: Sequence[HostServer] = ()
        self.replicas: Sequence[Replica] = ()
        self.transfers: KvTransfers | None = None
        self._turn = 0  # of the host servers
        self._readers = readers = spec.serving.prefill_replicas
        # With one replica the router is never asked; not reading the key lets the run report it as unused.
        kind = spec.serving.router if replicas > 1 else "least_loaded"
        self._router = Router(kind, readers or replicas, lambda replica, request: self.replicas[replica].kv.found(request))
        self._decode_router = Router(kind, replicas - readers) if readers else self._router

    def arrive(self, request: Request) -> None:
        """A request comes from its user now."""
        self._ledger.arrive(request)
        if self._patience.any:
            self._env.process(self._patience.client(self._env, request, self._client_gone))
        self._take_in(request)

    def _take_in(self, request: Request) -> None:
        """The next host server that works takes a request in, unless no replica could ever serve it."""
        if self._progress and request.index % TOLD == 0:
            self._progress(self._ledger.closed)
        reason = self._limits.refusal(request.prompt, request.output)
        if reason:
            self._ledger.close(request, REJECTED, reason)
            return
        for _ in self.hosts:
            host = self.hosts[self._turn]
            self._turn = (self._turn + 1) % len(self.hosts)
            if host.works:
                host.accept(request)
                return
        self._ledger.close(request, REJECTED, "no host server works")

    def route(self, request: Request) -> None:
        """A request stands ready at the chips: choose its replica."""
        self.replicas[self._router.choose(request)].submit(request)

    def choose_decoder(self, request: Request) -> Replica:
        """The replica that decodes a request which another has read."""
        return self.replicas[self._readers + self._decode_router.choose(request)]

    def _client_gone(self, request: Request) -> None:
        if request.replica >= 0:
            self.replicas[request.replica].leave(request)

    # What replicas and hosts tell

    def change_load(self, replica: Replica, by: int) -> None:
        """Requests have come to the replica, or gone."""
        router, slot = self._slot(replica)
        router.change(slot, by)

    def set_down(self, replica: Replica, down: bool) -> None:
        """The replica stands still, or works again."""
        router, slot = self._slot(replica)
        router.set_down(slot, down)

    def recover(self, request: Request, label: str) -> None:
        """A fault destroyed what a request had on a host or in KV: start again with the answer so far, or fail."""
        if self._faults.in_flight == "fail":
            self._ledger.close(request, FAILED, label)
            return
        request.replays += 1
        if request.ready_ps == UNSET:
            self._take_in(request)
        else:
            self.route(request)

    def send_elsewhere(self, request: Request, label: str) -> None:
        """A request that waited at a replica that has stopped: its KV may still be at the one that read it."""
        if self.transfers and self.transfers.offer_again(request):
            return
        if self._readers and request.given:
            self.recover(request, label)  # its KV was lost at the other end before
        else:
            self.route(request)

    def _slot(self, replica: Replica) -> tuple[Router, int]:
        """The router that knows the replica, and the replica's index there."""
        if self._readers and replica.index >= self._readers:
            return self._decode_router, replica.index - self._readers
        return self._router, replica.index
