"""The patterns of collectives by operation and name, and the rule of `auto` on networks without libraries."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dcsim.errors import FabricError
from dcsim.fabric.graph import Fabric
from dcsim.network.patterns import exchanges, rings, trees
from dcsim.network.patterns import levels as by_levels
from dcsim.network.patterns.ranks import Handles, Levels, Ranks, VectorUnit
from dcsim.network.tasks import TaskBuilder

Pattern = Callable[[Ranks, int, Handles, Levels], Handles]


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
    Raises FabricError for an unknown (op, algorithm).
    """
    if algorithm == "auto":
        algorithm = choose(op, len(chips), levels)
    if (op, algorithm) not in ALGORITHMS:
        known = ", ".join(f"{name} {kind}" for name, kind in ALGORITHMS)
        raise FabricError(f"no collective '{op}' by '{algorithm}'; there are: {known}")
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
