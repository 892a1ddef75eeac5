"""The busiest stretch of a day, which a system has to hold: whoever is fast enough for 99 of 100 requests of a whole day may
still be too slow for everybody who comes at noon.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dcsim.spec.topology import Topology
from dcsim.spec.workload import DayCurve
from dcsim.units import format_time
from dcsim.workload.rates import one_day

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
STRETCH_S = HOUR_S  # of a day, where nobody names another length


@dataclass(frozen=True, slots=True)
class Peak:
    """A stretch of a day that begins with an hour, in which `load` times as many requests come as on average.

    `settings` make a workload of it alone: the same day, turned so that it begins there, and cut.
    """

    hour: int
    stretch_s: float
    load: float
    settings: tuple[str, ...]

    @property
    def told(self) -> str:
        """In a few words."""
        stretch = "hour" if self.stretch_s == HOUR_S else format_time(self.stretch_s)
        return (
            f"the busiest {stretch} of the day must hold, from {self.hour}:00 on, with {self.load:.3g} times the day's mean rate"
        )


def peak_of(spec: Topology, stretch_s: float = STRETCH_S) -> Peak | None:
    """The busiest stretch of the workload's day; None for other traffic, and where the stretch is the whole of it."""
    arrivals = getattr(spec.workload, "arrivals", None)
    rate = getattr(arrivals, "rate", None)
    if not isinstance(rate, DayCurve) or stretch_s >= min(DAY_S, spec.workload.duration_s or DAY_S):
        return None
    edges, rates = one_day(rate)
    each = round(HOUR_S / float(edges[1] - edges[0]))  # pieces of an hour
    count = max(1, round(stretch_s / HOUR_S * each))
    sums = np.convolve(np.concatenate([rates, rates[: count - 1]]), np.ones(count), mode="valid")[::each]
    first = int(sums.argmax())
    turned = [*rate.hours[first:], *rate.hours[:first]]
    settings = (f"workload.arrivals.rate.hours={turned}", f"workload.duration={stretch_s!r} s")
    return Peak(first, stretch_s, float(sums[first] / count / rates.mean()), settings)
