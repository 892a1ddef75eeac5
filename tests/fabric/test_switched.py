"""Trees, rails, islands and tori have the sizes, ports and cuts of their closed forms."""

from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsim.errors import FabricError
from dcsim.fabric.bisection import bisection
from dcsim.fabric.direct import island, torus
from dcsim.fabric.dragonfly import dragonfly
from dcsim.fabric.measures import measure
from dcsim.fabric.routes import hop_totals
from dcsim.fabric.switched import fat_tree, leaf_spine, split_ports, with_islands

ONE = dict.fromkeys(("adapter", "fabric", "island", "local"), 1.0)


def test_full_three_tier_fat_tree():
    """k-ary: k^3/4 chips, 5/4 k^2 switches, full bisection (Al-Fares et al., SIGCOMM 2008)."""
    k = 8
    fabric = fat_tree(k**3 // 4, k, 3)
    assert fabric.vertex_count - fabric.chip_count == 5 * k * k // 4
    assert (np.diff(fabric.first_link)[fabric.chip_count :] == k).all()
    figures = measure(fabric, ONE)
    assert figures.diameter_hops == 6
    assert figures.bisection_bytes_per_s == k**3 // 8
    with pytest.raises(FabricError, match=r"need 33 leaves \(4 ports down, 4 up\); 3 levels of radix 8 join 32"):
        fat_tree(k**3 // 4 + 1, k, 3)


def test_two_tiers_and_oversubscription():
    full = measure(fat_tree(512, 32, 2), ONE)
    thin = measure(fat_tree(480, 32, 2, 3.0), ONE)
    assert (full.diameter_hops, full.bisection_bytes_per_s) == (4, 256)
    assert thin.bisection_bytes_per_s == 480 / 2 / 3
    with pytest.raises(FabricError, match="need 33 leaves"):
        fat_tree(513, 32, 2)


@given(
    endpoints=st.integers(1, 300),
    radix=st.integers(4, 16),
    levels=st.sampled_from([2, 3]),
    over=st.sampled_from([1.0, 2.0, 3.0]),
)
@settings(max_examples=60, deadline=None)
def test_any_tree_keeps_its_radix_and_holds_together(endpoints, radix, levels, over):
    down = int(over) * (radix // (int(over) + 1))
    if endpoints > down * (radix if levels == 2 else radix * (radix // 2)):
        with pytest.raises(FabricError, match="leaves"):
            fat_tree(endpoints, radix, levels, over)
        return
    fabric = fat_tree(endpoints, radix, levels, over)
    assert fabric.kind == "fat_tree"
    degree = np.diff(fabric.first_link)
    assert (degree[: fabric.chip_count] == 1).all()
    assert degree.max() <= radix
    assert hop_totals(fabric).diameter_hops <= 2 * levels


@pytest.mark.parametrize(
    ("radix", "asked", "down", "up"),
    [(10, 1.5, 6, 4), (64, 3, 48, 16), (64, 2, 42, 21), (8, 1.33, 4, 3), (8, 7, 7, 1), (15, 1, 7, 7)],
)
def test_a_leaf_is_as_oversubscribed_as_asked(radix, asked, down, up):
    assert split_ports(radix, asked) == (down, up)
    fabric = fat_tree(4 * down, radix, 2, asked)
    leaves = np.arange(4) + fabric.chip_count
    upward = [np.sum(fabric.link_target[fabric.first_link[v] : fabric.first_link[v + 1]] >= fabric.chip_count) for v in leaves]
    assert upward == [up] * 4


def test_what_no_ports_can_give_is_refused_with_what_can():
    with pytest.raises(FabricError, match=r"4 ports cannot be 1.5 to 1: 2 down, 2 up .*, 3 down, 1 up .*; radix 5 can"):
        fat_tree(8, 4, 2, 1.5)


def least_cut(fabric, width):
    """The narrowest cut between equal halves of the chips, each half's switches where they cut least (minimum cut)."""
    chips, ends = range(fabric.chip_count), []
    for half in combinations(chips, fabric.chip_count // 2):
        graph = nx.DiGraph()
        for source, target, w in zip(fabric.link_source.tolist(), fabric.link_target.tolist(), width.tolist(), strict=True):
            graph.add_edge(source, target, capacity=w + graph.get_edge_data(source, target, {"capacity": 0})["capacity"])
        graph.add_edges_from((("from", c) if c in half else (c, "to")) for c in chips)
        ends.append(nx.maximum_flow_value(graph, "from", "to"))
    return min(ends)


@pytest.mark.parametrize(
    "fabric",
    [
        leaf_spine(8, 2, 1, rails=3),
        leaf_spine(7, 2, 3, 2, rails=2),
        fat_tree(5, 6, 2),
        fat_tree(7, 6, 2, 2.0),
        with_islands(leaf_spine(9, 2, 3, rails=3), 3),
        with_islands(leaf_spine(6, 2, 1, rails=2), 3),
        dragonfly(1, 3, 2, 3),
        dragonfly(1, 4, 2, 2),
    ],
    ids=str,
)
def test_the_cut_found_is_the_true_one_on_small_switched_fabrics(fabric):
    width = np.where(np.array(fabric.link_classes)[fabric.link_class] == "island", 9.0, 1.0)
    assert bisection(fabric, width)[0] == least_cut(fabric, width)


def test_rails_of_unequal_leaves_are_cut_between_leaves():
    """64 chips on 3 rails: two full leaves of 16 on one side, the other four on the other: 2 x 4 cables."""
    assert measure(leaf_spine(64, 16, 4, rails=3), ONE).bisection_bytes_per_s == 8


def test_rails_separate_local_ranks():
    fabric = leaf_spine(64, 8, 4, rails=8)
    leaf = fabric.link_target[fabric.first_link[:64]]
    for chip in range(64):
        assert (leaf[chip] == leaf[chip % 8]) == (chip // 8 < 8)
    assert len(set(leaf[:8])) == 8


def test_islands_join_nodes_beside_the_fabric():
    fabric = with_islands(leaf_spine(64, 8, 4, rails=8), 8)
    name = np.array(fabric.link_classes)[fabric.link_class]
    counts = {kind: int((name == kind).sum()) // 2 for kind in fabric.link_classes}
    assert counts == {"adapter": 64, "fabric": 32, "island": 64}
    assert (np.bincount(fabric.node_of[:64]) == 8).all()
    islands = np.flatnonzero(fabric.node_of[64:] >= 0) + 64
    assert (np.diff(fabric.first_link)[islands] == 8).all()
    figures = measure(fabric, ONE)
    assert (figures.nodes, figures.diameter_hops) == (8, 4)  # other rail: leaf, spine, leaf
    with pytest.raises(FabricError, match="do not divide"):
        with_islands(leaf_spine(60), 8)


@pytest.mark.parametrize("dims", [(8,), (4, 8), (8, 4, 4), (2, 2, 2), (3, 5), (1, 6)])
def test_torus(dims):
    figures = measure(torus(dims), ONE)
    assert figures.diameter_hops == sum(d // 2 for d in dims)
    assert figures.links == sum((2 if d > 2 else d - 1) * figures.chips for d in dims)
    if all(d % 2 == 0 for d in dims if d > 1):
        longest = max(dims)
        assert figures.bisection_bytes_per_s == (2 if longest > 2 else 1) * figures.chips / longest


@pytest.mark.parametrize("chips", [1, 2, 5, 8])
def test_island(chips):
    figures = measure(island(chips), ONE)
    assert figures.links == chips * (chips - 1)
    assert figures.bisection_bytes_per_s == (chips // 2) * (chips - chips // 2)
    through = measure(island(chips, switch=True), ONE)
    assert through.links == 2 * chips
    assert through.bisection_bytes_per_s == chips // 2
    with pytest.raises(FabricError, match="needs a chip"):
        island(0)
