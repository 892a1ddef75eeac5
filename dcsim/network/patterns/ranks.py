"""What every pattern is made of: ranks that send spans of the data to each other and add them up.

A pattern takes, for every rank, the tasks after which its input is there (`before`), and returns, for every rank, the
tasks after which its result is there. Data is cut in whole vectors; an empty span sends nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from dcsim.network.tasks import COLLECTIVE_FIRST, COLLECTIVE_STEP, LINK, VECTOR, TaskBuilder

Span = tuple[int, int]  # bytes [start, end) of the whole
Spans = list[Span]
Handles = list[list[int]]  # [rank] tasks
Levels = Sequence[Sequence[int]]  # [level][rank] labels: the node of each rank, then its rack


@dataclass(frozen=True, slots=True)
class VectorUnit:
    """What reductions cost: `reduce_cycles` to the first sum, then further vectors at a rate."""

    vector_bytes: int
    reduce_cycles: int
    vectors_per_cycle: float = 1.0


class Ranks:
    """The chips that take part, and how their messages and sums become tasks; `mesh`: each has a link to every other."""

    def __init__(self, builder: TaskBuilder, chips: Sequence[int], unit: VectorUnit, mesh: bool = False) -> None:
        self.builder, self.chips, self.unit, self.mesh = builder, chips, unit, mesh
        self._own: set[int] = set()

    def send(self, source: int, target: int, spans: Spans, before: list[int]) -> list[int]:
        """The task of a message between two ranks, or none when there is nothing to send."""
        size_bytes = sum(end - start for start, end in spans)
        if not size_bytes:
            return []
        call = COLLECTIVE_FIRST if self._own.isdisjoint(before) else COLLECTIVE_STEP
        chips = self.chips
        return self._keep(self.builder.message(chips[source], chips[target], size_bytes, before, part=LINK, call=call))

    def add(self, rank: int, spans: Spans, before: list[int]) -> list[int]:
        """The task that sums what `before` brings, vector by vector as they come; none when there is nothing."""
        unit = self.unit
        vectors = sum(-(-(end - start) // unit.vector_bytes) for start, end in spans)
        if not vectors:
            return []
        last = unit.reduce_cycles + ceil((vectors - 1) / unit.vectors_per_cycle)
        task = self.builder.compute(self.chips[rank], VECTOR, unit.reduce_cycles, last, before, rows=vectors, lead_rows=0)
        return self._keep(task)

    def _keep(self, task: int) -> list[int]:
        self._own.add(task)
        return [task]

    def __len__(self) -> int:
        return len(self.chips)


def cut(size_bytes: int, parts: int, vector_bytes: int) -> Spans:
    """Cut into `parts` consecutive spans of whole vectors (the very last may be short), sizes at most one apart."""
    return cut_span((0, size_bytes), parts, vector_bytes)


def cut_span(span: Span, parts: int, vector_bytes: int) -> Spans:
    """Cut a span into `parts` consecutive ones of whole vectors."""
    start, end = span
    share, more = divmod(-(-(end - start) // vector_bytes), parts)
    ends = [0]
    for part in range(parts):
        ends.append(ends[-1] + share + (part < more))
    return [(min(start + a * vector_bytes, end), min(start + b * vector_bytes, end)) for a, b in pairwise(ends)]


def nodes_of(ranks: Sequence[int], levels: Levels) -> list[list[int]]:
    """The ranks of each node, in rank order; without `levels` all are of one."""
    if not levels:
        return [list(ranks)]
    nodes: dict[int, list[int]] = {}
    for rank in ranks:
        nodes.setdefault(levels[0][rank], []).append(rank)
    return list(nodes.values())
