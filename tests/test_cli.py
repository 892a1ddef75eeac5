"""The command line: answers on stdout, all else on stderr; mistakes get one clear message, exit 2, and leave nothing."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest
from command import dcsim, everything_in, start

from dcsim.results.records import TABLES
from dcsim.study.serve import ENGINE_KEYS, WHAT_RAN

# The keys that every summary promises.
KEYS = [
    "requests_in",
    "requests_finished",
    "requests_rejected",
    "requests_failed",
    "requests_in_flight",
    "ttft_s_p50",
    "ttft_s_p90",
    "ttft_s_p99",
    "tpot_s_p50",
    "tpot_s_p90",
    "tpot_s_p99",
    "itl_s_p99",
    "e2e_s_p50",
    "e2e_s_p99",
    "tokens_per_s_per_user_p50",
    "output_tokens_per_s",
    "goodput_requests_per_s",
    "concurrency_mean",
    "power_w_mean",
    "power_w_max",
    "energy_j_per_token",
    "limited_by",
    "digest",
    "seed",
    "schema_version",
]

EIGHTS = ("--set", "mapping.tp=8", "--set", "mapping.pp=8")

GOOD = """\
name: small
chip: lpu-v1
node: lpu-node
host: epyc-7313x2
network: scheduled
fabric:
  kind: lpu_dragonfly
  nodes: 1
llm: llama-2-7b
mapping:
  weights: int8
workload: chat
slo:
  ttft: 1 s
