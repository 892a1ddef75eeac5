"""Chips that no replica uses are named, with what they draw and cost: by every command that lays an LLM over chips."""

import pytest
from by_rule import load

from dcsim.llm.program import Shape
from dcsim.study.compare import compare
from dcsim.study.idle import idle_chips
from dcsim.study.iteration import iteration
from dcsim.study.machine import build
from dcsim.study.plan import plan
from dcsim.study.power import power
from dcsim.study.scenario import load as scenario

FEW = Shape(1, 128)
HALF = ("llm=bert-large", "mapping.tp=2", "mapping.pp=2")  # 4 chips of 8 in one replica


def on_node(*settings):
    return build(load("node", settings=[*HALF, *settings]).spec)


def test_idle_chips_are_those_of_no_replica_at_the_site_s_meter():
    found = idle_chips(on_node("mapping.replicas=1"))
    assert (found["chips_installed"], found["idle_chips"], found["idle_spare_chips"]) == (8, 4, 0)
    spec = load("node").spec
    assert found["idle_power_w"] == pytest.approx(4 * spec.chip.power.idle_w / spec.node.supply_efficiency * spec.power.pue)
    assert found["idle_buy_usd"] == 4 * spec.chip.price.buy_usd
    assert idle_chips(on_node("mapping.replicas=2"))["idle_chips"] == 0


def test_spare_nodes_are_idle_too():
    found = idle_chips(build(load("1rack").spec))
    assert (found["chips_installed"], found["idle_chips"], found["idle_spare_chips"]) == (72, 8, 8)


def test_what_idle_chips_draw_is_what_the_site_draws_less_without_their_draw():
    settings = ("mapping.replicas=1",)
    mine, without = (power(on_node(*settings, *more), FEW)["loads"][1]["power_w"] for more in ((), ("chip.power.idle=0 W",)))
    assert idle_chips(on_node(*settings))["idle_power_w"] == pytest.approx(mine - without)


def test_a_plan_counts_the_replicas_that_its_rate_leaves_idle():
    resolved = load("node", settings=[*HALF, "mapping.replicas=2"])
    found = plan(resolved, tokens_per_s=1.0, tokens_per_s_per_user=1.0, context=128)
    assert (found["clusters"], found["replicas"], found["chips_installed"], found["idle_chips"]) == (1, 1, 8, 4)


def test_every_command_names_the_same_idle_chips(tmp_path):
    machine = on_node("mapping.replicas=1")
    settings = [*HALF, "mapping.replicas=1"]
    path = tmp_path / "w.yaml"
    path.write_text("base: speech\nduration: 1 s\n")
    answers = [
        iteration(machine, FEW),
        power(machine, FEW),
        compare("node", ["scheduled"], FEW, settings=settings),
        scenario("node", workload=str(path), set=settings).run(seed=1).meta,
    ]
    wanted = idle_chips(machine)
    for found in answers:
        assert {key: found[key] for key in wanted} == wanted


def test_they_are_printed_only_where_there_are_any(capsys):
    from dcsim.cli.tables import print_iteration

    for replicas, said in ((1, True), (2, False)):
        print_iteration(iteration(on_node(f"mapping.replicas={replicas}"), FEW))
        assert ("4 of 8 in no replica" in capsys.readouterr().out) == said
