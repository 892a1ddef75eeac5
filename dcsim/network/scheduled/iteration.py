"""Times one iteration on the network a spec names: the one question both siblings answer."""

from __future__ import annotations

from collections.abc import Callable
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
from dcsim.network.tasks import ATTENTION, MATRIX, MESSAGE, PARTS, VECTOR, WAIT, Tasks
from dcsim.network.timing import IterationTime
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


def scheduled_time(spec: Topology, places: Places, mapping: Mapping, shape: Shape, seed: int = 1) -> IterationTime:
    """Time of one iteration on the scheduled network: a function of its shape, known before it runs, whatever the seed."""
    _, pieces, composition = _compose(spec, places, mapping, shape)
    return _time(spec, pieces, composition)


def _time(spec: Topology, pieces: list[Piece], composition: Composition) -> IterationTime:
    clock_hz = spec.chip.clock_hz
    templates = {id(piece.template): piece.template for piece in pieces}
    work_j = {key: work_energy_j(template.tasks, spec) for key, template in templates.items()}
    return IterationTime(
        cycles_to_ps(composition.makespan_cycles, clock_hz),
        cycles_to_ps(composition.occupancy_cycles(), clock_hz),
        sum(work_j[id(piece.template)] for piece in pieces) + link_energy_j(composition.vector_hops, spec),
    )


def cycles_to_ps(cycles: int, clock_hz: float) -> int:
    """An absolute cycle count in picoseconds, to the nearest."""
    return round(cycles * 1e12 / clock_hz)


def work_energy_j(tasks: Tasks, spec: Topology) -> float:
    """Energy of all operations above the waiting draw of the chips they run on."""
    power = spec.chip.power
    above_w = np.zeros(8)
    above_w[MATRIX] = power.matrix_w - power.wait_w
    above_w[ATTENTION] = above_w[VECTOR] = power.vector_w - power.wait_w
    seconds = np.bincount(tasks.part, tasks.last_cycles, 8) / tasks.clock_hz
    return float(seconds @ above_w)


def link_energy_j(vector_hops: int, spec: Topology) -> float:
    """Energy of that many vectors on one link each."""
    network = scheduled_network(spec)
    return vector_hops * network.vector_wire_bytes * network.link_energy_j


TimeShape = Callable[[Topology, Places, Mapping, Shape, int], IterationTime]


def packet_time(spec: Topology, places: Places, mapping: Mapping, shape: Shape, seed: int) -> IterationTime:
    """Mean time of one iteration on the packet network."""
    from dcsim.network.packet.iteration import packet_time

    return packet_time(spec, places.fabric, mapping, shape, seed)


# How an iteration is timed, by the network's kind.
TIMES: dict[str, TimeShape] = {"scheduled": scheduled_time, "packet": packet_time}


def critical_parts(tasks: Tasks, schedule: Schedule, send_cycles: int) -> NDArray[np.int64]:
    """Cycles of the makespan by part of `tasks.PARTS`; they sum to the makespan."""
    parts = np.zeros(len(PARTS), np.int64)
    for _, part, cycles in critical_path(tasks, schedule, send_cycles):
        parts[part] += cycles
    return parts


def critical_path(tasks: Tasks, schedule: Schedule, send_cycles: int) -> list[tuple[int, int, int]]:
    """(task, part, cycles) along the critical path, from its end: walked back along what each task waited for.

    Where a predecessor's output still streams in after a task has started, only the time since its end is the task's.
    The cycles sum to the makespan.
    """
    booked: list[tuple[int, int, int]] = []
    start, first, last = schedule.start, schedule.first_out, schedule.last_out
    if not len(start):
        return booked
    leaves = _first_departures(schedule, len(start))
    task = int(last.argmax())
    now = int(last[task])
    while True:
        part = int(tasks.part[task])
        before = tasks.before[tasks.before_start[task] : tasks.before_start[task + 1]]
        streaming = before[last[before] > start[task]]
        if len(streaming) and now == last[task] and _tail_bound(tasks, schedule, task):
            producer = int(streaming[last[streaming].argmax()])
            booked.append((task, part, now - int(last[producer])))
            task, now = producer, int(last[producer])
            continue
        began = int(start[task])
        if tasks.kind[task] == MESSAGE:
            queued = max(0, min(int(leaves[task]) - send_cycles - began, now - began))
            booked.append((task, WAIT, queued))
            began += queued
        booked.append((task, part, now - began))
        now = int(start[task])
        if not len(before):
            booked.append((task, WAIT, now))
            return booked
        lead, rows = int(tasks.lead_rows[task]), int(tasks.rows[task])
        ready = first[before] + (last[before] - first[before]) * lead // rows
        binding = int(ready.argmax())
        booked.append((task, WAIT, now - int(ready[binding])))
        task, now = int(before[binding]), int(ready[binding])


def _tail_bound(tasks: Tasks, schedule: Schedule, task: int) -> bool:
    """Whether a task ended when it did because its input still streamed in."""
    if tasks.kind[task] == MESSAGE:
        return True
    return bool(schedule.last_out[task] > schedule.start[task] + tasks.last_cycles[task])


def _first_departures(schedule: Schedule, count: int) -> NDArray[np.int64]:
    """[task] cycle in which a message's first vector leaves its source; 0 for other tasks."""
    leaves = np.full(count, np.iinfo(np.int64).max)
    flows = np.flatnonzero(schedule.hops)
    np.minimum.at(leaves, schedule.flow_task[flows], schedule.burst_start[schedule.burst_offset[flows]])
    leaves[leaves == np.iinfo(np.int64).max] = 0
    return leaves
