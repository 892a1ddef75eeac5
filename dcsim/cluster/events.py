"""Callbacks on SimPy's clock: cheaper than a process where nothing is kept between two events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import simpy

Callback = Callable[[simpy.Event], Any]


def call_at(env: simpy.Environment, time_ps: int, callback: Callback, *, urgent: bool = True) -> simpy.Event:
    """Call back at `time_ps`. Urgent calls come before all others of that instant.

    What reaches a replica from outside is urgent, so that a round that ends at the same time sees it.
    """
    event = simpy.Event(env)
    event._ok, event._value = True, None
    assert event.callbacks is not None
    event.callbacks.append(callback)
    env.schedule(event, simpy.events.URGENT if urgent else simpy.events.NORMAL, time_ps - env.now)
    return event
