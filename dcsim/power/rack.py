"""Racks: hosts, chips, fans and a part of the network on one supply each, their draw sampled over the run."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.fabric.graph import Fabric
from dcsim.power.chain import installed_chips, plant_w, rack_count
from dcsim.results.records import Table
from dcsim.spec.topology import Topology
from dcsim.units import PS_PER_S


class Racks:
    """Wall power of every rack. `chips_in[replica, rack]` says where the replicas' chips stand.

    A rack's fixed draw is that of idle hosts, unused chips and what `chain.plant_w` counts; energies of replicas and hosts
    are what varies.
    Host servers stand in the racks in turn.
    """

    def __init__(self, spec: Topology, fabric: Fabric, chips_in: NDArray[np.int64]) -> None:
        racks = chips_in.shape[1]
        installed = installed_chips(fabric, racks)
        nodes = -(-installed // spec.node.chips)
        unused = installed - chips_in.sum(axis=0)
        self._fixed_w = plant_w(spec, fabric, racks) + nodes * spec.host.idle_w + unused * spec.chip.power.idle_w
        self._efficiency = spec.node.supply_efficiency
        self._replica, self._rack = np.nonzero(chips_in)
        self._share = chips_in[self._replica, self._rack] / chips_in.sum(axis=1)[self._replica]
        self._host_rack = np.arange(spec.serving.host_servers) % racks
        self._count = racks
        self._since_ps = 0
        self._energy_j: Any = np.zeros(racks)
        self._ends_ps, self._lengths_ps, self._watts = array("q"), array("q"), array("d")

    def sample(self, now_ps: int, replica_j: Any, host_j: Any) -> None:
        """Close the interval since the last sample: joules so far of each replica, and of each host above its idle draw."""
        if now_ps == self._since_ps:
            return
        length_ps = now_ps - self._since_ps
        # Sums in the order of replicas and hosts, whatever the library: the same bits everywhere.
        chips_j = np.bincount(self._rack, np.asarray(replica_j)[self._replica] * self._share, self._count)
        energy_j = chips_j + np.bincount(self._host_rack, host_j, self._count)
        watts = (energy_j - self._energy_j) / (length_ps / PS_PER_S) + self._fixed_w
        self._ends_ps.append(now_ps)
        self._lengths_ps.append(length_ps)
        self._watts.frombytes((watts / self._efficiency).tobytes())
        self._since_ps, self._energy_j = now_ps, energy_j

    def table(self) -> Table:
        """The samples, rack by rack at each time."""
        ends_ps, lengths_ps = (np.repeat(np.array(a, np.int64), self._count) for a in (self._ends_ps, self._lengths_ps))
        return {
            "time_s": ends_ps / PS_PER_S,
            "rack": np.tile(np.arange(self._count), len(self._ends_ps)),
            "interval_s": lengths_ps / PS_PER_S,
            "power_w": np.array(self._watts),
        }


def chips_per_rack(fabric: Fabric, replica_chips: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """[replica, rack] how many of the replica's chips stand in the rack."""
    racks = rack_count(fabric)
    return np.array([np.bincount(fabric.rack_of[list(chips)], minlength=racks) for chips in replica_chips])
