"""What must hold whatever the figures: nothing lost, nothing stuck, bytes kept, times explained, runs repeatable."""

import subprocess
import sys
from collections import defaultdict, deque

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packet_fabrics import DCQCN, fat_tree, line, star

from dcsim.errors import FabricError
from dcsim.fabric.direct import torus
from dcsim.fabric.dragonfly import dragonfly, dragonfly_plus, lpu_dragonfly
from dcsim.fabric.graph import from_cables
from dcsim.fabric.routers import hyperx, slim_fly
from dcsim.fabric.switched import rail_only
from dcsim.network.packet.engine import routing, state, traffic
from dcsim.network.packet.engine.breakdown import PARTS
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.engine.rules import Fault, LinkFigures, PacketRules, Pull, Software, Window
from dcsim.network.tasks import COLLECTIVE_FIRST, COLLECTIVE_STEP, TaskBuilder

LINKS = {name: LinkFigures(12.5e9, 1e-7) for name in ("adapter", "fabric", "local", "global")}


def infiniband(**more):
    return PacketRules(LINKS, **{"header_bytes": 26, "flow_control": "credits", "buffer_bytes": 8 * 4122, **more})


def roce(**more):
    return PacketRules(
        LINKS,
        **{
            "header_bytes": 82,
            "flow_control": "pause",
            "buffer_bytes": 32 * 4178,
            "pause_gap_bytes": 4 * 4178,
            "mark_low_bytes": 20e3,
            "mark_high_bytes": 80e3,
            "mark_fraction": 0.2,
            "rate_control": DCQCN,
            **more,
        },
    )


def ethernet(**more):
    return PacketRules(
        LINKS,
        **{
            "header_bytes": 82,
            "flow_control": "drop",
            "buffer_bytes": 16 * 4178,
            "rate_control": DCQCN,
            "retransmit_timeout_s": 2e-4,
            **more,
        },
    )


