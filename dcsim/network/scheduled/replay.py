"""A schedule carried out: every chip and every link a process, each chip on its own clock.

A chip holds a list of instructions with program cycles: start an operation, send a burst. A link computes when
what it was given arrives, and finds out whether the reader already had to have it. Outputs are computed from
what truly arrived, so the finish is a result, not the schedule's answer read back.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy

from dcsim.errors import ScheduleError
from dcsim.fabric.graph import Fabric
from dcsim.network.scheduled.clocks import TICKS, Clocks, perfect_clocks
from dcsim.network.scheduled.inbox import Inbox
from dcsim.network.scheduled.rules import Figures
from dcsim.network.scheduled.schedule import Schedule
from dcsim.network.tasks import COMPUTE, Tasks

OPERATE, SEND = 0, 1
Instruction = tuple[int, int, int, int]  # program cycle, OPERATE or SEND, task or burst, tick on the chip's clock


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """`cycles` in program cycles, to compare with the makespan; `finish_s` on the root chip's clock."""

    cycles: int
    finish_s: float
    processes: int
    bursts: int
    margin_cycles_min: float  # least time any vector was there before its reader needed it; inf: none sent


class _Replay:
    """State of one replay: what each burst is, and the least margin met."""

    def __init__(
        self, schedule: Schedule, tasks: Tasks, fabric: Fabric, figures: Figures, clocks: Clocks, late_links: dict[int, int]
    ) -> None:
        self.env = simpy.Environment()
        self.inbox = Inbox(tasks, figures)
        self.figures, self.late_links = figures, late_links
        link, start = schedule.burst_link, schedule.burst_start
        flow = np.repeat(np.arange(len(schedule.flow_task)), schedule.hops)
        last = start + ((schedule.vectors - 1) * schedule.stride)[flow]
        read = figures.hop_cycles
        sender, reader = fabric.link_source[link], fabric.link_target[link]
        self.link, self.start, self.last = link.tolist(), start.tolist(), last.tolist()
        self.leave_last = clocks.ticks(sender, last).tolist()
        self.read_first = clocks.ticks(reader, start + read).tolist()
        self.read_last = clocks.ticks(reader, last + read).tolist()
        jitter = np.zeros(len(link), np.int64) if clocks.jitter_ticks is None else clocks.jitter_ticks
        self.delay = (figures.link_cycles * TICKS + jitter).tolist()
        self.flow, self.flow_task = flow.tolist(), schedule.flow_task.tolist()
        self.first_burst = schedule.burst_offset.tolist()
        self.first_vector, self.step = schedule.first_vector.tolist(), schedule.vector_step.tolist()
        self.vectors, self.stride = schedule.vectors.tolist(), schedule.stride.tolist()
        self.arrived: dict[int, int] = {}  # burst -> program cycle at which its reader has the first vector
        self.wake: dict[int, simpy.Event] = {}
        self.given: defaultdict[int, list[int]] = defaultdict(list)
        self.margin_ticks = 1 << 62

    def chip(self, program: list[Instruction]) -> Generator[simpy.Event, Any, None]:
        """Carry out one chip's own list, each instruction in its cycle."""
        for cycle, what, item, tick in program:
            if tick > self.env.now:
                yield self.env.timeout(tick - self.env.now)
            if what == OPERATE:
                self.inbox.start(item, cycle)
            else:
                self.send(item, cycle)

    def send(self, burst: int, cycle: int) -> None:
        """Hand a burst to its link, if its first vector is at hand."""
        flow = self.flow[burst]
        if burst == self.first_burst[flow]:
            last_vector = self.first_vector[flow] + (self.vectors[flow] - 1) * self.step[flow]
            self.inbox.leave(self.flow_task[flow], self.first_vector[flow], cycle, last_vector, self.last[burst])
        elif burst - 1 not in self.arrived or self.arrived[burst - 1] + self.figures.forward_cycles > cycle:
            raise ScheduleError(
                f"chip forwards over link {self.link[burst]} in cycle {cycle} what it does not have",
                "early_send",
                self.link[burst],
                cycle,
            )
        link = self.link[burst]
        self.given[link].append(burst)
        if not self.wake[link].triggered:
            self.wake[link].succeed()

    def carry(self, link: int) -> Generator[simpy.Event, Any, None]:
        """A link: find when what it is given arrives, and whether its reader then has it in time; then wait once."""
        env = self.env
        extra = self.late_links.get(link, 0) * TICKS
        while True:
            self.wake[link] = env.event()
            yield self.wake[link]
            for burst in self.given.pop(link):
                delay = self.delay[burst] + extra
                there = max(env.now, self.leave_last[burst]) + delay
                self.check_margin(burst, self.read_first[burst] - env.now - delay, self.start[burst])
                self.check_margin(burst, self.read_last[burst] - there, self.last[burst])
                if burst + 1 == self.first_burst[self.flow[burst] + 1]:
                    env.timeout(there - env.now, burst).callbacks.append(self.deliver)
                else:
                    env.timeout(delay, burst).callbacks.append(self.pass_on)

    def check_margin(self, burst: int, margin_ticks: int, cycle: int) -> None:
        """Fail loudly when the reader is to have a vector before it will be there."""
        if margin_ticks < self.margin_ticks:
            self.margin_ticks = margin_ticks
            if margin_ticks < 0:
                read = cycle + self.figures.hop_cycles
                raise ScheduleError(
                    f"vector late on link {self.link[burst]}: read in cycle {read}, there "
                    f"{-margin_ticks / TICKS:.3f} cycles later",
                    "slack",
                    self.link[burst],
                    read,
                )

    def pass_on(self, arrival: simpy.Event) -> None:
        """The first vector of a burst is at a chip on its way; the others follow at the stride they leave with."""
        burst = int(arrival.value or 0)
        self.arrived[burst] = self.start[burst] + self.figures.hop_cycles

    def deliver(self, arrival: simpy.Event) -> None:
        """The last vector of a burst is at its path's end."""
        burst = int(arrival.value or 0)
        flow = self.flow[burst]
        there = self.start[burst] + self.figures.hop_cycles + self.figures.receive_cycles
        self.inbox.arrive(
            self.flow_task[flow], self.first_vector[flow], self.step[flow], self.vectors[flow], there, self.stride[flow]
        )


