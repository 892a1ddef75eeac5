"""The packet engine against closed forms and published limits."""

from functools import cache

import numpy as np
import pytest
from packet_fabrics import DCQCN, fat_tree, line, star

from dcsim.fabric.dragonfly import dragonfly
from dcsim.network.packet.engine import traffic
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.engine.rules import LinkFigures, PacketRules

cached_dragonfly = cache(dragonfly)

SLOT_S = 1e-9  # one single-flit packet on one link


def slotted(routing="minimal", flow_control="none", buffer_bytes=4096, **more):
    """One-byte packets, one a nanosecond on each link, no header, no switch delay."""
    links = {
        name: LinkFigures(1e9, cable_s)
        for name, cable_s in (
            ("adapter", more.pop("adapter_cable_s", 0.0)),
            ("local", more.pop("local_s", 0.0)),
            ("global", more.pop("global_s", 0.0)),
        )
    }
    return PacketRules(
        links,
        mtu_bytes=1,
        cut_through=False,
        routing=routing,
        flow_control=flow_control,
        buffer_bytes=buffer_bytes,
        ugal_bias_packets=3,
        **more,
    )


def waits_slots(iteration):
    return iteration.parts_ps[:, 6] / 1000


def test_store_and_forward_over_six_hops_takes_28_61_us():
    """(packets + hops - 1) packet times and six hop latencies; 256 KiB in 4 KiB packets at 100 Gb/s, 1 us a hop."""
    fabric = line(switches=5)
    flows = traffic.Flows([0], [1], [256 * 1024], [0.0])
    figures = PacketRules({"adapter": LinkFigures(12.5e9, 1e-6)}, mtu_bytes=4096, cut_through=False)
    iteration = Engine(fabric, figures, flows).iteration()
    packet_ps = 4096 * 80
    assert iteration.finish_ps == (64 + 5) * packet_ps + 6_000_000
    assert iteration.finish_ps / 1e6 == pytest.approx(28.61, abs=0.005)


def test_cut_through_pays_serialisation_once():
    figures = PacketRules({"adapter": LinkFigures(12.5e9, 1e-6)}, mtu_bytes=4096, cut_through=True, switch_s=1e-7, adapter_s=5e-7)
    flows = traffic.Flows([0], [1], [256 * 1024], [0.0])
    iteration = Engine(line(switches=5), figures, flows).iteration()
    assert iteration.finish_ps == 64 * 4096 * 80 + 6_000_000 + 5 * 100_000 + 2 * 500_000


def test_doubling_bandwidth_halves_the_serialisation_only():
    def parts(bandwidth):
        figures = PacketRules({"adapter": LinkFigures(bandwidth, 1e-6)})
        flows = traffic.Flows([0], [1], [1 << 20], [0.0])
        return Engine(line(switches=2), figures, flows).iteration().breakdown_s

    slow, fast = parts(10e9), parts(20e9)
    assert fast["serialisation"] == pytest.approx(slow["serialisation"] / 2)
    assert fast["wire"] == slow["wire"] > 0


def test_k_equal_flows_share_a_link_equally():
    """Incast of k flows of size S onto one link of rate B: all finish within a packet of k S / B + the way there."""
    flows = traffic.incast(9, 64 * 4096)
    figures = PacketRules({"adapter": LinkFigures(12.5e9, 1e-6)})
    iteration = Engine(star(9), figures, flows).iteration()
    packet_ps, total = 4096 * 80, 8 * 64 * 4096 * 80
    assert total + 2_000_000 <= iteration.finish_ps <= total + 2_000_000 + 2 * packet_ps
    assert iteration.last_ps.min() >= iteration.finish_ps - 9 * packet_ps


