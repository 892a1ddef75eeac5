"""A scheduled network in place: its iterations, collectives and copies are known before they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import FabricError, Problem, SpecError
from dcsim.fabric.graph import Fabric
from dcsim.llm.mapping import Mapping
from dcsim.llm.program import Shape
from dcsim.network.bill import NetworkBill, Units, count_cables, most_ports, optical_ends
from dcsim.network.collectives import add_collective, choose, levels_of
from dcsim.network.patterns.ranks import VectorUnit
from dcsim.network.scheduled.breakdown import breakdown_cycles
from dcsim.network.scheduled.iteration import (
    CompiledIteration,
    InFlight,
    compile_in_flight,
    compile_shape,
    cycles_to_ps,
    scheduled_time,
)
from dcsim.network.scheduled.places import Places
from dcsim.network.scheduled.proof import prove, prove_repeated
from dcsim.network.scheduled.rules import ScheduleRules, figures_of, require_alike
from dcsim.network.scheduled.schedule import Schedule, compile_schedule
from dcsim.network.scheduled.slack import least_slack, require_slack
from dcsim.network.tasks import TaskBuilder, Tasks
from dcsim.network.timing import BREAKDOWN, Exchanged, InFlightTime, Iterations, IterationTime, Spans
from dcsim.network.wires import Wires
from dcsim.spec.network import ScheduledNetwork
from dcsim.spec.price import TcoPrices
from dcsim.spec.topology import Topology


@dataclass(frozen=True)
class CompiledNetwork:
    """See `network.Network`. `places` are where pieces of programs run: found once, for all shapes and mappings."""

    spec: Topology
    fabric: Fabric
    network: ScheduledNetwork
    places: Places
    mapping: Mapping | None = None

    @classmethod
    def make(cls, spec: Topology, bare: Fabric, mapping: Mapping | None = None) -> CompiledNetwork:
        """The network of `spec`, whose links are the chips' own cables. Raises FabricError where they differ, SpecError
        where its clocks' slack is less than any program needs."""
        require_alike(bare)
        assert isinstance(spec.network, ScheduledNetwork)
        if spec.mapping.experts == "visited":
            what = "'visited' is known at run time only, and a schedule is fixed before"
            raise SpecError(Problem("mapping.experts", what, "use all, capacity, routed or own_chips, or a packet network"))
        places, clock = Places(bare), spec.network.clock
        if clock.slack_cycles != "auto":  # no program needs less than one without any length
            margins = places.margins(clock)
            require_slack(clock.slack_cycles, margins.slack_cycles(0), f"at the least, {margins.shown(0)}")
        return cls(spec, bare, spec.network, places, mapping)

    @property
    def bare(self) -> Fabric:
        """The fabric itself: nothing is added."""
        return self.fabric

    def laid(self, mapping: Mapping) -> CompiledNetwork:
        """The same network under an LLM laid over its chips."""
        return replace(self, mapping=mapping)

    def times(self, shape: Shape, *, parts: bool = False) -> tuple[IterationTime, ...]:
        """The one time of `shape`."""
        return (self.time(shape, parts=parts),)

    def time(self, shape: Shape, *, parts: bool = False, few: bool = False) -> IterationTime:
        """Time of one iteration of `shape`: where it goes takes the whole schedule, spelled out."""
        if parts:
            return self.iterations(shape).mean()
        return scheduled_time(self.spec, self.places, self._mapping, shape)

    def iterations(self, shape: Shape, count: int = 0, *, packets_max: int = 0) -> Iterations:
        """One iteration, which all others are like, with where its time goes."""
        compiled = self.schedule(shape)
        cycles = breakdown_cycles(compiled.tasks, compiled.schedule, compiled.figures)
        time = compiled.time
        return Iterations(
            np.array([time.latency_ps]),
            np.array([time.occupancy_ps]),
            np.array([time.work_j]),
            np.array([[cycles[part] * 1e12 / compiled.figures.clock_hz for part in BREAKDOWN]]),
            hazard=time.hazard,
        )

    def spans(self, shape: Shape) -> Spans:
        """The tasks of one iteration and when each begins and ends."""
        compiled, hz = self.schedule(shape), self.spec.chip.clock_hz
        return Spans(compiled.tasks, compiled.schedule.start / hz, compiled.schedule.last_out / hz)

    def link_busy_s(self, shape: Shape) -> NDArray[np.float64]:
        """[link] time taken by its vectors in one iteration."""
        return self.schedule(shape).schedule.link_cycles(self.fabric.link_count) / self.spec.chip.clock_hz

    def link_queue_bytes(self, shape: Shape) -> NDArray[np.int64]:
        """[link] none: a vector comes when its link is free."""
        return np.zeros(self.fabric.link_count, np.int64)

    def schedule(self, shape: Shape) -> CompiledIteration:
        """The compiled schedule of one iteration."""
        return compile_shape(self.spec, self.places, self._mapping, shape)

    def in_flight(self, shape: Shape) -> InFlight | None:
        """The steady state of `shape`: micro-batches at the least interval found; None where none was found."""
        return compile_in_flight(self.spec, self.places, self._mapping, shape)

    def times_in_flight(self) -> Callable[[Shape], InFlightTime | None]:
        """The times of that steady state, proved before they are told."""
        return self._time_in_flight

    def _time_in_flight(self, shape: Shape) -> InFlightTime | None:
        found = self.in_flight(shape)
        if found is None:
            return None
        prove(found.schedule, found.tasks, self.fabric, found.figures)
        prove_repeated(found.schedule, found.tasks, self.fabric, found.interval_cycles)
        hz = self.spec.chip.clock_hz
        return InFlightTime(cycles_to_ps(found.interval_cycles, hz), cycles_to_ps(found.schedule.makespan_cycles, hz))

    def lockstep(self) -> NoReturn:
        """There is none: chips run what was compiled."""
        what = f"network '{self.spec.network.name}' runs compiled programs: a serving engine has nothing to decide there"
        mend = "leave serving.engine out, or name a network of packets with --interconnect"
        raise SpecError(Problem("serving.engine", what, mend))

    def collective(
        self, op: str, size_bytes: int, chips: Sequence[int], algorithm: str = "auto", protocol: str = "auto"
    ) -> Exchanged:
        """One collective, compiled and proved; there are no protocols, since everybody knows when data is there."""
        if protocol != "auto":
            raise FabricError(f"network '{self.network.name}' is compiled: there is no protocol '{protocol}' on it")
        levels, clock_hz = levels_of(self.fabric, chips), self.spec.chip.clock_hz
        builder = TaskBuilder(clock_hz)
        unit = VectorUnit(round(self.network.vector_bytes), self.network.reduce_cycles)
        if op == "send":
            if algorithm not in ("auto", "direct"):
                raise FabricError(f"a message is sent as it is: no algorithm '{algorithm}' for 'send'")
            algorithm = "direct"
            builder.message(chips[0], chips[-1], size_bytes, [])
        else:
            add_collective(builder, op, chips, size_bytes, [[] for _ in chips], unit, levels, algorithm)
        tasks = builder.build()
        schedule, figures = self.alone(tasks)
        prove(schedule, tasks, self.fabric, figures)
        return Exchanged(
            choose(op, len(chips), levels) if algorithm == "auto" else algorithm,
            (schedule.makespan_cycles / clock_hz,),
            int((tasks.size_bytes > 0).sum()),
            {"cycles": schedule.makespan_cycles, "vector_hops": schedule.vector_hops},
        )

    def alone(self, tasks: Tasks) -> tuple[Schedule, ScheduleRules]:
        """A program of one piece, alone on the network, and the figures it was compiled with: drift is absorbed at its epoch."""
        margins, given = self.places.margins(self.network.clock), self.network.clock.slack_cycles
        slack, schedule = least_slack(
            margins,
            margins.slack_cycles(0),
            lambda slack: compile_schedule(tasks, self.fabric, self._figures(slack)),
            lambda schedule: schedule.makespan_cycles,
        )
        if given == "auto":
            return schedule, self._figures(slack)
        require_slack(given, slack, margins.shown(schedule.makespan_cycles))
        return compile_schedule(tasks, self.fabric, self._figures(given)), self._figures(given)

    def recompile_s(self, programs: int) -> float:
        """One program after another: what passes through a node has other links where its spare stands."""
        return programs * self.network.compile_s

    def wires(self) -> Wires:
        """What each link takes to carry vectors."""
        figures = self.figures

        def every_link(cycles: int, per_s: float) -> NDArray[np.int64]:
            return np.full(self.fabric.link_count, round(cycles * per_s / figures.clock_hz), np.int64)

        hop_cycles = figures.hop_cycles + figures.forward_cycles
        ends_cycles = figures.path_cycles(1) - hop_cycles - figures.slot_cycles
        return Wires(
            figures.vector_bytes,
            every_link(figures.slot_cycles, 1e15),
            every_link(hop_cycles, 1e12),
            round(ends_cycles * 1e12 / figures.clock_hz),
        )

    def link_payload_bytes_per_s(self) -> NDArray[np.float64]:
        """[link] payload one way: a vector each slot."""
        figures = self.figures
        return np.full(self.fabric.link_count, figures.vector_bytes * figures.clock_hz / figures.slot_cycles)

    def bill(self, prices: TcoPrices | None = None) -> NetworkBill:
        """Cables and optical ends; the ports are the chips' own."""
        cables = count_cables(self.fabric)
        return NetworkBill(
            adapters=0,
            switch_ports=0,
            switches=0,
            cables=cables,
            chip_cables=cables,
            optical_ends=optical_ends(self.fabric, self.spec.power.copper_m),
            units=Units(self.network, prices or self.network.prices),
            chip_bytes_per_s=most_ports(self.fabric) * self.network.bandwidth_bytes_per_s,
        )

    def conditions(self) -> dict[str, str | None]:
        """It has none of a packet network's."""
        return dict.fromkeys(("fairness", "jitter", "jitter_description"))

    @property
    def figures(self) -> ScheduleRules:
        """Its figures in cycles of the chip clock, for vectors of no program: with the slack of points `deskew_cycles` apart."""
        clock = self.network.clock
        if clock.slack_cycles != "auto":
            return self._figures(clock.slack_cycles)
        return self._figures(self.places.margins(clock).slack_cycles(clock.deskew_cycles))

    def _figures(self, slack_cycles: int) -> ScheduleRules:
        return figures_of(self.network, self.spec.chip.clock_hz, slack_cycles)

    @property
    def _mapping(self) -> Mapping:
        assert self.mapping is not None, "no LLM is laid over this network"
        return self.mapping
