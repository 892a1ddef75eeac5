"""Small inputs from outside the project, where they are at hand: each is answered or refused, and never ends in a traceback.

The laws behind them stand in the rooms' own tests, with inputs of their own.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import ROOT, dcsim

CASES = ROOT.parent / "shared" / "cases"
COMMANDS = sorted(CASES.glob("*/*/command.txt")) if CASES.is_dir() else []
QUICK = {"reliability"}

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here")


@pytest.fixture
def case(tmp_path):
    """Copy a case's folder and go there; returns its path."""

    def copy(name):
        return Path(shutil.copytree(CASES / name, tmp_path / "case"))

    return copy


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, id=f"{p.parts[-3]}/{p.parts[-2]}", marks=[] if p.parts[-3] in QUICK else [pytest.mark.slow])
        for p in COMMANDS
    ],
)
def test_every_command_ends_well_or_is_refused_in_clear_lines(case, tmp_path, path):
    folder = case(path.parent.relative_to(CASES))
    shim = tmp_path / "bin" / "dcsim"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m dcsim "$@"\n')
    shim.chmod(0o755)
    before = {entry.name for entry in folder.iterdir()}
    script = f'PATH="{shim.parent}:$PATH"; {path.read_text()}'
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode in (0, 2), done.stderr
    if done.returncode:
        assert {entry.name for entry in folder.iterdir()} == before  # nothing half-written
    if path.parts[-3] == "reliability":
        assert (done.returncode, done.stdout) == (2, "")
        assert all(line.startswith("error: ") and len(line) < 1500 for line in done.stderr.splitlines())


def told(folder, *words):
    """The one line with which a command is refused."""
    code, out, err = dcsim(*words, cwd=folder)
    assert (code, out) == (2, "")
    return err


def test_seconds_under_the_names_of_a_format_in_milliseconds(case):
    folder = case("serving/01-trace-seconds-read-as-ms")
    code, out, _ = dcsim("workload", "workload.yaml", "--json", cwd=folder)
    assert (code, json.loads(out)["span_s"]) == (0, 60.0)


def test_contexts_beyond_the_llm(case):
    folder = case("serving/10-context-beyond-the-model")
    assert "1,024" in told(folder, "iteration", "64chip", "--llm", "config.json", "--context", "8192")
    code, out, _ = dcsim("run", "8rack", "--workload", "workload.yaml", "--json", cwd=folder)
    summary = json.loads(out)
    assert (code, summary["requests_finished"], summary["requests_rejected"]) == (0, 1, 1)


@pytest.mark.parametrize("name", ["list.json", "nested.json"])
def test_a_configuration_that_is_no_mapping(case, name):
    folder = case("serving/12-config-that-is-no-mapping")
    assert len(told(folder, "iteration", "8rack", "--llm", name).splitlines()) == 1


def test_an_encoder_keeps_no_kv(case):
    folder = case("serving/14-encoder-kv-sentinel")
    code, out, _ = dcsim("iteration", "8rack", "--llm", "config.json", "--context", "512", "--json", cwd=folder)
    assert (code, json.loads(out)["kv_tokens"]) == (0, None)


def test_a_request_that_can_never_fit(case):
    folder = case("serving/17-request-that-can-never-fit")
    code, out, _ = dcsim("run", "8rack", "--workload", "workload.yaml", "--json", cwd=folder)
    summary = json.loads(out)
    assert (code, summary["requests_finished"], summary["requests_rejected"]) == (0, 1, 1)
    assert 1 < summary["elapsed_s"] < 1.1  # the one that fits comes after a second


def test_a_number_out_of_range_is_called_so(case):
    err = told(case("serving/19-number-called-no-number"), "workload", "workload.yaml")
    assert "out of range for s" in err
    assert "`arrival_unit` sets the unit" in err


def test_a_configuration_with_a_byte_order_mark(case):
    folder = case("serving/23-config-with-bom")
    assert dcsim("iteration", "8rack", "--llm", "config.json", cwd=folder)[0] == 0
