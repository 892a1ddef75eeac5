"""A rack: hosts, chips and fans on one supply, its draw sampled over the run."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

from dcsim.cluster.ledger import PS_PER_S


@dataclass(slots=True)
class Rack:
    """Wall power of one rack. `energy_at(now_ps)` gives joules drawn by what varies; `fixed_w` is the rest."""

    env: simpy.Environment
    index: int
    fixed_w: float
    supply_efficiency: float
    energy_at: Callable[[int], float]
    interval_ps: int
    rows: list[tuple[int, int, float]] = field(default_factory=list)  # (end ps, length ps, mean W)
    _since: int = 0
    _energy_j: float = 0.0

    def run(self) -> Generator[simpy.Event, Any, None]:
        """Take a sample at the end of every interval."""
        while True:
            yield self.env.timeout(self.interval_ps)
            self.sample()

    def sample(self) -> None:
        """Close the current interval now with its mean power."""
        now = self.env.now
        if now == self._since:
            return
        energy = self.energy_at(now)
        watts = (energy - self._energy_j) / ((now - self._since) / PS_PER_S) + self.fixed_w
        self.rows.append((now, now - self._since, watts / self.supply_efficiency))
        self._since, self._energy_j = now, energy
