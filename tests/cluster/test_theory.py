"""Queueing theory: closed forms the service zoom must meet."""

import numpy as np
import pytest
from small_cluster import PLAIN, Line, closed, constant, make_table, random_requests

ONE_SLOT = [*PLAIN, "serving.sequences_max=1"]


def rows(result):
    return result.tables["requests"]


def waits(result):
    return rows(result)["admitted_s"] - rows(result)["ready_s"]


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_m_d_1(serve_small, load):
    """One slot and one service time S: the mean wait is load x S / (2 (1 - load))."""
    service_s = 0.001
    count = 60_000
    arrivals = np.cumsum(np.random.default_rng(1).exponential(service_s / load, count))
    result = serve_small(make_table(arrivals, [10] * count, [1] * count), constant(1000), settings=ONE_SLOT)
    assert waits(result).mean() == pytest.approx(load * service_s / (2 * (1 - load)), rel=0.05)


def test_m_g_1(serve_small):
    """One slot, geometric answers: Pollaczek and Khinchine's mean wait, rate E[S^2] / (2 (1 - load))."""
    random = np.random.default_rng(2)
    count, load = 60_000, 0.6
    output = random.geometric(1 / 8, count)
    service_s = output * 0.001  # a round reads the prompt and gives the first token
    rate = load / service_s.mean()
    arrivals = np.cumsum(random.exponential(1 / rate, count))
    result = serve_small(make_table(arrivals, [10] * count, output), constant(1000), settings=ONE_SLOT)
    np.testing.assert_allclose(rows(result)["finished_s"] - rows(result)["admitted_s"], service_s, rtol=1e-6)
    assert waits(result).mean() == pytest.approx(rate * (service_s**2).mean() / (2 * (1 - load)), rel=0.08)


@pytest.mark.parametrize(
    "setup",
    [
        {},
        {"replicas": 4},
        {"kv_tokens": 5000},
        {"engine": "compiled"},
        {"settings": ["serving.batching=static"]},
        {"settings": ["serving.prefill_replicas=1"], "replicas": 2},
        {"settings": ["serving.patience=200 ms"]},
        {"settings": ["faults.chip_mtbf=1000 s", "faults.repair=1 s"]},
    ],
)
def test_littles_law_on_every_run(serve_small, setup):
    """The time average of requests inside is the sum of their times inside over the run's length, exactly."""
    result = serve_small(random_requests(300, 60, 6), Line(), **setup)
    booked_s = result.tables["limits"]["request_s"].sum()
    assert result.concurrency_mean * result.elapsed_s == pytest.approx(booked_s, rel=1e-9)
    if (rows(result)["status"] == "finished").all():
        assert booked_s == pytest.approx(rows(result)["e2e_s"].sum(), rel=1e-9)


def test_one_user_waits_and_thinks_in_turn(serve_small):
    result = serve_small(closed(1, 0.5, requests=3), constant(1000), settings=PLAIN)
    assert rows(result)["arrival_s"].tolist() == pytest.approx([0.5, 1.02, 1.54])
    assert rows(result)["finished_s"].tolist() == pytest.approx([0.52, 1.04, 1.56])


def test_the_response_time_law(serve_small):
    """A closed loop's rate is users / (response + think time)."""
    result = serve_small(closed(50, 0.2, requests=100), Line(), settings=["serving.sequences_max=8"])
    r = rows(result)
    middle = (r["finished_s"] > 2) & (r["finished_s"] < 0.8 * r["finished_s"].max())
    rate = middle.sum() / (r["finished_s"][middle].max() - r["finished_s"][middle].min())
    assert rate == pytest.approx(50 / (r["e2e_s"][middle].mean() + 0.2), rel=0.02)


def test_a_closed_loop_ends_by_time_or_count(serve_small):
    by_time = rows(serve_small(closed(5, 0.1, requests=1000, duration_s=2.0), constant(1000), settings=PLAIN))
    assert 5 * 14 <= len(by_time["request"]) <= 5 * 20
    assert by_time["arrival_s"].max() < 2.0
    by_count = rows(serve_small(closed(5, 0.1, requests_max=12), constant(1000), settings=PLAIN))
    assert by_count["request"].tolist() == list(range(12))


def test_more_users_than_a_slot_serves_queue(serve_small):
    few, many = (rows(serve_small(closed(n, 0.0), constant(1000), settings=ONE_SLOT))["e2e_s"].mean() for n in (1, 4))
    assert many == pytest.approx(4 * few, rel=0.05)


def test_the_largest_load_is_what_the_slots_carry(serve_small):
    """8 slots of 20 rounds of 1 ms: 400 requests/s, whatever the offer."""
    result = serve_small(
        random_requests(4000, 2000, 9, prompt=10, output=19), constant(1000), settings=[*PLAIN, "serving.sequences_max=8"]
    )
    mean_output = rows(result)["output_tokens"].mean()
    # A slot is held for its output's rounds.
    assert 4000 / rows(result)["finished_s"].max() == pytest.approx(8 / (mean_output * 0.001), rel=0.02)
