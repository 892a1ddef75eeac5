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

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import CapacityError, SpecError
from dcsim.llm import architecture as arch
from dcsim.llm.blocks import Operation, Plan, Shape, build_block
from dcsim.llm.shards import Shards, block_kv_elements, block_weights, cut
from dcsim.spec.chip import LpuChip, RooflineChip
from dcsim.spec.llm import LlmSpec
from dcsim.spec.mapping import BYTES, MappingSpec

Chip = LpuChip | RooflineChip

# Room for this many tokens stands for "no limit" where nothing is kept per token (encoder only).
NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What one replica stores: `weight_bytes_max` on its fullest chip, `limit_bytes` a chip may hold (memory
    less the reserve), and `kv_tokens_max`, the tokens of KV cache the replica holds, set by its tightest
    chip.
    """

    weight_bytes_max: int
    limit_bytes: int
    kv_tokens_max: int

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
    shards: Shards
    stages: tuple[tuple[int, ...], ...]
    replica_chips: tuple[tuple[tuple[int, ...], ...], ...]
    memory: MemoryPlan

    @property
    def tp(self) -> int:
        """Chips of one stage."""
        return self.shards.tp

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
    stages, memory = _cut_stages(llm, chip, spec, cut(llm, tp), pp)
    chips = place(nodes, tp, pp * replicas)
    copies = tuple(tuple(chips[i * pp : (i + 1) * pp]) for i in range(replicas))
    return Mapping(spec, cut(llm, tp), stages, copies, memory)


def candidates(llm: LlmSpec, chip: Chip, spec: MappingSpec, chip_count: int, node_chips: int = 8) -> list[tuple[int, int]]:
    """The (tp, pp) that `spec` allows on `chip_count` active chips in nodes of `node_chips` and that fit.

    Raises CapacityError, naming the fewest chips that would do, if none fits.
    """
    offered = min(chip_count, spec.chips_max or chip_count)
    if spec.replicas != "auto":
        offered //= spec.replicas
    inside, across = _degrees(llm, spec, node_chips)
    found = [pair for tp in inside if (pair := _fit(llm, chip, spec, tp, offered))]
    found = found or [pair for tp in across if (pair := _fit(llm, chip, spec, tp, offered))][:1]
    if not found:
        raise _does_not_fit(llm, chip, spec, offered, node_chips)
    return found


def _fit(llm: LlmSpec, chip: Chip, spec: MappingSpec, tp: int, offered: int) -> tuple[int, int] | None:
    """(tp, pp) with as many stages as `offered` chips give, or None if that does not fit."""
    blocks = len(arch.block_kinds(llm))
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
    blocks = len(arch.block_kinds(llm))
    inside, across = _degrees(llm, spec, node_chips)
    fits = []
    for tp in [*inside, *across]:
        pp = _fewest_stages(llm, chip, spec, tp)
        if pp <= blocks:
            fits.append((tp * pp, tp, pp))
    return min(fits, default=(0, 0, 0))


def limit_bytes(chip: Chip) -> int:
    """Bytes of weights and KV cache a chip may hold: its memory less the reserve."""
    return int(chip.memory_bytes * (1 - chip.reserve_fraction))


def _degrees(llm: LlmSpec, spec: MappingSpec, node_chips: int) -> tuple[list[int], list[int]]:
    """Tensor-parallel degrees to try inside a node (powers of two and divisors of the heads), and of whole nodes."""
    if spec.tp != "auto":
        return [spec.tp], []
    inside = [n for n in range(1, min(node_chips, llm.heads) + 1) if llm.heads % n == 0 or n & (n - 1) == 0]
    return inside, list(range(2 * node_chips, llm.heads + 1, node_chips))


def _does_not_fit(llm: LlmSpec, chip: Chip, spec: MappingSpec, offered: int, node_chips: int = 8) -> CapacityError:
    needed = sum(arch.block_parameters(llm, kind) for kind in arch.block_kinds(llm)) * BYTES[spec.weights]
    available = offered * limit_bytes(chip)
    chips, tp, pp = fewest_chips(llm, chip, spec, node_chips)
    bare = -(-needed // limit_bytes(chip))
    mend = f"the fewest chips that would do are {chips} (tp {tp}, pp {pp}; {bare} if blocks could be cut freely)"
    if not chips:
        mend = "no number of chips would do: one block of it exceeds a stage"
    return CapacityError(
        f"{llm.name or 'the LLM'} needs {needed / 1e9:.2f} GB of {spec.weights} weights and room for KV cache; "
        f"{offered} chips offer {available / 1e9:.2f} GB of {limit_bytes(chip) / 1e6:.1f} MB each; {mend}",
        needed,
        available,
    )


def _chip_bytes(llm: LlmSpec, spec: MappingSpec, shards: Shards) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Weights of each block on each shard, and KV bytes each token of context adds there: both [block,
    shard].
    """
    kinds = arch.block_kinds(llm)
    weights = {kind: np.array(block_weights(llm, shards, kind), np.int64) for kind in set(kinds)}
    kv = {kind: np.array(block_kv_elements(llm, shards, kind), np.int64) for kind in set(kinds)}
    return (
        np.array([weights[kind] for kind in kinds]) * BYTES[spec.weights],
        np.array([kv[kind] for kind in kinds]) * BYTES[spec.kv],
    )


