"""Routes against networkx, cuts against all halves, files against themselves."""

import json
import time
from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsim.errors import FabricError, OutputError
from dcsim.fabric import routes
from dcsim.fabric.build import build_fabric
from dcsim.fabric.custom import read_fabric
from dcsim.fabric.direct import island, torus
from dcsim.fabric.dragonfly import dragonfly, lpu_dragonfly
from dcsim.fabric.export import write_fabric
from dcsim.fabric.graph import Fabric, from_cables
from dcsim.fabric.measures import measure
from dcsim.fabric.switched import fat_tree, leaf_spine, with_islands
from dcsim.spec.load import load
from dcsim.spec.unused import unused

ONE = dict.fromkeys(("adapter", "fabric", "island", "local", "rack", "global"), 1.0)


def random_fabric(seed, chips=12, extra=8):
    """A random connected graph of chips, some cables doubled."""
    rng = np.random.default_rng(seed)
    cables = [(int(rng.integers(0, v)), v, "local", 1.0) for v in range(1, chips)]
    for _ in range(extra):
        a, b = sorted(rng.choice(chips, 2, replace=False).tolist())
        cables.append((a, b, "global" if rng.random() < 0.5 else "local", 2.0))
    return from_cables(
        "random",
        chips,
        cables,
        node_of=np.arange(chips) // 3,
        rack_of=np.zeros(chips),
        chip_active=rng.random(chips) < 0.9,
    )


def as_networkx(fabric, up=None):
    graph = nx.MultiDiGraph()
    graph.add_nodes_from(range(fabric.vertex_count))
    for i, (s, t) in enumerate(zip(fabric.link_source.tolist(), fabric.link_target.tolist(), strict=True)):
        if up is None or up[i]:
            graph.add_edge(s, t, key=i)
    return graph


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_hops_equal_networkx(seed):
    fabric = random_fabric(seed)
    up = np.random.default_rng(seed).random(fabric.link_count) < 0.8
    lengths = dict(nx.all_pairs_shortest_path_length(as_networkx(fabric, up)))
    for target in range(fabric.chip_count):
        got = routes.distances_to(fabric, target, up)
        assert got.tolist() == [lengths[s].get(target, -1) for s in range(fabric.chip_count)]
    lengths = dict(nx.all_pairs_shortest_path_length(as_networkx(fabric)))
    active = np.flatnonzero(fabric.chip_active).tolist()
    pairs = [lengths[s][t] for s in active for t in active if s != t]
    if pairs:
        totals = routes.hop_totals(fabric)
        assert totals.mean_hops == pytest.approx(np.mean(pairs), rel=1e-12)
        assert totals.diameter_hops == max(pairs)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_paths_are_all_the_shortest(seed):
    fabric = random_fabric(seed, chips=8, extra=6)
    source, target = 0, 7
    simple = [tuple(key for *_, key in path) for path in nx.all_simple_edge_paths(as_networkx(fabric), source, target)]
    shortest = min(map(len, simple))
    minimal = routes.minimal_paths(fabric, source, target, 1000)
    assert sorted(minimal) == sorted(p for p in simple if len(p) == shortest)
    assert routes.minimal_paths(fabric, source, target, 1) == minimal[:1]


def test_next_hops_are_the_first_links_of_minimal_paths():
    fabric = fat_tree(16, 4, 3)
    offsets, links = routes.next_hops(fabric, 13)
    for source in (0, 5, 12, 14, 20, fabric.vertex_count - 1):
        firsts = {path[0] for path in routes.minimal_paths(fabric, source, 13, 1000)}
        assert set(links[offsets[source] : offsets[source + 1]].tolist()) == firsts
    assert offsets[14] == offsets[13]


def test_links_down_are_avoided_or_named():
    fabric = island(3)
    up = (fabric.link_source != 0) | (fabric.link_target != 1)
    assert [len(p) for p in routes.minimal_paths(fabric, 0, 1, up=up)] == [2]
    assert [len(p) for p in routes.minimal_paths(fabric, 1, 0, up=up)] == [1]
    up = fabric.link_source != 0
    with pytest.raises(FabricError, match="no way from chip 0 to chip 1"):
        routes.minimal_paths(fabric, 0, 1, up=up)
    with pytest.raises(FabricError, match="2 of 6 ordered pairs"):
        routes.hop_totals(fabric, up)


def test_chips_behind_switches_do_not_forward():
    fabric = with_islands(leaf_spine(4, 2, 1, rails=2), 2)
    paths = routes.minimal_paths(fabric, 0, 3)
    chips_on_the_way = {int(fabric.link_target[i]) for path in paths for i in path} & set(range(4))
    assert chips_on_the_way == {3}


