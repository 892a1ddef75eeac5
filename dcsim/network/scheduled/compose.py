"""One iteration compiled piece by piece, equal pieces once, in this iteration or an earlier one on the same fabric.

A piece (a block, a stage's last with the hop to the next) is compiled on its place's part of the fabric and in cycles of
its own. Its schedule follows from four things: its template, how its place is wired, when the outputs it waits for are
there, and which vectors of earlier pieces are still to come on its links. A later piece that finds the same four gets the
same schedule, at another time and on other chips. Streams run on across pieces, so nothing is lost to barriers; and that
the whole is sound needs no argument: it is one schedule, proved as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dcsim.network.lower import Piece, Template
from dcsim.network.scheduled.places import Kept, Place, Places, message_pairs
from dcsim.network.scheduled.rules import ScheduleRules
from dcsim.network.scheduled.schedule import Before, Prepared, Schedule, prepare, solve
from dcsim.network.tasks import COMPUTE

Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]

# Outputs a task may wait for: first and last cycle of each, none of which is behind another in both.
Outputs = tuple[tuple[int, int], ...]


FAR = 1 << 62  # cycles no program takes
NO_RUNS = np.zeros((0, 4), np.int64)


@dataclass(frozen=True, slots=True)
class CompiledPiece:
    """A piece's schedule, in cycles after its `begin` and its place's numbers, and what later pieces find of it.

    `after` are the outputs of each rank, then the last use of each rank's matrix unit, in cycles after `after_begin`.
    """

    schedule: Schedule
    runs: Int64  # [burst, 4] link, start, vectors, stride
    runs_end: Int64  # [burst] cycle in which its last vector is off the link
    links_end: int  # the last of them
    after: tuple[Outputs, ...]
    after_begin: int
    chips: Int64  # place's chips that work ...
    chips_begin: Int64  # ... when each begins
    chips_end: Int64  # ... and ends

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        return 3 * self.runs.nbytes + 4 * self.schedule.start.nbytes


@dataclass(frozen=True, slots=True)
class Placed:
    """A compiled piece at its time and place."""

    compiled: CompiledPiece
    place: Place
    begin: int


@dataclass(frozen=True, slots=True)
class Composition:
    """All pieces of one iteration in order; `kinds` counts the different ones that were compiled."""

    placed: tuple[Placed, ...]
    kinds: int

    @property
    def makespan_cycles(self) -> int:
        """Epoch to the last output of any task."""
        return max((p.begin + p.compiled.schedule.makespan_cycles for p in self.placed), default=0)

    @property
    def vector_hops(self) -> int:
        """Link slots used: every vector counts once on every link."""
        return sum(p.compiled.schedule.vector_hops for p in self.placed)

    def occupancy_cycles(self) -> int:
        """Cycles after which the next micro-batch may follow: no chip, nor any link, has more to do for one.

        A chip is held from its first start to its last output in each stage that it is of; a link only while vectors leave
        on it, as what a stage hands on travels over links that other stages use at other times.
        """
        if not self.placed:
            return 0
        ranks = [p.place.vertices[p.place.chips].tobytes() for p in self.placed]
        stages = np.cumsum([0, *(a != b for a, b in pairwise(ranks))])
        chip = np.concatenate([p.place.vertices[p.compiled.chips] for p in self.placed]).astype(np.int64)
        stage = np.repeat(stages, [len(p.compiled.chips) for p in self.placed])
        visits, which = np.unique(chip * (stages[-1] + 1) + stage, return_inverse=True)
        begin, end = np.full(len(visits), FAR), np.zeros(len(visits), np.int64)
        np.minimum.at(begin, which, np.concatenate([p.compiled.chips_begin + p.begin for p in self.placed]))
        np.maximum.at(end, which, np.concatenate([p.compiled.chips_end + p.begin for p in self.placed]))
        vectors = np.bincount(
            np.concatenate([p.place.links[p.compiled.runs[:, 0]] for p in self.placed]),
            np.concatenate([p.compiled.runs[:, 2] for p in self.placed]),
        )
        slot = self.placed[0].compiled.schedule.slot_cycles
        held = np.zeros(int(chip.max(initial=0)) + 1, np.int64)
        np.add.at(held, visits // (stages[-1] + 1), end - begin)
        return max(int(held.max(initial=0)), int(vectors.max(initial=0)) * slot)

    def piece_begins(self) -> Int64:
        """[piece] cycle in which its first task starts; pieces without tasks are left out."""
        starts = [p.begin + int(p.compiled.schedule.start[0]) for p in self.placed if len(p.compiled.schedule.start)]
        return np.array(starts, np.int64)

    def task_starts(self) -> Int64:
        """[piece] index of its first task in the whole."""
        counts = [len(p.compiled.schedule.start) for p in self.placed]
        return np.cumsum([0, *counts], dtype=np.int64)[:-1]

    def flatten(self) -> Schedule:
        """The whole as one schedule of the pieces' tasks, joined in order (`lower.join`)."""
        parts = [(p.compiled.schedule, p) for p in self.placed]
        task_at = self.task_starts()
        burst_at = np.cumsum([0, *(len(s.burst_link) for s, _ in parts)])

        def joined(arrays: list[Int64]) -> Int64:
            return np.concatenate([np.zeros(0, np.int64), *arrays])

        def narrow(arrays: list[Int32]) -> Int32:
            return np.concatenate([np.zeros(0, np.int32), *arrays])

        return Schedule(
            start=joined([s.start + p.begin for s, p in parts]),
            first_out=joined([s.first_out + p.begin for s, p in parts]),
            last_out=joined([s.last_out + p.begin for s, p in parts]),
            flow_task=narrow([s.flow_task + np.int32(at) for (s, _), at in zip(parts, task_at, strict=True)]),
            first_vector=narrow([s.first_vector for s, _ in parts]),
            vector_step=narrow([s.vector_step for s, _ in parts]),
            vectors=narrow([s.vectors for s, _ in parts]),
            stride=joined([s.stride for s, _ in parts]),
            burst_offset=joined(
                [np.zeros(1, np.int64), *(s.burst_offset[1:] + at for (s, _), at in zip(parts, burst_at, strict=False))]
            ),
            burst_link=narrow([p.place.links[s.burst_link] for s, p in parts]),
            burst_start=joined([s.burst_start + p.begin for s, p in parts]),
            slot_cycles=parts[0][0].slot_cycles if parts else 1,
        )


