"""Routing that is what it says: detours on any graph, local and global knowledge, parallel cables, grids, acknowledgements."""

import networkx as nx
import numpy as np
import pytest
from packet_fabrics import fat_tree

from dcsim.fabric.direct import torus
from dcsim.fabric.graph import from_cables
from dcsim.fabric.routers import hyperx, slim_fly
from dcsim.network.packet.engine import traffic
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.engine.rules import LinkFigures, PacketRules

LINKS = {name: LinkFigures(12.5e9, 1e-7) for name in ("adapter", "local", "global", "fabric")}
MEGABYTE = 1 << 20


def run(fabric, flows, routing, seed=1, cross_load=None, **more):
    figures = PacketRules(
        LINKS, **{"routing": routing, "flow_control": "credits", "buffer_bytes": 64 * 4096, "ugal_bias_packets": 3, **more}
    )
    return Engine(fabric, figures, flows, seed=seed, cross_load=cross_load).iteration()


def to_the_next_router(fabric, size_bytes):
    """The worst case where routers carry several chips: all of a router's chips send to one neighbour's."""
    p, chips = int((fabric.node_of == 0).sum()), np.arange(fabric.chip_count)
    between = (fabric.link_source >= fabric.chip_count) & (fabric.link_target >= fabric.chip_count)
    graph = nx.Graph(
        (("from", a), ("to", b)) for a, b in zip(fabric.link_source[between], fabric.link_target[between], strict=True)
    )
    match = nx.bipartite.maximum_matching(graph, [vertex for vertex in graph if vertex[0] == "from"])
    peer = np.array([match["from", router][1] for router in range(fabric.chip_count, fabric.vertex_count)])
    target = (peer[chips // p] - fabric.chip_count) * p + chips % p
    return traffic.Flows(chips, target, np.full(len(chips), size_bytes), np.zeros(len(chips)))


ROUTERS = [slim_fly(5), hyperx((4, 5), 4)]


@pytest.mark.parametrize("fabric", ROUTERS, ids=lambda f: f.kind)
def test_valiant_goes_twice_as_far_between_routers(fabric):
    """From router to a random one and on to the target: twice the mean distance, less the visits that need no detour."""
    flows = traffic.uniform(fabric.chip_count, 40 * 4096, 3)
    minimal, valiant = (run(fabric, flows, rule) for rule in ("minimal", "valiant"))
    routers = [(one.packet_hops / one.packets) - 2 for one in (minimal, valiant)]
    count = fabric.vertex_count - fabric.chip_count
    assert routers[1] == pytest.approx(2 * routers[0], rel=2 / count + 0.03)


@pytest.mark.parametrize("fabric", ROUTERS, ids=lambda f: f.kind)
def test_detours_relieve_the_cable_that_all_minimal_paths_share(fabric):
    flows = to_the_next_router(fabric, 64 * 4096)
    minimal, valiant, known, local = (run(fabric, flows, rule) for rule in ("minimal", "valiant", "ugal", "ugal_l"))
    chips = int((fabric.node_of == 0).sum())
    assert minimal.finish_ps >= chips * 64 * 4096 * 80  # one cable for all chips of a router
    assert valiant.finish_ps < 0.8 * minimal.finish_ps
    assert known.finish_ps < 0.8 * minimal.finish_ps
    assert local.finish_ps < 0.8 * minimal.finish_ps
    assert known.links.busy_ps.max() < 0.7 * minimal.links.busy_ps.max()


@pytest.mark.parametrize("rule", ["ugal", "ugal_l"])
@pytest.mark.parametrize("fabric", ROUTERS, ids=lambda f: f.kind)
def test_ugal_is_minimal_where_nothing_queues(fabric, rule):
    flows = traffic.stream(fabric.chip_count, 0.05, 4e-7, 60, 4096, seed=4)
    minimal, ugal = (run(fabric, flows, one) for one in ("minimal", rule))
    assert ugal.packet_hops <= 1.01 * minimal.packet_hops


def ring_of_routers(count):
    """Routers in a ring with one chip each."""
    cables = [(i, count + i, "adapter", 0.0) for i in range(count)]
    cables += [(count + i, count + (i + 1) % count, "local", 0.0) for i in range(count)]
    return from_cables("ring", count, cables, vertex_count=2 * count)


def test_ugal_l_sees_its_own_queues_only():
    """Chip 0 to chip 2 in a ring of 7: the second cable of the short way is busy. Only UGAL that knows it goes round."""
    fabric = ring_of_routers(7)
    flows = traffic.Flows(np.zeros(200, int), np.full(200, 2), np.full(200, 4096), np.arange(200) * 5e-6)
    busy = np.zeros(fabric.link_count)
    second = int(np.flatnonzero((fabric.link_source == 8) & (fabric.link_target == 9))[0])
    first = int(np.flatnonzero((fabric.link_source == 7) & (fabric.link_target == 8))[0])
    busy[second] = 0.98
    hops = {rule: run(fabric, flows, rule, cross_load=busy).packet_hops for rule in ("minimal", "ugal_l", "ugal")}
    assert hops["ugal_l"] == hops["minimal"] == 200 * 4
    assert hops["ugal"] > hops["minimal"]
    busy[first], busy[second] = 0.98, 0.0
    assert run(fabric, flows, "ugal_l", cross_load=busy).packet_hops > hops["minimal"]


def bundle(cables, between):
    """Two chips: cabled to each other, to one switch, or to two switches, in each case by parallel cables."""
    if between == "chips":
        return from_cables("pair", 2, [(0, 1, "local", 0.0)] * cables)
    if between == "chip and switch":
        return from_cables("star", 2, [(chip, 2, "adapter", 0.0) for chip in (0, 1)] * cables, vertex_count=3)
    ends = [(0, 2, "local", 0.0), (1, 3, "local", 0.0)] * cables
    return from_cables("line", 2, ends + [(2, 3, "fabric", 0.0)] * cables, vertex_count=4)


@pytest.mark.parametrize("between", ["chips", "chip and switch", "switches"])
@pytest.mark.parametrize("rule", ["spray", "adaptive", "ugal"])
@pytest.mark.parametrize("cables", [2, 3, 5])
def test_parallel_cables_carry_a_message_together(between, rule, cables):
    """Spraying and adaptive routing take each packet's cable anew, so that n cables need a good n-th of the time."""
    flows = traffic.Flows([0], [1], [4 * MEGABYTE], [0.0])
    one = run(bundle(1, between), flows, rule).finish_ps
    several = run(bundle(cables, between), flows, rule, buffer_bytes=1 << 21)
    spread = several.links.bytes[several.links.bytes > 0]
    slack = 1.35 if rule == "spray" and between != "chips" else 1.02  # switches draw cables: some get more
    assert one / cables <= several.finish_ps * 1.001
    assert several.finish_ps <= slack * one / cables + 2e6
    assert len(spread) == cables * (1 if between == "chips" else 2 if between == "chip and switch" else 3)


def test_a_message_keeps_its_cable_where_flows_have_one_path():
    use = run(bundle(3, "chips"), traffic.Flows([0], [1], [MEGABYTE], [0.0]), "minimal").links
    assert np.count_nonzero(use.bytes) == 1


@pytest.mark.parametrize("size", [1, 30, 86])
def test_acknowledgements_move_nobody_to_another_link(size):
    """A permutation over a fat tree under adaptive routing: their bytes take time, but not the regular order of packets."""
    took = {}
    for ack_bytes in (0, size):
        times = [
            run(
                fat_tree(8),
                traffic.permutation(128, 1 << 18, seed),
                "adaptive",
                seed,
                flow_control="none",
                cut_through=False,
                ack_bytes=ack_bytes,
            )
            for seed in range(4)
        ]
        took[ack_bytes] = np.concatenate([one.last_ps for one in times])
    assert np.quantile(took[size], 0.99) == pytest.approx(np.quantile(took[0], 0.99), rel=0.05)
    assert took[size].mean() == pytest.approx(took[0].mean(), rel=0.02)


@pytest.mark.parametrize("dims", [(3,), (5, 3), (3, 5, 3)])
def test_dimension_order_loads_all_links_of_a_torus_alike(dims):
    """All to all on odd rings: each link of a ring of k carries (k^2 - 1) / 8 pairs for each of the other chips of its row."""
    fabric = torus(dims)
    flows = traffic.all_to_all(fabric.chip_count, 1000)
    use = run(fabric, flows, "minimal").links
    axis = fabric.link_rank >> 16
    for dimension, k in enumerate(dims):
        expected = fabric.chip_count // k * (k * k - 1) // 8
        assert set(use.packets[axis == dimension].tolist()) == {expected}


def test_dimensions_are_taken_in_order_and_a_full_torus_does_not_lock_up():
    """Two lanes of one packet each under all-to-all traffic, rings of every length."""
    for dims in ((4, 4), (2, 3, 4), (8,), (5, 6)):
        fabric = torus(dims)
        flows = traffic.all_to_all(fabric.chip_count, 3 * 4096)
        done = run(fabric, flows, "minimal", buffer_bytes=2 * 4096)
        place = np.array(np.unravel_index(np.arange(fabric.chip_count), dims)).T
        away = np.abs(place[flows.source] - place[flows.target])
        hops = np.minimum(away, np.array(dims) - away).sum()
        assert done.packet_hops == 3 * hops
