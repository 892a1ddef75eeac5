"""From a program to tasks: every operation on every chip, every collective and hop as messages.

A program is a chain of pieces: blocks, a stage's last with the hop to the next stage. Equal pieces share one template, spelled
out once on ranks 0..tp-1; a piece is a template on a stage's chips. `join` sets all pieces down as one list of tasks by shifting
indexes; the scheduled network compiles templates instead (`scheduled/compose.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from dcsim.llm.blocks import Block, Collective, Operation
from dcsim.llm.program import Program
from dcsim.network.tasks import ATTENTION, HOP, HOST, MATRIX, SEND, TASK_COLUMNS, VECTOR, TaskBuilder, Tasks

PART_OF = {"matrix": MATRIX, "attention": ATTENTION, "vector": VECTOR, "host": HOST}

# Adds a collective's tasks among `ranks`. before[r] are the tasks rank r's data waits for; the answer lists,
# for each rank, the tasks its result waits for.
Exchange = Callable[[TaskBuilder, Collective, Sequence[int], list[list[int]]], list[list[int]]]

Handles = list[list[int]]


@dataclass(frozen=True, slots=True)
class Template:
    """A piece on ranks 0..tp-1. A predecessor below 0 stands for what came before the piece: -1 - r for the
    results of rank r, -1 - tp - r for the last user of its matrix unit. `outputs` and `units` are the same at
    its end. Templates of one `digest` are equal.
    """

    tasks: Tasks
    outputs: Handles
    units: Handles
    digest: bytes


@dataclass(frozen=True, slots=True)
class Hop:
    """What a stage hands on: `sent` are (rank, rank of the next stage, bytes); 0 bytes stay on a chip that is in both."""

    ranks: int  # of the next stage
    sent: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A template at its place: rank r is chips[r], and a message to rank r goes to targets[r].

    Ranks from tp on are those of the next stage, to which the last piece of a stage hands its results.
    """

    template: Template
    chips: tuple[int, ...]
    targets: tuple[int, ...]


def pieces_of(program: Program, exchange: Exchange) -> list[Piece]:
    """The blocks of all stages in order, a stage's last with the hop to the next; equal pieces share their template."""
    known: dict[tuple[int, int, Hop | None], Template] = {}
    pieces: list[Piece] = []
    for stage, after in zip(program.stages, [*program.stages[1:], None], strict=True):
        onward = _slices(stage.chips, after.chips, stage.send_bytes) if after else None
        target = after
        if after is None and program.loop_back_bytes and stage is not program.stages[0]:
            target = program.stages[0]
            onward = _whole(stage.chips, target.chips, program.loop_back_bytes)
        for i, block in enumerate(stage.blocks, 1):
            hop = onward if i == len(stage.blocks) else None
            key = id(block), len(stage.chips), hop
            if key not in known:
                known[key] = make_template(block, len(stage.chips), program.clock_hz, exchange, hop)
            pieces.append(Piece(known[key], stage.chips, stage.chips + (target.chips if hop and target else ())))
    return pieces


