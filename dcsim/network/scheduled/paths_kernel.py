"""Distances to every destination a program uses: breadth-first search, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.kernels.jit import entry, part

Array = NDArray[Any]

UNREACHED = np.int8(127)


@entry(makes_arrays=True)
def distances_to(
    first_link: Array,
    link_target: Array,
    sources: Array,
    targets: Array,
) -> tuple[Array, Array]:
    """Hops from every vertex to each target of the messages `sources[i] -> targets[i]`.

    Returns `column` [vertex], a target's column in the table or -1, and `distance` [vertex, column] int8: messages from
    one chip to one after another then read what lies side by side. A search stops once all sources of its target
    are reached, so far vertices may stay UNREACHED. Cables run both ways, so outgoing links serve a search from the
    target.
    """
    vertex_count = len(first_link) - 1
    row = np.full(vertex_count, -1, np.int32)
    count = np.zeros(vertex_count + 1, np.int64)
    rows = 0
    for target in targets:
        if row[target] < 0:
            row[target] = rows
            rows += 1
        count[row[target] + 1] += 1
    offset = np.cumsum(count)
    place = offset.copy()
    grouped = np.empty(len(sources), np.int32)
    for i in range(len(sources)):
        r = row[targets[i]]
        grouped[place[r]] = sources[i]
        place[r] += 1
    distance = np.full((rows, vertex_count), UNREACHED, np.int8)
    wanted = np.full(vertex_count, -1, np.int32)
    queue = np.empty(vertex_count, np.int32)
    for target in range(vertex_count):
        r = row[target]
        if r >= 0:
            missing = 0
            for i in range(offset[r], offset[r + 1]):
                if wanted[grouped[i]] != r:
                    wanted[grouped[i]] = r
                    missing += 1
            _search(first_link, link_target, target, r, wanted, missing, queue, distance)
    return row, np.ascontiguousarray(distance.T)


@entry(makes_arrays=True)
def vertices_between(
    first_link: Array,
    link_target: Array,
    column: Array,
    distance: Array,
    sources: Array,
    targets: Array,
    first: Array,
) -> Array:
    """The vertices of `first`, then all others on a shortest way sources[i] -> targets[i], in the order they are met."""
    seen = np.zeros(len(first_link) - 1, np.int32)  # 1 + the last message whose ways were followed from here
    found, count = np.empty(len(seen), np.int32), len(first)
    listed = np.zeros(len(seen), np.bool_)
    found[:count] = first
    listed[first] = True
    stack = np.empty(len(seen), np.int32)
    for i in range(len(sources)):
        to, size = column[targets[i]], 1
        stack[0] = sources[i]
        while size > 0:
            size -= 1
            vertex = stack[size]
            for link in range(first_link[vertex], first_link[vertex + 1]):
                other = link_target[link]
                if distance[other, to] == distance[vertex, to] - 1 and seen[other] != i + 1:
                    seen[other] = i + 1
                    stack[size] = other
                    size += 1
                    if not listed[other]:
                        listed[other] = True
                        found[count] = other
                        count += 1
    return found[:count].copy()


@part
def _search(
    first_link: Array,
    link_target: Array,
    target: int,
    row: int,
    wanted: Array,
    missing: int,
    queue: Array,
    distance: Array,
) -> None:
    """Fill one row level by level until no wanted source is missing."""
    table = distance[row]
    table[target] = 0
    queue[0] = target
    head, tail = 0, 1
    missing -= wanted[target] == row
    while head < tail and missing > 0:
        level_end = tail
        while head < level_end:
            vertex = queue[head]
            head += 1
            for link in range(first_link[vertex], first_link[vertex + 1]):
                other = link_target[link]
                if table[other] == UNREACHED:
                    table[other] = table[vertex] + 1
                    queue[tail] = other
                    tail += 1
                    missing -= wanted[other] == row
