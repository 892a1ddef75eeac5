"""The numbered invariants the service zoom owes, each test named after its number.

I1, I4 and I9 are also in test_service, I10 in test_service and test_ways_agree, I7 in test_determinism; I2 and I6 in
test_copies and among the packet engine's tests, I8 among the schedule's.
"""

import subprocess
import sys

import numpy as np
import pytest
from small_cluster import make_table, random_requests
from test_ways_agree import draw_case

from dcsim.cluster.simpy.kv import KvRoom
from dcsim.results import metrics, records


def rows(result):
    return result.tables["requests"]


@pytest.mark.parametrize("number", range(0, 60, 6))
def test_i1_everything_that_came_is_accounted_for(serve_small, number):
    traffic, setup = draw_case(number)
    r = rows(serve_small(traffic, seed=number, **setup))
    assert r["request"].tolist() == list(range(len(r["request"])))
    assert set(r["status"].tolist()) <= set(records.STATUSES)
    for status, has_reason in (("finished", False), ("in_flight", False), ("rejected", True), ("failed", True)):
        assert ((r["reason"][r["status"] == status] != "") == has_reason).all()
    done = r["status"] == "finished"
    assert (r["tokens_out"][done] == r["output_tokens"][done]).all()


def test_i3_i4_time_does_not_go_back(serve_small):
    for number in range(3, 60, 10):
        traffic, setup = draw_case(number)
        r = rows(serve_small(traffic, seed=number, **setup))
        assert (np.diff(r["arrival_s"]) >= 0).all()
        for earlier, later in (("arrival_s", "ready_s"), ("admitted_s", "first_token_s"), ("first_token_s", "finished_s")):
            there = ~np.isnan(r[earlier]) & ~np.isnan(r[later])
            assert (r[earlier][there] <= r[later][there]).all()


def test_i5_kv_never_exceeds_memory_and_returns_to_nothing(serve_small, monkeypatch):
    """Watched at every change of every replica's room; at the end only what ended turns left is there."""
    rooms, most = set(), []
    take = KvRoom.take

    def watched_take(self, request, tokens, **how):
        take(self, request, tokens, **how)
        rooms.add(self)
        most.append((self.used + self.kept_total) / self.capacity)
        assert 0 <= self.used <= self.used + self.kept_total <= self.capacity
        assert self.kept_total == sum(map(self._cost, self.kept.values()))

    monkeypatch.setattr(KvRoom, "take", watched_take)
    ended = 0
    for number in range(60):
        traffic, setup = draw_case(number)
        rooms.clear()
        result = serve_small(traffic, seed=number, engine="simpy", **setup)
        if (rows(result)["status"] != "in_flight").all():
            assert [room.used for room in rooms] == [0] * len(rooms)
            ended += 1
    assert ended > 20
    assert max(most) > 0.9


_PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:]
import conftest
from test_ways_agree import draw_case
from dcsim.results import records
serve = conftest.serve_small
serve = getattr(serve, "__wrapped__", None) or serve._fixture_function
traffic, setup = draw_case(14)
print(records.digest(serve()(traffic, seed=3, **setup).tables, {}))
"""


def test_i7_another_process_gives_the_same_bytes(serve_small, pytestconfig):
    folders = [str(pytestconfig.rootpath / "tests"), str(pytestconfig.rootpath / "tests" / "cluster")]
    traffic, setup = draw_case(14)
    here = records.digest(serve_small(traffic, seed=3, **setup).tables, {})
    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", _PROGRAM, *folders],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": hash_seed, "PATH": "/usr/bin:/bin"},
            cwd=pytestconfig.rootpath,
        )
        assert there.stdout.strip() == here


def test_the_digest_does_not_depend_on_where_rows_go(serve_small, tmp_path):
    """In memory at once, or block by block to a file; and it changes with a single token."""
    table = random_requests(1000, 50, 3)
    blocks = [table.part(start, min(start + 130, 1000)) for start in range(0, 1000, 130)]
    in_memory = serve_small(table).tables
    writer = records.TableWriter("requests", tmp_path / "requests.parquet")
    stored = serve_small(iter(blocks), rows=writer).tables
    assert isinstance(stored["requests"], records.StoredTable)
    assert records.digest(stored, {}) == records.digest(in_memory, {})
    output = table.output_tokens.copy()
    output[500] += 1
    other = make_table(table.arrival_s, table.prompt_tokens, output)
    assert records.digest(serve_small(other).tables, {}) != records.digest(in_memory, {})


def test_rows_leave_memory_as_requests_end(serve_small, tmp_path):
    """A long run holds few requests at once: the file has many row groups."""
    import pyarrow.parquet as pq

    table = random_requests(2000, 50, 3)
    writer = records.TableWriter("requests", tmp_path / "requests.parquet")
    serve_small((table.part(i, i + 100) for i in range(0, 2000, 100)), rows=writer, engine="compiled")
    assert pq.ParquetFile(tmp_path / "requests.parquet").num_row_groups >= 18


def summary(result, **options):
    return metrics.summarise(
        result.tables,
        slo_ttft_s=1.0,
        slo_tpot_s=0.01,
        pue=1.0,
        elapsed_s=result.elapsed_s,
        concurrency_mean=result.concurrency_mean,
        seed=1,
        **options,
    )


def test_warm_up_is_cut_from_latencies_and_goodput(serve_small):
    """The first second is crowded, the rest is not."""
    crowd = random_requests(200, 400, 1)
    arrivals = np.concatenate([crowd.arrival_s[:200], np.arange(2, 22, 1.0)])
    result = serve_small(make_table(arrivals, [800] * 220, [50] * 220))
    whole, cut = summary(result), summary(result, warmup_s=1.5)
    late = rows(result)["arrival_s"] >= 1.5
    assert cut["ttft_s_p50"] == pytest.approx(np.median(rows(result)["ttft_s"][late]))
    assert cut["ttft_s_p50"] < 0.5 * whole["ttft_s_p50"]
    assert cut["goodput_requests_per_s"] == pytest.approx(20 / (result.elapsed_s - 1.5))
    assert cut["requests_in"] == 220


def test_classes_have_their_own_metrics_and_targets(serve_small):
    table = random_requests(100, 20, 2)
    from dataclasses import replace

    table = replace(table, klass=(np.arange(100) % 2).astype(np.int16), class_names=("chat", "batch"))
    result = serve_small(table)
    targets = {"chat": (1.0, 0.01), "batch": (1e-9, 0.01)}
    found = metrics.class_table(rows(result), table.class_names, targets=targets, elapsed_s=result.elapsed_s)
    values = {(k, m): v for k, m, v in zip(*(found[c].tolist() for c in ("klass", "metric", "value")), strict=True)}
    assert values["chat", "requests_in"] == 50
    assert values["chat", "slo_met_fraction"] == 1
    assert values["batch", "slo_met_fraction"] == 0
    own = rows(result)["ttft_s"][rows(result)["klass"] == "batch"]
    assert values["batch", "ttft_s_p99"] == pytest.approx(np.percentile(own, 99))
    assert summary(result, targets=targets)["slo_met_fraction"] == 0.5


def test_lost_goodput_and_availability_are_in_the_summary(serve_small):
    options = ["faults.events=[{at: 500 ms, part: chip, index: 0}]", "faults.detect=3 s", "faults.in_flight=fail"]
    result = serve_small(random_requests(20, 20, 2), settings=options)
    found = summary(result, availability_fraction=result.availability)
    failed = int((rows(result)["status"] == "failed").sum())
    assert failed > 0
    assert found["goodput_lost_requests_per_s"] == pytest.approx(failed / result.elapsed_s)
    assert found["availability_fraction"] == pytest.approx(1 - 3 / result.elapsed_s)


def test_the_confidence_interval_covers_as_often_as_it_says():
    random = np.random.default_rng(1)
    inside = 0
    for _ in range(2000):
        mean, half = metrics.confidence(random.normal(5, 2, 6).tolist())
        inside += abs(mean - 5) <= half
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)
    assert metrics.confidence([3.0]) == (3.0, float("inf"))
    with pytest.raises(ValueError):
        metrics.confidence([])
