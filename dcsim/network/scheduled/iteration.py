"""One iteration on a scheduled network: compiled, so that its time is known before it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import SpecError
from dcsim.llm.mapping import Mapping
from dcsim.llm.program import Program, Shape, program_of
from dcsim.network.lower import Piece, join, pieces_of
from dcsim.network.patterns.ranks import VectorUnit
from dcsim.network.scheduled.bit_errors import hazard
from dcsim.network.scheduled.compose import Composition, compose
from dcsim.network.scheduled.exchange import exchange_for
from dcsim.network.scheduled.places import Places
from dcsim.network.scheduled.rules import ScheduleRules, figures_of
from dcsim.network.scheduled.schedule import Schedule
from dcsim.network.scheduled.slack import deskew_points, least_slack, longest_stretch, require_slack
from dcsim.network.scheduled.steady import steady
from dcsim.network.tasks import Tasks
from dcsim.network.timing import IterationTime
from dcsim.network.work import work_j
from dcsim.spec.network import ScheduledNetwork
from dcsim.spec.topology import Topology

PROBED = 4  # blocks compiled first to see about how far apart deskew points are


@dataclass(frozen=True, slots=True)
class CompiledIteration:
    """One shape's program, its tasks on chips and their schedule."""

    program: Program
    tasks: Tasks
    schedule: Schedule
    figures: ScheduleRules  # it was compiled with, the slack found for it among them
    slack_needed: int  # cycles that are safe for it
    deskew: NDArray[np.int64]  # cycles at which all chips absorb drift
    time: IterationTime
    piece_starts: NDArray[np.int64]  # first task of each block
    pieces_compiled: int  # how many of these differ


@dataclass(frozen=True, slots=True)
class _Laid:
    """A program's pieces in their places."""

    program: Program
    pieces: list[Piece]
    figures: ScheduleRules
    composition: Composition


def compile_shape(spec: Topology, places: Places, mapping: Mapping, shape: Shape) -> CompiledIteration:
    """Compile one iteration of `shape` on the first replica's chips for the scheduled network, spelled out whole."""
    laid = _compose(spec, places, mapping, shape)
    program, composition, clock = laid.program, laid.composition, scheduled_network(spec).clock
    deskew = _deskew(scheduled_network(spec), program, composition)
    return CompiledIteration(
        program,
        join(laid.pieces, program.clock_hz),
        composition.flatten(),
        laid.figures,
        places.margins(clock).slack_cycles(longest_stretch(deskew, composition.makespan_cycles)),
        deskew,
        _time(spec, laid),
        composition.task_starts(),
        composition.kinds,
    )


@dataclass(frozen=True, slots=True)
class InFlight:
    """One shape's micro-batches, one every interval, as compiled for that: `schedule` of one of them.

    The bound is the longest that a chip or a link is held for one alone.
    """

    tasks: Tasks
    schedule: Schedule
    figures: ScheduleRules
    deskew: NDArray[np.int64]  # cycles at which all chips absorb drift
    interval_cycles: int
    bound_cycles: int


def compile_in_flight(spec: Topology, places: Places, mapping: Mapping, shape: Shape) -> InFlight | None:
    """The steady state of `shape` with as many micro-batches in flight as can be; None where none was found.

    Nor is one looked for where chips are of two stages: what a micro-batch needs of them comes apart in time. Its slack is what
    it needs itself: stages that begin later are further apart.
    """
    if mapping.shared_chips:
        return None
    network, laid = scheduled_network(spec), _compose(spec, places, mapping, shape)
    figures = laid.figures
    while True:
        found = steady(laid.pieces, places, figures)
        if found is None:
            return None
        deskew = _deskew(network, laid.program, found.composition)
        stretch = longest_stretch(deskew, found.composition.makespan_cycles)
        needed = places.margins(network.clock).slack_cycles(stretch)
        if needed <= figures.slack_cycles:
            break
        figures = replace(figures, slack_cycles=needed)
    tasks = join(laid.pieces, laid.program.clock_hz)
    return InFlight(tasks, found.composition.flatten(), figures, deskew, found.interval_cycles, found.bound_cycles)


