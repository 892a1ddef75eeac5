"""Adapters and switches in place of cables, library costs, and whole iterations on them."""

from dataclasses import replace

import numpy as np
import pytest
from by_rule import load
from packet_runs import run_packets

from dcsim.cluster.programs import Programs
from dcsim.cluster.service import Placement, serve
from dcsim.errors import FabricError, SpecError
from dcsim.fabric.build import build_fabric
from dcsim.fabric.graph import from_cables
from dcsim.fabric.switched import with_islands
from dcsim.llm.program import Shape
from dcsim.network.network import make_network
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.rules_of import (
    call_count,
    figures_of,
    place_calls,
)
from dcsim.network.packet.switches import adapters, attach, bonded, on_island, plane
from dcsim.network.tasks import SEND, TaskBuilder
from dcsim.network.timing import BREAKDOWN
from dcsim.spec.network import LinkFault
from dcsim.study.compare import correlation, half_width
from dcsim.study.machine import build
from dcsim.workload.requests import plain

NETWORKS = ("infiniband-hdr", "infiniband-ndr", "roce-400g", "ethernet-100g", "nvlink3", "nvlink4", "slingshot")
IDEAL = ("network.software=ideal",)  # no library's costs: wire, switches and adapters alone


@pytest.fixture(scope="module")
def machine():
    return build(load("64chip").spec)


def network(name="infiniband-ndr", *settings):
    return load("64chip", network=name, settings=[*IDEAL, *(f"network.{s}" for s in settings)]).spec.network


def times(machine, *settings, name="infiniband-ndr", count=3, mapping=()):
    spec = load("64chip", network=name, settings=[*mapping, *IDEAL, *(f"network.{s}" for s in settings)]).spec
    laid = build(load("64chip", settings=list(mapping)).spec).mapping if mapping else machine.mapping
    return run_packets(spec, machine.fabric, laid, Shape(1, 1024), count)


def part(run, name):
    return run.breakdown_ps[:, BREAKDOWN.index(name)].mean()


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
    packets = network()
    payload = packets.mtu_bytes / (packets.mtu_bytes + packets.header_bytes)
    assert figures_of(packets, fabric, nvlink).links["island"].bandwidth_bytes_per_s * payload == pytest.approx(300e9 * 256 / 272)
    builder = TaskBuilder(1e9)
    builder.message(0, 3, 8, [])
    builder.message(0, 4, 8, [])
    library = packets.software
    assert place_calls(builder.build(), fabric, library).call.tolist() == [SEND + call_count(library), SEND]


def test_inside_an_island_messages_pay_its_own_ports_and_switch():
    """Two ports, a switch and two cables, plus one byte of 450 GB/s: not the InfiniBand adapters'."""
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


def test_a_slow_adapter_slows_the_chip_down_and_a_lost_one_cuts_it_off(machine):
    """Of three bonded ports one is left at a third of the speed; prefill is large enough to feel it."""
    spec = load("64chip", network="infiniband-ndr", settings=IDEAL).spec

    def run(*events):
        faults = tuple(LinkFault.model_validate({"at": 0, "chip": 9, **event}) for event in events)
        changed = spec.model_copy(update={"network": spec.network.model_copy(update={"faults": faults})})
        return run_packets(changed, machine.fabric, machine.mapping, Shape(1, 1024, 128), 1).latency_ps[0]

    assert run({"speed_fraction": 1 / 3}) > 1.05 * run()
    with pytest.raises(FabricError, match="cut off"):
        run({"speed_fraction": 0.0})


def test_other_adapters_take_over_from_a_lost_one(machine):
    spec = network("infiniband-ndr", "fairness=equal_radix")
    lost = tuple(LinkFault.model_validate({"at": 0, "chip": 9, "adapter": i}) for i in range(10))
    whole = load("64chip", network="infiniband-ndr", settings=IDEAL).spec

    def run(faults):
        changed = whole.model_copy(update={"network": spec.model_copy(update={"faults": faults})})
        return run_packets(changed, machine.fabric, machine.mapping, Shape(1, 1024, 128), 1).latency_ps[0]

    assert run(lost) > 1.02 * run(())


