"""A schedule carried out: every chip and every link a process, each chip on its own clock.

A chip holds a list of instructions with program cycles: start an operation, send a burst. A link delivers what it was given
when it is through, and finds out whether the reader already had to have it. Outputs are computed from what truly arrived,
so the finish is a result, not the schedule's answer read back.
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
from dcsim.network.scheduled.inbox import Inbox, Needs
from dcsim.network.scheduled.rules import ScheduleRules
from dcsim.network.scheduled.schedule import Schedule
from dcsim.network.tasks import COMPUTE, Tasks

Process = Generator[simpy.Event, Any, None]
# All that a chip does at one tick of its clock: the tick, operations and bursts with their program cycles.
Instruction = tuple[int, list[tuple[int, int]], list[tuple[int, int]]]
NO_MARGIN = 1 << 62


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """`cycles` in program cycles, to compare with the makespan; `finish_s` on the root chip's clock."""

    cycles: int
    finish_s: float
    processes: int
    bursts: int
    margin_cycles_min: float  # least time any vector was there before its reader needed it; inf: none sent
    early_cycles_max: float  # longest time any could have waited at its reader; 0: none sent


class Orders:
    """What every chip and link has to do in one iteration, in ticks since its epoch; for any number of iterations.

    `late_links` [link -> extra cycles] are links slower than they should be.
    """

    def __init__(
        self,
        schedule: Schedule,
        tasks: Tasks,
        fabric: Fabric,
        figures: ScheduleRules,
        clocks: Clocks,
        late_links: dict[int, int] | None = None,
    ) -> None:
        self.needs, self.figures = Needs(tasks, figures), figures
        link, start = schedule.burst_link, schedule.burst_start
        flow = np.repeat(np.arange(len(schedule.flow_task)), schedule.hops)
        last = start + ((schedule.vectors - 1) * schedule.stride)[flow]
        sender, reader = fabric.link_source[link], fabric.link_target[link]
        leave_last = clocks.ticks(sender, last)
        jitter = np.zeros(len(link), np.int64) if clocks.jitter_ticks is None else clocks.jitter_ticks
        extra = np.zeros(fabric.link_count, np.int64)
        for late, cycles in (late_links or {}).items():
            extra[late] = cycles * TICKS
        delay = figures.link_cycles * TICKS + jitter + extra[link]
        self.link, self.start, self.last = link.tolist(), start.tolist(), last.tolist()
        # It may come so much sooner than it was drawn to; the reader's buffer is full when the first has waited so long.
        self.sooner = (jitter + clocks.jitter_max_ticks).tolist()
        self.early_ticks = figures.receive_vectors * figures.slot_cycles * TICKS
        # A vector has to leave by then to be there when its reader reads it.
        self.due_first = (clocks.ticks(reader, start + figures.hop_cycles) - delay).tolist()
        self.due_last = (clocks.ticks(reader, last + figures.hop_cycles) - delay).tolist()
        self.leave_last = leave_last.tolist()
        self.flow, self.flow_task = flow.tolist(), schedule.flow_task.tolist()
        self.first_burst = schedule.burst_offset.tolist()
        self.first_vector, self.step = schedule.first_vector.tolist(), schedule.vector_step.tolist()
        self.vectors, self.stride = schedule.vectors.tolist(), schedule.stride.tolist()
        # On its way a chip forwards vectors as they come; at the end of its path a message is complete with the last one.
        ends = np.zeros(len(link), np.bool_)
        ends[schedule.burst_offset[1:][schedule.hops > 0] - 1] = True
        self.ends = ends.tolist()
        self.chips = _programs(schedule, tasks, fabric, clocks)
        self.links = _arrivals(link, np.where(ends, leave_last, clocks.ticks(sender, start)) + delay)


