"""Trees: double binary ones for sums, a binomial one for a broadcast of little.

Two binary trees over the nodes, each for half of the data: a node is inner in one at most, so that it sends and receives every
byte about once in all (Sanders, Speck, Traeff, "Two-tree algorithms", Parallel Computing 2009). Inside a node the data goes
along a chain of its chips, as in NCCL (src/graph/trees.cc at v2.30.7). Channels as in `rails`.
"""

from __future__ import annotations

from itertools import pairwise

from dcsim.network.patterns.rails import chains, channels
from dcsim.network.patterns.ranks import Handles, Levels, Ranks, Span, cut

Parents = list[int]  # [node] the node above it; -1 at the root


def all_reduce(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    """Up both trees of every channel onto their roots, and down again."""
    after: Handles = [[] for _ in before]
    count = channels(len(g), size_bytes, levels, g.mesh)
    spans = cut(size_bytes, 2 * count, g.unit.vector_bytes)
    for channel in range(count):
        lines = chains(channel, len(g), levels, g.mesh)
        for parents, span in zip(double_trees(len(lines)), spans[2 * channel :][:2], strict=True):
            if span[1] > span[0]:
                _down(g, lines, parents, span, _up(g, lines, parents, span, before), after)
    return after


def double_trees(nodes: int) -> tuple[Parents, Parents]:
    """The two trees: the second is the first mirrored (an even number of nodes) or shifted by one (an odd one)."""
    first = [_parent(node, nodes) for node in range(nodes)]
    second = first.copy()
    for node, parent in enumerate(first):
        if nodes % 2:
            second[(node + 1) % nodes] = -1 if parent < 0 else (parent + 1) % nodes
        else:
            second[nodes - 1 - node] = -1 if parent < 0 else nodes - 1 - parent
    return first, second


def _parent(node: int, nodes: int) -> int:
    """In the tree whose root is 0, whose odd numbers are leaves, and whose others have the middle between them above."""
    if node == 0:
        return -1
    low = node & -node
    above = (node ^ low) | (low << 1)
    return above if above < nodes else node ^ low


def _from_leaves(parents: Parents) -> list[int]:
    """The nodes, each before the one above it."""
    depth: dict[int, int] = {-1: -1}

    def of(node: int) -> int:
        if node not in depth:
            depth[node] = of(parents[node]) + 1
        return depth[node]

    return sorted(range(len(parents)), key=of, reverse=True)


def _up(g: Ranks, lines: list[list[int]], parents: Parents, span: Span, before: Handles) -> list[int]:
    """The sum at the root's first chip."""
    arrived: Handles = [[] for _ in lines]  # at each node's first chip, from the nodes below
    sums: list[int] = []
    for node in _from_leaves(parents):
        line = lines[node]
        sums = before[line[-1]]
        for source, target in pairwise(reversed(line)):
            message = g.send(source, target, [span], sums)
            inner = before[target] + message
            sums = g.add(target, [span], inner + (arrived[node] if target == line[0] else []))
        if len(line) == 1:
            sums = g.add(line[0], [span], before[line[0]] + arrived[node]) if arrived[node] else before[line[0]]
        if parents[node] >= 0:
            arrived[parents[node]] += g.send(line[0], lines[parents[node]][0], [span], sums)
    return sums


def _down(g: Ranks, lines: list[list[int]], parents: Parents, span: Span, ready: list[int], after: Handles) -> None:
    """Adds to `after` what brings each rank the root's sum."""
    held: Handles = [[] for _ in lines]
    for node in reversed(_from_leaves(parents)):
        line, above = lines[node], parents[node]
        passing = ready if above < 0 else g.send(lines[above][0], line[0], [span], held[above])
        held[node] = passing
        after[line[0]] += passing
        for source, target in pairwise(line):
            passing = g.send(source, target, [span], passing)
            after[target] += passing


def broadcast(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    """Binomial tree from rank 0: ceil(log2 n) steps of the whole, farthest ranks first."""
    after: Handles = [list(before[0])] + [[] for _ in range(len(g) - 1)]
    for step in reversed(range((len(g) - 1).bit_length())):
        distance = 1 << step
        for rank in range(0, len(g) - distance, 2 * distance):
            after[rank + distance] = g.send(rank, rank + distance, [(0, size_bytes)], after[rank])
    return after