def star_oracle(flows, chips, packet_ps, wire_ps):
    """Packets through one switch with endless buffers, by two sorted scans per packet list."""
    sent = []
    for chip in range(chips):
        own = [[i, flows.size_bytes[i] // 4096, 0] for i in range(len(flows.source)) if flows.source[i] == chip]
        clock, turn = 0, deque(own[:1])
        while turn:
            flow = turn.popleft()
            clock += packet_ps
            sent.append((clock + wire_ps, chip, flow[0], flow[2]))
            flow[2] += 1
            if flow[2] < flow[1]:
                turn.append(flow)
            if clock == packet_ps:  # the first found the adapter idle; the others have queued meanwhile
                turn.extend(own[1:])
    free, finish = defaultdict(int), defaultdict(int)
    for at, _, flow, _ in sorted(sent):
        target = flows.target[flow]
        free[target] = max(at, free[target]) + packet_ps
        finish[flow] = max(finish[flow], free[target] + wire_ps)
    return [finish[i] for i in range(len(flows.source))]


def test_engine_equals_a_sorted_scan():
    chips, random = 6, np.random.default_rng(2)
    source = random.integers(0, chips, 40)
    target = (source + random.integers(1, chips, 40)) % chips
    flows = traffic.Flows(source, target, random.integers(1, 9, 40) * 4096, np.zeros(40))
    figures = PacketRules({"adapter": LinkFigures(12.5e9, 1e-7)}, cut_through=False)
    iteration = Engine(star(chips), figures, flows).iteration()
    assert iteration.last_ps.tolist() == star_oracle(flows, chips, 4096 * 80, 100_000)


def test_records_that_hops_touch_are_whole_cache_lines():
    """Else a line of one would lie in two: eight bytes more made a hop among 10,440 endpoints take half as long again."""
    for record in (state.LINK, state.QUEUE, state.PACKET, state.TASK, state.WINDOW):
        assert record.itemsize % 64 == 0
    for field in ("free", "background", "ack_bytes"):  # what an acknowledgement touches: the first two lines of a link
        assert state.LINK.fields[field][1] < 128


@pytest.mark.parametrize("figures", [infiniband(), infiniband(routing="adaptive"), roce(), roce(routing="spray")])
def test_lossless_networks_drop_nothing_and_stay_within_buffers(figures):
    flows = traffic.incast(16, 100_000, target=5)
    iteration = Engine(fat_tree(4), figures, flows).iteration()
    assert iteration.links.drops.sum() == 0
    assert iteration.links.pauses.sum() > 0
    assert np.all(iteration.first_ps > 0)
    # Four inputs a switch: no queue behind a switch can exceed what its inputs may hold.
    behind_switch = fat_tree(4).link_source >= 16
    assert iteration.links.peak_queue_bytes[behind_switch].max() <= 2 * 4 * (figures.buffer_bytes + 4 * 4178)


@pytest.mark.parametrize("figures", [PacketRules(LINKS), infiniband(), roce(), ethernet()])
def test_i2_i6_bytes_are_conserved_on_every_link_and_none_is_busier_than_time(figures):
    """Bytes into a switch = bytes out of it + bytes dropped there; chips receive exactly what was sent."""
    fabric, flows = fat_tree(4), traffic.incast(16, 100_000)
    iteration = Engine(fabric, figures, flows).iteration()
    use, packets = iteration.links, -(-100_000 // 4096)
    arrived = np.bincount(fabric.link_target, use.bytes, fabric.vertex_count)
    left = np.bincount(fabric.link_source, use.bytes + use.dropped_bytes, fabric.vertex_count)
    assert np.array_equal(arrived[16:], left[16:])
    assert arrived[0] == 15 * (100_000 + packets * figures.header_bytes)
    assert (use.drops.sum() > 0) == (figures.flow_control == "drop")
    assert iteration.resent == use.drops.sum()
    assert np.all(use.busy_ps <= iteration.finish_ps)


def test_rate_control_shortens_the_queue_of_a_long_incast():
    """Senders told of the marks slow down; without rate control the queue keeps what the buffers allow."""
    flows = traffic.incast(16, 4_000_000)
    with_control = Engine(star(16), roce(buffer_bytes=1 << 22), flows).iteration()
    without = Engine(star(16), roce(buffer_bytes=1 << 22, rate_control=None), flows).iteration()
    assert with_control.links.marks.sum() > 0
    assert with_control.links.bytes.sum() == without.links.bytes.sum()
    assert with_control.links.peak_queue_bytes.max() < 0.5 * without.links.peak_queue_bytes.max()
    assert with_control.finish_ps <= 2 * without.finish_ps


def waiting_graph(fabric, rule):
    """Every (link, lane) that may wait for another under a routing rule, detours included, and the lanes laid out."""
    routes = routing.build_routes(fabric, [frozenset()], rule)
    lanes, graph, done = routing.lay_lanes(fabric, routes, rule), nx.DiGraph(), set()
    order = lanes.order.tolist()
    detours = rule >= state.VALIANT and len(routes.ways) >= routing.WAYS_LEAST

    def onward(vertex, column):
        index = routes.set_of[0, vertex, column]
        return [] if index < 0 else routes.sets[index + 1 : index + 1 + routes.sets[index]].tolist()

    def lane_of(link, other, lane, straight):
        if order[other] >> state.DIMENSION_BITS > order[link] >> state.DIMENSION_BITS:
            return lanes.second if straight else 0
        return lane + (order[other] <= order[link])

    def follow(states, column, straight):
        """Walk from (link, lane) states towards a column; returns the states that arrive."""
        ends = set()
        while states:
            link, lane = states.pop()
            if (link, lane, column, straight) in done:
                continue
            done.add((link, lane, column, straight))
            after = onward(fabric.link_target[link], column)
            if not after:
                ends.add((link, lane))
            for other in after:
                later = (other, lane_of(link, other, lane, straight))
                assert later[1] < lanes.count
                graph.add_edge((link, lane), later)
                states.append(later)
        return ends

    first = [(link, 0) for link in range(fabric.link_count) if fabric.link_source[link] < fabric.chip_count]
    for column in set(routes.column.tolist()):
        follow([(link, 0) for link, _ in first if link in onward(fabric.link_source[link], column)], column, True)
    for way_column, _ in routes.ways.tolist() if detours else []:
        starts = [(link, 0) for link, _ in first if link in onward(fabric.link_source[link], way_column)]
        arrived = follow(starts, way_column, False)
        for column in set(routes.column.tolist()):
            for link, lane in arrived:
                for other in onward(fabric.link_target[link], column):
                    later = (other, lanes.second if lanes.second else lane_of(link, other, lane, True))
                    assert later[1] < lanes.count
                    graph.add_edge((link, lane), later)
                    follow([later], column, True)
    return graph, lanes.count


M, A, V = state.MINIMAL, state.ADAPTIVE, state.VALIANT


@pytest.mark.parametrize(
    ("fabric", "rule", "lanes"),
    [
        (fat_tree(4), M, 1),
        (fat_tree(4), V, 2),
        (dragonfly(1, 2, 1), M, 2),
        (dragonfly(1, 2, 1), V, 3),
        (dragonfly(2, 4, 2), M, 2),
        (dragonfly(1, 4, 2), state.UGAL, 3),
        (dragonfly_plus(1, 2, 2, 1), M, 1),
        (dragonfly_plus(1, 2, 2, 1), V, 3),
        (torus((5, 4)), M, 2),
        (torus((4, 3, 5)), M, 2),
        (torus((8,)), M, 2),
        (torus((4, 4)), V, 4),
        (torus((4, 4)), A, 4),
        (hyperx((3, 4), 1), M, 1),
        (hyperx((3, 3), 1), V, 2),
        (hyperx((3, 4), 1), A, 2),
        (slim_fly(3, 1), M, 2),
        (slim_fly(3, 1), V, 4),
        (rail_only(8, 4), M, 2),
        (lpu_dragonfly(nodes=4, chips_per_node=3, global_ports=1), M, 2),
    ],
    ids=lambda value: value.kind if hasattr(value, "kind") else str(value),
)
def test_no_cycle_of_lanes_can_wait_for_itself(fabric, rule, lanes):
    """A torus needs two lanes whatever its size (Dally and Seitz, 1987), an ordered HyperX one, a detour as many again."""
    graph, most = waiting_graph(fabric, rule)
    assert graph.number_of_edges() > 0
    assert nx.is_directed_acyclic_graph(graph)
    assert most == lanes


@st.composite
def random_networks(draw):
    """A connected random fabric of switches, each chip on one of them, and random flows."""
    switches, chips = draw(st.integers(1, 6)), draw(st.integers(2, 8))
    cables = [(i, chips + draw(st.integers(0, switches - 1)), "adapter", 0.0) for i in range(chips)]
    cables += [(chips + i, chips + draw(st.integers(0, i - 1)), "local", 0.0) for i in range(1, switches)]
    extra = draw(st.integers(0, 4)) if switches > 1 else 0
    for _ in range(extra):
        a = draw(st.integers(0, switches - 1))
        cables.append((chips + a, chips + (a + draw(st.integers(1, switches - 1))) % switches, "local", 0.0))
    pairs = draw(
        st.lists(st.tuples(st.integers(0, chips - 1), st.integers(1, chips - 1), st.integers(0, 60_000)), min_size=1, max_size=30)
    )
    flows = traffic.Flows(
        [a for a, _, _ in pairs], [(a + d) % chips for a, d, _ in pairs], [size for _, _, size in pairs], [0.0] * len(pairs)
    )
    return from_cables("random", chips, cables, vertex_count=chips + switches), flows


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    random_networks(),
    st.sampled_from(
        [
            infiniband(buffer_bytes=1),
            roce(buffer_bytes=1),
            ethernet(buffer_bytes=8192),
            infiniband(routing="adaptive"),
            infiniband(input_fifo=True),
            infiniband(routing="adaptive", ack_bytes=30, cut_through=False),
            infiniband(error_rate=1e-5, retransmit_timeout_s=1e-5),
            infiniband(error_rate=1e-5, link_retry=True),
            roce(headroom_bytes=0, error_rate=1e-6, retransmit_timeout_s=1e-5),
            ethernet(rate_control=None, window=Window(), ack_bytes=84, ack_packets=2),
            ethernet(rate_control=None, window=Window(1.0), error_rate=1e-5, buffer_bytes=5000),
            ethernet(rate_control=None, pull=Pull(4), routing="spray", ack_bytes=64),
            ethernet(rate_control=None, pull=Pull(2, header_bytes=0), buffer_bytes=5000),
            infiniband(pull=Pull(1), error_rate=1e-5, retransmit_timeout_s=1e-5),
            roce(routing="spray", ack_bytes=86, ack_packets=4),
        ]
    ),
)
def test_random_fabrics_deliver_everything(network, figures):
    fabric, flows = network
    iteration = Engine(fabric, figures, flows).iteration()
    into_chips = iteration.links.bytes[fabric.link_target < fabric.chip_count].sum()
    packets = sum(max(1, -(-size // 4096)) for size in flows.size_bytes)
    if figures.error_rate == 0 and figures.pull is None:
        assert into_chips == sum(flows.size_bytes) + packets * figures.header_bytes
    assert into_chips >= sum(flows.size_bytes) + packets * figures.header_bytes
    assert iteration.resent == iteration.links.drops.sum()
    assert np.array_equal(iteration.parts_ps.sum(axis=1), iteration.last_ps - iteration.start_ps)


def ring_step(software=None, figures=None, chips=4, size=16384, seed=0):
    """All chips compute, send to each other, and reduce: one all-reduce by the direct pattern."""
    build = TaskBuilder(1e9)
    starts = [build.compute(i, 0, 1000, 3000, []) for i in range(chips)]
    sends = {
        (i, j): build.message(i, j, size, [starts[i]], call=COLLECTIVE_FIRST)
        for i in range(chips)
        for j in range(chips)
        if i != j
    }
    sums = [build.compute(j, 2, 50, 50, [sends[i, j] for i in range(chips) if i != j]) for j in range(chips)]
    for j in range(chips):
        build.message(j, (j + 1) % chips, size, [sums[j]], call=COLLECTIVE_STEP)
    return Engine(star(chips), figures or infiniband(), build.build(), software, seed=seed)


def test_the_critical_path_explains_every_picosecond():
    software = Software((0.0, 6.6e-6, 2.7e-6, 0.0), (0.0, 1e-6, 5e-6))
    iteration = ring_step(software).iteration(3)
    assert int(iteration.critical_ps.sum()) == iteration.finish_ps
    named = dict(zip(PARTS, iteration.critical_ps.tolist(), strict=True))
    assert named["software"] == 9_300_000
    assert named["compute"] >= 3_050_000
    assert named["jitter"] + named["slowest"] > 0
    assert named["other"] == named["release"] == 0


def test_switching_software_off_removes_what_it_was_booked_for():
    software = Software((0.0, 6.6e-6, 2.7e-6, 0.0))
    with_it, without = ring_step(software).iteration(), ring_step().iteration()
    booked = with_it.breakdown_s["software"]
    assert (with_it.finish_ps - without.finish_ps) / 1e12 == pytest.approx(booked, rel=0.01)


def test_jitter_has_its_own_stream():
    software = Software(jitter_s=(0.0, 1e-6, 2e-6, 9e-6))
    a, b, c = (ring_step(software, seed=s).iteration(r) for s, r in ((1, 0), (1, 0), (1, 1)))
    assert np.array_equal(a.parts_ps, b.parts_ps)
    assert not np.array_equal(a.parts_ps[:, 2], c.parts_ps[:, 2])


def test_results_stream_packet_by_packet():
    """A packet leaves when it is full: 4 packets of a 4 us operation leave at 1, 2, 3 and 4 us."""
    build = TaskBuilder(1e9)
    first = build.compute(0, 0, 0, 4000, [])
    sent = build.message(0, 1, 16384, [first])
    build.compute(1, 2, 10, 10, [sent], rows=4, lead_rows=2)
    build.compute(1, 2, 10, 10, [sent])
    figures = PacketRules({"adapter": LinkFigures(12.5e9, 0.0)})
    iteration = Engine(star(2), figures, build.build()).iteration()
    packet_ps = 4096 * 80
    assert iteration.first_ps[1] == 1_000_000 + packet_ps
    assert iteration.last_ps[1] == 4_000_000 + packet_ps
    assert iteration.start_ps[2] == 2_000_000 + packet_ps
    assert iteration.start_ps[3] == 4_000_000 + packet_ps


def test_an_adapter_starts_messages_no_faster_than_its_rate():
    flows = traffic.Flows([0] * 10, [1] * 10, [8] * 10, [0.0] * 10)
    figures = PacketRules({"adapter": LinkFigures(12.5e9, 0.0)}, adapter_messages_per_s=1e6)
    last = Engine(star(2), figures, flows).iteration().last_ps
    assert np.all(np.diff(np.sort(last)) == 1_000_000)


def test_an_adapter_serves_its_messages_in_turn():
    """A short message behind a long one is not kept waiting for it."""
    flows = traffic.Flows([0, 0], [1, 2], [1 << 20, 4096], [0.0, 1e-6])
    iteration = Engine(star(3), PacketRules({"adapter": LinkFigures(12.5e9, 0.0)}), flows).iteration()
    assert iteration.last_ps[1] - iteration.start_ps[1] <= 3 * 4096 * 80


def test_a_link_down_is_avoided_and_a_chip_cut_off_is_named():
    fabric, flows = fat_tree(4), traffic.permutation(16, 1 << 16, 2)
    whole = Engine(fabric, infiniband(), flows).iteration()
    uplink = int(np.argmax(np.where(fabric.link_source >= 16, whole.links.bytes, 0) * (fabric.link_target >= 16)))
    hurt = Engine(fabric, infiniband(), flows, faults=(Fault(0.0, uplink, 0.0),)).iteration()
    assert hurt.links.bytes[uplink] == 0
    assert hurt.links.bytes.sum() == whole.links.bytes.sum()
    with pytest.raises(FabricError, match="cut off"):
        Engine(fabric, infiniband(), flows, faults=(Fault(0.0, int(fabric.first_link[3]), 0.0),)).iteration()


def test_a_slow_link_takes_as_much_longer():
    fabric, flows = line(1), traffic.Flows([0], [1], [1 << 20], [0.0])
    fast = Engine(fabric, PacketRules(LINKS), flows).iteration().finish_ps
    slow = Engine(fabric, PacketRules(LINKS), flows, faults=(Fault(0.0, 0, 0.25),)).iteration().finish_ps
    assert slow / fast == pytest.approx(4, rel=0.01)


def test_iterations_carry_their_cross_traffic_on():
    """In bursts much longer than an iteration, neighbours resemble each other; fresh networks do not."""
    figures = PacketRules({"adapter": LinkFigures(12.5e9, 1e-7, 0.36)}, cross_burst_s=2e-3)
    engine = Engine(line(1), figures, traffic.Flows([0], [1], [1 << 18], [0.0]))

    def correlation(times):
        return float(np.corrcoef(times[:-1], times[1:])[0, 1])

    on = correlation([engine.iteration(r).finish_ps for r in range(400)])
    off = correlation([engine.iteration(r, fresh=True).finish_ps for r in range(400)])
    assert on > 0.3
    assert abs(off) < 0.15


def test_adaptive_routing_sees_cross_traffic_that_came_since_the_last_packet():
    """One of two ways is busy nine tenths of the time; lone packets, 100 us apart, take the idle one while it is."""
    fabric = fat_tree(4)
    first = int(fabric.link_target[fabric.first_link[0]])
    up = next(link for link in range(fabric.first_link[first], fabric.first_link[first + 1]) if fabric.link_target[link] >= 16)
    load = np.zeros(fabric.link_count)
    load[up] = 0.9
    flows = traffic.Flows(np.zeros(500, int), np.full(500, 15), np.full(500, 100), np.arange(500) * 1e-4)

    def share(routing):
        return Engine(fabric, infiniband(routing=routing), flows, cross_load=load).iteration().links.packets[up] / 500

    assert share("spray") == pytest.approx(0.5, abs=0.07)
    assert share("adaptive") < 0.1


def test_messages_must_have_two_ends():
    with pytest.raises(FabricError, match="two different chips"):
        Engine(star(2), infiniband(), traffic.Flows([0], [0], [1], [0.0]))


DIGEST = """
import hashlib, sys
sys.path.insert(0, {folder!r})
from test_packet_engine import *
runs = [Engine(dragonfly(1, 4, 2), f, traffic.uniform(36, 50_000, 7), seed=5).iteration(1)
        for f in (infiniband(routing="ugal"), roce(routing="spray"), ethernet())]
print(hashlib.sha256(b"".join(r.last_ps.tobytes() + r.links.bytes.tobytes() for r in runs)).hexdigest())
"""


def test_another_process_gives_the_same_bytes():
    script = DIGEST.format(folder=__file__.rsplit("/", 1)[0])
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": str(seed), "PATH": ""},
        ).stdout
        for seed in (1, 2)
    }
    assert len(digests) == 1
    assert len(digests.pop()) == 65


def test_go_back_n_delivers_everything_and_sends_more_again():
    """A receiver that takes packets in order only throws away what follows a loss; all bytes still arrive once."""
    fabric, flows = fat_tree(4), traffic.incast(16, 400_000)
    selective = Engine(fabric, ethernet(rate_control=None), flows).iteration()
    go_back = Engine(fabric, ethernet(rate_control=None, go_back=True), flows).iteration()
    packets = 15 * -(-400_000 // 4096)
    into_target = np.flatnonzero(fabric.link_target == 0)
    assert selective.links.packets[into_target].sum() == packets
    assert go_back.links.packets[into_target].sum() > packets
    assert go_back.resent > go_back.links.drops.sum() > 0
    assert go_back.finish_ps > selective.finish_ps
    lossless = [Engine(fabric, infiniband(go_back=g), flows).iteration() for g in (False, True)]
    assert np.array_equal(lossless[0].last_ps, lossless[1].last_ps)


def test_acknowledgements_take_the_reverse_links_bandwidth():
    """Two chips that send to each other: each link carries its data and one acknowledgement every 4 packets."""
    flows = traffic.Flows([0, 1], [1, 0], [64 * 4096] * 2, [0.0, 0.0])

    def run(ack_bytes, ack_packets=4):
        figures = PacketRules(LINKS, ack_bytes=ack_bytes, ack_packets=ack_packets)
        return Engine(star(2), figures, flows).iteration()

    without, with_acks, doubled = run(0), run(1000), run(2000)
    assert without.links.ack_bytes.sum() == 0
    assert with_acks.links.ack_bytes.tolist() == [16_000] * 4
    assert run(1000, 5).links.ack_bytes.tolist() == [13_000] * 4
    assert np.array_equal(with_acks.links.bytes, without.links.bytes)
    extra = with_acks.finish_ps - without.finish_ps
    assert extra == pytest.approx(16_000 * 80, rel=0.15)
    assert doubled.finish_ps - without.finish_ps == pytest.approx(2 * extra, rel=0.15)
