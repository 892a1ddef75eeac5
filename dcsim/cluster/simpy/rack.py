"""A rack: its process reads the meter of all that stands in it at the end of every interval."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from dcsim.cluster.simpy.environment import METER, Environment, Process
from dcsim.cluster.simpy.host import HostServer
from dcsim.cluster.simpy.replica import Replica
from dcsim.power.rack import RackMeter

_READINGS = 512  # kept as counts before they become watts


class Rack:
    """The replicas and hosts that have a part in a rack's draw, and its meter."""

    def __init__(
        self,
        env: Environment,
        index: int,
        meter: RackMeter,
        interval_ps: int,
        replicas: Sequence[Replica],
        hosts: Sequence[HostServer],
    ) -> None:
        self._env, self._index, self.meter, self._interval_ps = env, index, meter, interval_ps
        self._replicas, self._hosts = [replicas[k] for k in meter.replicas], [hosts[h] for h in meter.hosts]
        self._last = [0] * (1 + 2 * len(self._replicas) + len(self._hosts))
        self._spent = array("d")  # [reading, (time, in programs by replica, work by replica, core time by host)]
        self.ends_ps, self.lengths_ps = array("q"), array("q")
        self.process = env.process(self._watch())

    def _watch(self) -> Process:
        while True:
            yield self._env.moment(self._interval_ps, METER, self._index)
            self.read()

    def read(self) -> None:
        """Note what has been spent since the last reading."""
        now = self._env.now
        if now == self._last[0]:
            return
        drawn = [replica.drawn() for replica in self._replicas]
        counts = [now, *(program for program, _ in drawn), *(work for _, work in drawn), *(h.core_ps() for h in self._hosts)]
        self.ends_ps.append(now)
        self.lengths_ps.append(now - self._last[0])
        self._spent.extend([new - old for new, old in zip(counts, self._last, strict=True)])
        self._last = counts
        if len(self._spent) >= _READINGS * len(counts):
            self._settle()

    def latest_w(self) -> tuple[float, ...]:
        """The last reading; none before the first."""
        self._settle()
        return tuple(self.meter.watts[-1:])

    def close_out(self) -> None:
        """The run ends now: read the meter once more."""
        self.read()
        self._settle()

    def _settle(self) -> None:
        """Turn the readings so far into watts."""
        rows = np.frombuffer(self._spent, np.float64).reshape(-1, len(self._last))
        ends = np.cumsum([1, len(self._replicas), len(self._replicas)])
        time, programs, work, cores = np.split(rows, ends, axis=1)
        self.meter.add(time[:, 0], programs, work, cores)
        self._spent = array("d")
