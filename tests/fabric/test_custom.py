"""Graphs from files: what they say holds, and what they cannot say is refused with file, place and mend."""

import json

import networkx as nx
import numpy as np
import pytest
from command import dcsim
from topology_files import topology_file

from dcsim.errors import FabricError
from dcsim.fabric.build import build_fabric
from dcsim.fabric.custom import read_fabric
from dcsim.fabric.direct import torus
from dcsim.fabric.export import write_fabric
from dcsim.fabric.graph import subgraph
from dcsim.fabric.measures import measure
from dcsim.network.network import make_network
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.engine.rules import LinkFigures, PacketRules
from dcsim.network.packet.engine.traffic import Flows
from dcsim.network.scheduled.slack import margins_of
from dcsim.spec.load import load
from dcsim.study.topology import topology

RING = [(0, 1), (1, 2), (2, 3), (3, 0)]


def write(path, nodes=range(4), edges=RING, **more):
    """A node-link file of vertices and edges, which may be tuples or whole objects."""
    data = {
        "multigraph": True,
        "nodes": [node if isinstance(node, dict) else {"id": node} for node in nodes],
        "edges": [edge if isinstance(edge, dict) else {"source": edge[0], "target": edge[1]} for edge in edges],
        **more,
    }
    path.write_text(json.dumps(data))
    return path


def edge(source, target, **more):
    return {"source": source, "target": target, **more}