"""


@pytest.fixture
def main(tmp_path, monkeypatch, capsys):
    """Run the command line in this process from an empty folder; returns exit code, stdout and stderr."""
    from dcsim.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dcsim", *arguments])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """One short run from an empty folder: the folder, stdout, stderr."""
    folder = tmp_path_factory.mktemp("short")
    code, out, err = dcsim("run", "64chip", "--duration", "60 s", "--json", cwd=folder)
    assert code == 0, err
    return folder, out, err


def test_json_is_one_flat_object_with_every_promised_key(short_run):
    _, out, _ = short_run
    summary = json.loads(out)
    assert not set(KEYS) - set(summary)
    assert [key for key, value in summary.items() if isinstance(value, (dict, list))] == ["search", "unused_keys"]
    parts = ("finished", "rejected", "failed", "in_flight")
    assert summary["requests_in"] == sum(summary[f"requests_{part}"] for part in parts) > 0
    assert summary["seed"] == 1


def test_the_run_folder_holds_everything_and_stderr_names_it(short_run):
    folder, out, err = short_run
    run_folder = folder / err.strip().splitlines()[-1].removeprefix("run folder: ")
    assert run_folder.parent == folder / "runs"
    present = {path.name for path in run_folder.iterdir()}
    assert {"spec.json", "meta.json", "summary.json"} < present
    assert (
        {"requests.parquet", "power.parquet"}
        < present
        <= {"spec.json", "meta.json", "summary.json", *(f"{name}.parquet" for name in TABLES)}
    )
    printed, meta = json.loads(out), json.loads((run_folder / "meta.json").read_text())
    beside = {key: meta[key] for key in (*WHAT_RAN, *ENGINE_KEYS, "unused_keys")}
    whole = json.loads((run_folder / "summary.json").read_text()) | beside
    assert whole == {key: value for key, value in printed.items() if key != "version"}
    assert json.loads((run_folder / "spec.json").read_text())["workload"]["duration"] == 60
    assert everything_in(folder / "runs") == sorted([run_folder.name, *(f"{run_folder.name}/{n}" for n in present)])


def test_no_progress_bar_without_a_terminal(short_run):
    _, _, err = short_run
    assert "\x1b" not in err
    assert "serving" not in err


def test_the_table_names_the_limit_and_the_digest(main, tmp_path):
    code, out, err = main("run", "64chip", "--duration", "5 s", "--out", "here")
    assert code == 0
    summary = json.loads((tmp_path / "here/summary.json").read_text())
    assert summary["limited_by"] in out
    assert summary["digest"] in out
    assert "time to first token" in out
    assert err.splitlines()[-1] == "run folder: here"
    assert main("run", "64chip", "--duration", "5 s", "--out", "here")[0] == 0  # an older run is replaced


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  nodes: 1", "  nodez: 1", r"t\.yaml:8:3: fabric\.nodez: unknown key; did you mean 'nodes'\?"),
        ("ttft: 1 s", "ttft: 300", r"t\.yaml:14:3: slo\.ttft: needs a unit, for example '300 ns'"),
        ("ttft: 1 s", "ttft: 300 GB", r"t\.yaml:14:3: slo\.ttft: 'GB' is a unit of data"),
        ("ttft: 1 s", "ttft: -1 s", r"t\.yaml:14:3: slo\.ttft: input should be greater than 0"),
        ("llm: llama-2-7b", "chip: lpu-v1", r't\.yaml:9:1: duplicate key "chip"; remove one of them'),
        ("  nodes: 1", "  nodes: -1", r"t\.yaml:8:3: fabric\.nodes: input should be greater than or equal to 0, got -1"),
        ("chip: lpu-v1", "chip: lpu-v9", r"t\.yaml:2:1: no file .* 'lpu-v9' .* did you mean lpu-v1"),
        ("name: small", "name: [small", r"t\.yaml:\d+:\d+: not YAML: "),
        ("name: small", "name: !!python/object:os.system x", r"t\.yaml:1:1: name: neither text nor a number"),
        ("  weights: int8", "  tp: many", r"t\.yaml:11:3: mapping\.tp: input should be a valid integer or 'auto', got 'many'"),
        ("chip: lpu-v1", "chip: {base: lpu-v1, clock: 0}", r"t\.yaml:2:22: chip\.clock: input should be greater than 0"),
    ],
)
def test_a_mistake_in_a_file(main, tmp_path, old, new, message):
    assert old in GOOD
    (tmp_path / "t.yaml").write_text(GOOD.replace(old, new))
    code, out, err = main("run", "t.yaml")
    assert (code, out) == (2, "")
    assert re.fullmatch(f"error: {message}.*\n", err), err
    assert everything_in(tmp_path) == ["t.yaml"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "top level must be a mapping"),
        (b"- 1\n", "top level must be a mapping"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"just text", "top level must be a mapping"),
        (b"a: 1\n---\nb: 2\n", "not YAML"),
        (b"value: 3\nkind: spec\nsource: x\n", "a single figure"),
        (b"\t\n: :", "not YAML"),
    ],
)
def test_a_file_that_is_no_topology(main, tmp_path, content, message):
    (tmp_path / "t.yaml").write_bytes(content)
    code, out, err = main("run", "t.yaml")
    assert (code, out) == (2, "")
    assert re.match(r"error: t\.yaml", err)
    assert message in err
    assert len(err.splitlines()) == 1


def test_every_mistake_is_told_at_once_in_the_order_of_the_file(main, tmp_path):
    text = GOOD.replace("lpu-v1", "lpu-v9").replace("nodes: 1", "nodez: -1").replace("1 s", "1").replace("int8", "int9")
    (tmp_path / "t.yaml").write_text(text)
    code, _, err = main("run", "t.yaml", "--set", "serving.chunk_tokens=none", "--llm", "lama-2-7b")
    places = re.findall(r"^error: (t\.yaml:\d+:\d+|--llm|--set [^:]*): ", err, re.MULTILINE)
    assert code == 2
    assert places == ["--llm", "--set serving.chunk_tokens=none", "t.yaml:2:1", "t.yaml:8:3", "t.yaml:11:3", "t.yaml:14:3"]
    assert len(err.splitlines()) == len(places)


def test_missing_keys_come_in_one_order_in_every_process(tmp_path):
    (tmp_path / "t.yaml").write_text("name: ключ\n")
    told = {dcsim("run", "t.yaml", cwd=tmp_path, environment={"PYTHONHASHSEED": seed})[2] for seed in ("1", "2", "3")}
    assert len(told) == 1
    missing = re.findall(r"t\.yaml: (\w+): missing key", told.pop())
    assert missing == ["chip", "node", "host", "fabric", "network", "llm", "workload"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "Missing argument 'TOPOLOGY'"),
        (["run", "nosuch"], "no file and no library entry 'nosuch' in topologies; known: .*8rack"),
        (["run", "8rak"], "did you mean .*8rack"),
        (["run", ""], "no file and no library entry ''"),
        (["run", "."], "no file and no library entry"),
        (["run", "x" * 5000], "no file and no library entry"),
        (["run", "8rack", "--llm", "llama-2-7o"], "--llm: no file .* did you mean llama-2-7"),
        (["run", "8rack", "--interconnect", "h100"], "--interconnect: no file"),
        (["run", "8rack", "--workload", "."], "--workload: no file"),
        (["run", "8rack", "--set", "garbage"], "not of the form dotted.key=value"),
        (["run", "8rack", "--set", "=3"], "not of the form dotted.key=value"),
        (["run", "8rack", "--set", "mapping.tp=[1,"], "the value is not YAML"),
        (["run", "8rack", "--set", "mapping.tp="], "integer or 'auto', got None"),
        (["run", "8rack", "--set", "mapping.tpp=4"], "did you mean 'tp'"),
        (["run", "8rack", "--set", "a.b.c=4"], "a: unknown key"),
        (["run", "8rack", "--set", "mapping.tp=99999999999999999999"], "99999999999999999999 exceeds"),
        (["run", "8rack", "--set", "fabric.racks=1000"], "1000 groups need"),
        (["run", "8rack", "--set", "slo.ttft=1e400 s"], "too large a number"),
        (["run", "8rack", "--set", "workload.trace=nosuch.csv"], "no trace file 'nosuch.csv'; known: .*azure-2023-conv"),
        (["run", "8rack", "--rate-scale", "0"], "greater than 0"),
        (["run", "8rack", "--rate-scale", "-1"], "greater than 0"),
        (["run", "8rack", "--rate-scale", "inf"], "finite number"),
        (["run", "8rack", "--rate-scale", "nan"], "finite number|greater than 0"),
        (["run", "8rack", "--duration", "60"], "needs a unit, for example"),
        (["run", "8rack", "--duration", "-5 s"], "greater than or equal to 0"),
        (["run", "8rack", "--duration", "60 GB"], "'GB' is a unit of data"),
        (["run", "8rack", "--seed", "-1"], "--seed"),
        (["run", "8rack", "--nosuch"], "No such option: --nosuch"),
        (["run", "node", "--llm", "llama-2-70b"], "(?i)needs? .*(B|bytes|chips)"),
        (["iteration", "64chip", "--batch", "1000000000", *EIGHTS], "need KV room for .* tokens, there is"),
        (["nosuch"], "No such command 'nosuch'"),
        (["dashboard", "--port", "99999"], "--port: 99999 is no port; 0 to 65535"),
        (["dashboard", "--host", "no such host"], "--host: 'no such host' is no address of this machine"),
    ],
)
def test_a_mistake_on_the_command_line(main, tmp_path, arguments, message):
    code, out, err = main(*arguments)
    assert (code, out) == (2, "")
    assert re.search(message, err), err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert everything_in(tmp_path) == []


def test_a_broken_row_of_a_trace_is_named(main, tmp_path):
    (tmp_path / "bad.csv").write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.680590,374,44\n2023-11-16 18:15:47.680590,many,20\n"
    )
    code, out, err = main("run", "node", "--workload", "chat", "--set", "workload.trace=bad.csv")
    assert (code, out) == (2, "")
    assert re.search(r"bad\.csv.*(row|line) [23].*many", err), err
    assert everything_in(tmp_path) == ["bad.csv"]


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("file", "is a file; a run needs a folder"),
        ("full", "holds other files"),
        ("file/below", "cannot be written"),
        ("/proc/nosuch", "cannot be written"),
        (".", "current folder"),
        ("", "current folder"),
    ],
)
def test_an_output_folder_that_cannot_be_written(main, tmp_path, out, message):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    before = everything_in(tmp_path)
    if "current" in message:
        (tmp_path / "empty").mkdir()
        os.chdir(tmp_path / "empty")
        before = everything_in(tmp_path)
    code, stdout, err = main("run", "node", "--duration", "1 s", "--out", out)
    assert (code, stdout) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert everything_in(tmp_path) == before


def test_a_run_that_fails_leaves_no_runs_folder(main, tmp_path):
    assert main("run", "node", "--llm", "llama-2-70b")[0] == 2
    assert everything_in(tmp_path) == []


def test_where_nothing_waits_a_token_s_way_is_taken_apart(short_run, main):
    """The run's shares are those of the iteration it names, by the same parts where packets move."""
    folder, _, _ = short_run
    shares = json.loads(next((folder / "runs").glob("*/meta.json")).read_text())["token_fractions"]
    result = json.loads(main("iteration", "64chip", "--context", "512", "--json")[1])
    for part, seconds in result["breakdown_s"].items():
        assert shares[part] == pytest.approx(seconds / result["iteration_s"], rel=1e-6)
    assert sum(shares.values()) == pytest.approx(1)
    bare = ("--interconnect", "infiniband-ndr", "--set", "network.software=ideal")
    packets = json.loads(main("iteration", "64chip", *bare, "--json")[1])
    assert list(packets["breakdown_s"]) == list(result["breakdown_s"])
    assert sum(packets["breakdown_s"].values()) == pytest.approx(packets["iteration_s"])
    out = main("run", "64chip", "--duration", "2 s", *bare, "--set", "network.replications=20")[1]
    assert re.search(r"^one token's way +matrix \d\S* %, switch \S+ %, \w+ \S+ %, \w+ \S+ % *$", out, re.M)


