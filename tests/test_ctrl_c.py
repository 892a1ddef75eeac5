"""Ctrl-C on the command line, at any moment: it ends at once, with one line, no child and nothing half written.

The moment is chosen from inside: a hook on imports tells that a module is about to be loaded, and when.
"""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import by_rule
import pytest
from command import ROOT, alive, children, everything_in

from dcsim import open_run

RULE = ("--set", by_rule.RULE)  # nothing is searched for, which would be told before
HOOK = textwrap.dedent(
    """
    import os, sys, time

    class Stop:
        def find_spec(self, name, path=None, target=None):
            if name == os.environ["STOP_AT"] and not os.path.exists(os.environ["STOPPED"]):
                open(os.environ["STOPPED"], "w").close()
                time.sleep(float(os.environ["STOP_S"]))

    sys.meta_path.insert(0, Stop())
    """
)


def begin(words, folder, hooks, module, stop_s=0.0, group=False, **environment):
    """Start `dcsim` and wait until it is about to import `module`, where it stops for `stop_s`."""
    (hooks / "sitecustomize.py").write_text(HOOK)
    stopped = hooks / "stopped"
    stopped.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "dcsim", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=group,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(hooks), str(ROOT)]),
            "STOP_AT": module,
            "STOP_S": str(stop_s),
            "STOPPED": str(stopped),
            **environment,
        },
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell may have it ignored
    )
    deadline = time.monotonic() + 120
    while not stopped.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert stopped.exists(), process.communicate()
    return process


def interrupt(process, within_s=2.0, number=signal.SIGINT, group=False):
    """Interrupt the process, or all on its terminal; stdout and stderr, once it has ended and all below it too."""
    below = children(process.pid)
    began = time.monotonic()
    (os.killpg if group else os.kill)(process.pid, number)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    took_s = time.monotonic() - began
    assert process.returncode == 128 + number, err
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # others may be using the machine
    assert took_s < within_s * busy
    deadline = time.monotonic() + 1
    while any(map(alive, below)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(alive, below))
    return out, err


def one_line(err, *beside):
    """Nothing is said but that it was interrupted, and lines of progress."""
    lines = [line for line in err.splitlines() if not line.startswith(("compiling dcsim", *beside))]
    assert len(lines) == 1, err
    assert lines[0].startswith("interrupted")
    return lines[0]


@pytest.fixture
def hooks(tmp_path_factory):
    return tmp_path_factory.mktemp("hooks")


@pytest.mark.parametrize("module", ["dcsim.cli.application", "typer", "pydantic", "numpy", "ruamel.yaml", "numba", "pyarrow"])
def test_while_modules_are_imported(tmp_path, hooks, module):
    process = begin(("run", "64chip", *RULE, "--duration", "1 s"), tmp_path, hooks, module, 60)
    out, err = interrupt(process)
    assert (out, err) == ("", "interrupted; nothing was written\n")
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.5])
def test_in_the_middle_of_an_import(tmp_path, hooks, after_s):
    """Not before one: numba's takes half a second, much of it inside compiled modules."""
    process = begin(("run", "64chip", *RULE, "--duration", "1 s"), tmp_path, hooks, "numba")
    time.sleep(after_s)
    _, err = interrupt(process)
    if (left := everything_in(tmp_path)) == []:
        assert err == "interrupted; nothing was written\n"
    else:  # a fast machine had written the run, and says so
        assert re.fullmatch(r"interrupted; complete: runs/\w{12}\n", err), (err, left)
        assert open_run(tmp_path / err.split()[-1]).summary["requests_in"] >= 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_is_heeded_the_same_way(tmp_path, hooks, number):
    process = begin(("run", "64chip", *RULE), tmp_path, hooks, "numba", 60)
    _, err = interrupt(process, number=number)
    assert err == "interrupted; nothing was written\n"


@pytest.mark.parametrize(
    "words",
    [
        ("run", "64chip", *RULE, "--workload", "million", "--set", "workload.requests=20000000"),
        ("run", "64chip", *RULE, "--workload", "million", "--engine", "simpy"),
        ("repeat", "64chip", *RULE, "--workload", "day", "--duration", "20 h", "--seeds", "50"),
        pytest.param(
            ("capacity", "64chip", *RULE, "--workload", "day", "--set", "workload.duration=20 h"), marks=pytest.mark.slow
        ),
    ],
    ids=lambda words: " ".join(words[:1] + words[-1:]),
)
def test_while_requests_are_served(tmp_path, hooks, words):
    process = begin(words, tmp_path, hooks, "dcsim.workload.streams")
    time.sleep(3)
    assert process.poll() is None
    _, err = interrupt(process)
    one_line(err)
    assert everything_in(tmp_path) == []