def _fewest_stages(llm: LlmSpec, chip: Chip, spec: MappingSpec, tp: int) -> int:
    """Stages needed if each is filled in turn with blocks and one token of their KV cache; more than there
    are blocks if one block does not fit.
    """
    weights, kv = _chip_bytes(llm, spec, cut(llm, tp))
    need, limit = weights + kv, limit_bytes(chip)
    if need.max() > limit:
        return len(need) + 1
    count, held = 1, np.zeros(tp, np.int64)
    for block in need:
        held = held + block
        if held.max() > limit:
            count, held = count + 1, block
    return count


def _cut_stages(
    llm: LlmSpec, chip: Chip, spec: MappingSpec, shards: Shards, pp: int
) -> tuple[tuple[tuple[int, ...], ...], MemoryPlan]:
    """The stages with the shortest heaviest stage that fit; among those the ones with most room for KV cache."""
    weights, kv = _chip_bytes(llm, spec, shards)
    count = len(weights)
    if pp > count:
        raise SpecError(f"mapping.pp of {pp} exceeds the {count} blocks of {llm.name or 'the LLM'}")
    limit = limit_bytes(chip)
    tokens = _room(weights, kv, limit)
    cycles = np.concatenate([[0], np.cumsum(_block_cycles(llm, chip, spec, shards))])
    time = (cycles[None, 1:] - cycles[:-1, None]).astype(np.float64)  # [first block, last block]
    time[tokens < 1] = np.inf
    heaviest, _ = _bottleneck(time, pp)
    if not np.isfinite(heaviest):
        raise _does_not_fit(llm, chip, spec, pp * shards.tp)
    room = np.where(time <= heaviest, -tokens.astype(np.float64), np.inf)
    _, ends = _bottleneck(room, pp)
    starts = [0, *ends[:-1]]
    stages = tuple(tuple(range(a, b)) for a, b in zip(starts, ends, strict=True))
    fullest = max(int(weights[a:b].sum(axis=0).max()) for a, b in zip(starts, ends, strict=True))
    kv_tokens = min(int(tokens[a, b - 1]) for a, b in zip(starts, ends, strict=True))
    return stages, MemoryPlan(fullest, limit, kv_tokens)


def _room(weights: NDArray[np.int64], kv: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Tokens of KV cache the tightest shard holds if a stage is blocks i..j: [i, j]; -1 if the weights do not
    fit.
    """
    count, tp = weights.shape
    held = np.concatenate([np.zeros((1, tp), np.int64), np.cumsum(weights, axis=0)])
    each = np.concatenate([np.zeros((1, tp), np.int64), np.cumsum(kv, axis=0)])
    room = np.full((count, count), -1, np.int64)
    for i in range(count):
        free = limit - (held[i + 1 :] - held[i])
        per_token = each[i + 1 :] - each[i]
        tokens = np.where(per_token > 0, free // np.maximum(per_token, 1), NO_LIMIT).min(axis=1)
        room[i, i:] = np.where(free.min(axis=1) >= 0, tokens, -1)
    return room


def _block_cycles(llm: LlmSpec, chip: Chip, spec: MappingSpec, shards: Shards) -> list[int]:
    """Cycles of each block's operations, one token decoded half-way through the longest context.

    The encoder's blocks work once for a request, on all their tokens.
    """
    context = max(1, llm.context_max // 2)
    decode = Plan(llm, chip, spec, shards, Shape(1, context))
    prefill = Plan(llm, chip, spec, shards, Shape(1, context, context))
    encoder = (arch.ENCODER_ATTENTION, arch.ENCODER_FEED_FORWARD)
    kinds = arch.block_kinds(llm)
    cycles = {
        kind: sum(
            max(step.last_cycles)
            for step in build_block(prefill if kind in encoder else decode, kind).steps
            if isinstance(step, Operation)
        )
        for kind in dict.fromkeys(kinds)
    }
    return [cycles[kind] for kind in kinds]


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
