"""The finite set of compiled programs a replica runs, and how long each takes.

A static schedule exists only for compiled shapes: batch and context are padded to the next bucket. Each shape
is timed once, by whichever network the run uses, and remembered.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from dcsim.errors import CapacityError
from dcsim.llm.program import Shape
from dcsim.network.timing import IterationTime
from dcsim.spec.topology import ServingSpec


@dataclass(frozen=True, slots=True)
class Round:
    """What a replica does while each of its micro-batches passes every stage once.

    `latency_ps` is the slowest micro-batch alone; `occupancy_ps` the sum over micro-batches of the time each
    holds the busiest stage. `energy_j` is above the chips' waiting draw.
    """

    latency_ps: int
    occupancy_ps: int
    energy_j: float


class Programs:
    """Compiled shapes by bucket. `time_shape` gives the time of one shape and is called once for each."""

    def __init__(self, serving: ServingSpec, time_shape: Callable[[Shape], IterationTime]) -> None:
        self._time_shape = time_shape
        self.batches = tuple(sorted(serving.batch_buckets))
        self.contexts = tuple(sorted(serving.context_buckets))
        self.chunk_tokens = serving.chunk_tokens
        self._times: dict[Shape, IterationTime] = {}
        self._decode: dict[tuple[int, int], Round] = {}
        self._prefill: dict[int, Round] = {}

    @property
    def context_max(self) -> int:
        """The longest context any program is compiled for."""
        return self.contexts[-1]

    @property
    def shapes_timed(self) -> int:
        """How many shapes have been timed so far."""
        return len(self._times)

    def bucket(self, context: int) -> int:
        """The compiled context a sequence of `context` tokens is padded to."""
        i = bisect_left(self.contexts, context)
        if i == len(self.contexts):
            raise CapacityError(f"context of {context} tokens exceeds the largest compiled bucket", context, self.context_max)
        return self.contexts[i]

    def time(self, shape: Shape) -> IterationTime:
        """Time of one iteration of `shape`."""
        if shape not in self._times:
            self._times[shape] = self._time_shape(shape)
        return self._times[shape]

    def decode(self, sequences: int, context: int) -> Round:
        """One token for each of `sequences`, split into the micro-batches that finish soonest.

        A micro-batch of b takes latency T(b) and holds each stage for occupancy o(b); ceil(n / b) of them are in
        flight at once, so the round takes max(T(b), ceil(n / b) o(b)). Ties go to the smaller batch.
        """
        key = sequences, self.bucket(context)
        if key not in self._decode:
            self._decode[key] = min(
                (self._split(sequences, batch, key[1]) for batch in self._useful_batches(sequences, key[1])),
                key=lambda r: max(r.latency_ps, r.occupancy_ps),
            )
        return self._decode[key]

    def prefill(self, context: int) -> Round:
        """One chunk of a prompt, its last token at position `context`."""
        bucket = self.bucket(context)
        if bucket not in self._prefill:
            time = self.time(Shape(1, max(bucket, self.chunk_tokens), self.chunk_tokens))
            self._prefill[bucket] = Round(time.latency_ps, time.occupancy_ps, time.energy_j)
        return self._prefill[bucket]

    def _split(self, sequences: int, batch: int, context: int) -> Round:
        time, count = self.time(Shape(batch, context)), -(-sequences // batch)
        return Round(time.latency_ps, count * time.occupancy_ps, count * time.energy_j)

    def _useful_batches(self, sequences: int, context: int) -> list[int]:
        """Batch buckets worth trying, smallest first: none beyond the first that leaves the pipeline room."""
        useful = []
        for batch in self.batches:
            useful.append(batch)
            split = self._split(sequences, batch, context)
            if split.occupancy_ps <= split.latency_ps or batch >= sequences:
                break
        return useful
