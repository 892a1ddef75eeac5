"""Compiled searches over a fabric's arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from dcsim.kernels.jit import entry, part

UNREACHED = -1


@entry(makes_arrays=True)
def distances_to(first_link: Any, link_target: Any, reverse: Any, up: Any, forwards: Any, target: int) -> Any:
    """Hops from every vertex to `target` as int16[vertex], UNREACHED where there is no way.

    Searches backwards from the target: a link counts if it is up, and only vertices that forward are passed.
    """
    count = len(first_link) - 1
    distance = np.full(count, UNREACHED, np.int16)
    queue = np.empty(count, np.int32)
    distance[target] = 0
    queue[0] = target
    head, tail = 0, 1
    while head < tail:
        vertex = queue[head]
        head += 1
        if vertex != target and not forwards[vertex]:
            continue
        for link in range(first_link[vertex], first_link[vertex + 1]):
            other = link_target[link]
            if distance[other] == UNREACHED and up[reverse[link]]:
                distance[other] = distance[vertex] + 1
                queue[tail] = other
                tail += 1
    return distance


@entry(makes_arrays=True)
def hop_totals(first_link: Any, link_target: Any, up: Any, forwards: Any, ends: Any) -> Any:
    """(sum of hops, largest, pairs reached) over ordered pairs of different vertices in `ends`.

    64 searches at once, a bit each (Then et al., "The more the merrier: efficient multi-source graph
    traversal", VLDB 2014): one pass over the links extends all of them by a hop.
    """
    count = len(first_link) - 1
    is_end = np.zeros(count, np.bool_)
    for vertex in ends:
        is_end[vertex] = True
    total, longest, pairs = 0, 0, 0
    for start in range(0, len(ends), 64):
        sources = ends[start : start + 64]
        t, far, p = _search_64(first_link, link_target, up, forwards, sources, is_end)
        total += t
        pairs += p
        longest = max(longest, far)
    return total, longest, pairs


@part(makes_arrays=True)
def _search_64(first_link: Any, link_target: Any, up: Any, forwards: Any, sources: Any, is_end: Any) -> Any:
    """The share of `hop_totals` of up to 64 sources."""
    count = len(first_link) - 1
    zero = np.uint64(0)
    seen = np.zeros(count, np.uint64)
    for bit in range(len(sources)):
        seen[sources[bit]] |= np.uint64(1) << np.uint64(bit)
    fresh = seen.copy()
    total, pairs, hops, longest = 0, 0, 0, 0
    while True:
        arriving = np.zeros(count, np.uint64)
        for vertex in range(count):
            bits = fresh[vertex]
            if bits != zero and (hops == 0 or forwards[vertex]):
                for link in range(first_link[vertex], first_link[vertex + 1]):
                    if up[link]:
                        arriving[link_target[link]] |= bits
        hops += 1
        moved = False
        for vertex in range(count):
            fresh[vertex] = arriving[vertex] & ~seen[vertex]
            if fresh[vertex] != zero:
                moved = True
                seen[vertex] |= fresh[vertex]
                if is_end[vertex]:
                    ones = _ones(fresh[vertex])
                    total += hops * ones
                    pairs += ones
                    longest = hops
        if not moved:
            return total, longest, pairs


@part
def _ones(bits: Any) -> Any:
    """How many bits are set (Wilkes, Wheeler, Gill: sums of 2, 4, then 8 bits)."""
    x = bits - ((bits >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@entry(makes_arrays=True)
def next_hops(first_link: Any, link_target: Any, up: Any, forwards: Any, distance: Any) -> Any:
    """(offsets [vertex + 1], links): the links of each vertex that lead one hop closer."""
    count = len(first_link) - 1
    offsets = np.zeros(count + 1, np.int64)
    links = np.empty(len(link_target), np.int32)
    used = 0
    for vertex in range(count):
        for link in range(first_link[vertex], first_link[vertex + 1]):
            other = link_target[link]
            closer = distance[vertex] > 0 and distance[other] == distance[vertex] - 1
            if closer and up[link] and (distance[other] == 0 or forwards[other]):
                links[used] = link
                used += 1
        offsets[vertex + 1] = used
    return offsets, links[:used].copy()