@pytest.mark.slow
def test_while_a_run_waits_for_its_rows_to_be_written(tmp_path, hooks):
    """Half of a Parquet file is there already, and an older run of that name."""
    from command import dcsim

    assert dcsim("run", "64chip", *RULE, "--duration", "1 s", "--out", "r", cwd=tmp_path)[0] == 0
    before = everything_in(tmp_path)
    process = begin(("run", "64chip", *RULE, "--out", "r", "--duration", "2 s"), tmp_path, hooks, "pyarrow.parquet", 60)
    assert everything_in(tmp_path) != before
    interrupt(process)
    assert everything_in(tmp_path) == before


SWEEP = (
    "sweep",
    "64chip",
    *RULE,
    "--set",
    "workload=million",
    "--zoom",
    "run",
    "--set-range",
    "workload.requests=100,200,30000000",
)


def points_done(folder):
    """How many points of a sweep its journal holds."""
    return sum(len(path.read_text().splitlines()) for path in folder.glob("runs/sweeps/*"))


@pytest.mark.parametrize("jobs", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_a_sweep_keeps_the_rows_that_are_done(tmp_path, hooks, jobs):
    """As from a terminal, where workers get the signal too."""
    shown = ("--csv", "rows.csv", "--jobs", jobs, "--metric", "requests_in")
    process = begin((*SWEEP, *shown), tmp_path, hooks, "dcsim.study.sweep", group=True)
    deadline = time.monotonic() + 240
    while points_done(tmp_path) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert process.poll() is None
    out, err = interrupt(process, group=True)
    rows = [line.split() for line in out.splitlines()[1:]]
    assert rows == [["100", "100"], ["200", "200"]]
    assert one_line(err) == f"interrupted after {len(rows)} points; written: rows.csv"
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 1 + len(rows)
    *kept, journal = everything_in(tmp_path)
    assert kept == ["rows.csv", "runs", "runs/sweeps"]
    assert len((tmp_path / journal).read_text().splitlines()) == len(rows)


def test_workers_started_just_now(tmp_path, hooks):
    """They hear of no signal, not even while they are starting."""
    process = begin((*SWEEP, "--jobs", "2"), tmp_path, hooks, "multiprocessing.popen_spawn_posix", group=True)
    for _ in range(3):
        time.sleep(0.15)
        assert process.poll() is None
    _, err = interrupt(process, group=True)
    one_line(err)


@pytest.mark.slow
def test_validation_keeps_the_rows_that_are_done(tmp_path, hooks):
    process = begin(("validate",), tmp_path, hooks, "multiprocessing.popen_spawn_posix", group=True)
    time.sleep(8)
    _, err = interrupt(process, group=True)
    last = one_line(err, "computed", "133 of", "1")
    assert "runs/validate" in last
    assert not [name for name in everything_in(tmp_path) if ".dcsim-" in name]


@pytest.mark.slow
def test_the_dashboard_stops(tmp_path, hooks):
    from command import dcsim

    pytest.importorskip("dash")
    assert dcsim("run", "64chip", *RULE, "--duration", "1 s", "--out", "r", cwd=tmp_path)[0] == 0
    process = begin(("dashboard", "r", "--port", "0"), tmp_path, hooks, "waitress")
    time.sleep(2)
    _, err = interrupt(process)
    one_line(err, "dashboard on")


def test_a_signal_that_is_ignored_stays_so(tmp_path, hooks):
    """As under `nohup`, or in the background of a script."""
    (hooks / "sitecustomize.py").write_text(HOOK)
    process = subprocess.Popen(
        [sys.executable, "-m", "dcsim", "topology", "8rack"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(hooks), str(ROOT)]), "STOP_AT": "ruamel.yaml", "STOP_S": "1"}
        | {"STOPPED": str(hooks / "stopped")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    while not (hooks / "stopped").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "links" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("traffic", "--pattern", "all_to_all", "--endpoints", "1024", "--bytes", "1MiB"),
        ("compare", "8rack", *RULE, "--interconnect", "infiniband-ndr", "--replications", "3000"),
    ],
    ids=lambda words: words[0],
)
def test_inside_a_kernel_that_runs_for_long(tmp_path, hooks, words):
    """The interpreter waits for it: only the system and another thread can be asked."""
    process = begin(words, tmp_path, hooks, "dcsim.kernels.jit")
    for _ in range(60):
        time.sleep(0.5)
        assert process.poll() is None
    _, err = interrupt(process)
    one_line(err, "infiniband")
    assert everything_in(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [2.0, 5.0, 9.0])
def test_while_kernels_are_compiled(tmp_path, hooks, after_s):
    cold = str(tmp_path / "cache")
    process = begin(("run", "64chip", *RULE, "--duration", "1 s", "--out", "r"), tmp_path, hooks, "numba", NUMBA_CACHE_DIR=cold)
    time.sleep(after_s)
    assert process.poll() is None
    _, err = interrupt(process, within_s=5)
    one_line(err)
    assert not [name for name in everything_in(tmp_path) if not name.startswith("cache")]
