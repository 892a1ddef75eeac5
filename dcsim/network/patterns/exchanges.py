"""Exchanges in one step, and sums that switches make.

`one_shot`: every rank reads the whole of every other and sums it itself, as serving libraries do for little data; `two_shot` is
the direct exchange of `levels`. `all_to_all` goes straight, or along rails: first to the chip of one's own node that stands on
the target's rail, which sends what its node has for that target as one message (as NCCL's PXN and DeepEP do).
"""

from __future__ import annotations

from dcsim.network.patterns.levels import gather_direct, reduce_levels
from dcsim.network.patterns.ranks import Handles, Levels, Ranks, Spans, cut, nodes_of


def one_shot(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    """All-reduce in one step of (n - 1) times the whole."""
    n, whole = len(g), [(0, size_bytes)]
    arrived: Handles = [[] for _ in range(n)]
    for shift in range(1, n):
        for source in range(n):
            arrived[(source + shift) % n] += g.send(source, (source + shift) % n, whole, before[source])
    return [g.add(rank, whole, before[rank] + arrived[rank]) for rank in range(n)]


def in_switches(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    """All-reduce whose sums switches make: a port carries the whole once up and once down.

    That is what a message of the whole from each rank to the next loads the ports with, and as long as it takes; it stands for
    it here, since no chip sees the parts. Over several nodes each column of chips has its switches sum its own share, between
    sums and copies inside nodes.
    """
    nodes = nodes_of(range(len(g)), levels)
    if len(nodes) in (1, len(g)):
        return _summed(g, list(range(len(g))), [(0, size_bytes)], before)
    wide = max(map(len, nodes))
    spans = cut(size_bytes, wide, g.unit.vector_bytes)
    after: Handles = [[] for _ in before]
    sums: list[dict[int, list[int]]] = [{} for _ in nodes]  # [node] of each column: the tasks at the chip that holds it
    for column, span in enumerate(spans):
        owners = [node[column % len(node)] for node in nodes]
        own = [
            reduce_levels(g, node, {owner: [span]}, {r: before[r] for r in node}, ())[owner]
            for node, owner in zip(nodes, owners, strict=True)
        ]
        for k, tasks in enumerate(_summed(g, owners, [span], own)):
            sums[k][column] = tasks
    for node, held in zip(nodes, sums, strict=True):
        for column, span in enumerate(spans):
            owner = node[column % len(node)]
            for rank, (_, tasks) in gather_direct(g, node, {owner: ([span], held[column])}).items():
                after[rank] += tasks
    return after


def _summed(g: Ranks, ranks: list[int], spans: Spans, before: Handles) -> Handles:
    """[place in ranks] when each has the sum: once the last has sent, the data passes the switches once."""
    every = [task for tasks in before for task in tasks]
    n = len(ranks)
    arrived = [g.send(ranks[i], ranks[(i + 1) % n], spans, every) for i in range(n)]
    return [arrived[(i - 1) % n] for i in range(n)]


def all_to_all(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    """Rank s sends its span t to rank t, starting with the next rank; it keeps its own span."""
    n, spans = len(g), cut(size_bytes, len(g), g.unit.vector_bytes)
    after = [list(tasks) for tasks in before]
    targets = [rank for rank, (start, end) in enumerate(spans) if end > start]
    for shift in range(1, n):
        for source in sorted((target - shift) % n for target in targets):
            target = (source + shift) % n
            after[target] += g.send(source, target, [spans[target]], before[source])
    return after


def all_to_all_by_rails(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    """The same along rails: in the node to the chip on the target's rail, then across with all its node has for the target."""
    n, spans = len(g), cut(size_bytes, len(g), g.unit.vector_bytes)
    nodes = nodes_of(range(n), levels)
    after = [list(tasks) for tasks in before]
    for k, node in enumerate(nodes):
        others = nodes[k + 1 :] + nodes[:k]
        held: Handles = [list(before[rank]) for rank in node]  # what each chip of this node has for its rail
        for shift in range(1, len(node)):
            for i, source in enumerate(node):
                relay = (i + shift) % len(node)
                onward = [spans[other[j]] for other in others for j in _on_rail(other, relay, len(node))]
                after[node[relay]] += g.send(source, node[relay], [spans[node[relay]]], before[source])
                held[relay] += g.send(source, node[relay], onward, before[source])
        for other in others:
            for i, relay in enumerate(node):
                for j in _on_rail(other, i, len(node)):
                    after[other[j]] += g.send(relay, other[j], [spans[other[j]]] * len(node), held[i])
    return after


def _on_rail(node: list[int], rail: int, wide: int) -> list[int]:
    """The places in `node` that a chip in place `rail` of a node of `wide` sends to."""
    return [j for j in range(len(node)) if j % wide == rail]
