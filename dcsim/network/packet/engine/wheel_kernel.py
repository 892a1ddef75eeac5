"""A bucketed time wheel: the engine's list of coming events, in exact (time, place, item) order.

An event inside the wheel is one int64: `offset in its bucket | place | item`. A bucket is sorted when its turn
comes, so a push costs a few nanoseconds whatever the number of events; events beyond the wheel's horizon wait in a
binary heap. Places are links (then a few pseudo links), items are packets numbered by (flow, sequence), which is
the project's tie-break rule.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dcsim.kernels.jit import entry, leaf, part

# Places in `Wheel.at`: free block, bucket being read, its next key, its keys, all events, far events, three bit widths.
FREE, BUCKET, CURSOR, ACTIVE, PENDING, FAR, OFFSET_BITS, PLACE_BITS, ITEM_BITS, SCALARS = range(10)

DIGIT = 256  # values of one digit of the radix sort
SHORT = 24  # up to so many keys are sorted by insertion

# Some events of a bucket, and the next block of its chain (or the next free one): one cache line.
BLOCK_KEYS = 7
BLOCK = np.dtype([("next", "i4"), ("count", "i4"), ("keys", "i8", BLOCK_KEYS)])
FAR_EVENT = np.dtype([("bucket", "i8"), ("key", "i8")])


class Wheel(NamedTuple):
    """The pending events, as arrays."""

    head: Any  # int32[bucket] first block of the bucket's chain, -1 for none; all others of a chain are full
    blocks: Any  # BLOCK[]
    active: Any  # int64[2, event] sorted keys of the bucket being read; scratch
    far: Any  # FAR_EVENT[event] binary heap of the events beyond the horizon
    at: Any  # int64[SCALARS + DIGIT] the scalars named above, and counts for sorting


def make_wheel(capacity: int, places: int, items: int, width_ps: int, bucket_count: int = 8192) -> Wheel:
    """An empty wheel for `capacity` pending events whose buckets are about `width_ps` wide (a power of two)."""
    item_bits = max(1, int(items).bit_length())
    place_bits = max(1, int(places).bit_length())
    offset_bits = max(4, min(int(width_ps).bit_length() - 1, 62 - item_bits - place_bits))
    if offset_bits + item_bits + place_bits > 62:
        raise ValueError("too many links and packets for one event key")
    blocks = capacity // BLOCK_KEYS + min(bucket_count, capacity) + 1
    wheel = Wheel(
        np.empty(bucket_count, np.int32),
        np.empty(blocks, BLOCK),
        np.empty((2, capacity), np.int64),
        np.empty(capacity, FAR_EVENT),
        np.zeros(SCALARS + DIGIT, np.int64),
    )
    wheel.at[OFFSET_BITS:SCALARS] = offset_bits, place_bits, item_bits
    empty(wheel)
    return wheel


def empty(wheel: Wheel) -> None:
    """Forget all events and go back to time 0."""
    wheel.head[:] = -1
    wheel.blocks["next"] = np.arange(1, len(wheel.blocks) + 1)
    wheel.blocks["next"][-1] = -1
    wheel.at[:OFFSET_BITS] = 0


@entry
def add(wheel: Wheel, time: int, place: int, item: int) -> None:
    """Add an event, from Python."""
    push(wheel, time, place, item)


@leaf
def push(wheel: Wheel, time: int, place: int, item: int) -> None:
    """Add an event; its time must not lie before the last event popped."""
    at = wheel.at
    offset_bits, place_bits, item_bits = at[OFFSET_BITS], at[PLACE_BITS], at[ITEM_BITS]
    bucket = time >> offset_bits
    key = (((time - (bucket << offset_bits)) << place_bits | place) << item_bits) | item
    at[PENDING] += 1
    if bucket <= at[BUCKET]:
        _insert_active(wheel, key)
    elif bucket - at[BUCKET] < len(wheel.head):
        _chain(wheel, bucket, key)
    else:
        _push_far(wheel.far, at[FAR], bucket, key)
        at[FAR] += 1


@leaf
def _insert_active(wheel: Wheel, key: int) -> None:
    """An event of the bucket being read: put it in its place among the keys still to come."""
    at, active = wheel.at, wheel.active
    if at[CURSOR] > 0 and (at[CURSOR] == at[ACTIVE] or at[ACTIVE] == active.shape[1]):
        _forget_read(wheel)
    i = at[ACTIVE]
    at[ACTIVE] += 1
    while i > at[CURSOR] and active[0, i - 1] > key:
        active[0, i] = active[0, i - 1]
        i -= 1
    active[0, i] = key


@part
def _forget_read(wheel: Wheel) -> None:
    """The keys already popped make room for as many: an event may cause others in its own bucket without end."""
    at, active = wheel.at, wheel.active
    for i in range(at[CURSOR], at[ACTIVE]):
        active[0, i - at[CURSOR]] = active[0, i]
    at[ACTIVE] -= at[CURSOR]
    at[CURSOR] = 0


@leaf
def _chain(wheel: Wheel, bucket: int, key: int) -> None:
    """An event of a bucket still to come: into the first block of its chain, or a new one."""
    index = bucket & (len(wheel.head) - 1)
    first = wheel.head[index]
    if first < 0 or wheel.blocks[first].count == BLOCK_KEYS:
        fresh = wheel.at[FREE]
        wheel.at[FREE] = wheel.blocks[fresh].next
        wheel.blocks[fresh].next = first
        wheel.blocks[fresh].count = 0
        wheel.head[index] = fresh
        first = fresh
    block = wheel.blocks[first]
    block.keys[block.count] = key
    block.count += 1


@part
def _push_far(far: Any, i: int, bucket: int, key: int) -> None:
    """Add an event to the heap of `i` events, which is in order of buckets alone: a bucket is sorted when its turn comes."""
    while i > 0:
        parent = (i - 1) >> 1
        if far[parent].bucket <= bucket:
            break
        far[i].bucket, far[i].key = far[parent].bucket, far[parent].key
        i = parent
    far[i].bucket, far[i].key = bucket, key


@part
def _pop_far(far: Any, count: int) -> None:
    """Take the first event off the heap, `count` events staying."""
    bucket, key = far[count].bucket, far[count].key
    i = 0
    while True:
        child = 2 * i + 1
        if child >= count:
            break
        right = child + 1
        if right < count and far[right].bucket < far[child].bucket:
            child = right
        if far[child].bucket >= bucket:
            break
        far[i].bucket, far[i].key = far[child].bucket, far[child].key
        i = child
    far[i].bucket, far[i].key = bucket, key


@part
def _sort(keys: Any, counts: Any, count: int) -> None:
    """Sort keys[0, :count] by way of keys[1].

    Keys are dealt by the first bits in which they differ, a crowd of those by the next in which it does, and what is
    then nearly in order is put so by insertion. Where crowds remain, all are sorted digit by digit (radix).
    """
    if count > SHORT and _deal(keys, counts, 0, count) > SHORT and _deal_crowds(keys, counts, count) > SHORT:
        _sort_digits(keys, counts, count)
        return
    for i in range(1, count):
        key = keys[0, i]
        j = i - 1
        while j >= 0 and keys[0, j] > key:
            keys[0, j + 1] = keys[0, j]
            j -= 1
        keys[0, j + 1] = key


@part
def _deal(keys: Any, counts: Any, begin: int, end: int) -> int:
    """Order keys[0, begin:end] by the first 8 bits from where they differ; returns the most that share all of those."""
    differ = 0
    for i in range(begin + 1, end):
        differ |= keys[0, i] ^ keys[0, begin]
    shift = 0
    while differ >> shift >= DIGIT:
        shift += 1
    for i in range(begin, end):
        keys[1, i] = keys[0, i]
    return int(_sort_digit(keys[1, begin:end], keys[0, begin:end], counts, end - begin, shift))


@part
def _deal_crowds(keys: Any, counts: Any, count: int) -> int:
    """Deal again each run of more than SHORT keys that the first dealing left together; returns the most left then."""
    differ = 0
    for i in range(1, count):
        differ |= keys[0, i] ^ keys[0, 0]
    shift = 0
    while differ >> shift >= DIGIT:
        shift += 1
    most, begin = 0, 0
    for end in range(1, count + 1):
        if end == count or keys[0, end] >> shift != keys[0, begin] >> shift:
            if end - begin > SHORT:
                most = max(most, _deal(keys, counts, begin, end))
            begin = end
    return most


@part
def _sort_digits(keys: Any, counts: Any, count: int) -> None:
    """Sort keys[0, :count] digit by digit."""
    differ = 0
    for i in range(1, count):
        differ |= keys[0, i] ^ keys[0, 0]
    source, shift = 0, 0
    while shift < 64 and differ >> shift:  # a word is not shifted by its own width
        if (differ >> shift) & (DIGIT - 1):
            _sort_digit(keys[source], keys[1 - source], counts, count, shift)
            source = 1 - source
        shift += 8
    if source == 1:
        for i in range(count):
            keys[0, i] = keys[1, i]


@part
def _sort_digit(keys: Any, to: Any, counts: Any, count: int, shift: int) -> int:
    """Order keys[:count] by one digit into `to`, equal digits staying in order; returns the most that share one."""
    for digit in range(DIGIT):
        counts[SCALARS + digit] = 0
    for i in range(count):
        counts[SCALARS + ((keys[i] >> shift) & (DIGIT - 1))] += 1
    before, most = 0, 0
    for digit in range(DIGIT):
        here = counts[SCALARS + digit]
        most = max(most, here)
        counts[SCALARS + digit] = before
        before += here
    for i in range(count):
        digit = SCALARS + ((keys[i] >> shift) & (DIGIT - 1))
        to[counts[digit]] = keys[i]
        counts[digit] += 1
    return int(most)


@part
def _next_bucket(wheel: Wheel) -> None:
    """Load and sort the next bucket that holds an event."""
    at, far, mask = wheel.at, wheel.far, len(wheel.head) - 1
    if at[PENDING] == at[FAR]:
        at[BUCKET] = far[0].bucket - 1
    while True:
        at[BUCKET] += 1
        while at[FAR] > 0 and far[0].bucket - at[BUCKET] <= mask:
            at[FAR] -= 1
            bucket, key = far[0].bucket, far[0].key
            _pop_far(far, at[FAR])
            _chain(wheel, bucket, key)
        first = wheel.head[at[BUCKET] & mask]
        if first >= 0:
            break
    wheel.head[at[BUCKET] & mask] = -1
    at[ACTIVE] = _unchain(wheel, first)
    at[CURSOR] = 0
    _sort(wheel.active, at, at[ACTIVE])


@leaf
def _unchain(wheel: Wheel, first: int) -> int:
    """Copy a chain's keys to `active`, free its blocks and return how many there were."""
    count, here, last = 0, first, first
    while here >= 0:
        block = wheel.blocks[here]
        for i in range(block.count):
            wheel.active[0, count + i] = block.keys[i]
        count += block.count
        last, here = here, block.next
    wheel.blocks[last].next = wheel.at[FREE]
    wheel.at[FREE] = first
    return count


@leaf
def peek(wheel: Wheel, ahead: int) -> tuple[int, int]:
    """(place, item) of the event `ahead` of the next one, if its bucket is being read; else (-1, -1)."""
    at = wheel.at
    if at[CURSOR] + ahead >= at[ACTIVE]:
        return -1, -1
    key, item_bits = wheel.active[0, at[CURSOR] + ahead], at[ITEM_BITS]
    return int((key >> item_bits) & ((1 << at[PLACE_BITS]) - 1)), int(key & ((1 << item_bits) - 1))


@leaf
def pop(wheel: Wheel) -> tuple[int, int, int]:
    """Remove and return the earliest event as (time, place, item); call only while events are pending."""
    at = wheel.at
    if at[CURSOR] == at[ACTIVE]:
        _next_bucket(wheel)
    key = wheel.active[0, at[CURSOR]]
    at[CURSOR] += 1
    at[PENDING] -= 1
    offset_bits, place_bits, item_bits = at[OFFSET_BITS], at[PLACE_BITS], at[ITEM_BITS]
    item = key & ((1 << item_bits) - 1)
    place = (key >> item_bits) & ((1 << place_bits) - 1)
    return (at[BUCKET] << offset_bits) + (key >> (item_bits + place_bits)), place, item
