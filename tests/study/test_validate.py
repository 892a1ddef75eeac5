"""Claims: the rule that judges them, rows that run, names that change nothing, results that are kept."""

import inspect
import math
from dataclasses import replace
from pathlib import Path

import by_rule
import pytest
from typer.testing import CliRunner

from dcsim import library
from dcsim.errors import SpecError
from dcsim.spec.load import load
from dcsim.spec.ranges import ranged_figures
from dcsim.study.machine import build
from validation import arithmetic, measures, page, table
from validation.claims import COMMANDS, Claim, read_changes, read_claims
from validation.judge import MEASURED_FACTOR, holds, ln_error, ratio_of, verdict

CLAIMS = {claim.id: claim for claim in read_claims()}
ROOT = Path(__file__).resolve().parents[2]

# Rows of more than a second or two each: whole fleets, gigabytes of packets, traffic. `make validate` computes them all.
LONG = {
    "C1.2",
    "P15",
    "P15.1",
    "P15.2",
    "P16",
    "P20",
    "P21",
    "P22",
    "P23",
    "P24",
    "P25",
    "P26",
    "P27",
    "P28",
    "P29",
    "P30",
    "P31",
    "P32",
    "P15.3",
    "C6.2",
    "V4.2",
    "V4.3",
    "V5.1",
    "E5.4",
    "E5.5",
    "E5.6",
    "C2.2",
    "C4.1",
    "P2",
    "P6",
    "C7.1",
    "E6",
    "P3",
    "P5",
    "P7",
    "V4",
    "V5",
    "V8",
    "V8.1",
    "V8.2",
}


@pytest.mark.parametrize(
    ("value", "published", "ratio"),
    [
        (3.0, (2.0, 2.0), 1.5),
        (1.0, (2.0, 2.0), 0.5),
        (5.0, (4.0, 6.0), 1.0),
        (9.0, (4.0, 6.0), 1.5),
        (2.0, (4.0, 6.0), 0.5),
        (1e9, (1.0, math.inf), 1.0),
        (0.0, (0.0, 0.0), 1.0),
        (1.0, (0.0, 0.0), math.inf),
    ],
)
def test_ratio_is_over_the_value_or_the_nearest_end_of_the_range(value, published, ratio):
    assert ratio_of(value, published) == pytest.approx(ratio)


def test_a_value_holds_within_a_factor_and_a_structure_only_exactly():
    assert holds("prediction", 1.5)
    assert holds("prediction", 1 / 1.5)
    assert not holds("prediction", 1.51)
    assert not holds("arithmetic", 0.66)
    assert holds("prediction", 1.2, factor=MEASURED_FACTOR)
    assert not holds("prediction", 1.26, factor=MEASURED_FACTOR)
    assert holds("structure", 1.0)
    assert not holds("structure", 1.001)


def test_an_argued_bound_holds_or_not_but_a_measured_range_within_a_factor():
    assert not holds("arithmetic", 0.95, is_point=False)
    assert holds("arithmetic", 1.0, is_point=False)
    assert holds("prediction", 0.95, is_point=False)
    assert verdict("arithmetic", 1.0, {"a": (1.0, 0.99)}, is_point=False) == ("depends on: a", ["a"])


def test_verdict_depends_on_what_would_turn_it_and_on_nothing_else():
    assert verdict("prediction", 1.4, {}) == ("reproduced", [])
    assert verdict("prediction", 1.6, {}) == ("contradicted", [])
    steady, turning = {"a": (1.3, 1.49)}, {"a": (1.3, 1.49), "b": (1.0, 1.7)}
    assert verdict("prediction", 1.4, steady) == ("reproduced", [])
    assert verdict("prediction", 1.4, turning) == ("depends on: b", ["b"])
    assert verdict("prediction", 1.6, {"c": (1.2, 2.0)})[1] == ["c"]  # a contradiction may turn too


def test_errors_over_predictions_count_each_value_once():
    def row(name, kind, ratio, is_point=True, same_as=""):
        return {
            "id": name,
            "kind": kind,
            "ratio": ratio,
            "ln_error": ln_error(ratio),
            "is_point": is_point,
            "same_as": same_as,
            "verdict": "reproduced",
        }

    rows = [
        row("a", "prediction", 2.0),
        row("b", "prediction", 0.25),
        row("c", "calibration", 9.0),
        row("d", "prediction", 1.0, is_point=False),
        row("e", "prediction", 9.0, same_as="a"),
    ]
    result = table.summary(rows)
    assert result["prediction_count"] == 2
    assert result["prediction_ln_error_mean"] == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert (result["prediction_ratio_worst"], result["prediction_worst_id"]) == (0.25, "b")
    assert table.summary([])["prediction_ln_error_mean"] is None


