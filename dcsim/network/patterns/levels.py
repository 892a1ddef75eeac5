"""Direct exchanges: every rank to every owner in one hop, on one level or level by level (node, then rack, then all).

An all-reduce is two of them, each of 1/n of the data to every other rank: the two-shot exchange of serving libraries.
"""

from __future__ import annotations

from dcsim.network.patterns.ranks import Handles, Levels, Ranks, Spans, cut, nodes_of

# Reduce: every rank holds the whole; afterwards each owner holds the sum of its spans.


def _reduce_direct(g: Ranks, ranks: list[int], wanted: dict[int, Spans], have: dict[int, list[int]]) -> dict[int, list[int]]:
    """Every rank sends each owner its spans, one hop. Returns each owner's sum."""
    sums: dict[int, list[int]] = {}
    got: dict[int, list[int]] = {owner: [] for owner in wanted}
    for i, source in enumerate(ranks):
        for owner in ranks[i + 1 :] + ranks[:i]:  # starting with the next rank, so that not all begin with rank 0
            if owner in wanted:
                got[owner] += g.send(source, owner, wanted[owner], have[source])
    for owner, messages in got.items():
        sums[owner] = g.add(owner, wanted[owner], have[owner] + messages) if messages else have[owner]
    return sums


def reduce_levels(
    g: Ranks, ranks: list[int], wanted: dict[int, Spans], have: dict[int, list[int]], levels: Levels
) -> dict[int, list[int]]:
    """Reduce inside each node onto one rank a column, then across nodes column by column."""
    if not levels:
        return _reduce_direct(g, ranks, wanted, have)
    nodes = nodes_of(ranks, levels)
    sums: dict[int, list[int]] = {}
    for k, members in enumerate(_columns(nodes)):
        final = {node[k]: wanted[node[k]] for node in nodes if k < len(node) and node[k] in wanted}
        spans = [span for owner in final.values() for span in owner]
        partial = {m: _reduce_direct(g, node, {m: spans}, have)[m] for m, node in zip(members, nodes, strict=True)}
        sums |= reduce_levels(g, members, final, partial, levels[1:])
    return sums


# Gather: each owner holds spans; afterwards every rank holds all of them.

Held = dict[int, tuple[Spans, list[int]]]  # rank -> its spans, and the tasks that bring them


def gather_direct(g: Ranks, ranks: list[int], held: Held) -> Held:
    """Every owner sends its spans to every rank, one hop. Returns what each rank then holds."""
    after: Held = {rank: ([], []) for rank in ranks}
    for i, owner in enumerate(ranks):
        if owner not in held:
            continue
        spans, ready = held[owner]
        for target in ranks[i:] + ranks[:i]:
            after[target][0].extend(spans)
            after[target][1].extend(ready if target == owner else g.send(owner, target, spans, ready))
    return after


def _gather_levels(g: Ranks, ranks: list[int], held: Held, levels: Levels) -> Held:
    """Gather across nodes column by column, then share inside each node."""
    if not levels:
        return gather_direct(g, ranks, held)
    nodes = nodes_of(ranks, levels)
    after: Held = {rank: ([], []) for rank in ranks}
    for k, members in enumerate(_columns(nodes)):
        first = {node[k]: held[node[k]] for node in nodes if k < len(node) and node[k] in held}
        across = _gather_levels(g, members, first, levels[1:])
        for member, node in zip(members, nodes, strict=True):
            for rank, (spans, ready) in gather_direct(g, node, {member: across[member]}).items():
                after[rank][0].extend(spans)
                after[rank][1].extend(ready)
    return after


def _columns(nodes: list[list[int]]) -> list[list[int]]:
    """One rank of each node for every place in the largest node; small nodes use a rank more than once."""
    return [[node[k % len(node)] for node in nodes] for k in range(max(map(len, nodes)))]


# The operations.


def all_reduce(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    """Every rank ends with the sum of the whole."""
    spans, ranks = cut(size_bytes, len(g), g.unit.vector_bytes), list(range(len(g)))
    sums = reduce_levels(g, ranks, _owners(spans), dict(enumerate(before)), levels)
    return _tasks(_gather_levels(g, ranks, {r: ([spans[r]], sums[r]) for r in sums}, levels))


def reduce_scatter(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    """Rank r ends with the sum of its span."""
    spans = cut(size_bytes, len(g), g.unit.vector_bytes)
    sums = reduce_levels(g, list(range(len(g))), _owners(spans), dict(enumerate(before)), levels)
    return [sums.get(rank, before[rank]) for rank in range(len(g))]


def all_gather(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    """Every rank ends with all spans, of which rank r held the r-th."""
    spans = cut(size_bytes, len(g), g.unit.vector_bytes)
    held = {r: (own, before[r]) for r, own in _owners(spans).items()}
    return _tasks(_gather_levels(g, list(range(len(g))), held, levels))


def broadcast(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    """The whole from rank 0 to every other, one hop."""
    return _tasks(gather_direct(g, list(range(len(g))), {0: ([(0, size_bytes)], before[0])}))


def _owners(spans: Spans) -> dict[int, Spans]:
    """Rank -> its span, ranks without any left out."""
    return {rank: [span] for rank, span in enumerate(spans) if span[1] > span[0]}


def _tasks(held: Held) -> Handles:
    return [held[rank][1] for rank in range(len(held))]
