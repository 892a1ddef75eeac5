"""Dragonflies: the published structure exactly, every size between, and the canonical closed form."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsim.errors import FabricError
from dcsim.fabric.dragonfly import dragonfly, lpu_dragonfly, racks_max
from dcsim.fabric.routes import hop_totals
from dcsim.fabric.spread import spread_links


def pair_counts(fabric, label):
    """Cables between each pair of labels."""
    a, b = label[fabric.link_source], label[fabric.link_target]
    return Counter(zip(a[a < b].tolist(), b[a < b].tolist(), strict=True))


def cables_are_symmetric(fabric):
    r = fabric.reverse
    return (
        (r[r] == np.arange(fabric.link_count)).all()
        and (fabric.link_source[r] == fabric.link_target).all()
        and (fabric.link_class[r] == fabric.link_class).all()
        and (fabric.link_length_m[r] == fabric.link_length_m).all()
    )


def ports(fabric):
    """(links into the node, links out of it) of each chip."""
    out = fabric.node_of[fabric.link_source] != fabric.node_of[fabric.link_target]
    return (
        np.bincount(fabric.link_source[~out], minlength=fabric.chip_count),
        np.bincount(fabric.link_source[out], minlength=fabric.chip_count),
    )


def test_33_nodes_are_the_most_that_are_all_joined():
    fabric = lpu_dragonfly(nodes=33)
    assert fabric.chip_count == 264
    assert set(pair_counts(fabric, fabric.node_of).values()) == {1}
    assert len(pair_counts(fabric, fabric.node_of)) == 33 * 32 // 2
    assert hop_totals(fabric).diameter_hops == 3
    assert fabric.chip_active.all()
    assert (fabric.group_of == fabric.node_of).all()
    beyond = lpu_dragonfly(nodes=34)
    assert (beyond.group_of == beyond.rack_of).all()
    assert hop_totals(beyond).diameter_hops > 3


def test_145_racks_are_the_largest_machine():
    assert racks_max() == 145
    fabric = lpu_dragonfly(145)
    assert fabric.chip_count == 10_440
    assert fabric.chip_active.sum() == 145 * 64
    between = pair_counts(fabric, fabric.rack_of)
    assert set(between.values()) == {1}
    assert len(between) == 145 * 144 // 2
    inside = fabric.rack_of[fabric.link_source] == fabric.rack_of[fabric.link_target]
    ports_out = np.bincount(fabric.rack_of[fabric.link_source[~inside]])
    assert (ports_out == 144).all()
    in_rack = [n for (a, b), n in pair_counts(fabric, fabric.node_of).items() if a // 9 == b // 9]
    assert in_rack == [2] * (145 * 36)
    assert (np.diff(fabric.first_link) == 11).all()
    with pytest.raises(FabricError, match="146 groups need 145 ports"):
        lpu_dragonfly(146)


@pytest.mark.parametrize(("racks", "hops"), [(8, 5), (24, 6), (145, 7)])
def test_hops_chip_to_chip(racks, hops):
    assert hop_totals(lpu_dragonfly(racks)).diameter_hops == hops


def test_a_lone_rack_and_its_cut():
    fabric = lpu_dragonfly(1)
    assert set(pair_counts(fabric, fabric.node_of).values()) == {4}
    four = fabric.node_of < 4
    assert (four[fabric.link_source] & ~four[fabric.link_target]).sum() == 80


@given(nodes=st.integers(1, 220))
@settings(max_examples=40, deadline=None)
def test_any_size_keeps_its_ports_and_holds_together(nodes):
    fabric = lpu_dragonfly(nodes=nodes)
    inside, outside = ports(fabric)
    assert (inside == 7).all()
    assert outside.max() <= 4
    assert cables_are_symmetric(fabric)
    hop_totals(fabric)  # raises when chips are cut off
    groups = int(fabric.group_of.max()) + 1
    if nodes > 1 and (nodes <= 33 or nodes % 9 == 0):
        counts = pair_counts(fabric, fabric.group_of)
        assert len(counts) == groups * (groups - 1) // 2
        assert max(counts.values()) - min(counts.values()) <= 1
        assert (outside == 4).all()


@given(nodes_per_rack=st.integers(2, 12), chips=st.integers(2, 8), global_ports=st.integers(1, 5), data=st.data())
@settings(max_examples=40, deadline=None)
def test_other_parameters(nodes_per_rack, chips, global_ports, data):
    most = racks_max(nodes_per_rack, chips, global_ports)
    racks = data.draw(st.integers(1, min(most, 20)) if most >= 1 else st.just(1))
    small = racks * nodes_per_rack <= chips * global_ports + 1
    if not small and most < racks:
        return
    fabric = lpu_dragonfly(racks, nodes_per_rack, 1, chips, chips - 1, global_ports)
    inside, outside = ports(fabric)
    assert (inside == chips - 1).all()
    assert outside.max() <= global_ports
    assert fabric.chip_active.sum() == racks * (nodes_per_rack - 1) * chips
    hop_totals(fabric)


@given(ports=st.lists(st.integers(0, 40), min_size=1, max_size=14))
def test_spread_never_exceeds_and_leaves_little(ports):
    cables = spread_links(ports)
    used = Counter(end for cable in cables for end in cable)
    assert all(used[g] <= ports[g] for g in range(len(ports)))
    assert all(a < b for a, b in cables)
    assert sum(used[g] < ports[g] for g in range(len(ports))) <= 1  # else those two could be joined


@given(groups=st.integers(2, 30), ports=st.integers(1, 60))
def test_spread_is_even(groups, ports):
    counts = Counter(spread_links([ports] * groups))
    every = [counts[a, b] for b in range(groups) for a in range(b)]
    assert max(every) - min(every) <= 1
    assert 2 * sum(every) >= groups * ports - 1


@given(groups=st.integers(2, 40), data=st.data())
def test_fewer_ports_than_peers_still_hold_together(groups, data):
    """Two ports a group make a ring at least."""
    ports = data.draw(st.integers(2, groups))
    parent = list(range(groups))

    def root(g):
        return g if parent[g] == g else root(parent[g])

    for a, b in spread_links([ports] * groups):
        parent[root(a)] = root(b)
    assert len({root(g) for g in range(groups)}) == 1


def test_impossible_ones_say_why():
    with pytest.raises(FabricError, match="needs 7 local ports"):
        lpu_dragonfly(1, local_ports=6)
    with pytest.raises(FabricError, match="a node that computes"):
        lpu_dragonfly(1, nodes_per_rack=2, spare_nodes_per_rack=2)
    with pytest.raises(FabricError, match="0 nodes"):
        lpu_dragonfly()
    with pytest.raises(FabricError, match="1 to 9 groups, not 10"):
        dragonfly(2, 4, 2, 10)


def routers_visited(fabric, a, groups):
    """Mean routers on a path with one global cable at most, over all ordered pairs of routers, itself included."""
    chips = fabric.chip_count
    gateway = {}
    for s, t in zip(fabric.link_source.tolist(), fabric.link_target.tolist(), strict=True):
        if s >= chips and t >= chips and (s - chips) // a != (t - chips) // a:
            gateway[(s - chips) // a, (t - chips) // a] = s - chips
    total = groups * a * (1 + 2 * (a - 1))
    for there in range(groups):
        for here in range(groups):
            if here != there:
                at, to = gateway[here, there], gateway[there, here]
                local = [r != at for r in range(here * a, here * a + a)]
                far = [r != to for r in range(there * a, there * a + a)]
                total += 2 * a * a + a * (sum(local) + sum(far))
    return total / (groups * a) ** 2


@pytest.mark.parametrize(
    ("p", "a", "h", "chips", "mean"),
    [
        (2, 4, 2, 72, 3.3056),
        (3, 6, 3, 342, 3.5702),
        (4, 8, 4, 1056, 3.6932),
        (7, 14, 7, 9702, 3.8377),
    ],
)
def test_canonical_dragonfly_against_the_closed_form(p, a, h, chips, mean):
    fabric = dragonfly(p, a, h)
    g = a * h + 1
    assert fabric.chip_count == chips
    degree = np.diff(fabric.first_link)
    assert (degree[:chips] == 1).all()
    assert (degree[chips:] == p + a - 1 + h).all()
    assert cables_are_symmetric(fabric)
    form = 1 / (a * g) + 2 * (a - 1) / (a * g) + (g - 1) / g * (4 - 2 / a)
    assert form == pytest.approx(mean, rel=2e-5)
    assert routers_visited(fabric, a, g) == pytest.approx(form, rel=0.005)
    # Breadth-first search may also cross two global cables where that is shorter, never longer.
    hops = hop_totals(fabric)
    shortest = (hops.mean_hops * (chips - 1) + 2) / chips - 1
    assert form * 0.985 < shortest <= form * (1 + 1e-9)
    assert hops.diameter_hops == 5


def test_floor_distance_grows():
    fabric = lpu_dragonfly(24)
    name = np.array(fabric.link_classes)[fabric.link_class]
    assert set(fabric.link_length_m[name == "local"]) == {0.5}
    assert set(fabric.link_length_m[name == "rack"]) == {2.0}
    far = np.abs(fabric.rack_of[fabric.link_source] - fabric.rack_of[fabric.link_target])
    assert fabric.link_length_m[(name == "global") & (far == 1)].min() == pytest.approx(4.6)
    assert fabric.link_length_m[name == "global"].max() > 4.6
