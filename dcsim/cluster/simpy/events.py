"""SimPy's clock in picoseconds, and callbacks on it: cheaper than a process where nothing is kept between two events."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, cast

import simpy


class Environment(simpy.Environment):
    """SimPy's environment with a clock in whole picoseconds, which counts its processes and events."""

    def __init__(self) -> None:
        super().__init__(initial_time=0)
        self.processes = self.events = 0

    def process(self, generator: Generator[simpy.Event, Any, Any]) -> simpy.Process:
        """Start a process."""
        self.processes += 1
        return simpy.Process(self, generator)

    def schedule(self, event: simpy.Event, priority: simpy.events.EventPriority = simpy.events.NORMAL, delay: float = 0) -> None:
        """Put an event on SimPy's queue."""
        self.events += 1
        super().schedule(event, priority, delay)

    @property
    def now(self) -> int:
        """Picoseconds since the run began."""
        return cast(int, self._now)


Callback = Callable[[simpy.Event], Any]


def call_at(env: Environment, time_ps: int, callback: Callback, *, urgent: bool = True) -> simpy.Event:
    """Call back at `time_ps`. Urgent calls come before all others of that instant.

    What reaches a replica from outside is urgent, so that a round that ends at the same time sees it.
    """
    event = simpy.Event(env)
    event._ok, event._value = True, None
    assert event.callbacks is not None
    event.callbacks.append(callback)
    env.schedule(event, simpy.events.URGENT if urgent else simpy.events.NORMAL, time_ps - env.now)
    return event
