"""Small fabrics and programs the tests of the scheduled network share."""

from __future__ import annotations

import numpy as np

from dcsim.fabric.graph import Fabric, from_cables
from dcsim.network.scheduled.rules import ScheduleRules
from dcsim.network.tasks import LINK, MESSAGE, VECTOR, TaskBuilder, Tasks

CLOCK_HZ = 900e6
FIGURES = ScheduleRules(CLOCK_HZ, 320, 24, 217, 0, 334, 335, 60, 64, 64, 6)
END, HOP, FORWARD, SLOT, REDUCE = 669, 217, 60, 24, 118


def island(chips: int) -> Fabric:
    """Every chip cabled to every other."""
    return from_cables("island", chips, [(a, b, "local", 1.0) for a in range(chips) for b in range(a)])


def ring(chips: int) -> Fabric:
    return from_cables("ring", chips, [(c, (c + 1) % chips, "local", 1.0) for c in range(chips)])


def line(chips: int) -> Fabric:
    return from_cables("line", chips, [(c, c + 1, "local", 1.0) for c in range(chips - 1)])


def one_message(size_bytes: int, source: int = 0, target: int = 1) -> Tasks:
    build = TaskBuilder(CLOCK_HZ)
    build.message(source, target, size_bytes, [])
    return build.build()


def direct_all_reduce(chips: int, size_bytes: int) -> Tasks:
    """Each chip reduces its slice of all, then gives it to all: two exchanges and a sum between."""
    build = TaskBuilder(CLOCK_HZ)
    slices = size_bytes // chips
    scattered = [[build.message(s, t, slices, []) for s in range(chips) if s != t] for t in range(chips)]
    sums = [build.compute(t, VECTOR, REDUCE, REDUCE, scattered[t]) for t in range(chips)]
    for source in range(chips):
        for target in range(chips):
            if source != target:
                build.message(source, target, slices, [sums[source]])
    return build.build()


def ring_all_reduce(chips: int, size_bytes: int) -> Tasks:
    """2 (chips - 1) steps round a ring, a sum after each of the first half."""
    build = TaskBuilder(CLOCK_HZ)
    held: list[list[int]] = [[] for _ in range(chips)]
    for step in range(2 * (chips - 1)):
        came = [build.message(c, (c + 1) % chips, size_bytes // chips, held[c]) for c in range(chips)]
        for chip in range(chips):
            arrived = [came[(chip - 1) % chips]]
            held[chip] = [build.compute(chip, VECTOR, REDUCE, REDUCE, arrived)] if step < chips - 1 else arrived
    return build.build()


def all_to_all(chips: int, size_bytes: int) -> Tasks:
    """A message between every ordered pair, all at once, as arrays (fast for thousands of chips)."""
    source, target = np.divmod(np.arange(chips * chips), chips)
    apart = source != target
    source, target = source[apart].astype(np.int32), target[apart].astype(np.int32)
    count = len(source)
    zeros = np.zeros(count, np.int64)
    return Tasks(
        CLOCK_HZ,
        np.full(count, MESSAGE, np.int8),
        np.full(count, LINK, np.int8),
        np.zeros(count, np.int8),
        source,
        target,
        np.full(count, size_bytes, np.int64),
        zeros,
        zeros,
        np.ones(count, np.int32),
        np.zeros(count, np.int32),
        np.zeros(count + 1, np.int64),
        np.zeros(0, np.int32),
    )
