"""How a program's collectives become messages on the chips of a stage."""

from __future__ import annotations

from collections.abc import Sequence

from dcsim.fabric.graph import Fabric
from dcsim.llm.blocks import Collective
from dcsim.llm.mapping import Mapping
from dcsim.network.collectives import ALGORITHMS, add_collective, levels_of
from dcsim.network.lower import Exchange
from dcsim.network.patterns.ranks import Handles, VectorUnit
from dcsim.network.tasks import TaskBuilder


def exchange_for(mapping: Mapping, fabric: Fabric, unit: VectorUnit) -> Exchange:
    """The Exchange of a mapping: `mapping.all_reduce` names the pattern, `auto` follows `collectives.choose`.

    Equal blocks are spelled out once, so the nodes and racks of the first stage's chips decide for all stages as wide.
    """
    levels = {len(chips): levels_of(fabric, chips) for chips in mapping.stage_of_width.values()}
    asked = mapping.spec.all_reduce

    def exchange(builder: TaskBuilder, step: Collective, ranks: Sequence[int], before: Handles) -> Handles:
        algorithm = asked if (step.op, asked) in ALGORITHMS else "auto"
        return add_collective(builder, step.op, ranks, step.size_bytes, before, unit, levels[len(ranks)], algorithm)

    return exchange
