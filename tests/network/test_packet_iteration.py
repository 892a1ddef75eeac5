"""Adapters and switches in place of cables, library costs, and whole iterations on them."""

import numpy as np
import pytest

from dcsim.errors import FabricError, SpecError
from dcsim.fabric.build import build_fabric
from dcsim.fabric.graph import from_cables
from dcsim.fabric.switched import with_islands
from dcsim.llm.blocks import Collective
from dcsim.llm.program import Shape
from dcsim.network.packet.breakdown import PARTS
from dcsim.network.packet_exchange import choose_pattern, pattern_time_s, steps_and_bytes
from dcsim.network.packet_fabric import adapters, attach, bonded, on_island, plane
from dcsim.network.packet_figures import (
    CALLS,
    call_of,
    faults_of,
    figures_of,
    jitter_table,
    layers_of,
    place_calls,
    software_of,
)
from dcsim.network.packet_iteration import packet_time, packet_times, run_packets
from dcsim.network.tasks import SEND, TaskBuilder
from dcsim.spec.load import load
from dcsim.spec.network import AdapterFault
from dcsim.spec.software import read_jitter, read_software
from dcsim.study.machine import build

NETWORKS = ("infiniband-hdr", "infiniband-ndr", "roce-400g", "ethernet-100g", "nvlink3", "nvlink4", "slingshot")


@pytest.fixture(scope="module")
def machine():
    return build(load("64chip").spec)


def network(name="infiniband-ndr", *settings):
    return load("64chip", network=name, settings=[f"network.{s}" for s in settings]).spec.network


def times(machine, *settings, name="infiniband-ndr", count=3, mapping=()):
    spec = load("64chip", network=name, settings=[*mapping, *(f"network.{s}" for s in settings)]).spec
    laid = build(load("64chip", settings=list(mapping)).spec).mapping if mapping else machine.mapping
    return run_packets(spec, machine.fabric, laid, Shape(1, 1024), count)


def part(run, name):
    return run.parts_ps[:, PARTS.index(name)].mean()


# What joins the chips.


def test_equal_bandwidth_keeps_the_sum_of_a_chips_cables():
    for name in NETWORKS:
        assert adapters(network(name), 11) == (1, 11 * 12.5e9)


def test_equal_radix_keeps_the_number_and_pcie_has_one_no_faster_than_its_bus():
    assert adapters(network("infiniband-ndr", "fairness=equal_radix"), 11) == (11, 50e9)
    assert adapters(network("infiniband-ndr", "fairness=pcie"), 11) == (1, 25e9)
    assert adapters(network("ethernet-100g", "fairness=pcie"), 11) == (1, 12.5e9)


def test_planes_join_every_chip_and_keep_its_place(machine):
    attached, fabric = attach(network(), machine.fabric)
    degrees = np.diff(fabric.first_link)[: fabric.chip_count]
    assert set(degrees) == {1}
    assert attached.bandwidth_bytes_per_s == 11 * 12.5e9
    assert bonded(network(), attached) == 3  # 2.75 ports of 50 GB/s
    _, fabric = attach(network("infiniband-ndr", "fairness=equal_radix"), machine.fabric)
    assert np.array_equal(fabric.node_of[: fabric.chip_count], machine.fabric.node_of)
    switches = [set(fabric.link_target[fabric.first_link[c] : fabric.first_link[c + 1]].tolist()) for c in (0, 63)]
    assert switches[0] == switches[1] == set(range(64, 75))  # 64 chips share one switch of 64 ports in each plane


def test_no_switch_has_more_ports_than_its_kind_and_none_is_oversubscribed():
    fabric = build_fabric(load("8rack").spec.fabric)
    for name in ("infiniband-hdr", "infiniband-ndr", "ethernet-100g", "slingshot"):
        ports = network(name).switch_ports
        one = plane(network(name), fabric.chip_count)
        used = np.diff(one.first_link)[one.chip_count :]
        assert used.max() <= ports
        if name != "slingshot":
            leaf = one.link_target[one.first_link[:-1][: one.chip_count]]
            for switch in np.unique(leaf):
                links = one.link_target[one.first_link[switch] : one.first_link[switch + 1]]
                assert np.sum(links < one.chip_count) <= np.sum(links >= one.chip_count)