def _programs(schedule: Schedule, tasks: Tasks, fabric: Fabric, clocks: Clocks) -> dict[int, list[Instruction]]:
    """Each chip's instructions in order of cycle; chips with nothing to do have no entry."""
    operations = np.flatnonzero(tasks.kind == COMPUTE)
    bursts = np.arange(len(schedule.burst_link))
    chip = np.concatenate([tasks.chip[operations], fabric.link_source[schedule.burst_link]]).astype(np.int64)
    cycle = np.concatenate([schedule.start[operations], schedule.burst_start])
    what = np.concatenate([np.full(len(operations), OPERATE), np.full(len(bursts), SEND)])
    item = np.concatenate([operations, bursts])
    order = np.lexsort((item, what, cycle, chip))
    ticks = clocks.ticks(chip, cycle)[order]
    programs: dict[int, list[Instruction]] = {}
    rows = zip(cycle[order].tolist(), what[order].tolist(), item[order].tolist(), ticks.tolist(), strict=True)
    for owner, row in zip(chip[order].tolist(), rows, strict=True):
        programs.setdefault(owner, []).append(row)
    return programs


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause cyclic garbage collection: a replay makes many events and no cycles, and scanning them takes a third of it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def replay(
    schedule: Schedule,
    tasks: Tasks,
    fabric: Fabric,
    figures: Figures,
    clocks: Clocks | None = None,
    late_links: dict[int, int] | None = None,
) -> ReplayResult:
    """Carry `schedule` out with these clocks (None: perfect) and with `late_links` [link -> extra cycles].

    `figures.slack_cycles` is what the readers wait; a schedule compiled for more slack keeps its cycles.
    Raises ScheduleError naming link and cycle when a vector is late, or an input not there.
    """
    clocks = perfect_clocks(fabric.vertex_count) if clocks is None else clocks
    run = _Replay(schedule, tasks, fabric, figures, clocks, late_links or {})
    links = sorted(set(run.link))
    programs = _programs(schedule, tasks, fabric, clocks)
    for link in links:
        run.env.process(run.carry(link))
    for chip in sorted(programs):
        run.env.process(run.chip(programs[chip]))
    try:
        run.env.run()
    except ScheduleError as error:
        # SimPy rebuilds what a process raises from its message alone; the original knows link and cycle.
        raise (error.__cause__ or error) from None
    cycles = run.inbox.finish_cycles()
    root = int(clocks.ticks(np.zeros(1, np.int64), np.array([cycles]))[0])
    return ReplayResult(
        cycles=cycles,
        finish_s=root / TICKS / figures.clock_hz,
        processes=len(links) + len(programs),
        bursts=len(run.link),
        margin_cycles_min=run.margin_ticks / TICKS if run.link else float("inf"),
    )
