"""Low-diameter fabrics, rails alone and dragonfly arrangements against their closed forms and against networkx."""

from collections import Counter
from math import prod

import networkx as nx
import numpy as np
import pytest

from dcsim.errors import FabricError
from dcsim.fabric.custom import read_fabric
from dcsim.fabric.dragonfly import dragonfly, dragonfly_plus
from dcsim.fabric.export import write_fabric
from dcsim.fabric.graph import RANKS_A_DIMENSION
from dcsim.fabric.measures import measure
from dcsim.fabric.routers import hyperx, slim_fly
from dcsim.fabric.routes import hop_totals
from dcsim.fabric.switched import rail_only, with_islands
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.engine.rules import LinkFigures, PacketRules
from dcsim.network.packet.engine.traffic import Flows, all_to_all

CLASSES = ("adapter", "fabric", "island", "local", "rack", "global")
ONE = dict.fromkeys(CLASSES, 1.0)


def routers(fabric):
    """The graph of routers alone, parallel cables counted as weights."""
    graph = nx.Graph()
    graph.add_nodes_from(range(fabric.chip_count, fabric.vertex_count))
    for a, b in zip(fabric.link_source.tolist(), fabric.link_target.tolist(), strict=True):
        if fabric.chip_count <= a < b:
            graph.add_edge(a, b, cables=graph.get_edge_data(a, b, {"cables": 0})["cables"] + 1)
    return graph


def cables_within(fabric):
    """Cables between routers."""
    return int(((fabric.link_source >= fabric.chip_count) & (fabric.link_target >= fabric.chip_count)).sum()) // 2


