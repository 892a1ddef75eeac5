"""What a cap on a meter leaves the chips: rounds are stretched so that no meter reads more than its cap.

A meter reads what is drawn: chips that idle, wait or work, and the host cores that are busy. A replica whose next round fits
beside all that is not slowed. One whose round does not fit is slowed until it does, but never below its share of the room by
chips; others that had taken more then give way at the end of their round.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import CapacityError
from dcsim.power.caps_kernel import Caps
from dcsim.power.chain import levels
from dcsim.power.hosts import core_w, host_racks
from dcsim.power.site import Site


def caps_of(site: Site, chips_in: NDArray[np.int64]) -> Caps:
    """The caps of a run, of whatever levels of the power chain. `chips_in[replica, rack]` says where replicas' chips stand.

    Raises CapacityError where chips that wait in lock step already exceed one.
    """
    spec, (replicas, racks) = site.spec, chips_in.shape
    chips, power = chips_in.sum(axis=1), spec.chip.power
    idle, wait_w = site.draw().parts_w, chips * (power.wait_w - power.idle_w)
    room_w, share, fair, host_in = [], [], [], []
    for level in levels(spec, racks):
        if not level.cap_w:
            continue
        groups = int(level.group_of.max()) + 1
        in_group = np.zeros((replicas, groups))
        np.add.at(in_group.T, level.group_of, chips_in.T)
        room = level.cap_w * level.efficiency - np.bincount(level.group_of, idle)
        most_w = float(level.meter_w(site.draw(chips_in).parts_w).max())
        if most_w >= level.cap_w:
            raise CapacityError(
                f"power.{level.name}_cap of {level.cap_w:.0f} W: a {level.name} waiting in lock step already draws "
                f"{most_w:.0f} W",
                most_w,
                level.cap_w,
            )
        room_w.append(room)
        share.append(in_group / chips[:, None])
        fair.append(in_group / np.maximum(in_group.sum(axis=0), 1))
        host_in.append(level.group_of[host_racks(spec, racks)][:, None] == np.arange(groups))
    hosts = spec.serving.host_servers
    return Caps(
        np.concatenate([np.zeros(0), *room_w]),
        np.hstack([np.zeros((replicas, 0)), *share]),
        np.hstack([np.zeros((replicas, 0)), *fair]),
        wait_w.astype(np.float64),
        np.hstack([np.zeros((hosts, 0), np.bool_), *host_in]),
        np.array([core_w(spec.host)]),
        np.zeros(replicas),
        np.zeros(replicas),
        np.full(replicas, -1, np.int64),
    )
