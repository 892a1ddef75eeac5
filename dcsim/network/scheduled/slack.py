"""The least slack that is safe, found while a program is compiled.

A receiver reads a vector `slack` cycles after its nominal arrival. Three things make a vector late, or a receiver early:
the counters of the two chips differ at the last deskew point, their crystals have drifted apart since, and the link was
slower than its mean. The slack covers the most of each that the clocks' figures allow, not what one drawing of them shows.

Slack is part of every hop, so it lengthens the program, and with it the distance between deskew points, over which drift
gathers. The least slack is therefore a fixed point: the smallest found on the way up that the program compiled with it does
not exceed. A cycle more of slack adds far less than a cycle of drift, so this ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from statistics import NormalDist
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import Problem, SlackError, SpecError
from dcsim.fabric.graph import Fabric
from dcsim.network.scheduled.clocks import SETTLE_EXCHANGES, TICKS, exchanged, spanning_tree
from dcsim.spec.network import Clock
from dcsim.workload.streams import stream

KEY = "network.clock.slack_cycles"
CHAINS, SAMPLES, SAMPLED_EVERY = 4096, 16, 8  # counters in a row that are watched, how often, and every how many exchanges
LEAST_RISK = 1e-300
Int64 = NDArray[np.int64]
Program = TypeVar("Program")


@dataclass(frozen=True, slots=True)
class Margins:
    """The most, in cycles, by which the two ends of any link can be out of step, part by part."""

    counters_cycles: float  # two linked chips' counters at their last deskew points, one late, one early
    drift: float  # cycles that two crystals part in each cycle since
    jitter_cycles: int  # a link's latency beyond its mean

    def slack_cycles(self, stretch_cycles: int) -> int:
        """The slack that is safe where deskew points are at most `stretch_cycles` apart."""
        return ceil(self.counters_cycles + self.drift * stretch_cycles + self.jitter_cycles)

    def shown(self, stretch_cycles: int) -> str:
        """The parts in words."""
        return (
            f"{self.counters_cycles:.1f} between counters, {self.drift * stretch_cycles:.1f} of drift "
            f"over {stretch_cycles:,} cycles, {self.jitter_cycles} of jitter"
        )


def margins_of(fabric: Fabric, clock: Clock) -> Margins:
    """Margins of a machine's clocks. Raises SpecError where counters cannot follow their crystals."""
    apart = 2 * clock.drift
    if apart * clock.exchange_cycles >= 1:
        what = f"two crystals part {apart * clock.exchange_cycles:.3g} cycles between exchanges, a counter moves one at each"
        raise SpecError(Problem("network.clock", what, "give a smaller `drift` or fewer `exchange_cycles`"))
    return Margins(_counters_cycles(fabric, clock), apart, clock.jitter_max_cycles)


def _counters_cycles(fabric: Fabric, clock: Clock) -> float:
    """How far apart two linked counters can be, but for the risk that the clock's figures take.

    Errors are those of two times: a sender's point may lie before its receiver's, so that what the two have in common in
    the tree does not cancel. Their tails are lighter than a normal's, as a counter moves a cycle at a time.
    """
    if not fabric.link_count:
        return 0.0
    depth = tree_depths(fabric)
    late, spread = counter_errors(clock, int(depth.max()))
    source, target = depth[fabric.link_source], depth[fabric.link_target]
    deviations = -NormalDist().inv_cdf(max(LEAST_RISK, clock.late_rate / fabric.link_count))
    far = late[source] + late[target] + deviations * np.hypot(spread[source], spread[target])
    return float(far.max())


def tree_depths(fabric: Fabric) -> Int64:
    """[vertex] links to the root of the tree along which counters are exchanged."""
    parent = spanning_tree(fabric)
    depth, above = np.zeros(len(parent), np.int64), parent
    moving = above != np.arange(len(parent))
    while moving.any():
        depth += moving
        moving = moving & (parent[above] != above)
        above = parent[above]
    return depth


def counter_errors(clock: Clock, most_depth: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[depth] cycles by which counters are late on average when every crystal is slow, and their standard deviation.

    Watched on many chains of counters, each with crystals as slow as can be beside a root as fast as can be.
    """
    return _watched(clock.drift, clock.exchange_cycles, clock.jitter_cycles, clock.jitter_max_cycles, most_depth)


@lru_cache(maxsize=64)
def _watched(drift: float, exchange_cycles: int, jitter: int, jitter_max: int, most_depth: int) -> tuple[Any, Any]:
    random = stream(0, "clock.slack")
    error = np.zeros((most_depth + 1, CHAINS), np.int64)
    parting = round(2 * drift * exchange_cycles * TICKS)
    seen = np.empty((SAMPLES, most_depth + 1, CHAINS))
    for k in range(SETTLE_EXCHANGES + SAMPLES * SAMPLED_EVERY):
        noise = random.normal(0.0, jitter, (most_depth, CHAINS)).clip(-jitter_max, jitter_max)
        error[1:] = exchanged(error[1:], error[:-1], parting, noise)
        if k >= SETTLE_EXCHANGES:
            seen[(k - SETTLE_EXCHANGES) // SAMPLED_EVERY] = error / TICKS
    return seen.mean(axis=(0, 2)), seen.std(axis=(0, 2))


def deskew_points(clock: Clock, starts: Int64, counts: Sequence[int], makespan_cycles: int) -> Int64:
    """Program cycles at which all chips absorb drift: where each stage begins; or each block, and every `deskew_cycles`
    within a longer one; none for "iteration". `starts` [block], `counts` blocks of each stage.
    """
    if clock.deskew == "iteration":
        starts = starts[:0]
    elif clock.deskew == "stage":
        first = np.cumsum([0, *counts])[:-1]
        starts = starts[first[first < len(starts)]]
    else:
        ends = np.append(starts[1:], makespan_cycles)
        parts = [np.arange(s, max(e, s + 1), clock.deskew_cycles) for s, e in zip(starts.tolist(), ends.tolist(), strict=True)]
        starts = np.concatenate([starts[:0], *parts])
    return np.unique(starts[starts > 0])


def longest_stretch(points: Int64, makespan_cycles: int) -> int:
    """Cycles between the epoch, the deskew points and the end, where they are farthest apart."""
    return int(np.diff(np.concatenate([[0], points, [makespan_cycles]])).max())


def least_slack(
    margins: Margins, guess: int, compiled_with: Callable[[int], Program], stretch: Callable[[Program], int]
) -> tuple[int, Program]:
    """The fixed point from `guess` on, which must not be more, and the program compiled with it."""
    slack = guess
    while True:
        program = compiled_with(slack)
        needed = margins.slack_cycles(stretch(program))
        if needed <= slack:
            return slack, program
        slack = needed


def require_slack(given: int, needed: int, why: str) -> None:
    """Raise SlackError where the slack given is less than what is needed."""
    if given < needed:
        what = f"{given} cycles are too few, {needed} are needed: {why}"
        raise SlackError(Problem(KEY, what, f"give {needed} or more, or `auto`"))
