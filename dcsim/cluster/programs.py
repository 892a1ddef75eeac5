"""The finite set of compiled programs a replica runs, and how long each takes.

A static schedule exists only for compiled shapes: batch and context are padded to the next bucket. Chips without compiled
programs take a batch of any size, up to what memory holds; it is timed at the next of sizes a third to a half apart. Each shape
is timed once, by whichever network the run uses, and remembered. A network that is not deterministic gives the times
of several successive iterations instead of one; a round then has as many draws.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from dcsim.cluster.marks import bit_errors
from dcsim.errors import Problem, SpecError
from dcsim.llm.program import Shape
from dcsim.network.timing import InFlightTime, IterationTime
from dcsim.spec.chip import Chip, LpuChip
from dcsim.spec.topology import ServingSpec

Times = IterationTime | Sequence[IterationTime]
# Batch sizes that a chip with programs fixed beforehand has programs for, where the topology names none.
COMPILED_BATCHES = (1, 2, 4, 8, 16, 32, 64)
CHUNK_TOKENS = 128  # prompt tokens of a chunk where nobody names another number


def batches_of(serving: ServingSpec, chip: Chip) -> tuple[int, ...]:
    """The batch sizes that iterations are padded to on such chips, smallest first."""
    if serving.batch_buckets is not None:
        return tuple(sorted(set(serving.batch_buckets)))
    return COMPILED_BATCHES if isinstance(chip, LpuChip) else any_batches(serving.sequences_max)


def any_batches(most: int) -> tuple[int, ...]:
    """1, 2, 3, 4, 6, 8, 12 and so on, and `most` itself: what a batch of any size up to it is timed at."""
    steps = (size for power in range(most.bit_length()) for size in (1 << power, 3 << power >> 1))
    return tuple(sorted({size for size in steps if size < most} | {most}))


@dataclass(frozen=True, slots=True)
class MicroBatches:
    """So many micro-batches of one shape in a round: each enters the pipeline when the one before has held it for `occupancy_ps`.

    Once in, an iteration takes `latency_ps`; `wait_ps` is what passes before the first chip begins (drafts). One does
    `work_pj` above the chips' waiting draw, and runs into so many `bit_errors` on average (see `marks`). They run the program
    compiled for a lone micro-batch, or with `in_flight` the one that repeats every `occupancy_ps`.
    """

    shape: Shape
    count: int
    latency_ps: int
    occupancy_ps: int
    wait_ps: int = 0
    work_pj: int = 0
    bit_errors: int = 0
    in_flight: bool = False


@dataclass(frozen=True, slots=True)
class Round:
    """What a replica does while each of its micro-batches passes every stage once.

    `latency_ps` is the slowest micro-batch alone; `occupancy_ps` the sum over micro-batches of the time each
    holds the busiest stage; `alone_ps` what a single sequence would take. `work_pj` is the energy above the chips' waiting
    draw, in whole picojoules. `reruns` are iterations that run again after all others, one after another, as a vector of theirs
    could not be mended. `first` and `last` are the programs it begins and ends with, `switches` the changes between.

    With `grid_ps` its micro-batches are those of one program proved to repeat at that interval. Rounds of it follow each other
    on that grid; any other round begins `drain_ps` later than it ends, when its last micro-batch is out of the pipeline.
    """

    latency_ps: int = 0
    occupancy_ps: int = 0
    work_pj: int = 0
    alone_ps: int = 0
    first: Shape | None = None
    last: Shape | None = None
    switches: int = 0
    micro_batches: tuple[MicroBatches, ...] = ()  # in the order they enter the pipeline
    reruns: tuple[MicroBatches, ...] = ()
    draws: tuple[Round, ...] = ()  # successive rounds of a network that is not deterministic
    grid_ps: int = 0

    @property
    def iterations(self) -> int:
        """How many micro-batches there are, those that run again included."""
        return sum(batches.count for batches in (*self.micro_batches, *self.reruns))

    def shapes(self) -> dict[Shape, int]:
        """How many iterations of each shape that are."""
        found: dict[Shape, int] = {}
        shape, count = self.first, 0
        for batches in (*self.micro_batches, *self.reruns):
            if batches.shape is not shape:  # chunks of one prompt have the same one after another
                if shape and count:
                    found[shape] = found.get(shape, 0) + count
                shape, count = batches.shape, 0
            count += batches.count
        if shape and count:
            found[shape] = found.get(shape, 0) + count
        return found

    @property
    def clean_ps(self) -> int:
        """How long it takes but for reruns: the slowest micro-batch, or the busiest stage where that is longer (M1)."""
        longer_ps = max(self.latency_ps, self.occupancy_ps)
        return -(-longer_ps // self.grid_ps) * self.grid_ps if self.grid_ps else longer_ps

    @property
    def drain_ps(self) -> int:
        """From its end until its last micro-batch, which entered an interval before the next could, is through."""
        if not self.grid_ps:
            return 0
        return max(0, self.occupancy_ps - self.grid_ps + self.latency_ps - self.clean_ps - self.rerun_ps)

    def goes_on(self, shape: Shape | None) -> bool:
        """Whether it may follow rounds of that program in flight as soon as they end: it is on their grid."""
        return self.grid_ps > 0 and self.first == shape

    @property
    def rerun_ps(self) -> int:
        """What its reruns add to that."""
        return sum(batches.count * (batches.wait_ps + batches.latency_ps) for batches in self.reruns)

    def again(self, reruns: Sequence[MicroBatches]) -> Round:
        """The same round with iterations that run again."""
        return replace(self, work_pj=self.work_pj + sum(b.count * b.work_pj for b in reruns), reruns=tuple(reruns))

    def with_(self, other: Round) -> Round:
        """Both in one round, `other` after this."""
        if self.last is None:
            return other
        return Round(
            max(self.latency_ps, other.latency_ps),
            self.occupancy_ps + other.occupancy_ps,
            self.work_pj + other.work_pj,
            self.alone_ps or other.alone_ps,
            self.first,
            other.last,
            self.switches + (self.last != other.first) + other.switches,
            self.micro_batches + other.micro_batches,
        )

    def at(self, place: float, offset: int) -> Round:
        """The draw `offset` after the one at `place` (0..1) among all, which follow each other in a ring."""
        count = len(self.draws)
        return self.draws[(int(place * count) + offset) % count] if count else self


class Programs:
    """Compiled shapes by bucket. `time_shape` gives the time or times of one shape and is called once for each.

    `batches` are as of `batches_of`; left out: those that the topology names, or COMPILED_BATCHES. `in_flight` gives the times
    of micro-batches that follow one another, where they must be proved not to meet; it is asked once for each shape that does.
    """

    def __init__(
        self,
        serving: ServingSpec,
        time_shape: Callable[[Shape], Times],
        batches: Sequence[int] = (),
        in_flight: Callable[[Shape], InFlightTime | None] | None = None,
    ) -> None:
        self._time_shape, self._time_in_flight = time_shape, in_flight
        self.batches = tuple(sorted(batches or serving.batch_buckets or COMPILED_BATCHES))
        self.contexts = tuple(sorted(serving.context_buckets))
        self.chunk_tokens = CHUNK_TOKENS if serving.chunk_tokens == "auto" else serving.chunk_tokens
        drafts = serving.speculation
        self._check_tokens = 1 + drafts.draft_tokens if drafts else 1
        if drafts and drafts.draft_token_s is None:
            what = "is missing: compiled programs do not say how long a draft takes"
            raise SpecError(
                Problem("serving.speculation.draft_token", what, "for example --set serving.speculation.draft_token='1 us'")
            )
        self._draft_ps = round(drafts.draft_tokens * (drafts.draft_token_s or 0.0) * 1e12) if drafts else 0
        self._times: dict[Shape, tuple[IterationTime, ...]] = {}
        self._in_flight: dict[Shape, InFlightTime | None] = {}
        self._decode: dict[tuple[int, int], Round] = {}
        self._prefill: dict[int, Round] = {}
        self._read: dict[tuple[int, int], Round] = {}

    @property
    def context_max(self) -> int:
        """The longest context any program is compiled for."""
        return self.contexts[-1]

    @cached_property
    def drawn(self) -> bool:
        """Whether the network gives several times for one shape, as the smallest shows."""
        return len(self.times(self.lone)) > 1

    @property
    def lone(self) -> Shape:
        """The smallest shape: a lone sequence's next token."""
        return self._check(self.batches[0], self.contexts[0])

    @property
    def shapes_timed(self) -> int:
        """How many shapes have been timed so far."""
        return len(self._times)

    @property
    def shapes_in_flight(self) -> tuple[int, int] | None:
        """How many shapes were in flight with others of their kind, and how many of these at an interval proved for them; None
        where nothing has to be proved.
        """
        if self._time_in_flight is None:
            return None
        return len(self._in_flight), sum(time is not None for time in self._in_flight.values())

    def times(self, shape: Shape) -> tuple[IterationTime, ...]:
        """Times of successive iterations of `shape`; one where the network is deterministic."""
        if shape not in self._times:
            times = self._time_shape(shape)
            self._times[shape] = (times,) if isinstance(times, IterationTime) else tuple(times)
        return self._times[shape]

    def decode(self, sequences: int, bucket: int) -> Round:
        """One token (or one check of drafts) for each of `sequences`, split into the micro-batches that finish soonest.

        A micro-batch of b takes latency T(b) and holds each stage for occupancy o(b); ceil(n / b) of them are in
        flight at once, so the round takes max(T(b), ceil(n / b) o(b)). Ties go to the smaller batch. A larger program may
        serve a smaller batch, so that no round is shorter for having more to do. `bucket` is the index of the compiled context.
        """
        key = sequences, bucket
        if key not in self._decode:
            self._decode[key] = self._soonest(sequences, self.contexts[bucket])
        return self._decode[key]

    def _soonest(self, sequences: int, context: int) -> Round:
        """The split that finishes soonest as if micro-batches never met; where they could, with the times proved for it."""
        splits = (self._split(sequences, batch, context) for batch in self._useful_batches(sequences, context))
        best = min(splits, key=lambda r: max(r.latency_ps, r.occupancy_ps))
        if self._time_in_flight is None or best.micro_batches[0].count == 1:
            return best
        return self._proved(best)

    def _proved(self, round_: Round) -> Round:
        """A round of micro-batches of one shape with the times proved for them in flight; as it is where there are none."""
        (batches,) = round_.micro_batches
        shape = batches.shape
        if shape not in self._in_flight:
            self._in_flight[shape] = self._time_in_flight(shape) if self._time_in_flight else None
        time = self._in_flight[shape]
        if time is None:
            return round_
        return replace(
            round_,
            latency_ps=batches.wait_ps + time.latency_ps,
            occupancy_ps=batches.count * time.interval_ps,
            micro_batches=(replace(batches, latency_ps=time.latency_ps, occupancy_ps=time.interval_ps, in_flight=True),),
            grid_ps=time.interval_ps,
        )

    def read(self, start: int, stop: int) -> Round:
        """The chunks that read a prompt's tokens start..stop-1, all in one round."""
        key = start, stop
        known = self._read.get(key)
        if known is not None:
            return known
        ends = [*range(start + self.chunk_tokens, stop, self.chunk_tokens), stop]
        total = combine(self.chunk(bisect_left(self.contexts, end)) for end in ends)
        if start % self.chunk_tokens == 0:  # others, which reuse a prefix, are too many to remember
            self._read[key] = total
        return total

    def chunk(self, bucket: int) -> Round:
        """One chunk of a prompt, its last token within the compiled context of index `bucket`."""
        if bucket not in self._prefill:
            shape = Shape(1, max(self.contexts[bucket], self.chunk_tokens), self.chunk_tokens)
            self._prefill[bucket] = _round(shape, self.times(shape))
        return self._prefill[bucket]

    def _split(self, sequences: int, batch: int, context: int) -> Round:
        shape = self._check(batch, context)
        alone = self.times(self._check(self.batches[0], context))
        return _round(shape, self.times(shape), -(-sequences // batch), self._draft_ps, alone)

    def _check(self, batch: int, context: int) -> Shape:
        return Shape(batch, max(context, self._check_tokens), self._check_tokens)

    def _useful_batches(self, sequences: int, context: int) -> list[int]:
        """Batch buckets worth trying, smallest first: up to the first that leaves the pipeline room, and on as long as the next
        larger program is the faster one.
        """
        useful = []
        enough, best_ps = False, 0
        for batch in self.batches:
            split = self._split(sequences, batch, context)
            took_ps = max(split.latency_ps, split.occupancy_ps)
            if enough and took_ps >= best_ps:
                break
            useful.append(batch)
            enough = enough or split.occupancy_ps <= split.latency_ps or batch >= sequences
            best_ps = min(best_ps or took_ps, took_ps)
        return useful


def combine(rounds: Iterable[Round]) -> Round:
    """All of them in one round, one after another; draw by draw where there are several."""
    rounds = list(rounds)
    total = Round()
    for round_ in rounds:
        total = total.with_(round_)
    count = max((len(round_.draws) for round_ in rounds), default=0)
    if not count:
        return total
    draws = [combine(r.draws[i % len(r.draws)] if r.draws else r for r in rounds) for i in range(count)]
    return _mean(draws)


def _round(
    shape: Shape,
    times: Sequence[IterationTime],
    count: int = 1,
    extra_ps: int = 0,
    alone: Sequence[IterationTime] = (),
) -> Round:
    """`count` micro-batches of one shape, each `extra_ps` later than the network says."""
    single = alone or times
    draws = [
        Round(
            time.latency_ps + extra_ps,
            count * time.occupancy_ps,
            count * round(time.work_j * 1e12),
            single[i % len(single)].latency_ps + extra_ps if alone else 0,
            shape,
            shape,
            0,
            (
                MicroBatches(
                    shape,
                    count,
                    time.latency_ps,
                    time.occupancy_ps,
                    extra_ps,
                    round(time.work_j * 1e12),
                    bit_errors(time.hazard),
                ),
            ),
        )
        for i, time in enumerate(times)
    ]
    return draws[0] if len(draws) == 1 else _mean(draws)


def _mean(draws: list[Round]) -> Round:
    """Rounds of the same programs with their mean as what to expect."""
    n, one = len(draws), draws[0]
    return Round(
        sum(d.latency_ps for d in draws) // n,
        sum(d.occupancy_ps for d in draws) // n,
        sum(d.work_pj for d in draws) // n,
        sum(d.alone_ps for d in draws) // n,
        one.first,
        one.last,
        one.switches,
        one.micro_batches,
        draws=tuple(draws),
    )