def test_losses_say_why_and_classes_have_a_line_each(main, tmp_path):
    (tmp_path / "w.yaml").write_text(
        "kind: replay\ntrace: azure-2023-conv\nduration: 20 s\nrate_scale: 400\n"
        "classes: [{name: gold, share: 1, priority: 1}, {name: bronze, share: 3}]\n"
    )
    settings = ("--set", "serving.timeout=300 ms", "--set", "serving.queue_max=40", "--set", "llm.context_max=100000")
    code, out, _ = main("run", "64chip", "--workload", "w.yaml", *settings)
    assert code == 0
    table = {line.split()[0]: line.split() for line in out.splitlines() if line.split()}
    summary = json.loads(next((tmp_path / "runs").glob("*/summary.json")).read_text())
    for status, reason in (("failed", "timed out: not finished within 0.3 s"), ("rejected", "replica 0: queue of 40 full")):
        assert summary[f"requests_{status}"] > 0
        assert " ".join(table[status]) == f"{status} {summary[f'requests_{status}']:,}: {reason}"
    finished, came = (sum(int(table[name][i].replace(",", "")) for name in ("gold", "bronze")) for i in (1, 2))
    assert (finished, came) == (summary["requests_finished"], summary["requests_in"])


def test_reasons_that_differ_in_numbers_only_are_one(main):
    code, out, _ = main("run", "64chip", "--duration", "60 s", "--set", "serving.context_buckets=[1024]")
    assert code == 0
    assert re.search(r"^rejected +\d+, the first: context of \d+ tokens exceeds the largest compiled, 1024", out, re.M)


