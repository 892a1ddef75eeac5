"""The service zoom: traffic through hosts, replicas and racks, event by event."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy
from numpy.typing import NDArray

from dcsim.cluster.host import HostServer
from dcsim.cluster.ledger import PS_PER_S, Ledger, to_ps
from dcsim.cluster.programs import Programs
from dcsim.cluster.rack import Rack
from dcsim.cluster.replica import Replica, ReplicaPower
from dcsim.errors import CapacityError
from dcsim.fabric.graph import Fabric
from dcsim.records import Table
from dcsim.spec.topology import Topology
from dcsim.workload.requests import Requests


@dataclass(frozen=True, slots=True)
class ServiceResult:
    """Tables of one run, its length and the time average of requests in the system."""

    tables: dict[str, Table]
    elapsed_s: float
    concurrency_mean: float


@dataclass(frozen=True, slots=True)
class Placement:
    """Which chips each replica uses and how many tokens of KV cache each replica holds."""

    replica_chips: tuple[tuple[int, ...], ...]
    kv_tokens: int


def serve(
    spec: Topology, fabric: Fabric, placement: Placement, programs: Programs, requests: Requests,
    *, skip: bool = True, progress: Callable[[int], None] | None = None,
) -> ServiceResult:
    """Serve every request, or those that are done `serving.drain` after the last arrival.

    `progress` is called now and then with the number of requests that have reached their end.
    """
    return _Cluster(spec, fabric, placement, programs, requests, skip, progress).run()


class _Cluster:
    """Builds the processes of one run and keeps them together."""

    def __init__(
        self, spec: Topology, fabric: Fabric, placement: Placement, programs: Programs, requests: Requests,
        skip: bool, progress: Callable[[int], None] | None,
    ) -> None:
        self.env = simpy.Environment(initial_time=0)
        self.spec, self.fabric, self.requests, self.progress = spec, fabric, requests, progress
        self.ledger = Ledger(self.env, requests)
        self.rack_count = int(fabric.rack_of.max()) + 1
        self.hosts = [
            HostServer(self.env, i, spec.host, self.ledger, self._route) for i in range(spec.serving.host_servers)
        ]
        self.chips_in = _chips_per_rack(fabric, placement.replica_chips)  # [replica, rack]
        work_w = _work_limits(spec, fabric, self.chips_in)
        power = spec.chip.power
        self.replicas = [
            Replica(
                self.env, i, programs, placement.kv_tokens, spec.serving,
                ReplicaPower(power.idle_w * len(chips), power.wait_w * len(chips), work_w[i]),
                self.ledger, self.hosts[0].reply_ps, skip,
            )
            for i, chips in enumerate(placement.replica_chips)
        ]
        self._next_replica = 0
        self.racks = [self._rack(i) for i in range(self.rack_count)]

    def run(self) -> ServiceResult:
        """Run to the end and collect the tables."""
        env, ledger = self.env, self.ledger
        for rack in self.racks:
            env.process(rack.run())
        end = env.process(self._arrivals())
        env.run(until=end)
        for rack in self.racks:
            rack.sample()
        elapsed_s = env.now / PS_PER_S
        tables = ledger.tables()
        tables["power"] = self._power_table()
        return ServiceResult(tables, elapsed_s, ledger.concurrency_mean())

    def _arrivals(self) -> Generator[simpy.Event, Any, None]:
        """Hand each request to the hosts in turn, then wait until all are done or the drain time is over."""
        env, ledger, hosts = self.env, self.ledger, self.hosts
        times = np.rint(self.requests.arrival_s * PS_PER_S).astype(np.int64).tolist()
        for request, at in enumerate(times):
            if at > env.now:
                yield env.timeout(at - env.now)
            hosts[request % len(hosts)].accept(request)
            if self.progress and request % 256 == 0:
                self.progress(len(ledger.requests) - ledger.open)
        if ledger.open:
            yield ledger.done | env.timeout(to_ps(self.spec.serving.drain_s))
        yield env.timeout(hosts[0].reply_ps)  # the last tokens reach their users

    def _route(self, request: int) -> None:
        """A request stands ready: choose its replica."""
        replicas = self.replicas
        if len(replicas) == 1:
            chosen = 0
        elif self.spec.serving.router == "round_robin":
            chosen, self._next_replica = self._next_replica, (self._next_replica + 1) % len(replicas)
        else:
            chosen = min(range(len(replicas)), key=lambda i: replicas[i].load)
        replicas[chosen].submit(request)

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

