"""One collective alone on a packet network: against measurements, closed forms, and the library's choice."""

import pytest
from by_rule import load

from dcsim.errors import FabricError
from dcsim.fabric.build import build_fabric
from dcsim.llm.cost import summed_bytes_per_cycle
from dcsim.network.packet.collective import packet_collective, packet_collective_parts
from dcsim.network.packet.iteration import Attached
from dcsim.network.packet.rules_of import layers_of
from dcsim.network.packet.switches import attach
from dcsim.network.timing import BREAKDOWN
from dcsim.study.collective import collective

ONE = "network.replications=1"


def timed(topology, op="all_reduce", size=8, ranks=8, *settings, algorithm="auto"):
    return collective(load(topology, settings=[ONE, *settings]).spec, op, size, ranks, algorithm)


@pytest.mark.parametrize(("ranks", "measured_us"), [(2, 10), (3, 13.8), (4, 16.9), (5, 20.8), (6, 25.2), (7, 29.5), (8, 33.7)])
def test_small_rings_in_a_node_take_what_was_measured(ranks, measured_us):
    assert timed("dgx-a100", ranks=ranks)["time_s"] * 1e6 == pytest.approx(measured_us, rel=0.05)


def test_calls_across_nodes_take_what_was_measured_and_not_what_the_library_expects():
    measured = timed("h100x16", size=128, ranks=16)
    own_model = timed("h100x16", "all_reduce", 128, 16, "network.software=nccl")
    assert measured["algorithm"] == own_model["algorithm"] == "tree"
    assert measured["time_s"] == pytest.approx(61.6e-6, rel=0.23)  # with three nodes 1.28 times: fitted to both
    assert own_model["time_s"] < 0.6 * measured["time_s"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("op", "algorithm", "measured_gb_per_s", "error"),
    [("all_to_all", "auto", 91, 0.03), ("all_gather", "auto", 404, 0.04), ("all_reduce", "ring", 378, 0.05)],
)
def test_large_data_across_nodes_goes_as_fast_as_adapters_let_it(op, algorithm, measured_gb_per_s, error):
    """Bus bandwidth on two nodes of eight H100 with an adapter of 400 Gb/s each (MSCCL++'s performance tests, 2026-08): another
    library on the same wires, which bound both. Nothing was fitted to it.
    """
    result = timed("h100x16", op, 1 << 30, 16, "network.software=nccl", algorithm=algorithm)
    assert result["bus_bandwidth_bytes_per_s"] == pytest.approx(measured_gb_per_s * 1e9, rel=error)


@pytest.mark.parametrize(
    ("topology", "ranks", "least_us", "most_us"),
    [("dgx-a100", 2, 10, 13), ("a100x16", 9, 0.93 * 24, 27), ("dgx-h100", 2, 6, 7), ("h100x16", 9, 18, 19)],
)
def test_bare_sends_take_what_was_measured(topology, ranks, least_us, most_us):
    """10-18 kB over NVLink and across nodes. H100 calibrated; A100 by the library's own constants: 7 % low across nodes."""
    assert least_us < timed(topology, "send", 14_000, ranks)["time_s"] * 1e6 < most_us


def test_a_large_all_reduce_is_bound_by_bytes_over_bandwidth():
    size = 256_000_000
    big = ("network.mtu=1 MiB", "network.header=64 KiB", "network.buffer=16 MiB")
    result = timed("dgx-h100", "all_reduce", size, 8, *big, "network.software=ideal", algorithm="ring")
    floor_s = 2 * 7 / 8 * size / (450e9 * 16 / 17)  # payload share of the wire
    assert floor_s < result["time_s"] < 1.15 * floor_s


def test_steps_inside_nodes_do_not_pay_for_the_network():
    """A ring of two nodes crosses twice a round, and data goes round nearly twice: four hops of the network, the rest NVLink."""
    across, inside = (timed("a100x16", "all_reduce", 4096, ranks, algorithm="ring")["time_s"] for ranks in (16, 8))
    assert across - inside < 4 * 14e-6 + 12 * 3e-6


def test_sums_run_at_the_speed_of_the_chip_not_of_the_networks_vector():
    """A piece of data may be cut finer without a slower sum."""
    size = 8 << 20
    big = ("network.mtu=64 KiB", "network.buffer=16 MiB")
    coarse, fine = (timed("dgx-h100", "all_reduce", size, 8, *big, f"network.vector={v} B")["time_s"] for v in (320, 16))
    assert fine == pytest.approx(coarse, rel=0.02)
    chip = load("dgx-h100").spec.chip
    assert summed_bytes_per_cycle(chip) * chip.clock_hz == pytest.approx(3.35e12 * 0.85 / 3)