def _screen(master, until, seconds):
    """What appears on a terminal until `until` is seen."""
    seen, end = b"", time.monotonic() + seconds
    while until not in seen and time.monotonic() < end:
        try:
            seen += os.read(master, 4096)
        except OSError:
            break
    return seen


def _heed_interrupts():
    """A shell starts what runs in the background with Ctrl-C ignored, and the tests may run so."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_in_the_middle_leaves_nothing_and_the_bar_shows_on_a_terminal(tmp_path):
    master, terminal = pty.openpty()
    process = start(
        "run",
        "64chip",
        "--workload",
        "million",
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=terminal,
        environment={"TERM": "xterm", "COLUMNS": "120"},
        preexec_fn=_heed_interrupts,
    )
    os.close(terminal)
    seen = _screen(master, b"/1000000", 120)
    assert b"serving" in seen
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    seen = _screen(master, b"nothing was written", 10)
    os.close(master)
    assert process.returncode == 130
    assert b"interrupted" in seen
    assert b"Traceback" not in seen
    assert out == ""
    assert everything_in(tmp_path) == []


def _commands():
    import typer

    from dcsim.cli import app

    return sorted(typer.main.get_command(app).commands)


@pytest.mark.parametrize("command", _commands())
def test_every_command_has_help_with_an_example(main, command):
    code, out, err = main(command, "--help")
    assert (code, err) == (0, "")
    assert f"Example: dcsim {command} " in " ".join(out.split())
    assert len(out.split("\n\n")[1].strip()) > 20  # says what it does


def test_alone_it_lists_the_commands(main):
    code, out, err = main()
    assert (code, err) == (0, "")
    assert not [command for command in _commands() if command not in out]


def test_debug_shows_where_an_error_comes_from(tmp_path):
    code, _, err = dcsim("--debug", "run", "nosuch", cwd=tmp_path)
    assert code != 0
    assert "Traceback" in err


def test_a_reader_that_stops_early_is_no_error(tmp_path):
    process = start("--help", cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    err = process.stderr.read()
    process.wait(timeout=30)
    process.stderr.close()
    assert "Traceback" not in err


def test_init_copies_for_editing_and_never_overwrites(main, tmp_path):
    code, out, err = main("init", "mine")
    assert (code, out) == (0, "")
    assert "mine/topologies" in err
    assert (tmp_path / "mine/topologies/8rack.yaml").is_file()
    assert (tmp_path / "mine/workloads/traces/azure-2023-conv.csv.gz").is_file()
    before = everything_in(tmp_path)
    code, _, err = main("init", "mine")
    assert code == 2
    assert "is there already" in err
    assert everything_in(tmp_path) == before


def test_an_edited_copy_is_what_runs_in_its_folder(main, tmp_path):
    from dcsim.spec.load import load

    assert main("init", ".")[0] == 0
    chip = tmp_path / "topologies/chips/lpu-v1.yaml"
    chip.write_text(re.sub(r"clock: {value: \d+ MHz", "clock: {value: 450 MHz", chip.read_text()))
    assert load("8rack").spec.chip.clock_hz == 450e6
    assert load("topologies/8rack.yaml").spec.chip.clock_hz == 450e6
    os.chdir("/")
    assert load("8rack").spec.chip.clock_hz == 900e6


def test_a_shell_can_complete_commands(tmp_path):
    words = {"_DCSIM_COMPLETE": "complete_bash", "COMP_WORDS": "dcsim comp", "COMP_CWORD": "1"}
    code, out, err = dcsim(cwd=tmp_path, environment=words)
    assert (code, out.split()) == (0, ["compare"]), err


def test_help_takes_the_width_of_the_terminal(tmp_path):
    widths = {
        columns: max(map(len, dcsim("run", "--help", cwd=tmp_path, environment={"COLUMNS": str(columns)})[1].splitlines()))
        for columns in (60, 120)
    }
    assert 50 < widths[60] <= 60 < 100 < widths[120] <= 120


def test_schedule_says_how_far_it_is(tmp_path):
    code, _, err = dcsim("schedule", "node", "--set", "mapping.tp=1", "--set", "mapping.pp=8", cwd=tmp_path)
    begun = [line.split()[0] for line in err.splitlines() if not line.startswith("compiling dcsim")]
    assert (code, begun[:6]) == (0, ["compiling", "proving", "replaying", "replaying", "compiling", "finding"])
