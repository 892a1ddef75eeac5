"""Collectives spelled out as messages and reductions, added to a TaskBuilder.

`before[r]` are the tasks whose output is rank r's input; the answer lists, for each rank, the tasks its result waits for.
Slices are whole vectors, so ranks may get slices that differ by one vector, or none.
"""

from __future__ import annotations

from collections.abc import Sequence

from dcsim.network.tasks import COLLECTIVE_FIRST, COLLECTIVE_STEP, LINK, VECTOR, TaskBuilder

Handles = list[list[int]]


def slices(size_bytes: int, ranks: int, vector_bytes: int) -> list[int]:
    """Bytes of each rank's slice: whole vectors, as even as they go; the last vector may be short."""
    vectors = -(-size_bytes // vector_bytes)
    edges = [min(size_bytes, r * vectors // ranks * vector_bytes) for r in range(ranks + 1)]
    return [b - a for a, b in zip(edges, edges[1:], strict=False)]


def direct_reduce_scatter(
    builder: TaskBuilder, chips: Sequence[int], size_bytes: int, before: Handles, reduce_cycles: int, vector_bytes: int,
) -> Handles:
    """Every rank sends every other its slice, and sums its own."""
    ranks, parts = len(chips), slices(size_bytes, len(chips), vector_bytes)
    arrived: Handles = [list(before[r]) for r in range(ranks)]
    for source in range(ranks):
        for step in range(1, ranks):
            target = (source + step) % ranks
            if parts[target]:
                arrived[target].append(
                    builder.message(chips[source], chips[target], parts[target], before[source], LINK, COLLECTIVE_FIRST))
    return [_reduce(builder, chips[r], parts[r], arrived[r], reduce_cycles, vector_bytes) for r in range(ranks)]


def direct_all_gather(
    builder: TaskBuilder, chips: Sequence[int], size_bytes: int, before: Handles, vector_bytes: int,
    call: int = COLLECTIVE_FIRST,
) -> Handles:
    """Every rank sends its slice to every other."""
    ranks, parts = len(chips), slices(size_bytes, len(chips), vector_bytes)
    result: Handles = [list(before[r]) for r in range(ranks)]
    for source in range(ranks):
        for step in range(1, ranks):
            target = (source + step) % ranks
            if parts[source]:
                result[target].append(
                    builder.message(chips[source], chips[target], parts[source], before[source], LINK, call))
    return result


def direct_all_reduce(
    builder: TaskBuilder, chips: Sequence[int], size_bytes: int, before: Handles, reduce_cycles: int, vector_bytes: int,
) -> Handles:
    """Reduce-scatter, then all-gather, one hop each where all ranks are joined."""
    reduced = direct_reduce_scatter(builder, chips, size_bytes, before, reduce_cycles, vector_bytes)
    return direct_all_gather(builder, chips, size_bytes, reduced, vector_bytes, COLLECTIVE_STEP)


def _reduce(
    builder: TaskBuilder, chip: int, size_bytes: int, arrived: list[int], reduce_cycles: int, vector_bytes: int
) -> list[int]:
    """Sum what arrives, vector by vector as it comes."""
    if not size_bytes:
        return []
    vectors = -(-size_bytes // vector_bytes)
    return [builder.compute(chip, VECTOR, reduce_cycles, reduce_cycles + vectors - 1, arrived, vectors, 1)]
