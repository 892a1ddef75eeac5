"""The study object in Python: what it takes, gives and says, without a trace on disk."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dcsim
from dcsim.errors import RunStoreError, SpecError
from dcsim.study.in_python import in_words

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scenario():
    return dcsim.load("64chip", workload="glimpse", set={"mapping": {"tp": 8, "pp": 8}})


@pytest.fixture(scope="module")
def run(scenario):
    return scenario.run(seed=1)


def test_with_changes_a_copy_and_the_last_of_a_key_counts(scenario):
    other = scenario.with_({"slo.ttft": "2 s"}, rate="50/s").with_({"slo": {"ttft": 3}})
    assert (scenario.spec.slo.ttft_s, other.spec.slo.ttft_s) == (1.0, 3.0)
    assert other.asked.rate == "50/s"
    assert scenario.with_() == scenario


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("slo.ttft", 2, "2 s"),
        ("slo.ttft", np.float64(0.25), "0.25 s"),
        ("power.rack_cap", 90e3, "90 kW"),
        ("network.prices.rack", 10_000, "10 kUSD"),
        ("chip.clock", 9e8, "900 MHz"),
        ("fabric.racks", np.int64(2), "2"),
        ("serving.batch_buckets", [1, 2], "[1, 2]"),
    ],
)
def test_plain_numbers_are_taken_where_their_unit_is_clear(key, value, text):
    one = dcsim.load("8rack").with_({key: value})
    assert one.spec == dcsim.load("8rack", set=[f"{key}={text}"]).spec


def test_a_number_whose_unit_nobody_can_tell_is_asked_for_it(scenario):
    for key in ("chip.memory", "chip.memory_bandwidth"):
        with pytest.raises(SpecError, match=r"needs a unit|unknown key"):
            scenario.with_({key: 5})


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda one: one.with_({"fabric.rack": 12}), r"with_\(\{'fabric.rack': 12\}\): fabric.rack: unknown key; did you mean"),
        (lambda one: one.with_({"slo.ttft": "5 lightyears"}), r"with_\(\{'slo.ttft': '5 lightyears'\}\): "),
        (lambda one: one.with_(fabrc={"racks": 1}), r"did you mean fabric=\?"),
        (lambda one: one.with_(llm="lama-3-8b"), r"^llm=: no file .* did you mean llama-3-8b"),
        (lambda one: one.with_(rate="many"), "^rate=: .*rate='30/s'"),
        (lambda one: one.with_({"slo": {}}), "sets nothing"),
        (lambda one: one.with_({"slo.ttft": object()}), "no value that a file could hold"),
        (lambda one: one.with_({"mapping.replicas": 3}).run(zoom="chips"), "chips that would do"),
        (lambda one: dcsim.load("8rac"), r"^load\(\): no file"),
        (lambda one: dcsim.load("8rack", rate="1/s", rate_scale=2), "rate="),
        (lambda one: dcsim.load("dgx-h100").run(zoom="chips"), "use zoom='service'"),
    ],
)
def test_errors_speak_python(scenario, ask, words):
    with pytest.raises(dcsim.DcsimError, match=words) as told:
        ask(scenario)
    assert "--" not in str(told.value)


def test_options_become_arguments_in_any_text():
    assert in_words("use --set mapping.replicas=1") == "use with_({'mapping.replicas': 1})"
    assert (
        in_words("name one, for example --interconnect infiniband-ndr") == "name one, for example interconnect='infiniband-ndr'"
    )
    assert in_words("a -- b and 3--4") == "a -- b and 3--4"


def test_nothing_touches_the_disk_unless_asked(scenario, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = scenario.run()
    scenario.iteration(), scenario.mapping(), found.cost(), found.plot.ttft()
    assert not list(tmp_path.iterdir())


def test_results_are_typed_tables_and_cards(scenario, run):
    for table in (run.requests, run.links, run.chips, run.power, run.limits, run.bottlenecks()):
        assert isinstance(table, pd.DataFrame)
        assert len(table)
    assert run.bottlenecks()["fraction"].sum() == pytest.approx(1)
    assert run.bottlenecks()["resource"][0] == run.summary["limited_by"]
    assert len(run.chips) == 64
    assert run.links["busy_fraction"].max() < 1
    answers = [scenario, run, scenario.iteration(), scenario.mapping(), run.cost()]
    for answer in answers:
        card = answer._repr_html_()
        assert card.startswith("<div")
        assert len(card) < 3000


def test_chips_and_links_are_busy_as_the_iteration_says(scenario, run):
    one = scenario.iteration(batch=1, context=128)
    assert one.breakdown["time_s"].sum() == pytest.approx(one.iteration_s)
    assert one.breakdown["fraction"].sum() == pytest.approx(1)
    assert (run.chips["replica"] == 0).all()
    assert run.chips["busy_fraction"].between(0, 1).all()
    assert sorted(run.chips["stage"].value_counts()) == [8] * 8
    used = run.links[run.links["busy_s"] > 0]
    assert set(used["source"]) | set(used["target"]) <= set(range(64))


def test_what_is_kept_over_time_adds_up_to_the_whole_run(run):
    over_time = run.limits_over_time.groupby("resource")["request_s"].sum()
    whole = run.limits.set_index("resource")["request_s"]
    assert over_time.to_dict() == pytest.approx(whole[whole > 0].to_dict())
    assert over_time.idxmax() == run.summary["limited_by"]
    # A lone link is busy as often as the programs that ran say.
    from dcsim.llm.program import Shape

    machine, _ = run._machine
    busiest_s = 0.0
    for shape, rows in run.programs.groupby(["batch", "context", "new_tokens"]):
        busiest_s = busiest_s + rows["iterations"].sum() * machine.network.link_busy_s(Shape(*shape))
    links = run.links_over_time
    assert (links["use_fraction_mean"] <= links["use_fraction_max"]).all()
    assert links["use_fraction_max"].between(0, 1).all()
    carried_s = (links["use_fraction_max"] * links["interval_s"]).groupby(links["link_class"]).sum().max()
    assert carried_s == pytest.approx(busiest_s.max(), rel=0.1)  # the busiest link of each interval may be another


def test_a_run_that_kept_sums_alone_says_how_to_have_them_over_time(scenario):
    run = scenario.with_({"engine": "compiled"}).run()
    with pytest.raises(RunStoreError, match=r"keeps no programs.*--engine simpy"):
        _ = run.links_over_time
    assert run.limits["request_s"].sum() > 0


PLOTS = ["ttft", "links", "links_over_time", "power", "load", "limits", "limits_over_time", "waterfall", "topology"]


@pytest.mark.parametrize("name", PLOTS)
def test_pictures_are_returned(run, name):
    from plotly.graph_objects import Figure

    figure = getattr(run.plot, name)()
    assert isinstance(figure, Figure)
    assert len(figure.data)


def test_a_run_is_what_the_command_line_runs(scenario, run):
    from dcsim.study.scenario import load

    same = load("64chip", workload="glimpse", set=["mapping.tp=8", "mapping.pp=8"]).run(1)
    assert same.summary == run.summary


def test_scenario_and_run_go_through_pickle(scenario, run):
    assert pickle.loads(pickle.dumps(scenario)).run(1).summary == run.summary
    assert pickle.loads(pickle.dumps(run)).requests.equals(run.requests)


def test_a_comparison_is_the_commands(scenario):
    found = scenario.compare(["scheduled", "infiniband-ndr"], context=256)
    assert found.candidates["interconnect"][0] == "scheduled"
    assert found.candidates["iteration_s_mean"].gt(0).all()


SCRIPT = """
import pandas as pd
import dcsim

