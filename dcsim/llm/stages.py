"""Which blocks make a stage, and what its chips then hold: weights, and room for what sequences keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import SpecError
from dcsim.llm import architecture as arch
from dcsim.llm.blocks import Operation, Shape
from dcsim.llm.kv import NO_LIMIT, SequenceRoom
from dcsim.llm.plan import Plan
from dcsim.llm.precision import shard_bytes
from dcsim.llm.storage import Growth
from dcsim.llm.sublayers import Layer, Sublayer, TowerInput, TowerLayer, TowerOutput, build_block
from dcsim.spec.chip import Chip
from dcsim.spec.llm import LlmSpec
from dcsim.spec.mapping import BYTES, MappingSpec

Bytes = NDArray[np.int64]
Stages = tuple[tuple[int, ...], ...]  # [stage] indexes of its blocks

# Sums of so many bytes over all blocks are still whole numbers of 64 bit, and no chip holds so many.
BEYOND_ANY_CHIP = 2.0**48


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


def limit_bytes(chip: Chip) -> int:
    """Bytes of weights and KV cache a chip may hold: its memory less the reserve."""
    return int(chip.memory_bytes * (1 - chip.reserve_fraction))


def left_bytes(chip: Chip, weights: Bytes) -> Bytes:
    """What chips that hold so many bytes of weights have left for what sequences keep; below 0: the weights do not fit."""
    return limit_bytes(chip) - weights


@dataclass(frozen=True, slots=True)
class Held:
    """What blocks hold: `weights` [block, shard] bytes, and [growth, block, shard] bytes that a sequence keeps for each entry."""

    weights: Bytes
    growths: tuple[Growth, ...]
    each: NDArray[np.float64]

    def kept(self, context: int) -> Bytes:
        """Bytes one sequence of `context` tokens keeps: [block, shard]."""
        entries = np.array([growth.entries(context) for growth in self.growths], np.float64)
        return np.minimum(np.ceil(np.tensordot(entries, self.each, 1)), BEYOND_ANY_CHIP).astype(np.int64)


def held_by(llm: LlmSpec, spec: MappingSpec, tp: int, which: Sequence[int] | None = None) -> Held:
    """Weights of each block (or of those numbered `which`) on each of `tp` shards, and what a sequence keeps there."""
    blocks = arch.sublayers(llm)
    blocks = blocks if which is None else tuple(blocks[i] for i in which)
    weights: dict[int, list[int]] = {}
    kept: dict[int, dict[Growth, NDArray[np.float64]]] = {}
    for block in blocks:
        if id(block) in weights:
            continue
        copies = copies_of(block, spec, tp)
        weights[id(block)] = shard_bytes(llm, spec, block.weights(tp // copies)) * copies
        by_growth = kept.setdefault(id(block), {})
        for stored in block.stored(tp // copies):
            # A sequence is kept by one copy alone; sequences are shared out evenly.
            size = np.array(stored.elements * copies, np.float64) * BYTES[stored.precision or spec.kv] / copies
            if size.any():
                by_growth[stored.growth] = by_growth.get(stored.growth, np.zeros(tp)) + size
    growths = tuple(dict.fromkeys(growth for block in blocks for growth in kept[id(block)]))
    none = np.zeros(tp)
    each = np.array([[kept[id(block)].get(growth, none) for block in blocks] for growth in growths])
    shape = len(growths), len(blocks), tp
    return Held(np.array([weights[id(block)] for block in blocks], np.int64), growths, each.reshape(shape))


def copies_of(block: Sublayer, spec: MappingSpec, tp: int) -> int:
    """How many copies of a block lie on `tp` shards. Raises SpecError where they do not come out even."""
    if spec.attention_dp == 1 or not (isinstance(block, Layer) and block.attends):
        return 1
    if tp % spec.attention_dp:
        raise SpecError(f"mapping.attention_dp of {spec.attention_dp}: {tp} chips cannot be shared out to so many copies")
    return spec.attention_dp


def fewest_stages(llm: LlmSpec, chip: Chip, spec: MappingSpec, tp: int) -> int:
    """Stages needed if each is filled in turn with blocks and one token of their KV cache; more than there
    are blocks if one block does not fit.
    """
    held = held_by(llm, spec, tp)
    kept = held.kept(1)
    if (left_bytes(chip, held.weights) < kept).any():
        return len(kept) + 1
    count, filled, used = 1, np.zeros(tp, np.int64), np.zeros(tp, np.int64)
    for weights, own in zip(held.weights, kept, strict=True):
        filled, used = filled + weights, used + own
        if (left_bytes(chip, filled) < used).any():
            count, filled, used = count + 1, weights, own
    return count


def cut_stages(llm: LlmSpec, chip: Chip, spec: MappingSpec, tp: int, pp: int, blocks: Sequence[int]) -> Stages | None:
    """The consecutive `blocks` in `pp` stages: those with the shortest heaviest stage that fit, and among them the ones with
    most room for KV cache; None if none fit.
    """
    held, every = held_by(llm, spec, tp, blocks), _block_cycles(llm, chip, spec, tp)
    tokens = _room(held, chip, llm.context_max)
    cycles = np.concatenate([[0], np.cumsum([every[block] for block in blocks])])
    time = (cycles[None, 1:] - cycles[:-1, None]).astype(np.float64)  # [first block, last block]
    time[tokens < 1] = np.inf
    heaviest, _ = _bottleneck(time, pp)
    if not np.isfinite(heaviest):
        return None
    room = np.where(time <= heaviest, -tokens, np.inf)
    _, ends = _bottleneck(room, pp)
    return tuple(tuple(blocks[a:b]) for a, b in zip([0, *ends[:-1]], ends, strict=True))


def _room(held: Held, chip: Chip, context_max: int) -> NDArray[np.float64]:
    """Tokens, in sequences of full context, that the tightest shard holds if a stage is blocks i..j: [i, j]; -1 if the weights
    and a sequence of one token do not fit.
    """
    count, tp = held.weights.shape

    def sums(bytes_: Bytes) -> Bytes:
        return np.concatenate([np.zeros((1, tp), np.int64), np.cumsum(bytes_, axis=0)])

    weights, first, full = sums(held.weights), sums(held.kept(1)), sums(held.kept(context_max))
    room = np.full((count, count), -1.0)
    for i in range(count):
        free = left_bytes(chip, weights[i + 1 :] - weights[i])
        kept = full[i + 1 :] - full[i]
        tokens = np.where(kept > 0, np.floor(free / np.maximum(kept, 1) * context_max), NO_LIMIT).min(axis=1)
        fits = (free - (first[i + 1 :] - first[i])).min(axis=1) >= 0
        room[i, i:] = np.where(fits, np.maximum(tokens, 1), -1)
    return room


def plan_memory(llm: LlmSpec, chip: Chip, spec: MappingSpec, tp: int, stages: Stages, besides: Bytes | None = None) -> MemoryPlan:
    """What a replica of these stages stores, chip by chip and stage by stage.

    `besides` is what each chip holds in addition; chips beyond those of the stages hold nothing else.
    """
    held, limit = held_by(llm, spec, tp), limit_bytes(chip)
    weights = np.concatenate([held.weights[list(stage)].sum(axis=0) for stage in stages])
    each = np.concatenate([held.each[:, list(stage)].sum(axis=1) for stage in stages], axis=1)
    if besides is not None:
        weights = np.pad(weights, (0, len(besides) - len(weights))) + besides
        each = np.pad(each, ((0, 0), (0, len(besides) - each.shape[1])))
    entry_bytes = tuple(tuple(int(size) if size == int(size) else float(size) for size in one) for one in each.T)
    room = SequenceRoom(held.growths, entry_bytes, tuple(left_bytes(chip, weights).tolist()), llm.context_max)
    tokens = room.tokens(llm.context_max)
    return MemoryPlan(int(weights.max()), limit, NO_LIMIT if tokens is None else tokens, room)


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
