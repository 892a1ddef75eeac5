"""Iterations of whatever tokens there are: on chips that schedule for themselves no program is compiled beforehand.

All shards of a stage work in lock step, so an iteration is its operations one after another, and each collective takes what it
takes alone. What depends on the tokens' number alone (`body`, `attention`), on the sequences that get a token (`head`), and on
what each sequence looks back at (`look`, `read`) is timed apart and added up: an iteration may hold any mixture of the two.

Over several stages sequences and prompts are dealt to as many micro-batches, which pass the stages at the same time: the one with
the most decides, and a token takes its way through all stages.

With copies of attention (`mapping.attention_dp`) sequences are shared out evenly, and prompts in turn: the copy with the most of
each decides. Feed-forward blocks then have all copies' tokens gathered and their sums scattered, which takes an all-reduce's
time, or each token is sent to the chips that hold its experts and back (`mapping.ep`), whichever is sooner.

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
from dcsim.llm.kinds.feed_forward import Routed
from dcsim.llm.mapping import Mapping
from dcsim.llm.plan import Plan, sum_bytes
from dcsim.llm.precision import active_bytes
from dcsim.llm.stages import copies_of
from dcsim.llm.storage import EXPERTS
from dcsim.llm.sublayers import Head, Layer, Sublayer, build_block
from dcsim.network.tasks import PARTS
from dcsim.network.timing import BREAKDOWN
from dcsim.network.work import STATES
from dcsim.spec.chip import ChipPower
from dcsim.spec.topology import Topology

Parts = NDArray[np.float64]  # seconds by BREAKDOWN
Blocks = dict[Sublayer, int]  # how often each occurs
Collectives = Callable[[str, int, int], Parts]  # (operation, bytes, chips) -> where its time goes

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
    """A prompt's tokens from `start` to before `stop`, read in one iteration; `ends`: they are its last ones."""

    start: int
    stop: int
    ends: bool = True

    @property
    def tokens(self) -> int:
        """How many."""
        return self.stop - self.start


