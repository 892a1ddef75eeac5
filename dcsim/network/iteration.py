"""Times one iteration on the network a spec names: the one question both siblings answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import SpecError
from dcsim.fabric.graph import Fabric
from dcsim.llm.mapping import Mapping
from dcsim.llm.program import Program, Shape, build_program
from dcsim.network.collectives import VectorUnit
from dcsim.network.exchange import exchange_for
from dcsim.network.lower import lower
from dcsim.network.scheduled.figures import figures_of
from dcsim.network.scheduled.schedule import Schedule, compile_schedule
from dcsim.network.tasks import ATTENTION, COMPUTE, MATRIX, MESSAGE, PARTS, VECTOR, WAIT, Tasks
from dcsim.network.timing import IterationTime
from dcsim.spec.network import ScheduledNetwork
from dcsim.spec.topology import Topology


@dataclass(frozen=True, slots=True)
class Compiled:
    """One shape's program, its tasks on chips and their schedule; `block_starts` are the first tasks of its blocks."""

    program: Program
    tasks: Tasks
    schedule: Schedule
    block_starts: tuple[int, ...]


def compile_shape(spec: Topology, fabric: Fabric, mapping: Mapping, shape: Shape) -> Compiled:
    """Compile one iteration of `shape` on the first replica's chips for the scheduled network."""
    network, chip = scheduled_network(spec), spec.chip
    program = build_program(spec.llm, mapping, chip, shape)
    unit = VectorUnit(round(network.vector_bytes), network.reduce_cycles)
    starts: list[int] = []
    tasks = lower(program, exchange_for(mapping, fabric, unit), starts)
    return Compiled(program, tasks, compile_schedule(tasks, fabric, figures_of(network, chip.clock_hz)), tuple(starts))


def scheduled_network(spec: Topology) -> ScheduledNetwork:
    """The spec's network if it is compiled; SpecError if it moves packets."""
    if not isinstance(spec.network, ScheduledNetwork):
        raise SpecError(f"network '{spec.network.name}' moves packets: there is no schedule to compile")
    return spec.network


def scheduled_time(spec: Topology, fabric: Fabric, mapping: Mapping, shape: Shape) -> IterationTime:
    """Time of one iteration on the scheduled network: a function of its shape, known before it runs."""
    return compiled_time(spec, fabric, compile_shape(spec, fabric, mapping, shape))


def compiled_time(spec: Topology, fabric: Fabric, compiled: Compiled) -> IterationTime:
    """What a compiled iteration takes."""
    clock_hz, schedule = spec.chip.clock_hz, compiled.schedule
    return IterationTime(
        cycles_to_ps(schedule.makespan_cycles, clock_hz),
        cycles_to_ps(occupancy_cycles(compiled.tasks, schedule, fabric.chip_count), clock_hz),
        work_energy_j(compiled.tasks, spec) + link_energy_j(schedule, spec),
    )


def cycles_to_ps(cycles: int, clock_hz: float) -> int:
    """An absolute cycle count in picoseconds, to the nearest."""
    return round(cycles * 1e12 / clock_hz)


def occupancy_cycles(tasks: Tasks, schedule: Schedule, chip_count: int) -> int:
    """Cycles between the first start and the last output of the chip that is busy longest.

    The next micro-batch may follow that much later; what a stage hands on travels meanwhile.
    """
    compute = (tasks.kind == COMPUTE) & (tasks.last_cycles > 0)  # a task without length only joins others
    chips = tasks.chip[compute]
    begin = np.full(chip_count, np.iinfo(np.int64).max)
    end = np.zeros(chip_count, np.int64)
    np.minimum.at(begin, chips, schedule.start[compute])
    np.maximum.at(end, chips, schedule.last_out[compute])
    used = end > 0
    return int((end - begin)[used].max(initial=0))


def work_energy_j(tasks: Tasks, spec: Topology) -> float:
    """Energy of all operations above the waiting draw of the chips they run on."""
    power = spec.chip.power
    above_w = np.zeros(8)
    above_w[MATRIX] = power.matrix_w - power.wait_w
    above_w[ATTENTION] = above_w[VECTOR] = power.vector_w - power.wait_w
    seconds = np.bincount(tasks.part, tasks.last_cycles, 8) / tasks.clock_hz
    return float(seconds @ above_w)


def link_energy_j(schedule: Schedule, spec: Topology) -> float:
    """Energy of all vectors on all links."""
    network = scheduled_network(spec)
    return schedule.vector_hops * network.vector_wire_bytes * network.link_energy_j


TimeShape = Callable[[Topology, Fabric, Mapping, Shape], IterationTime]


def packet_time(spec: Topology, fabric: Fabric, mapping: Mapping, shape: Shape) -> IterationTime:
    """Mean time of one iteration on the packet network."""
    from dcsim.network.packet_iteration import packet_time

    return packet_time(spec, fabric, mapping, shape)


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
