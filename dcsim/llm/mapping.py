"""Lay an LLM over chips: blocks to stages, stages to chips, and whether it all fits in memory.

The rule for `auto`, fixed before any published speed was compared: a tensor-parallel group stays inside a node, the only
neighbourhood in which every pair of chips has a link of its own; only an LLM of which no mapping inside nodes fits gets
groups of whole nodes, as few as fit. For each such degree the pipeline takes all chips offered (more stages mean more
room for KV cache at the price of a hop each), and of these candidates the caller takes the one with the shortest decode
iteration at batch 1. Added later, without effect on any system compared before: candidates with KV room for one sequence
of full context go first. A wider group given by hand may be faster for one user; it shares few cables and leaves a pipeline
with few stages, so it serves fewer users at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import CapacityError, SpecError
from dcsim.llm import architecture as arch
from dcsim.llm.blocks import Operation, Shape
from dcsim.llm.kv import NO_LIMIT, SequenceRoom
from dcsim.llm.plan import Plan
from dcsim.llm.precision import shard_bytes, told, weight_bytes
from dcsim.llm.storage import Growth
from dcsim.llm.sublayers import TowerInput, TowerLayer, TowerOutput, build_block
from dcsim.spec.chip import Chip
from dcsim.spec.llm import LlmSpec
from dcsim.spec.mapping import BYTES, MappingSpec

Bytes = NDArray[np.int64]

# Sums of so many bytes over all blocks are still whole numbers of 64 bit, and no chip holds so many.
BEYOND_ANY_CHIP = 2.0**48

# Wider groups are not tried when the fewest chips are named that would do; the widest anyone has published is 128.
SHARDS_MAX = 1024

__all__ = ["NO_LIMIT", "Mapping", "MemoryPlan", "candidates", "fewest_chips", "lay", "limit_bytes", "place"]


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What one replica stores: `weight_bytes_max` on its fullest chip, `limit_bytes` a chip may hold (memory
    less the reserve), `room` for what sequences keep, and `kv_tokens_max`, the tokens of KV cache the replica holds in
    sequences of full context, set by its tightest chip.
    """

    weight_bytes_max: int
    limit_bytes: int
    kv_tokens_max: int
    room: SequenceRoom

    @property
    def kv_tokens(self) -> int | None:
        """`kv_tokens_max` for people: None where nothing limits it, as in an encoder, which keeps no KV."""
        return self.kv_tokens_max if self.kv_tokens_max < NO_LIMIT else None


@dataclass(frozen=True, slots=True)
class Mapping:
    """`stages[s]` are the indexes of stage s's blocks; `replica_chips[replica][s][r]` is the chip of its
    shard r.
    """

    spec: MappingSpec
    tp: int  # chips of one stage
    stages: tuple[tuple[int, ...], ...]
    replica_chips: tuple[tuple[tuple[int, ...], ...], ...]
    memory: MemoryPlan

    @property
    def pp(self) -> int:
        """Stages of one replica."""
        return len(self.stages)

    @property
    def replicas(self) -> int:
        """Copies of the LLM."""
        return len(self.replica_chips)

    @property
    def stage_chips(self) -> tuple[tuple[int, ...], ...]:
        """The chips of the first replica's stages."""
        return self.replica_chips[0]


