"""A store of runs: whole or not there, never run twice, whatever else stands in its folder named and left alone."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from command import dcsim as command

import dcsim
from dcsim.errors import RunStoreError, SpecError
from dcsim.study import store as stores

FEW = ("64chip", "--workload", "glimpse", "--set", "mapping.tp=8", "--set", "mapping.pp=8")


@pytest.fixture(scope="module")
def scenario():
    return dcsim.load("64chip", workload="glimpse", set={"mapping": {"tp": 8, "pp": 8}})


@pytest.fixture(scope="module")
def full(scenario, tmp_path_factory):
    """Two runs of different specs, and one of another seed."""
    folder = tmp_path_factory.mktemp("store") / "runs"
    with dcsim.store(folder):
        scenario.run()
        scenario.with_({"serving.chunk_tokens": 16}).run()
        scenario.run(seed=2)
    return folder


@pytest.fixture
def folder(full, tmp_path):
    return shutil.copytree(full, tmp_path / "runs")


def serves(monkeypatch):
    """Counts how often something is served."""
    import dcsim.study.serve

    calls, real = [], dcsim.study.serve.serve_scenario
    monkeypatch.setattr(dcsim.study.serve, "serve_scenario", lambda *a, **k: calls.append(1) or real(*a, **k))
    return calls


def test_a_run_that_exists_is_not_run_again(scenario, folder, monkeypatch):
    calls = serves(monkeypatch)
    with dcsim.store(folder):
        first, again = scenario.run(), scenario.run()
        assert (first.reused, again.reused, calls) == (True, True, [])
        assert first.requests.equals(again.requests)
        assert not scenario.with_({"serving.chunk_tokens": 32}).run().reused
    assert len(calls) == 1
    assert scenario.run().summary == first.summary  # no store is open: served, and the same
    assert len(calls) == 2


def test_rounds_are_run_for_where_the_run_kept_none(scenario, folder):
    with dcsim.store(folder):
        assert not scenario.run(rounds=True).reused
        assert scenario.run(rounds=True).reused
        assert scenario.run().has_table("rounds")


def test_a_name_is_of_spec_seed_zoom_and_code(scenario, monkeypatch):
    spec = scenario.spec.model_dump(mode="json", by_alias=True)
    names = {
        stores.run_hash(spec, 1),
        stores.run_hash(spec, 2),
        stores.run_hash(spec, 1, "chips"),
        stores.run_hash({**spec, "name": "x"}, 1),
    }
    monkeypatch.setattr(stores, "fingerprint", lambda: "edited")
    assert len(names | {stores.run_hash(spec, 1)}) == 5


def test_tables_of_kernels_are_part_of_a_question(tmp_path):
    file = tmp_path / "gemm" / "lib" / "1.0" / "gemm_perf.parquet"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"one")
    saved = {"chip": {"operators": {"tables": str(tmp_path)}}}
    first = stores.files_in(saved)
    file.write_bytes(b"other")
    assert list(first) == list(stores.files_in(saved)) == ["chip.operators.tables:gemm/lib/1.0/gemm_perf.parquet"]
    assert first != stores.files_in(saved)
    assert stores.files_in({"chip": {"operators": {"tables": ""}}}) == {}


def test_an_edit_of_any_file_of_the_package_is_another_fingerprint(tmp_path, monkeypatch):
    package = shutil.copytree(stores.library.package(), tmp_path / "dcsim", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(stores.library, "package", lambda: package)
    before = stores.fingerprint.__wrapped__()
    assert before == stores.fingerprint()
    edited = package / "network/tasks.py"
    edited.write_text(edited.read_text() + "\n")
    assert stores.fingerprint.__wrapped__() != before


def foreign(folder):
    """Things that a folder of runs may hold besides, by name, and what is said of each."""
    first = next(path for path in folder.iterdir() if (path / "meta.json").is_file())
    (folder / "notes.txt").write_text("mine")
    (folder / "empty").mkdir()
    (folder / "photos").mkdir()
    (folder / "photos/meta.json").write_text("[1]")
    for name in ("future", "torn", "tableless", "odd"):
        shutil.copytree(first, folder / name)
    summary = json.loads((folder / "future/summary.json").read_text())
    (folder / "future/summary.json").write_text(json.dumps({**summary, "schema_version": 99}))
    (folder / "torn/spec.json").write_text('{"name": ')
    (folder / "tableless/requests.parquet").unlink()
    (folder / "odd/summary.json").write_text("{}")
    return {
        "notes.txt": "a file",
        "empty": "no meta.json",
        "photos": "not a readable run",
        "future": "later dcsim",
        "torn": "spec.json",
        "tableless": "requests.parquet is missing",
        "odd": "other things",
    }


def test_foreign_broken_and_future_folders_are_named_and_skipped_everywhere(scenario, folder, monkeypatch):
    from dashboard.runs import RunFolder
    from dcsim.results.records import last_run

    own = {path.name for path in folder.iterdir()}
    said = foreign(folder)
    runs, skipped = stores.Store(folder).look()
    assert {run.folder.name for run in runs} == own
    assert {one.name for one in skipped} == set(said)
    for one in skipped:
        assert said[one.name] in one.reason, one
    assert last_run(folder).name in own
    assert {run.folder.name for run in RunFolder(folder).all()[0]} == own
    monkeypatch.chdir(folder.parent)
    code, out, err = command("runs", "--json", cwd=folder.parent)
    assert code == 0
    assert {run["run"] for run in json.loads(out)["runs"]} == own
    for name in said:
        assert f"skipped: runs/{name}: " in err
    with pytest.raises(RunStoreError, match="later dcsim"):
        dcsim.open_run(folder / "future")


def test_a_broken_run_of_the_same_name_is_run_again_and_replaced(scenario, folder):
    with dcsim.store(folder) as store:
        broken = scenario.run().folder
        (broken / "summary.json").write_text("{")
        assert not scenario.run().reused
        assert scenario.run().reused
        assert store.skipped.empty


@pytest.mark.parametrize(
    ("condition", "count"),
    [
        ("seed=2", 1),
        ("serving.chunk_tokens=16", 1),
        ("serving.chunk_tokens!=16", 2),
        ("ttft_s_p99<1 s", 3),
        ("ttft_s_p99 >= 1 s", 0),
        ("topology=64CHIP", 3),
        ("llm=llama-3-8b", 3),
        ("slo.ttft=1000 ms", 3),
        ("limited_by=iteration_latency", 3),
    ],
)
def test_runs_are_filtered_by_any_key_or_metric(folder, condition, count):
    with dcsim.store(folder) as store:
        assert len(store.where(condition)) == count


def test_what_cannot_be_asked_is_refused(folder):
    with dcsim.store(folder) as store:
        for text, words in (("seed", "not of the form"), ("no.such>1", "no run has a key"), ("=1", "not of the form")):
            with pytest.raises(SpecError, match=words):
                store.where(text)
        with pytest.raises(RunStoreError, match="no run 'zzz'"):
            store.remove("zzz")
        with pytest.raises(RunStoreError, match=r"no run '\.\.'"):
            store.remove("..")
        with pytest.raises(RunStoreError, match="runs begin with ''"):
            store.open("")


def test_two_runs_differ_in_what_was_changed(scenario, folder):
    with dcsim.store(folder) as store:
        one, other = scenario.run().folder.name, scenario.with_({"serving.chunk_tokens": 16}).run().folder.name
        found = store.compare(one, other)
        assert list(found[found["part"] == "spec"]["key"]) == ["serving.chunk_tokens"]
        assert "ttft_s_p99" in set(found[found["part"] == "result"]["key"])
        assert store.compare(one, one).empty


def test_the_command_compares_removes_and_exports(folder):
    names = sorted(path.name for path in folder.iterdir())
    here = folder.parent
    code, out, _ = command("runs", "--compare", *names[:2], "--json", cwd=here)
    assert code == 0
    assert {"first", "second", "spec", "result"} <= set(json.loads(out))
    for ending in ("csv", "json", "parquet"):
        assert command("runs", "--export", f"all.{ending}", cwd=here)[0] == 0
        assert (here / f"all.{ending}").stat().st_size > 1000
    assert command("runs", "--export", "all.doc", cwd=here)[0] == 2
    code, _, _ = command("runs", "--remove", names[0][:8], "--remove", "nosuch", cwd=here)
    assert code == 2
    assert sorted(path.name for path in folder.iterdir()) == names, "all or none"
    code, out, _ = command("runs", "--remove", names[0][:8], "--json", cwd=here)
    assert json.loads(out)["removed"] == names[:1]
    assert sorted(path.name for path in folder.iterdir()) == names[1:]


def test_the_command_line_keeps_its_runs_and_says_what_it_said(tmp_path):
    first = command("run", *FEW, "--set", "faults.repair=3 h", "--json", cwd=tmp_path)
    again = command("run", *FEW, "--set", "faults.repair=3 h", "--json", cwd=tmp_path)
    assert first[:2] == again[:2]
    assert "no effect: --set faults.repair=3 h" in first[2]
    assert "no effect: --set faults.repair=3 h" in again[2]
    assert "as it was" in again[2]
    fresh = command("run", *FEW, "--set", "faults.repair=3 h", "--json", "--fresh", cwd=tmp_path)
    assert fresh[:2] == first[:2]
    assert "as it was" not in fresh[2]


WRITER = """
import sys, dcsim
scenario = dcsim.load("64chip", workload="glimpse", set={"mapping": {"tp": 8, "pp": 8}})
with dcsim.store(sys.argv[1]):
    for seed in range(int(sys.argv[2]), int(sys.argv[2]) + 3):
        scenario.run(seed=seed)
"""


def test_several_writers_do_not_disturb_each_other(tmp_path):
    def write(first):
        words = [sys.executable, "-c", WRITER, str(tmp_path / "runs"), str(first)]
        return subprocess.run(words, capture_output=True, text=True).returncode

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(write, (1, 2, 1))) == [0, 0, 0]
    runs, skipped = stores.Store(tmp_path / "runs").look()
    assert sorted(run.summary["seed"] for run in runs) == [1, 2, 3, 4]
    assert not skipped
    assert not [path for path in (tmp_path / "runs").iterdir() if path.name.startswith(".")]


def test_a_closed_store_is_not_used(scenario, tmp_path):
    store = dcsim.store(tmp_path / "a")
    inner = dcsim.store(tmp_path / "b")
    inner.close()
    scenario.run()
    store.close()
    scenario.run(seed=3)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert len(list((tmp_path / "a").iterdir())) == 1
