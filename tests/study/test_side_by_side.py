"""Comparisons made of cells: the same numbers as the commands, one key for one question, and a verdict that names its causes."""

import json
import shlex
from dataclasses import replace

import pytest

from dcsim.network.timing import PARTS
from dcsim.study import side_by_side
from dcsim.study.side_by_side import CAPACITY, ITERATION, LIBRARIES, OWN, SERVED, Cell, Question
from dcsim.study.verdict import CAUSES, sentence, verdict

SMALL = Question(chips=64, llm="llama-3-8b", rate=2.0)


def row(network, usd=None, **parts_us):
    parts = {part: parts_us.get(part, 0.0) * 1e-6 for part in PARTS}
    mean = sum(parts.values())
    return {
        "interconnect": network,
        "software": None,
        "iteration_s_mean": mean,
        "tokens_per_s_per_user": 1 / mean,
        "waterfall_s": parts,
        "usd_per_mtoken": usd,
    }


@pytest.mark.parametrize(
    ("slow", "causes"),
    [
        ({"compute": 100, "software": 900, "switch": 200, "wire": 5}, ("software", "switch")),
        ({"compute": 100, "switch": 500, "queueing": 300, "wire": 90}, ("switch", "queueing")),
        ({"compute": 100, "serialisation": 400, "slowest": 50, "wire": 20}, ("serialisation", "slowest")),
        ({"compute": 300, "jitter": 150, "software": 20, "wire": 20}, ("compute", "jitter")),
        ({"compute": 100, "wire": 700, "queueing": 60, "switch": 45}, ("wire", "queueing")),
    ],
)
def test_the_causes_are_the_two_largest_parts_of_the_gap(slow, causes):
    fast = row("a", compute=100, switch=40, wire=20)
    found = verdict([row("b", **slow), fast])
    assert found.fastest is fast
    assert tuple(part for part, _ in found.causes) == causes
    text = sentence(found, 512, "some LLM")
    assert text.index(CAUSES[causes[0]]) < text.index(CAUSES[causes[1]])
    assert sum(CAUSES[part] in text for part in PARTS) == 2


def test_who_is_fast_and_who_is_cheap_are_two_things():
    rows = [row("a", 9.0, compute=1), row("b", 3.0, compute=2), row("c", 5.0, compute=3)]
    found = verdict(rows)
    assert (found.fastest["interconnect"], found.second["interconnect"], found.cheapest["interconnect"]) == ("a", "b", "b")
    assert "The cheapest is b: 3 USD" in sentence(found, 64, "x")
    assert "only network here" in sentence(verdict(rows[:1]), 64, "x")
    assert verdict([]) is None
    assert "as fast as b" in sentence(verdict([row("a", compute=1), row("b", compute=1)]), 64, "x")


def test_a_key_changes_with_what_a_cell_depends_on_and_with_nothing_else():
    cells = [Cell(kind, SMALL, "roce-400g", "verbs") for kind in (ITERATION, SERVED, CAPACITY)]
    changes = {"batch": 8, "context": 99, "rate": 7.0, "chips": 128, "mapping": "same", "fairness": "pcie", "objective": "cost"}
    for name, value in changes.items():
        other = replace(SMALL, **{name: value})
        moved = {cell.kind: replace(cell, question=other).key != cell.key for cell in cells}
        expected = {ITERATION: name != "rate", SERVED: name not in ("batch", "context")}
        assert moved == expected | {CAPACITY: name not in ("batch", "context", "rate")}, name
    assert len({cell.key for cell in cells}) == 3
    assert len({cell.key for cell in side_by_side.grid()}) == len(list(side_by_side.grid()))
    assert side_by_side.cell_of(json.loads(json.dumps(cells[1].as_json()))) == cells[1]


def test_the_network_that_decides_the_mapping_is_the_topologys_own():
    from dcsim.spec.load import load

    assert load(SMALL.topology).spec.network == load(SMALL.topology, network=OWN).spec.network


@pytest.mark.parametrize(
    "cell",
    [
        Cell(ITERATION, replace(SMALL, mapping="same"), "infiniband-ndr"),
        pytest.param(Cell(ITERATION, SMALL, "infiniband-ndr"), marks=pytest.mark.slow),
        Cell(SERVED, SMALL, "infiniband-ndr", "posted"),
        pytest.param(Cell(CAPACITY, SMALL, OWN), marks=pytest.mark.slow),
    ],
)
def test_the_command_line_beside_a_number_gives_it(cell, tmp_path):
    from command import dcsim

    found = side_by_side.answer(cell)
    code, out, err = dcsim(*shlex.split(side_by_side.command(cell))[1:], "--json", cwd=tmp_path)
    assert code == 0, err
    said = json.loads(out)
    if cell.kind == ITERATION:
        rows = json.loads(json.dumps(found["rows"]))
        first = said["objective"]
        assert [r for r in said["candidates"] if (r["interconnect"], r["objective"]) == (cell.network, first)] == rows
        assert {r["software"] for r in rows} == set(LIBRARIES), "the page offers those that the command shows"
    elif cell.kind == CAPACITY:
        assert said["capacity_requests_per_s"] == found["capacity_requests_per_s"]
    else:
        assert abs(said["requests_in"] - SMALL.rate * side_by_side.DURATION_S) <= 1
        assert said["digest"] == found["summary"]["digest"]
        assert said["energy_j_per_token"] == found["summary"]["energy_j_per_token"]


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["capacity", "latency"])
@pytest.mark.parametrize("mapping", ["same", "own"])
def test_users_are_served_with_the_mapping_that_is_compared(objective, mapping):
    asked = replace(SMALL, objective=objective, mapping=mapping)
    timed = side_by_side.answer(Cell(ITERATION, asked, "roce-400g"))
    (row,) = [row for row in timed["rows"] if row["software"] == "verbs"]
    served = side_by_side.answer(Cell(SERVED, asked, "roce-400g", "verbs"))
    assert [served[name] for name in ("tp", "pp", "replicas")] == [row[name] for name in ("tp", "pp", "replicas")]
    line = side_by_side.command(Cell(SERVED, asked, "roce-400g", "verbs"), served["settings"])
    assert line == side_by_side.command(Cell(SERVED, asked, "roce-400g", "verbs"))


def test_what_cannot_be_built_is_an_answer_with_its_reason():
    asked = replace(SMALL, chips=128)
    assert "joins 64 chips" in side_by_side.answer(Cell(ITERATION, asked, "nvlink4"))["reason"]
    assert "reason" in side_by_side.answer(Cell(SERVED, replace(SMALL, llm="llama-2-70b"), OWN))
