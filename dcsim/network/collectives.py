"""The patterns of collectives by operation and name, and the rule of `auto` on networks without libraries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isqrt

from dcsim.errors import FabricError
from dcsim.fabric.graph import Fabric
from dcsim.network.patterns import exchanges, rings, trees
from dcsim.network.patterns import levels as by_levels
from dcsim.network.patterns.ranks import Handles, Levels, Ranks, VectorUnit
from dcsim.network.tasks import TaskBuilder

Pattern = Callable[[Ranks, int, Handles, Levels], Handles]


MESSAGES_MAX = 1 << 23  # of one collective: spelled out and timed they take some 8 GB


def _direct(levelled: Pattern) -> Pattern:
    """The same exchange with all ranks on one level."""
    return lambda g, size_bytes, before, levels: levelled(g, size_bytes, before, ())


ALGORITHMS: dict[tuple[str, str], Pattern] = {
    ("all_reduce", "direct"): _direct(by_levels.all_reduce),
    ("all_reduce", "hierarchical"): by_levels.all_reduce,
    ("all_reduce", "one_shot"): exchanges.one_shot,
    ("all_reduce", "two_shot"): _direct(by_levels.all_reduce),
    ("all_reduce", "ring"): rings.all_reduce,
    ("all_reduce", "tree"): trees.all_reduce,
    ("all_reduce", "in_network"): exchanges.in_switches,
    ("reduce_scatter", "direct"): _direct(by_levels.reduce_scatter),
    ("reduce_scatter", "hierarchical"): by_levels.reduce_scatter,
    ("reduce_scatter", "ring"): rings.reduce_scatter,
    ("all_gather", "direct"): _direct(by_levels.all_gather),
    ("all_gather", "hierarchical"): by_levels.all_gather,
    ("all_gather", "ring"): rings.all_gather,
    ("all_to_all", "direct"): exchanges.all_to_all,
    ("all_to_all", "hierarchical"): exchanges.all_to_all_by_rails,
    ("broadcast", "direct"): by_levels.broadcast,
    ("broadcast", "tree"): trees.broadcast,
    ("broadcast", "pipeline"): rings.broadcast,
}


def messages_least(op: str, algorithm: str, ranks: int, vectors: int, nodes: int) -> int:
    """No fewer messages has a pattern: one for each rank's share at each other, or at each other node; 0 where it has few.

    Of fewer `vectors` than ranks some have no share.
    """
    if algorithm == "one_shot":
        return ranks * (ranks - 1)
    if algorithm in ("direct", "two_shot", "ring") and op != "broadcast":
        return min(ranks, vectors) * (ranks - 1)
    return min(ranks, vectors) * (nodes - 1) if (op, algorithm) == ("all_to_all", "hierarchical") else 0


def _require_few(op: str, algorithm: str, ranks: int, vectors: int, levels: Levels) -> None:
    """Raise FabricError where a collective has more messages than memory has room for, before it is spelled out."""
    messages = messages_least(op, algorithm, ranks, vectors, len(set(levels[0])) if levels else ranks)
    if messages > MESSAGES_MAX:
        raise FabricError(
            f"'{op}' by '{algorithm}' among {ranks:,} ranks is {messages:,} messages, and {MESSAGES_MAX:,} are the most carried "
            f"out at once: take up to {isqrt(MESSAGES_MAX):,} ranks"
        )


def levels_of(fabric: Fabric, chips: Sequence[int]) -> list[list[int]]:
    """The node and the rack of each rank, as `hierarchical` and `auto` want them."""
    return [[int(fabric.node_of[c]) for c in chips], [int(fabric.rack_of[c]) for c in chips]]


def add_collective(
    builder: TaskBuilder,
    op: str,
    chips: Sequence[int],
    size_bytes: int,
    before: Handles,
    unit: VectorUnit,
    levels: Levels = (),
    algorithm: str = "auto",
    mesh: bool = False,
) -> Handles:
    """Append one collective among `chips` (rank r is chips[r]) and return each rank's finishing tasks.

    `size_bytes` is the whole: what a rank holds before a reduction, an all_to_all (one span for each rank) or, at
    rank 0, a broadcast, and what it holds after an all_gather. In a scattered result rank r has `cut(...)[r]`.
    A rank that needs nothing gets its own `before` back. `mesh`: each chip has a link of its own to every other.
    Raises FabricError for an unknown (op, algorithm), or more than MESSAGES_MAX messages.
    """
    if algorithm == "auto":
        algorithm = choose(op, len(chips), levels)
    if (op, algorithm) not in ALGORITHMS:
        known = ", ".join(f"{name} {kind}" for name, kind in ALGORITHMS)
        raise FabricError(f"no collective '{op}' by '{algorithm}'; there are: {known}")
    _require_few(op, algorithm, len(chips), -(-size_bytes // unit.vector_bytes), levels)
    if len(chips) < 2 or not size_bytes:
        return [list(tasks) for tasks in before]
    after = ALGORITHMS[op, algorithm](Ranks(builder, chips, unit, mesh), size_bytes, before, levels)
    return [tasks or list(before[rank]) for rank, tasks in enumerate(after)]


def choose(op: str, ranks: int, levels: Levels) -> str:
    """The rule of `auto`: direct in one node, else hierarchical where the operation has it, else direct.

    A broadcast goes direct in one node and down a tree beyond it. Without `levels` all ranks count as one node.
    """
    one_node = not levels or len(set(levels[0][:ranks])) < 2
    if one_node or op == "all_to_all":
        return "direct"
    return "tree" if op == "broadcast" else "hierarchical"
