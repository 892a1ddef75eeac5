"""I10 over everything: whatever is switched on, skipping rounds gives the rows of the loop that wakes every round."""

import numpy as np
import pytest
from small_cluster import Line, random_requests, slow_copies

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
        return [IterationTime(int(mean.latency_ps * f), int(mean.occupancy_ps * f), mean.energy_j) for f in self.factors]


def with_sessions(requests, random, classes):
    """A third of the requests continue the one before them."""
    count = len(requests)
    session = np.cumsum(random.random(count) < 0.67).astype(np.int32)
    prefix = np.where(np.diff(session, prepend=-1) == 0, requests.prompt_tokens // 2, 0).astype(np.int32)
    klass = random.integers(0, len(classes), count).astype(np.int16)
    return Requests(requests.arrival_s, requests.prompt_tokens, requests.output_tokens, klass, session, prefix, classes)


def draw_case(number):
    """A random cluster, its traffic and its troubles."""
    random = np.random.default_rng(number)
    pick = random.choice
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
        f"serving.prefill_replicas={pick([0, 0, 1])}",
        f"serving.patience={pick(['0 s', '300 ms'])}",
        f"serving.timeout={pick(['0 s', '2 s'])}",
        "serving.draw_block=5",
        "serving.host_servers=9",
        f"power.rack_cap={pick(['0 W', '19 kW'])}",
        f"faults.in_flight={pick(['replay', 'fail'])}",
        f"faults.repair={pick(['1500 ms', '1 h'])}",
        f"serving.drain={pick(['600 s', '200 ms'])}",
        "faults.detect=100 ms",
        f"faults.events=[{pick([faults, ''])}]",
        f"faults.chip_mtbf={pick(['0 s', '200 s'])}",
        "workload.classes=[{name: a, share: 1}, {name: b, share: 1, priority: 2}]",
    ]
    if random.random() < 0.4:
        settings += [
            "serving.speculation.draft_tokens=3",
            "serving.speculation.acceptance=0.6",
            "serving.speculation.draft_token=50 us",
        ]
    if random.random() < 0.3:
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
    return traffic, {
        "settings": settings,
        "replicas": replicas,
        "kv_tokens": int(pick([1500, 6000])),
        "time": Noisy() if random.random() < 0.5 else Line(),
        "place": {"weight_bytes": 2e9, "copies": slow_copies(1e-5)},
    }


@pytest.mark.parametrize("number", range(60))
def test_i10_skipping_gives_the_rows_of_the_reference_under_all_policies_and_faults(serve_small, number):
    traffic, setup = draw_case(number)
    reference = serve_small(traffic, skip=False, compiled=False, seed=number, **setup)
    result = serve_small(traffic, skip=True, seed=number, **setup)
    for table in ("requests", "gaps", "limits", "faults", "power"):
        for name, column in reference.tables[table].items():
            np.testing.assert_array_equal(column, result.tables[table][name], err_msg=f"{table}.{name}")
    assert (reference.elapsed_s, reference.availability) == (result.elapsed_s, result.availability)
    done = reference.tables["requests"]
    booked = reference.tables["limits"]["request_s"].sum()
    assert booked == pytest.approx(reference.concurrency_mean * reference.elapsed_s, rel=1e-9)
    if (done["status"] != "in_flight").all() and not len(reference.tables["faults"]["time_s"]):
        assert reference.tables["gaps"]["count"].sum() == np.maximum(done["tokens_out"] - 1, 0).sum()
