"""Several seeds give intervals; a saved run goes out in other tools' forms."""

import json

import pytest
from command import dcsim

from dcsim.results.metrics import confidence
from dcsim.spec.load import load
from dcsim.study.repeat import repeat
from dcsim.study.scenario import Loaded

SETTINGS = ["workload=day", "workload.duration=60 s"]


def test_means_and_intervals_come_from_the_single_runs():
    resolved = load("64chip", settings=SETTINGS)
    result = repeat(resolved, 3, first_seed=5)
    singles = [Loaded(resolved).run(seed).summary["ttft_s_p50"] for seed in (5, 6, 7)]
    found = result["metrics"]["ttft_s_p50"]
    assert (found["mean"], found["half_width"]) == pytest.approx(confidence(singles))
    assert found["half_width"] > 0


def test_where_nothing_is_random_it_says_so(tmp_path):
    """The trace is replayed row by row; classes are drawn."""
    fixed = load("64chip", settings=["workload.duration=20 s"])
    assert repeat(fixed, 2)["random"] is False
    assert repeat(load("64chip", settings=SETTINGS), 2)["random"] is True
    out = dcsim("repeat", "64chip", "--duration", "5 s", "--seeds", "2", cwd=tmp_path)[1]
    assert "nothing here is random: all 2 seeds gave the same run" in out


def test_a_run_is_exported(tmp_path):
    assert dcsim("run", "64chip", "--duration", "20 s", cwd=tmp_path)[0] == 0
    assert dcsim("export", "--format", "vllm", "--out", "v.json", cwd=tmp_path)[0] == 0
    assert json.loads((tmp_path / "v.json").read_text())["completed"] > 0
    assert dcsim("export", "--format", "perfetto", "--out", "p.json", cwd=tmp_path)[0] == 0
    assert json.loads((tmp_path / "p.json").read_text())["traceEvents"]
    code, _, err = dcsim("export", "--format", "csv", "--out", "c.csv", cwd=tmp_path)
    assert (code, "use vllm or perfetto" in err) == (2, True)
    code, _, err = dcsim("export", "--out", "no/such/place.json", cwd=tmp_path)
    assert (code, "cannot be written" in err) == (2, True)


def test_rounds_kept_by_a_run_are_in_its_timeline(tmp_path):
    """The rows are those of a run that does not keep them; tokens of the rounds are the requests'."""
    digests = []
    for flags in ([], ["--rounds"]):
        code, out, _ = dcsim("run", "64chip", "--duration", "20 s", "--out", "run", "--json", *flags, cwd=tmp_path)
        assert code == 0
        digests.append(json.loads(out)["digest"])
    assert digests[0] == digests[1]
    code, _, err = dcsim("export", "run", "--format", "perfetto", "--count", "3", "--out", "p.json", cwd=tmp_path)
    assert (code, "requests 0 to 2 of" in err) == (0, True)
    spans = [event for event in json.loads((tmp_path / "p.json").read_text())["traceEvents"] if event["ph"] == "X"]
    rounds = [span for span in spans if span["tid"] == 0]
    assert {span["tid"] for span in spans} == {0, 1, 2, 3}
    assert sum(span["args"]["decoding"] for span in rounds) > 0
    last = max(span["ts"] + span["dur"] for span in spans if span["tid"])
    assert max(span["ts"] for span in rounds) <= last


def test_a_workload_is_described_as_its_rows_say(tmp_path):
    code, out, _ = dcsim("workload", "chat", "--json", "--figure", "chat.html", cwd=tmp_path)
    result = json.loads(out)
    assert code == 0
    assert result["requests"] == sum(result["rate_over_time"]["requests"]) == 19_366
    assert result["dispersion_60s"] == pytest.approx(16, rel=0.05)
    assert (tmp_path / "chat.html").stat().st_size > 1000
    assert "dispersion" in dcsim("workload", "chat", cwd=tmp_path)[1]
