"""Chips joined directly, each to every other: a group of n has n - 1 links a chip among itself, whatever else the chips have."""

from collections import Counter

import numpy as np
import pytest

from dcsim import library
from dcsim.fabric.direct import island, torus
from dcsim.fabric.switched import leaf_spine, with_islands
from dcsim.network.packet.switches import is_mesh, on_island
from dcsim.network.patterns.meshes import mesh_rings
from dcsim.spec.document import read_document
from dcsim.spec.load import load
from dcsim.study.collective import collective

MESHES = ("mi300x", "mi325x", "mi355x")
LARGE = 64 << 20


@pytest.mark.parametrize("ranks", [2, 3, 4, 5, 6, 7, 8, 12, 17, 18])
def test_rings_of_a_mesh_use_its_links_alike(ranks):
    """Every ring passes all ranks once; together they take each link equally often, up to 16 ranks all of them."""
    rings = mesh_rings(ranks)
    assert all(sorted(ring) == list(range(ranks)) for ring in rings)
    used = Counter((ring[i - 1], ring[i]) for ring in rings for i in range(ranks))
    assert len(set(used.values())) == 1
    assert len(used) == ranks * (ranks - 1) or ranks > 16


@pytest.mark.parametrize("pattern", ["ring", "two_shot"])
@pytest.mark.parametrize("ranks", [2, 3, 4, 8])
def test_a_group_has_the_links_among_itself(ranks, pattern):
    """An all-reduce of much data takes 2 (n - 1) / n of it over n - 1 links: no chip beyond the group lends it any."""
    spec = load("mi300x", settings=["network.replications=1", "network.software=ideal"]).spec
    network = spec.network
    bytes_per_s = network.chip_port_bytes_per_s * network.mtu_bytes / (network.mtu_bytes + network.header_bytes)
    bound_s = 2 * LARGE / ranks / bytes_per_s
    time_s = collective(spec, "all_reduce", LARGE, ranks, algorithm=pattern)["time_s"]
    assert bound_s <= time_s <= 1.1 * bound_s


@pytest.mark.parametrize("op", ["all_gather", "reduce_scatter", "broadcast"])
def test_other_rings_use_all_links_too(op):
    """Half an all-reduce takes half its time; a chain hands the whole on over all links at once."""
    spec = load("mi300x", settings=["network.replications=1", "network.software=ideal"]).spec
    algorithm = "pipeline" if op == "broadcast" else "ring"
    all_links = collective(spec, op, LARGE, 8, algorithm=algorithm)["time_s"]
    among_two = collective(spec, op, LARGE, 2, algorithm=algorithm)["time_s"]
    data = {"broadcast": 1.0}.get(op, 7 / 4)  # a chip's, over that of one of two
    assert all_links == pytest.approx(among_two * data / 7, rel=0.15)


def test_a_message_between_two_chips_has_one_link():
    """From the first to the third of three as from the first to the eighth: as fast as one cable."""
    spec = load("mi300x", settings=["network.replications=1", "network.software=ideal"]).spec
    near_s, far_s = (collective(spec, "send", LARGE, ranks)["time_s"] for ranks in (3, 8))
    network = spec.network
    raw = LARGE * (network.mtu_bytes + network.header_bytes) / network.mtu_bytes
    assert near_s == far_s == pytest.approx(raw / network.chip_port_bytes_per_s, rel=0.01)


def test_machines_without_switches_have_none():
    """A network that is said to have no switch is never put behind one: its chips are joined by their own links."""
    named = [name for name in library.names("topologies") if _network_of(name) == "infinity-fabric"]
    assert sorted(named) == sorted(MESHES)
    for name in named:
        spec = load(name).spec
        assert spec.network.layout == "own"
        assert not spec.fabric.switch


def _network_of(name):
    network = read_document(library.find(name, "topologies")).data.get("network")
    return network.get("base") if isinstance(network, dict) else network


def test_an_island_is_what_its_links_join():
    """Directly or through a switch; chips without such links are each their own."""
    chips = np.arange(8)
    zeros = np.zeros(8, np.int64)
    for fabric in (island(8), island(8, switch=True)):
        assert on_island(fabric, chips, zeros).all()
    nodes = with_islands(leaf_spine(8), 4)
    assert on_island(nodes, chips, zeros).tolist() == [True] * 4 + [False] * 4
    assert not on_island(torus((2, 4)), chips, zeros).any()


def test_a_mesh_is_of_direct_cables():
    """All chips of a direct island, any of them; none behind a switch; on a grid only neighbours."""
    assert is_mesh(island(8), [1, 4, 6])
    assert not is_mesh(island(8, switch=True), [1, 4])
    grid = torus((4, 4))
    assert is_mesh(grid, [0, 1])
    assert not is_mesh(grid, [0, 1, 2])