def test_all_to_all_takes_its_lower_bound_on_a_star():
    """(N - 1) S / B when targets are rotated; never less, and here at most 5 % more."""
    chips, size = 16, 32 * 4096
    figures = PacketRules({"adapter": LinkFigures(12.5e9, 0.0)})
    iteration = Engine(star(chips), figures, traffic.all_to_all(chips, size)).iteration()
    bound = (chips - 1) * size * 80
    assert bound <= iteration.finish_ps <= 1.05 * bound


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_poisson_packets_wait_as_in_an_m_d_1_queue(load):
    """Poisson arrivals, fixed service: mean wait rho s / (2 (1 - rho))."""
    random = np.random.default_rng(5)
    count = 120_000
    release = np.cumsum(random.exponential(1.0 / load, count)) * 1e-6
    flows = traffic.Flows(np.zeros(count, int), np.ones(count, int), np.full(count, 1000), release)
    figures = PacketRules({"adapter": LinkFigures(1e9, 0.0)}, mtu_bytes=1000)
    iteration = Engine(line(switches=1), figures, flows).iteration()
    wait_us = iteration.parts_ps[:, 6].mean() / 1e6
    assert wait_us == pytest.approx(load / (2 * (1 - load)), rel=0.05)


def test_random_sizes_wait_as_in_an_m_m_1_queue():
    """Exponential sizes: mean wait rho s / (1 - rho)."""
    random = np.random.default_rng(6)
    count, load = 200_000, 0.6
    release = np.cumsum(random.exponential(1.0 / load, count)) * 1e-6
    size = np.maximum(1, np.rint(random.exponential(1000, count))).astype(int)
    flows = traffic.Flows(np.zeros(count, int), np.ones(count, int), size, release)
    figures = PacketRules({"adapter": LinkFigures(1e9, 0.0)}, mtu_bytes=1 << 20)
    iteration = Engine(line(switches=1), figures, flows).iteration()
    assert iteration.parts_ps[:, 6].mean() / 1e6 == pytest.approx(load / (1 - load), rel=0.06)


def test_mixed_sizes_wait_as_in_an_m_g_1_queue():
    """One packet in five is nine times as long: mean wait lambda E[S^2] / (2 (1 - rho))."""
    random = np.random.default_rng(9)
    count, rate = 200_000, 0.6 / 2.6  # packets a microsecond; mean service 1 + 0.2 x 8 = 2.6 us
    size = np.where(random.random(count) < 0.2, 9000, 1000)
    release = np.cumsum(random.exponential(1 / rate, count)) * 1e-6
    flows = traffic.Flows(np.zeros(count, int), np.ones(count, int), size, release)
    figures = PacketRules({"adapter": LinkFigures(1e9, 0.0)}, mtu_bytes=1 << 20)
    iteration = Engine(line(switches=1), figures, flows).iteration()
    expected_us = rate * (0.8 * 1 + 0.2 * 81) / (2 * (1 - 0.6))
    assert iteration.parts_ps[:, 6].mean() / 1e6 == pytest.approx(expected_us, rel=0.05)


def test_cross_traffic_delays_as_an_m_d_1_queue():
    """A rare probe among Poisson cross traffic of load rho waits rho s / (2 (1 - rho)) on the way in and out."""
    count, load = 30_000, 0.5
    flows = traffic.Flows(np.zeros(count, int), np.ones(count, int), np.ones(count, int), np.arange(count) * 100e-6)
    figures = PacketRules({"adapter": LinkFigures(1e9, 0.0, load)}, mtu_bytes=1000, cross_packet_bytes=1000)
    iteration = Engine(line(switches=1), figures, flows).iteration()
    assert iteration.parts_ps[:, 6].mean() / 1e6 == pytest.approx(2 * load / (2 * (1 - load)), rel=0.05)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_output_queued_switch_waits_as_karol_found(load):
    """N x N slotted switch, output queues: mean wait ((N - 1) / N) rho / (2 (1 - rho)) slots (Karol et al. 1987)."""
    chips = 8
    random = np.random.default_rng(7)
    slot, source = np.nonzero(random.random((12_000, chips)) < load)
    flows = traffic.Flows(source, _any_output(random, source, chips), np.ones(len(source), int), slot * SLOT_S)
    iteration = Engine(star(2 * chips), slotted(), flows).iteration()
    expected = (chips - 1) / chips * load / (2 * (1 - load))
    assert waits_slots(iteration).mean() == pytest.approx(expected, rel=0.05)


