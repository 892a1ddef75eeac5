"""Plans by simulation: the smallest size that holds is the one that trying all of them finds, and every refusal says why."""

import json
from itertools import pairwise

import pytest
from command import dcsim as command

from dcsim.errors import SpecError
from dcsim.llm.program import Shape
from dcsim.spec.topology import SloSpec
from dcsim.study.machine import build
from dcsim.study.sizing import Target, Wanted, targets_of
from dcsim.study.sizing.ask import ask, journal_in, sized
from dcsim.study.sizing.bound import MARGIN, bound_of, traffic_of
from dcsim.study.sizing.search import Searched, Told, _point, _simulated, size
from dcsim.study.sizing.sizes import counts, growth_of, layouts
from dcsim.study.sweep.case import Case, Worker

FEW = ("workload.requests=300",)


def searched(case, seed=1):
    spec = case.load({}).resolved.spec
    return Searched(case, spec, growth_of(spec), Worker(case), traffic_of(spec, seed))


def exhaustive(case, wanted, most):
    """The first size of `most` of which any layout holds, every one simulated; and whether each holds."""
    one, told, holds = searched(case), Told(), {}
    for count in range(1, most + 1):
        own, copies = one.growth.point(count)
        rows = [_simulated(one, wanted, told, {**own, **layout}, count, copies) for layout in layouts(one.spec, one.growth)]
        holds[count] = any(row["holds"] for row in rows)
    return next((count for count, good in holds.items() if good), None), holds


def target(**limits):
    return tuple(Target(f"{name}_s_p99", limit_s) for name, limit_s in limits.items())


