"""Trees, rails, islands and tori have the sizes, ports and cuts of their closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsim.errors import FabricError
from dcsim.fabric.direct import island, torus
from dcsim.fabric.measures import measure
from dcsim.fabric.routes import hop_totals
from dcsim.fabric.switched import fat_tree, leaf_spine, with_islands

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
    with pytest.raises(FabricError, match="need 33 leaves; 3 levels of radix 8 join 32"):
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
    up = int(radix / (1 + over))
    down = min(radix - up, int(up * over))
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