class ReplayedIteration:
    """One iteration that begins now: its chips' and links' processes. The clock of `env` counts ticks (see `clocks`)."""

    def __init__(self, env: simpy.Environment, orders: Orders) -> None:
        self._env, self._orders = env, orders
        self._inbox = Inbox(orders.needs)
        self._sent: dict[int, int] = {}  # burst -> tick, since the iteration began, at which its first vector left
        self._there: dict[int, int] = {}  # burst -> program cycle at which its reader has the first vector
        self.margin_ticks, self.early_ticks = NO_MARGIN, 0
        self.done = env.event()  # succeeds when all processes have ended, or it is stopped
        self.is_stopped = False
        self.processes = self._running = len(orders.links) + len(orders.chips)
        for _, arrivals in sorted(orders.links.items()):
            env.process(self._link(arrivals))
        for _, program in sorted(orders.chips.items()):
            env.process(self._chip(program))

    def stop(self) -> None:
        """A fault ends it now: nothing further is sent or delivered."""
        self.is_stopped = True
        self.done.succeed()

    def finish_cycles(self) -> int:
        """Program cycle of the last output, once all processes have ended; ScheduleError when a task never did."""
        return self._inbox.finish_cycles()

    def _chip(self, program: list[Instruction]) -> Process:
        """Carry out one chip's own list, each instruction in its cycle."""
        env, start, send = self._env, self._inbox.start, self._send
        now = 0
        for tick, operations, bursts in program:
            yield simpy.Timeout(env, tick - now)
            if self.is_stopped:
                return
            now = tick
            for task, cycle in operations:
                start(task, cycle)
            for burst, cycle in bursts:
                send(burst, cycle, now)
        self._ended()

    def _send(self, burst: int, cycle: int, tick: int) -> None:
        """Hand a burst to its link, if its first vector is at hand."""
        orders = self._orders
        flow = orders.flow[burst]
        if burst == orders.first_burst[flow]:
            first = orders.first_vector[flow]
            last_vector = first + (orders.vectors[flow] - 1) * orders.step[flow]
            self._inbox.leave(orders.flow_task[flow], first, cycle, last_vector, orders.last[burst])
        elif (there := self._there.get(burst - 1)) is None or there + orders.figures.forward_cycles > cycle:
            link = orders.link[burst]
            raise ScheduleError(
                f"chip forwards over link {link} in cycle {cycle} what it does not have", "early_send", link, cycle
            )
        self._sent[burst] = tick

    def _link(self, arrivals: list[tuple[int, int]]) -> Process:
        """Deliver what is given, each burst when it is through; at the end of a path that is with its last vector."""
        env, orders, sent = self._env, self._orders, self._sent
        due_first, due_last, leave_last = orders.due_first, orders.due_last, orders.leave_last
        now = 0
        for tick, burst in arrivals:
            yield simpy.Timeout(env, tick - now)
            if self.is_stopped:
                return
            now, left = tick, sent.pop(burst)
            margin, last_margin = due_first[burst] - left, due_last[burst] - max(left, leave_last[burst])
            self._check_margin(burst, margin, orders.start)
            self._check_margin(burst, last_margin, orders.last)
            self._check_early(burst, max(margin, last_margin) + orders.sooner[burst])
            if orders.ends[burst]:
                self._deliver(burst)
            else:
                self._there[burst] = orders.start[burst] + orders.figures.hop_cycles
        self._ended()

    def _ended(self) -> None:
        self._running -= 1
        if not self._running:
            self.done.succeed()

    def _check_margin(self, burst: int, margin_ticks: int, cycles: list[int]) -> None:
        """Fail loudly when the reader is to have a vector, the one that leaves in `cycles[burst]`, before it will be there."""
        if margin_ticks < self.margin_ticks:
            self.margin_ticks = margin_ticks
            if margin_ticks < 0:
                link, read = self._orders.link[burst], cycles[burst] + self._orders.figures.hop_cycles
                raise ScheduleError(
                    f"vector late on link {link}: read in cycle {read}, there {-margin_ticks / TICKS:.3f} cycles later",
                    "slack",
                    link,
                    read,
                )

    def _check_early(self, burst: int, early_ticks: int) -> None:
        """Fail loudly when a vector may wait so long for its reader that those behind it find no room."""
        if early_ticks > self.early_ticks:
            self.early_ticks = early_ticks
            if early_ticks >= self._orders.early_ticks:
                link, read = self._orders.link[burst], self._orders.start[burst] + self._orders.figures.hop_cycles
                raise ScheduleError(
                    f"vectors early on link {link}: read in cycle {read}, there up to {early_ticks / TICKS:.3f} cycles before; "
                    f"its end holds {self._orders.figures.receive_vectors}",
                    "early",
                    link,
                    read,
                )

    def _deliver(self, burst: int) -> None:
        """The last vector of a burst is at its path's end."""
        orders = self._orders
        flow, figures = orders.flow[burst], orders.figures
        there = orders.start[burst] + figures.hop_cycles + figures.receive_cycles
        self._inbox.arrive(
            orders.flow_task[flow], orders.first_vector[flow], orders.step[flow], orders.vectors[flow], there, orders.stride[flow]
        )


