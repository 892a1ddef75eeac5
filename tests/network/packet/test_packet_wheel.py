"""Events come out of the wheel in order of time, place and item, whenever they were put in."""

import numpy as np
import pytest

from dcsim.kernels.jit import entry
from dcsim.kernels.plain import readable
from dcsim.network.packet.engine.wheel_kernel import DIGIT, SCALARS, _sort, add, empty, make_wheel, pop


@entry
def _next(wheel):
    return pop(wheel)


@pytest.mark.parametrize(("seed", "spread"), [(1, 5000), (2, 40), (3, 10**6)])
def test_wheel_pops_in_the_order_of_a_sorted_list(seed, spread):
    """Few crowded times, whose keys are dealt by their first bits before they are sorted, and times far ahead."""
    random = np.random.default_rng(seed)
    wheel = make_wheel(3000, 100, 1000, 64, bucket_count=16)
    wheel = type(wheel)(*map(readable, wheel))
    empty(wheel)
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
