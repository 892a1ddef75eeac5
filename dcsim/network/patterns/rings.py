"""Rings: every rank hands its neighbour what it got last, in channels.

n - 1 steps for half an all-reduce, each of 1/n of the data (Thakur, Rabenseifner, Gropp, IJHPCA 2005). Channel c carries its own
share of every rank's span around its own order of the ranks (`rails.order`).
"""

from __future__ import annotations

from itertools import pairwise

from dcsim.network.patterns.rails import channels, order
from dcsim.network.patterns.ranks import Handles, Levels, Ranks, Spans, cut, cut_span


def all_reduce(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    """Every rank ends with the sum of the whole."""
    after: Handles = [[] for _ in before]
    for ring, spans in _shares(g, size_bytes, levels):
        _gather(g, ring, spans, _reduce(g, ring, spans, before), after)
    return after


def reduce_scatter(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    """Rank r ends with the sum of its span."""
    after: Handles = [[] for _ in before]
    for ring, spans in _shares(g, size_bytes, levels):
        for rank, tasks in zip(ring, _reduce(g, ring, spans, before), strict=True):
            after[rank] += tasks
    return after


def all_gather(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    """Every rank ends with all spans, of which rank r held the r-th."""
    after: Handles = [[] for _ in before]
    for ring, spans in _shares(g, size_bytes, levels):
        _gather(g, ring, spans, [before[rank] for rank in ring], after)
    return after


def broadcast(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    """The whole from rank 0 along a chain, handed on packet by packet as it comes."""
    after: Handles = [list(before[0])] + [[] for _ in range(len(g) - 1)]
    count = channels(len(g), size_bytes, levels, g.mesh)
    for channel, span in enumerate(cut(size_bytes, count, g.unit.vector_bytes)):
        ring = order(channel, len(g), levels, g.mesh)
        begin = ring.index(0)
        chain, passing = ring[begin:] + ring[:begin], before[0]
        for source, target in pairwise(chain):
            passing = g.send(source, target, [span], passing)
            after[target] += passing
    return after


def _shares(g: Ranks, size_bytes: int, levels: Levels) -> list[tuple[list[int], Spans]]:
    """Each channel's ring, and the span of its share that ends at each place of the ring."""
    count, vector = channels(len(g), size_bytes, levels, g.mesh), g.unit.vector_bytes
    own = [cut_span(span, count, vector) for span in cut(size_bytes, len(g), vector)]
    rings = [order(channel, len(g), levels, g.mesh) for channel in range(count)]
    return [(ring, [own[rank][channel] for rank in ring]) for channel, ring in enumerate(rings)]


def _reduce(g: Ranks, ring: list[int], spans: Spans, before: Handles) -> Handles:
    """[place] the sum of its span, after n - 1 steps."""
    n = len(ring)
    sums = [list(before[rank]) for rank in ring]
    for step in range(n - 1):
        arrived = [g.send(ring[i], ring[(i + 1) % n], [spans[(i - step - 1) % n]], sums[i]) for i in range(n)]
        sums = [g.add(ring[i], [spans[(i - step - 2) % n]], before[ring[i]] + arrived[(i - 1) % n]) for i in range(n)]
    return sums


def _gather(g: Ranks, ring: list[int], spans: Spans, ready: Handles, after: Handles) -> None:
    """Adds to `after` what brings each rank all spans, after n - 1 steps."""
    n, passing = len(ring), list(ready)
    for rank, tasks in zip(ring, ready, strict=True):
        after[rank] += tasks
    for step in range(n - 1):
        arrived = [g.send(ring[i], ring[(i + 1) % n], [spans[(i - step) % n]], passing[i]) for i in range(n)]
        passing = [arrived[(i - 1) % n] for i in range(n)]
        for rank, tasks in zip(ring, passing, strict=True):
            after[rank] += tasks
