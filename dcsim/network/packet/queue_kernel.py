"""A bucketed time wheel: the engine's list of coming events, in exact (time, place, item) order.

An event inside the wheel is one int64: `offset in its bucket | place | item`. A bucket is sorted when its turn
comes, so a push costs a few nanoseconds whatever the number of events; events beyond the wheel's horizon wait in a
binary heap. Places are links (then a few pseudo links), items are packets numbered by (flow, sequence), which is
the project's tie-break rule.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dcsim.network.packet.compile_kernel import entry_leaf, leaf, part

# Slots of `Wheel.at`.
FREE, BUCKET, CURSOR, ACTIVE, PENDING, FAR = range(6)


RUN = 24  # keys sorted by insertion before merging


class Wheel(NamedTuple):
    """Struct of arrays; `at` holds the six scalars named above, `shape` the four bit widths and masks."""

    head: Any  # int32[bucket] first event of the bucket's chain, -1 for none
    link: Any  # int32[event] next event of the chain (or of the free list)
    key: Any  # int64[event]
    active: Any  # int64[event] sorted keys of the bucket being read
    scratch: Any  # int64[event] for sorting
    far_time: Any  # int64[event] heap of (bucket number, key) beyond the horizon
    far_key: Any  # int64[event]
    at: Any  # int64[6]
    shape: Any  # int64[3]: bits of offset, bits of place, bits of item


def make_wheel(capacity: int, places: int, items: int, width_ps: int, bucket_count: int = 8192) -> Wheel:
    """An empty wheel for `capacity` pending events whose buckets are about `width_ps` wide (a power of two)."""
    item_bits = max(1, int(items).bit_length())
    place_bits = max(1, int(places).bit_length())
    offset_bits = max(4, min(int(width_ps).bit_length() - 1, 62 - item_bits - place_bits))
    if offset_bits + item_bits + place_bits > 62:
        raise ValueError("too many links and packets for one event key")
    chain = np.arange(1, capacity + 1, dtype=np.int32)
    chain[-1] = -1
    return Wheel(
        np.full(bucket_count, -1, np.int32), chain, np.empty(capacity, np.int64), np.empty(capacity, np.int64),
        np.empty(capacity, np.int64), np.empty(capacity, np.int64), np.empty(capacity, np.int64), np.zeros(6, np.int64),
        np.array([offset_bits, place_bits, item_bits], np.int64),
    )


def empty(wheel: Wheel) -> None:
    """Forget all events and go back to time 0."""
    wheel.head[:] = -1
    wheel.link[:] = np.arange(1, len(wheel.link) + 1)
    wheel.link[-1] = -1
    wheel.at[:] = 0


@entry_leaf
def push(wheel: Wheel, time: int, place: int, item: int) -> None:
    """Add an event; its time must not lie before the last event popped."""
    offset_bits, place_bits, item_bits = wheel.shape[0], wheel.shape[1], wheel.shape[2]
    bucket = time >> offset_bits
    key = (((time - (bucket << offset_bits)) << place_bits | place) << item_bits) | item
    at = wheel.at
    at[PENDING] += 1
    if bucket <= at[BUCKET]:
        _insert_active(wheel, key)
    elif bucket - at[BUCKET] < len(wheel.head):
        _chain(wheel, bucket, key)
    else:
        _push_far(wheel, bucket, key)


@part
def _insert_active(wheel: Wheel, key: int) -> None:
    at, active = wheel.at, wheel.active
    if at[CURSOR] > 0 and at[CURSOR] == at[ACTIVE]:
        at[CURSOR] = 0
        at[ACTIVE] = 0
    i = at[ACTIVE]
    at[ACTIVE] += 1
    while i > at[CURSOR] and active[i - 1] > key:
        active[i] = active[i - 1]
        i -= 1
    active[i] = key


@leaf
def _chain(wheel: Wheel, bucket: int, key: int) -> None:
    at = wheel.at
    slot = at[FREE]
    at[FREE] = wheel.link[slot]
    wheel.key[slot] = key
    index = bucket & (len(wheel.head) - 1)
    wheel.link[slot] = wheel.head[index]
    wheel.head[index] = slot


@part
def _push_far(wheel: Wheel, bucket: int, key: int) -> None:
    time, keys = wheel.far_time, wheel.far_key
    i = wheel.at[FAR]
    wheel.at[FAR] += 1
    while i > 0:
        parent = (i - 1) >> 1
        if time[parent] < bucket or (time[parent] == bucket and keys[parent] <= key):
            break
        time[i], keys[i] = time[parent], keys[parent]
        i = parent
    time[i], keys[i] = bucket, key


@part
def _pop_far(wheel: Wheel) -> None:
    """Move the earliest far event into the wheel."""
    time, keys = wheel.far_time, wheel.far_key
    first_bucket, first_key = time[0], keys[0]
    wheel.at[FAR] -= 1
    count = wheel.at[FAR]
    bucket, key = time[count], keys[count]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= count:
            break
        right = child + 1
        if right < count and (time[right] < time[child] or (time[right] == time[child] and keys[right] < keys[child])):
            child = right
        if time[child] > bucket or (time[child] == bucket and keys[child] >= key):
            break
        time[i], keys[i] = time[child], keys[child]
        i = child
    time[i], keys[i] = bucket, key
    _chain(wheel, first_bucket, first_key)


@part
def _sort(keys: Any, scratch: Any, count: int) -> None:
    """Sort keys[:count]: insertion in runs of RUN, then merges by way of `scratch`."""
    for begin in range(0, count, RUN):
        for i in range(begin + 1, min(begin + RUN, count)):
            key = keys[i]
            j = i - 1
            while j >= begin and keys[j] > key:
                keys[j + 1] = keys[j]
                j -= 1
            keys[j + 1] = key
    width = RUN
    while width < count:
        for begin in range(0, count - width, 2 * width):
            _merge(keys, scratch, begin, begin + width, min(begin + 2 * width, count))
        width *= 2


@part
def _merge(keys: Any, scratch: Any, begin: int, middle: int, end: int) -> None:
    """Merge the sorted keys[begin:middle] and keys[middle:end]."""
    if keys[middle - 1] <= keys[middle]:
        return
    for i in range(begin, middle):
        scratch[i] = keys[i]
    left, right, to = begin, middle, begin
    while left < middle:
        if right < end and keys[right] < scratch[left]:
            keys[to] = keys[right]
            right += 1
        else:
            keys[to] = scratch[left]
            left += 1
        to += 1


@part
def _next_bucket(wheel: Wheel) -> None:
    """Load and sort the next bucket that holds an event."""
    at, mask = wheel.at, len(wheel.head) - 1
    if at[PENDING] == at[FAR]:
        at[BUCKET] = wheel.far_time[0] - 1
    while True:
        at[BUCKET] += 1
        while at[FAR] > 0 and wheel.far_time[0] - at[BUCKET] <= mask:
            _pop_far(wheel)
        slot = wheel.head[at[BUCKET] & mask]
        if slot >= 0:
            break
    wheel.head[at[BUCKET] & mask] = -1
    at[ACTIVE] = _unchain(wheel, slot)
    at[CURSOR] = 0
    _sort(wheel.active, wheel.scratch, at[ACTIVE])


@part
def _unchain(wheel: Wheel, first: int) -> int:
    """Copy a chain's keys to `active`, oldest first, free its slots and return how many there were."""
    count, slot, last = 0, first, first
    while slot >= 0:
        wheel.active[count] = wheel.key[slot]
        count += 1
        last, slot = slot, wheel.link[slot]
    wheel.link[last] = wheel.at[FREE]
    wheel.at[FREE] = first
    for i in range(count // 2):
        other = count - 1 - i
        wheel.active[i], wheel.active[other] = wheel.active[other], wheel.active[i]
    return count


@entry_leaf
def pop(wheel: Wheel) -> tuple[int, int, int]:
    """Remove and return the earliest event as (time, place, item); call only while events are pending."""
    at = wheel.at
    if at[CURSOR] == at[ACTIVE]:
        _next_bucket(wheel)
    key = wheel.active[at[CURSOR]]
    at[CURSOR] += 1
    at[PENDING] -= 1
    offset_bits, place_bits, item_bits = wheel.shape[0], wheel.shape[1], wheel.shape[2]
    item = key & ((1 << item_bits) - 1)
    place = (key >> item_bits) & ((1 << place_bits) - 1)
    return (at[BUCKET] << offset_bits) + (key >> (item_bits + place_bits)), place, item