@pytest.mark.parametrize(
    ("nodes", "edges", "more", "words"),
    [
        (range(4), [*RING, (0, 40)], {}, "edge 0 - 40: there is no vertex 40"),
        (["a", "b1"], [("a", "b1"), ("a", "b")], {}, "there is no vertex 'b'; did you mean 'b1'"),
        ([*range(4), {"id": 0, "node": 77}], RING, {}, "vertex 0 is given 2 times"),
        (range(4), [*RING, (1, 0)], {"multigraph": False}, 'edge 1 - 0 is given twice; parallel cables need "multigraph": true'),
        (range(4), RING, {"directed": True}, "edge 0 - 1 has no edge back"),
        (
            range(2),
            [edge(0, 1, length_m=1), edge(1, 0, length_m=2)],
            {"directed": True},
            "edges 0 - 1 and 1 - 0 differ",
        ),
        (range(4), [*RING[:3], edge(3, 0, bandwith="1 GB/s")], {}, "unknown attribute 'bandwith'; did you mean 'bandwidth'"),
        ([0, 1, 2, {"id": 3, "colour": 1}], RING, {}, "vertex 3: unknown attribute 'colour'; known: kind"),
        (range(4), [*RING[:3], edge(3, 0, bandwidth=1e9)], {}, "edge 3 - 0: bandwidth 1000000000.0: bandwidth needs a unit"),
        (range(4), [*RING[:3], edge(3, 0, latency="1 GB")], {}, "latency needs a unit, for example '300 ns'"),
        (range(4), [*RING[:3], edge(3, 0, latency="5 s")], {}, "a number from 0 to 1"),
        (range(4), [*RING[:3], edge(3, 0, bandwidth="0 GB/s")], {}, "bandwidth needs a unit"),
        (range(4), [*RING[:3], edge(3, 0, latency="1 us", latency_s=1)], {}, "latency '1 us' and latency_s 1"),
        (range(4), [*RING[:3], edge(3, 0, bandwidth_bytes_per_s="fast")], {}, "bandwidth_bytes_per_s 'fast'"),
        (range(4), [*RING[:3], edge(3, 0, **{"class": 7})], {}, "class must be a name"),
        ([0, 1, 2, {"id": 3, "active": "false"}], RING, {}, "active is true or false, not 'false'"),
        ([0, 1, 2, {"id": 3, "kind": "router"}], RING, {}, "kind is 'chip' or 'switch', not 'router'"),
        ([0, 1, 2, {"id": 3, "node": True}], RING, {}, "node must be a whole number or a name, not True"),
        ([{"id": i, "active": False} for i in range(4)], RING, {}, "has no active chips"),
        ([*range(4), {"id": 9, "kind": "switch"}], RING, {}, "switch 9 has no cable; leave it out"),
        ([*range(4), {"id": 9, "kind": "switch"}], [*RING, (0, 9)], {}, "chips pass packets on only where there is no switch"),
        (range(4), [*RING[:3], {"source": 3}], {}, "edge 3 has no 'target'"),
        ([0, 1, 2, {"name": 3}], RING, {}, "node 3 has no 'id'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, nodes, edges, more, words):
    path = write(tmp_path / "g.json", nodes, edges, **more)
    with pytest.raises(FabricError) as caught:
        read_fabric(path)
    assert words in str(caught.value)
    assert all(line.startswith(str(path)) for line in str(caught.value).splitlines())


@pytest.mark.parametrize("data", [{"nodes": [], "edges": [[0, 1]]}, {"nodes": 3, "edges": []}, {"nodes": [{"id": 1}]}])
def test_nodes_and_edges_are_lists_of_objects(tmp_path, data):
    (tmp_path / "g.json").write_text(json.dumps(data))
    with pytest.raises(FabricError, match="must be a list of objects"):
        read_fabric(tmp_path / "g.json")


def test_everything_wrong_is_said_at_once(tmp_path):
    path = write(tmp_path / "g.json", [0, 1, {"id": 2, "kind": "box"}], [(0, 5), edge(1, 2, bandwidth=3), (1, 1)])
    with pytest.raises(FabricError) as caught:
        read_fabric(path)
    for words in ("'box'", "no vertex 5", "bandwidth 3", "cabled to itself"):
        assert words in str(caught.value)


@pytest.mark.parametrize("what", ["twice", "undeclared"])
def test_graphml_mends_nothing_silently(tmp_path, what):
    path, extra = tmp_path / "g.graphml", {"twice": '<node id="a"/>', "undeclared": '<edge source="a" target="z"/>'}[what]
    path.write_text(
        '<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph edgedefault="undirected"><node id="a"/><node id="b"/>'
        f'<edge source="a" target="b"/>{extra}</graph></graphml>'
    )
    with pytest.raises(FabricError, match="'a' is given 2 times" if what == "twice" else "no vertex 'z'"):
        read_fabric(path)


@pytest.mark.parametrize("ending", ["json", "graphml"])
def test_a_directed_graph_with_both_directions_is_its_cables(tmp_path, ending):
    graph, path = nx.cycle_graph(4).to_directed(), tmp_path / f"g.{ending}"
    if ending == "json":
        path.write_text(json.dumps(nx.node_link_data(graph, edges="edges")))
    else:
        nx.write_graphml(graph, path)
    fabric = read_fabric(path)
    assert (fabric.chip_count, fabric.link_count) == (4, 8)


def test_labels_are_names(tmp_path):
    """Whole numbers of any size, and words; chips that say nothing are nodes of their own."""
    nodes = [{"id": i, "node": label} for i, label in enumerate([3_000_000_000, "left", 3_000_000_000])] + [{"id": 3}]
    fabric = read_fabric(write(tmp_path / "g.json", nodes))
    assert fabric.node_of[0] == fabric.node_of[2]
    assert len(set(fabric.node_of.tolist())) == 3
    small = read_fabric(write(tmp_path / "h.json", [{"id": 0, "node": 1}, 1, 2, 3]))
    assert small.node_of[0] == 1
    assert len(set(small.node_of.tolist())) == 4
    named = read_fabric(write(tmp_path / "i.json", ["a", "b", [1, 2]], [("a", "b"), ("b", [1, 2])]))
    assert named.link_count == 4


def test_any_number_of_link_classes(tmp_path):
    edges = [edge(i, i + 1, **{"class": f"c{i}"}) for i in range(300)]
    fabric = read_fabric(write(tmp_path / "g.json", range(301), edges))
    assert len(fabric.link_classes) == 300
    assert measure(fabric, {f"c{i}": 1.0 + i for i in range(300)}).bisection_bytes_per_s >= 1.0


def slow_ring(tmp_path):
    own = [
        edge(0, 1, bandwidth="1 GB/s", latency="1 ms"),
        edge(1, 2, bandwidth_bytes_per_s=2e9),
        edge(2, 3, latency_s=1e-6),
        (3, 0),
    ]
    return write(tmp_path / "ring.json", edges=own)


def test_a_cable_has_the_bandwidth_and_latency_it_says(tmp_path):
    """One message over each cable of a ring takes latency + size / bandwidth: its own, or the network's."""
    fabric = read_fabric(slow_ring(tmp_path))
    figures = PacketRules({"local": LinkFigures(10e9, 3e-6)}, mtu_bytes=1000)
    size = 1000
    flows = Flows([0, 1, 2, 3], [1, 2, 3, 0], [size] * 4, [0.0] * 4)
    took = Engine(fabric, figures, flows).iteration().last_ps * 1e-12
    assert took == pytest.approx([1e-3 + size / 1e9, 3e-6 + size / 2e9, 1e-6 + size / 10e9, 3e-6 + size / 10e9])


def test_a_cable_of_its_own_counts_in_the_cut_and_survives_files(tmp_path):
    fabric = read_fabric(slow_ring(tmp_path))
    for ending in ("json", "graphml"):
        write_fabric(fabric, tmp_path / f"again.{ending}")
        again = read_fabric(tmp_path / f"again.{ending}")
        assert np.array_equal(again.own_bandwidth_bytes_per_s, fabric.own_bandwidth_bytes_per_s, equal_nan=True)
        assert np.array_equal(again.own_latency_s, fabric.own_latency_s, equal_nan=True)
    part, links = subgraph(fabric, np.array([1, 2]))
    assert part.own_bandwidth_bytes_per_s.tolist() == [2e9, 2e9] == fabric.own_bandwidth_bytes_per_s[links].tolist()
    grid = torus((3, 4))
    write_fabric(grid, tmp_path / "t.json")
    assert np.array_equal(read_fabric(tmp_path / "t.json").link_rank, grid.link_rank)


def spec_of(tmp_path, path, network):
    return load(topology_file(tmp_path, f"{{kind: custom, path: {path}}}", network)).spec


def test_links_of_a_schedule_are_alike_and_others_need_a_packet_network(tmp_path):
    path = slow_ring(tmp_path)
    with pytest.raises(FabricError, match="cables give their own bandwidth, and all links of a scheduled network are alike"):
        topology(spec_of(tmp_path, path, "scheduled"))
    with pytest.raises(FabricError, match="scheduled network"):
        make_network(spec_of(tmp_path, path, "scheduled"), read_fabric(path))
    packets = spec_of(tmp_path, path, "{base: tpu-ici}")
    result = topology(packets)
    part = packets.network.mtu_bytes / (packets.network.mtu_bytes + packets.network.header_bytes)
    (row,) = result["link_payloads"]
    assert row["least_bytes_per_s"] == pytest.approx(1e9 * part)
    assert row["most_bytes_per_s"] == pytest.approx(packets.network.bandwidth_bytes_per_s * part)
    assert result["bisection_bytes_per_s"] == pytest.approx(part * (1e9 + packets.network.bandwidth_bytes_per_s))


def test_an_islands_own_ports_count_in_the_cut(tmp_path):
    """Half a node of eight: four NVLink ports at 450 GB/s and four adapters at 50, less the headers of each."""
    fabric = "{kind: leaf_spine, endpoints: 8, node_chips: 8, rails: 8}"
    result = topology(load(topology_file(tmp_path, fabric, "infiniband-ndr", chip="h100", node="dgx-h100")).spec)
    assert result["bisection_bytes_per_s"] == pytest.approx(4 * 450e9 * 256 / 272 + 4 * 50e9 * 4096 / 4122)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("collective", "64chip", "--bytes=-5B"), "at least 1 B"),
        (("collective", "64chip", "--bytes=0.3B"), "at least 1 B"),
        (("traffic", "--endpoints", "8", "--bytes", "1e30 B"), "at most 1,024 TiB"),
        (("traffic", "--endpoints", "8", "--bytes", "1 PB"), "packets of 4,096 B are more than"),
        (("traffic", "--endpoints", "8", "--set", "network.bandwidth=1e-9 B/s"), "greater than or equal to 1"),
        (("traffic", "--endpoints", "8", "--set", "network.buffer=1 B"), "less than one packet of 4,122 B"),
        (("traffic", "--endpoints", "8", "--set", "network.mtu=0.4 B"), "greater than or equal to 1"),
        (("traffic", "--endpoints", "8", "--set", "network.switch=1e9 s"), "less than or equal to 1"),
    ],
)
def test_sizes_that_are_no_sizes_are_refused(tmp_path, arguments, words):
    code, _, err = dcsim(*arguments, cwd=tmp_path)
    assert code == 2
    assert words in err
    assert "Traceback" not in err


def test_a_message_alone_on_the_scheduled_network(tmp_path):
    """End, link, slack and the slot of one vector, from the first chip to the last of two."""
    code, out, _ = dcsim("collective", "64chip", "--op", "send", "--ranks", "2", "--bytes", "320B", "--json", cwd=tmp_path)
    spec = load("64chip").spec
    clock, margins = spec.network, margins_of(build_fabric(spec.fabric), spec.network.clock)
    assert code == 0
    cycles = json.loads(out)["cycles"]
    assert cycles == clock.end_cycles + clock.link_cycles + margins.slack_cycles(cycles)
