"""How collectives become messages on a packet network: the pattern a library takes, and what its calls cost.

Of the patterns it has, a library takes the one that its own costs make shortest for the size at hand,
`first + (steps - 1) * step + steps * hop + bytes / bandwidth` with the bytes one chip sends; ties go to the first. Where
nodes have islands, only the steps between them cost what the network's do: 2 (nodes - 1) of a ring's, 2 lg nodes of a tree's.
`mapping.all_reduce` overrules it. Steps and bytes after Thakur, Rabenseifner, Gropp, IJHPCA 2005.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log2

from dcsim.fabric.graph import Fabric
from dcsim.llm.blocks import Collective
from dcsim.llm.mapping import Mapping
from dcsim.network.collectives import ALGORITHMS, Handles, VectorUnit, add_collective, levels_of
from dcsim.network.lower import Exchange
from dcsim.network.packet.rules_of import Layers, call_of
from dcsim.network.packet.switches import on_island
from dcsim.network.tasks import COLLECTIVE_FIRST, COLLECTIVE_STEP, LINK, SEND, TaskBuilder
from dcsim.spec.software import PatternCost


class CallBuilder(TaskBuilder):
    """Adds to `inner`, with a pattern's own call kinds in place of the general ones."""

    def __init__(self, inner: TaskBuilder, first_call: int) -> None:
        self._inner, self._first_call = inner, first_call

    def compute(
        self, chip: int, part: int, first_cycles: int, last_cycles: int, before: list[int], rows: int = 1, lead_rows: int = 1
    ) -> int:
        """As TaskBuilder."""
        return self._inner.compute(chip, part, first_cycles, last_cycles, before, rows, lead_rows)

    def message(self, source: int, target: int, size_bytes: int, before: list[int], part: int = LINK, call: int = SEND) -> int:
        """As TaskBuilder."""
        own = {COLLECTIVE_FIRST: self._first_call, COLLECTIVE_STEP: self._first_call + 1}
        return self._inner.message(source, target, size_bytes, before, part, own.get(call, call))


def packet_exchange(mapping: Mapping, fabric: Fabric, layers: Layers, unit: VectorUnit) -> Exchange:
    """The Exchange of a library among the chips of a mapping's first stage of each width; `mapping.all_reduce` overrules it."""
    asked = mapping.spec.all_reduce
    among = {width: exchange_among(chips, asked, fabric, layers, unit) for width, chips in mapping.stage_of_width.items()}

    def exchange(builder: TaskBuilder, step: Collective, ranks: Sequence[int], before: Handles) -> Handles:
        return among[len(ranks)](builder, step, ranks, before)

    return exchange


def exchange_among(chips: Sequence[int], asked: str, fabric: Fabric, layers: Layers, unit: VectorUnit) -> Exchange:
    """The Exchange of a library among `chips`, by the pattern `asked` for or, if that is `auto`, by its own choice.

    Islands make `direct` go node by node (`hierarchical`).
    """
    levels = levels_of(fabric, chips) if "adapter" in fabric.link_classes and "island" in fabric.link_classes else []

    def exchange(builder: TaskBuilder, step: Collective, ranks: Sequence[int], before: Handles) -> Handles:
        pattern = asked if (step.op, asked) in ALGORITHMS else choose_pattern(step, chips, fabric, layers)
        kind = "direct" if pattern == "hierarchical" else pattern
        algorithm = "hierarchical" if pattern == "direct" and levels and asked == "auto" else pattern
        calls = CallBuilder(builder, call_of(kind))
        return add_collective(calls, step.op, ranks, step.size_bytes, before, unit, levels, algorithm)

    return exchange


def choose_pattern(step: Collective, chips: Sequence[int], fabric: Fabric, layers: Layers) -> str:
    """The library's quickest pattern for one collective among `chips`, by its own costs."""
    islands = island_count(chips, fabric)
    place = layers.software.network if islands > 1 else layers.software.island
    known = [cost for cost in place.patterns if (step.op, cost.pattern) in ALGORITHMS]
    if not known:  # every exchange can be made directly
        return "direct"
    return min(known, key=lambda cost: pattern_time_s(step, len(chips), cost, layers, islands)).pattern


def island_count(chips: Sequence[int], fabric: Fabric) -> int:
    """Islands the chips lie in; a chip without one is its own."""
    import numpy as np

    others, found = np.asarray(chips), 0
    while len(others):
        inside = on_island(fabric, others, np.full(len(others), others[0]))
        inside[0] = True
        others, found = others[~inside], found + 1
    return found


def pattern_time_s(step: Collective, ranks: int, cost: PatternCost, layers: Layers, islands: int = 0) -> float:
    """What the library expects of a pattern: software, one switch of latency a step, and its bytes.

    `islands` are the nodes the ranks lie in (0: each is its own); steps within them pay the island's costs.
    """
    steps, size_bytes = steps_and_bytes(step.op, cost.pattern, ranks, step.size_bytes)
    figures = layers.figures
    hop_s = 2 * figures.adapter_s + figures.switch_s
    bandwidth = min(link.bandwidth_bytes_per_s for link in figures.links.values())
    inside = 0
    if 1 < islands < ranks:
        inside = max(0, steps - steps_and_bytes(step.op, cost.pattern, islands, step.size_bytes)[0])
    near = layers.software.island.patterns
    island = next((other for other in near if other.pattern == cost.pattern), near[0])
    software_s = cost.first_s + (steps - 1 - inside) * cost.step_s + inside * island.step_s
    return software_s + steps * hop_s + size_bytes / bandwidth


def steps_and_bytes(op: str, pattern: str, ranks: int, size_bytes: int) -> tuple[int, float]:
    """(steps one after another, bytes the busiest chip sends in them) of an all-reduce, or of half of one."""
    halves = 2 if op == "all_reduce" else 1
    scattered = size_bytes * (ranks - 1) / ranks
    if pattern == "ring":
        return halves * (ranks - 1), halves * scattered
    if pattern == "tree":
        levels = ceil(log2(ranks)) if ranks > 1 else 0
        return halves * levels, halves * levels * size_bytes
    return halves, halves * scattered
