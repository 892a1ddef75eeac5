"""Experts chosen at run time: what finds no room under a capacity, and what each choice of experts costs."""

import numpy as np
import pytest

from dcsim.errors import SpecError
from dcsim.llm.kinds.routing import capacity_rows, dropped_fraction, shares_of
from dcsim.llm.program import Shape
from dcsim.spec.layers import RoutedFeedForward
from dcsim.spec.load import load
from dcsim.spec.mapping import MappingSpec
from dcsim.study.experts import overflow
from dcsim.study.iteration import iteration
from dcsim.study.machine import build

SPEC = RoutedFeedForward(kind="routed", experts=16, experts_active=2, d_ff=64, activation="swiglu")


def mapping(factor, load_="balanced"):
    return MappingSpec(experts="capacity", capacity_factor=factor, expert_load=load_)


def drawn(rows, rooms, rounds=4000):
    """The share of visits without room when tokens draw two different experts of 16."""
    rng = np.random.default_rng(1)
    chosen = rng.random((rounds, rows, 16)).argsort(axis=2)[:, :, :2].reshape(rounds, -1)
    visitors = np.stack([np.bincount(one, minlength=16) for one in chosen])
    return np.maximum(0, visitors - rooms).sum() / visitors.sum()


@pytest.mark.parametrize(("rows", "factor"), [(8, 1.0), (32, 1.0), (32, 1.5), (64, 2.0)])
def test_as_many_visits_are_dropped_as_when_tokens_draw_their_experts(rows, factor):
    room = capacity_rows(SPEC, mapping(factor), rows)
    assert dropped_fraction(SPEC, mapping(factor), rows) == pytest.approx(drawn(rows, room), rel=0.03, abs=3e-4)


def test_room_for_all_drops_nothing_and_more_room_drops_less():
    lost = [dropped_fraction(SPEC, mapping(factor), 64) for factor in (0.5, 1.0, 1.5, 2.0, 8.0)]
    assert lost == sorted(lost, reverse=True)
    assert lost[0] == pytest.approx(0.5, abs=0.02), "half the room: half of the visits, and few experts with fewer visitors"
    assert lost[-1] == 0


def test_an_uneven_load_drops_more():
    assert dropped_fraction(SPEC, mapping(1.5, "zipf"), 64) > 2 * dropped_fraction(SPEC, mapping(1.5), 64)
    assert shares_of((3.0, 1.0), 4) == pytest.approx([3 / 8, 1 / 8, 3 / 8, 1 / 8])


def test_a_token_is_complete_if_all_its_visits_in_all_layers_had_room():
    spec = load("8rack", llm="mixtral-8x7b", settings=["mapping.experts=capacity"]).spec
    lost = overflow(spec, 16)
    assert lost["experts_complete_fraction"] == pytest.approx((1 - lost["experts_dropped_fraction"]) ** (2 * 32))
    assert overflow(load("8rack", llm="mixtral-8x7b").spec, 16)["experts_dropped_fraction"] is None


def seconds(choice, batch, network=None, *settings):
    own = ["mapping.tp=8", "mapping.pp=32", f"mapping.experts={choice}", *settings]
    machine = build(load("8rack", llm="mixtral-8x7b", network=network, settings=own).spec)
    return iteration(machine, Shape(batch, 256))["iteration_s"]


def test_a_schedule_pays_for_what_may_be_visited():
    alone = {choice: seconds(choice, 1) for choice in ("all", "routed", "own_chips")}
    assert alone["routed"] < alone["own_chips"] <= alone["all"] * 1.1
    assert seconds("capacity", 4, None, "mapping.capacity_factor=1000") == seconds("all", 4) == seconds("routed", 4)
    assert seconds("capacity", 4, None, "mapping.capacity_factor=1") <= seconds("all", 4)


def test_only_packets_can_follow_what_is_visited():
    free = ("infiniband-ndr", "network.software=ideal", "network.replications=1")
    assert seconds("visited", 2, *free) < seconds("routed", 2, *free)
    with pytest.raises(SpecError, match="a schedule is fixed before"):
        seconds("visited", 1)