def test_an_unknown_algorithm_is_refused():
    with pytest.raises(FabricError, match="no collective 'all_to_all' by 'tree'"):
        timed("dgx-a100", "all_to_all", 8, 8, algorithm="tree")


def test_a_slow_adapter_slows_the_ring_that_passes_it():
    """One of eight adapters at a hundredth of its speed from the start: the ring takes about a hundred times as long."""
    settings = ["network.replications=1", "network.software=ideal"]
    fault = 'network.faults=[{at: "0 s", chip: 0, speed_fraction: 0.01}]'
    whole, hurt = (
        collective(load("64chip", network="infiniband-ndr", settings=[*settings, *more]).spec, "all_reduce", 1 << 24, 8, "ring")
        for more in ([], [fault])
    )
    assert hurt["time_s"] == pytest.approx(100 * whole["time_s"], rel=0.1)


def jittery(*settings):
    spec = load("h100x16", settings=["network.software=ideal", "network.jitter=host", "network.replications=3", *settings]).spec
    network, fabric = attach(spec.network, build_fabric(spec.fabric))
    return Attached(spec, network, fabric, layers_of(network, fabric, spec.node.island))


@pytest.fixture(scope="module")
def attached():
    return jittery()


def test_a_collective_is_timed_alone_and_again(attached):
    """Each replication alone on an idle network, by one seed the same; messages and packets counted by hand."""
    place, chips = attached, range(4)
    first = packet_collective(place, "all_gather", 4000, chips, "ring", seed=3)
    assert first == packet_collective(place, "all_gather", 4000, chips, "ring", seed=3)
    other = packet_collective(place, "all_gather", 4000, chips, "ring", seed=4)
    assert len(set(first.times_s)) == 3
    assert set(first.times_s) != set(other.times_s)
    assert (first.algorithm, first.protocol, first.messages) == ("ring", "", 4 * 3)
    assert first.counts == {"packets": 12}  # 1000 bytes each, less than a packet holds
    sent = packet_collective(place, "send", 10_000, [2, 0, 1])
    assert (sent.algorithm, sent.protocol, sent.messages, sent.counts["packets"]) == ("direct", "", 1, 3)
    for asked in (("ring", "auto"), ("auto", "ll"), ("direct", "ll")):
        with pytest.raises(FabricError, match="'send' has no algorithms and no protocols"):
            packet_collective(place, "send", 8, chips, *asked)
    assert packet_collective(place, "send", 8, chips, "direct").messages == 1


def test_each_replication_begins_on_a_whole_network():
    """An adapter that slows down in mid-way does so in each of them, in which all else is alike."""
    fault = 'network.faults=[{at: "5 us", chip: 0, speed_fraction: 0.1}]'
    settings = ["network.replications=3", "network.software=ideal", fault]
    spec = load("64chip", network="infiniband-ndr", settings=settings).spec
    network, fabric = attach(spec.network, build_fabric(spec.fabric))
    place = Attached(spec, network, fabric, layers_of(network, fabric, spec.node.island))
    times_s = packet_collective(place, "all_gather", 2 << 20, range(8), "ring").times_s
    assert times_s[0] > 40e-6  # 16 us without
    assert len(set(times_s)) == 1


def test_where_a_collectives_time_goes_adds_up_to_it(attached):
    parts = packet_collective_parts(attached, "all_reduce", 4000, range(4), seed=3)
    assert parts.sum() == pytest.approx(packet_collective(attached, "all_reduce", 4000, range(4), seed=3).times_s[0], rel=1e-9)
    assert parts[BREAKDOWN.index("jitter")] > 0


def test_the_way_that_a_mapping_names_is_the_one_whose_parts_are_shown(attached):
    """Where the operation has it; else the library's own."""
    asked = jittery("mapping.all_reduce=ring")
    for op, way in (("all_reduce", "ring"), ("all_to_all", "auto")):
        parts = packet_collective_parts(asked, op, 1 << 20, range(8), seed=3)
        assert parts.sum() == pytest.approx(packet_collective(attached, op, 1 << 20, range(8), way, seed=3).times_s[0], rel=1e-9)