class LockStep:
    """Times iterations of an LLM on the chips of one stage of `mapping`, in seconds by BREAKDOWN."""

    def __init__(self, spec: Topology, mapping: Mapping, collectives: Collectives) -> None:
        self._spec, self._mapping, self._collectives = spec, mapping, collectives
        self._copies = mapping.spec.attention_dp
        blocks = Counter(arch.sublayers(spec.llm))
        self._head: Blocks = {block: count for block, count in blocks.items() if isinstance(block, Head)}
        self._attends: Blocks = {block: n for block, n in blocks.items() if isinstance(block, Layer) and block.attends}
        self._others: Blocks = {b: n for b, n in blocks.items() if b not in self._head and b not in self._attends}
        rows = grid(8, 1 << 20)
        self._exchanges: dict[tuple[str, int], Interpolated] = {}
        self.body = Interpolated(lambda n: self._rows(self._others, n), rows)
        self.attention = Interpolated(lambda n: self._rows(self._attends, n), rows)
        self.head = Interpolated(lambda n: self._rows(self._head, n), rows)
        self._looks: dict[tuple[int, int], Interpolated] = {}
        self._contexts, self._rows_taken = grid(4, spec.llm.context_max), rows
        self._read = Interpolated(lambda stop: self._beyond_rows(Shape(1, stop, stop)), grid(8, spec.llm.context_max))

    @property
    def apart(self) -> int:
        """Copies of attention and micro-batches, each of which takes in prompts of its own at the same time."""
        return self._copies * self._mapping.pp

    def iteration(self, sequences: int, context: float, chunks: Sequence[Chunk] = (), check_tokens: int = 1) -> Parts:
        """A token for each of `sequences`, whose contexts have the mean `context`, and chunks of prompts beside.

        `check_tokens` are a sequence's rows: one, and those drafted for it.
        """
        if self._mapping.pp > 1:
            dealt = (chunks[batch :: self._mapping.pp] for batch in range(self._mapping.pp))
            chunks = max(dealt, key=lambda part: sum(chunk.tokens for chunk in part))
            sequences = -(-sequences // self._mapping.pp)
        rows = sequences * check_tokens + sum(chunk.tokens for chunk in chunks)
        own = -(-sequences // self._copies)
        dealt = (chunks[copy :: self._copies] for copy in range(self._copies))
        mine = max(dealt, key=lambda part: sum(chunk.tokens for chunk in part))
        attending = own * check_tokens + sum(chunk.tokens for chunk in mine)
        parts = self.body(rows) + self.attention(attending) + self.head(sequences * check_tokens + len(chunks))
        if self._mapping.pp > 1:
            shard_bytes = -(-rows * self._spec.llm.d_model * sum_bytes(self._mapping.spec) // self._mapping.tp)
            parts = parts + (self._mapping.pp - 1) * self._exchange("send", shard_bytes, 2)
        if sequences:
            parts = parts + self.look(own, context, check_tokens)
        if chunks:  # one kernel a layer reads them all
            parts = parts + self._read(1)
        for chunk in mine:
            parts = parts + self.read(chunk.start, chunk.stop)
        return parts

    def look(self, sequences: int, context: float, tokens: int = 1) -> Parts:
        """What the attention of `tokens` new tokens of each of `sequences` takes."""
        return Interpolated(lambda n: self._look_of(n, tokens)(context), self._rows_taken)(sequences)

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

    def _look_of(self, sequences: int, tokens: int) -> Interpolated:
        key = sequences, tokens
        if key not in self._looks:
            self._looks[key] = Interpolated(lambda c: self._beyond_rows(Shape(sequences, max(c, tokens), tokens)), self._contexts)
        return self._looks[key]

    def _rows(self, blocks: Blocks, rows: int) -> Parts:
        """Everything but attention of so many rows that look back at nothing."""
        return self._steps(blocks, Shape(rows, _NO_CONTEXT), attention=False)

    def _beyond_rows(self, shape: Shape) -> Parts:
        """What a shape takes beyond its rows: attention, and all else that grows with the context."""
        none, every = Shape(shape.rows, _NO_CONTEXT), {**self._attends, **self._others}
        return self._steps(every, shape, exchanges=False) - self._steps(every, none, attention=False, exchanges=False)

    def _steps(self, blocks: Blocks, shape: Shape, *, attention: bool = True, exchanges: bool = True) -> Parts:
        spec, parts = self._spec, np.zeros(len(BREAKDOWN))
        for block, count in blocks.items():
            copies = copies_of(block, self._mapping.spec, self._mapping.tp)
            plan = Plan(spec.llm, spec.chip, self._mapping.spec, self._mapping.tp // copies, shape)
            for step in build_block(plan, block).steps:
                if isinstance(step, Operation) and (attention or step.part != "attention"):
                    parts[_PLACE[step.part]] += count * max(step.last_cycles) / spec.chip.clock_hz
                elif isinstance(step, Collective) and exchanges:
                    parts += count * self._joined(plan, block, step)
        return parts

    def _joined(self, plan: Plan, block: Sublayer, step: Collective) -> Parts:
        """A collective's time; of experts that lie apart, that of sending tokens to them and back, if that is sooner."""
        reduced = self._exchange(step.op, step.size_bytes, plan.tp)
        if not isinstance(block, Layer) or not any(isinstance(kind, Routed) for kind in block.inner):
            return reduced
        if self._copies == 1 or plan.spec.ep == 1:  # every chip has all tokens, or a part of all experts
            return reduced
        out_bytes, back_bytes = visited_bytes(plan, block)
        sent = self._exchange("all_to_all", out_bytes, plan.tp) + self._exchange("all_to_all", back_bytes, plan.tp)
        return sent if sent.sum() < reduced.sum() else reduced

    def _exchange(self, op: str, size_bytes: int, chips: int) -> Parts:
        key = op, chips
        if key not in self._exchanges:
            self._exchanges[key] = Interpolated(lambda size: self._collectives(op, size, chips), _SIZES)
        return self._exchanges[key](size_bytes)


def visited_bytes(plan: Plan, block: Layer) -> tuple[int, int]:
    """What a chip sends out to the groups of chips that its tokens' experts lie on, and what comes back, in bytes.

    A token goes once to each group that holds any of its experts, as narrow as these take it, and comes back in 16 bit at least.
    """
    kind = next(kind for kind in block.inner if isinstance(kind, Routed))
    groups, rows = plan.spec.ep, -(-plan.shape.rows // plan.tp)
    met = groups * (1 - (1 - 1 / groups) ** kind.spec.experts_active)
    elements = rows * met * plan.llm.d_model
    narrow = active_bytes(plan.llm, plan.spec, plan.chip, EXPERTS)
    return max(1, round(elements * narrow)), max(1, round(elements * plan.sum_bytes))


_SIZES = [1 << n for n in range(8, _LARGEST_SIMULATED.bit_length())]


def _names(places: Sequence[int]) -> list[str]:
    return [PARTS[place] for place in places]
