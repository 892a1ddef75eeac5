"""What else crosses the links: flows put on links what they send, no more and no less, and slow the iteration."""

import numpy as np
import pytest
from by_rule import load
from packet_runs import run_packets

from dcsim.errors import FabricError, SpecError
from dcsim.fabric.dragonfly import dragonfly
from dcsim.fabric.graph import from_cables
from dcsim.fabric.measures import measure
from dcsim.fabric.switched import fat_tree
from dcsim.llm.program import Shape
from dcsim.network.packet.background import (
    background_load,
    by_target,
    host_flows,
    kv_flows,
    link_rates,
    pattern_load,
    replica_flows,
)
from dcsim.network.packet.engine.routing import build_routes
from dcsim.network.packet.rules_of import figures_of
from dcsim.network.packet.switches import attach
from dcsim.network.tasks import TaskBuilder
from dcsim.study.machine import build
from dcsim.study.traffic import FlowsAsked, traffic

FOUR = ("mapping.tp=8", "mapping.pp=2", "mapping.replicas=4", "chip.memory=2 GB")


def rates_of(fabric, demand):
    return link_rates(fabric, build_routes(fabric, [frozenset()]), demand)


def network(*settings, name="infiniband-ndr"):
    return load("64chip", network=name, settings=["network.software=ideal", *(f"network.{s}" for s in settings)]).spec.network


def shares(pattern, fabric, fraction=0.5, seed=1):
    spec = network(f"load_fraction={fraction}", f"load_pattern={pattern}")
    return pattern_load(spec, fabric, figures_of(spec, fabric), seed)


def every_pair(chips):
    source, target = np.nonzero(~np.eye(chips, dtype=bool))
    return by_target(source, target, np.ones(len(source)))


FABRICS = [fat_tree(32, 8, 3), dragonfly(2, 4, 2), fat_tree(24, 8, 2)]


@pytest.mark.parametrize("fabric", FABRICS, ids=["tree3", "dragonfly", "tree2"])
def test_what_is_sent_leaves_its_source_and_reaches_its_target(fabric):
    rates = rates_of(fabric, every_pair(fabric.chip_count))
    out = np.bincount(fabric.link_source, rates)[: fabric.chip_count]
    into = np.bincount(fabric.link_target, rates)[: fabric.chip_count]
    assert out == pytest.approx(fabric.chip_count - 1)
    assert into == pytest.approx(fabric.chip_count - 1)
    switches = range(fabric.chip_count, fabric.vertex_count)
    for vertex in switches:  # nothing stays in a switch
        assert rates[fabric.link_source == vertex].sum() == pytest.approx(rates[fabric.link_target == vertex].sum())


def test_chips_that_forward_carry_the_mean_hops():
    """All pairs, one byte a second: the links' rates sum to the pairs' hops (a ring of 7: mean 2)."""
    ring = from_cables("ring", 7, [(i, (i + 1) % 7, "local", 1.0) for i in range(7)])
    rates = rates_of(ring, every_pair(7))
    assert rates.sum() == pytest.approx(7 * 6 * measure(ring, {"local": 1.0}).mean_hops)
    assert rates == pytest.approx(6.0)  # by symmetry: 42 pairs x 2 hops over 14 links


def test_next_group_traffic_meets_on_the_one_cable_between_groups():
    """Canonical dragonfly, minimal routes: a p flows of a group share the cable to the next (Kim et al. 2008)."""
    fabric = dragonfly(2, 4, 2)
    load = shares("adversarial", fabric, fraction=0.8)
    groups = fabric.group_of
    between = groups[fabric.link_source] != groups[fabric.link_target]
    between &= (fabric.link_source >= 72) & (fabric.link_target >= 72)
    assert np.sum(load > 0.799) == 9
    assert np.all(between[load > 0.799])
    assert load[fabric.link_source < 72] == pytest.approx(0.8 / 8)


def test_an_incast_fills_the_link_into_its_target():
    star = from_cables("star", 9, [(i, 9, "adapter", 1.0) for i in range(9)], vertex_count=10)
    load = shares("incast", star, fraction=0.4)
    assert load[star.link_target == 0] == pytest.approx(0.4)
    assert load[(star.link_source < 9) & (star.link_source > 0)] == pytest.approx(0.4 / 8)


