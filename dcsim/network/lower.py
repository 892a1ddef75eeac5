"""From a program to tasks: every operation on every chip, every collective and hop as messages.

Equal blocks are spelled out once, on ranks 0..tp-1, and then set down on each stage's chips by shifting
indexes, so that an iteration of a hundred thousand tasks takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.llm.blocks import Block, Collective, Operation
from dcsim.llm.program import Program, Stage
from dcsim.network.tasks import ATTENTION, HOP, HOST, MATRIX, SEND, VECTOR, TaskBuilder, Tasks

PART_OF = {"matrix": MATRIX, "attention": ATTENTION, "vector": VECTOR, "host": HOST}

# Adds a collective's tasks among `ranks`. before[r] are the tasks rank r's data waits for; the answer lists,
# for each rank, the tasks its result waits for.
Exchange = Callable[[TaskBuilder, Collective, Sequence[int], list[list[int]]], list[list[int]]]

Handles = list[list[int]]


@dataclass(frozen=True, slots=True)
class Template:
    """A block on ranks 0..tp-1. A predecessor below 0 stands for what came before the block: -1 - r for the
    results of rank r, -1 - tp - r for the last user of its matrix unit. `outputs` and `units` are the same at
    its end.
    """

    tasks: Tasks
    outputs: Handles
    units: Handles


def lower(program: Program, exchange: Exchange, block_starts: list[int] | None = None) -> Tasks:
    """All tasks of one iteration, in topological order; `block_starts` collects each block's first task."""
    made: dict[int, Template] = {}
    pieces: list[Tasks] = []
    state = _State()
    for stage, after in zip(program.stages, [*program.stages[1:], None], strict=True):
        ranks = len(stage.chips)
        if not state.outputs:
            state.outputs, state.units = [[] for _ in range(ranks)], [[] for _ in range(ranks)]
        for block in stage.blocks:
            if id(block) not in made:
                made[id(block)] = make_template(block, ranks, program.clock_hz, exchange)
            if block_starts is not None:
                block_starts.append(state.count)
            pieces.append(state.append(made[id(block)], stage.chips, stage.chips))
        if after is not None:
            pieces.append(_hop(state, stage, after, program.clock_hz, -(-stage.send_bytes // ranks)))
        elif program.loop_back_bytes and stage is not program.stages[0]:
            pieces.append(_hop(state, stage, program.stages[0], program.clock_hz, program.loop_back_bytes))
    return _join(program.clock_hz, pieces)


def lower_block(block: Block, chips: Sequence[int], clock_hz: float, exchange: Exchange) -> Tasks:
    """The tasks of one block alone on `chips`; its first steps wait for nothing."""
    state = _State([[] for _ in chips], [[] for _ in chips])
    return state.append(make_template(block, len(chips), clock_hz, exchange), chips, chips)


def make_template(block: Block, ranks: int, clock_hz: float, exchange: Exchange) -> Template:
    """Spell out `block` on ranks 0..ranks-1."""
    builder = TaskBuilder(clock_hz)
    outputs: Handles = [[-1 - r] for r in range(ranks)]
    units: Handles = [[-1 - ranks - r] for r in range(ranks)]
    for step in block.steps:
        if isinstance(step, Collective):
            outputs = exchange(builder, step, range(ranks), outputs)
        else:
            for r in range(ranks):
                outputs[r] = [_operation(builder, step, r, outputs[r], units)]
    return Template(builder.build(), outputs, units)


def _operation(builder: TaskBuilder, step: Operation, rank: int, before: list[int], units: Handles) -> int:
    """Add `step` on `rank`.

    A matrix unit works on one operation at a time. An operation that may start before all its rows are there
    must therefore wait for the unit's last user, by a task without length that needs all of that user's
    output.
    """
    uses_unit = step.part in ("matrix", "attention")
    if uses_unit and step.lead_rows < step.rows:
        before = [*before, builder.compute(rank, PART_OF[step.part], 0, 0, units[rank])]
    task = builder.compute(
        rank,
        PART_OF[step.part],
        step.first_cycles[rank],
        step.last_cycles[rank],
        before,
        step.rows,
        step.lead_rows,
    )
    if uses_unit:
        units[rank] = [task]
    return task


def _hop(state: _State, stage: Stage, after: Stage, clock_hz: float, size_bytes: int) -> Tasks:
    """Shard r sends to shard r of the next stage, where nothing has used the matrix units yet.

    Slices to twins and a gathering there, not whole rows to twins: the links between two nodes are shared by
    all shards of a stage, so sending every byte once is faster than sending it tp times, as soon as rows
    exceed what the links carry during one hop's latency.
    """
    builder = TaskBuilder(clock_hz)
    outputs = [
        [builder.message(r, r, size_bytes, [-1 - r], HOP, SEND)] for r in range(len(stage.chips))
    ]
    units: Handles = [[] for _ in after.chips]
    return state.append(Template(builder.build(), outputs, units), stage.chips, after.chips)


class _State:
    """How many tasks there are so far, and the tasks that each rank's results and matrix unit wait for."""

    def __init__(self, outputs: Handles | None = None, units: Handles | None = None) -> None:
        self.count = 0
        self.outputs: Handles = outputs or []
        self.units: Handles = units or []

    def append(self, template: Template, chips: Sequence[int], targets: Sequence[int]) -> Tasks:
        """`template` on `chips` (its messages to `targets`) after what came before, with indexes of the
        whole.
        """
        old, outside = template.tasks, self.outputs + self.units
        before_start, before = _resolve(old, outside, self.count)
        target_of = np.array([*targets, -1], np.int32)  # index -1: no target
        tasks = Tasks(
            old.clock_hz,
            old.kind,
            old.part,
            old.call,
            np.array(chips, np.int32)[old.chip],
            target_of[old.target],
            old.size_bytes,
            old.first_cycles,
            old.last_cycles,
            old.rows,
            old.lead_rows,
            before_start,
            before,
        )
        self.outputs = self._shift(template.outputs, outside)
        self.units = self._shift(template.units, outside)
        self.count += len(old)
        return tasks

    def _shift(self, handles: Handles, outside: Handles) -> Handles:
        return [
            [task for h in each for task in ([h + self.count] if h >= 0 else outside[-1 - h])]
            for each in handles
        ]


def _resolve(tasks: Tasks, outside: Handles, offset: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Predecessors as indexes of the whole: those within shifted by `offset`, those below 0 replaced by the
    tasks they stand for.
    """
    before = tasks.before
    external = before < 0
    lengths = np.array([len(handle) for handle in outside], np.int64)
    flat = np.array([task for handle in outside for task in handle], np.int64)
    which = np.where(external, -1 - before, 0)
    counts = np.where(external, lengths[which], 1)
    ends = np.concatenate([[0], np.cumsum(counts)])
    resolved = np.repeat(before.astype(np.int64) + offset, counts)
    within = np.arange(len(resolved)) - np.repeat(ends[:-1], counts)
    source = np.repeat((np.cumsum(lengths) - lengths)[which], counts) + within
    chosen = np.repeat(external, counts)
    resolved[chosen] = flat[source[chosen]]
    return ends[tasks.before_start], resolved.astype(np.int32)


def _join(clock_hz: float, pieces: list[Tasks]) -> Tasks:
    """One set of arrays; `before_start` of each piece shifted by the predecessors that came before it."""
    if not pieces:
        return TaskBuilder(clock_hz).build()
    names = (
        "kind",
        "part",
        "call",
        "chip",
        "target",
        "size_bytes",
        "first_cycles",
        "last_cycles",
        "rows",
        "lead_rows",
    )
    columns = {name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in names}
    shifts = np.cumsum([0, *(len(piece.before) for piece in pieces[:-1])])
    starts = [piece.before_start[:-1] + shift for piece, shift in zip(pieces, shifts, strict=True)]
    before = np.concatenate([piece.before for piece in pieces])
    return Tasks(clock_hz, before_start=np.concatenate([*starts, [len(before)]]), before=before, **columns)
