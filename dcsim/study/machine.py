"""A built cluster: fabric, mapping and iteration times. Every study starts here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dcsim.errors import CapacityError
from dcsim.fabric.build import build_fabric
from dcsim.fabric.graph import Fabric
from dcsim.llm.mapping import Mapping, candidates, lay
from dcsim.llm.program import Shape
from dcsim.network.scheduled.iteration import TIMES
from dcsim.network.scheduled.places import Places
from dcsim.network.scheduled.rules import require_alike
from dcsim.network.timing import IterationTime
from dcsim.spec.topology import Topology


@dataclass(frozen=True)
class Machine:
    """A built cluster: its fabric and how the LLM is laid over it."""

    spec: Topology
    fabric: Fabric
    mapping: Mapping
    seed: int = 1  # of what a packet network draws

    @cached_property
    def places(self) -> Places:
        """Where the pieces of its programs run: found once, for all shapes."""
        return Places(self.fabric)

    def time(self, shape: Shape) -> IterationTime:
        """Time of one iteration of `shape` on the spec's network."""
        return TIMES[self.spec.network.kind](self.spec, self.places, self.mapping, shape, self.seed)

    def require_context(self, shape: Shape) -> None:
        """Raise CapacityError for a context longer than the LLM was built for."""
        llm = self.spec.llm
        if shape.context > llm.context_max:
            what = f"a context of {shape.context:,} tokens is longer than {llm.name}'s own, {llm.context_max:,} (llm.context_max)"
            raise CapacityError(what, shape.context, llm.context_max)

    def require_room(self, shape: Shape) -> None:
        """Raise CapacityError unless the LLM has the shape's context and a replica's memory holds its sequences' KV."""
        self.require_context(shape)
        needed, room = shape.batch * shape.context, self.mapping.memory.kv_tokens_max
        if needed > room:
            sequences = f"{shape.batch:,} x {shape.context:,} tokens of context"
            raise CapacityError(f"{sequences} need KV room for {needed:,} tokens, there is {room:,}", needed, room)

    def times(self, shape: Shape) -> IterationTime | tuple[IterationTime, ...]:
        """The time of `shape`, or on a packet network those of a block of successive iterations."""
        if self.spec.network.kind == "scheduled":
            return self.time(shape)
        from dcsim.network.packet.iteration import packet_times

        return packet_times(self.spec, self.fabric, self.mapping, shape, self.seed)


def build(spec: Topology, seed: int = 1) -> Machine:
    """Build the fabric, with the switches of a packet network, and lay the LLM over its active chips.

    Where degrees are `auto`, the candidate with the shortest decode iteration at batch 1 and half the LLM's context
    is taken among those with KV room for one sequence of full context (among all, if none has it); ties go to the
    fewest shards. Raises CapacityError if nothing fits.
    """
    spec, fabric = join(spec, build_fabric(spec.fabric))
    nodes = active_nodes(fabric)
    chips, node_chips = sum(len(node) for node in nodes), max(len(node) for node in nodes)
    machines = [
        Machine(spec, fabric, lay(spec.llm, spec.chip, spec.mapping, tp, pp, nodes), seed)
        for tp, pp in candidates(spec.llm, spec.chip, spec.mapping, chips, node_chips)
    ]
    if len(machines) == 1:
        return machines[0]
    probe = Shape(1, max(1, spec.llm.context_max // 2))
    roomy = [machine for machine in machines if machine.mapping.memory.kv_tokens_max >= spec.llm.context_max]
    return min(roomy or machines, key=lambda machine: machine.time(probe).latency_ps)


def join(spec: Topology, fabric: Fabric) -> tuple[Topology, Fabric]:
    """On a packet network: the spec with the speed of one adapter, the fabric with switches where chips had none."""
    if spec.network.kind == "scheduled":
        require_alike(fabric)
        return spec, fabric
    from dcsim.network.packet.switches import attach, bonded

    network, joined = attach(spec.network, fabric)
    lanes = bonded(spec.network, network)  # what one link stands for draws power as so many
    drawn = {"switch_power_w": lanes * network.switch_power_w, "adapter_power_w": lanes * network.adapter_power_w}
    return spec.model_copy(update={"network": network.model_copy(update=drawn)}), joined


def active_nodes(fabric: Fabric) -> list[list[int]]:
    """The active chips of each node that has any, in order."""
    nodes: dict[int, list[int]] = {}
    for chip in range(fabric.chip_count):
        if fabric.chip_active[chip]:
            nodes.setdefault(int(fabric.node_of[chip]), []).append(chip)
    return list(nodes.values())