def test_patterns_load_their_busiest_link_and_every_link_loads_all():
    tree = fat_tree(32, 8, 2)
    for pattern in ("uniform", "perm", "adversarial", "incast"):
        assert shares(pattern, tree).max() == pytest.approx(0.5)
        assert shares(pattern, tree).min() < 0.5 or pattern == "uniform"
    assert set(shares("every_link", tree)) == {0.5}
    assert shares("uniform", tree, fraction=0.0) is None
    assert not np.array_equal(shares("perm", tree, seed=1), shares("perm", tree, seed=2))
    with pytest.raises(SpecError, match="every_link"):
        network("load_pattern=swirl")


@pytest.fixture(scope="module")
def four():
    """Four replicas of 16 chips."""
    return build(load("64chip", settings=list(FOUR)).spec)


def test_the_other_replicas_send_what_this_one_sends(four):
    builder = TaskBuilder(1e9)
    chips = four.mapping.replica_chips[0]
    for target, size in ((chips[0][1], 600), (chips[1][0], 400)):
        builder.message(chips[0][0], target, size, [])
    _, fabric = attach(network(), four.fabric)
    rates = rates_of(fabric, replica_flows(four.mapping, builder.build(), 10.0))
    out = np.bincount(fabric.link_source, rates)
    assert out[:64].sum() == pytest.approx(3 * 1000 * 10)
    assert out[list(chips[0])].sum() == 0  # none on its own chips
    assert out[four.mapping.replica_chips[2][0][0]] == pytest.approx(1000 * 10)


def test_kv_copies_reach_every_replica_in_equal_shares(four):
    _, fabric = attach(network(), four.fabric)
    rates = rates_of(fabric, kv_flows(four.mapping, 1600.0))
    assert np.bincount(fabric.link_target, rates)[:64] == pytest.approx(100.0)


def test_hosts_send_through_the_first_chip_of_their_node(four):
    _, fabric = attach(network(), four.fabric)
    out = np.bincount(fabric.link_source, rates_of(fabric, host_flows(fabric, 70.0)))[:64]
    assert out[::8] == pytest.approx(70.0)
    assert np.delete(out, np.arange(0, 64, 8)).sum() == 0


@pytest.mark.parametrize("setting", ["host=60 GB/s", "kv_tokens=4e6 tokens/s", "micro_batches=20"])
def test_everything_else_slows_the_iteration(four, setting):
    """Leaves of 12 chips and groups of 16, so that replicas share links between switches."""

    def run(*background):
        settings = [
            *FOUR,
            "network.software=ideal",
            "network.fairness=pcie",
            "network.pcie=100 GB/s",
            "network.bandwidth=100 GB/s",
            "mapping.tp=16",
            "mapping.pp=1",
            "network.switch_ports=24",
            *background,
        ]
        spec = load("64chip", network="infiniband-ndr", settings=settings).spec
        return run_packets(spec, four.fabric, build(spec).mapping, Shape(1, 1024), 10)

    alone, disturbed = run(), run(f"network.background.{setting}")
    assert alone.background_fraction == 0.0
    assert 0.02 < disturbed.background_fraction < 1
    assert disturbed.latency_ps.mean() > alone.latency_ps.mean()
    assert np.ptp(disturbed.latency_ps) > np.ptp(alone.latency_ps)


def test_too_much_and_too_few_are_errors(four):
    def offered(*background, mapping=four.mapping):
        settings = [f"background.{x}" for x in background]
        spec = load(
            "64chip", network="infiniband-ndr", settings=["network.software=ideal", *FOUR, *(f"network.{x}" for x in settings)]
        ).spec
        attached, fabric = attach(spec.network, four.fabric)
        empty = TaskBuilder(1e9).build()
        return background_load(spec, attached, fabric, figures_of(attached, fabric), mapping, empty, 1.0, 1)

    assert offered() is None
    assert offered("host=1 GB/s").max() == pytest.approx(1 / 137.5, rel=0.01)
    with pytest.raises(FabricError, match=r"chip 0 .* times what it carries"):
        offered("host=200 GB/s")
    alone = build(load("64chip").spec).mapping
    with pytest.raises(FabricError, match=r"mapping\.replicas"):
        offered("micro_batches=1", mapping=alone)


def test_a_pattern_of_traffic_can_meet_another():
    idle = traffic(None, "infiniband-hdr", FlowsAsked("perm", 32, 64 * 1024))
    met = traffic(
        None,
        "infiniband-hdr",
        FlowsAsked("perm", 32, 64 * 1024),
        settings=("network.load_fraction=0.6", "network.load_pattern=uniform"),
    )
    assert met["flow_s_p99"] > 1.2 * idle["flow_s_p99"]