SMALL = Case("64chip", FEW, llm="llama-3-8b", workload="million", run=True)
GPU = Case("dgx-h100", FEW, llm="llama-3-8b", workload="million", run=True)
NODES = Case("h100x16", (*FEW, "network.replications=1"), llm="llama-3-8b", workload="million", run=True)
# A system, what it must hold, the largest size tried, and whether more of it always does as well.
CASES = {
    "racks": (SMALL, Wanted(60.0, target(ttft=0.5, tpot=0.004)), 4, True),
    "racks, few users": (SMALL, Wanted(5.0, target(ttft=0.5, tpot=0.004)), 3, True),
    "racks, a token must not pass more stages": (SMALL, Wanted(20.0, target(ttft=0.5, tpot=0.00083)), 4, False),
    "racks, nor many": (SMALL, Wanted(60.0, target(ttft=0.3, tpot=0.0011)), 4, False),
    "clusters": (GPU, Wanted(150.0, target(ttft=0.3, tpot=0.03)), 4, True),
    "nodes": (NODES, Wanted(120.0, target(ttft=0.3, tpot=0.03)), 4, True),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_search_finds_what_trying_all_finds(name):
    case, wanted, most, monotone = CASES[name]
    best, holds = exhaustive(case, wanted, most)
    assert (list(holds.values()) == sorted(holds.values())) == monotone, holds
    found = size([case], wanted, Told())["answer"]
    assert (found["units"] if found else None) == best, holds


@pytest.mark.parametrize(("case", "count"), [(SMALL, 1), (GPU, 1)])
def test_no_simulation_beats_the_bound(case, count):
    """At the bound times the margin and a bit more, nothing holds: requests wait without end."""
    one = searched(case)
    point, _ = one.growth.point(count)
    layout = layouts(one.spec, one.growth)[0]
    machine = build(case.load({**point, **layout}).resolved.spec)
    bound = bound_of(machine, one.traffic, None)
    wanted = Wanted(bound.requests_per_s * MARGIN * 1.3, target(ttft=0.2, tpot=0.02))
    assert not _simulated(one, wanted, Told(), {**point, **layout}, count, 1)["holds"]
    lone_s = machine.time(Shape(1, min(machine.spec.serving.context_buckets))).latency_ps * 1e-12
    assert bound_of(machine, one.traffic, lone_s * 0.9).requests_per_s == 0


def test_answers_add_up_and_come_from_what_is_kept(tmp_path):
    asked = ask(["64chip"], "60/s", ["ttft_p99=500ms", "tpot_p99=4ms"], workload="million", llm="llama-3-8b", settings=FEW)
    result, _ = sized(asked, journal_in(tmp_path))
    answer = result["answer"]
    for key in ("topology", "racks", "chips", "power_w", "capital_usd", "usd_per_mtoken", "binding"):
        assert answer[key], key
    for row in result["candidates"]:
        assert isinstance(row["holds"], bool)
        assert row["holds"] or row["reason"], row
    smaller = [row for row in result["candidates"] if row["units"] < answer["units"]]
    assert not any(row["holds"] for row in smaller)
    assert result["front"] == [answer | {"binding": result["front"][0]["binding"]}]
    again, _ = sized(asked, journal_in(tmp_path))
    assert again["simulations"] == 0
    assert again["answer"] == answer
    assert again["candidates"] == result["candidates"]


def test_spares_are_bought_and_limits_are_kept():
    words = (["64chip"], "60/s", ["ttft_p99=500ms", "tpot_p99=4ms"])
    more = {"workload": "million", "llm": "llama-3-8b", "settings": FEW}
    plain, spare = (sized(ask(*words, **more, spare=text))[0]["answer"] for text in (None, "1rack"))
    assert spare["units"] == plain["units"]
    assert spare["racks"] == plain["racks"] + 1
    assert spare["capital_usd"] == pytest.approx(plain["capital_usd"] * (plain["units"] + 1) / plain["units"])
    assert plain["power_w"] < spare["power_w"] < plain["power_w"] * 2
    for limit in ({"max_power": "1 W"}, {"max_cost": "1 USD"}):
        result = sized(ask(*words, **more, **limit))[0]
        assert result["answer"] is None
        assert any("more than" in row["reason"] for row in result["candidates"] if row["holds"])


def test_targets_are_read_and_presets_have_sources():
    own = SloSpec(ttft="1 s", tpot="20 ms")
    assert [one.name for one in targets_of([], own)] == ["ttft_p99", "tpot_p99"]
    both = targets_of(["chat", "tpot_p99=10ms", "e2e_s_p50 = 3 s"], own)
    assert {one.name: one.limit_s for one in both} == {"ttft_p99": 1.0, "tpot_p99": 0.01, "e2e_p50": 3.0}
    for text, words in (
        ("ttft_p95=1s", "did you mean ttft_p9"),
        ("ttft_p99=1", "needs a unit"),
        ("ttft_p99=0s", "no answer comes"),
        ("chatt", "did you mean chat"),
    ):
        with pytest.raises(SpecError, match=words):
            targets_of([text], own)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rate", "fast"), "--rate"),
        (("--rate", "9/s..3/s"), "does not grow"),
        (("--rate", "9/s", "--spare", "a rack"), "--spare"),
        (("--rate", "9/s", "--max-power", "3 USD"), "--max-power"),
        (("--rate", "9/s", "--tokens-per-s", "3"), "quick estimate"),
        ((), "needs a --rate"),
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(words, said, tmp_path):
    code, _, err = command("plan", "64chip", *words, cwd=tmp_path)
    assert code == 2
    assert said in err
    assert not list(tmp_path.iterdir())


def test_sizes_are_looked_at_from_the_smallest_up():
    found = list(counts())
    assert found[:24] == list(range(1, 25))
    assert found == sorted(set(found))
    assert all(b <= a * 1.06 + 1 for a, b in pairwise(found))


def test_the_command_says_what_to_build(tmp_path):
    words = ("plan", "64chip", "--llm", "llama-3-8b", "--workload", "million", "--set", FEW[0], "--rate", "60/s")
    goals = ("--slo", "ttft_p99=500ms", "--slo", "tpot_p99=4ms")
    code, out, err = command(*words, *goals, "--json", cwd=tmp_path)
    assert code == 0, err
    said = json.loads(out)
    assert {"answer", "candidates", "front", "unused_keys"} <= set(said)
    code, out, err = command(*words, *goals, cwd=tmp_path)
    assert code == 0
    assert f"build 64chip of {said['answer']['units']} rack" in out
    assert "breaks first" in out
    assert "holds" in err
    assert _point(Wanted(4.0, ()), {}, 2) == {"rate": "2.0 requests/s"}