def brute_force_cut(fabric):
    """The best of all equal halves of active chips with the rest placed in every way."""
    active, spare = np.flatnonzero(fabric.chip_active), np.flatnonzero(~fabric.chip_active)
    best = np.inf
    for size in {len(active) // 2, len(active) - len(active) // 2}:
        for half in combinations(active.tolist(), size):
            for mask in range(1 << len(spare)):
                side = np.zeros(fabric.vertex_count, bool)
                side[list(half)] = True
                side[[v for i, v in enumerate(spare.tolist()) if mask >> i & 1]] = True
                best = min(best, (side[fabric.link_source] & ~side[fabric.link_target]).sum())
    return best


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_cut_is_never_below_the_true_one(seed):
    fabric = random_fabric(seed, chips=10, extra=10)
    if fabric.chip_active.sum() >= 2:
        assert measure(fabric, ONE).bisection_bytes_per_s >= brute_force_cut(fabric)


def test_cut_is_mostly_the_true_one():
    """A search that improves a few starts: on graphs without any order it misses the best cut now and then."""
    over = []
    for seed in range(40):
        fabric = random_fabric(seed, chips=10, extra=10)
        if fabric.chip_active.sum() >= 2:
            over.append(measure(fabric, ONE).bisection_bytes_per_s - brute_force_cut(fabric))
    assert np.mean(np.array(over) == 0) > 0.6
    assert np.mean(over) < 1


def test_cut_of_the_small_machines():
    assert measure(lpu_dragonfly(1), ONE).bisection_bytes_per_s == 80
    eight = measure(lpu_dragonfly(8), ONE)
    assert eight.bisection_bytes_per_s <= 16 * 21  # four racks against four, 20 or 21 cables a pair
    twice = measure(lpu_dragonfly(8), {name: 2 * width for name, width in ONE.items()})
    assert twice.bisection_bytes_per_s == 2 * eight.bisection_bytes_per_s
    assert twice.mean_hops == eight.mean_hops


def test_three_ways_of_counting_at_full_scale_and_how_long_it_takes():
    measure(lpu_dragonfly(1), ONE)  # compile
    start = time.process_time()
    figures = measure(lpu_dragonfly(145, spare_nodes_per_rack=0), ONE)
    assert time.process_time() - start < 5
    assert (figures.chips, figures.nodes, figures.racks, figures.links) == (10_440, 1305, 145, 114_840)
    assert figures.diameter_hops == 7
    assert figures.diameter_routers == 3
    assert figures.diameter_published == 5
    assert figures.mean_hops == pytest.approx(5.23, abs=0.01)
    # 72.5 racks against 72.5, one cable a pair of racks: 5256 cables, 1.007 a chip; the cut found is no wider.
    assert 0.95 < figures.bisection_bytes_per_s_per_chip <= 72.5**2 / 5220
    assert sum(n for *_, n in figures.cables) == 114_840 // 2
    small = measure(lpu_dragonfly(nodes=33), ONE)
    assert (small.diameter_hops, small.diameter_routers, small.diameter_published) == (3, 1, 3)


def test_one_chip():
    figures = measure(lpu_dragonfly(nodes=1, chips_per_node=1), ONE)
    assert (figures.chips, figures.links, figures.diameter_hops, figures.mean_hops) == (1, 0, 0, 0.0)
    assert figures.bisection_bytes_per_s == figures.bisection_bytes_per_s_per_chip == 0
    assert figures.cables == ()


def test_a_class_without_bandwidth_is_named():
    with pytest.raises(FabricError, match="class rack, global"):
        measure(lpu_dragonfly(8), {"local": 1.0})


FABRICS = [
    lpu_dragonfly(5),
    dragonfly(2, 4, 2),
    with_islands(fat_tree(32, 8, 2), 4),
    torus((3, 4)),
    island(5, True),
]


@pytest.mark.parametrize("ending", ["json", "graphml"])
@pytest.mark.parametrize("fabric", FABRICS, ids=lambda f: f.kind)
def test_files_come_back_as_they_were(fabric, ending, tmp_path):
    path = tmp_path / f"f.{ending}"
    write_fabric(fabric, path)
    back = read_fabric(path)
    for name in Fabric.__slots__:
        a, b = getattr(fabric, name), getattr(back, name)
        if name == "link_class":
            a, b = np.array(fabric.link_classes)[a], np.array(back.link_classes)[b]
        if name == "link_classes":
            a, b = sorted(a), sorted(b)
        assert np.array_equal(a, b), name
    write_fabric(fabric, tmp_path / f"again.{ending}")
    assert path.read_bytes() == (tmp_path / f"again.{ending}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


BAD = {
    "not JSON": "{",
    "a list": "[1]",
    "no edges": '{"nodes": [{"id": 1}]}',
    "no chips": '{"nodes": [{"id": 1, "kind": "switch"}], "edges": []}',
    "unknown kind": '{"nodes": [{"id": 1, "kind": "router"}], "edges": []}',
    "itself": '{"nodes": [{"id": 1}], "edges": [{"source": 1, "target": 1}]}',
    "cannot reach": '{"nodes": [{"id": 1}, {"id": 2}], "edges": []}',
    "whole number": '{"nodes": [{"id": 1, "rack": 1.5}], "edges": []}',
    "length_m": '{"nodes": [{"id": 1}, {"id": 2}], "edges": [{"source": 1, "target": 2, "length_m": -3}]}',
}


@pytest.mark.parametrize("what", BAD)
def test_bad_graphs_say_what_is_wrong(what, tmp_path):
    path = tmp_path / "g.json"
    path.write_text(BAD[what])
    words = {
        "not JSON": "not a graph",
        "a list": "not a graph",
        "no edges": "not a graph",
        "unknown kind": "router",
    }
    with pytest.raises(FabricError, match=words.get(what, what)) as caught:
        read_fabric(path)
    assert str(path) in str(caught.value)


def test_other_bad_files(tmp_path):
    (tmp_path / "g.graphml").write_text("<graphml><")
    for name, words in (("g.graphml", "not a graph"), ("none.json", "not a graph"), ("g.txt", "read from")):
        with pytest.raises(FabricError, match=words):
            read_fabric(tmp_path / name)
    with pytest.raises(FabricError, match="written as"):
        write_fabric(island(2), tmp_path / "g.txt")
    with pytest.raises(OutputError, match="cannot be written"):
        write_fabric(island(2), tmp_path / "no" / "g.json")


def test_a_plain_graph_is_chips(tmp_path):
    """As `networkx.node_link_data` writes it, with names for vertices."""
    path = tmp_path / "g.json"
    path.write_text(json.dumps(nx.node_link_data(nx.relabel_nodes(nx.cycle_graph(4), dict(enumerate("abcd"))))))
    fabric = read_fabric(path)
    assert (fabric.chip_count, fabric.link_count) == (4, 8)
    assert routes.hop_totals(fabric).diameter_hops == 2


@pytest.mark.parametrize(
    ("section", "chips", "vertices"),
    [
        ({"kind": "lpu_dragonfly", "nodes": 33}, 264, 264),
        ({"kind": "dragonfly", "p": 2, "a": 4, "h": 2, "groups": 3}, 24, 36),
        ({"kind": "fat_tree", "endpoints": 16, "radix": 4, "levels": 3}, 16, 36),
        (
            {
                "kind": "leaf_spine",
                "endpoints": 16,
                "leaf_ports_down": 4,
                "spines": 2,
                "rails": 4,
                "node_chips": 4,
            },
            16,
            26,
        ),
        ({"kind": "dragonfly", "p": 1, "a": 2, "h": 1, "arrangement": "circulant", "node_chips": 2}, 6, 15),
        ({"kind": "dragonfly_plus", "p": 2, "leaves": 2, "spines": 2, "h": 1}, 12, 24),
        ({"kind": "slim_fly", "q": 5, "node_chips": 4}, 200, 300),
        ({"kind": "hyperx", "dims": [3, 4], "p": 2}, 24, 36),
        ({"kind": "rail_only", "endpoints": 32, "node_chips": 8}, 32, 44),
        ({"kind": "torus", "dims": [2, 3]}, 6, 6),
        ({"kind": "island", "chips": 8, "switch": True}, 8, 9),
    ],
)
def test_every_kind_from_the_spec(section, chips, vertices):
    from pydantic import TypeAdapter

    from dcsim.spec.fabric import FabricSpec

    fabric = build_fabric(TypeAdapter(FabricSpec).validate_python(section))
    assert (fabric.chip_count, fabric.vertex_count) == (chips, vertices)
    routes.hop_totals(fabric)


def test_custom_from_the_spec(tmp_path):
    from dcsim.spec.fabric import Custom

    write_fabric(torus((4, 4)), tmp_path / "t.graphml")
    assert build_fabric(Custom(kind="custom", path=str(tmp_path / "t.graphml"))).chip_count == 16


def test_the_shipped_eight_racks_and_unread_keys():
    resolved = load("8rack")
    fabric = build_fabric(resolved.spec.fabric)
    assert (fabric.chip_count, int(fabric.chip_active.sum())) == (576, 512)
    assert not [key for key in unused(resolved) if "fabric" in key]