# Whole iterations.


def test_parts_sum_to_the_time_and_next_to_nothing_is_unattributed(machine):
    for settings in ((), ("software=nccl",), ('jitter="host"', "load_fraction=0.3", "software=verbs")):
        run = times(machine, *settings)
        assert np.array_equal(run.breakdown_ps.sum(axis=1), run.latency_ps)
        assert part(run, "other") < 0.01 * run.latency_ps.mean()


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


LAYERS = {  # what switches a layer off, and the parts it is booked under
    "software": (("software=ideal",), ("software",)),
    "switches": (("adapter=0", "switch=0", "adapter_messages=1e15 messages/s"), ("switch",)),
    "hosts": (('jitter="off"',), ("jitter", "slowest", "queueing")),
    "other traffic": (("load_fraction=0",), ("queueing", "slowest")),
    "bytes": (("chip_port=1e15 B/s",), ("serialisation", "queueing", "slowest", "jitter")),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_each_layer_switched_off_alone_saves_what_its_parts_say(machine, layer):
    """All layers on, one off: the time saved is what its parts lose, within the intervals; no other part moves."""
    off, parts = LAYERS[layer]
    every = ("software=verbs", 'jitter="host"', "load_fraction=0.3")
    full, without = times(machine, *every, count=40), times(machine, *every, *off, count=40)
    saved = full.latency_ps.mean() - without.latency_ps.mean()
    lost = sum(part(full, name) - part(without, name) for name in parts)
    interval = half_width(full.latency_ps) + half_width(without.latency_ps)
    assert saved == pytest.approx(lost, abs=interval)
    assert saved > 3 * interval or layer in ("other traffic", "bytes")
    for name in set(BREAKDOWN) - {*parts, "slowest", "queueing", "jitter"}:
        assert part(full, name) == pytest.approx(part(without, name), abs=interval), name
    if layer in ("software", "switches"):
        assert part(without, parts[0]) == 0  # so the part is the whole of what was saved


def test_bytes_that_take_no_time_save_serialisation_and_the_queues_they_make(machine):
    """On an idle network, to a thousandth: of waiting, what is left is the adapters' message rate."""
    full, free = times(machine, count=1), times(machine, "chip_port=1e15 B/s", count=1)
    lost = sum(part(full, name) - part(free, name) for name in ("serialisation", "queueing", "slowest"))
    assert full.latency_ps[0] - free.latency_ps[0] == pytest.approx(lost, rel=0.002)
    assert part(free, "serialisation") < 1e-3 * part(full, "serialisation")
    started = times(machine, "chip_port=1e15 B/s", "adapter_messages=1e15 messages/s", count=1)
    assert part(started, "queueing") + part(started, "slowest") < 0.01 * part(free, "queueing")


def test_cables_of_no_length_save_what_wire_says(machine):
    full = times(machine, count=1)
    spec = load("64chip", network="infiniband-ndr", settings=IDEAL).spec
    joined = make_network(spec, machine.fabric, machine.mapping)
    short = replace(joined, fabric=replace(joined.fabric, link_length_m=np.zeros_like(joined.fabric.link_length_m)))
    short = short.iterations(Shape(1, 1024), 1)
    assert full.latency_ps[0] - short.latency_ps[0] == pytest.approx(part(full, "wire"), rel=0.02)


def test_nccl_with_a_fixed_pattern_differs_by_software_alone(machine):
    ring = ("mapping.all_reduce=ring",)
    bare, library = (times(machine, f"software={name}", mapping=ring, count=1) for name in ("ideal", "nccl"))
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
    spec = load("64chip", network="roce-400g", settings=[*IDEAL, "network.load_fraction=0.3"]).spec
    runs = [run_packets(spec, machine.fabric, machine.mapping, Shape(1, 1024), 5, seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(runs[0].latency_ps, runs[1].latency_ps)
    assert not np.array_equal(runs[0].latency_ps, runs[2].latency_ps)


def test_the_mean_is_the_mean_of_a_block(machine):
    spec = load("64chip", network="infiniband-ndr", settings=[*IDEAL, "network.load_fraction=0.5"]).spec
    in_place = make_network(spec, machine.fabric, machine.mapping)
    block = in_place.times(Shape(1, 1024))
    assert len(block) == spec.network.replications
    mean = in_place.time(Shape(1, 1024))
    assert mean.latency_ps == pytest.approx(np.mean([time.latency_ps for time in block]), abs=1)
    assert sum(mean.breakdown_s.values()) == pytest.approx(mean.latency_ps * 1e-12, rel=1e-9)
    assert mean.occupancy_ps < mean.latency_ps


def test_an_undisturbed_network_that_repeats_itself_is_timed_once(machine):
    spec = load("64chip", network="infiniband-ndr", settings=IDEAL).spec
    (only,) = make_network(spec, machine.fabric, machine.mapping).times(Shape(1, 1024))
    assert only.latency_ps == times(machine, count=1).latency_ps[0]
    few = load("64chip", network="infiniband-ndr", settings=[*IDEAL, 'network.jitter="host"', "network.replications=7"]).spec
    drawn = make_network(few, machine.fabric, machine.mapping).times(Shape(1, 1024))
    assert len({time.latency_ps for time in drawn}) == 7


def test_service_keeps_the_correlation_of_successive_iterations(machine):
    """Bursts longer than an iteration: rounds drawn in blocks resemble their neighbours, single draws do not."""
    burst = [
        "network.load_fraction=0.3",
        "network.cross_burst=100 ms",
        "serving.context_buckets=[4096]",
        "serving.batch_buckets=[1]",
    ]
    kept = {}
    for block in (1, 25):
        laid = build(load("64chip", network="infiniband-ndr", settings=[*IDEAL, *burst, f"serving.draw_block={block}"]).spec)
        programs = Programs(laid.spec.serving, laid.times)
        chips = tuple(chip for stage in laid.mapping.stage_chips for chip in stage)
        request = plain(np.zeros(1), np.ones(1, np.int32), np.full(1, 2000, np.int32))
        placement = Placement(laid.site, (chips,), laid.mapping.memory.room)
        rounds = serve(laid.spec, laid.fabric, placement, programs, request, skip=False, record_rounds=True).tables["rounds"]
        kept[block] = correlation((rounds["end_s"] - rounds["start_s"])[1:])
    drawn = correlation(np.array([time.latency_ps for time in programs.times(Shape(1, 4096))]))
    assert abs(kept[1]) < 0.1
    assert drawn > 0.3
    assert kept[25] == pytest.approx(drawn, abs=0.15)


def test_energy_counts_every_byte_once_a_hop(machine):
    base, dear = (times(machine, f"energy={pj} pJ", count=1).work_j[0] for pj in (40, 80))
    free = times(machine, "energy=0", count=1).work_j[0]
    assert dear - free == pytest.approx(2 * (base - free))
    assert base > free


def test_two_chips_in_a_row_cross_the_network_once():
    spec = load("node", network="infiniband-ndr", llm="bert-large", settings=[*IDEAL, "mapping.tp=1", "mapping.pp=2"]).spec
    laid = build(spec)
    run = laid.network.iterations(Shape(1, 128, 128), 2)
    assert run.packets > 0  # two stages hand on
    assert part(run, "switch") == pytest.approx(1.29e6, rel=0.01)  # once: two adapters and a switch
    with pytest.raises(SpecError, match="there is no schedule"):
        laid.network.schedule(Shape(1, 128))
