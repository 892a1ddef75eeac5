"""Caps on the meters of racks and above, as replicas and hosts of a run meet them (the rule itself is `power.caps_kernel`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from dcsim.cluster.simpy.host import HostServer
from dcsim.power.caps_kernel import Caps, crowded, length_ps, set_draw


class Capping:
    """One for a run with caps. `rouse(replica)` ends a replica's rounds with the one under way."""

    def __init__(self, caps: Caps, hosts: Sequence[HostServer], rouse: Callable[[int], None]) -> None:
        self._caps, self._hosts, self._rouse = caps, hosts, rouse

    def length_ps(self, replica: int, work_pj: int, natural_ps: int, now: int) -> int:
        """How long a round that the replica begins now takes; `natural_ps` without caps."""
        backlog = np.array([host.backlog_ps(now) for host in self._hosts], np.int64)
        return int(length_ps(self._caps, replica, work_pj, natural_ps, now, self._busy(now), backlog))

    def is_steady(self, now: int) -> bool:
        """Whether the replica's room changes only when a request comes: it is alone, and no host core is busy."""
        return len(self._caps.draw_w) == 1 and not self._busy(now).any()

    def work(self, replica: int, watts: float, now: int) -> None:
        """From now on the replica's chips are in a program and work, which draws so much above waiting."""
        set_draw(self._caps, replica, self._caps.wait_w[replica] + watts, now)
        self.give_way(now)

    def idle(self, replica: int, now: int) -> None:
        """From now on the replica's chips are idle."""
        set_draw(self._caps, replica, 0.0, now)

    def give_way(self, now: int) -> None:
        """Somebody draws more: where that exceeds a cap, rounds end with the one under way and are looked at again."""
        caps, busy = self._caps, self._busy(now)
        for group in range(len(caps.room_w)):
            if crowded(caps, group, busy):
                for replica in np.flatnonzero((caps.share[:, group] > 0) & (caps.draw_w > 0)):
                    self._rouse(int(replica))

    def _busy(self, now: int) -> NDArray[np.int64]:
        return np.array([host.busy_cores(now) for host in self._hosts], np.int64)
