"""Traffic patterns: flows between chips that start by themselves, as Tasks without dependencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dcsim.network.tasks import LINK, MESSAGE, SEND, Tasks


@dataclass(frozen=True, slots=True)
class Flows:
    """Flow i sends `size_bytes[i]` from `source[i]` to `target[i]` from `release_s[i]` on."""

    source: Any
    target: Any
    size_bytes: Any
    release_s: Any

    def tasks(self) -> Tasks:
        """The flows as messages without predecessors."""
        count = len(self.source)
        zero = np.zeros(count, np.int64)
        return Tasks(
            1e9,
            np.full(count, MESSAGE, np.int8),
            np.full(count, LINK, np.int8),
            np.full(count, SEND, np.int8),
            np.asarray(self.source, np.int32),
            np.asarray(self.target, np.int32),
            np.asarray(self.size_bytes, np.int64),
            zero,
            zero.copy(),
            np.ones(count, np.int32),
            np.zeros(count, np.int32),
            np.zeros(count + 1, np.int64),
            np.zeros(0, np.int32),
        )


def _at_once(source: Any, target: Any, size_bytes: int) -> Flows:
    return Flows(source, target, np.full(len(source), size_bytes, np.int64), np.zeros(len(source)))


def permutation(chips: int, size_bytes: int, seed: int = 0) -> Flows:
    """Each chip sends to one other and receives from one other: a random cyclic order."""
    order = np.random.default_rng([seed, 11]).permutation(chips)
    target = np.empty(chips, np.int64)
    target[order] = np.roll(order, -1)
    return _at_once(np.arange(chips), target, size_bytes)


def uniform(chips: int, size_bytes: int, seed: int = 0) -> Flows:
    """Each chip sends to one other drawn at random; some receive from several."""
    random = np.random.default_rng([seed, 12])
    target = (np.arange(chips) + random.integers(1, chips, chips)) % chips
    return _at_once(np.arange(chips), target, size_bytes)


def adversarial(groups: Any, size_bytes: int, seed: int = 0) -> Flows:
    """Each chip of a group sends to a random chip of the next group; `groups` is the group of each chip."""
    groups = np.asarray(groups)
    target = next_group_targets(groups, np.arange(len(groups)), np.random.default_rng([seed, 13]))
    return _at_once(np.arange(len(groups)), target, size_bytes)


def next_group_targets(groups: Any, source: Any, random: Any) -> Any:
    """For each source a random chip of the group after its own."""
    return next_group(groups, source, random.random(len(source)))


def next_group(groups: Any, source: Any, draw: Any) -> Any:
    """For each source the chip of the group after its own that its draw, from 0 to 1, falls on."""
    names = np.unique(groups)
    members = [np.flatnonzero(groups == name) for name in names]
    following = (np.searchsorted(names, groups[source]) + 1) % len(names)
    sizes = np.array([len(m) for m in members])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return np.concatenate(members)[starts[following] + (draw * sizes[following]).astype(np.int64)]


def incast(chips: int, size_bytes: int, target: int = 0) -> Flows:
    """All chips send to one."""
    source = np.delete(np.arange(chips), target)
    return _at_once(source, np.full(len(source), target), size_bytes)


def all_to_all(chips: int, size_bytes: int) -> Flows:
    """Every chip sends to every other; chip i starts with chip i + 1, so that targets are spread."""
    source = np.repeat(np.arange(chips), chips - 1)
    target = (source + np.tile(np.arange(1, chips), chips)) % chips
    return _at_once(source, target, size_bytes)


def stream(
    chips: int, load_fraction: float, slot_s: float, slots: int, size_bytes: int, seed: int = 0, groups: Any = None
) -> Flows:
    """Bernoulli traffic: in each of `slots` slots each chip sends one message with probability `load_fraction`.

    Targets are uniform over the other chips, or over the next group if `groups` is given.
    """
    random = np.random.default_rng([seed, 14])
    slot, source = np.nonzero(random.random((slots, chips)) < load_fraction)
    if groups is None:
        target = (source + random.integers(1, chips, len(source))) % chips
    else:
        target = next_group_targets(np.asarray(groups), source, random)
    return Flows(source, target, np.full(len(source), size_bytes, np.int64), slot * slot_s)
