"""Events come out of the wheel in order of time, place and item, whenever they were put in."""

import numpy as np
import pytest

from dcsim.kernels.jit import entry
from dcsim.kernels.plain import readable
from dcsim.network.packet.engine.wheel_kernel import add, empty, make_wheel, pop


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
