"""The service zoom in full: every host, replica and rack as SimPy's processes and events.

It serves all traffic under all policies and faults. What needs none of the special ones is served by `pool`, faster.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any

import simpy

from dcsim.cluster.admission import Limits
from dcsim.cluster.placement import Placement
from dcsim.cluster.programs import Programs
from dcsim.cluster.request import UNSET, Request
from dcsim.cluster.rows import round_rows
from dcsim.cluster.setup import ReplicaSetup
from dcsim.cluster.simpy.arrivals import Users, open_loop, table_requests
from dcsim.cluster.simpy.capping import Capping
from dcsim.cluster.simpy.events import Environment, call_at
from dcsim.cluster.simpy.faults import Faults
from dcsim.cluster.simpy.host import HostServer
from dcsim.cluster.simpy.kv_transfer import KvFlow
from dcsim.cluster.simpy.ledger import Ledger
from dcsim.cluster.simpy.pace import Places
from dcsim.cluster.simpy.replica import Replica
from dcsim.cluster.simpy.speculation import Drafts
from dcsim.errors import CapacityError
from dcsim.fabric.graph import Fabric
from dcsim.policies.routers import Router
from dcsim.power.caps import caps_of
from dcsim.power.hosts import token_pj
from dcsim.power.rack import Racks, chips_per_rack
from dcsim.results.records import FAILED, REJECTED, Table, TableWriter
from dcsim.spec.topology import Topology
from dcsim.units import to_ps
from dcsim.workload.closed import ClosedLoop
from dcsim.workload.requests import Requests
from dcsim.workload.streams import stream


class Detailed:
    """Builds the processes of one run and keeps them together: hosts, replicas, racks, users, faults."""

    def __init__(
        self,
        spec: Topology,
        fabric: Fabric,
        placement: Placement,
        programs: Programs,
        traffic: Iterator[Requests] | ClosedLoop,
        names: tuple[str, ...],
        priorities: tuple[int, ...],
        rows: TableWriter,
        *,
        skip: bool,
        seed: int,
        record_rounds: bool,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.env = Environment()
        self.spec, self.fabric, self.placement, self.progress = spec, fabric, placement, progress
        self.traffic, self.priorities = traffic, priorities
        ahead = spec.serving.speculation.draft_tokens if spec.serving.speculation else 0
        self._limits = Limits(spec.llm.context_max, placement.kv_tokens, programs.context_max, ahead)
        self.ledger = Ledger(self.env, rows, names)
        self.hosts = [HostServer(self.env, i, spec.host, self.ledger, self._route) for i in range(spec.serving.host_servers)]
        self._next_host = 0
        self.chips_in = chips_per_rack(fabric, placement.replica_chips)  # [replica, rack]
        self.rounds: list[tuple[int, ...]] | None = [] if record_rounds else None
        self.replicas = self._make_replicas(programs, skip, seed)
        self._connect()
        self._cap()
        self.racks = Racks(spec, fabric, self.chips_in)
        reload_ps = to_ps(placement.weight_bytes / spec.host.bus_bandwidth_bytes_per_s)
        self.faults = Faults.start(
            self.env,
            spec.faults,
            fabric,
            placement.replica_chips,
            len(self.hosts),
            reload_ps,
            self._stop_replica,
            self._stop_host,
            seed,
        )
        self._down_ps = 0

    def run(self) -> tuple[dict[str, Table], int, float, float]:
        """Run to the end; the tables, its time in ps, the mean of requests in the system, the share of time replicas work."""
        env, ledger = self.env, self.ledger
        env.process(self._sample_power())
        env.run(until=env.process(self._until_done()))
        self._sample()
        for replica in self.replicas:
            replica.close_out()
            self._down_ps -= max(0, replica.down_until - env.now)
        for host in self.hosts:
            host.close_out()
        tables = ledger.tables()
        tables |= {"power": self.racks.table(), "faults": self.faults.table()}
        if self.copies:
            tables["kv_links"] = self.copies.table()
        if self.rounds is not None:
            tables["rounds"] = round_rows(self.rounds)
        availability = 1 - self._down_ps / (len(self.replicas) * max(1, env.now))
        return tables, env.now, ledger.concurrency_mean(), availability

    def _sample_power(self) -> Generator[simpy.Event, Any, None]:
        """Sample the racks' power at the end of every interval."""
        interval_ps = to_ps(self.spec.power.sample_s)
        while True:
            yield self.env.timeout(interval_ps)
            self._sample()

    def _sample(self) -> None:
        now = self.env.now
        program_ps, work_pj = zip(*(replica.drawn(now) for replica in self.replicas), strict=True)
        self.racks.sample(now, program_ps, work_pj, [host.core_ps(now) for host in self.hosts])

    def _until_done(self) -> Generator[simpy.Event, Any, None]:
        """Let all requests come, wait until all are done or the drain time is over, and for the workload's duration to pass."""
        env, ledger, traffic = self.env, self.ledger, self.traffic
        if isinstance(traffic, ClosedLoop):
            Users(env, traffic, ledger, self._accept)
            if traffic.duration_s:
                yield ledger.done | env.timeout(to_ps(traffic.duration_s))
        else:
            yield env.process(open_loop(env, table_requests(traffic, self.priorities), ledger, self._accept))
        drain_ps, endless = to_ps(self.spec.serving.drain_s), isinstance(traffic, ClosedLoop) and not traffic.duration_s
        while not ledger.done.triggered:
            closed = ledger.closed
            yield ledger.done | env.timeout(drain_ps)
            if not endless or ledger.closed == closed:  # users without an end go on while answers come
                break
        yield env.timeout(self.hosts[0].reply_ps)  # the last tokens reach their users
        if to_ps(self.spec.workload.duration_s) > env.now:
            yield env.timeout(to_ps(self.spec.workload.duration_s) - env.now)

    def _accept(self, request: Request) -> None:
        """A request comes: the next host server that works takes it in, unless no replica could ever serve it."""
        hosts, now = self.hosts, self.env.now
        if self.progress and request.index % 256 == 0:
            self.progress(self.ledger.closed)
        reason = self._limits.refusal(request.prompt, request.output)
        if reason:
            self.ledger.close(request, REJECTED, reason)
            return
        for _ in hosts:
            host = hosts[self._next_host]
            self._next_host = (self._next_host + 1) % len(hosts)
            if host.down_until <= now:
                host.accept(request)
                return
        self.ledger.close(request, REJECTED, "no host server works")

    def _route(self, request: Request) -> None:
        """A request stands ready: choose its replica."""
        self.replicas[self._router.choose(request)].submit(request)

    def _make_replicas(self, programs: Programs, skip: bool, seed: int) -> list[Replica]:
        spec, env = self.spec, self.env
        serving = spec.serving
        switch_s = spec.chip.program_switch_s if spec.chip.kind == "lpu" else 0.0
        growth = Drafts(serving.speculation, seed) if serving.speculation else None
        setup = ReplicaSetup(
            programs,
            self.placement.kv_tokens,
            serving,
            self.priorities,
            to_ps(switch_s),
            self.hosts[0].reply_ps,
            token_pj(spec.host),
            skip,
            growth,
            self.rounds,
        )
        chips = self.placement.replica_chips
        readers = serving.prefill_replicas
        if readers >= len(chips):
            raise CapacityError(
                f"serving.prefill_replicas of {readers} leaves none of {len(chips)} to decode; mapping.replicas sets how many",
                readers + 1,
                len(chips),
            )
        rule = serving.router if len(chips) > 1 else "least_loaded"  # a choice among one has no effect, and shall say so
        self._router = Router(rule, readers or len(chips))
        self._decode_router = Router(rule, len(chips) - readers)
        return [
            Replica(
                env,
                i,
                setup,
                Places(stream(seed, f"replica.{i}.iterations"), serving.draw_block),
                self.ledger,
                partial(self._router_of(i).change, self._slot(i)),
            )
            for i in range(len(chips))
        ]

    def _cap(self) -> None:
        """Where meters have caps, let replicas ask how long their rounds take, and hosts say when they draw more."""
        caps = caps_of(self.spec, self.fabric, self.chips_in)
        if not len(caps.room_w):
            return
        capping = Capping(caps, self.hosts, lambda replica: self.replicas[replica].rouse())
        for replica in self.replicas:
            replica.caps = capping
        for host in self.hosts:
            host.on_busy = capping.give_way

    def _router_of(self, replica: int) -> Router:
        readers = self.spec.serving.prefill_replicas
        return self._decode_router if readers and replica >= readers else self._router

    def _slot(self, replica: int) -> int:
        """The replica's index in its router."""
        readers = self.spec.serving.prefill_replicas
        return replica - readers if readers and replica >= readers else replica

    def _connect(self) -> None:
        """Where prefill and decode are apart, let KV flow from the ones to the others."""
        readers, make = self.spec.serving.prefill_replicas, self.placement.copies
        decoders = self.replicas[readers:]
        self.copies = make() if readers and make else None
        self.flow = KvFlow(
            self.env,
            self.copies.send if self.copies else _at_once,
            lambda request: decoders[self._decode_router.choose(request)],
            lambda request: self._recover(request, "fault at the prefill replica"),
        )
        if readers:
            for replica in self.replicas[:readers]:
                self.flow.connect(replica)
            for replica in decoders:
                self.flow.receive(replica)

    def _stop_replica(self, index: int, until: int, label: str) -> int:
        """A fault stops a replica; returns how many requests lost work."""
        replica, router, slot, now = self.replicas[index], self._router_of(index), self._slot(index), self.env.now
        readers = self.spec.serving.prefill_replicas
        self._down_ps += max(0, until - max(now, replica.down_until))
        if replica.down_until <= now:
            router.set_down(slot, True)
        lost, waiting = replica.fail(until)
        back = replica.down_until
        call_at(self.env, back, lambda _: self._back(index, back))
        for request in lost:
            self._recover(request, label)
        for request in waiting:
            if self.flow.offer_again(request):
                continue
            if readers and request.given:
                self._recover(request, label)  # its KV was lost at the other end before
            else:
                self._route(request)
        return len(lost)

    def _back(self, index: int, at: int) -> None:
        if self.replicas[index].down_until == at:
            self._router_of(index).set_down(self._slot(index), False)

    def _stop_host(self, index: int, until: int, label: str) -> int:
        """A fault stops a host server; returns how many requests lost work."""
        lost = self.hosts[index].fail(until)
        for request in lost:
            self._recover(request, label)
        return len(lost)

    def _recover(self, request: Request, label: str) -> None:
        """A fault destroyed what a request had on a host or in KV: start again with the answer so far, or fail."""
        if self.spec.faults.in_flight == "fail":
            self.ledger.close(request, FAILED, label)
            return
        request.replays += 1
        if request.ready_ps == UNSET:
            self._accept(request)
        else:
            self._route(request)


def _at_once(source: int, target: int, tokens: int, now: int) -> int:
    return now