def _slices(chips: tuple[int, ...], after: tuple[int, ...], size_bytes: int) -> Hop:
    """Each chip has its equal slice of `size_bytes`, and each of the next stage is to get its own: what overlaps is sent."""
    n, m = len(chips), len(after)
    sent = []
    for q in range(m):
        for r in range(n):
            share = min((r + 1) * m, (q + 1) * n) - max(r * m, q * n)  # of n x m
            if share > 0:
                sent.append((r, q, 0 if chips[r] == after[q] else -(-size_bytes * share // (n * m))))
    return Hop(m, tuple(sent))


def _whole(chips: tuple[int, ...], after: tuple[int, ...], size_bytes: int) -> Hop:
    """Every chip has all `size_bytes`, and every chip of the next stage gets them from one."""
    n = len(chips)
    sent = tuple((q % n, q, 0 if chips[q % n] == chip else size_bytes) for q, chip in enumerate(after))
    return Hop(len(after), sent)


def lower(program: Program, exchange: Exchange) -> Tasks:
    """All tasks of one iteration, in topological order."""
    return join(pieces_of(program, exchange), program.clock_hz)


def make_template(block: Block, ranks: int, clock_hz: float, exchange: Exchange, hop: Hop | None = None) -> Template:
    """Spell out `block` on ranks 0..ranks-1, and the hop to the next stage if there is one.

    Shard r sends to shard r of a next stage of as many, where nothing has used the matrix units yet. Slices to twins and a
    gathering there, not whole rows to twins: the links between two nodes are shared by all shards of a stage, so sending
    every byte once is faster than sending it tp times, as soon as rows exceed what the links carry during one hop's latency.
    """
    builder = TaskBuilder(clock_hz)
    outputs: Handles = [[-1 - r] for r in range(ranks)]
    units: Handles = [[-1 - ranks - r] for r in range(ranks)]
    for step in block.steps:
        if isinstance(step, Collective):
            outputs = exchange(builder, step, range(ranks), outputs)
        else:
            for r in range(ranks):
                outputs[r] = [_operation(builder, step, r, outputs[r], units)]
    if hop:
        made, outputs = outputs, [[] for _ in range(hop.ranks)]
        for r, q, size_bytes in hop.sent:
            outputs[q] += [builder.message(r, ranks + q, size_bytes, made[r], HOP, SEND)] if size_bytes else made[r]
        units = [[] for _ in range(hop.ranks)]
    tasks = builder.build()
    digest = blake2b(repr((tasks.clock_hz, outputs, units)).encode(), digest_size=16)
    for name in TASK_COLUMNS:
        digest.update(getattr(tasks, name))
    return Template(tasks, outputs, units, digest.digest())


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


def join(pieces: Sequence[Piece], clock_hz: float) -> Tasks:
    """The tasks of all pieces as one set of arrays, each piece after those before it."""
    parts: list[Tasks] = []
    outputs: Handles = [[] for _ in pieces[0].chips] if pieces else []
    units: Handles = [[] for _ in outputs]
    count = 0
    for piece in pieces:
        outside = outputs + units
        parts.append(_set_down(piece, outside, count))
        outputs = _shift(piece.template.outputs, outside, count)
        units = _shift(piece.template.units, outside, count)
        count += len(piece.template.tasks)
    return _concatenate(parts, clock_hz)


def _set_down(piece: Piece, outside: Handles, offset: int) -> Tasks:
    """A piece's tasks on its chips, with indexes of the whole."""
    old = piece.template.tasks
    before_start, before = _resolve(old, outside, offset)
    target_of = np.array([*piece.targets, -1], np.int32)  # index -1: no target
    return Tasks(
        old.clock_hz,
        old.kind,
        old.part,
        old.call,
        np.array(piece.chips, np.int32)[old.chip],
        target_of[old.target],
        old.size_bytes,
        old.first_cycles,
        old.last_cycles,
        old.rows,
        old.lead_rows,
        before_start,
        before,
    )


def _shift(handles: Handles, outside: Handles, offset: int) -> Handles:
    return [[task for h in each for task in ([h + offset] if h >= 0 else outside[-1 - h])] for each in handles]


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


def _concatenate(parts: list[Tasks], clock_hz: float) -> Tasks:
    """One set of arrays; `before_start` of each part shifted by the predecessors that came before it."""
    if not parts:
        return TaskBuilder(clock_hz).build()
    names = [name for name in TASK_COLUMNS if not name.startswith("before")]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    shifts = np.cumsum([0, *(len(part.before) for part in parts[:-1])])
    starts = [part.before_start[:-1] + shift for part, shift in zip(parts, shifts, strict=True)]
    before = np.concatenate([part.before for part in parts])
    return Tasks(clock_hz, before_start=np.concatenate([*starts, [len(before)]]), before=before, **columns)
