"""Racks: hosts, chips, fans and a part of the network on one supply each, their draw sampled over the run.

Who serves counts in whole numbers and knows no watts: the picoseconds each replica has been in a program, the picojoules of
work its chips have done above waiting, the picoseconds of core time each host has spent. So whoever served, in whatever order,
the samples and the digest of a run are the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dcsim.fabric.graph import Fabric
from dcsim.power.chain import idle_w, rack_count
from dcsim.power.hosts import core_w, host_racks
from dcsim.results.records import Table
from dcsim.spec.topology import Topology
from dcsim.units import PS_PER_S


class Racks:
    """Wall power of every rack. `chips_in[replica, rack]` says where the replicas' chips stand; a replica's draw is spread
    evenly over them (M7).
    """

    def __init__(self, spec: Topology, fabric: Fabric, chips_in: NDArray[np.int64]) -> None:
        racks, power = chips_in.shape[1], spec.chip.power
        self._idle_w = idle_w(spec, fabric, racks)
        self._wait_w = chips_in.sum(axis=1) * (power.wait_w - power.idle_w)  # [replica] of all its chips, above idle
        self._core_w = core_w(spec.host)
        self._efficiency = spec.node.supply_efficiency
        self._replica, self._rack = np.nonzero(chips_in)
        self._share = chips_in[self._replica, self._rack] / chips_in.sum(axis=1)[self._replica]
        self._host_rack = host_racks(spec, racks)
        self._count = racks
        self._now_ps = 0
        self._program_ps, self._work_pj = [0] * len(chips_in), [0] * len(chips_in)
        self._core_ps = [0] * len(self._host_rack)
        self._ends_ps, self._lengths_ps, self._watts = array("q"), array("q"), array("d")

    def sample(self, now_ps: int, program_ps: Sequence[int], work_pj: Sequence[int], core_ps: Sequence[int]) -> None:
        """Close the interval since the last sample with what has been done from time 0 to now, in whole numbers.

        `program_ps` and `work_pj` by replica, `core_ps` by host server.
        """
        length_ps = now_ps - self._now_ps
        if not length_ps:
            return
        waiting, work, cores = (
            np.array([new - old for new, old in zip(now, before, strict=True)], np.float64)
            for now, before in ((program_ps, self._program_ps), (work_pj, self._work_pj), (core_ps, self._core_ps))
        )
        # A watt for a picosecond is a picojoule.
        chips_w = (waiting * self._wait_w + work) / length_ps
        varying = np.bincount(self._rack, chips_w[self._replica] * self._share, self._count)
        varying += np.bincount(self._host_rack, cores * self._core_w / length_ps, self._count)
        self._ends_ps.append(now_ps)
        self._lengths_ps.append(length_ps)
        self._watts.frombytes(((self._idle_w + varying) / self._efficiency).tobytes())
        self._now_ps = now_ps
        self._program_ps, self._work_pj, self._core_ps = list(program_ps), list(work_pj), list(core_ps)

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
