"""Users who wait for their answers: the compiled copy gives the rows of SimPy's users, however the run ends."""

import numpy as np
import pytest
from small_cluster import PLAIN, agree, closed

from dcsim.cluster import service
from dcsim.workload.closed import ClosedLoop


def drawn(seed, duration_s=0.0, requests_max=0):
    """Users of whom some never think, and some so long that they hardly ask."""
    random = np.random.default_rng(seed)
    shape = int(random.integers(1, 30)), int(random.integers(1, 12))
    think = random.exponential(random.choice([0.0, 0.01, 1.0], (shape[0], 1)), shape)
    lengths = (random.integers(1, most, shape).astype(np.int32) for most in (900, 60))
    return ClosedLoop(think, *lengths, duration_s, requests_max)


@pytest.mark.parametrize("seed", [*range(12), 30])  # 30: an answer at once, while a shape has still to be timed
def test_i10_random_users(serve_small, seed):
    """Ended by what they have to ask, by their number of requests, by the duration, and by draining that takes too long."""
    random = np.random.default_rng(1000 + seed)
    loop = drawn(seed, float(random.choice([0.0, 0.7])), int(random.choice([0, 17])))
    settings = [
        f"serving.host_servers={random.choice([2, 9])}",
        f"serving.sequences_max={random.choice([3, 64])}",
        f"serving.queue_max={random.choice([2, 1000])}",
        f"serving.drain={random.choice(['600 s', '50 ms'])}",
        f"power.rack_cap={random.choice(['0 W', '19 kW'])}",
        *(PLAIN if seed % 3 == 0 else []),
    ]
    replicas, kv_tokens = int(random.choice([1, 2])), int(random.choice([800, 6000]))
    assert agree(serve_small, loop, settings=settings, replicas=replicas, kv_tokens=kv_tokens).engine.name == "compiled"


def test_more_requests_than_there_are_rows(serve_small):
    """Rows are written as requests end, and their places taken by later ones."""
    result = agree(serve_small, closed(40, 0.001, requests=300, prompt=10, output=2))
    assert len(result.tables["requests"]["request"]) == 12_000


def test_nobody_asks_after_the_duration(serve_small):
    """Users whose first thought takes longer never ask at all."""
    result = agree(serve_small, closed(5, 3.0, duration_s=2.0))
    assert len(result.tables["requests"]["request"]) == 0


def test_a_run_without_end_stops_where_no_answer_comes(serve_small):
    """An answer takes longer than draining may: the run ends with the first time to drain in which none came."""
    result = agree(serve_small, closed(3, 0.0, requests=4, output=400), settings=["serving.drain=100 ms"])
    assert set(result.tables["requests"]["status"]) == {"in_flight"}


def test_auto_takes_the_copy_for_many(serve_small, monkeypatch):
    """What all users may ask decides, or the number at which they stop."""
    monkeypatch.setattr(service, "SIMPY_REQUESTS_MAX", 40)
    for loop, name in ((closed(4, 0.1, requests=10), "simpy"), (closed(4, 0.1, requests=11), "compiled")):
        assert serve_small(loop).engine.name == name
    assert serve_small(closed(4, 0.1, requests=11, requests_max=40)).engine.name == "simpy"
