"""The mapping rule `layer_per_stage`: an LLM laid out as a static pipeline of SRAM chips is built, one layer after another.

- A stage is a layer; tp is the smallest power of two whose chips hold the largest one with the KV cache of one sequence of the
  longest context that is served.
- Where layers x tp exceed the chips, consecutive blocks are packed into as many stages of tp chips as there are chips for.
- The embedding stays on the host, which looks rows up as it gets tokens.
- The head is cut over chips of its own where chips are left: over one node of them or, if that is too small, over as many as hold
  it. Else it goes beside the layers of the last nodes, the fewest whose free memory holds it with such a sequence.

Nothing here depends on a measured speed. Degrees given by hand stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dcsim.errors import CapacityError, SpecError
from dcsim.llm import architecture as arch
from dcsim.llm.mapping import Mapping, place, require_heads
from dcsim.llm.stages import Bytes, MemoryPlan, Stages, cut_stages, held_by, left_bytes, limit_bytes, plan_memory
from dcsim.spec.chip import Chip
from dcsim.spec.llm import LlmSpec
from dcsim.spec.mapping import MappingSpec

Nodes = Sequence[Sequence[int]]


def lay_by_layer(llm: LlmSpec, chip: Chip, spec: MappingSpec, nodes: Nodes, context: int = 0) -> Mapping:
    """Map `llm` by the rule over the active chips of `nodes`, for sequences of up to `context` tokens (0: of its full context).

    Raises CapacityError if chips or memory do not suffice, and SpecError if a degree given by hand cannot be had.
    """
    layers = arch.layer_blocks(llm)
    if not layers:
        raise SpecError(f"mapping.rule of layer_per_stage: {llm.name or 'the LLM'} has no layers to lay out")
    context = min(context or llm.context_max, llm.context_max)
    tp = _degree(llm, chip, spec, layers, context) if spec.tp == "auto" else spec.tp
    require_heads(llm, tp)
    offered = sum(len(node) for node in nodes)
    wanted = tp * (len(layers) if spec.pp == "auto" else spec.pp)
    replicas = max(1, offered // wanted) if spec.replicas == "auto" else spec.replicas or 1
    share = min(offered // replicas, spec.chips_max or offered)
    stages = _stages(llm, chip, spec, layers, tp, share)
    own = [_of_replica(nodes, i * (offered // replicas), share) for i in range(replicas)]
    copies = [place(of_replica, tp, len(stages)) for of_replica in own]
    if not llm.layers:  # an encoder gives vectors and chooses no token
        memory = plan_memory(llm, chip, spec, tp, stages)
        return Mapping(spec, tp, stages, tuple(tuple(copy) for copy in copies), memory, host_embedding=True)
    head = (len(arch.sublayers(llm)) - 1,)
    heads = [
        _head_chips(llm, chip, spec, tp, stages, copy, of_replica, context) for copy, of_replica in zip(copies, own, strict=True)
    ]
    memory = _memory(llm, chip, spec, tp, stages, copies[0], heads[0])
    return Mapping(
        spec,
        tp,
        (*stages, head),
        tuple((*copy, head_chips) for copy, head_chips in zip(copies, heads, strict=True)),
        memory,
        host_embedding=True,
        head_apart=True,
    )


def _degree(llm: LlmSpec, chip: Chip, spec: MappingSpec, layers: Stages, context: int) -> int:
    """The smallest power of two whose chips hold the largest layer and one sequence of `context` tokens."""
    tp, most = 1, arch.degree_max(llm)
    while tp <= most:
        held = held_by(llm, spec, tp)
        weights, kept = held.weights, held.kept(context)
        of = [list(layer) for layer in layers]
        if all((left_bytes(chip, weights[i].sum(axis=0)) >= kept[i].sum(axis=0)).all() for i in of):
            return tp
        tp *= 2
    raise CapacityError(f"a layer of {llm.name or 'the LLM'} exceeds what {most} chips hold, as many as it has heads", tp, most)


def _stages(llm: LlmSpec, chip: Chip, spec: MappingSpec, layers: Stages, tp: int, share: int) -> Stages:
    """A stage for each layer, or consecutive blocks in as many stages as there are chips for."""
    count = min(len(layers), share // tp) if spec.pp == "auto" else spec.pp
    if count * tp > share or not count:
        raise CapacityError(
            f"mapping needs {max(1, count) * tp} chips ({count} stages x {tp}), {share} are there", count * tp, share
        )
    if count == len(layers):
        return layers
    stages = cut_stages(llm, chip, spec, tp, count, [block for layer in layers for block in layer])
    if stages is None:
        blocks = [block for layer in layers for block in layer]
        needed = int(held_by(llm, spec, tp, blocks).weights.sum())
        available = count * tp * limit_bytes(chip)
        raise CapacityError(
            f"the layers of {llm.name or 'the LLM'}, {needed / 1e9:.2f} GB, do not fit {count} stages of {tp} chips, which hold "
            f"{available / 1e9:.2f} GB",
            needed,
            available,
        )
    return stages


def _of_replica(nodes: Nodes, start: int, count: int) -> list[list[int]]:
    """`count` chips from the `start`th on, node by node."""
    found, seen = [], 0
    for node in nodes:
        part = [chip for i, chip in enumerate(node, seen) if start <= i < start + count]
        seen += len(node)
        if part:
            found.append(part)
    return found


def _head_chips(
    llm: LlmSpec,
    chip: Chip,
    spec: MappingSpec,
    tp: int,
    stages: Stages,
    chips: Sequence[tuple[int, ...]],
    nodes: Nodes,
    context: int,
) -> tuple[int, ...]:
    """The chips that the head is cut over."""
    used = {c for stage in chips for c in stage}
    spare = [c for node in nodes for c in node if c not in used]
    widest = max(len(node) for node in nodes)
    count = min(widest, len(spare))
    while 0 < count <= len(spare):
        if left_bytes(chip, _head_bytes(llm, spec, count)).min() >= 0:
            return tuple(spare[:count])
        count += widest
    for sequence in (context, 1):
        free = _free(llm, chip, spec, tp, stages, chips, sequence)
        last: list[int] = []
        for node in reversed(nodes):
            last = [c for c in node if c in free] + last
            if last and _head_bytes(llm, spec, len(last)).max() <= min(free[c] for c in last):
                return tuple(last)
    needed = int(_head_bytes(llm, spec, 1)[0])
    raise CapacityError(
        f"the head of {llm.name or 'the LLM'}, {needed / 1e9:.2f} GB, fits neither on chips of its own nor beside its layers",
        needed,
        max(0, sum(_free(llm, chip, spec, tp, stages, chips, 1).values())),
    )


def _head_bytes(llm: LlmSpec, spec: MappingSpec, chips: int) -> Bytes:
    """[chip] bytes of the head's shards over so many chips."""
    shards: Bytes = held_by(llm, spec, chips, (len(arch.sublayers(llm)) - 1,)).weights[0]
    return shards


def _free(
    llm: LlmSpec, chip: Chip, spec: MappingSpec, tp: int, stages: Stages, chips: Sequence[tuple[int, ...]], context: int
) -> dict[int, int]:
    """What each chip has left beside its layers and one sequence of `context` tokens."""
    held = held_by(llm, spec, tp)
    weights, kept = held.weights, held.kept(context)
    free = [left_bytes(chip, weights[list(stage)].sum(axis=0)) - kept[list(stage)].sum(axis=0) for stage in stages]
    return {c: int(free[s][r]) for s, stage in enumerate(chips) for r, c in enumerate(stage)}


def _memory(
    llm: LlmSpec,
    chip: Chip,
    spec: MappingSpec,
    tp: int,
    stages: Stages,
    chips: Sequence[tuple[int, ...]],
    head_chips: tuple[int, ...],
) -> MemoryPlan:
    """What one replica stores, the head beside layers included; chips of the head alone come last and keep no KV."""
    extra = dict.fromkeys((c for stage in chips for c in stage), 0)
    extra |= {c: int(size) for c, size in zip(head_chips, _head_bytes(llm, spec, len(head_chips)), strict=True)}
    return plan_memory(llm, chip, spec, tp, stages, np.array(list(extra.values()), np.int64))