def test_every_seed_claim_has_a_row():
    named = [f"{letter}{i}" for letter, count in (("E", 6), ("C", 9), ("S", 3), ("V", 8)) for i in range(1, count + 1)]
    assert set(named) <= set(CLAIMS)
    assert list(CLAIMS)[:4] == ["C1", "C1.1", "C1.2", "C1.3"]  # in order
    assert {"L", "P"} <= {name[0] for name in CLAIMS}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_every_row_names_a_function_and_fits_its_arguments(claim):
    function = table.ROWS[claim.run]
    bound = inspect.signature(function).bind(**claim.arguments)
    assert len(claim.source) > 10
    assert claim.claim
    if claim.run in COMMANDS:  # what the command cannot say must not move the value
        said = {"topology", "metric", "over", "also", *(option.replace("-", "_") for option in COMMANDS[claim.run][1])}
        assert set(bound.arguments) <= said, claim.command


@pytest.mark.parametrize("name", [name for name in CLAIMS if name not in LONG])
def test_every_short_row_runs_and_structures_are_exact(name):
    claim = CLAIMS[name]
    answer = table.ROWS[claim.run](**claim.arguments)
    assert math.isfinite(answer.value)
    if claim.kind == "structure":
        assert ratio_of(answer.value, claim.published) == pytest.approx(1.0, rel=1e-9)


def test_long_rows_exist():
    assert set(CLAIMS) >= LONG


def test_a_command_pasted_gives_the_row_its_value():
    from dcsim.cli import app

    claim = CLAIMS["E1"]
    words = claim.command.split()
    assert words[0] == "dcsim"
    assert words[-1] == "--json"
    printed = CliRunner().invoke(app, words[1:])
    import json

    assert json.loads(printed.stdout)[claim.arguments["metric"]] == table.ROWS[claim.run](**claim.arguments).value


def _copy(text, folder, name):
    path = folder / f"{name}.yaml"
    path.write_text("\n".join(f"name: {name}" if line.startswith("name:") else line for line in text.splitlines()) + "\n")
    return path


@pytest.mark.parametrize("topology", ["64chip", "dgx-a100", "a100x16", "rtx-4090x8"])
def test_renaming_llm_chip_network_and_topology_changes_no_number(topology, tmp_path):
    spec = load(topology).spec
    text = library.find(topology, "topologies").read_text()
    for key, folder in (("chip", "topologies/chips"), ("llm", "workloads/llms")):
        name = next(line.split(":")[1].strip() for line in text.splitlines() if line.startswith(f"{key}:"))
        entry = _copy(library.find(name, folder).read_text(), tmp_path, f"renamed-{key}")
        text = text.replace(f"\n{key}: {name}\n", f"\n{key}: {entry}\n")
    renamed = load(_copy(text, tmp_path, "nothing-you-know")).spec
    assert renamed.chip.name == "renamed-chip"
    assert renamed.llm.name == "renamed-llm"
    assert renamed.name != spec.name
    settings = ["network.replications=2"] if spec.network.kind == "packet" else []
    before = measures.iteration(topology, "iteration_s", context=512, set=settings, also=("energy_j", "kv_tokens", "tp"))
    after = measures.iteration(
        str(tmp_path / "nothing-you-know.yaml"), "iteration_s", context=512, set=settings, also=("energy_j", "kv_tokens", "tp")
    )
    assert (after.value, after.also) == (before.value, before.also)


def test_moving_a_figure_to_the_ends_of_its_range_moves_only_what_was_read():
    resolved = by_rule.load("64chip")  # a search reads what it serves with, too
    assert ranged_figures(resolved) == {}  # nothing has been read yet
    machine = build(resolved.spec)
    from dcsim.llm.program import Shape

    machine.time(Shape(1, 512))
    ends = ranged_figures(resolved)
    assert ends["network.link_cycles"] == ("network.link_cycles=209", "network.link_cycles=228")
    assert ends["network.bandwidth"] == ("network.bandwidth=12.5 GB/s", "network.bandwidth=15 GB/s")
    assert not any(name.startswith(("chip.price", "host")) for name in ends)
    for pair in ends.values():
        for setting in pair:
            load("64chip", settings=[setting])


def test_duty_cycle_and_rates_follow_their_formulas():
    assert arithmetic.cycles_between_uses(1e9, 200).value == 5e6
    assert arithmetic.cycles_between_uses(2e9, 200).value == 1e7
    whole = arithmetic.processed_per_chip(74e12, 175e9).value
    part = arithmetic.generated_per_chip(74e12, 175e9, 512, 50).value
    assert part / whole == pytest.approx(50 / 562)
    assert arithmetic.context_bytes_per_token("8rack").value == 2 * 80 * 8 * 128 * 2


