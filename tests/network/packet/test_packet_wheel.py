"""Events come out of the wheel in order of time, place and item, whenever they were put in."""

from collections import Counter
from heapq import heappop, heappush
from itertools import groupby

import numpy as np
import pytest

from dcsim.kernels.jit import entry
from dcsim.kernels.plain import readable
from dcsim.network.packet.engine.wheel_kernel import (
    DIGIT,
    FAR_EVENT,
    OFFSET_BITS,
    PENDING,
    SCALARS,
    SHORT,
    _deal,
    _deal_crowds,
    _pop_far,
    _push_far,
    _sort,
    _sort_digits,
    add,
    empty,
    make_wheel,
    peek,
    pop,
)


@entry
def _next(wheel):
    return pop(wheel)


@pytest.mark.parametrize(("seed", "spread"), [(1, 5000), (2, 40), (3, 10**6)])
def test_wheel_pops_in_the_order_of_a_sorted_list(seed, spread):
    """Few crowded times, whose keys are dealt by their first bits before they are sorted, and times far ahead."""
    random = np.random.default_rng(seed)
    wheel = _wheel(3000, 100, 1000, 64, bucket_count=16)
    events = [
        (int(t), int(p), int(i))
        for t, p, i in zip(
            random.integers(0, spread, 2000) * random.choice([1, 1, 40], 2000),
            random.integers(0, 100, 2000),
            random.integers(0, 1000, 2000),
            strict=True,
        )
    ]
    for event in events[:1500]:
        add(wheel, *event)
    popped = [_next(wheel) for _ in range(200)]
    late = [(popped[-1][0] + t, p, i) for t, p, i in events[1500:]]
    for event in late:
        add(wheel, *event)
    popped += [_next(wheel) for _ in range(1800)]
    assert popped[:200] == sorted(events[:1500])[:200]
    assert popped[200:] == sorted(sorted(events[:1500])[200:] + late)


@entry
def _sort_keys(keys, counts, count):
    _sort(keys, counts, count)


@pytest.mark.parametrize("bits", [(3,), (40,), (40, 30), (40, 30, 20), (60, 44, 28, 12)])
def test_keys_are_sorted_however_they_crowd(bits):
    """Crowds within crowds: most keys differ in their lowest bits alone, a few in each of these bits as well."""
    random, count = np.random.default_rng(len(bits)), 400
    values = random.integers(0, 200, count)
    for bit in bits:
        values[random.random(count) < 0.05] += 1 << bit
    keys = np.zeros((2, count + 8), np.int64)
    keys[0, :count], keys[0, count:] = values, -7  # what stands behind is left alone
    _sort_keys(keys, np.zeros(SCALARS + DIGIT, np.int64), count)
    assert keys[0, :count].tolist() == sorted(values.tolist())
    assert (keys[0, count:] == -7).all()


@entry
def _deal_keys(keys, counts, begin, end):
    return _deal(keys, counts, begin, end)


@entry
def _deal_crowds_of(keys, counts, count):
    return _deal_crowds(keys, counts, count)


@entry
def _sort_by_digits(keys, counts, count):
    _sort_digits(keys, counts, count)


def _lead(values):
    """By how many bits keys are to be shifted so that no more than eight are left of those in which they differ."""
    return max(0, max(value ^ values[0] for value in values).bit_length() - 8)


def _by_lead(values):
    """Keys in the order of their leading bits, otherwise as they were, and the most that share those."""
    shift = _lead(values)
    return sorted(values, key=lambda key: key >> shift), max(Counter(key >> shift for key in values).values())


def _random_keys(random, count, bits):
    """Keys that agree in all but a few of their bits, so that some crowd."""
    return (12345 << 34) + (random.integers(0, 1 << bits, count) ** 2 >> bits).astype(np.int64)


@pytest.mark.parametrize("bits", [1, 7, 8, 9, 20, 33])
def test_keys_are_dealt_by_the_first_eight_bits_in_which_they_differ(bits):
    random = np.random.default_rng(bits)
    keys, begin, end = np.zeros((2, 120), np.int64), 7, 111
    keys[0] = _random_keys(random, 120, bits)
    dealt, most = _by_lead(keys[0, begin:end].tolist())
    expected = keys[0, :begin].tolist() + dealt + keys[0, end:].tolist()
    assert _deal_keys(keys, np.zeros(SCALARS + DIGIT, np.int64), begin, end) == most
    assert keys[0].tolist() == expected


