"""SimPy's clock in whole picoseconds, and what comes first at one instant.

Events of one instant come in turn: what parts do by themselves (SimPy's own order), then requests that stand ready, then
arrivals, then ends of rounds, then readings of meters, and last of all the end of the run; each turn by number of request,
user, replica or rack. So a round that ends sees all that came by then, and rows do not depend on who was scheduled first.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import simpy

READY, ARRIVAL, ROUND, METER, END = (turn << 40 for turn in range(1, 6))

Process = Generator[simpy.Event, Any, None]


class Moment(simpy.Timeout):
    """A timeout that has its turn among the events of its instant."""

    def __init__(self, env: Environment, delay_ps: int, turn: int) -> None:
        self.turn = simpy.events.EventPriority(turn)
        super().__init__(env, delay_ps)


class Environment(simpy.Environment):
    """SimPy's environment with a clock in whole picoseconds, which counts its processes and events."""

    def __init__(self) -> None:
        super().__init__(initial_time=0)
        self.processes = self.events = 0

    if TYPE_CHECKING:

        @property
        def now(self) -> int:
            """Picoseconds since the run began."""

    def process(self, generator: Generator[simpy.Event, Any, Any]) -> simpy.Process:
        """Start a process."""
        self.processes += 1
        return simpy.Process(self, generator)

    def moment(self, delay_ps: int, turn: int, number: int = 0) -> Moment:
        """An event after `delay_ps`, at its turn and, within the turn, by number."""
        return Moment(self, delay_ps, turn + number)

    def schedule(self, event: simpy.Event, priority: simpy.events.EventPriority = simpy.events.NORMAL, delay: float = 0) -> None:
        """Put an event on SimPy's queue."""
        self.events += 1
        super().schedule(event, event.turn if type(event) is Moment else priority, delay)
