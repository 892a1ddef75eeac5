"""One notion of time among chips whose crystals differ: counters exchanged down a tree, drift absorbed at points.

Time is counted in ticks of a billionth of a nominal cycle, so parts per million stay exact integers. Every chip
follows the root's counter (HAC) with its own, nudged by at most a cycle at each exchange. At a program point
(DESKEW at the epoch, RUNTIME_DESKEW later) a chip waits until its counter shows the point's cycle; between
points its program runs on its own crystal.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.fabric.graph import Fabric
from dcsim.network.scheduled.schedule import Schedule
from dcsim.spec.network import Clock
from dcsim.workload.streams import stream

TICKS = 1_000_000_000  # ticks in a nominal cycle
SETTLE_EXCHANGES = 64  # the counters' errors no longer grow after that many; more are not simulated at once
Int64 = NDArray[np.int64]
Int = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Clocks:
    """When each chip reaches a cycle of its program, and how late each burst comes through its link."""

    period_ticks: Int64  # [vertex] length of its cycle
    points: Int64  # [point] program cycles at which drift is absorbed; the first is 0
    resume_ticks: Int64  # [point, vertex] when it should go on from the point, by its counter
    late_ticks: Int64  # [point, vertex] when it reaches the point; it cannot go on before
    jitter_ticks: Int64 | None  # [burst] worst deviation from the link's mean latency; None: none
    jitter_max_ticks: int = 0  # by which a vector may come sooner than on average

    def ticks(self, vertex: Int, cycle: Int64) -> Int64:
        """When each `vertex` reaches the program cycle beside it; what it is late at a point it makes up by waiting
        less after."""
        point = np.searchsorted(self.points, cycle, side="right") - 1
        runs = self.resume_ticks[point, vertex] + (cycle - self.points[point]) * self.period_ticks[vertex]
        behind: Int64 = np.maximum(self.late_ticks[point, vertex], runs)
        return behind


def perfect_clocks(vertex_count: int) -> Clocks:
    """Every chip on one clock, links without jitter."""
    zeros = np.zeros((1, vertex_count), np.int64)
    return Clocks(np.full(vertex_count, TICKS), np.zeros(1, np.int64), zeros, zeros, None)


def drifting_clocks(
    fabric: Fabric,
    clock: Clock,
    seed: int,
    points: Int64,
    schedule: Schedule | None = None,
) -> Clocks:
    """Clocks of `fabric` drawn for `seed`; `points` are the deskew cycles after the epoch, ascending.

    Crystals are uniform within +- clock.drift. With a schedule, each burst's jitter is the worst of its vectors'.
    """
    drift = round(clock.drift * TICKS)
    period = TICKS + stream(seed, "clock.drift").integers(-drift, drift, fabric.vertex_count, endpoint=True)
    all_points = np.concatenate([np.zeros(1, np.int64), np.asarray(points, np.int64)])
    error = _counter_errors(fabric, clock, seed, period, all_points)
    resume = all_points[:, None] * TICKS + error - error.min()  # the epoch is where nobody starts before 0
    late = np.empty_like(resume)
    late[0] = resume[0]
    for k in range(1, len(all_points)):
        gap = all_points[k] - all_points[k - 1]
        late[k] = np.maximum(late[k - 1], resume[k - 1] + gap * period)
    jitter = None if schedule is None else _burst_jitter(schedule, clock, seed)
    sooner = 0 if jitter is None else clock.jitter_max_cycles * TICKS
    return Clocks(period, all_points, resume, late, jitter, sooner)


def spanning_tree(fabric: Fabric) -> Int64:
    """[vertex] parent in a breadth-first tree from vertex 0; the root and unreached vertices are their own."""
    parent = np.arange(fabric.vertex_count)
    seen = np.zeros(fabric.vertex_count, np.bool_)
    seen[0] = True
    level = [0]
    while level:
        following = []
        for vertex in level:
            for other in fabric.link_target[fabric.first_link[vertex] : fabric.first_link[vertex + 1]].tolist():
                if not seen[other]:
                    seen[other] = True
                    parent[other] = vertex
                    following.append(other)
        level = following
    return parent


def _counter_errors(fabric: Fabric, clock: Clock, seed: int, period: Int64, points: Int64) -> Int64:
    """[point, vertex] ticks by which each chip's counter is behind the root's at each point.

    Every `exchange_cycles` a chip compares with its parent over a link of jittering latency and moves its counter
    by a cycle at most, so one jittering message cannot throw it off.
    """
    parent = spanning_tree(fabric)
    moving = parent != np.arange(len(parent))
    random = stream(seed, "clock.exchange")
    drift = (period - period[0]) * clock.exchange_cycles
    error = np.zeros(len(parent), np.int64)
    at_points = np.empty((len(points), len(parent)), np.int64)
    since = clock.exchange_cycles * SETTLE_EXCHANGES
    for k in range(len(points)):
        gap = since if k == 0 else int(points[k] - points[k - 1])
        for _ in range(min(SETTLE_EXCHANGES, gap // clock.exchange_cycles)):
            noise = random.normal(0.0, clock.jitter_cycles, len(parent)).clip(-clock.jitter_max_cycles, clock.jitter_max_cycles)
            error = np.where(moving, exchanged(error, error[parent], drift, noise), 0)
        at_points[k] = error
    return at_points


def exchanged(error: Int64, parent_error: Int64, drift: Int64 | int, noise_cycles: NDArray[np.float64]) -> Int64:
    """Ticks by which counters are behind after one more exchange with their parents, which `noise_cycles` disturb."""
    seen = error + drift - parent_error + np.rint(noise_cycles * TICKS).astype(np.int64)
    nudge: Int64 = np.clip(np.rint(seen / TICKS), -1, 1).astype(np.int64) * TICKS
    return error + drift - nudge


def _burst_jitter(schedule: Schedule, clock: Clock, seed: int) -> Int64:
    """[burst] ticks: the largest of n draws of a normal cut at +- jitter_max, n the burst's vectors.

    The largest of n has the distribution F^n, so one uniform u gives it as F^-1(u^(1/n)).
    """
    u = stream(seed, "clock.jitter").random(len(schedule.burst_link))
    if clock.jitter_cycles == 0:
        return np.zeros(len(u), np.int64)
    normal = NormalDist(0.0, clock.jitter_cycles)
    low = normal.cdf(-clock.jitter_max_cycles)
    share = u ** (1.0 / np.repeat(schedule.vectors, schedule.hops))
    worst = [normal.inv_cdf(x) for x in np.clip(low + share * (1 - 2 * low), 1e-15, 1 - 1e-15).tolist()]
    ticks: Int64 = np.rint(np.array(worst) * TICKS).astype(np.int64)
    return ticks


def slack_needed_cycles(schedule: Schedule, fabric: Fabric, clocks: Clocks, link_cycles: int) -> int:
    """Smallest slack with which every vector of `schedule` is there when its receiver reads it.

    A vector sent at the sender's cycle c is read at the receiver's cycle c + link + slack. Checked for the first
    and last vector of every burst and at deskew points between; lateness in between lies between.
    """
    sender, reader = fabric.link_source[schedule.burst_link], fabric.link_target[schedule.burst_link]
    last = schedule.burst_start + np.repeat((schedule.vectors - 1) * schedule.stride, schedule.hops)
    jitter = 0 if clocks.jitter_ticks is None else clocks.jitter_ticks
    slack = 0
    for cycle in (schedule.burst_start, last):
        there = clocks.ticks(sender, cycle) + link_cycles * TICKS + jitter
        slack = max(slack, _least_slack(clocks, reader, cycle + link_cycles, there))
    return slack


def _least_slack(clocks: Clocks, reader: Int, cycle: Int64, there: Int64) -> int:
    """Least s such that every reader reaches cycle + s no sooner than its vector is there."""
    slack = 0
    while len(cycle):
        late = there - clocks.ticks(reader, cycle + slack)
        if late.max() <= 0:
            break
        slack += max(1, int(late.max()) // (2 * TICKS))
    return slack
