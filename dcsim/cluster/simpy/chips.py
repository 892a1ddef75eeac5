"""Chip zoom: every micro-batch of every round is carried out by the processes of chips and links, at its true slots.

A round lasts as long as in the service zoom (M1). While it does, each of its micro-batches enters the pipeline when the one
before has held it for its occupancy, and its iteration runs on drifting clocks to its end, which lies in the next round if it
entered late. An iteration that takes another time than its round counts on, or a vector that comes too late, ends the run with
an error. Where a cap stretches a round, its iterations end early and the chips wait for the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import simpy

from dcsim.cluster.programs import MicroBatches
from dcsim.cluster.simpy.environment import Environment, Moment, Process
from dcsim.cluster.simpy.pace import Drawn, Steady
from dcsim.errors import ScheduleError
from dcsim.llm.program import Shape
from dcsim.network.scheduled.clocks import TICKS
from dcsim.network.scheduled.iteration import cycles_to_ps
from dcsim.network.scheduled.replay import Orders, ReplayedIteration
from dcsim.network.scheduled.schedule import Schedule
from dcsim.network.tasks import Tasks
from dcsim.units import PS_PER_S


class FineEnvironment(Environment):
    """An environment whose clock has so many ticks a picosecond, as chips' clocks need them; all else goes on in picoseconds."""

    def __init__(self, ticks_per_ps: int) -> None:
        self._ticks_per_ps = ticks_per_ps
        super().__init__()

    if not TYPE_CHECKING:

        @property
        def now(self) -> int:
            """Whole picoseconds since the run began."""
            return super().now // self._ticks_per_ps

    def timeout(self, delay: float = 0, value: Any = None) -> simpy.Timeout:
        """An event after `delay` picoseconds."""
        return simpy.Timeout(self, int(delay) * self._ticks_per_ps, value)

    def moment(self, delay_ps: int, turn: int, number: int = 0) -> Moment:
        """An event after `delay_ps`, at its turn and, within the turn, by number."""
        return super().moment(delay_ps * self._ticks_per_ps, turn, number)


@dataclass(frozen=True, slots=True)
class ChipProgram:
    """What chips and links do in an iteration of one shape, and the schedule it was made of."""

    orders: Orders
    schedule: Schedule
    tasks: Tasks


@dataclass(frozen=True, slots=True)
class Carried:
    """One iteration carried out: when it began, how long it went on after its round had ended, and how long before its
    reader's slot the latest vector came."""

    shape: Shape
    in_flight: bool
    start_ps: int
    after_round_ps: int
    margin_ticks: int
    early_ticks: int

    @property
    def program(self) -> tuple[Shape, bool]:
        """What it ran, as in `Chips.programs`."""
        return self.shape, self.in_flight


class Chips:
    """The chips and links of the one replica. `program` gives what they do for a shape, alone or in flight with others of its
    kind, and is asked once for each.

    `on_iteration()` hears of each iteration that has ended.
    """

    def __init__(
        self, clock_hz: float, program: Callable[[Shape, bool], ChipProgram], on_iteration: Callable[[], None] | None = None
    ) -> None:
        ticks_per_ps, rest = divmod(round(clock_hz * TICKS), PS_PER_S)
        if rest:
            raise ScheduleError(f"a clock of {clock_hz:g} Hz has no whole number of ticks in a picosecond", "clock")
        self.clock_hz, self._make, self._on_iteration = clock_hz, program, on_iteration
        self.env = FineEnvironment(ticks_per_ps)
        self.programs: dict[tuple[Shape, bool], ChipProgram] = {}  # and whether it is in flight with others of its kind
        self.carried: list[Carried] = []
        self._under_way: list[ReplayedIteration] = []
        self._micro_batches: list[simpy.Process] = []
        self._stops = 0
        self._is_over = False

    def begin(self, pace: Steady | Drawn) -> None:
        """A round begins now: the first of `pace`."""
        if self._is_over:
            return
        round_, enters_ps = pace.first()
        round_ends_ps = self.env.now + pace.span_ps(1)
        self._micro_batches = [process for process in self._micro_batches if process.is_alive]
        for batches in round_.micro_batches:
            for _ in range(batches.count):
                micro_batch = self._micro_batch(batches, enters_ps + batches.wait_ps, round_ends_ps)
                self._micro_batches.append(self.env.process(micro_batch))
                enters_ps += batches.occupancy_ps
        enters_ps = pace.first()[1] + round_.clean_ps
        for batches in round_.reruns:
            micro_batch = self._micro_batch(batches, enters_ps + batches.wait_ps, round_ends_ps)
            self._micro_batches.append(self.env.process(micro_batch))
            enters_ps += batches.wait_ps + batches.latency_ps

    def stop(self) -> None:
        """The chips stop now: what is under way ends nowhere, what was to enter does not."""
        self._stops += 1
        for iteration in self._under_way:
            iteration.stop()
        self._under_way.clear()

    def finish(self) -> None:
        """The run is over: let what is under way come to its end."""
        self._is_over = True
        for process in self._micro_batches:
            self.env.run(until=process)

    def _micro_batch(self, batches: MicroBatches, enters_ps: int, round_ends_ps: int) -> Process:
        """One micro-batch passes the pipeline."""
        program, stops = (batches.shape, batches.in_flight), self._stops
        yield self.env.timeout(enters_ps)
        if stops != self._stops:
            return
        if program not in self.programs:
            self.programs[program] = self._make(*program)
        start_ps, iteration = self.env.now, ReplayedIteration(self.env, self.programs[program].orders)
        self._under_way.append(iteration)
        yield iteration.done
        if iteration.is_stopped:
            return
        self._under_way.remove(iteration)
        cycles = iteration.finish_cycles()
        took_ps = cycles_to_ps(cycles, self.clock_hz)
        if took_ps != batches.latency_ps:
            expected = f"{took_ps:,} ps, its round counts on {batches.latency_ps:,}"
            raise ScheduleError(f"an iteration of {batches.shape} took {cycles:,} cycles, {expected}", "makespan", -1, cycles)
        after_ps = max(0, start_ps + took_ps - round_ends_ps)
        self.carried.append(Carried(*program, start_ps, after_ps, iteration.margin_ticks, iteration.early_ticks))
        if self._on_iteration:
            self._on_iteration()
