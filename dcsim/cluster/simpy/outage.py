"""Why a process is interrupted: a fault stops its part for a while."""

from __future__ import annotations

from dataclasses import dataclass

import simpy

FOREVER_PS = 1 << 62


@dataclass(slots=True)
class Outage:
    """A stop until a time; `hit` counts requests whose work it destroyed."""

    until_ps: int
    label: str
    hit: int = 0


def outage_of(interrupt: simpy.Interrupt, part: str) -> Outage:
    """The outage a process is interrupted for; who interrupts it without one stops its part for good."""
    return interrupt.cause if isinstance(interrupt.cause, Outage) else Outage(FOREVER_PS, f"{part} was stopped")
