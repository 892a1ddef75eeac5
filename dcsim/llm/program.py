"""The program of one iteration: what each stage does, in order, and what it sends on.

Everything downstream (schedules, packet simulation, power) reads this one thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from dcsim.llm import architecture as arch
from dcsim.llm.blocks import (
    TOKEN_BYTES,
    Block,
    Collective,
    Operation,
    Plan,
    Shape,
    Step,
    build_block,
    encoder_rows,
    gather_block,
    host_operation,
)
from dcsim.llm.mapping import Chip, Mapping
from dcsim.spec.llm import LlmSpec

__all__ = ["Block", "Collective", "Operation", "Program", "Shape", "Stage", "Step", "build_program"]


@dataclass(frozen=True, slots=True)
class Stage:
    """The chips of one stage, its blocks, and `send_bytes`: what it hands to the next stage, all shards
    together.

    Shard r sends its 1/tp slice to shard r of the next stage, which gathers the slices.
    """

    chips: tuple[int, ...]
    blocks: tuple[Block, ...]
    send_bytes: int


@dataclass(frozen=True, slots=True)
class Program:
    """One iteration from its first stage to the sampled tokens back there.

    Shard r of the last stage sends `loop_back_bytes` (the sampled tokens) to shard r of the first; 0 where
    nothing loops back (encoder only). Stages without work at this shape are left out.
    """

    clock_hz: float
    stages: tuple[Stage, ...]
    loop_back_bytes: int


def build_program(llm: LlmSpec, mapping: Mapping, chip: Chip, shape: Shape, host_s: float = 0.0) -> Program:
    """The program of one iteration of `shape` on the first replica; the others' are the same on their own
    chips.

    Tokens are sampled on the chips; `host_s` puts a round trip to the host between sampling and the next
    iteration.
    """
    plan = Plan(llm, chip, mapping.spec, mapping.shards, shape)
    kinds = arch.block_kinds(llm)
    working = [(chips, [kinds[i] for i in stage]) for chips, stage in zip(mapping.stage_chips, mapping.stages, strict=True)]
    working = [(chips, kept) for chips, stage in working if (kept := [kind for kind in stage if _has_work(plan, kind)])]
    made: dict[tuple[str, bool], Block] = {}
    stages: list[Stage] = []
    for chips, stage_kinds in working:
        last = len(stages) == len(working) - 1
        blocks = [_gather(plan, made, stages[-1].send_bytes)] if stages and mapping.tp > 1 else []
        for i, kind in enumerate(stage_kinds):
            key = kind, not last and i == len(stage_kinds) - 1
            if key not in made:
                made[key] = build_block(plan, *key)
            blocks.append(made[key])
        if last and host_s:
            blocks.append(Block("host", (host_operation(plan, ceil(host_s * chip.clock_hz)),)))
        stages.append(Stage(chips, tuple(blocks), 0 if last else _send_bytes(plan, stage_kinds[-1])))
    return Program(chip.clock_hz, tuple(stages), shape.batch * TOKEN_BYTES if llm.layers else 0)


def _has_work(plan: Plan, kind: str) -> bool:
    return kind not in (arch.ENCODER_ATTENTION, arch.ENCODER_FEED_FORWARD) or encoder_rows(plan) > 0


def _gather(plan: Plan, made: dict[tuple[str, bool], Block], size_bytes: int) -> Block:
    key = f"gather {size_bytes}", False
    if key not in made:
        made[key] = gather_block(plan, size_bytes)
    return made[key]


def _send_bytes(plan: Plan, last_kind: str) -> int:
    """The rows that go on: the residual stream and, for the cross-attention to come, the encoder's output."""
    rows = encoder_rows(plan)
    if plan.llm.layers and last_kind not in (arch.ENCODER_ATTENTION, arch.ENCODER_FEED_FORWARD):
        rows += plan.shape.rows
    elif not plan.llm.layers:
        rows = plan.shape.rows
    return rows * plan.llm.d_model * plan.sum_bytes