def compose(pieces: Sequence[Piece], places: Places, figures: ScheduleRules, reuse: bool = True) -> Composition:
    """Compile `pieces` one after another, each equal one once (or, without `reuse`, every one anew: the same result).

    What was compiled is kept with the places: a longer context changes what attends, and little else.
    """
    kept, kinds = places.kept if reuse else Kept(0), set()
    pairs: dict[bytes, Int32] = {}
    placed: list[Placed] = []
    live: list[Placed] = []  # pieces with vectors still to come
    before: tuple[Outputs, ...] = tuple(() for _ in pieces[0].chips) * 2 if pieces else ()
    begin = 0
    for piece in pieces:
        template = piece.template.digest
        if template not in pairs:
            pairs[template] = message_pairs(piece.template.tasks)
        place = places.of(piece, pairs[template])
        live = [p for p in live if p.begin + p.compiled.links_end > begin]
        runs = _runs_left(live, places, place, begin)
        key = template, place.wiring, figures, before, runs.tobytes()
        kinds.add(key)
        compiled = kept.get(key)
        if compiled is None:
            compiled = compile_piece(piece.template, problem_of(piece, place, figures, kept), before, runs)
            kept.put(key, compiled, compiled.size_bytes)
        placed.append(Placed(compiled, place, begin))
        live.append(placed[-1])
        before, begin = compiled.after, begin + compiled.after_begin
    return Composition(tuple(placed), len(kinds))


def problem_of(piece: Piece, place: Place, figures: ScheduleRules, kept: Kept) -> Prepared:
    """A template at places of one wiring, made ready once."""
    key = piece.template.digest, place.wiring, figures
    problem: Prepared | None = kept.get(key)
    if problem is None:
        problem = prepare(place.tasks(piece.template.tasks), place.fabric, figures)
        kept.put(key, problem, problem.table.nbytes + problem.distance.nbytes)
    return problem


