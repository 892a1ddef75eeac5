"""Racks: hosts, chips, fans and a part of the network on one supply each, and the meters at the wall that read them.

Who serves counts in whole numbers and knows no watts: the picoseconds each replica has been in a program, the picojoules of
work its chips have done above waiting, the picoseconds of core time each host has spent. So whoever served, in whatever order,
the readings and the digest of a run are the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dcsim.power.hosts import core_w, host_racks
from dcsim.power.site import Site
from dcsim.results.records import Table
from dcsim.units import PS_PER_S

Floats = NDArray[np.float64]


@dataclass(slots=True)
class RackMeter:
    """The meter of one rack, for intervals of a run. A replica's draw is spread evenly over its chips (M7)."""

    idle_w: float  # of all that stands in the rack
    efficiency: float  # share of the wall's power that reaches the parts
    replicas: tuple[int, ...]  # those with chips in the rack
    share: tuple[float, ...]  # of each one's chips that stand here
    wait_w: tuple[float, ...]  # draw of all of each one's waiting chips, above idle
    hosts: tuple[int, ...]  # servers that stand in the rack
    core_w: float  # draw of a busy core
    watts: array[float] = field(default_factory=lambda: array("d"))  # read so far, one an interval

    def add(self, lengths_ps: Floats, program_ps: Floats, work_pj: Floats, core_ps: Floats) -> None:
        """Read n intervals: [n] lengths; what was spent in each by the rack's replicas [n, replica] and hosts [n, host].

        Every sum goes through the parts in their order, so that the bits do not depend on how many intervals are read at once.
        """
        chips_w, hosts_w = np.zeros(len(lengths_ps)), np.zeros(len(lengths_ps))
        for k, (share, wait_w) in enumerate(zip(self.share, self.wait_w, strict=True)):
            # A watt for a picosecond is a picojoule.
            chips_w += (program_ps[:, k] * wait_w + work_pj[:, k]) / lengths_ps * share
        for h in range(len(self.hosts)):
            hosts_w += core_ps[:, h] * self.core_w / lengths_ps
        self.watts.frombytes(((self.idle_w + (chips_w + hosts_w)) / self.efficiency).tobytes())


def meters(site: Site, chips_in: NDArray[np.int64]) -> list[RackMeter]:
    """One for each rack. `chips_in[replica, rack]` says where the replicas' chips stand."""
    spec, chips = site.spec, chips_in.sum(axis=1)
    power = spec.chip.power
    wait_w, host_rack = chips * (power.wait_w - power.idle_w), host_racks(spec, site.racks)
    idle, found = site.draw().parts_w, []
    for rack in range(site.racks):
        here = np.flatnonzero(chips_in[:, rack])
        found.append(
            RackMeter(
                idle_w=float(idle[rack]),
                efficiency=spec.node.supply_efficiency,
                replicas=tuple(here.tolist()),
                share=tuple((chips_in[here, rack] / chips[here]).tolist()),
                wait_w=tuple(wait_w[here].tolist()),
                hosts=tuple(np.flatnonzero(host_rack == rack).tolist()),
                core_w=core_w(spec.host),
            )
        )
    return found


def power_table(racks: Sequence[RackMeter], ends_ps: Sequence[int], lengths_ps: Sequence[int]) -> Table:
    """The power table: all racks' readings of intervals that ended then, rack by rack at each time."""
    ends, lengths = (np.repeat(np.array(a, np.int64), len(racks)) for a in (ends_ps, lengths_ps))
    watts = np.array([np.frombuffer(rack.watts, np.float64) for rack in racks]) if ends_ps else np.zeros((len(racks), 0))
    return {
        "time_s": ends / PS_PER_S,
        "rack": np.tile(np.arange(len(racks)), len(ends_ps)),
        "interval_s": lengths / PS_PER_S,
        "power_w": watts.T.ravel(),
    }