scenario: dcsim.Scenario = dcsim.load("64chip").with_({"fabric.nodes": 8}, rate="20/s")
run: dcsim.Run = scenario.run(seed=2)
tables: list[pd.DataFrame] = [run.requests, run.links, run.chips, run.power, run.limits, run.bottlenecks()]
seconds: float = scenario.iteration().iteration_s
capacity: dcsim.CapacityAnswer = scenario.capacity()
most: float = capacity.capacity_requests_per_s
mapping: dcsim.MappingAnswer = scenario.mapping()
cost: dcsim.CostAnswer = scenario.cost()
picture = run.plot.ttft()
again: dcsim.Run = dcsim.open_run("runs/1")
rows: pd.DataFrame = dcsim.compare(scenario, ["scheduled"]).candidates
swept: pd.DataFrame = dcsim.sweep(scenario, {"fabric.nodes": [8, 9]}, replications=2).means
plan: dcsim.PlanAnswer = dcsim.plan(scenario, rate="50/s", slo={"ttft_p99": 1})
system: dcsim.PlannedSystem | None = plan.answer
with dcsim.store("runs") as store:
    kept: pd.DataFrame = store.runs
reveal_type(run.requests)
reveal_type(scenario.iteration().iteration_s)
wrong: int = run.requests
"""


def test_a_users_script_is_typed_through_and_through(tmp_path):
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    words = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "--config-file=", str(script)]
    said = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path).stdout
    own = [line for line in said.splitlines() if line.startswith(("script.py", str(script)))]
    assert any("pandas.core.frame.DataFrame" in line for line in own), said
    assert any('"float"' in line or "builtins.float" in line for line in own), said
    errors = [line for line in own if ": error:" in line]
    assert len(errors) == 1, said
    assert "Incompatible types in assignment" in errors[0]
