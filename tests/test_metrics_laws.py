"""Laws of the metrics: counts recomputed row by row, however rows are cut into blocks; Student's t by integration."""

import math
from collections import Counter

import numpy as np
import pytest

from dcsim.results import metrics, records
from dcsim.results.records import BEYOND_LLM, FAILED, FINISHED, IN_FLIGHT, REJECTED

REASONS = {
    FINISHED: [""],
    IN_FLIGHT: [""],
    REJECTED: [f"{BEYOND_LLM}: 5000 tokens", f"{BEYOND_LLM}: 6,100 tokens", "host 3: queue of 7 full", "host 4: queue of 7 full"],
    FAILED: ["fault: chip 3", "gave up after 2 s", "gave up after 2 s"],
}


def random_rows(count, seed):
    random = np.random.default_rng(seed)
    status = random.choice([FINISHED, IN_FLIGHT, REJECTED, FAILED], count, p=[0.6, 0.1, 0.2, 0.1])
    done = status == FINISHED
    tokens = random.integers(1, 4, count)
    nan = np.full(count, np.nan)
    return {
        "status": status.astype("U9"),
        "reason": np.array([random.choice(REASONS[name]) for name in status], "U60"),
        "arrival_s": np.sort(random.random(count) * 10),
        "ttft_s": np.where(done, random.random(count), nan),
        "tpot_s": np.where(done & (tokens > 1), random.random(count) / 10, nan),
        "e2e_s": np.where(done, 1 + random.random(count), nan),
        "tokens_out": tokens,
        "replays": random.integers(0, 3, count) * (random.random(count) < 0.3),
        "reused_tokens": random.integers(0, 5, count),
        "prompt_tokens": random.integers(5, 50, count),
        "klass": random.choice(["a", "b"], count).astype("U9"),
    }


def other_tables():
    return {
        "gaps": {"gap_s": np.array([0.5]), "count": np.array([3])},
        "power": {
            "time_s": np.array([5.0, 5.0, 10.0, 10.0]),
            "rack": np.array([0, 1, 0, 1]),
            "interval_s": np.full(4, 5.0),
            "power_w": np.array([100.0, 300.0, 200.0, 250.0]),
        },
        "limits": {"resource": np.array(["host", "batch"]), "request_s": np.array([1.0, 4.0])},
    }


def summary_of(rows, **more):
    options = {"slo_ttft_s": 0.7, "slo_tpot_s": 0.05, "pue": 1.25, "elapsed_s": 20.0, "concurrency_mean": 1.0, "seed": 1}
    return metrics.summarise({"requests": rows, **other_tables()}, **{**options, **more})


def is_good(rows, i, ttft_s=0.7, tpot_s=0.05):
    late = rows["tpot_s"][i] > tpot_s  # False where there is none
    return bool(rows["status"][i] == FINISHED and rows["ttft_s"][i] <= ttft_s and not late)


@pytest.fixture(params=[1, 7, 1000], ids=["a row a block", "seven", "one block"])
def cut(request, monkeypatch):
    monkeypatch.setattr(records, "_BLOCK_ROWS", request.param)


def test_rates_are_by_the_second_however_short_a_run_is():
    rows = random_rows(90, 3)
    whole, short = (summary_of(rows, elapsed_s=elapsed_s) for elapsed_s in (20.0, 0.5))
    for name in ("output_tokens_per_s", "goodput_requests_per_s", "goodput_lost_requests_per_s"):
        assert 0 < short[name] == pytest.approx(40 * whole[name])


