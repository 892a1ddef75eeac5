"""One iteration on a scheduled network: compiled, so that its time is known before it runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import SpecError
from dcsim.llm.mapping import Mapping
from dcsim.llm.program import Program, Shape, build_program
from dcsim.network.collectives import VectorUnit
from dcsim.network.lower import Piece, join, pieces_of
from dcsim.network.scheduled.compose import Composition, compose
from dcsim.network.scheduled.exchange import exchange_for
from dcsim.network.scheduled.places import Places
from dcsim.network.scheduled.rules import figures_of
from dcsim.network.scheduled.schedule import Schedule
from dcsim.network.tasks import Tasks
from dcsim.network.timing import IterationTime
from dcsim.network.work import work_j
from dcsim.spec.network import ScheduledNetwork
from dcsim.spec.topology import Topology


@dataclass(frozen=True, slots=True)
class Compiled:
    """One shape's program, its tasks on chips and their schedule."""

    program: Program
    tasks: Tasks
    schedule: Schedule
    time: IterationTime
    piece_starts: NDArray[np.int64]  # first task of each block
    pieces_compiled: int  # how many of these differ


def compile_shape(spec: Topology, places: Places, mapping: Mapping, shape: Shape) -> Compiled:
    """Compile one iteration of `shape` on the first replica's chips for the scheduled network, spelled out whole."""
    program, pieces, composition = _compose(spec, places, mapping, shape)
    tasks, schedule, starts = join(pieces, program.clock_hz), composition.flatten(), composition.task_starts()
    return Compiled(program, tasks, schedule, _time(spec, pieces, composition), starts, composition.kinds)


def _compose(spec: Topology, places: Places, mapping: Mapping, shape: Shape) -> tuple[Program, list[Piece], Composition]:
    network = scheduled_network(spec)
    program = build_program(spec.llm, mapping, spec.chip, shape)
    unit = VectorUnit(round(network.vector_bytes), network.reduce_cycles)
    pieces = pieces_of(program, exchange_for(mapping, places.fabric, unit))
    return program, pieces, compose(pieces, places, figures_of(network, spec.chip.clock_hz))


def scheduled_network(spec: Topology) -> ScheduledNetwork:
    """The spec's network if it is compiled; SpecError if it moves packets."""
    if not isinstance(spec.network, ScheduledNetwork):
        raise SpecError(f"network '{spec.network.name}' moves packets: there is no schedule to compile")
    return spec.network


def scheduled_time(spec: Topology, places: Places, mapping: Mapping, shape: Shape) -> IterationTime:
    """Time of one iteration on the scheduled network: a function of its shape, known before it runs."""
    _, pieces, composition = _compose(spec, places, mapping, shape)
    return _time(spec, pieces, composition)


def _time(spec: Topology, pieces: list[Piece], composition: Composition) -> IterationTime:
    clock_hz = spec.chip.clock_hz
    templates = {id(piece.template): piece.template for piece in pieces}
    joules = {key: work_j(template.tasks, spec.chip.power) for key, template in templates.items()}
    return IterationTime(
        cycles_to_ps(composition.makespan_cycles, clock_hz),
        cycles_to_ps(composition.occupancy_cycles(), clock_hz),
        sum(joules[id(piece.template)] for piece in pieces) + link_energy_j(composition.vector_hops, spec),
    )


def cycles_to_ps(cycles: int, clock_hz: float) -> int:
    """An absolute cycle count in picoseconds, to the nearest."""
    return round(cycles * 1e12 / clock_hz)


def link_energy_j(vector_hops: int, spec: Topology) -> float:
    """Energy of that many vectors on one link each."""
    network = scheduled_network(spec)
    return vector_hops * network.vector_wire_bytes * network.link_energy_j