def test_one_tier_of_switches_says_when_it_is_too_small(machine):
    with pytest.raises(FabricError, match="36-port"):
        attach(network("nvlink3"), machine.fabric)


def test_switched_fabrics_and_own_cables_stay_as_they_are(machine):
    _, switched = attach(network(), machine.fabric)
    assert attach(network(), switched)[1] is switched
    assert attach(network("infiniband-ndr", "layout=own"), machine.fabric)[1] is machine.fabric


def test_islands_join_the_chips_of_a_node():
    star = from_cables("star", 8, [(i, 8, "adapter", 1.0) for i in range(8)], vertex_count=9)
    fabric = with_islands(star, 4)
    inside = on_island(fabric, np.array([0, 0, 4]), np.array([3, 4, 7]))
    assert inside.tolist() == [True, False, True]
    with pytest.raises(FabricError, match="island"):
        figures_of(network(), fabric)
    nvlink = load("dgx-a100").spec.node.island
    assert figures_of(network(), fabric, nvlink).links["island"].bandwidth_bytes_per_s == 300e9
    builder = TaskBuilder(1e9)
    builder.message(0, 3, 8, [])
    builder.message(0, 4, 8, [])
    assert place_calls(builder.build(), fabric).call.tolist() == [SEND + CALLS, SEND]


def test_inside_an_island_messages_pay_its_own_ports_and_switch():
    """Two ports, a switch and two cables, plus one byte of 450 GB/s: not the InfiniBand adapters'."""
    from dcsim.network.packet.engine import Engine

    star = from_cables("star", 8, [(i, 8, "adapter", 2.0) for i in range(8)], vertex_count=9)
    fabric = with_islands(star, 4)
    island = load("h100x16").spec.node.island
    for target, ends_us in ((3, 2 * 0.25 + 0.1 + 2 * 0.5 * 0.005), (4, 2 * 0.53 + 0.23 + 2 * 2 * 0.005)):
        builder = TaskBuilder(1e9)
        builder.message(0, target, 1, [])
        engine = Engine(fabric, figures_of(network(), fabric, island), builder.build())
        assert engine.iteration().finish_ps * 1e-6 == pytest.approx(ends_us, rel=0.01)
    with pytest.raises(FabricError, match=r"node\.island"):
        figures_of(network(), fabric)


def test_equal_cost_buys_what_the_cables_cost(machine):
    """352 cables of 150 USD buy 64 times an adapter and a port of 50 GB/s, 1200 + 1500 USD, 0.306 times over."""
    spec = network("infiniband-ndr", "fairness=equal_cost")
    attached, fabric = attach(spec, machine.fabric)
    assert attached.bandwidth_bytes_per_s == pytest.approx(50e9 * 352 * 150 / (64 * 2700))
    assert set(np.diff(fabric.first_link)[: fabric.chip_count]) == {1}
    assert bonded(spec, attached) == pytest.approx(352 * 150 / (64 * 2700))
    free = network("nvlink4", "fairness=equal_cost", "port=0 USD")
    with pytest.raises(FabricError, match="costs nothing"):
        attach(free, machine.fabric)


def test_faults_name_adapters_that_exist(machine):
    spec = network("infiniband-ndr", "fairness=equal_radix")
    _, fabric = attach(spec, machine.fabric)
    lost = spec.model_copy(update={"faults": (AdapterFault.model_validate({"at": "1 us", "chip": 5, "adapter": 2}),)})
    found = faults_of(lost, fabric)[0]
    assert fabric.link_source[found.link] == 5
    assert found.speed_fraction == 0.0
    with pytest.raises(FabricError, match="no adapter 11"):
        faults_of(spec.model_copy(update={"faults": (AdapterFault.model_validate({"at": 0, "chip": 5, "adapter": 11}),)}), fabric)


def test_a_slow_adapter_slows_the_chip_down_and_a_lost_one_cuts_it_off(machine):
    """Of three bonded ports one is left at a third of the speed; prefill is large enough to feel it."""
    spec = load("64chip", network="infiniband-ndr").spec

    def run(*events):
        faults = tuple(AdapterFault.model_validate({"at": 0, "chip": 9, **event}) for event in events)
        changed = spec.model_copy(update={"network": spec.network.model_copy(update={"faults": faults})})
        return run_packets(changed, machine.fabric, machine.mapping, Shape(1, 1024, 128), 1).latency_ps[0]

    assert run({"speed_fraction": 1 / 3}) > 1.05 * run()
    with pytest.raises(FabricError, match="cut off"):
        run({"speed_fraction": 0.0})