@pytest.mark.parametrize("warmup_s", [0.0, 4.0])
def test_every_count_is_that_of_the_rows(cut, warmup_s):
    rows = random_rows(90, 3)
    summary, every = summary_of(rows, warmup_s=warmup_s), range(90)
    status, reason = rows["status"].tolist(), rows["reason"].tolist()
    by_status = Counter(status)
    assert summary["requests_in"] == 90
    for name in (FINISHED, IN_FLIGHT, REJECTED, FAILED):
        assert summary[f"requests_{name}"] == by_status[name] > 0
    assert summary["requests_beyond_llm"] == sum(r.startswith(BEYOND_LLM) for r in reason) > 0
    assert summary["requests_replayed"] == sum(r > 0 for r in rows["replays"]) > 0
    assert summary["output_tokens_per_s"] == pytest.approx(sum(rows["tokens_out"].tolist()) / 20)
    assert summary["reused_prompt_fraction"] == pytest.approx(sum(rows["reused_tokens"]) / sum(rows["prompt_tokens"]))
    counted = [i for i in every if rows["arrival_s"][i] >= warmup_s]
    good = [i for i in counted if is_good(rows, i)]
    hit = [i for i in counted if rows["replays"][i] > 0 or (status[i] == FAILED and reason[i].startswith("fault"))]
    lost = [i for i in hit if not is_good(rows, i)]
    assert 0 < len(lost) < len(hit)
    assert summary["goodput_requests_per_s"] == pytest.approx(len(good) / (20 - warmup_s))
    assert summary["slo_met_fraction"] == pytest.approx(len(good) / len(counted))
    assert summary["goodput_lost_requests_per_s"] == pytest.approx(len(lost) / (20 - warmup_s))
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        values = [rows[name][i] for i in counted if status[i] == FINISHED and not math.isnan(rows[name][i])]
        for q in (50, 90, 99):
            assert summary[f"{name}_p{q}"] == pytest.approx(np.percentile(values, q))


def test_a_class_has_its_own_counts_and_targets(cut):
    rows = random_rows(90, 4)
    targets = {"a": (0.3, 0.02)}
    table = metrics.class_table(rows, ["a", "b"], targets=targets, elapsed_s=20.0, warmup_s=4.0)
    found = {(k, m): v for k, m, v in zip(*(table[c].tolist() for c in ("klass", "metric", "value")), strict=True)}
    for name, limits in (("a", (0.3, 0.02)), ("b", (math.inf, math.inf))):
        own = [i for i in range(90) if rows["klass"][i] == name]
        counted = [i for i in own if rows["arrival_s"][i] >= 4]
        good = sum(is_good(rows, i, *limits) for i in counted)
        assert found[name, "requests_in"] == len(own)
        assert found[name, "requests_finished"] == sum(rows["status"][i] == FINISHED for i in own)
        assert found[name, "goodput_requests_per_s"] == pytest.approx(good / 16)
        assert found[name, "slo_met_fraction"] == pytest.approx(good / len(counted))
        done = [rows["ttft_s"][i] for i in counted if rows["status"][i] == FINISHED]
        assert found[name, "ttft_s_p50"] == pytest.approx(np.median(done))
    together = summary_of(rows, targets={**targets, "b": (9.0, 9.0)}, warmup_s=4.0)["goodput_requests_per_s"]
    assert together == pytest.approx(sum(found[name, "goodput_requests_per_s"] for name in "ab"))
    whole, asked = (
        metrics.class_table(rows, ["a", "b"], targets={}, elapsed_s=20.0, **warmup) for warmup in ({}, {"warmup_s": 0.0})
    )
    assert np.array_equal(whole["value"], asked["value"])
    assert len(metrics.class_table(rows, ["a"], targets={}, elapsed_s=20.0)["klass"]) == 0  # the summary says it


def test_reasons_are_counted_by_kind_the_most_frequent_first(cut):
    rows = random_rows(120, 5)
    kinds = metrics.reasons(rows)
    reason, status = rows["reason"].tolist(), rows["status"].tolist()
    beyond, full, fault, gave_up = (
        [i for i in range(120) if reason[i].startswith(text)] for text in (BEYOND_LLM, "host", "fault", "gave up")
    )
    expected = [(REJECTED, beyond, False), (REJECTED, full, False), (FAILED, fault, True), (FAILED, gave_up, True)]
    told = {(status[i[0]], reason[i[0]]): {"requests": len(i), "alike": alike} for _, i, alike in expected}
    assert {(k["status"], k["reason"]): {"requests": k["requests"], "alike": k["alike"]} for k in kinds} == told
    assert [k["requests"] for k in kinds] == sorted((k["requests"] for k in kinds), reverse=True)
    assert sum(k["requests"] for k in kinds) == sum(s in (REJECTED, FAILED) for s in status)


def test_power_of_the_site_is_that_of_its_racks_times_pue():
    """Racks of 100 and 300 W for 5 s, then of 200 and 250 W."""
    rows = random_rows(10, 6)
    summary = summary_of(rows, elapsed_s=10.0)
    assert summary["it_power_w_mean"] == pytest.approx((400 + 450) / 2)
    assert summary["it_power_w_max"] == 450
    assert summary["rack_power_w_max"] == 300
    for name in ("mean", "max"):
        assert summary[f"power_w_{name}"] == pytest.approx(1.25 * summary[f"it_power_w_{name}"])
    assert summary["energy_j_per_token"] == pytest.approx(1.25 * (400 + 450) * 5 / rows["tokens_out"].sum())
    assert (summary["limited_by"], summary["limited_by_fraction"]) == ("batch", 0.8)
    times, lengths, watts = metrics.site_power_w(other_tables()["power"], 2.0)
    assert (times.tolist(), lengths.tolist(), watts.tolist()) == ([5.0, 10.0], [5.0, 5.0], [800.0, 900.0])


