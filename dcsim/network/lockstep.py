"""Iterations of whatever tokens there are: on chips that schedule for themselves no program is compiled beforehand.

All shards of a stage work in lock step, so an iteration is its operations one after another, and each collective takes what it
takes alone. What depends on the tokens' number alone (`body`), on the sequences that get a token (`head`), and on what each
sequence looks back at (`look`, `read`) is timed apart and added up: an iteration may hold any mixture of prompts and answers.

Between the sizes that are timed, times are read off straight lines: eight sizes in each doubling for rows and contexts, powers
of two for the bytes of collectives.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.llm import architecture as arch
from dcsim.llm.blocks import Collective, Operation, Shape
from dcsim.llm.mapping import Mapping
from dcsim.llm.plan import Plan
from dcsim.llm.sublayers import Head, Sublayer, build_block
from dcsim.network.tasks import PARTS
from dcsim.network.timing import BREAKDOWN
from dcsim.network.work import STATES
from dcsim.spec.chip import ChipPower
from dcsim.spec.topology import Topology

Parts = NDArray[np.float64]  # seconds by BREAKDOWN
Collectives = Callable[[str, int], Parts]  # (operation, bytes) -> where its time goes

# Times of what depends on rows alone are taken where a token looks back at next to nothing.
_NO_CONTEXT = 2
_PLACE = {part: i for i, part in enumerate(BREAKDOWN)}
_LARGEST_SIMULATED = 16 << 20  # bytes of a collective: beyond, time grows in proportion


def grid(octave_steps: int, most: int) -> list[int]:
    """Whole numbers from 1 to beyond `most`: all small ones, then `octave_steps` in each doubling."""
    found, step = list(range(1, octave_steps + 1)), 1
    while found[-1] < most:
        found += [found[-1] + step * (i + 1) for i in range(octave_steps)]
        step *= 2
    return found


class Interpolated:
    """A function of a whole number that is taken where `places` are and read off straight lines between."""

    def __init__(self, function: Callable[[int], Parts], places: Sequence[int]) -> None:
        self._function, self._places = function, places
        self._taken: dict[int, Parts] = {}

    def __call__(self, at: float) -> Parts:
        """The value at any number from the first place on; beyond the last, the last two places' line goes on."""
        places = self._places
        right = min(max(1, bisect_left(places, at)), len(places) - 1)
        if places[right] == at:
            return self._at(places[right])
        low, high = places[right - 1], places[right]
        if at <= low:
            return self._at(low)
        share = (at - low) / (high - low)
        return self._at(low) * (1 - share) + self._at(high) * share

    def _at(self, place: int) -> Parts:
        if place not in self._taken:
            self._taken[place] = self._function(place)
        return self._taken[place]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A prompt's tokens from `start` to before `stop`, read in one iteration."""

    start: int
    stop: int

    @property
    def tokens(self) -> int:
        """How many."""
        return self.stop - self.start


class LockStep:
    """Times iterations of an LLM on the chips of one stage of `mapping`, in seconds by BREAKDOWN."""

    def __init__(self, spec: Topology, mapping: Mapping, collectives: Collectives) -> None:
        self._spec, self._mapping = spec, mapping
        blocks = Counter(arch.sublayers(spec.llm))
        self._head: dict[Sublayer, int] = {block: count for block, count in blocks.items() if isinstance(block, Head)}
        self._blocks = {block: count for block, count in blocks.items() if block not in self._head}
        context = spec.llm.context_max
        rows, contexts = grid(8, 1 << 20), grid(4, context)
        self._exchange = {op: Interpolated(lambda size, op=op: collectives(op, size), _SIZES) for op in _OPS}  # type: ignore[misc]
        self.body = Interpolated(lambda n: self._rows(self._blocks, n), rows)
        self.head = Interpolated(lambda n: self._rows(self._head, n), rows)
        self._looks: dict[int, Interpolated] = {}
        self._contexts, self._rows_taken = contexts, rows
        self._read = Interpolated(lambda stop: self._beyond_rows(Shape(1, stop, stop)), grid(8, context))

    def iteration(self, sequences: int, context: float, chunks: Sequence[Chunk] = ()) -> Parts:
        """One token for each of `sequences`, whose contexts have the mean `context`, and chunks of prompts beside."""
        rows = sequences + sum(chunk.tokens for chunk in chunks)
        parts = self.body(rows) + self.head(sequences + len(chunks))
        if sequences:
            parts = parts + self.look(sequences, context)
        if chunks:  # one kernel a layer reads them all
            parts = parts + self._read(1)
        for chunk in chunks:
            parts = parts + self.read(chunk.start, chunk.stop)
        return parts

    def look(self, sequences: int, context: float) -> Parts:
        """What the attention of one new token of each of `sequences` takes."""
        return Interpolated(lambda n: self._look_of(n)(context), self._rows_taken)(sequences)

    def read(self, start: int, stop: int) -> Parts:
        """What the attention of a chunk takes beside its kernel: that of the prompt up to its end, less what was read before.

        Reading the keys of earlier chunks again takes a share of the arithmetic on them that is left out.
        """
        return self._read(stop) - self._read(max(1, start))

    def joules(self, parts: Parts, power: ChipPower) -> float:
        """Joules of all chips above waiting while such parts pass."""
        states = {"matrix": power.matrix_w, "vector": power.vector_w}
        draw = {part: states[state] - power.wait_w for state, names in STATES.items() for part in _names(names)}
        return self._mapping.tp * sum(float(parts[_PLACE[part]]) * watts for part, watts in draw.items())

    def _look_of(self, sequences: int) -> Interpolated:
        if sequences not in self._looks:
            self._looks[sequences] = Interpolated(lambda c: self._beyond_rows(Shape(sequences, c)), self._contexts)
        return self._looks[sequences]

    def _plan(self, shape: Shape) -> Plan:
        return Plan(self._spec.llm, self._spec.chip, self._mapping.spec, self._mapping.tp, shape)

    def _rows(self, blocks: dict[Sublayer, int], rows: int) -> Parts:
        """Everything but attention of so many rows that look back at nothing."""
        return self._steps(blocks, Shape(rows, _NO_CONTEXT), attention=False)

    def _beyond_rows(self, shape: Shape) -> Parts:
        """What a shape takes beyond its rows: attention, and all else that grows with the context."""
        every = self._steps(self._blocks, shape, exchanges=False)
        return every - self._steps(self._blocks, Shape(shape.rows, _NO_CONTEXT), attention=False, exchanges=False)

    def _steps(self, blocks: dict[Sublayer, int], shape: Shape, *, attention: bool = True, exchanges: bool = True) -> Parts:
        plan, parts = self._plan(shape), np.zeros(len(BREAKDOWN))
        for block, count in blocks.items():
            for step in build_block(plan, block).steps:
                if isinstance(step, Operation) and (attention or step.part != "attention"):
                    parts[_PLACE[step.part]] += count * max(step.last_cycles) / self._spec.chip.clock_hz
                elif isinstance(step, Collective) and exchanges:
                    parts += count * self._exchange[step.op](step.size_bytes)
        return parts


_OPS = ("all_reduce", "reduce_scatter", "all_gather", "all_to_all")
_SIZES = [1 << n for n in range(8, _LARGEST_SIMULATED.bit_length())]


def _names(places: Sequence[int]) -> list[str]:
    return [PARTS[place] for place in places]