@pytest.mark.parametrize(("q", "degree"), [(3, 5), (5, 7), (7, 11), (11, 17), (13, 19), (17, 25)])
def test_slim_fly(q, degree):
    """2 q^2 routers of (3 q - d) / 2 ports, any two within two hops (Besta and Hoefler, SC 2014)."""
    fabric, graph = slim_fly(q), routers(slim_fly(q))
    assert graph.number_of_nodes() == 2 * q * q
    assert set(dict(graph.degree()).values()) == {degree}
    assert nx.diameter(graph) == 2
    assert fabric.chip_count == 2 * q * q * -(-degree // 2)
    assert cables_within(fabric) == q * q * degree
    assert hop_totals(fabric).diameter_hops == 4


def test_the_slim_fly_of_five_is_the_hoffman_singleton_graph():
    assert nx.could_be_isomorphic(routers(slim_fly(5, 1)), nx.hoffman_singleton_graph())
    assert nx.girth(routers(slim_fly(5, 1))) == 5


@pytest.mark.parametrize("q", [1, 2, 4, 9, 15, 1009])
def test_a_slim_fly_needs_an_odd_prime(q):
    with pytest.raises(FabricError, match="odd prime"):
        slim_fly(q)


@pytest.mark.parametrize(
    ("dims", "p", "cables"), [((4, 4), 4, 1), ((4, 6), 2, 2), ((3, 4, 5), 1, 1), ((8,), 3, 1), ((2, 1, 3), 1, 1)]
)
def test_hyperx(dims, p, cables):
    """Hops are the coordinates that differ; cables and cut as Ahn et al., SC 2009."""
    fabric, count = hyperx(dims, p, cables), prod(dims)
    graph, figures = routers(fabric), measure(fabric, ONE)
    assert graph.number_of_nodes() == count
    assert set(np.diff(fabric.first_link)[fabric.chip_count :]) == {p + cables * (sum(dims) - len(dims))}
    place = np.array(np.unravel_index(np.arange(count), dims)).T
    for a, lengths in nx.all_pairs_shortest_path_length(graph):
        for b, hops in lengths.items():
            assert hops == (place[a - fabric.chip_count] != place[b - fabric.chip_count]).sum()
    assert cables_within(fabric) == cables * count * (sum(dims) - len(dims)) // 2
    if all(length % 2 == 0 or length == 1 for length in dims):
        assert figures.bisection_bytes_per_s <= cables * min(count * length // 4 for length in dims if length > 1)
    rank = fabric.link_rank[(fabric.link_source >= fabric.chip_count) & (fabric.link_target >= fabric.chip_count)]
    assert set((rank // RANKS_A_DIMENSION).tolist()) == {axis for axis, length in enumerate(dims) if length > 1}
    islands = with_islands(fabric, 2) if fabric.chip_count % 2 == 0 else None
    assert islands is None or sorted(islands.link_rank[islands.link_rank >= 0]) == sorted(rank)


@pytest.mark.parametrize(
    ("p", "leaves", "spines", "h", "groups"), [(2, 2, 2, 2, 0), (3, 2, 3, 2, 0), (4, 4, 4, 4, 0), (2, 3, 2, 2, 3)]
)
def test_dragonfly_plus(p, leaves, spines, h, groups):
    """spines h + 1 groups at most; leaf, spine, spine, leaf between groups, leaf, spine, leaf inside one."""
    fabric = dragonfly_plus(p, leaves, spines, h, groups)
    count = groups or spines * h + 1
    assert fabric.chip_count == p * leaves * count
    assert cables_within(fabric) == count * (leaves * spines) + count * spines * h // 2
    assert hop_totals(fabric).diameter_hops == 5
    degree = np.diff(fabric.first_link)[fabric.chip_count :]
    assert set(degree[: leaves * count]) == {p + spines}
    assert degree[leaves * count :].max() <= leaves + h
    across = fabric.group_of[fabric.link_source] != fabric.group_of[fabric.link_target]
    pairs = Counter(
        zip(
            fabric.group_of[fabric.link_source[across]].tolist(),
            fabric.group_of[fabric.link_target[across]].tolist(),
            strict=True,
        )
    )
    assert len(pairs) == count * (count - 1)
    assert max(pairs.values()) - min(pairs.values()) <= 1
    spine = np.arange(fabric.vertex_count) >= fabric.chip_count + leaves * count
    assert (spine[fabric.link_source[across]] & spine[fabric.link_target[across]]).all()
    with pytest.raises(FabricError, match=f"has 1 to {spines * h + 1} groups"):
        dragonfly_plus(p, leaves, spines, h, spines * h + 2)


@pytest.mark.parametrize("shape", [(1, 2, 1), (2, 4, 2), (1, 3, 3)])
@pytest.mark.parametrize("arrangement", ["relative", "absolute", "circulant"])
def test_global_ports_lead_where_their_arrangement_says(shape, arrangement):
    """Hastings et al., CLUSTER 2015: port k of group i leads to i + k + 1, to k without i, or to i + 1, i - 1, i + 2, ..."""
    p, a, h = shape
    fabric = dragonfly(p, a, h, arrangement=arrangement)
    groups, ports = a * h + 1, a * h
    for group in range(groups):
        for k in range(ports):
            peer = {
                "relative": (group + k + 1) % groups,
                "absolute": k if k < group else k + 1,
                "circulant": (group + (k // 2 + 1 if k % 2 == 0 else -(k // 2) - 1)) % groups,
            }[arrangement]
            router = fabric.chip_count + group * a + k // h
            reached = fabric.group_of[fabric.link_target[fabric.first_link[router] : fabric.first_link[router + 1]]]
            assert (reached == peer).sum() == 1
    assert set(np.diff(fabric.first_link)[fabric.chip_count :]) == {p + a - 1 + h}
    assert hop_totals(fabric).diameter_hops == 5


@pytest.mark.parametrize(("chips", "node", "radix", "switches", "hops"), [(32, 4, 64, 4 + 8, 4), (64, 4, 8, 4 * (4 + 2) + 16, 6)])
def test_rails_alone(chips, node, radix, switches, hops):
    """Every chip one adapter on its own rail and one port in its node; other rails are reached through a chip."""
    fabric = rail_only(chips, node, radix)
    assert fabric.vertex_count - chips == switches
    assert (np.diff(fabric.first_link)[:chips] == 2).all()
    assert hop_totals(fabric).diameter_hops == hops
    name = np.array(fabric.link_classes)[fabric.link_class]
    reach = nx.Graph(
        zip(fabric.link_source[name != "island"].tolist(), fabric.link_target[name != "island"].tolist(), strict=True)
    )
    parts = list(nx.connected_components(reach))
    assert len(parts) == node
    assert all(len({chip % node for chip in part if chip < chips}) == 1 for part in parts)
    with pytest.raises(FabricError, match="do not divide into nodes of 3"):
        rail_only(32, 3)


def test_a_chip_between_rails_receives_and_sends_again(tmp_path):
    """Chip 0 to chip 5 (node 1, rail 1): two links through a switch, the relaying chip's adapter twice, two links more."""
    fabric = rail_only(8, 4)
    figures = PacketRules(
        {name: LinkFigures(1e9, 0.0) for name in fabric.link_classes}, mtu_bytes=1000, adapter_s=1e-6, switch_s=1e-7
    )
    took = [Engine(fabric, figures, Flows([0], [target], [1000], [0.0])).iteration().finish_ps / 1e6 for target in (4, 5)]
    assert took == [pytest.approx(1 + 1 + 0.1 + 1), pytest.approx(1 + 1 + 0.1 + 2 + 0.1 + 1)]
    flows = all_to_all(8, 5000)
    lossless = PacketRules(figures.links, mtu_bytes=1000, flow_control="credits", buffer_bytes=2000)
    use = Engine(fabric, lossless, flows).iteration().links
    assert use.bytes[fabric.link_target < 8].sum() > flows.size_bytes.sum()
    write_fabric(fabric, tmp_path / "r.json")
    assert read_fabric(tmp_path / "r.json").chips_relay
