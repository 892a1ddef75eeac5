"""I10 over everything: skipping rounds gives the rows of the loop that wakes every round, and so does the compiled copy.

Three cases in four ask only for what the copy knows; the others for at least one thing that it does not.
"""

import numpy as np
import pytest
from small_cluster import InFlight, Line, random_requests, slow_copies, uneven_room

from dcsim.errors import SpecError
from dcsim.network.timing import IterationTime
from dcsim.workload.closed import ClosedLoop
from dcsim.workload.requests import Requests


class Noisy:
    """Several times for each shape, correlated from one to the next."""

    def __init__(self, count=11):
        swing = np.random.default_rng(5).normal(size=count).cumsum()
        self.factors = 1 + 0.2 * np.abs(swing) / np.abs(swing).max()

    def __call__(self, shape):
        mean = Line()(shape)
        return [IterationTime(int(mean.latency_ps * f), int(mean.occupancy_ps * f), mean.work_j) for f in self.factors]


def with_sessions(requests, random, classes):
    """A third of the requests continue the one before them."""
    count = len(requests)
    session = np.cumsum(random.random(count) < 0.67).astype(np.int32)
    prefix = np.where(np.diff(session, prepend=-1) == 0, requests.prompt_tokens // 2, 0).astype(np.int32)
    klass = random.integers(0, len(classes), count).astype(np.int16)
    return Requests(requests.arrival_s, requests.prompt_tokens, requests.output_tokens, klass, session, prefix, classes)


PLAIN_CASES = [number for number in range(60) if number % 4]


def draw_case(number):
    """A random cluster, its traffic and, in every fourth case, its troubles."""
    random = np.random.default_rng(number)
    pick = random.choice
    special = number not in PLAIN_CASES
    replicas = int(pick([2, 4]))
    faults = ", ".join(
        f"{{at: {1e3 * t:.0f} ms, part: {pick(['chip', 'node', 'link', 'host'])}, index: {i}}}"
        for t, i in zip(random.random(3) * 2, random.integers(0, 8, 3), strict=True)
    )
    settings = [
        f"serving.sequences_max={pick([3, 64])}",
        f"serving.prefill_tokens_max={pick([1, 512, 4096])}",
        "serving.batch_buckets=[1, 4]",
        "serving.context_buckets=[128, 256, 512, 900, 1100, 4096]",
        f"serving.batching={pick(['continuous', 'prefill_first', 'static'])}",
        f"serving.router={pick(['least_loaded', 'round_robin', 'session'])}",
        "serving.draw_block=5",
        f"serving.host_servers={9 if special else pick([2, 9])}",
        f"serving.prefix_reuse={pick(['true', 'false'])}",
        f"serving.queue_max={pick([5, 1000])}",
        f"host.queue_max={pick([1, 1000])}",
        f"host.cores={pick([1, 32])}",
        f"power.rack_cap={pick(['0 W', '19 kW'])}",
        f"serving.drain={pick(['600 s', '200 ms'])}",
        "workload.classes=[{name: a, share: 1}, {name: b, share: 1, priority: 2}]",
    ]
    if special:
        settings += [
            f"serving.prefill_replicas={pick([0, 1])}",
            f"serving.patience={pick(['0 s', '300 ms'])}",
            f"serving.timeout={pick(['0 s', '2 s'])}",
            f"faults.in_flight={pick(['replay', 'fail'])}",
            f"faults.repair={pick(['1500 ms', '1 h'])}",
            "faults.detect=100 ms",
            f"faults.events=[{pick([faults, ''])}]",
            f"faults.chip_mtbf={pick(['0 s', '200 s'])}",
        ]
    if special and random.random() < 0.4:
        settings += [
            "serving.speculation.draft_tokens=3",
            "serving.speculation.acceptance=0.6",
            "serving.speculation.draft_token=50 us",
        ]
    if special and random.random() < 0.4:
        shape = (6, 8)
        traffic = ClosedLoop(
            random.exponential(0.05, shape),
            random.integers(1, 900, shape).astype(np.int32),
            random.integers(1, 60, shape).astype(np.int32),
            0.0,
            0,
        )
    else:
        traffic = with_sessions(random_requests(60, float(pick([20, 200])), number, output=30), random, ("a", "b"))
    tokens, hazard = int(pick([1500, 6000])), float(pick([0.0, 1e-3, 0.05, 0.5]))
    steady = InFlight(hazard=hazard) if number % 2 else Line(hazard=hazard)
    return traffic, {
        "settings": settings,
        "replicas": replicas,
        "kv_tokens": uneven_room(tokens) if number % 5 == 2 else tokens,
        "time": Noisy() if special and random.random() < 0.5 else steady,
        "place": {"weight_bytes": 2e9, "copies": slow_copies(1e-5)},
    }


@pytest.mark.parametrize("number", range(60))
def test_i10_every_way_to_serve_gives_the_rows_of_the_reference(serve_small, number):
    traffic, setup = draw_case(number)
    reference = serve_small(traffic, skip=False, engine="simpy", seed=number, **setup)
    for engine in ("simpy", "compiled") if number in PLAIN_CASES else ("simpy",):
        result = serve_small(traffic, skip=True, engine=engine, seed=number, **setup)
        assert result.engine.name == engine
        for table in ("requests", "gaps", "limits", "faults", "power"):
            for name, column in reference.tables[table].items():
                np.testing.assert_array_equal(column, result.tables[table][name], err_msg=f"{engine}: {table}.{name}")
        assert (reference.elapsed_s, reference.availability) == (result.elapsed_s, result.availability)
    done = reference.tables["requests"]
    booked = reference.tables["limits"]["request_s"].sum()
    assert booked == pytest.approx(reference.concurrency_mean * reference.elapsed_s, rel=1e-9)
    if (done["status"] != "in_flight").all() and not len(reference.tables["faults"]["time_s"]):
        assert reference.tables["gaps"]["count"].sum() == np.maximum(done["tokens_out"] - 1, 0).sum()


def test_most_random_cases_reach_the_compiled_copy(serve_small):
    """What it does not know is refused by it in each of the others."""
    assert len(PLAIN_CASES) >= 40
    for number in set(range(60)) - set(PLAIN_CASES):
        traffic, setup = draw_case(number)
        with pytest.raises(SpecError, match="the compiled copy does not know"):
            serve_small(traffic, engine="compiled", seed=number, **setup)
