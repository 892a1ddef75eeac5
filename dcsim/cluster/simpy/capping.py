"""Caps on the meters of racks and above: each meter with a cap is a process (the rule itself is `power.caps_kernel`).

A replica asks how long its next round takes beside all that is drawn then. When somebody comes to draw more, the process of
each capped meter wakes; where more is drawn than it allows, the rounds behind it end with the one under way, and the next are
asked for anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from dcsim.cluster.simpy.environment import Environment, Process
from dcsim.cluster.simpy.host import HostServer
from dcsim.power.caps_kernel import Caps, crowded, length_ps, set_draw


class CappedMeters:
    """One for a run with caps. `rouse(replica)` ends a replica's rounds with the one under way."""

    def __init__(self, env: Environment, caps: Caps, hosts: Sequence[HostServer], rouse: Callable[[int], None]) -> None:
        self._env, self._caps, self._hosts, self._rouse = env, caps, hosts, rouse
        self._more = env.event()  # somebody draws more
        for group in range(len(caps.room_w)):
            env.process(self._hold(group))

    def length_ps(self, replica: int, work_pj: int, natural_ps: int) -> int:
        """How long a round that the replica begins now takes; `natural_ps` without caps."""
        backlog = np.array([host.backlog_ps() for host in self._hosts], np.int64)
        return int(length_ps(self._caps, replica, work_pj, natural_ps, self._env.now, self._busy(), backlog))

    def is_steady(self) -> bool:
        """Whether the replica's room changes only when a request comes: it is alone, and no host core is busy."""
        return len(self._caps.draw_w) == 1 and not self._busy().any()

    def work(self, replica: int, watts: float) -> None:
        """From now on the replica's chips are in a program and work, which draws so much above waiting."""
        set_draw(self._caps, replica, self._caps.wait_w[replica] + watts, self._env.now)
        self.draws_more()

    def idle(self, replica: int) -> None:
        """From now on the replica's chips are idle."""
        set_draw(self._caps, replica, 0.0, self._env.now)

    def draws_more(self) -> None:
        """Somebody draws more from now on."""
        if not self._more.triggered:
            self._more.succeed()

    def _hold(self, group: int) -> Process:
        """The process of one meter."""
        caps = self._caps
        while True:
            yield self._more
            if self._more.triggered:  # the first to wake
                self._more = self._env.event()
            if crowded(caps, group, self._busy()):
                for replica in np.flatnonzero((caps.share[:, group] > 0) & (caps.draw_w > 0)):
                    self._rouse(int(replica))

    def _busy(self) -> NDArray[np.int64]:
        return np.array([host.busy_cores() for host in self._hosts], np.int64)