def test_other_adapters_take_over_from_a_lost_one(machine):
    spec = network("infiniband-ndr", "fairness=equal_radix")
    lost = tuple(AdapterFault.model_validate({"at": 0, "chip": 9, "adapter": i}) for i in range(10))
    whole = load("64chip", network="infiniband-ndr").spec

    def run(faults):
        changed = whole.model_copy(update={"network": spec.model_copy(update={"faults": faults})})
        return run_packets(changed, machine.fabric, machine.mapping, Shape(1, 1024, 128), 1).latency_ps[0]

    assert run(lost) > 1.02 * run(())


# Libraries and patterns.


def test_steps_and_bytes_are_the_textbooks():
    """Thakur, Rabenseifner, Gropp 2005: ring 2(p-1) steps and 2(p-1)/p n bytes; a tree 2 lg p steps of n."""
    assert steps_and_bytes("all_reduce", "ring", 8, 800) == (14, 1400)
    assert steps_and_bytes("all_reduce", "tree", 8, 800) == (6, 4800)
    assert steps_and_bytes("all_reduce", "direct", 8, 800) == (2, 1400)
    assert steps_and_bytes("all_gather", "ring", 8, 800) == (7, 700)
    assert steps_and_bytes("all_reduce", "tree", 1, 800) == (0, 0)


def test_nccl_takes_trees_for_small_and_rings_for_large(machine):
    spec = network("infiniband-ndr", "software=nccl")
    spec, fabric = attach(spec, machine.fabric)
    layers = layers_of(spec, fabric)
    chips = machine.mapping.stage_chips[0]

    def choose(size, op="all_reduce"):
        return choose_pattern(Collective("x", op, size, 1), chips, fabric, layers)

    assert choose(16 << 10) == "tree"
    assert choose(16 << 20) == "ring"
    assert choose(16 << 10, "all_gather") == "ring"  # it has no tree for that


def test_nccls_own_cost_model_is_met():
    """Base + steps x hop of its model, LL: 6.8 + 6 x 5.0 us (tree) and 6.6 + 14 x 2.7 us (ring) among 8 nodes."""
    spec = network("infiniband-hdr", "software=nccl")
    fabric = attach(spec, build_fabric(load("64chip").spec.fabric))[1]
    layers = layers_of(spec, fabric)
    costs = {cost.pattern: cost for cost in layers.software.network.patterns}
    small = Collective("x", "all_reduce", 8, 1)
    half_reductions_s = {"tree": 6 * 0.119e-6, "ring": 14 * 0.119e-6}
    for pattern, model_s in (("tree", 36.8e-6), ("ring", 44.4e-6)):
        ours = pattern_time_s(small, 8, costs[pattern], layers) + half_reductions_s[pattern]
        assert ours == pytest.approx(model_s, rel=0.04)


def test_each_call_pays_its_own_kind():
    pair = from_cables("pair", 2, [(0, 2, "adapter", 1.0), (1, 2, "adapter", 1.0)], vertex_count=3)
    layers = layers_of(network("infiniband-ndr", "software=nccl"), pair)
    delays = software_of(layers).call_s
    assert len(delays) == 2 * CALLS
    assert delays[SEND] == pytest.approx(17e-6)
    assert delays[call_of("tree")] == pytest.approx(10.38e-6)
    assert delays[call_of("ring") + 1] == pytest.approx(1.28e-6)
    assert delays[call_of("direct")] == delays[call_of("ring")]  # not its own: as its usual pattern
    assert delays[CALLS + SEND] == pytest.approx(5.8e-6)


def test_unknown_libraries_are_named():
    with pytest.raises(SpecError, match="nccl"):
        read_software("ncl")


def test_measured_infiniband_spread_is_the_jitters_calibrated_row():
    """Measured excess over the minimum: median 0.05, mean 0.10, p99 0.22 us. Calibrated: within 20 %."""
    excess = np.array(jitter_table(read_jitter("host")))
    assert excess.min() < 1e-9
    assert np.median(excess) == pytest.approx(0.05e-6, rel=0.2)
    assert np.quantile(excess, 0.99) == pytest.approx(0.22e-6, rel=0.2)
    assert excess.mean() == pytest.approx(0.10e-6, rel=0.2)