def lay(llm: LlmSpec, chip: Chip, spec: MappingSpec, tp: int, pp: int, nodes: Sequence[Sequence[int]]) -> Mapping:
    """Map `llm` over `tp` x `pp` chips for each replica; `nodes` lists the active chips of each node, in
    order.

    `replicas: auto` makes as many as there are chips for. Raises CapacityError if chips or memory do not
    suffice, with the fewest chips that would do, and SpecError if there are more stages than blocks.
    """
    chip_count = sum(len(node) for node in nodes)
    replicas = max(1, chip_count // (tp * pp)) if spec.replicas == "auto" else spec.replicas
    if tp * pp * replicas > chip_count:
        needed = tp * pp * replicas
        raise CapacityError(
            f"mapping needs {needed} chips ({replicas} x {pp} stages x {tp}), {chip_count} are active",
            needed,
            chip_count,
        )
    _require_heads(llm, tp)
    stages, memory = _cut_stages(llm, chip, spec, tp, pp)
    chips = place(nodes, tp, pp * replicas)
    copies = tuple(tuple(chips[i * pp : (i + 1) * pp]) for i in range(replicas))
    return Mapping(spec, tp, stages, copies, memory)


def candidates(llm: LlmSpec, chip: Chip, spec: MappingSpec, chip_count: int, node_chips: int = 8) -> list[tuple[int, int]]:
    """The (tp, pp) that `spec` allows on `chip_count` active chips in nodes of `node_chips` and that fit.

    Raises CapacityError, naming the fewest chips that would do, if none fits, and SpecError for more shards than heads.
    """
    if spec.tp != "auto":
        _require_heads(llm, spec.tp)
    offered = min(chip_count, spec.chips_max or chip_count)
    if spec.replicas != "auto":
        offered //= spec.replicas
    if _all_weight_bytes(llm, spec) > offered * limit_bytes(chip):
        raise _does_not_fit(llm, chip, spec, offered, node_chips)
    inside, across = _degrees(llm, spec, node_chips, offered)
    found = [pair for tp in inside if (pair := _fit(llm, chip, spec, tp, offered))]
    found = found or list(islice((pair for tp in across if (pair := _fit(llm, chip, spec, tp, offered))), 1))
    if not found:
        raise _does_not_fit(llm, chip, spec, offered, node_chips)
    return found


def _fit(llm: LlmSpec, chip: Chip, spec: MappingSpec, tp: int, offered: int) -> tuple[int, int] | None:
    """(tp, pp) with as many stages as `offered` chips give, or None if that does not fit."""
    blocks = len(arch.sublayers(llm))
    pp = min(offered // tp, blocks) if spec.pp == "auto" else spec.pp
    fits = 1 <= pp * tp <= offered and pp <= blocks and _fewest_stages(llm, chip, spec, tp) <= pp
    return (tp, pp) if fits else None


def place(nodes: Sequence[Sequence[int]], tp: int, stages: int) -> list[tuple[int, ...]]:
    """The chips of each of `stages` stages in order.

    A stage stays within a node if tp allows, or starts at a node's first chip; where that wastes too many
    chips, stages follow one another without gaps.
    """
    widest = max(len(node) for node in nodes)
    chunks: list[tuple[int, ...]] = []
    if tp <= widest:
        for node in nodes:
            chunks += [tuple(node[i : i + tp]) for i in range(0, len(node) - tp + 1, tp)]
    else:
        group: list[int] = []
        for node in nodes:
            group += node
            if len(group) >= tp:
                chunks.append(tuple(group[:tp]))
                group = []
    if len(chunks) < stages:
        flat = [chip for node in nodes for chip in node]
        chunks = [tuple(flat[i : i + tp]) for i in range(0, len(flat) - tp + 1, tp)]
    return chunks[:stages]


def fewest_chips(llm: LlmSpec, chip: Chip, spec: MappingSpec, node_chips: int = 8) -> tuple[int, int, int]:
    """The fewest chips that hold one replica and one token of its KV cache: (chips, tp, pp), or zeros if none do.

    Looks at the degrees that `candidates` looks at, so that many chips do indeed suffice.
    """
    blocks = len(arch.sublayers(llm))
    # However they are cut, the shards of the largest block hold all of it.
    largest = max(weight_bytes(llm, spec, block.weights(1)) for block in set(arch.sublayers(llm)))
    least = -(-largest // limit_bytes(chip))
    inside, across = _degrees(llm, spec, node_chips, SHARDS_MAX)
    fewest = (0, 0, 0)
    for tp in [*inside, *across]:
        if not least <= tp <= SHARDS_MAX or 0 < fewest[0] <= tp:
            continue
        pp = _fewest_stages(llm, chip, spec, tp)
        if pp <= blocks and not 0 < fewest[0] <= tp * pp:
            fewest = (tp * pp, tp, pp)
    return fewest


def limit_bytes(chip: Chip) -> int:
    """Bytes of weights and KV cache a chip may hold: its memory less the reserve."""
    return int(chip.memory_bytes * (1 - chip.reserve_fraction))


def _require_heads(llm: LlmSpec, tp: int) -> None:
    heads = arch.degree_max(llm)
    if tp > heads:
        raise SpecError(f"mapping.tp of {tp} exceeds the {heads} query heads: a shard would hold none")


def _degrees(llm: LlmSpec, spec: MappingSpec, node_chips: int, chips: int) -> tuple[Sequence[int], Sequence[int]]:
    """Tensor-parallel degrees to try inside a node (powers of two and divisors of the heads), and of whole nodes; none with more
    shards than `chips`.
    """
    if spec.tp != "auto":
        return [spec.tp], []
    heads = arch.degree_max(llm)
    inside = [n for n in range(1, min(node_chips, heads) + 1) if heads % n == 0 or n & (n - 1) == 0]
    return inside, range(2 * node_chips, min(heads, chips) + 1, node_chips)


def _all_weight_bytes(llm: LlmSpec, spec: MappingSpec) -> int:
    return weight_bytes(llm, spec, arch.weights_of(arch.sublayers(llm)))


def _does_not_fit(llm: LlmSpec, chip: Chip, spec: MappingSpec, offered: int, node_chips: int = 8) -> CapacityError:
    needed = _all_weight_bytes(llm, spec)
    available = offered * limit_bytes(chip)
    chips, tp, pp = fewest_chips(llm, chip, spec, node_chips)
    bare = -(-needed // limit_bytes(chip))
    mend = f"the fewest chips that would do are {chips} (tp {tp}, pp {pp}; {bare} if blocks could be cut freely)"
    if not chips:
        mend = f"no number of chips would do, in stages of up to {SHARDS_MAX:,}: one block of it exceeds a stage"
    return CapacityError(
        f"{llm.name or 'the LLM'} needs {needed / 1e9:.2f} GB of {told(llm, spec)} weights and room for KV cache; "
        f"{offered} chips offer {available / 1e9:.2f} GB of {limit_bytes(chip) / 1e6:.1f} MB each; {mend}",
        needed,
        available,
    )


@dataclass(frozen=True, slots=True)
class _Held:
    """What blocks hold: `weights` [block, shard] bytes, and [growth, block, shard] bytes that a sequence keeps for each entry."""

    weights: Bytes
    growths: tuple[Growth, ...]
    each: NDArray[np.float64]

    def kept(self, context: int) -> Bytes:
        """Bytes one sequence of `context` tokens keeps: [block, shard]."""
        entries = np.array([growth.entries(context) for growth in self.growths], np.float64)
        return np.minimum(np.ceil(np.tensordot(entries, self.each, 1)), BEYOND_ANY_CHIP).astype(np.int64)


def _held(llm: LlmSpec, spec: MappingSpec, tp: int) -> _Held:
    """Weights of each block on each shard, and what a sequence keeps there."""
    blocks = arch.sublayers(llm)
    weights: dict[int, list[int]] = {}
    kept: dict[int, dict[Growth, NDArray[np.float64]]] = {}
    for block in blocks:
        if id(block) in weights:
            continue
        weights[id(block)] = shard_bytes(llm, spec, block.weights(tp))
        by_growth = kept.setdefault(id(block), {})
        for stored in block.stored(tp):
            size = np.array(stored.elements, np.float64) * BYTES[stored.precision or spec.kv]
            if size.any():
                by_growth[stored.growth] = by_growth.get(stored.growth, np.zeros(tp)) + size
    growths = tuple(dict.fromkeys(growth for block in blocks for growth in kept[id(block)]))
    none = np.zeros(tp)
    each = np.array([[kept[id(block)].get(growth, none) for block in blocks] for growth in growths])
    shape = len(growths), len(blocks), tp
    return _Held(np.array([weights[id(block)] for block in blocks], np.int64), growths, each.reshape(shape))


def _fewest_stages(llm: LlmSpec, chip: Chip, spec: MappingSpec, tp: int) -> int:
    """Stages needed if each is filled in turn with blocks and one token of their KV cache; more than there
    are blocks if one block does not fit.
    """
    held = _held(llm, spec, tp)
    need, limit = held.weights + held.kept(1), limit_bytes(chip)
    if need.max() > limit:
        return len(need) + 1
    count, filled = 1, np.zeros(tp, np.int64)
    for block in need:
        filled = filled + block
        if filled.max() > limit:
            count, filled = count + 1, block
    return count


def _cut_stages(llm: LlmSpec, chip: Chip, spec: MappingSpec, tp: int, pp: int) -> tuple[tuple[tuple[int, ...], ...], MemoryPlan]:
    """The stages with the shortest heaviest stage that fit; among those the ones with most room for KV cache."""
    held = _held(llm, spec, tp)
    count = len(held.weights)
    if pp > count:
        raise SpecError(f"mapping.pp of {pp} exceeds the {count} blocks of {llm.name or 'the LLM'}")
    limit = limit_bytes(chip)
    tokens = _room(held, limit, llm.context_max)
    cycles = np.concatenate([[0], np.cumsum(_block_cycles(llm, chip, spec, tp))])
    time = (cycles[None, 1:] - cycles[:-1, None]).astype(np.float64)  # [first block, last block]
    time[tokens < 1] = np.inf
    heaviest, _ = _bottleneck(time, pp)
    if not np.isfinite(heaviest):
        raise _does_not_fit(llm, chip, spec, pp * tp)
    room = np.where(time <= heaviest, -tokens, np.inf)
    _, ends = _bottleneck(room, pp)
    starts = [0, *ends[:-1]]
    stages = tuple(tuple(range(a, b)) for a, b in zip(starts, ends, strict=True))
    left = _room_of(held, stages, limit, llm.context_max)
    fullest = max(int(held.weights[a:b].sum(axis=0).max()) for a, b in zip(starts, ends, strict=True))
    kv_tokens = left.tokens(llm.context_max)
    return stages, MemoryPlan(fullest, limit, NO_LIMIT if kv_tokens is None else kv_tokens, left)


def _room(held: _Held, limit: int, context_max: int) -> NDArray[np.float64]:
    """Tokens, in sequences of full context, that the tightest shard holds if a stage is blocks i..j: [i, j]; -1 if the weights
    and a sequence of one token do not fit.
    """
    count, tp = held.weights.shape

    def sums(bytes_: Bytes) -> Bytes:
        return np.concatenate([np.zeros((1, tp), np.int64), np.cumsum(bytes_, axis=0)])

    weights, first, full = sums(held.weights), sums(held.kept(1)), sums(held.kept(context_max))
    room = np.full((count, count), -1.0)
    for i in range(count):
        free = limit - (weights[i + 1 :] - weights[i])
        kept = full[i + 1 :] - full[i]
        tokens = np.where(kept > 0, np.floor(free / np.maximum(kept, 1) * context_max), NO_LIMIT).min(axis=1)
        fits = (free - (first[i + 1 :] - first[i])).min(axis=1) >= 0
        room[i, i:] = np.where(fits, np.maximum(tokens, 1), -1)
    return room


def _room_of(held: _Held, stages: tuple[tuple[int, ...], ...], limit: int, context_max: int) -> SequenceRoom:
    """The room of a replica's chips, stage by stage."""
    weights = np.concatenate([held.weights[list(stage)].sum(axis=0) for stage in stages])
    each = np.concatenate([held.each[:, list(stage)].sum(axis=1) for stage in stages], axis=1)
    entry_bytes = tuple(tuple(int(size) if size == int(size) else float(size) for size in chip) for chip in each.T)
    return SequenceRoom(held.growths, entry_bytes, tuple(int(limit - size) for size in weights), context_max)


def _block_cycles(llm: LlmSpec, chip: Chip, spec: MappingSpec, tp: int) -> list[int]:
    """Cycles of each block's operations, one token decoded half-way through the longest context.

    An encoder's blocks work once for a request, on all their tokens; those of a tower in front of the prompt count for nothing,
    since users wait for their tokens longer than for their prompt.
    """
    context = max(1, llm.context_max // 2)
    decode = Plan(llm, chip, spec, tp, Shape(1, context))
    prefill = Plan(llm, chip, spec, tp, Shape(1, context, context))
    blocks = arch.sublayers(llm)
    cycles: dict[int, int] = {}
    for block in blocks:
        if id(block) not in cycles:
            encoder = isinstance(block, (TowerInput, TowerLayer, TowerOutput)) and block.tower.spec.joins != "prompt"
            steps = build_block(prefill if encoder else decode, block).steps
            cycles[id(block)] = sum(max(step.last_cycles) for step in steps if isinstance(step, Operation))
    return [cycles[id(block)] for block in blocks]


def _bottleneck(cost: NDArray[np.float64], parts: int) -> tuple[float, list[int]]:
    """Cut 0..n-1 into `parts` contiguous runs so that the costliest run costs least; cost[i, j] is that of
    i..j.

    Returns that cost and the end (exclusive) of each run. Dynamic programming over run ends, O(parts n^2).
    """
    count = len(cost)
    masked = np.where(np.triu(np.ones((count, count), bool)), cost, np.inf)
    best, choices = masked[0], []
    for _ in range(parts - 1):
        before = np.concatenate([[np.inf], best[:-1]])  # [i]: blocks 0..i-1 are cut already
        total = np.maximum(before[:, None], masked)
        choice = total.argmin(axis=0)
        choices.append(choice)
        best = total[choice, np.arange(count)]
    ends = [count]
    for choice in reversed(choices):
        ends.append(int(choice[ends[-1] - 1]))
    return float(best[-1]), ends[::-1]