def _runs_left(live: list[Placed], places: Places, place: Place, begin: int) -> Int64:
    """[run, 4] vectors of earlier pieces on the place's links after `begin`, in its numbers and its time, in order."""
    found = []
    for p in live:
        runs = p.compiled.runs[p.compiled.runs_end > begin - p.begin]
        links = places.shared_links(p.place, place)[runs[:, 0]]
        here = links >= 0
        if here.any():
            runs = runs[here]
            runs[:, 0] = links[here]
            runs[:, 1] += p.begin - begin
            found.append(runs)
    if not found:
        return NO_RUNS
    runs = np.concatenate(found) if len(found) > 1 else found[0]
    return np.ascontiguousarray(runs[np.lexsort((runs[:, 1], runs[:, 0]))])


def compile_piece(
    template: Template, problem: Prepared, before: tuple[Outputs, ...], runs: Int64, others: Int64 = NO_RUNS
) -> CompiledPiece:
    """Compile a template at a place, after these outputs and beside these runs."""
    given_start = np.cumsum([0, *map(len, before)], dtype=np.int64)
    given = np.array([pair for outputs in before for pair in outputs], np.int64).reshape(-1, 2)
    schedule = solve(problem, Before(given_start, given, runs, others))
    own = np.empty((len(schedule.burst_link), 4), np.int64)
    own[:, 0], own[:, 1] = schedule.burst_link, schedule.burst_start
    hops = schedule.hops
    own[:, 2], own[:, 3] = np.repeat(schedule.vectors, hops), np.repeat(schedule.stride, hops)
    ends = own[:, 1] + (own[:, 2] - 1) * own[:, 3] + schedule.slot_cycles
    after, after_begin = _after(template, schedule, before)
    tasks = template.tasks
    work = np.flatnonzero((tasks.kind == COMPUTE) & (tasks.last_cycles > 0))  # a task without length only joins others
    chips = problem.table[work, 0]
    chips_begin = np.full(problem.fabric.vertex_count, FAR)
    chips_end = np.zeros(problem.fabric.vertex_count, np.int64)
    np.minimum.at(chips_begin, chips, schedule.start[work])
    np.maximum.at(chips_end, chips, schedule.last_out[work])
    used = np.flatnonzero(chips_end)
    return CompiledPiece(
        schedule, own, ends, int(ends.max(initial=0)), after, after_begin, used, chips_begin[used], chips_end[used]
    )


def _after(template: Template, schedule: Schedule, before: tuple[Outputs, ...]) -> tuple[tuple[Outputs, ...], int]:
    """What a later piece finds of a template's outputs and units, and the cycle it counts from.

    It counts from the first cycle in which some rank's outputs have all begun: nothing later starts before that. Of a
    matrix unit only the last use matters, and only if it is later still.
    """
    first, last = schedule.first_out.tolist(), schedule.last_out.tolist()

    def outputs(handle: list[int]) -> list[tuple[int, int]]:
        return [pair for h in handle for pair in ([(first[h], last[h])] if h >= 0 else before[-1 - h])]

    made = [_latest(outputs(handle)) for handle in template.outputs]
    begin = min((max(pair[0] for pair in handle) for handle in made if handle), default=0)
    units = [max((pair[1] for pair in outputs(handle)), default=0) for handle in template.units]
    after = [tuple((a - begin, b - begin) for a, b in handle) for handle in made]
    return (*after, *(((unit - begin, unit - begin),) if unit > begin else () for unit in units)), begin


def _latest(pairs: list[tuple[int, int]]) -> Outputs:
    """The pairs that some wait could depend on: none behind another in both first and last."""
    if not pairs:
        return ()
    latest = max(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
    if latest in pairs:
        return (latest,)
    kept: list[tuple[int, int]] = []
    for pair in sorted(set(pairs), reverse=True):
        if not kept or pair[1] > kept[-1][1]:
            kept.append(pair)
    return tuple(kept)