def _ping(name, *settings, count=1, size=2, call=SEND):
    """Times, us, of one message between two chips on one switch."""
    from dcsim.network.packet.engine import Engine

    spec = network(name, *settings)
    fabric = from_cables("pair", 2, [(0, 2, "adapter", 2.0), (1, 2, "adapter", 2.0)], vertex_count=3)
    builder = TaskBuilder(1e9)
    builder.message(0, 1, size, [], call=call)
    layers = layers_of(spec, fabric)
    engine = Engine(fabric, layers.figures, builder.build(), software_of(layers), seed=1)
    return np.array([engine.iteration(i).finish_ps for i in range(count)]) * 1e-6


def test_measured_infiniband_write_end_to_end():
    """2-byte write over one HDR switch: 1.21 us at least (calibrated), p99 0.22 us above it within 20 %."""
    write_us = _ping("infiniband-hdr", 'jitter="host"', count=2000)
    assert write_us.min() == pytest.approx(1.21, rel=0.02)
    assert np.quantile(write_us, 0.99) - write_us.min() == pytest.approx(0.22, rel=0.2)
    assert np.ptp(_ping("infiniband-hdr", count=20)) == 0  # off by default


@pytest.mark.parametrize(("software", "least", "most"), [("none", 1.2, 1.7), ("verbs", 1.5, 3.0), ("nccl", 18.0, 19.0)])
def test_send_and_receive_of_16_kb_across_nodes(software, least, most):
    """NCCL across H100 nodes: 18-19 us (calibrated); the wire itself takes about 1.3 us."""
    assert least < _ping("infiniband-ndr", f"software={software}", size=16_000)[0] < most


def test_measured_nccl_ring_on_a_dgx_a100():
    """Ring all-reduce of 8 bytes on 2..8 chips over NVLink 3, us. Calibrated on base and step: within 8 %."""
    from dcsim.network.collectives import VectorUnit, add_collective
    from dcsim.network.packet.engine import Engine
    from dcsim.network.packet_exchange import CallBuilder

    measured = {2: 10, 3: 13.8, 4: 16.9, 5: 20.8, 6: 25.2, 7: 29.5, 8: 33.7}
    spec = network("nvlink3", "software=nccl")
    fabric = plane(spec, 8)
    islands = from_cables("island", 8, [(i, 8, "island", 0.5) for i in range(8)], node_of=[0] * 8 + [0], vertex_count=9)
    layers = layers_of(spec, islands)
    assert fabric.vertex_count == islands.vertex_count
    for ranks, measured_us in measured.items():
        builder = TaskBuilder(1e9)
        calls = CallBuilder(builder, call_of("ring"))
        # eight one-byte vectors, so that every rank has a slice as the measured ring does
        add_collective(calls, "all_reduce", range(ranks), ranks, [[] for _ in range(ranks)], VectorUnit(1, 238),
                       algorithm="ring")
        engine = Engine(islands, layers.figures, place_calls(builder.build(), islands), software_of(layers))
        assert engine.iteration().finish_ps * 1e-6 == pytest.approx(measured_us, rel=0.08)


# Whole iterations.


def test_parts_sum_to_the_time_and_next_to_nothing_is_unattributed(machine):
    for settings in ((), ("software=nccl",), ('jitter="host"', "load_fraction=0.3", "software=verbs")):
        run = times(machine, *settings)
        assert np.array_equal(run.parts_ps.sum(axis=1), run.latency_ps)
        assert part(run, "other") + part(run, "release") < 0.01 * run.latency_ps.mean()


def test_a_layer_switched_off_saves_its_part(machine):
    """Software and jitter each sit on the critical path alone: what they add is what their part says."""
    bare = times(machine)
    verbs = times(machine, "software=verbs")
    assert part(bare, "software") == 0
    assert verbs.latency_ps.mean() - bare.latency_ps.mean() == pytest.approx(part(verbs, "software"), rel=0.02)
    jittery = times(machine, 'jitter="host"', count=30)
    added = jittery.latency_ps.mean() - bare.latency_ps.mean()
    parts = sum(part(jittery, name) - part(bare, name) for name in ("jitter", "slowest", "queueing"))
    assert added == pytest.approx(parts, rel=0.05)
    assert added > 0