def below(t, freedom):
    """P(T < t) of Student's t by Simpson's rule."""
    x = np.linspace(0, t, 20_001)
    log_c = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    y = np.exp(log_c - (freedom + 1) / 2 * np.log1p(x * x / freedom))
    return 0.5 + float((y[0] + y[-1] + 4 * y[1:-1:2].sum() + 2 * y[2:-1:2].sum()) * (x[1] - x[0]) / 3)


@pytest.mark.parametrize("count", [2, 3, *range(4, 40), 61, 200, 5000])
def test_the_interval_holds_95_percent_of_students_t(count):
    values = np.arange(count, dtype=float)
    mean, half = metrics.confidence(values.tolist())
    assert mean == pytest.approx((count - 1) / 2)
    error = math.sqrt(count * (count + 1) / 12 / count)  # the variance of 0, 1, ... n-1 is n (n + 1) / 12
    assert below(half / error, count - 1) == pytest.approx(0.975, abs=2e-5 if count <= 31 else 6e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 11, 100, 101])
def test_percentiles_of_few_numbers_a_row_a_block_are_numpys(count):
    values = np.random.default_rng(count).permutation(np.arange(count) * 1.1 + 0.3)
    cut = [{"x": values[i : i + 1]} for i in range(count)] + [{"x": np.array([np.nan])}] * 2
    found = metrics.percentiles(lambda: cut, ["x"])
    assert found == {f"x_p{q}": float(np.percentile(values, q)) for q in (50, 90, 99)}


def test_who_arrives_as_the_warmup_ends_counts():
    rows = random_rows(20, 7)
    rows["arrival_s"][:] = np.arange(20)
    assert len(metrics.measured(rows, 5.0)["status"]) == 15
    assert metrics.measured(rows, 0.0) is rows


def test_what_limits_may_be_the_first_and_nothing_fails_unless_told():
    limits = {"resource": np.array(["host", "batch"]), "request_s": np.array([3.0, 1.0])}
    tables = {"requests": random_rows(5, 1), **other_tables(), "limits": limits}
    options = {"slo_ttft_s": 1.0, "slo_tpot_s": 1.0, "pue": 1.0, "elapsed_s": 10.0, "concurrency_mean": 1.0, "seed": 1}
    summary = metrics.summarise(tables, **options)
    assert (summary["limited_by"], summary["limited_by_fraction"], summary["availability_fraction"]) == ("host", 0.75, 1.0)
    nothing = metrics.summarise({**tables, "limits": {**limits, "request_s": np.zeros(2)}}, **options)
    assert (nothing["limited_by"], nothing["limited_by_fraction"]) == (None, None)


def test_there_is_no_mean_of_nothing():
    with pytest.raises(ValueError, match="no values to average"):
        metrics.confidence([])


@pytest.mark.parametrize("seed", range(3))
def test_a_weighted_percentile_is_that_of_all_values_written_out(seed):
    """The least value with q percent of a thousand at or below it."""
    random = np.random.default_rng(seed)
    values, counts = random.permutation(100).astype(float), random.multinomial(1000, np.full(100, 0.01))
    every = np.sort(np.repeat(values, counts))
    for q in (1, 10, 25, 50, 75, 90, 99, 100):
        assert metrics.weighted_percentile(values, counts, q) == every[10 * q - 1]


def test_who_is_hit_by_a_fault_started_again_or_failed_for_it():
    """Not who failed for another reason, nor who was served though the reason of an earlier try is a fault."""
    columns = [
        (0, FINISHED, "", False),
        (1, FINISHED, "", True),
        (0, FAILED, "fault of node 2", True),
        (0, FAILED, "gave up: no first token within 1 s", False),
        (0, FINISHED, "fault of node 2", False),
        (0, IN_FLIGHT, "fault of node 2", False),
    ]
    replays, status, reason, hit = map(np.array, zip(*columns, strict=True))
    assert metrics._hit_by_fault({"replays": replays, "status": status, "reason": reason}).tolist() == hit.tolist()
