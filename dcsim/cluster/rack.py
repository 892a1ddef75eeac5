"""A rack: hosts, chips and fans on one supply, its draw sampled over the run."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy
from numpy.typing import NDArray

from dcsim.cluster.events import Environment
from dcsim.cluster.rows import PS_PER_S, to_ps
from dcsim.errors import CapacityError
from dcsim.fabric.graph import Fabric
from dcsim.records import Table
from dcsim.spec.topology import Topology


@dataclass(slots=True)
class Rack:
    """Wall power of one rack. `energy_at(now_ps)` gives joules drawn by what varies; `fixed_w` is the rest."""

    env: Environment
    index: int
    fixed_w: float
    supply_efficiency: float
    energy_at: Callable[[int], float]
    interval_ps: int
    ends_ps: array[int] = field(default_factory=lambda: array("q"))  # of the samples
    lengths_ps: array[int] = field(default_factory=lambda: array("q"))
    watts: array[float] = field(default_factory=lambda: array("d"))  # mean over each
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
        self.ends_ps.append(now)
        self.lengths_ps.append(now - self._since)
        self.watts.append(watts / self.supply_efficiency)
        self._since, self._energy_j = now, energy


def make_racks(
    env: Environment, spec: Topology, fabric: Fabric, chips_in: NDArray[np.int64],
    replica_energy_j: Callable[[int, int], float], host_energy_j: Callable[[int], float],
) -> list[Rack]:
    """All racks. `replica_energy_j(replica, now)` and `host_energy_j(host)` are what varies; `chips_in[replica, rack]`."""
    racks = chips_in.shape[1]
    installed = np.bincount(fabric.rack_of[: fabric.chip_count], minlength=racks)
    return [_make_rack(env, spec, i, int(installed[i]), chips_in, replica_energy_j, host_energy_j) for i in range(racks)]


def _make_rack(
    env: Environment, spec: Topology, index: int, installed: int, chips_in: NDArray[np.int64],
    replica_energy_j: Callable[[int, int], float], host_energy_j: Callable[[int], float],
) -> Rack:
    racks = chips_in.shape[1]
    shares = [(r, n / sum(row)) for r, row in enumerate(chips_in.tolist()) for n in [row[index]] if n]
    hosts = range(index, spec.serving.host_servers, racks)
    unused = installed - int(chips_in[:, index].sum())
    nodes = -(-installed // spec.node.chips)

    def energy_at(now: int) -> float:
        chips_j: float = sum(replica_energy_j(r, now) * share for r, share in shares)
        return chips_j + sum(host_energy_j(h) for h in hosts)

    fixed = nodes * (spec.host.idle_w + spec.node.fan_w) + unused * spec.chip.power.idle_w
    return Rack(env, index, fixed, spec.node.supply_efficiency, energy_at, to_ps(spec.power.sample_s))


def power_table(racks: Sequence[Rack]) -> Table:
    """The racks' samples in order of time."""
    ends_ps, lengths_ps, watts = (
        np.concatenate([getattr(rack, name) for rack in racks]) for name in ("ends_ps", "lengths_ps", "watts")
    )
    index = np.repeat([rack.index for rack in racks], [len(rack.ends_ps) for rack in racks])
    order = np.lexsort((index, ends_ps))
    return {
        "time_s": ends_ps[order] / PS_PER_S, "rack": index[order], "interval_s": lengths_ps[order] / PS_PER_S,
        "power_w": watts[order],
    }


def chips_per_rack(fabric: Fabric, replica_chips: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """[replica, rack] how many of the replica's chips stand in the rack."""
    racks = int(fabric.rack_of.max()) + 1
    return np.array([np.bincount(fabric.rack_of[list(chips)], minlength=racks) for chips in replica_chips])


def work_limits(spec: Topology, fabric: Fabric, chips_in: NDArray[np.int64]) -> list[float]:
    """Power each replica's chips may add above waiting so that no rack exceeds its cap, shared by chip count.

    Raises CapacityError where waiting alone exceeds the cap.
    """
    cap = spec.power.rack_cap_w
    if not cap:
        return [float("inf")] * len(chips_in)
    per_rack = np.bincount(fabric.rack_of[: fabric.chip_count], minlength=chips_in.shape[1])
    used = chips_in.sum(axis=0)
    base = (
        -(-per_rack // spec.node.chips) * (spec.host.busy_w + spec.node.fan_w)
        + (per_rack - used) * spec.chip.power.idle_w + used * spec.chip.power.wait_w
    )
    room = cap * spec.node.supply_efficiency - base
    if (room <= 0).any():
        need = float(base.max() / spec.node.supply_efficiency)
        raise CapacityError(f"power.rack_cap of {cap:.0f} W: a rack waiting in lock step already draws {need:.0f} W", need, cap)
    # A replica's work is spread evenly over its chips, so its tightest rack sets its pace.
    room_per_chip = room / np.maximum(used, 1)
    return [float(min(room_per_chip[row > 0]) * row.sum()) for row in chips_in]

