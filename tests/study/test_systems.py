"""Several systems that serve the same LLMs: what a load is, which are best, how chips are laid out, and what is refused."""

import json

import pytest
from command import dcsim

from dcsim.errors import SpecError
from dcsim.spec.load import load
from dcsim.study import scenario
from dcsim.study.systems import ENGINE, ROUNDS, UserLoad, layouts, load_of, systems
from validation.measured import known

SHORT = UserLoad(64, 16, (1, 4))
CLOSED = """\
name: closed
kind: closed
users: {users}
think: 0 s
requests: {requests}
requests_per_user: 30
lengths:
  kind: uniform
  prompt_tokens: {{min: 51, max: 64}}
  output_tokens: {{min: 13, max: 16}}
"""


@pytest.fixture(scope="module")
def answer():
    return systems(["h200_sxm", "h100_sxm"], ["llama-3.1-8b", "deepseek-r1"], asked=SHORT)


def test_a_load_is_what_dcsim_run_says_of_the_same_users(answer, tmp_path):
    row = next(row for row in answer["rows"] if (row["topology"], row["tp"], row["users"]) == ("h200_sxm", 8, 4))
    workload = tmp_path / "closed.yaml"
    workload.write_text(CLOSED.format(users=4, requests=4 * ROUNDS))
    settings = ["mapping.tp=8", "mapping.pp=1", f"serving.engine={ENGINE}", "serving.sequences_max=4"]
    summary = scenario.load("h200_sxm", llm="llama-3.1-8b", workload=str(workload), set=settings).run().summary
    assert row["tokens_per_s"] == summary["output_tokens_per_s"]
    assert row["tokens_per_s_per_user"] == summary["tokens_per_s_per_user_p50"]
    assert row["j_per_mtoken"] == summary["energy_j_per_token"] * 1e6


def test_no_best_load_is_beaten_by_another_of_its_system_and_every_other_is(answer):
    rows = [row for row in answer["rows"] if (row["llm"], row["topology"]) == ("Llama-3.1-8B", "h200_sxm")]

    def beaten(one):
        return any(
            other is not one
            and other["tokens_per_s_per_user"] >= one["tokens_per_s_per_user"]
            and other["usd_per_mtoken"] <= one["usd_per_mtoken"]
            for other in rows
        )

    assert len(rows) > 2
    assert [row["best"] for row in rows] == [not beaten(row) for row in rows]


def test_what_cannot_hold_an_llm_says_so_and_the_others_are_served(answer):
    reasons = {(head["llm"], head["topology"]): head["reason"] for head in answer["systems"]}
    assert "DeepSeek-R1 needs" in reasons["DeepSeek-R1", "h100_sxm"]
    assert reasons["DeepSeek-R1", "h200_sxm"] is reasons["Llama-3.1-8B", "h100_sxm"] is None


def test_layouts_hold_the_llm_and_fill_the_chips():
    spec = load("gb200", llm="deepseek-r1").spec
    ways = [dict(setting.removeprefix("mapping.").split("=") for setting in way) for way in layouts(spec)]
    widths = [int(way["tp"]) for way in ways]
    assert min(widths) * spec.chip.memory_bytes > 671e9 > min(widths) / 2 * spec.chip.memory_bytes
    assert max(widths) <= 72
    assert any("ep" in way for way in ways)
    dense = [setting for way in layouts(load("gb200").spec) for setting in way]
    assert dense
    assert not any(setting.startswith("mapping.ep") for setting in dense), "no experts to spread"
    assert layouts(spec, ["mapping.tp=8"]) == layouts(load("8rack").spec) == [[]], "degrees that are given, or follow from a rule"


def test_a_longest_request_that_no_layout_holds_is_a_reason():
    answer = systems(["node"], ["llama-3-8b"], asked=UserLoad(4096, 4096, (1,)))
    assert answer["rows"] == []
    assert answer["systems"][0]["reason"]


def test_the_page_has_a_line_for_what_serves_and_a_reason_for_what_cannot(answer):
    from xml.etree import ElementTree

    from validation.systems import drawing, page, together

    parts = [systems([name], ["llama-3.1-8b"], asked=SHORT) for name in ("h200_sxm", "h100_sxm")]
    joined = together(parts)
    assert [row["topology"] for row in joined["rows"]].count("h100_sxm") > 1
    text = page(answer)
    assert "| h200_sxm, NVLink 4 serving-hopper | fp8 | 8 |" in text
    assert "h100_sxm, NVLink 4 serving-hopper cannot serve it: DeepSeek-R1 needs" in text
    panels = ElementTree.fromstring(drawing(answer)).findall("{http://www.w3.org/2000/svg}svg")
    assert len(panels) == 2 * len(answer["llms"])


def test_known_errors_are_means_over_the_jobs_of_chip_and_llm(monkeypatch):
    own, other = load("h200_sxm", llm="llama-3.1-8b").spec, load("h200_sxm", llm="llama-2-70b").spec
    entries = known.entries_of(
        [
            {"system": "h200_sxm", "llm": "meta-llama/Llama-3.1-8B-Instruct", "tpot_ratio": ratio}
            for ratio in (2.0, 0.5, None)  # the last could not be run
        ]
    )
    monkeypatch.setattr(known, "_known", lambda: tuple(entries))
    assert known.error_of(own) == {
        "tpot_ln_error_mean": pytest.approx(0.6931, abs=1e-4),
        "error_jobs": 2,
        "error_of": own.llm.name,
    }
    assert known.error_of(other)["error_of"] == "other LLMs"
    assert known.error_of(load("8rack").spec) == {"tpot_ln_error_mean": None, "error_jobs": 0, "error_of": None}


def test_the_command_prints_every_system_and_refuses_options_of_one_topology(tmp_path):
    ask = (
        "compare",
        "h200_sxm",
        "mi300x",
        "--llm",
        "llama-3.1-8b",
        "--users",
        "1",
        "--prompt-tokens",
        "32",
        "--output-tokens",
        "4",
    )
    code, out, err = dcsim(*ask, "--json", cwd=tmp_path)
    assert code == 0, err
    said = json.loads(out)
    assert {row["topology"] for row in said["rows"]} == {"h200_sxm", "mi300x"}
    assert all(head["tpot_ln_error_mean"] is not None for head in said["systems"]), "both chips were measured"
    code, out, err = dcsim(*ask, "--jitter", "host", cwd=tmp_path)
    assert (code, out) == (2, "")
    assert "--jitter" in err
    assert dcsim("compare", "64chip", "--users", "4", cwd=tmp_path)[0] == 2


def test_users_that_are_no_numbers_are_refused():
    with pytest.raises(SpecError, match="--users"):
        load_of(1, 2, "1,many")
