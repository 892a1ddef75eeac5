"""The service zoom as SimPy's processes: every host, replica, rack, transfer, user and fault of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dcsim.cluster.admission import Limits
from dcsim.cluster.engine_programs import AnyPrograms, EnginePrograms
from dcsim.cluster.live import LiveState
from dcsim.cluster.marks import Marks, error_draws
from dcsim.cluster.placement import Placement
from dcsim.cluster.rows import round_rows
from dcsim.cluster.setup import FOLLOWED, ReplicaSetup
from dcsim.cluster.simpy.arrivals import open_loop, table_requests
from dcsim.cluster.simpy.capping import CappedMeters
from dcsim.cluster.simpy.client import Patience
from dcsim.cluster.simpy.dispatch import Dispatcher
from dcsim.cluster.simpy.environment import END, Environment, Process
from dcsim.cluster.simpy.faults import Faults
from dcsim.cluster.simpy.host import HostServer
from dcsim.cluster.simpy.ledger import Ledger
from dcsim.cluster.simpy.link import KvTransfers
from dcsim.cluster.simpy.pace import DrawPlaces
from dcsim.cluster.simpy.rack import Rack
from dcsim.cluster.simpy.replica import Replica
from dcsim.cluster.simpy.speculation import Drafts
from dcsim.cluster.simpy.users import Users
from dcsim.fabric.graph import Fabric
from dcsim.power.caps import caps_of
from dcsim.power.hosts import token_pj
from dcsim.power.rack import meters, power_table
from dcsim.power.site import Site
from dcsim.results.records import Table, TableWriter
from dcsim.spec.topology import Topology
from dcsim.units import PS_PER_S, to_ps
from dcsim.workload.closed import ClosedLoop
from dcsim.workload.requests import Requests
from dcsim.workload.streams import stream

if TYPE_CHECKING:
    from dcsim.cluster.simpy.chips import Chips


class Cluster:
    """Builds the processes of one run and keeps them together. `run` may be called once."""

    def __init__(
        self,
        spec: Topology,
        fabric: Fabric,
        placement: Placement,
        programs: AnyPrograms,
        traffic: Iterator[Requests] | ClosedLoop,
        names: tuple[str, ...],
        priorities: tuple[int, ...],
        rows: TableWriter,
        *,
        skip: bool,
        seed: int,
        record_rounds: bool,
        progress: Callable[[int], None] | None,
        watch: Callable[[LiveState], None] | None = None,
        chips: Chips | None = None,
    ) -> None:
        self.env = env = chips.env if chips else Environment()
        self._spec, self._traffic, self._priorities = spec, traffic, priorities
        serving, replica_chips = spec.serving, placement.replica_chips
        interval_ps = to_ps(spec.power.sample_s)
        self.ledger = Ledger(env, rows, interval_ps, names)
        ahead = serving.speculation.draft_tokens if serving.speculation else 0
        limits = Limits(spec.llm.context_max, placement.room, programs.context_max, ahead)
        patience = Patience(serving)
        self._progress, self._watch = progress, watch
        told = self._tell if progress or watch else None
        self._desk = desk = Dispatcher(env, spec, self.ledger, limits, patience, len(replica_chips), told)
        self.hosts = desk.hosts = [
            HostServer(env, i, spec.host, self.ledger, desk.route, desk.recover) for i in range(serving.host_servers)
        ]
        self._rounds: list[tuple[int, ...]] | None = [] if record_rounds else None
        room = placement.room
        setup = ReplicaSetup(
            programs,
            room,
            serving,
            priorities,
            to_ps(spec.chip.program_switch_s) if spec.chip.kind == "lpu" else 0,
            self.hosts[0].reply_ps,
            token_pj(spec.host),
            skip and not chips,
            Drafts(serving.speculation, seed) if serving.speculation else None,
            self._rounds,
            chips,
            lambda tokens: to_ps(spec.host.bus_s + max(room.chip_bytes(tokens), default=0) / spec.host.bus_bandwidth_bytes_per_s),
        )
        reading = setup
        if placement.reading_room is not None and isinstance(programs, EnginePrograms) and programs.reading is not None:
            reading = replace(setup, programs=programs.reading, room=placement.reading_room)
        setups = [reading if i < serving.prefill_replicas else setup for i in range(len(replica_chips))]
        self.replicas = desk.replicas = [
            Replica(
                env,
                i,
                replace(own, chips=None) if i != FOLLOWED else own,
                DrawPlaces(stream(seed, f"replica.{i}.iterations"), serving.draw_block),
                Marks(error_draws(seed, i)),
                self.ledger,
                patience,
                desk,
            )
            for i, own in enumerate(setups)
        ]
        chips_in = placement.site.chips_in(replica_chips)
        self.racks = [
            Rack(env, i, meter, interval_ps, self.replicas, self.hosts)
            for i, meter in enumerate(meters(placement.site, chips_in))
        ]
        self._links = placement.copies() if serving.prefill_replicas and placement.copies else None
        self._part_pools(serving.prefill_replicas)
        self._cap(placement.site, chips_in)
        reload_ps = to_ps(placement.weight_bytes / spec.host.bus_bandwidth_bytes_per_s)
        replicas, hosts = ([part.process for part in parts] for parts in (self.replicas, self.hosts))
        recompile_ps = to_ps(placement.recompile_s)
        self._faults = Faults(env, spec.faults, fabric, replica_chips, reload_ps, recompile_ps, replicas, hosts)
        self._faults.start(seed)

    def _tell(self, closed: int) -> None:
        """How far the run is, to those who asked."""
        if self._progress:
            self._progress(closed)
        if self._watch:
            decoding = tuple(replica.decoding for replica in self.replicas)
            rack_w = tuple(watts for rack in self.racks for watts in rack.latest_w())
            self._watch(LiveState(self.env.now / PS_PER_S, closed, self.ledger.in_system, decoding, rack_w))

    def run(self) -> tuple[dict[str, Table], int, float, float]:
        """Run to the end; the tables, its time in ps, the mean of requests in the system, the share of time replicas work."""
        env, ledger, racks = self.env, self.ledger, self.racks
        env.run(until=env.process(self._end()))
        for rack in racks:  # before replicas end their rounds
            rack.close_out()
        for replica in self.replicas:
            replica.close_out()
        for host in self.hosts:
            host.close_out()
        tables = ledger.tables()
        tables |= {
            "power": power_table([rack.meter for rack in racks], racks[0].ends_ps, racks[0].lengths_ps),
            "faults": self._faults.table(),
        }
        if self._links:
            tables["kv_links"] = self._links.table()
        if self._rounds is not None:
            tables["rounds"] = round_rows(self._rounds)
        down_ps = sum(replica.down_ps for replica in self.replicas)
        availability = 1 - down_ps / (len(self.replicas) * max(1, env.now))
        return tables, env.now, ledger.concurrency_mean(), availability

    def _end(self) -> Process:
        """The run's own process: all requests come, then all are done or the drain time is over, and the duration has passed."""
        env, ledger, traffic, arrive = self.env, self.ledger, self._traffic, self._desk.arrive
        if isinstance(traffic, ClosedLoop):
            Users(env, traffic, ledger, arrive)
            if traffic.duration_s:
                yield ledger.done | env.timeout(to_ps(traffic.duration_s))
        else:
            yield env.process(open_loop(env, table_requests(traffic, self._priorities), ledger, arrive))
        drain_ps, endless = to_ps(self._spec.serving.drain_s), isinstance(traffic, ClosedLoop) and not traffic.duration_s
        while not ledger.done.triggered:
            closed = ledger.closed
            yield ledger.done | env.timeout(drain_ps)
            if not endless or ledger.closed == closed:  # users without an end go on while answers come
                break
        # The last tokens reach their users, and the workload's duration passes.
        yield env.moment(max(self.hosts[0].reply_ps, to_ps(self._spec.workload.duration_s) - env.now), END)

    def _part_pools(self, readers: int) -> None:
        """Where prefill and decode are apart, let KV go from the ones to the others."""
        if not readers:
            return
        send = self._links.send if self._links else _at_once
        self._desk.transfers = KvTransfers(self.env, send, self._desk.choose_decoder, self._desk.recover)
        self._desk.transfers.connect(self.replicas[:readers], self.replicas[readers:])

    def _cap(self, site: Site, chips_in: NDArray[np.int64]) -> None:
        """Where meters have caps, let replicas ask how long their rounds take, and hosts say when they draw more."""
        caps = caps_of(site, chips_in)
        if not len(caps.room_w):
            return
        capped = CappedMeters(self.env, caps, self.hosts, lambda replica: self.replicas[replica].rouse())
        for replica in self.replicas:
            replica.caps = capped
        for host in self.hosts:
            host.on_busy = capped.draws_more


def _at_once(source: int, target: int, tokens: int, now: int) -> int:
    return now