def _any_output(random, source, chips):
    """Outputs are the chips from `chips` on, so that an input may also send to 'itself'."""
    return chips + random.integers(0, chips, len(source))


@pytest.mark.parametrize(("chips", "limit"), [(2, 0.75), (8, 0.6184), (64, 0.5858)])
def test_input_fifos_saturate_at_the_head_of_line_limit(chips, limit):
    """Karol et al. 1987, table of saturation throughput: .75 at N = 2, .6184 at 8, 2 - sqrt 2 for many."""
    random = np.random.default_rng(8)
    slots = 3000 if chips < 64 else 800
    slot, source = np.nonzero(np.ones((slots, chips)))
    flows = traffic.Flows(source, _any_output(random, source, chips), np.ones(len(source), int), slot * SLOT_S)
    iteration = Engine(star(2 * chips), slotted(input_fifo=True), flows).iteration()
    done = iteration.last_ps / 1000
    inside = np.count_nonzero((done > slots // 4) & (done <= slots))
    assert inside / (chips * slots * 0.75) == pytest.approx(limit, rel=0.03)


# Canonical dragonflies (Kim, Dally, Scott, Abts, ISCA 2008).


def accepted(fabric, figures, load, slots=600, groups=None):
    """Delivered packets a chip and slot in the last half of the injection time."""
    flows = traffic.stream(fabric.chip_count, load, SLOT_S, slots, 1, seed=3, groups=groups)
    done = Engine(fabric, figures, flows).iteration().last_ps / 1000
    return np.count_nonzero((done > slots / 2) & (done <= slots)) / (fabric.chip_count * slots / 2)


def sizes(slow=(), **known):
    """Parametrise over (p, a, h) of 72, 342 and 1056 endpoints, and 9702 where `slow` gives its value."""
    columns = zip([(2, 4, 2), (3, 6, 3), (4, 8, 4)], *known.values(), strict=True)
    more = [pytest.param((7, 14, 7), *slow, marks=pytest.mark.slow)] if slow else []
    return pytest.mark.parametrize(",".join(["shape", *known]), [*columns, *more])


def groups_of(fabric):
    return fabric.group_of[: fabric.chip_count]


def test_dragonfly_zero_load_latency_over_all_pairs():
    """72 endpoints, local 10, global 100, inject and eject 1, no router delay: 105.05 cycles and 3.3056 routers."""
    fabric = cached_dragonfly(2, 4, 2)
    pairs = [(i, j) for i in range(72) for j in range(72) if i != j]
    release = np.arange(len(pairs)) * 1e-6
    flows = traffic.Flows([i for i, _ in pairs], [j for _, j in pairs], np.ones(len(pairs), int), release)
    iteration = Engine(fabric, slotted(local_s=9e-9, global_s=99e-9), flows).iteration()
    cycles = (iteration.last_ps - iteration.start_ps) / 1000
    # The closed form counts each chip itself among the targets (2 cycles: in and out).
    assert (cycles.sum() + 72 * 2) / 72**2 == pytest.approx(105.05, rel=0.01)
    assert (iteration.packet_hops - len(pairs) + 72) / 72**2 == pytest.approx(3.3056, rel=0.005)


@sizes(limit=(0.125, 1 / 18, 0.03125), slots=(3000, 3000, 2000), slow=(1 / 98, 4000))
def test_dragonfly_minimal_saturates_at_one_over_ah_in_the_worst_case(shape, limit, slots):
    """All of a group's chips send to the next group, over one cable: 1 / (a h) of their links."""
    fabric = cached_dragonfly(*shape)
    assert limit == pytest.approx(1 / (shape[1] * shape[2]))
    assert accepted(fabric, slotted(), 1.25 * limit, slots, groups_of(fabric)) == pytest.approx(limit, rel=0.01)


@sizes(bound=(0.5625, 0.5278, 0.5156), slots=(4000, 1500, 800), slow=(0.5051, 300))
def test_dragonfly_valiant_is_within_six_percent_of_its_bound(shape, bound, slots):
    """(a h + 1) / (2 a h): every packet crosses two cables between groups, but for the detours that need one."""
    fabric, ports = cached_dragonfly(*shape), shape[1] * shape[2]
    assert bound == pytest.approx((ports + 1) / (2 * ports), abs=1e-4)
    got = accepted(fabric, slotted("valiant"), bound + 0.015, slots, groups_of(fabric))
    assert 0.94 * bound <= got <= 1.01 * bound


@sizes(slots=(3000, 2000, 1000))
def test_dragonfly_minimal_carries_uniform_traffic(shape, slots):
    """Queues take about 1000 slots to fill at this load, which 9702 endpoints make too many packets for a test."""
    assert accepted(cached_dragonfly(*shape), slotted(), 0.96, slots) >= 0.95


@sizes(slots=(2000, 1000, 300), slow=(60,))
def test_ugal_is_minimal_at_low_uniform_load(shape, slots):
    """The same hops and the same mean latency, within 1 %."""
    fabric = cached_dragonfly(*shape)
    flows = traffic.stream(fabric.chip_count, 0.1, SLOT_S, slots, 1, seed=4)
    minimal, ugal = (
        Engine(fabric, slotted(rule, local_s=9e-9, global_s=99e-9), flows).iteration() for rule in ("minimal", "ugal")
    )
    assert ugal.packet_hops <= 1.01 * minimal.packet_hops
    assert (ugal.last_ps - ugal.start_ps).mean() == pytest.approx((minimal.last_ps - minimal.start_ps).mean(), rel=0.01)


@sizes(bound=(0.5625, 0.5278, 0.5156), slots=(4000, 1500, 800), slow=(0.5051, 300))
def test_ugal_reaches_valiants_limit_in_the_worst_case(shape, bound, slots):
    fabric = cached_dragonfly(*shape)
    got = accepted(fabric, slotted("ugal"), bound + 0.015, slots, groups_of(fabric))
    assert 0.94 * bound <= got <= 1.06 * bound


@sizes(slots=(1500, 800, 400))
def test_ugal_does_not_collapse_past_saturation(shape, slots):
    """With credits and finite buffers, offering far more than fits keeps what is accepted."""
    fabric = cached_dragonfly(*shape)
    figures = slotted("ugal", "credits", buffer_bytes=64)
    near, far = (accepted(fabric, figures, load, slots, groups_of(fabric)) for load in (0.5, 1.0))
    assert far >= 0.95 * near
    assert near > 0.4


@pytest.mark.slow
@pytest.mark.parametrize(("buffer_slots", "slots"), [(64, 8000), (512, 5000)])
def test_ugal_offered_twice_what_fits_settles_near_its_bound(buffer_slots, slots):
    """1056 endpoints: large buffers take thousands of slots to fill (.39 is accepted in the first 400), then a plateau."""
    fabric = cached_dragonfly(4, 8, 4)
    flows = traffic.stream(fabric.chip_count, 1.0, SLOT_S, slots, 1, seed=3, groups=groups_of(fabric))
    done = Engine(fabric, slotted("ugal", "credits", buffer_bytes=buffer_slots), flows).iteration().last_ps / 1000
    third, last = (
        np.count_nonzero((done > a * slots) & (done <= b * slots)) / (fabric.chip_count * slots / 6)
        for a, b in ((4 / 6, 5 / 6), (5 / 6, 1))
    )
    assert min(third, last) >= 0.92 * 0.5156
    assert last == pytest.approx(third, rel=0.03)


def test_permutation_on_a_fat_tree_never_beats_its_links():
    fabric = fat_tree(4)
    flows = traffic.permutation(16, 1 << 18, 1)
    links = {name: LinkFigures(12.5e9, 1e-6) for name in fabric.link_classes}
    iteration = Engine(fabric, PacketRules(links, routing="spray"), flows).iteration()
    assert iteration.finish_ps >= (1 << 18) * 80
    assert np.all(iteration.links.busy_ps <= iteration.finish_ps)


def test_long_incast_under_dcqcn_is_fair_and_fills_its_link():
    """Zhu et al., SIGCOMM 2015, figures of the paper (40 Gb/s, Kmin 5 KB, Kmax 200 KB, Pmax 1 %): after convergence
    flows share equally, the link stays busy, and the queue, seen by rare probes, stays between the two thresholds.
    """
    senders, probes, line, span_s = 4, 4, 5e9, 0.1
    start_s = np.arange(400) * span_s / 400 * 0.95
    source = np.concatenate([np.arange(1, senders + 1), 1 + senders + np.arange(400) % probes])
    size = np.concatenate([np.full(senders, int(line * span_s / senders)), np.full(400, 100)])
    flows = traffic.Flows(source, np.zeros(len(source), int), size, np.concatenate([np.zeros(senders), start_s]))
    figures = PacketRules(
        {"adapter": LinkFigures(line, 5e-7)},
        mtu_bytes=1000,
        flow_control="pause",
        buffer_bytes=1 << 23,
        pause_gap_bytes=1 << 15,
        mark_low_bytes=5e3,
        mark_high_bytes=200e3,
        mark_fraction=0.01,
        rate_control=DCQCN,
    )
    engine = Engine(star(1 + senders + probes), figures, flows)
    iteration = engine.iteration()
    packets = engine._state.packets
    late = (packets["tail"] > 0.4 * span_s * 1e12) & (packets["tail"] <= span_s * 1e12)
    rate = np.bincount(packets["message"][late & (packets["message"] < senders)]) * 1000 / (0.6 * span_s)
    assert rate.sum() >= 0.95 * line
    assert rate.sum() ** 2 / (senders * (rate**2).sum()) >= 0.97  # Jain's index
    queue_bytes = iteration.parts_ps[senders:, 6][start_s > 0.4 * span_s] / 1e12 * line
    assert 5e3 <= np.median(queue_bytes) <= 200e3
    assert iteration.links.pauses.sum() == 0


@pytest.mark.parametrize(
    ("p", "a", "h", "routers", "cycles"),
    [(2, 4, 2, 3.3056, 105.05), (3, 6, 3, 3.5702, None), (4, 8, 4, 3.6932, 116.2), (7, 14, 7, 3.8377, None)],
)
def test_dragonfly_hops_and_zero_load_are_the_closed_forms(p, a, h, routers, cycles):
    """Uniform over all targets, each chip's own router counted; one packet at a time from random pairs."""
    fabric = cached_dragonfly(p, a, h)
    groups = a * h + 1
    chips, random = fabric.chip_count, np.random.default_rng(9)
    count = 40_000
    source = random.integers(0, chips, count)
    target = random.integers(0, chips, count)
    apart = source != target
    flows = traffic.Flows(source[apart], target[apart], np.ones(apart.sum(), int), np.arange(apart.sum()) * 1e-6)
    iteration = Engine(fabric, slotted(local_s=9e-9, global_s=99e-9), flows).iteration()
    own = count - apart.sum()  # a packet to its own chip visits one router
    got = (iteration.packet_hops - apart.sum() + own) / count
    expected = 1 / (a * groups) + 2 * (a - 1) / (a * groups) + (groups - 1) / groups * (4 - 2 / a)
    assert expected == pytest.approx(routers, abs=1e-4)
    assert got == pytest.approx(expected, rel=0.005)
    latency = ((iteration.last_ps - iteration.start_ps).sum() / 1000 + 2 * own) / count
    zero_load = 2 + 100 * (groups - 1) / groups + 10 * (2 * (1 - 1 / a) * (groups - 1) / groups + (a - 1) / (a * groups))
    assert latency == pytest.approx(zero_load, rel=0.01)
    assert cycles is None or zero_load == pytest.approx(cycles, abs=0.1)
