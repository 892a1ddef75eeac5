"""Host servers are M/D/c queues: their wait against the exact solution (Crommelin, 1932)."""

import numpy as np
import pytest
from small_cluster import constant, make_table

WORK_S = 0.001
NOTHING_ELSE = [
    "serving.host_servers=1",
    "host.request=1 ms",
    "host.tokenise_token=0 s",
    "host.bus=0 s",
    "host.detokenise_token=0 s",
    "host.token=0 B",
    "host.queue_max=1000000",
]


def poisson_at_least(mean, count):
    """P(N >= count), summed from the logarithms of its terms."""
    terms = np.arange(count)
    logs = terms * np.log(mean) - mean - np.cumsum(np.log(np.maximum(terms, 1)))
    return 1.0 - np.exp(logs).sum()


def mean_wait(load, cores):
    """Of M/D/c in service times, for `load` erlangs: the sum over i of P(N_i >= ic) - c/load P(N_i > ic), N_i Poisson(i load)."""
    total = 0.0
    for i in range(1, 10_000):
        term = poisson_at_least(i * load, i * cores) - cores / load * poisson_at_least(i * load, i * cores + 1)
        total += term
        if term < 1e-9:
            return total
    raise AssertionError("the sum does not end")


def measured_waits(serve_small, load, cores, runs=8, count=4_000):
    """Mean wait of each of several runs, in service times, the first requests left out."""
    means = []
    for seed in range(runs):
        arrivals = np.cumsum(np.random.default_rng(seed).exponential(WORK_S / load, count))
        table = make_table(arrivals, [1] * count, [1] * count)
        result = serve_small(table, constant(0.001), settings=[*NOTHING_ELSE, f"host.cores={cores}"], engine="simpy")
        stay = result.tables["requests"]["ready_s"] - result.tables["requests"]["arrival_s"]
        means.append(np.mean(stay[count // 10 :]) / WORK_S - 1)
    return np.array(means)


def test_the_formula_is_the_known_one_for_a_single_core():
    for load in (0.3, 0.7, 0.9):
        assert mean_wait(load, 1) == pytest.approx(load / (2 * (1 - load)), rel=1e-5)


def test_one_core_more_shortens_the_wait_as_m_d_c_says(serve_small):
    """Both means lie within four standard errors of eight runs, and so does the gain of one core more."""
    load, fewest = 1.6, 2
    waits = {cores: measured_waits(serve_small, load, cores) for cores in (fewest, fewest + 1)}
    exact = {cores: mean_wait(load, cores) for cores in waits}
    for cores, means in waits.items():
        error = means.std(ddof=1) / np.sqrt(len(means))
        assert abs(means.mean() - exact[cores]) < 4 * error, (cores, means.mean(), exact[cores])
        assert error < 0.1 * exact[cores]
    gains = waits[fewest] - waits[fewest + 1]
    assert abs(gains.mean() - (exact[fewest] - exact[fewest + 1])) < 4 * gains.std(ddof=1) / np.sqrt(len(gains))
    assert exact[fewest] > 3 * exact[fewest + 1]