def _compose(spec: Topology, places: Places, mapping: Mapping, shape: Shape) -> _Laid:
    """Compile a shape's pieces with the least slack that is safe, or with the slack given, if it is enough."""
    network = scheduled_network(spec)
    program = program_of(spec, mapping, shape)
    unit = VectorUnit(round(network.vector_bytes), network.reduce_cycles)
    pieces = pieces_of(program, exchange_for(mapping, places.fabric, unit))
    margins, given = places.margins(network.clock), network.clock.slack_cycles

    def figures(slack: int) -> ScheduleRules:
        return figures_of(network, spec.chip.clock_hz, slack)

    def composed(slack: int) -> Composition:
        return compose(pieces, places, figures(slack))

    def stretch(composition: Composition) -> int:
        return longest_stretch(_deskew(network, program, composition), composition.makespan_cycles)

    if given != "auto":
        composition = composed(given)
        if margins.slack_cycles(stretch(composition)) <= given:
            return _Laid(program, pieces, figures(given), composition)
    # Begun with what the first blocks need, the whole is nearly always compiled once.
    first = compose(pieces[: PROBED + 1], places, figures(margins.slack_cycles(0)))
    begins = first.piece_begins()[-1]
    guess = margins.slack_cycles(longest_stretch(_deskew(network, program, first, begins), begins))
    slack, composition = least_slack(margins, guess, composed, stretch)
    if given != "auto":
        require_slack(given, slack, margins.shown(stretch(composition)))
    return _Laid(program, pieces, figures(slack), composition)


def _deskew(network: ScheduledNetwork, program: Program, composition: Composition, end: int | None = None) -> NDArray[np.int64]:
    """The deskew points of a composition, up to `end`."""
    counts = [len(stage.blocks) for stage in program.stages]
    end = composition.makespan_cycles if end is None else end
    return deskew_points(network.clock, composition.piece_begins(), counts, end)


def scheduled_network(spec: Topology) -> ScheduledNetwork:
    """The spec's network if it is compiled; SpecError if it moves packets."""
    if not isinstance(spec.network, ScheduledNetwork):
        raise SpecError(f"network '{spec.network.name}' moves packets: there is no schedule to compile")
    return spec.network


def scheduled_time(spec: Topology, places: Places, mapping: Mapping, shape: Shape) -> IterationTime:
    """Time of one iteration on the scheduled network: a function of its shape, known before it runs."""
    return _time(spec, _compose(spec, places, mapping, shape))


def _time(spec: Topology, laid: _Laid) -> IterationTime:
    clock_hz, pieces, composition, network = spec.chip.clock_hz, laid.pieces, laid.composition, scheduled_network(spec)
    templates = {id(piece.template): piece.template for piece in pieces}
    joules = {key: work_j(template.tasks, spec.chip.power) for key, template in templates.items()}
    return IterationTime(
        cycles_to_ps(composition.makespan_cycles, clock_hz),
        cycles_to_ps(composition.occupancy_cycles(), clock_hz),
        sum(joules[id(piece.template)] for piece in pieces) + link_energy_j(composition.vector_hops, spec),
        hazard=hazard(network.error_rate, composition.vector_hops, network.vector_wire_bytes),
    )


def cycles_to_ps(cycles: int, clock_hz: float) -> int:
    """An absolute cycle count in picoseconds, to the nearest."""
    return round(cycles * 1e12 / clock_hz)


def link_energy_j(vector_hops: int, spec: Topology) -> float:
    """Energy of that many vectors on one link each."""
    network = scheduled_network(spec)
    return vector_hops * network.vector_wire_bytes * network.link_energy_j
