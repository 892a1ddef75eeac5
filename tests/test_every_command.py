"""What holds for every command, walked over all of them: its JSON, its seed, and the keys that had no effect."""

import json
import sys

import explicit
import pytest
import typer

from dcsim.cli import app
from dcsim.errors import SpecError
from dcsim.results.metrics import SCHEMA_VERSION
from dcsim.spec.load import load

COMMANDS = typer.main.get_command(app).commands
FEW = ("--context", "128")

# A quick use of each command that reads a spec; `{}` is the topology.
SPEC = {
    "topology": ["{}"],
    "iteration": ["{}", *FEW],
    "power": ["{}", *FEW],
    "schedule": ["{}", *FEW],
    "collective": ["{}", "--ranks", "4"],
    "run": ["{}", "--duration", "2 s", "--out", "there"],
    "capacity": ["{}", "--set", "workload.requests=3"],
    "repeat": ["{}", "--duration", "2 s", "--seeds", "2"],
    "sweep": ["{}", *FEW, "--set-range", "mapping.all_reduce=direct,ring"],
    "plan": ["{}", *FEW, "--tokens-per-s", "100", "--tokens-per-s-per-user", "1"],
    "explain": ["{}", *FEW],
    "compare": ["{}", *FEW, "--interconnect", "scheduled"],
    "scale": ["{}", *FEW, "--interconnect", "scheduled", "--sizes", "8", "--llm", "bert-large"],
    "traffic": ["{}", "--interconnect", "infiniband-ndr", "--bytes", "1KiB"],
    "workload": ["speech"],
}
# Those that look at an LLM alone, at a saved run or at claims, or copy files.
OTHERS = {
    "llm": ["llama-2-70b"],
    "cost": ["there"],
    "export": ["there", "--out", "out.json"],
    "dashboard": ["there"],
    "validate": ["--only", "E3"],
    "init": ["copy"],
    "runs": ["."],
    "report": ["there"],
    "check": ["copy/topologies/node.yaml"],
}
OF_THE_MOMENT = {"seed", "unused_keys", "compile_s", "prove_s", "replay_s", "wall_s", "packet_hops_per_wall_s"}


@pytest.fixture
def ask(tmp_path, monkeypatch, capsys):
    """Run a command in this process from an empty folder; returns what it says as JSON, and its stderr."""
    from dcsim.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dcsim", *arguments, "--json"])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        assert code == 0, err
        return json.loads(out), err

    return run


@pytest.fixture(scope="module")
def spec():
    """One node of eight chips that serves a few requests of a small LLM."""
    return load("node", llm="bert-large", workload="speech", settings=["mapping.tp=2", "mapping.pp=4"]).spec


def used(command, topology):
    return [command, *(text.format(topology) for text in SPEC[command])]


def test_the_walk_is_over_all_commands():
    assert {*SPEC, *OTHERS} == set(COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_takes_a_seed_and_gives_json(command):
    options = {name for parameter in COMMANDS[command].params for name in parameter.opts}
    assert {"--seed", "--json"} <= options


def says_what_all_say(said, seed):
    assert (said["seed"], said["schema_version"]) == (seed, SCHEMA_VERSION)
    assert said["version"].count(".") == 2
    assert isinstance(said["unused_keys"], list)


@pytest.mark.parametrize("command", SPEC)
def test_json_says_version_schema_and_seed_and_a_key_without_effect_is_named(command, ask, spec, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(explicit.text(spec))
    # Nothing asks for the price of a host server's brand: `name` apart, an unused key of each command.
    key = "chip.memory" if command == "workload" else "faults.repair"
    setting = "chip.memory=1 GB" if command == "workload" else "faults.repair=3 h"
    said, err = ask(*used(command, path), "--set", setting, "--seed", "3")
    says_what_all_say(said, 3)
    assert key in said["unused_keys"]
    assert f"no effect: --set {setting}" in err


def test_commands_on_saved_runs_say_the_same(ask, monkeypatch, tmp_path):
    ask(*used("run", "node"), "--llm", "bert-large", "--workload", "speech", "--seed", "3")
    monkeypatch.setattr("waitress.create_server", lambda *_, **__: type("Server", (), {"run": lambda _: None})())
    for command, arguments in OTHERS.items():
        said, _ = ask(command, *arguments, "--seed", "3")
        says_what_all_say(said, 3)
    assert (tmp_path / "copy/topologies/node.yaml").is_file()
    assert "--seed" in ask("init", "again", "--seed", "2")[0]["unused_keys"]  # nothing there is random


def test_a_saved_run_of_another_seed_is_refused(ask):
    ask(*used("run", "node"), "--llm", "bert-large", "--workload", "speech")
    for command in ("cost", "export", "dashboard"):
        with pytest.raises(AssertionError, match="has seed 1; name another run folder"):
            ask(command, *OTHERS[command], "--seed", "9")


def changed(tree, keys):
    """`tree` with each number at or below the keys made larger and each switch turned, as far as the spec still holds."""
    for key in [key for key, _ in explicit.leaves(tree) if any(key == one or key.startswith(f"{one}.") for one in keys)]:
        other = json.loads(json.dumps(tree))
        *above, last = key.split(".")
        node = other
        for part in above:
            node = node[part]
        node[last] = _another(node[last])
        if other != tree and holds(other):
            tree = other
    return tree


def _another(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1 if isinstance(value, int) else value * 1.25
    if isinstance(value, str) and value[:1].isdigit():
        number, _, unit = value.partition(" ")
        return f"{(float(number) or 1.0) * 1.25} {unit}"
    return value


def holds(tree):
    from dcsim.spec.check import check
    from dcsim.spec.document import Document
    from dcsim.spec.topology import Topology

    try:
        check(Document(tree), [], Topology)
    except SpecError:
        return False
    return True


@pytest.mark.parametrize("command", [command for command in SPEC if command != "workload"])  # which reads no topology
def test_what_is_said_to_have_no_effect_has_none(command, ask, spec, tmp_path):
    """Every key is written out; those named are changed, all at once, and the answer stays as it was."""
    path = tmp_path / "small.yaml"
    path.write_text(explicit.text(spec))
    said, _ = ask(*used(command, path))
    tree = json.loads(explicit.text(spec))
    other = changed(tree, said["unused_keys"])
    count = sum(a != b for a, b in zip(explicit.leaves(tree), explicit.leaves(other), strict=True))
    assert count >= 1, "nothing was changed"
    path.write_text(json.dumps(other))
    again, _ = ask(*used(command, path))
    assert {k: v for k, v in again.items() if k not in OF_THE_MOMENT} == {k: v for k, v in said.items() if k not in OF_THE_MOMENT}
    assert again["unused_keys"] == said["unused_keys"]
