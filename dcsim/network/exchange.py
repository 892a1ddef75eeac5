"""How a program's collectives become messages: the rule that picks a pattern for a group of chips."""

from __future__ import annotations

from collections.abc import Sequence

from dcsim.llm.blocks import Collective
from dcsim.network import collectives
from dcsim.network.collectives import Handles
from dcsim.network.lower import Exchange
from dcsim.network.tasks import TaskBuilder


def exchange_by(reduce_cycles: int, vector_bytes: int) -> Exchange:
    """An Exchange that uses direct patterns."""

    def exchange(builder: TaskBuilder, step: Collective, ranks: Sequence[int], before: Handles) -> Handles:
        if step.op == "all_reduce":
            return collectives.direct_all_reduce(builder, ranks, step.size_bytes, before, reduce_cycles, vector_bytes)
        if step.op == "reduce_scatter":
            return collectives.direct_reduce_scatter(builder, ranks, step.size_bytes, before, reduce_cycles, vector_bytes)
        return collectives.direct_all_gather(builder, ranks, step.size_bytes, before, vector_bytes)

    return exchange
