"""The service zoom: traffic through hosts, replicas and racks, event by event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import simpy
from numpy.typing import NDArray

from dcsim.cluster.arrivals import Users, open_loop, table_requests
from dcsim.cluster.events import call_at
from dcsim.cluster.faults import Faults
from dcsim.cluster.flow import KvFlow
from dcsim.cluster.host import HostServer
from dcsim.cluster.ledger import PS_PER_S, Ledger, to_ps
from dcsim.cluster.pace import Places
from dcsim.cluster.programs import Programs
from dcsim.cluster.rack import Rack
from dcsim.cluster.replica import Replica, ReplicaPower, ReplicaSetup
from dcsim.cluster.request import UNSET, Request
from dcsim.cluster.routers import Router
from dcsim.cluster.speculation import Drafts
from dcsim.errors import CapacityError
from dcsim.fabric.graph import Fabric
from dcsim.records import FAILED, REJECTED, Table, TableWriter
from dcsim.spec.topology import Topology
from dcsim.workload.closed import ClosedLoop
from dcsim.workload.requests import Requests
from dcsim.workload.streams import stream

Traffic = Requests | Iterable[Requests] | ClosedLoop


@dataclass(frozen=True, slots=True)
class ServiceResult:
    """Tables of one run, its length, the time average of requests in the system and of working replicas."""

    tables: dict[str, Table]
    elapsed_s: float
    concurrency_mean: float
    availability: float = 1.0


@dataclass(frozen=True, slots=True)
class Placement:
    """Which chips each replica uses and how many tokens of KV cache each replica holds.

    `weight_bytes` is what the fullest chip stores of the LLM; `copy_s(tokens)` the time to send the KV of so many
    tokens from one replica to another.
    """

    replica_chips: tuple[tuple[int, ...], ...]
    kv_tokens: int
    weight_bytes: float = 0.0
    copy_s: Callable[[int], float] = lambda tokens: 0.0


def serve(
    spec: Topology, fabric: Fabric, placement: Placement, programs: Programs, requests: Traffic,
    *, skip: bool = True, seed: int = 1, rows: TableWriter | None = None, progress: Callable[[int], None] | None = None,
) -> ServiceResult:
    """Serve every request, or those that are done `serving.drain` after the last arrival.

    `requests` is a table, its blocks, or the users of a closed loop. `rows` takes the rows of the requests table
    (default: in memory). `progress` is called now and then with the number of requests that have reached their end.
    """
    return _Cluster(spec, fabric, placement, programs, requests, skip, seed, rows, progress).run()


class _Cluster:
    """Builds the processes of one run and keeps them together."""

    def __init__(
        self, spec: Topology, fabric: Fabric, placement: Placement, programs: Programs, traffic: Traffic,
        skip: bool, seed: int, rows: TableWriter | None, progress: Callable[[int], None] | None,
    ) -> None:
        self.env = simpy.Environment(initial_time=0)
        self.spec, self.fabric, self.placement, self.progress = spec, fabric, placement, progress
        self.traffic, names, priorities = _classes(spec, traffic)
        self.priorities = priorities
        self.ledger = Ledger(self.env, rows or TableWriter("requests"), names)
        self.rack_count = int(fabric.rack_of.max()) + 1
        self.hosts = [
            HostServer(self.env, i, spec.host, self.ledger, self._route) for i in range(spec.serving.host_servers)
        ]
        self._next_host = 0
        self.chips_in = _chips_per_rack(fabric, placement.replica_chips)  # [replica, rack]
        self.replicas = self._make_replicas(programs, skip, seed)
        self._connect()
        self.racks = [self._rack(i) for i in range(self.rack_count)]
        reload_ps = to_ps(placement.weight_bytes / spec.host.bus_bandwidth_bytes_per_s)
        self.faults = Faults.start(
            self.env, spec.faults, fabric, placement.replica_chips, len(self.hosts), reload_ps,
            self._stop_replica, self._stop_host, seed,
        )
        self._down_ps = 0

    def run(self) -> ServiceResult:
        """Run to the end and collect the tables."""
        env, ledger = self.env, self.ledger
        for rack in self.racks:
            env.process(rack.run())
        env.run(until=env.process(self._until_done()))
        for rack in self.racks:
            rack.sample()
        for replica in self.replicas:
            replica.close_out()
            self._down_ps -= max(0, replica.down_until - env.now)
        tables = ledger.tables()
        tables |= {"power": self._power_table(), "faults": self.faults.table()}
        availability = 1 - self._down_ps / (len(self.replicas) * max(1, env.now))
        return ServiceResult(tables, env.now / PS_PER_S, ledger.concurrency_mean(), availability)

    def _until_done(self) -> Iterator[simpy.Event]:
        """Let all requests come, then wait until all are done or the drain time is over."""
        env, ledger, traffic = self.env, self.ledger, self.traffic
        if isinstance(traffic, ClosedLoop):
            Users(env, traffic, ledger, self._accept)
            if traffic.duration_s:
                yield ledger.done | env.timeout(to_ps(traffic.duration_s))
        else:
            yield env.process(open_loop(env, table_requests(traffic, self.priorities), ledger, self._accept))
        if not ledger.done.triggered:
            endless = isinstance(traffic, ClosedLoop) and not traffic.duration_s
            yield ledger.done if endless else ledger.done | env.timeout(to_ps(self.spec.serving.drain_s))
        yield env.timeout(self.hosts[0].reply_ps)  # the last tokens reach their users

    def _accept(self, request: Request) -> None:
        """A request comes: the next host server that works takes it in."""
        hosts, now = self.hosts, self.env.now
        if self.progress and request.index % 256 == 0:
            self.progress(self.ledger.closed)
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
        serving, power = spec.serving, spec.chip.power
        switch_s = spec.chip.program_switch_s if spec.chip.kind == "lpu" else 0.0
        growth = Drafts(serving.speculation, seed) if serving.speculation else None
        setup = ReplicaSetup(
            programs, self.placement.kv_tokens, serving, self.priorities, to_ps(switch_s), self.hosts[0].reply_ps,
            skip, growth,
        )
        chips = self.placement.replica_chips
        work_w = _work_limits(spec, self.fabric, self.chips_in)
        readers = serving.prefill_replicas
        if readers >= len(chips):
            raise CapacityError(
                f"serving.prefill_replicas of {readers} leaves none of {len(chips)} replicas to decode",
                readers + 1, len(chips),
            )
        self._router = Router(serving.router, readers or len(chips))
        self._decode_router = Router(serving.router, len(chips) - readers)
        return [
            Replica(
                env, i, setup, ReplicaPower(power.idle_w * len(of), power.wait_w * len(of), work_w[i]),
                Places(stream(seed, f"replica.{i}.iterations"), serving.draw_block), self.ledger,
                partial(self._router_of(i).change, self._slot(i)),
            )
            for i, of in enumerate(chips)
        ]

    def _router_of(self, replica: int) -> Router:
        readers = self.spec.serving.prefill_replicas
        return self._decode_router if readers and replica >= readers else self._router

    def _slot(self, replica: int) -> int:
        """The replica's index in its router."""
        readers = self.spec.serving.prefill_replicas
        return replica - readers if readers and replica >= readers else replica

    def _connect(self) -> None:
        """Where prefill and decode are apart, let KV flow from the ones to the others."""
        readers, copy_s = self.spec.serving.prefill_replicas, self.placement.copy_s
        decoders = self.replicas[readers:]
        self.flow = KvFlow(
            self.env, lambda tokens: to_ps(copy_s(tokens)),
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

    def _rack(self, index: int) -> Rack:
        spec, fabric = self.spec, self.fabric
        shares = [(r, n / sum(row)) for r, row in enumerate(self.chips_in.tolist()) for n in [row[index]] if n]
        chips = int(np.sum(fabric.rack_of[: fabric.chip_count] == index))
        nodes = -(-chips // spec.node.chips)
        unused = chips - int(self.chips_in[:, index].sum())
        own_hosts = [h for i, h in enumerate(self.hosts) if i % self.rack_count == index]

        def energy_at(now: int) -> float:
            chips_j = sum(self.replicas[r].energy_j(now) * share for r, share in shares)
            return chips_j + sum(host.energy_j() for host in own_hosts)

        fixed = nodes * (spec.host.idle_w + spec.node.fan_w) + unused * spec.chip.power.idle_w
        return Rack(self.env, index, fixed, spec.node.supply_efficiency, energy_at, to_ps(spec.power.sample_s))

    def _power_table(self) -> Table:
        rows = sorted((end, rack.index, length, watts) for rack in self.racks for end, length, watts in rack.rows)
        columns: Sequence[Any] = list(zip(*rows, strict=True)) if rows else [[], [], [], []]
        return {
            "time_s": np.array(columns[0], float) / PS_PER_S, "rack": np.array(columns[1], np.int64),
            "interval_s": np.array(columns[2], float) / PS_PER_S, "power_w": np.array(columns[3], float),
        }


def _classes(spec: Topology, traffic: Traffic) -> tuple[Iterable[Requests] | ClosedLoop, tuple[str, ...], tuple[int, ...]]:
    """The traffic in blocks, the names of its classes and their priorities."""
    if isinstance(traffic, ClosedLoop):
        return traffic, ("default",), (0,)
    blocks = iter([traffic] if isinstance(traffic, Requests) else traffic)
    first = next(blocks, None)
    if first is None:
        return [], ("default",), (0,)
    priority = {entry.name: entry.priority for entry in spec.workload.classes}
    return chain([first], blocks), first.class_names, tuple(priority.get(name, 0) for name in first.class_names)


def _chips_per_rack(fabric: Fabric, replica_chips: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    racks = int(fabric.rack_of.max()) + 1
    return np.array([np.bincount(fabric.rack_of[list(chips)], minlength=racks) for chips in replica_chips])


def _work_limits(spec: Topology, fabric: Fabric, chips_in: NDArray[np.int64]) -> list[float]:
    """Power each replica's chips may add above waiting so that no rack exceeds its cap, shared by chip count.

    Raises CapacityError where waiting alone exceeds the cap.
    """
    cap = spec.power.rack_cap_w
    if not cap:
        return [float("inf")] * len(chips_in)
    per_rack = np.bincount(fabric.rack_of[: fabric.chip_count], minlength=chips_in.shape[1])
    used = chips_in.sum(axis=0)
    base = (
        -(-per_rack // spec.node.chips) * (spec.host.busy_w + spec.node.fan_w)
        + (per_rack - used) * spec.chip.power.idle_w + used * spec.chip.power.wait_w
    )
    room = cap * spec.node.supply_efficiency - base
    if (room <= 0).any():
        need = float(base.max() / spec.node.supply_efficiency)
        raise CapacityError(f"power.rack_cap of {cap:.0f} W: a rack waiting in lock step already draws {need:.0f} W", need, cap)
    # A replica's work is spread evenly over its chips, so its tightest rack sets its pace.
    room_per_chip = room / np.maximum(used, 1)
    return [float(min(room_per_chip[row > 0]) * row.sum()) for row in chips_in]

