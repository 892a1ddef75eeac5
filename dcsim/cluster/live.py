"""What a run looks like while it is under way, for those who watch it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LiveState:
    """A run at one moment. Reading it changes nothing of what comes.

    `decoding` is how many sequences each replica's batch decodes; `rack_w` is each rack's last reading at the wall, none before
    the first.
    """

    time_s: float
    closed: int
    in_system: int
    decoding: tuple[int, ...]
    rack_w: tuple[float, ...]
