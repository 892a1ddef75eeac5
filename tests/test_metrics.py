"""Metrics on tables small enough to check by hand, and against numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsim.results import metrics
from dcsim.results.metrics import METRICS, UNIT
from dcsim.results.records import FAILED, FINISHED, IN_FLIGHT, REJECTED

NAN = float("nan")


def requests(status, ttft_s, tpot_s, e2e_s, tokens_out, klass=None):
    return {
        "status": np.array(status, dtype="U9"),
        "ttft_s": np.array(ttft_s, float),
        "tpot_s": np.array(tpot_s, float),
        "e2e_s": np.array(e2e_s, float),
        "tokens_out": np.array(tokens_out, np.int64),
        "replays": np.zeros(len(status), np.int64),
        "reused_tokens": np.zeros(len(status), np.int64),
        "prompt_tokens": np.full(len(status), 10),
        "reason": np.full(len(status), "", "U1"),
        "klass": np.array(klass or ["default"] * len(status), dtype="U9"),
    }


def tables(requests_table, gaps=((), ()), power=((), (), (), ()), limits=(("pipeline",), (0.0,))):
    return {
        "requests": requests_table,
        "gaps": {"gap_s": np.array(gaps[0], float), "count": np.array(gaps[1], np.int64)},
        "power": {
            "time_s": np.array(power[0], float),
            "rack": np.array(power[1], np.int64),
            "interval_s": np.array(power[2], float),
            "power_w": np.array(power[3], float),
        },
        "limits": {"resource": np.array(limits[0], dtype="U20"), "request_s": np.array(limits[1], float)},
    }


def summarise(some_tables, **changes):
    options = {
        "slo_ttft_s": 1.0,
        "slo_tpot_s": 0.01,
        "pue": 1.5,
        "elapsed_s": 10.0,
        "concurrency_mean": 2.5,
        "seed": 7,
    }
    return metrics.summarise(some_tables, **{**options, **changes})


FIVE = requests(
    [FINISHED, FINISHED, FINISHED, REJECTED, IN_FLIGHT],
    [0.1, 0.2, 2.0, NAN, 0.3],
    [0.005, NAN, 0.02, NAN, 0.1],
    [0.6, 0.2, 5.0, NAN, NAN],
    [101, 1, 151, 0, 30],
)


def test_counts_rates_and_percentiles_by_hand():
    summary = summarise(
        tables(
            FIVE,
            gaps=([0.02, 0.005], [150, 100]),
            limits=(["host", "pipeline"], [1.0, 3.0]),
            power=([1.0, 1.0, 10.0, 10.0], [0, 1, 0, 1], [1.0, 1.0, 9.0, 9.0], [100.0, 200.0, 10.0, 20.0]),
        )
    )
    assert summary["requests_in"] == 5
    assert [summary[f"requests_{s}"] for s in (FINISHED, REJECTED, FAILED, IN_FLIGHT)] == [3, 1, 0, 1]
    assert summary["ttft_s_p50"] == 0.2
    assert summary["ttft_s_p90"] == pytest.approx(0.2 + 0.8 * 1.8)  # linear between the ranks 1 and 2
    assert summary["tpot_s_p50"] == pytest.approx(0.0125)  # of the two that have one
    assert summary["tokens_per_s_per_user_p50"] == pytest.approx(80)
    assert (summary["itl_s_p50"], summary["itl_s_p99"]) == (0.02, 0.02)
    assert summary["e2e_s_p50"] == 0.6
    assert summary["output_tokens_per_s"] == pytest.approx(28.3)  # tokens of the one in flight were given too
    energy_j = 1.5 * (1 * 300 + 9 * 30)
    assert summary["power_w_mean"] == pytest.approx(energy_j / 10)
    assert summary["power_w_max"] == pytest.approx(450)
    assert summary["energy_j_per_token"] == pytest.approx(energy_j / 283)
    assert (summary["limited_by"], summary["limited_by_fraction"]) == ("pipeline", 0.75)
    assert (summary["concurrency_mean"], summary["seed"], summary["elapsed_s"]) == (2.5, 7, 10.0)
    assert summary["schema_version"] == 1  # another for readers when what a name means changes


@pytest.mark.parametrize(
    ("status", "ttft_s", "tpot_s", "good"),
    [
        (FINISHED, 1.0, 0.01, True),  # a limit may be met exactly
        (FINISHED, 1.0, 0.0101, False),
        (FINISHED, 1.01, 0.01, False),
        (FINISHED, 1.01, 0.0101, False),
        (FINISHED, 1.0, NAN, True),  # one token has no TPOT to miss
        (FINISHED, 1.01, NAN, False),
        (IN_FLIGHT, 0.1, 0.001, False),
        (FAILED, 0.1, 0.001, False),
        (REJECTED, NAN, NAN, False),
    ],
)
def test_goodput_needs_every_limit_at_once(status, ttft_s, tpot_s, good):
    table = requests([status], [ttft_s], [tpot_s], [1.0], [1])
    assert metrics.meets_slo(table, 1.0, 0.01).tolist() == [good]
    summary = summarise(tables(table))
    assert summary["goodput_requests_per_s"] == (0.1 if good else 0.0)
    assert summary["slo_met_fraction"] == float(good)


def test_a_run_without_requests_has_no_data_and_no_crash():
    summary = summarise(tables(requests([], [], [], [], [])), elapsed_s=0.0, concurrency_mean=0.0)
    assert summary["requests_in"] == 0
    for name, value in summary.items():
        if "_p5" in name or "_p9" in name or name in ("energy_j_per_token", "slo_met_fraction", "limited_by", "power_w_max"):
            assert value is None, name
    for name in ("output_tokens_per_s", "goodput_requests_per_s", "goodput_lost_requests_per_s"):
        assert summary[name] == 0.0


def test_requests_of_one_token_have_no_tpot():
    summary = summarise(tables(requests([FINISHED] * 2, [0.1, 0.3], [NAN, NAN], [0.1, 0.3], [1, 1])))
    assert summary["tpot_s_p50"] is None
    assert summary["tokens_per_s_per_user_p50"] is None
    assert summary["ttft_s_p50"] == pytest.approx(0.2)


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=50))
def test_percentiles_are_numpys_over_finished_requests(values):
    n = len(values)
    table = requests([FINISHED] * n + [REJECTED], [*values, NAN], [*values, NAN], [*values, NAN], [2] * n + [0])
    summary = summarise(tables(table))
    for name, q in (("ttft_s_p50", 50), ("ttft_s_p90", 90), ("tpot_s_p99", 99), ("e2e_s_p99", 99)):
        assert summary[name] == pytest.approx(np.percentile(values, q), rel=1e-12)


NUMBERS = st.sampled_from([0.0, -0.0, 1e-9, 0.5, 0.501, 0.6, 2.0, NAN]) | st.floats(0, 1e9)


@given(st.lists(NUMBERS, max_size=60), st.integers(1, 30))
@settings(deadline=None)
def test_percentiles_in_two_passes_are_numpys_to_the_last_bit(values, rows):
    """However the rows are cut into blocks."""
    column = np.array(values, float)
    cut = [{"x": column[start : start + rows]} for start in range(0, len(column), rows)]
    known = column[~np.isnan(column)]
    for q in (50, 90, 99):
        expected = float(np.percentile(known, q)) if len(known) else None
        assert metrics.percentiles(lambda: cut, ["x"])[f"x_p{q}"] == expected


@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.25, 0.5, 3.0]), st.integers(1, 40)), min_size=1, max_size=8),
    st.sampled_from([1, 50, 90, 99, 100]),
)
def test_a_weighted_percentile_is_that_of_the_expanded_values(pairs, q):
    values, counts = np.array([v for v, _ in pairs]), np.array([c for _, c in pairs])
    expanded = np.sort(np.repeat(values, counts))
    # The smallest value with at least q percent of all at or below it.
    rank = -(-q * len(expanded) // 100)
    assert metrics.weighted_percentile(values, counts, q) == expanded[max(rank, 1) - 1]


def test_a_weighted_percentile_of_nothing_is_nothing():
    assert metrics.weighted_percentile(np.array([]), np.array([]), 99) is None


def test_the_table_of_metrics_and_the_summary_have_the_same_names():
    made = [*summarise(tables(FIVE)), "digest"]
    assert sorted(made) == sorted(UNIT)
    assert len(UNIT) == len(METRICS)


def test_a_unit_stands_in_the_name():
    short = {"s": "_s", "W": "_w", "J": "_j_per_token", "tokens/s": "tokens_per_s", "requests/s": "requests_per_s"}
    for metric in METRICS:
        assert metric.meaning
        if metric.unit in short:
            assert short[metric.unit] in metric.name, metric.name
