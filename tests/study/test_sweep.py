"""Sweeps: which points, that nothing wrong is begun, that nothing found is lost, and that rows depend on nobody who does them."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from command import dcsim as command

from dcsim.errors import OutputError, SpecError
from dcsim.study.sweep import Case, Design, sweep
from dcsim.study.sweep.case import Done, Worker, known_metrics
from dcsim.study.sweep.journal import Journal, journal_of
from dcsim.study.sweep.sweep import means

GLIMPSE = Case("64chip", ("mapping.tp=8", "mapping.pp=8"), workload="glimpse", run=True)
CHUNKS = [("serving.chunk_tokens", ["16", "17", "18", "19"])]
# A point that takes some seconds, so that a process can be stopped in it.
SLOW = ("sweep", "64chip", "--workload", "million", "--zoom", "run", "--engine", "simpy", "--metric", "requests_in")
REQUESTS = ("--set-range", "workload.requests=100,200,1500,1501,1502,1503")


def test_grid_and_zip_and_list():
    values = {"a.b": ["1", "2"], "c": ["x", "y"]}
    grid = Design("grid", values).settings()
    assert [tuple(point.values()) for point in grid] == [("1", "x"), ("1", "y"), ("2", "x"), ("2", "y")]
    assert Design("zip", values).settings() == [{"a.b": "1", "c": "x"}, {"a.b": "2", "c": "y"}]
    points = [{"a.b": "1"}, {"c": "y"}]
    assert Design("list", points=points).settings() == points


def test_a_latin_hypercube_has_one_point_in_each_part_of_each_key():
    design = Design("latin", {"x": ["0..1"], "t": ["1 s..11 s"], "n": ["1..10"], "k": ["a", "b"]}, samples=10, seed=3)
    points = design.settings()
    assert points == design.settings()
    assert points != replace(design, seed=4).settings()
    assert sorted(int(float(point["t"].removesuffix(" s")) - 1) for point in points) == list(range(10))
    assert sorted(int(point["n"]) for point in points) == list(range(1, 11))
    assert sorted(point["k"] for point in points) == ["a"] * 5 + ["b"] * 5


def test_random_points_lie_in_their_ranges_and_reach_all_of_them():
    points = Design("random", {"x": ["2..4"], "t": ["0.5 ms..1 ms"]}, samples=300).settings()
    assert {point["x"] for point in points} == {"2", "3", "4"}
    times = [float(point["t"].removesuffix(" ms")) for point in points]
    assert 0.5 <= min(times) < 0.51
    assert 0.99 < max(times) <= 1


@pytest.mark.parametrize(
    ("design", "words"),
    [
        (Design("spiral", {"a": ["1"]}), "not known"),
        (Design("grid"), "at least of one"),
        (Design("list", {"a": ["1"]}), "takes `points`"),
        (Design("zip", {"a": ["1"], "b": ["1", "2"]}), "different numbers of values: a 1, b 2"),
        (Design("random", {"a": ["1"]}), "needs --samples"),
        (Design("grid", {"a": ["1"]}, samples=3), "draws nothing"),
        (Design("latin", {"a": ["2..1"]}, samples=3), "ends before it begins"),
        (Design("latin", {"a": ["1 s..2 ms"]}, samples=3), "two units"),
        (Design("grid", {key: ["1"] * 200 for key in "abc"}), "8,000,000 points"),
    ],
)
def test_a_design_that_says_nothing_is_refused(design, words):
    with pytest.raises(SpecError, match=words):
        design.settings()


def nothing(*_):
    raise AssertionError("a point was begun")


def test_everything_is_checked_before_the_first_point(monkeypatch):
    monkeypatch.setattr(Worker, "__call__", nothing)
    with pytest.raises(SpecError, match="did you mean 'chunk_tokens'") as told:
        sweep(GLIMPSE, [("serving.chunk_token", ["1"]), ("mapping.tp", ["1", "many"])])
    assert "many" in str(told.value)
    assert len(told.value.problems) == 2  # each once, though a key is wrong at both points
    with pytest.raises(SpecError, match=r"unknown metric 'ttft_p99'; did you mean .*ttft_s_p99"):
        sweep(GLIMPSE, CHUNKS, metrics=["ttft_p99"])


def test_the_metrics_that_are_known_are_those_that_rows_have():
    for case, point in ((GLIMPSE, {"serving.chunk_tokens": "16"}), (Case("node", context=64), {"network.link_cycles": "217"})):
        row = Worker(case)((point, 1)).row
        assert set(row) - set(point) == known_metrics(case.run)


def test_points_share_a_cluster_and_rows_do_not_tell():
    """A cluster is kept while only the traffic changes: as if each point were alone."""
    ranges = [("serving.chunk_tokens", ["16", "17"]), ("workload.rate_scale", ["1", "2"])]
    together = sweep(GLIMPSE, ranges)
    alone = [Worker(GLIMPSE)(({key: row[key] for key, _ in ranges}, 1)).row for row in together]
    assert together == alone
    assert len({row["digest"] for row in together}) == 4


def test_replications_have_the_same_seeds_at_every_point():
    rows = sweep(GLIMPSE, CHUNKS[:1], replications=2)
    assert [row["seed"] for row in rows] == [1, 2] * 4
    lines = means(rows, ["serving.chunk_tokens"])
    assert [line["replications"] for line in lines] == [2] * 4
    two = [row["ttft_s_p99"] for row in rows[:2]]
    assert lines[0]["ttft_s_p99"] == pytest.approx(sum(two) / 2)
    assert lines[0]["ttft_s_p99_half_width"] >= 0


def test_a_bug_at_one_point_is_a_row_and_the_others_finish(monkeypatch, tmp_path):
    real = Worker._served

    def served(self, scenario, seed):
        if scenario.resolved.spec.serving.chunk_tokens == 17:
            raise ZeroDivisionError("of all things")
        return real(self, scenario, seed)

    monkeypatch.setattr(Worker, "_served", served)
    journal = journal_of(GLIMPSE, tmp_path)
    rows = sweep(GLIMPSE, CHUNKS, journal=journal)
    assert [row.get("error") for row in rows] == [None, "ZeroDivisionError: of all things", None, None]
    monkeypatch.setattr(Worker, "_served", real)
    assert all("error" not in row for row in sweep(GLIMPSE, CHUNKS, journal=journal)), "not what will be so another time"


def test_what_was_found_is_not_done_again_and_a_torn_line_is(tmp_path, monkeypatch):
    journal = journal_of(GLIMPSE, tmp_path)
    rows = sweep(GLIMPSE, CHUNKS, journal=journal)
    text = journal.path.read_text()
    assert text.count("\n") == 4
    journal.path.write_text(text[: len(text) // 2])
    done, real = [], Worker.__call__
    monkeypatch.setattr(Worker, "__call__", lambda self, task: done.append(task) or real(self, task))
    assert sweep(GLIMPSE, CHUNKS, journal=journal) == rows
    assert 0 < len(done) < 4
    assert sweep(GLIMPSE, [("serving.chunk_tokens", ["19", "16"])], journal=journal) == [rows[3], rows[0]]


def test_a_file_that_is_edited_is_another_point(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "my.csv"
    table.write_text("arrival_s,prompt_tokens,output_tokens\n0,5,2\n")
    case = replace(GLIMPSE, workload="my.csv")
    journal = journal_of(case, tmp_path)
    one = sweep(case, CHUNKS, journal=journal)
    table.write_text("arrival_s,prompt_tokens,output_tokens\n0,5,2\n1.5,6,3\n")
    assert [row["requests_in"] for row in one + sweep(case, CHUNKS, journal=journal)] == [1] * 4 + [2] * 4


def test_a_full_disk_loses_no_point_that_is_found(tmp_path):
    import resource

    journal = Journal(tmp_path / "runs/sweeps/x.jsonl")
    row = {"text": "x" * 600}
    journal.append("1", Done(row))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            journal.append("2", Done(row))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(journal.read()) == 1
    journal.append("2", Done(row))
    assert [done.row for done in journal.read().values()] == [row, row]


def begin(folder, *more):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    words = [sys.executable, "-m", "dcsim", *SLOW, *REQUESTS, *more]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def lines_of(folder):
    return [line for path in (folder / "runs/sweeps").glob("*.jsonl") for line in path.read_text().splitlines()]


def wait_for(condition, process, limit_s=200.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_sweep_that_is_killed_goes_on_where_it_was(tmp_path, jobs):
    process = begin(tmp_path, "--jobs", jobs)
    wait_for(lambda: len(lines_of(tmp_path)) >= 2, process)
    process.kill()
    process.communicate()
    kept = lines_of(tmp_path)
    code, out, err = command(*SLOW, *REQUESTS, "--json", cwd=tmp_path)
    assert code == 0, err
    assert lines_of(tmp_path)[: len(kept)] == kept
    assert len(lines_of(tmp_path)) == 6
    assert [row["requests_in"] for row in json.loads(out)["rows"]] == [100, 200, 1500, 1501, 1502, 1503]


@pytest.mark.slow
def test_a_worker_that_is_killed_is_a_row_and_its_point_is_done_the_next_time(tmp_path):
    process = begin(tmp_path, "--jobs", "2", "--json")
    wait_for(lambda: len(lines_of(tmp_path)) >= 2, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [pid for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(int(workers[0]), signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    errors = [row["error"] for row in json.loads(out)["rows"] if "error" in row]
    assert len(errors) == 1
    assert "killed (SIGKILL" in errors[0]
    assert len(lines_of(tmp_path)) == 5
    code, out, _ = command(*SLOW, *REQUESTS, "--json", cwd=tmp_path)
    assert code == 0
    assert len(json.loads(out)["rows"]) == len(lines_of(tmp_path)) == 6
    assert "error" not in out


@pytest.mark.slow
def test_ctrl_c_ends_a_sweep_within_two_seconds_and_keeps_what_is_found(tmp_path):
    process = begin(tmp_path, "--jobs", "2", "--csv", "rows.csv")
    wait_for(lambda: len(lines_of(tmp_path)) >= 2, process)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # others may be using the machine
    assert time.monotonic() - began < 2 * busy
    assert process.returncode == 130
    rows = (tmp_path / "rows.csv").read_text().splitlines()
    assert len(rows) - 1 == len(lines_of(tmp_path)) >= 2


SCRIPT = """
import dcsim
scenario = dcsim.load("64chip", workload="glimpse", set={"mapping": {"tp": 8, "pp": 8}})
print(len(dcsim.sweep(scenario, {"serving.chunk_tokens": [16, 17, 18]}, workers=2).rows))
"""


def test_a_script_needs_no_main_guard_and_leaves_no_trace(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.stdout.split() == ["3"], done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


CLUSTER = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1") as cluster:
        print(cluster.scheduler_address, *(one.pid for one in cluster.workers.values()), flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def cluster(tmp_path):
    """A Dask cluster of two worker processes: its address, and their process ids."""
    pytest.importorskip("distributed", reason="the cluster extra is not installed")
    (tmp_path / "cluster.py").write_text(CLUSTER)
    words = [sys.executable, "cluster.py"]
    process = subprocess.Popen(
        words, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    address, *pids = process.stdout.readline().split()
    yield address.replace("tcp://", "dask://"), [int(pid) for pid in pids]
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


@pytest.mark.slow
def test_a_sweep_on_a_cluster_is_the_local_one_row_for_row_though_a_worker_is_killed(tmp_path, cluster):
    address, pids = cluster
    here = tmp_path / "here"
    here.mkdir()
    process = begin(here, "--executor", address, "--json")
    wait_for(lambda: len(lines_of(here)) >= 1, process)
    os.kill(pids[0], signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    local = tmp_path / "local"
    local.mkdir()
    code, alone, _ = command(*SLOW, *REQUESTS, "--json", cwd=local)
    assert code == 0
    assert json.loads(out)["rows"] == json.loads(alone)["rows"]
    assert len(lines_of(here)) == 6


def test_a_cluster_that_is_none_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="the cluster extra is not installed")
    from dcsim.study.sweep import executors

    monkeypatch.setattr(executors, "_CONNECT_S", 0.5)
    for address, words in (("dask://127.0.0.1:9", "no scheduler answers"), ("ray://here", "no cluster that is known")):
        with pytest.raises(SpecError, match=words):
            sweep(GLIMPSE, CHUNKS, executor=address)


FILE = """
topology: 64chip
workload: glimpse
set: {mapping.tp: 8, mapping.pp: 8}
values: {serving.chunk_tokens: [16, 17]}
metrics: [ttft_s_p99]
"""


def test_a_sweep_may_be_a_file_and_its_mistakes_have_lines(tmp_path):
    (tmp_path / "s.yaml").write_text(FILE)
    code, out, err = command("sweep", "s.yaml", "--json", cwd=tmp_path)
    assert code == 0, err
    rows = sweep(GLIMPSE, [("serving.chunk_tokens", ["16", "17"])])
    assert [row["ttft_s_p99"] for row in json.loads(out)["rows"]] == [row["ttft_s_p99"] for row in rows]
    (tmp_path / "s.yaml").write_text(FILE + "valuess: 3\ndesign: spiral\n")
    code, _, err = command("sweep", "s.yaml", cwd=tmp_path)
    assert code == 2
    assert "s.yaml:7:1: valuess: unknown key; did you mean 'values'?" in err
    assert "s.yaml:8:1: design: input should be" in err