def test_nccl_with_a_fixed_pattern_differs_by_software_alone(machine):
    ring = ("mapping.all_reduce=ring",)
    bare, library = (times(machine, f"software={name}", mapping=ring, count=1) for name in ("none", "nccl"))
    assert library.latency_ps[0] - bare.latency_ps[0] == pytest.approx(part(library, "software"), rel=0.03)


def test_doubling_the_bandwidth_halves_serialisation_and_nothing_else(machine):
    shape = "fairness=equal_radix"
    slow, fast = (times(machine, shape, f"bandwidth={speed} GB/s") for speed in (25, 50))
    assert part(fast, "serialisation") == pytest.approx(part(slow, "serialisation") / 2, rel=0.05)
    assert part(fast, "switch") == pytest.approx(part(slow, "switch"), rel=0.02)


def test_doubling_the_switch_latency_adds_what_the_path_has_of_it(machine):
    """Eight neighbours and the next eight hang on one switch: each message crosses one."""
    base, slower = (times(machine, f"switch={ns} ns") for ns in (230, 460))
    hops = round(part(base, "switch") / (2 * 530e3 + 230e3))
    assert slower.latency_ps.mean() - base.latency_ps.mean() == pytest.approx(hops * 230e3, rel=0.03)


def test_cross_traffic_lengthens_and_spreads(machine):
    idle, busy, busier = (times(machine, f"load_fraction={load}", count=20) for load in (0.0, 0.4, 0.8))
    assert idle.latency_ps.mean() < busy.latency_ps.mean() < busier.latency_ps.mean()
    assert np.ptp(busier.latency_ps) > np.ptp(idle.latency_ps)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "nvlink3"])
def test_every_shipped_network_runs_and_lossless_ones_drop_nothing(machine, name):
    run = times(machine, name=name, count=1)
    assert run.latency_ps[0] > 0
    assert run.packets > 0
    if network(name).flow_control != "drop":
        assert run.drops == 0


def test_the_chips_own_cables_can_carry_packets(machine):
    own = times(machine, "layout=own", count=1)
    assert 0 < own.latency_ps[0] < 2 * times(machine, count=1).latency_ps[0]


def test_the_same_seed_gives_the_same_times_and_another_other_traffic(machine):
    spec = load("64chip", network="roce-400g", settings=["network.load_fraction=0.3"]).spec
    runs = [run_packets(spec, machine.fabric, machine.mapping, Shape(1, 1024), 5, seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(runs[0].latency_ps, runs[1].latency_ps)
    assert not np.array_equal(runs[0].latency_ps, runs[2].latency_ps)


def test_the_mean_is_the_mean_of_a_block(machine):
    spec = load("64chip", network="infiniband-ndr", settings=["network.load_fraction=0.5"]).spec
    block = packet_times(spec, machine.fabric, machine.mapping, Shape(1, 1024))
    assert len(block) == spec.serving.draw_block
    mean = packet_time(spec, machine.fabric, machine.mapping, Shape(1, 1024))
    assert mean.latency_ps == pytest.approx(np.mean([time.latency_ps for time in block]), abs=1)
    assert sum(mean.breakdown_s.values()) == pytest.approx(mean.latency_ps * 1e-12, rel=1e-9)
    assert mean.occupancy_ps < mean.latency_ps


def test_energy_counts_every_byte_once_a_hop(machine):
    base, dear = (times(machine, f"energy={pj} pJ", count=1).energy_j[0] for pj in (40, 80))
    free = times(machine, "energy=0", count=1).energy_j[0]
    assert dear - free == pytest.approx(2 * (base - free))
    assert base > free


def test_two_chips_in_a_row_cross_the_network_once():
    spec = load("node", network="infiniband-ndr", llm="bert-large", settings=["mapping.tp=1", "mapping.pp=2"]).spec
    laid = build(spec)
    run = run_packets(spec, laid.fabric, laid.mapping, Shape(1, 128, 128), 2)
    assert run.packets > 0  # two stages hand on
    assert part(run, "switch") == pytest.approx(1.29e6, rel=0.01)  # once: two adapters and a switch
    with pytest.raises(SpecError, match="moves no packets"):
        run_packets(load("64chip").spec, laid.fabric, laid.mapping, Shape(1, 128), 1)
