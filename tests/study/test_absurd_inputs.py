"""What no run could do is refused with a reason, and what is merely strange is served."""

import numpy as np
import pytest
from command import dcsim
from small_cluster import make_table

from dcsim.cli import main
from dcsim.errors import CapacityError, SpecError, WorkloadError
from dcsim.results.records import TABLES, TableWriter
from dcsim.spec.load import load
from dcsim.study import scenario
from dcsim.study.plan import plan
from dcsim.workload.generate import make_requests

LENGTHS = "lengths: {kind: lognormal, prompt_tokens: {median: 100}, output_tokens: {median: 10}}\n"
TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


@pytest.mark.parametrize(
    "setting",
    [
        "serving.host_servers=1000000000",
        "serving.sequences_max=1000000000",
        "serving.batch_buckets=[1000000000]",
        "serving.batch_buckets=[]",
        "serving.chunk_tokens=1000000000",
        "serving.context_buckets=[1e12]",
        "host.cores=1000000000",
        "host.queue_max=1000000000",
        "host.request=1e9 s",
        "host.tokenise_token=1000 s",
        "host.token=1e20 B",
        "chip.memory=1e20 B",
        "chip.memory=1 B",
        "chip.reserve_fraction=1",
        "chip.tile=1000000000",
        "chip.fixed_cycles=1000000000",
        "power.sample=1 ps",
        "power.sample=1e9 s",
        "power.sample=0 s",
        "faults.chip_mtbf=1 ps",
        "faults.node_mtbf=1 ms",
        "workload.rate_scale=0",
        "workload.rate_scale=-1",
        "workload.rate_scale=1e308",
        "workload.rate_scale=.nan",
        "workload.duration=-1 s",
    ],
)
def test_a_key_beyond_all_bounds_is_named_once(setting):
    with pytest.raises(SpecError) as caught:
        load("64chip", settings=[setting])
    assert len(caught.value.problems) == 1
    assert setting.split("=")[0] in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "arrivals: {rate: {kind: pieces, pieces: [{duration: 1 ps, rate: 5 requests/s}]}}",
        "arrivals: {rate: {kind: constant, mean: 10 requests/s}, noise: {piece: 1 ps, cv: 1}}",
        "arrivals: {rate: {kind: constant, mean: 10 requests/s}, bursts: {on: 1 ps, off: 1 s}}",
        "arrivals: {rate: {kind: trace, trace: azure-2023-conv.csv.gz, piece: 1 ps}}",
    ],
)
def test_stretches_of_time_too_short_to_matter_are_refused(tmp_path, text):
    (tmp_path / "w.yaml").write_text(f"kind: synthetic\nduration: 10 s\n{text}\n{LENGTHS}")
    with pytest.raises(SpecError, match=r"0\.001") as caught:
        load("64chip", workload=str(tmp_path / "w.yaml"))
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"kind: synthetic\nrequests: 3\narrivals: {{rate: {{kind: constant, mean: 1e-12 requests/s}}}}\n{LENGTHS}", "104 days"),
        ("kind: replay\nrepeat: 1000000000\ntrace: azure-2023-conv.csv.gz\n", "104 days"),
        ("kind: replay\ntrace: FOLDER/far.csv\n", "104 days"),
        ("kind: bootstrap\nrequests: 9\ntrace: FOLDER/far.csv\n", "104 days"),
        ("kind: replay\ntrace: FOLDER/empty.csv\n", "holds no requests"),
        ("kind: replay\ntrace: FOLDER/zero.csv\n", "row 1"),
        ("kind: bootstrap\nrequests: 9\ntrace: FOLDER/one.csv\n", "longer than the 0 s of the trace"),
        ("kind: replay\ntrace: {file: FOLDER/one.csv, start: 1e9 s}\n", "no requests between"),
    ],
)
def test_a_workload_that_cannot_be_made_says_why(tmp_path, text, why):
    (tmp_path / "far.csv").write_text(f"{TRACE}1970-01-01 00:00:00.0,3,44\n2262-01-01 00:00:00.0,3,44\n")
    (tmp_path / "empty.csv").write_text(TRACE)
    (tmp_path / "one.csv").write_text(f"{TRACE}2023-11-16 18:15:46.0,374,44\n")
    (tmp_path / "zero.csv").write_text(f"{TRACE}2023-11-16 18:15:46.0,374,0\n")
    (tmp_path / "w.yaml").write_text(text.replace("FOLDER", str(tmp_path)))
    with pytest.raises(WorkloadError, match=why):
        make_requests(load("64chip", workload=str(tmp_path / "w.yaml")).spec.workload, 1)


def test_a_rate_of_next_to_nothing_ends_with_its_duration(tmp_path):
    (tmp_path / "w.yaml").write_text(
        f"kind: synthetic\nduration: 10 s\narrivals: {{rate: {{kind: constant, mean: 1e-12 requests/s}}}}\n{LENGTHS}"
    )
    code, out, _ = dcsim("run", "64chip", "--workload", "w.yaml", cwd=tmp_path)
    assert (code, out.splitlines()[1].split(":")[0]) == (0, "0 requests in 10 s")


def test_a_file_of_no_rows_is_read_as_none(tmp_path):
    writer = TableWriter("requests", tmp_path / "r.parquet")
    kinds = {"int64": np.int64, "float64": float, "str": "U1"}
    writer.write({column.name: np.empty(0, kinds[column.dtype]) for column in TABLES["requests"]})
    table = writer.close()
    assert [len(table[column.name]) for column in TABLES["requests"]] == [0] * len(TABLES["requests"])


def test_a_fault_of_a_part_that_is_not_there(serve_small):
    table = make_table([0.0], [10], [5])
    for part, count in (("chip", 72), ("node", 9), ("host", 8), ("link", 144)):
        serve_small(table, settings=[f"faults.events=[{{at: 1 s, part: {part}, index: {count - 1}}}]"])
        with pytest.raises(CapacityError, match=f"no {part} {count}, there are {count}"):
            serve_small(table, settings=[f"faults.events=[{{at: 1 s, part: {part}, index: {count}}}]"])


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan"), 1e300])
def test_a_fleet_for_no_rate_or_an_endless_one_is_refused(rate):
    resolved = load("64chip", settings=["mapping.tp=8", "mapping.pp=8"])
    for rates in ({"tokens_per_s": rate, "tokens_per_s_per_user": 100.0}, {"tokens_per_s": 1e6, "tokens_per_s_per_user": rate}):
        with pytest.raises(SpecError, match="is no rate a fleet can give"):
            plan(resolved, **rates)


def test_nothing_arrives_within_a_duration_of_nothing():
    with pytest.raises(SpecError, match="no request arrives within 0 s"):
        scenario.load("64chip", duration="0 s")


def test_too_little_memory_is_told_and_not_traced(monkeypatch, capsys):
    def app_without_memory(**_):
        raise MemoryError("Unable to allocate 745 GiB")

    monkeypatch.setattr("dcsim.cli.application.app", app_without_memory)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "745 GiB" in capsys.readouterr().err
