"""Collectives spelled out as messages and reductions on chips.

Each algorithm takes, for every rank, the tasks after which its input is there (`before`), and returns, for every
rank, the tasks after which its result is there. Data is cut in whole vectors; an empty slice sends nothing.
Algorithms are after Thakur, Rabenseifner, Gropp, "Optimization of collective communication operations in MPICH",
IJHPCA 2005; `hierarchical` repeats the direct exchange level by level (node, then rack, then all).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from dcsim.errors import FabricError
from dcsim.fabric.graph import Fabric
from dcsim.network.tasks import COLLECTIVE_FIRST, COLLECTIVE_STEP, LINK, SEND, VECTOR, TaskBuilder

Span = tuple[int, int]  # bytes [start, end) of the whole
Spans = list[Span]
Handles = list[list[int]]  # [rank] tasks
Levels = Sequence[Sequence[int]]  # [level][rank] labels: the node of each rank, then its rack


@dataclass(frozen=True, slots=True)
class VectorUnit:
    """What reductions cost: `reduce_cycles` to the first sum, then further vectors at a rate."""

    vector_bytes: int
    reduce_cycles: int
    vectors_per_cycle: float = 1.0


class Ranks:
    """The chips that take part, and how their messages and sums become tasks."""

    def __init__(self, builder: TaskBuilder, chips: Sequence[int], unit: VectorUnit, call: int | None = None) -> None:
        self.builder, self.chips, self.unit, self.call = builder, chips, unit, call
        self._own: set[int] = set()

    def send(self, source: int, target: int, spans: Spans, before: list[int]) -> list[int]:
        """The task of a message between two ranks, or none when there is nothing to send."""
        size_bytes = sum(end - start for start, end in spans)
        if not size_bytes:
            return []
        call = self.call
        if call is None:
            call = COLLECTIVE_FIRST if self._own.isdisjoint(before) else COLLECTIVE_STEP
        chips = self.chips
        return self._keep(self.builder.message(chips[source], chips[target], size_bytes, before, part=LINK, call=call))

    def add(self, rank: int, spans: Spans, before: list[int]) -> list[int]:
        """The task that sums what `before` brings, vector by vector as they come; none when there is nothing."""
        unit = self.unit
        vectors = sum(-(-(end - start) // unit.vector_bytes) for start, end in spans)
        if not vectors:
            return []
        last = unit.reduce_cycles + ceil((vectors - 1) / unit.vectors_per_cycle)
        task = self.builder.compute(self.chips[rank], VECTOR, unit.reduce_cycles, last, before, rows=vectors, lead_rows=0)
        return self._keep(task)

    def _keep(self, task: int) -> list[int]:
        self._own.add(task)
        return [task]

    def __len__(self) -> int:
        return len(self.chips)


def cut(size_bytes: int, parts: int, vector_bytes: int) -> Spans:
    """Cut into `parts` consecutive spans of whole vectors (the very last may be short), sizes at most one apart."""
    vectors = -(-size_bytes // vector_bytes)
    share, more = divmod(vectors, parts)
    ends = [0]
    for part in range(parts):
        ends.append(ends[-1] + share + (part < more))
    return [(min(a * vector_bytes, size_bytes), min(b * vector_bytes, size_bytes)) for a, b in pairwise(ends)]


def levels_of(fabric: Fabric, chips: Sequence[int]) -> list[list[int]]:
    """The node and the rack of each rank, as `hierarchical` and `auto` want them."""
    return [[int(fabric.node_of[c]) for c in chips], [int(fabric.rack_of[c]) for c in chips]]


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


def _reduce_levels(
    g: Ranks, ranks: list[int], wanted: dict[int, Spans], have: dict[int, list[int]], levels: Levels
) -> dict[int, list[int]]:
    """Reduce inside each node onto one rank a column, then across nodes column by column."""
    if not levels:
        return _reduce_direct(g, ranks, wanted, have)
    nodes = _split(ranks, levels[0])
    sums: dict[int, list[int]] = {}
    for k, members in enumerate(_columns(nodes)):
        final = {node[k]: wanted[node[k]] for node in nodes if k < len(node) and node[k] in wanted}
        spans = [span for owner in final.values() for span in owner]
        partial = {m: _reduce_direct(g, node, {m: spans}, have)[m] for m, node in zip(members, nodes, strict=True)}
        sums |= _reduce_levels(g, members, final, partial, levels[1:])
    return sums


# Gather: each owner holds spans; afterwards every rank holds all of them.

Held = dict[int, tuple[Spans, list[int]]]  # rank -> its spans, and the tasks that bring them


def _gather_direct(g: Ranks, ranks: list[int], held: Held) -> Held:
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
        return _gather_direct(g, ranks, held)
    nodes = _split(ranks, levels[0])
    after: Held = {rank: ([], []) for rank in ranks}
    for k, members in enumerate(_columns(nodes)):
        first = {node[k]: held[node[k]] for node in nodes if k < len(node) and node[k] in held}
        across = _gather_levels(g, members, first, levels[1:])
        for member, node in zip(members, nodes, strict=True):
            for rank, (spans, ready) in _gather_direct(g, node, {member: across[member]}).items():
                after[rank][0].extend(spans)
                after[rank][1].extend(ready)
    return after


def _split(ranks: list[int], labels: Sequence[int]) -> list[list[int]]:
    """Ranks of equal label together, in rank order."""
    nodes: dict[int, list[int]] = {}
    for rank in ranks:
        nodes.setdefault(labels[rank], []).append(rank)
    return list(nodes.values())


def _columns(nodes: list[list[int]]) -> list[list[int]]:
    """One rank of each node for every place in the largest node; small nodes use a rank more than once."""
    return [[node[k % len(node)] for node in nodes] for k in range(max(map(len, nodes)))]


# Rings and trees.


def _reduce_ring(g: Ranks, spans: Spans, before: Handles) -> Handles:
    """n - 1 steps; rank r ends with the sum of span r."""
    n, sums = len(g), list(before)
    for step in range(n - 1):
        arrived = [g.send(r, (r + 1) % n, [spans[(r - step - 1) % n]], sums[r]) for r in range(n)]
        received = [arrived[(r - 1) % n] for r in range(n)]
        sums = [g.add(r, [spans[(r - step - 2) % n]], before[r] + received[r]) for r in range(n)]
    return sums


def _gather_ring(g: Ranks, spans: Spans, ready: Handles) -> Handles:
    """n - 1 steps; each rank passes on what it got last."""
    n, passing, after = len(g), list(ready), [list(tasks) for tasks in ready]
    for step in range(n - 1):
        arrived = [g.send(r, (r + 1) % n, [spans[(r - step) % n]], passing[r]) for r in range(n)]
        passing = [arrived[(r - 1) % n] for r in range(n)]
        for r in range(n):
            after[r] += passing[r]
    return after


def _reduce_tree(g: Ranks, span: Span, before: Handles) -> list[int]:
    """Binomial tree onto rank 0: ceil(log2 n) steps of the whole."""
    sums, distance = list(before), 1
    while distance < len(g):
        for rank in range(0, len(g) - distance, 2 * distance):
            message = g.send(rank + distance, rank, [span], sums[rank + distance])
            sums[rank] = g.add(rank, [span], sums[rank] + message)
        distance *= 2
    return sums[0]


def _spread_tree(g: Ranks, span: Span, ready: list[int]) -> Handles:
    """Binomial tree from rank 0: ceil(log2 n) steps of the whole, farthest ranks first."""
    after: Handles = [ready] + [[] for _ in range(len(g) - 1)]
    distance = 1 << max(0, (len(g) - 1).bit_length() - 1)
    while distance and len(g) > 1:
        for rank in range(0, len(g) - distance, 2 * distance):
            after[rank + distance] = g.send(rank, rank + distance, [span], after[rank])
        distance //= 2
    return after


# The operations: (ranks, size in bytes, before, levels) -> after.


def _all_reduce_levels(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    spans, ranks = cut(size_bytes, len(g), g.unit.vector_bytes), list(range(len(g)))
    sums = _reduce_levels(g, ranks, _owners(spans), dict(enumerate(before)), levels)
    return _tasks(_gather_levels(g, ranks, {r: ([spans[r]], sums[r]) for r in sums}, levels))


def _reduce_scatter_levels(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    spans = cut(size_bytes, len(g), g.unit.vector_bytes)
    sums = _reduce_levels(g, list(range(len(g))), _owners(spans), dict(enumerate(before)), levels)
    return [sums.get(rank, before[rank]) for rank in range(len(g))]


def _all_gather_levels(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    spans = cut(size_bytes, len(g), g.unit.vector_bytes)
    held = {r: (own, before[r]) for r, own in _owners(spans).items()}
    return _tasks(_gather_levels(g, list(range(len(g))), held, levels))


def _owners(spans: Spans) -> dict[int, Spans]:
    """Rank -> its span, ranks without any left out."""
    return {rank: [span] for rank, span in enumerate(spans) if span[1] > span[0]}


def _tasks(held: Held) -> Handles:
    return [held[rank][1] for rank in range(len(held))]


def _all_reduce_ring(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    spans = cut(size_bytes, len(g), g.unit.vector_bytes)
    return _gather_ring(g, spans, _reduce_ring(g, spans, before))


def _reduce_scatter_ring(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    return _reduce_ring(g, cut(size_bytes, len(g), g.unit.vector_bytes), before)


def _all_gather_ring(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    return _gather_ring(g, cut(size_bytes, len(g), g.unit.vector_bytes), before)


def _all_reduce_tree(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    return _spread_tree(g, (0, size_bytes), _reduce_tree(g, (0, size_bytes), before))


def _broadcast_tree(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    return _spread_tree(g, (0, size_bytes), before[0])


def _broadcast_direct(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    return _tasks(_gather_direct(g, list(range(len(g))), {0: ([(0, size_bytes)], before[0])}))


def _all_to_all_direct(g: Ranks, size_bytes: int, before: Handles, levels: Levels) -> Handles:
    """Rank s sends its span t to rank t, starting with the next rank; it keeps its own span."""
    n, spans = len(g), cut(size_bytes, len(g), g.unit.vector_bytes)
    after = [list(tasks) for tasks in before]
    for shift in range(1, n):
        for source in range(n):
            target = (source + shift) % n
            after[target] += g.send(source, target, [spans[target]], before[source])
    return after


def _direct(
    levelled: Callable[[Ranks, int, Handles, Levels], Handles],
) -> Callable[[Ranks, int, Handles, Levels], Handles]:
    """The same exchange with all ranks on one level."""
    return lambda g, size_bytes, before, levels: levelled(g, size_bytes, before, ())


ALGORITHMS: dict[tuple[str, str], Callable[[Ranks, int, Handles, Levels], Handles]] = {
    ("all_reduce", "direct"): _direct(_all_reduce_levels),
    ("all_reduce", "hierarchical"): _all_reduce_levels,
    ("all_reduce", "ring"): _all_reduce_ring,
    ("all_reduce", "tree"): _all_reduce_tree,
    ("reduce_scatter", "direct"): _direct(_reduce_scatter_levels),
    ("reduce_scatter", "hierarchical"): _reduce_scatter_levels,
    ("reduce_scatter", "ring"): _reduce_scatter_ring,
    ("all_gather", "direct"): _direct(_all_gather_levels),
    ("all_gather", "hierarchical"): _all_gather_levels,
    ("all_gather", "ring"): _all_gather_ring,
    ("all_to_all", "direct"): _all_to_all_direct,
    ("broadcast", "direct"): _broadcast_direct,
    ("broadcast", "tree"): _broadcast_tree,
}


def add_collective(
    builder: TaskBuilder,
    op: str,
    chips: Sequence[int],
    size_bytes: int,
    before: Handles,
    unit: VectorUnit,
    levels: Levels = (),
    algorithm: str = "auto",
) -> Handles:
    """Append one collective among `chips` (rank r is chips[r]) and return each rank's finishing tasks.

    `size_bytes` is the whole: what a rank holds before a reduction, an all_to_all (one span for each rank) or, at
    rank 0, a broadcast, and what it holds after an all_gather. In a scattered result rank r has `cut(...)[r]`.
    A rank that needs nothing gets its own `before` back. Raises FabricError for an unknown (op, algorithm).
    """
    if algorithm == "auto":
        algorithm = choose(op, len(chips), levels)
    if (op, algorithm) not in ALGORITHMS:
        known = ", ".join(f"{name} {kind}" for name, kind in ALGORITHMS)
        raise FabricError(f"no collective '{op}' by '{algorithm}'; there are: {known}")
    if len(chips) < 2 or not size_bytes:
        return [list(tasks) for tasks in before]
    call = SEND if op == "broadcast" else None
    after = ALGORITHMS[op, algorithm](Ranks(builder, chips, unit, call), size_bytes, before, levels)
    return [tasks or list(before[rank]) for rank, tasks in enumerate(after)]


def choose(op: str, ranks: int, levels: Levels) -> str:
    """The rule of `auto`: direct in one node, else hierarchical where the operation has it, else direct.

    A broadcast goes direct in one node and down a tree beyond it. Without `levels` all ranks count as one node.
    """
    one_node = not levels or len(set(levels[0][:ranks])) < 2
    if one_node or op == "all_to_all":
        return "direct"
    return "tree" if op == "broadcast" else "hierarchical"