def _programs(schedule: Schedule, tasks: Tasks, fabric: Fabric, clocks: Clocks) -> dict[int, list[Instruction]]:
    """Each chip's instructions in order of its clock; chips with nothing to do have no entry."""
    operations = np.flatnonzero(tasks.kind == COMPUTE)
    bursts = np.arange(len(schedule.burst_link))
    chip = np.concatenate([tasks.chip[operations], fabric.link_source[schedule.burst_link]]).astype(np.int64)
    cycle = np.concatenate([schedule.start[operations], schedule.burst_start])
    sends = np.concatenate([np.zeros(len(operations), np.bool_), np.ones(len(bursts), np.bool_)])
    item = np.concatenate([operations, bursts])
    ticks = clocks.ticks(chip, cycle)
    order = np.lexsort((item, cycle, ticks, chip))
    programs: defaultdict[int, list[Instruction]] = defaultdict(list)
    columns = (chip, ticks, cycle, sends, item)
    for owner, tick, at, is_send, what in zip(*(column[order].tolist() for column in columns), strict=True):
        program = programs[owner]
        if not program or program[-1][0] != tick:
            program.append((tick, [], []))
        _, starts, bursts_sent = program[-1]
        (bursts_sent if is_send else starts).append((what, at))
    return programs


def _arrivals(link: Any, ticks: Any) -> dict[int, list[tuple[int, int]]]:
    """(tick, burst) of each link in order."""
    order = np.lexsort((ticks, link))
    arrivals: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for owner, tick, burst in zip(link[order].tolist(), ticks[order].tolist(), order.tolist(), strict=True):
        arrivals[owner].append((tick, burst))
    return arrivals


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause cyclic garbage collection: a replay makes many events and no cycles, and scanning them takes a third of it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@collector_paused()
def replay(
    schedule: Schedule,
    tasks: Tasks,
    fabric: Fabric,
    figures: ScheduleRules,
    clocks: Clocks | None = None,
    late_links: dict[int, int] | None = None,
) -> ReplayResult:
    """Carry `schedule` out with these clocks (None: perfect) and with `late_links` [link -> extra cycles].

    `figures.slack_cycles` is what the readers wait; a schedule compiled for more slack keeps its cycles.
    Raises ScheduleError naming link and cycle when a vector is late, or an input not there.
    """
    clocks = perfect_clocks(fabric.vertex_count) if clocks is None else clocks
    env = simpy.Environment()
    iteration = ReplayedIteration(env, Orders(schedule, tasks, fabric, figures, clocks, late_links))
    try:
        env.run()
    except ScheduleError as error:
        # SimPy rebuilds what a process raises from its message alone; the original knows link and cycle.
        raise (error.__cause__ or error) from None
    cycles = iteration.finish_cycles()
    root = int(clocks.ticks(np.zeros(1, np.int64), np.array([cycles]))[0])
    return ReplayResult(
        cycles=cycles,
        finish_s=root / TICKS / figures.clock_hz,
        processes=iteration.processes,
        bursts=len(schedule.burst_link),
        margin_cycles_min=iteration.margin_ticks / TICKS if len(schedule.burst_link) else float("inf"),
        early_cycles_max=iteration.early_ticks / TICKS,
    )
