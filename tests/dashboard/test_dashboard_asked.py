"""What the forms ask is what the command lines beside their answers ask, and what the library gives."""

import json
import shlex

import pytest

pytest.importorskip("dash", reason="the dashboard extra is not installed")

from typer.testing import CliRunner

from dashboard.app import make_app
from dashboard.asked import plan_command, plan_of, sweep_command, sweep_of, systems_command
from dashboard.jobs import JobReport
from dashboard.pages import plan, sweep, systems
from dashboard.points import Points
from dashboard.state import address_of, read_state
from dashboard.worker import WORK


def asked_by(page, store, **query):
    """What a page asks for at an address."""
    with make_app(store).server.app_context():
        values, notices = read_state(page.CONTROLS, query)
        assert not notices
        return page.ask(values)


def typed(line):
    """Run a command line in this process."""
    from dcsim.cli.application import app

    result = CliRunner().invoke(app, shlex.split(line)[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"systems": "8rack,h100x16", "networks": "scheduled,infiniband-ndr", "minimise": "power", "seed": "3"},
        {"slo": "chat", "ttft_p99": "", "tpot_p99": "20 ms", "targets": "itl_p99=50ms,e2e_p50=30s", "llm": "llama-3-8b"},
        {"rate": "10/s..20/s", "max_power": "300 kW", "max_cost": "5 MUSD", "spare": "1rack", "settings": "slo.ttft=2 s"},
        {"workload": "day", "peak": "30 min", "sensitivity": "yes"},
    ],
)
def test_the_command_beside_a_plan_asks_the_same(tmp_path, monkeypatch, query):
    from dcsim.cli import planning

    heard = []
    monkeypatch.setattr(planning, "_size", lambda asked, *_: heard.append(asked))
    asked = asked_by(plan, tmp_path, **query)
    typed(plan_command(asked))
    assert heard == [plan_of(asked, tmp_path)]


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"zoom": "run", "rate": "5/s", "workload": "code", "replications": "3", "values": "slo.ttft=1 s,2 s"},
        {
            "design": "latin",
            "samples": "4",
            "values": "slo.ttft=1 s..9 s\nfabric.racks=8..10",
            "seed": "7",
            "network": "roce-400g",
        },
        {"batch": "8", "context": "512", "llm": "llama-3-8b", "settings": "mapping.tp=8\nmapping.pp=4", "topology": "64chip"},
    ],
)
def test_the_command_beside_a_sweep_asks_the_same(tmp_path, monkeypatch, query):
    from dcsim.cli import sweeping

    heard = []
    monkeypatch.setattr(sweeping, "_sweep", lambda asked, *_: heard.append(asked))
    asked = asked_by(sweep, tmp_path, **query)
    typed(sweep_command(asked))
    (found,) = heard
    case, design = sweep_of(asked, tmp_path)
    assert (found.case, found.replications) == (case, asked["replications"])
    assert found.design.settings() == design.settings()


def test_a_sweep_from_a_page_keeps_the_rows_that_the_library_gives(tmp_path):
    from dcsim.study.sweep import sweep as study

    asked = asked_by(
        sweep, tmp_path, topology="node", llm="llama-3-8b", values="mapping.tp=1,8,7000", settings="mapping.weights=int8"
    )
    (tmp_path / "job").mkdir()
    WORK["sweep"]({"name": "0" * 16, "asked": asked}, tmp_path, JobReport(tmp_path / "job", 1))
    found = Points(tmp_path / ".dashboard" / "points").find_picture("0" * 16)
    case, design = sweep_of(asked, tmp_path)
    assert found["rows"] == json.loads(json.dumps(study(case, design)))
    assert list((tmp_path / "sweeps").iterdir()), "points are kept as a sweep from the terminal keeps them"
    told = json.loads((tmp_path / "job" / "state.json").read_text())
    assert (told["done"], told["total"], len(told["live"])) == (3, 3, 3)


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"systems": "h100_sxm,8rack", "llms": "deepseek-r1,llama-3.1-70b", "networks": "scheduled,infiniband-ndr", "seed": "4"},
        {"users": "2,8", "prompt": "64", "output": "16", "llms": "", "settings": "slo.ttft=2 s\nslo.tpot=9 ms"},
    ],
)
def test_the_command_beside_systems_asks_the_same(tmp_path, monkeypatch, query):
    from dcsim.study import systems as study

    heard = []
    empty = {"llms": [], "systems": [], "rows": [], "assumes": [], "unused_keys": [], "prompt_tokens": 1, "output_tokens": 1}

    def hear(topologies, llms, *, progress, **asked):
        heard.append(([*topologies], [*llms], {name: tuple(v) if isinstance(v, list) else v for name, v in asked.items()}))
        return dict(empty)

    monkeypatch.setattr(study, "systems", hear)
    asked = asked_by(systems, tmp_path, **query)
    typed(systems_command(asked))
    WORK["systems"]({"name": "0" * 16, "asked": asked}, tmp_path, JobReport(tmp_path, 1))
    typed_one, worked = heard
    assert typed_one == worked
    assert Points(tmp_path / ".dashboard" / "points").find_picture("0" * 16)["command"] == systems_command(asked)


def test_a_view_s_address_gives_the_view(tmp_path):
    query = {"rate": "10/s", "systems": "8rack,1rack", "settings": "a=1\nb=<2>&c"}
    with make_app(tmp_path).server.test_request_context():
        from urllib.parse import parse_qsl

        values, notices = read_state(plan.CONTROLS, query)
        assert not notices
        link = address_of("/plan", plan.CONTROLS, values)
        assert read_state(plan.CONTROLS, dict(parse_qsl(link.partition("?")[2])))[0] == values
        assert address_of("/plan", plan.CONTROLS, read_state(plan.CONTROLS, {})[0]) == "/plan"


def test_what_is_not_in_the_store_is_not_saved(make_run, tmp_path):
    make_run(tmp_path / "secret")
    client = make_app(tmp_path / "runs").server.test_client()
    for name in ("0" * 16, "secret", "..%2Fsecret", "%2e%2e/secret", ""):
        for address in (f"/report/run/{name}.html", f"/report/plan/{name}.html", f"/answer/plan/{name}.json"):
            assert "Content-Disposition" not in client.get(address).headers, address


def test_a_run_is_saved_as_a_report(make_run, tmp_path):
    make_run(tmp_path / "one")
    answer = make_app(tmp_path).server.test_client().get("/report/run/one.html")
    assert answer.status_code == 200
    assert "attachment" in answer.headers["Content-Disposition"]
    assert "dcsim report: made-up" in answer.text
