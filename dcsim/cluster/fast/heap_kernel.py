"""Heaps of (key, value) pairs in int64 arrays [place, 2], the smallest pair first."""

from __future__ import annotations

from typing import Any

from dcsim.kernels.jit import part


@part
def push(heap: Any, count: int, key: int, value: int) -> None:
    """Add (key, value) to a heap of `count` pairs, the smallest pair first."""
    place = count
    while place:
        above = (place - 1) >> 1
        if heap[above, 0] < key or (heap[above, 0] == key and heap[above, 1] < value):
            break
        heap[place, 0], heap[place, 1] = heap[above, 0], heap[above, 1]
        place = above
    heap[place, 0], heap[place, 1] = key, value


@part
def pop(heap: Any, count: int) -> None:
    """Take the first pair off a heap of `count` pairs."""
    last = count - 1
    key, value = heap[last, 0], heap[last, 1]
    place, below = 0, 1
    while below < last:
        right = below + 1
        if right < last and (
            heap[right, 0] < heap[below, 0] or (heap[right, 0] == heap[below, 0] and heap[right, 1] < heap[below, 1])
        ):
            below = right
        if key < heap[below, 0] or (key == heap[below, 0] and value < heap[below, 1]):
            break
        heap[place, 0], heap[place, 1] = heap[below, 0], heap[below, 1]
        place, below = below, 2 * below + 1
    heap[place, 0], heap[place, 1] = key, value
