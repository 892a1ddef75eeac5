"""A built cluster: fabric, mapping and iteration times. Every study starts here."""

from __future__ import annotations

from dataclasses import dataclass

from dcsim.fabric.build import build_fabric
from dcsim.fabric.graph import Fabric
from dcsim.llm.mapping import Mapping, candidates, lay
from dcsim.llm.program import Shape
from dcsim.network.iteration import TIMES
from dcsim.network.timing import IterationTime
from dcsim.spec.topology import Topology


@dataclass(frozen=True, slots=True)
class Machine:
    """A built cluster: its fabric and how the LLM is laid over it."""

    spec: Topology
    fabric: Fabric
    mapping: Mapping

    def time(self, shape: Shape) -> IterationTime:
        """Time of one iteration of `shape` on the spec's network."""
        return TIMES[self.spec.network.kind](self.spec, self.fabric, self.mapping, shape)


def build(spec: Topology) -> Machine:
    """Build the fabric and lay the LLM over its active chips.

    Where degrees are `auto`, the candidate with the shortest decode iteration at batch 1 and half the LLM's context
    is taken; ties go to the fewest shards. Raises CapacityError if nothing fits.
    """
    fabric = build_fabric(spec.fabric)
    nodes = active_nodes(fabric)
    chips, node_chips = sum(len(node) for node in nodes), max(len(node) for node in nodes)
    machines = [
        Machine(spec, fabric, lay(spec.llm, spec.chip, spec.mapping, tp, pp, nodes))
        for tp, pp in candidates(spec.llm, spec.chip, spec.mapping, chips, node_chips)
    ]
    if len(machines) == 1:
        return machines[0]
    probe = Shape(1, max(1, spec.llm.context_max // 2))
    return min(machines, key=lambda machine: machine.time(probe).latency_ps)


def active_nodes(fabric: Fabric) -> list[list[int]]:
    """The active chips of each node that has any, in order."""
    nodes: dict[int, list[int]] = {}
    for chip in range(fabric.chip_count):
        if fabric.chip_active[chip]:
            nodes.setdefault(int(fabric.node_of[chip]), []).append(chip)
    return list(nodes.values())