@pytest.mark.parametrize("bits", [9, 20, 33])
def test_crowds_are_dealt_again_each_by_its_own_bits(bits):
    """Runs of up to SHORT keys are left as they are; what is returned is the largest crowd after that."""
    random = np.random.default_rng(bits)
    values = _random_keys(random, 300, bits).tolist()
    values += [values[0] + (1 << bits + 1) + i // 3 for i in random.permutation(150).tolist()]
    values += [values[0] + (1 << bits + 2) + i for i in range(SHORT, 0, -1)]
    dealt, _ = _by_lead(values)
    runs = [list(run) for _, run in groupby(dealt, key=lambda key: key >> _lead(values))]
    again = [_by_lead(run) if len(run) > SHORT else (run, 0) for run in runs]
    keys = np.zeros((2, len(values)), np.int64)
    keys[0] = dealt
    assert _deal_crowds_of(keys, np.zeros(SCALARS + DIGIT, np.int64), len(values)) == max(most for _, most in again)
    assert keys[0].tolist() == [key for run, _ in again for key in run]


@pytest.mark.parametrize("bits", [1, 8, 9, 16, 40, 56, 57, 62])
def test_digit_by_digit_keys_of_any_width_are_sorted(bits):
    random = np.random.default_rng(bits)
    keys = np.zeros((2, 200), np.int64)
    keys[0] = random.integers(0, 1 << bits, 200)
    expected = sorted(keys[0, :190].tolist()) + keys[0, 190:].tolist()
    _sort_by_digits(keys, np.zeros(SCALARS + DIGIT, np.int64), 190)
    assert keys[0].tolist() == expected


@entry
def _look(wheel, ahead):
    return peek(wheel, ahead)


def _wheel(*figures, **more):
    wheel = make_wheel(*figures, **more)
    wheel = type(wheel)(*map(readable, wheel))
    empty(wheel)
    return wheel


@pytest.mark.parametrize(("seed", "spread"), [(0, 20), (1, 300), (2, 3000), (3, 20_000)])
def test_a_small_wheel_goes_round_for_ever_and_shows_what_comes(seed, spread):
    """Never more than its capacity pending, thousands in all: what was popped makes room. A heap says what is next."""
    random, capacity, heap, now = np.random.default_rng(seed), 12, [], 0
    wheel = _wheel(capacity, 6, 9, 64, bucket_count=4)
    for _ in range(1500):
        while len(heap) < capacity and (not heap or random.random() < 0.6):
            event = (now + int(random.random() ** 3 * spread), int(random.integers(7)), int(random.integers(10)))
            heappush(heap, event)
            add(wheel, *event)
        now, place, item = _next(wheel)
        assert (now, place, item) == heappop(heap)
        assert wheel.at[PENDING] == len(heap)
        bucket = [event for event in sorted(heap) if event[0] >> 6 <= now >> 6]
        for ahead in range(4):
            assert _look(wheel, ahead) == (bucket[ahead][1:] if ahead < len(bucket) else (-1, -1))


def test_a_wheel_holds_as_many_events_as_it_was_made_for_wherever_they_fall():
    """The last place and item at the last moment of a bucket are told apart from their neighbours."""
    for gap in (0, 1, 64, 70, 2000):
        wheel = _wheel(40, 31, 1023, 64, bucket_count=8)
        events = [(63 + gap * i, 31 - i % 2, 1023 - i % 3) for i in range(40)]
        for event in reversed(events):
            add(wheel, *event)
        assert [_next(wheel) for _ in range(40)] == sorted(events)


@entry
def _put_far(far, count, bucket, key):
    _push_far(far, count, bucket, key)


@entry
def _take_far(far, count):
    _pop_far(far, count)


@pytest.mark.parametrize("seed", range(4))
def test_what_lies_far_ahead_comes_bucket_by_bucket(seed):
    """The first of the heap is always of the least bucket, and each event comes once with its own key."""
    random, pending = np.random.default_rng(seed), []
    far = readable(np.zeros(40, FAR_EVENT))
    for key in range(400):
        if len(pending) < 40 and random.random() < (0.7 if key < 200 else 0.4):
            bucket = int(random.integers((30, 1000)[seed % 2]))
            _put_far(far, len(pending), bucket, key)
            pending.append((bucket, key))
        elif pending:
            first = int(far["bucket"][0]), int(far["key"][0])
            assert first[0] == min(pending)[0]
            pending.remove(first)
            _take_far(far, len(pending))


def test_buckets_are_as_wide_as_asked_for_and_keys_fit_a_word():
    at = make_wheel(10, 1000, 5000, 1 << 20).at
    assert at[OFFSET_BITS:SCALARS].tolist() == [20, 10, 13]
    assert make_wheel(10, 1000, 5000, 1 << 60).at[OFFSET_BITS] == 62 - 10 - 13
    assert make_wheel(10, 1, 1, 1).at[OFFSET_BITS:SCALARS].tolist() == [4, 1, 1]
    assert make_wheel(10, 0, 0, 100).at[OFFSET_BITS:SCALARS].tolist() == [6, 1, 1]
    assert make_wheel(10, (1 << 29) - 1, (1 << 29) - 1, 1 << 20).at[OFFSET_BITS] == 4
    with pytest.raises(ValueError, match="too many"):
        make_wheel(10, (1 << 29) - 1, 1 << 29, 1 << 20)
