"""Micro-batches in flight: one program repeated at an interval, compiled so that no two of its copies ever meet.

A stage's chips are held by one micro-batch at a time, and what only one stage uses repeats by itself. What can collide is
what passes by: a hop between two stages goes over third nodes, whose links their own stages use at other times. Stages are
compiled in order, each piece beside all that is placed before it, of this micro-batch and of those an interval and more
before and after it (modulo scheduling). A hop takes only ways over nodes of stages that are placed already, or of none, so
that the exchanges within a stage are compiled as if alone and hops find their slots between them. Where a stage would then be
held for longer than the interval it begins a little later, which moves its slots; if that does not help, the interval grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.network.lower import Piece
from dcsim.network.scheduled.compose import (
    FAR,
    NO_RUNS,
    CompiledPiece,
    Composition,
    Outputs,
    Placed,
    compile_piece,
    compose,
    problem_of,
)
from dcsim.network.scheduled.places import Place, Places, message_pairs
from dcsim.network.scheduled.rules import ScheduleRules

Int64 = NDArray[np.int64]

# Intervals tried, as parts of the bound beyond it.
LONGER = (0.0, 0.01, 0.02, 0.035, 0.05, 0.07, 0.1, 0.15, 0.25, 0.5, 1.0)
DELAYS = 14  # how often a stage may begin later
AHEAD = 4  # intervals that a piece's links are looked at ahead


@dataclass(frozen=True, slots=True)
class Repeated:
    """A program repeated every `interval_cycles`. No interval is below the bound: the longest that a stage's chips or a link
    are held for one micro-batch with none beside it."""

    composition: Composition
    interval_cycles: int
    bound_cycles: int

    @property
    def ratio(self) -> float:
        """The interval by its bound."""
        return self.interval_cycles / max(1, self.bound_cycles)


def steady(pieces: Sequence[Piece], places: Places, figures: ScheduleRules) -> Repeated | None:
    """The least interval found at which `pieces` repeat, with their schedule; None if none was found among those tried."""
    bound = compose(pieces, places, figures).occupancy_cycles()
    ordered = places.in_order([piece.chips for piece in pieces])
    alone = compose(pieces, ordered, figures)
    spans = [p.compiled.links_end + p.compiled.links_end // 4 + 2000 for p in alone.placed]
    for longer in LONGER:
        interval = int(bound * (1 + longer))
        composition = _at(pieces, ordered, figures, interval, spans)
        if composition is not None and composition.occupancy_cycles() <= interval:
            return Repeated(composition, interval, bound)
    return None


class _Taken:
    """Vectors on links, in the program's cycles, of one micro-batch; all others have the same, whole intervals away."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self._by_link: dict[int, list[Int64]] = {}

    def add(self, placed: Placed) -> None:
        """All vectors of a piece."""
        compiled = placed.compiled
        if not len(compiled.runs):
            return
        runs = np.column_stack([compiled.runs, compiled.runs_end])  # link, start, vectors, stride, end
        runs[:, 0] = placed.place.links[runs[:, 0]]
        runs[:, [1, 4]] += placed.begin
        runs = runs[np.argsort(runs[:, 0], kind="stable")]
        links, first = np.unique(runs[:, 0], return_index=True)
        for link, own in zip(links.tolist(), np.split(runs, first[1:]), strict=True):
            self._by_link.setdefault(link, []).append(own)

    def merge(self, other: _Taken) -> None:
        """All vectors of another."""
        for link, parts in other._by_link.items():
            self._by_link.setdefault(link, []).extend(parts)

    def on(self, link: int) -> list[Int64]:
        """Runs on a link."""
        return self._by_link.get(link, [])

    def copies(self, found: list[Int64], place: Place, begin: int, ahead: int) -> tuple[Int64, Int64]:
        """[run, 4] of `found` that are on a place's links from `begin` on for `ahead` cycles, as it counts, and their copies."""
        if not found:
            return NO_RUNS, NO_RUNS
        runs = np.concatenate(found)
        start, end = runs[:, 1], runs[:, 4]
        first = -((end - begin - 1) // self.interval)
        count = np.maximum((begin + ahead - 1 - start) // self.interval - first + 1, 0)
        which = np.repeat(np.arange(len(runs)), count)
        nth = first[which] + np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
        copies = runs[which, :4]
        copies[:, 0] = place.links_of(copies[:, 0].astype(np.int32))
        copies[:, 1] += nth * self.interval - begin
        order = np.lexsort((copies[:, 1], copies[:, 0]))
        copies, own = copies[order], nth[order] == 0
        return np.ascontiguousarray(copies[own]), np.ascontiguousarray(copies[~own])


@dataclass(frozen=True, slots=True)
class _Stage:
    """One stage compiled beside all others: how long its chips are held, and what the next finds."""

    held_cycles: int
    placed: list[Placed]
    taken: _Taken
    before: tuple[Outputs, ...]
    begin: int


def _at(pieces: Sequence[Piece], places: Places, figures: ScheduleRules, interval: int, spans: list[int]) -> Composition | None:
    """The program repeated every `interval`; None where something is held for longer."""
    taken, placed = _Taken(interval), []
    before: tuple[Outputs, ...] = tuple(() for _ in pieces[0].chips) * 2
    begin = 0
    for first, last in _stages(pieces):
        stage = _stage(pieces[first:last], places, figures, taken, before, begin, spans[first:last])
        if stage is None:
            return None
        placed += stage.placed
        taken.merge(stage.taken)
        before, begin = stage.before, stage.begin
    return Composition(tuple(placed), len({id(p.compiled) for p in placed}))


def _stages(pieces: Sequence[Piece]) -> list[tuple[int, int]]:
    """First piece of each stage, and the first behind it."""
    first = [i for i, piece in enumerate(pieces) if i == 0 or piece.chips != pieces[i - 1].chips]
    return list(zip(first, [*first[1:], len(pieces)], strict=True))


def _stage(
    pieces: Sequence[Piece],
    places: Places,
    figures: ScheduleRules,
    taken: _Taken,
    before: tuple[Outputs, ...],
    begin: int,
    spans: list[int],
) -> _Stage | None:
    """A stage that is held for no longer than the interval, begun as little later as was tried; None if none is."""
    delay = 0
    for attempt in range(DELAYS + 1):
        later = tuple(tuple((first - delay, last - delay) for first, last in outputs) for outputs in before)
        stage = _begun(pieces, places, figures, taken, later, begin + delay, spans)
        if stage is not None and stage.held_cycles <= taken.interval:
            return stage
        over = 0 if stage is None else stage.held_cycles - taken.interval
        delay += max(over, taken.interval >> 13 << attempt, 1)
    return None


def _begun(
    pieces: Sequence[Piece],
    places: Places,
    figures: ScheduleRules,
    taken: _Taken,
    before: tuple[Outputs, ...],
    begin: int,
    spans: list[int],
) -> _Stage | None:
    """A stage that begins at `begin`; None where a piece finds no room for several intervals, or takes longer than one."""
    own, placed = _Taken(taken.interval), []
    held_from = np.full(places.fabric.vertex_count, FAR)
    held_to = np.zeros(places.fabric.vertex_count, np.int64)
    for piece, span in zip(pieces, spans, strict=True):
        place = places.of(piece, message_pairs(piece.template.tasks))
        compiled = _beside(piece, place, places, figures, (taken, own), before, begin, span)
        if compiled is None or _longest_use(compiled) > taken.interval:  # it would meet its own copy
            return None
        placed.append(Placed(compiled, place, begin))
        own.add(placed[-1])
        chips = place.vertices[compiled.chips]
        np.minimum.at(held_from, chips, begin + compiled.chips_begin)
        np.maximum.at(held_to, chips, begin + compiled.chips_end)
        before, begin = compiled.after, begin + compiled.after_begin
    return _Stage(int((held_to - held_from).max()), placed, own, before, begin)


def _longest_use(compiled: CompiledPiece) -> int:
    """Cycles from the first vector of a piece on a link to the last, on the link where that is longest."""
    if not len(compiled.runs):
        return 0
    link = compiled.runs[:, 0]
    first, last = np.full(int(link.max()) + 1, FAR), np.zeros(int(link.max()) + 1, np.int64)
    np.minimum.at(first, link, compiled.runs[:, 1])
    np.maximum.at(last, link, compiled.runs_end)
    return int((last - first).max())


def _beside(
    piece: Piece,
    place: Place,
    places: Places,
    figures: ScheduleRules,
    taken: tuple[_Taken, _Taken],
    before: tuple[Outputs, ...],
    begin: int,
    span: int,
) -> CompiledPiece | None:
    """A piece compiled beside what is taken, for as far ahead as it turns out to reach."""
    found = [runs for each in taken for link in place.links.tolist() for runs in each.on(link)]
    most = AHEAD * taken[0].interval + 2 * AHEAD * span
    while span <= most:
        runs, others = taken[0].copies(found, place, begin, span)
        key = piece.template.digest, place.wiring, figures, before, runs.tobytes(), others.tobytes()
        compiled: CompiledPiece | None = places.kept.get(key)
        if compiled is None:
            compiled = compile_piece(piece.template, problem_of(piece, place, figures, places.kept), before, runs, others)
            places.kept.put(key, compiled, compiled.size_bytes)
        if compiled.links_end <= span:
            return compiled
        span = 2 * compiled.links_end
    return None
