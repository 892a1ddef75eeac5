"""The program of one iteration: what each stage does, in order, and what it sends on.

Everything downstream (schedules, packet simulation, power) reads this one thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from dcsim.errors import Problem, SpecError
from dcsim.llm import architecture as arch
from dcsim.llm.blocks import Block, Collective, Operation, Shape, Step
from dcsim.llm.mapping import Mapping
from dcsim.llm.plan import Plan, sum_bytes
from dcsim.llm.sublayers import TOKEN_BYTES, Embedding, Sublayer, TowerInput, TowerLayer, TowerOutput, build_block, gather_block
from dcsim.spec.chip import Chip
from dcsim.spec.host import HostSpec
from dcsim.spec.llm import LlmSpec
from dcsim.spec.topology import Topology

__all__ = ["Block", "Collective", "Operation", "Program", "Shape", "Stage", "Step", "build_program", "program_of"]


@dataclass(frozen=True, slots=True)
class Stage:
    """The chips of one stage, its blocks, and `send_bytes`: what it hands to the next stage, all shards
    together.

    Shard r sends its 1/tp slice to shard r of the next stage, which gathers the slices; a stage of other width gets slices
    of its own width.
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
    iteration, as where hosts look the embedding up (`lookup_s`).
    """
    if mapping.spec.attention_dp > 1:
        what = "chips that work on sequences of their own are followed under a serving engine alone"
        raise SpecError(Problem("mapping.attention_dp", what, "name one, for example --set serving.engine=vllm"))
    plans = {len(chips): Plan(llm, chip, mapping.spec, len(chips), shape) for chips in mapping.stage_chips}
    plan = plans[mapping.tp]
    blocks = arch.sublayers(llm)
    busy = [[i for i in stage if blocks[i].rows(plan)] for stage in mapping.stages]
    working = [(chips, stage) for chips, stage in zip(mapping.stage_chips, busy, strict=True) if stage]
    made: dict[tuple[int, int, bool], Block] = {}
    gathered: dict[tuple[int, int], Block] = {}
    stages: list[Stage] = []
    for chips, stage in working:
        last = len(stages) == len(working) - 1
        width = len(chips)
        plan, steps = plans[width], []
        if stages and width > 1:
            size = stages[-1].send_bytes
            steps.append(gathered.setdefault((width, size), gather_block(plan, size)))
        for i in stage:
            key = width, id(blocks[i]), not last and i == stage[-1]
            if key not in made:
                made[key] = build_block(plan, blocks[i], key[2])
            steps.append(made[key])
        if last and host_s:
            steps.append(Block("host", (plan.host(ceil(host_s * chip.clock_hz)),)))
        stages.append(Stage(chips, tuple(steps), 0 if last else _send_bytes(plan, blocks[: stage[-1] + 1])))
    return Program(chip.clock_hz, tuple(stages), shape.batch * TOKEN_BYTES if llm.layers else 0)


def lookup_s(host: HostSpec, llm: LlmSpec, mapping: Mapping, shape: Shape) -> float:
    """What a look-up of the embedding by hosts takes: the bus to and fro, and the rows. 0 where chips hold it."""
    rows_bytes = shape.rows * llm.d_model * sum_bytes(mapping.spec)
    return host.bus_s + rows_bytes / host.bus_bandwidth_bytes_per_s if mapping.host_embedding else 0.0


def program_of(spec: Topology, mapping: Mapping, shape: Shape) -> Program:
    """The program that a topology's networks run, look-ups by hosts in it."""
    return build_program(spec.llm, mapping, spec.chip, shape, lookup_s(spec.host, spec.llm, mapping, shape))


def _send_bytes(plan: Plan, done: Sequence[Sublayer]) -> int:
    """What goes on after the blocks `done`: the residual stream, what encoders have made for the prompt until it is embedded, and
    for cross-attention to come all the way.
    """
    last, embedded = done[-1], any(isinstance(block, Embedding) for block in done)
    size = 0
    if isinstance(last, (TowerInput, TowerLayer, TowerOutput)):
        out = isinstance(last, TowerOutput)
        size = last.rows(plan) * (plan.row_bytes if out else last.tower.row_bytes(plan))
    elif embedded:
        size = plan.shape.rows * plan.row_bytes * plan.llm.residual_streams
    for block in dict.fromkeys(block.tower for block in done if isinstance(block, (TowerInput, TowerLayer, TowerOutput))):
        own = isinstance(last, (TowerInput, TowerLayer, TowerOutput)) and last.tower == block
        wanted = block.spec.joins == "cross_attention" or (block.spec.joins == "prompt" and not embedded)
        size += block.rows_out(plan) * plan.row_bytes if wanted and not own else 0
    return size