def test_a_batch_of_one_prompt_and_one_token_is_its_reading_alone():
    job = measures.batch_job("64chip", "job_s", batch=1, prompt=128, output=1, also=("prefill_s",))
    one = measures.iteration("64chip", "iteration_s", prefill=128, context=128)
    assert job.value == job.also["prefill_s"] == pytest.approx(one.value, rel=1e-12)
    longer = measures.batch_job("64chip", "job_s", batch=1, prompt=128, output=3, also=("token_s",))
    assert longer.value == pytest.approx(job.value + 2 * longer.also["token_s"])


def test_a_host_in_front_of_a_batch_job_adds_its_work_and_the_bus():
    settings = ["host.request=3 ms", "host.tokenise_token=10 us", "host.detokenise_token=0", "host.bus=5 us"]
    alone, behind = (
        measures.batch_job("64chip", "job_s", batch=1, prompt=128, output=2, host=host, set=settings, also=("host_s",))
        for host in (False, True)
    )
    assert alone.also["host_s"] == 0
    assert behind.value - alone.value == pytest.approx(behind.also["host_s"]) == pytest.approx(3e-3 + 1.28e-3 + 10e-6, rel=1e-4)


def test_rows_are_kept_and_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = table.validate(["C3"])
    assert [row["id"] for row in first["rows"]] == ["C3", "C3.1"]

    def broken(**_):
        raise AssertionError("computed again")

    monkeypatch.setitem(table.ROWS, "rented_usd_per_ktoken", broken)
    monkeypatch.setitem(table.ROWS, "restated_gain", broken)
    assert table.validate(["C3"]) == first
    with pytest.raises(AssertionError, match="computed again"):
        table.validate(["C3"], stored=False)
    monkeypatch.setattr(table.store, "version", lambda: "another version")
    with pytest.raises(AssertionError, match="computed again"):
        table.validate(["C3"])


def test_unknown_and_malformed_rows_are_named(tmp_path):
    with pytest.raises(SpecError, match="no row 'Z9'"):
        table.validate(["Z9"])
    (tmp_path / "bad.yaml").write_text("rows:\n- {id: X1, kind: guess}\n")
    with pytest.raises(SpecError, match="unknown kind 'guess'"):
        read_claims(tmp_path)


def test_changes_of_frozen_choices_show_both_errors():
    for change in read_changes():
        assert change["why"]
        assert change["row"] in CLAIMS
        assert change["ln_error_after"] == pytest.approx(math.log(change["after"] / change["published"]))


def test_text_page_and_picture_hold_every_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = table.validate(["S2", "L4", "L9", "L14"])
    text, markdown, picture = page.table(result), page.page(result), page.picture(result)
    for row in result["rows"]:
        assert row["id"] in text
        assert f"| {row['id']} |" in markdown
        assert row["command"] in markdown
    assert picture.count("<circle") == 1  # one prediction of one value among them
    from xml.etree import ElementTree

    ElementTree.fromstring(picture)


def test_the_written_page_holds_all_rows():
    written = (ROOT / "docs/VALIDATION.md").read_text()
    assert [name for name in CLAIMS if f"| {name} |" not in written] == []


def test_open_ranges_are_written_as_bounds():
    claim = Claim("X1", "c", "s", "arithmetic", (2.0, math.inf), "x", "iteration", {"topology": "64chip"})
    row = {**table.described(claim), "simulated": 3.0, "ratio": 1.0}
    assert row["published"] == [2.0, None]
    assert page.published(row) == "at least 2"


def test_larger_packets_change_a_batch_job_little():
    """Packets taken together, headers with them, so that long prompts are cheap: the stated economy of some rows."""
    shared = ["mapping.tp=2", "mapping.pp=1", "network.replications=1", "network.buffer=64 MiB"]
    small, large = (
        measures.batch_job("dgx-a100", "job_s", batch=32, prompt=128, output=4, llm="llama-2-7b", set=[*shared, *packets]).value
        for packets in (["network.mtu=16 KiB", "network.header=1 KiB"], ["network.mtu=1 MiB", "network.header=64 KiB"])
    )
    assert large == pytest.approx(small, rel=0.01)


def test_a_choice_the_source_leaves_open_decides_a_verdict():
    claim = replace(CLAIMS["E2.2"], published=(700.0, 700.0), unstated={"mapping.weights": ("int8", "fp16")}, ranges=())
    row = table.compute(claim)
    assert row["depends_on"] == ["mapping.weights"]
    assert row["ranges"]["mapping.weights"][1] > 1.9 * row["ranges"]["mapping.weights"][0]
