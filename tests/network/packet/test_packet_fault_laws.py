"""What a fault changes: nothing before it strikes; after it, packets on the cable follow its state, and all arrive in the end."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packet_fabrics import DCQCN, fat_tree, line

from dcsim.errors import FabricError
from dcsim.fabric.direct import torus
from dcsim.fabric.dragonfly import dragonfly
from dcsim.fabric.graph import from_cables
from dcsim.fabric.switched import leaf_spine, with_islands
from dcsim.network.packet.engine import traffic
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.engine.rules import Fault, LinkFigures, PacketRules

LINKS = {name: LinkFigures(12.5e9, 1e-7) for name in ("adapter", "fabric", "local", "global", "island")}
PACKET_S = 4096 / 12.5e9


def figures(**more):
    return PacketRules(LINKS, **{"flow_control": "credits", "buffer_bytes": 8 * 4096, "retransmit_timeout_s": 1e-4, **more})


MODES = {
    "credits": figures(),
    "adaptive, acknowledged": figures(routing="adaptive", ack_bytes=30, ack_packets=4),
    "ugal": figures(routing="ugal"),
    "store and forward": figures(cut_through=False),
    "pause": figures(
        flow_control="pause",
        pause_gap_bytes=4 * 4096,
        mark_low_bytes=2e4,
        mark_high_bytes=8e4,
        mark_fraction=0.2,
        rate_control=DCQCN,
    ),
    "drop": figures(flow_control="drop", buffer_bytes=16 * 4096, routing="spray"),
    "go back": figures(flow_control="drop", buffer_bytes=16 * 4096, go_back=True),
    "endless": figures(flow_control="none"),
}
FABRICS = {
    "fat tree": fat_tree(4),
    "dragonfly": dragonfly(2, 3, 1),
    "torus": torus((3, 4)),
    "rails and islands": with_islands(leaf_spine(16, 4, 2, rails=2), 4),
}


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(FABRICS)),
    st.sampled_from(sorted(MODES)),
    st.integers(0, 1000),
    st.floats(0.0, 1.2),
    st.sampled_from([0.0, 0.1, 0.5]),
)
def test_nothing_differs_before_a_fault_strikes_and_everything_arrives_after_it(fabric, mode, seed, when, speed):
    random, fabric = np.random.default_rng(seed), FABRICS[fabric]
    chips = fabric.chip_count
    source = random.integers(0, chips, 30)
    flows = traffic.Flows(source, (source + random.integers(1, chips, 30)) % chips, random.integers(1, 60_000, 30), np.zeros(30))
    whole = Engine(fabric, MODES[mode], flows, seed=seed).iteration()
    at_ps = int(when * whole.finish_ps)
    link = int(random.integers(fabric.link_count))
    faults = (Fault(at_ps / 1e12, link, speed), Fault(at_ps / 1e12 + 2e-5, link, 1.0))
    hurt = Engine(fabric, MODES[mode], flows, seed=seed, faults=faults).iteration()
    before = whole.last_ps <= at_ps
    assert np.array_equal(hurt.last_ps[before], whole.last_ps[before])
    assert np.array_equal(hurt.parts_ps[before], whole.parts_ps[before])
    first = (whole.first_ps > 0) & (whole.first_ps <= at_ps)
    assert np.array_equal(hurt.first_ps[first], whole.first_ps[first])
    assert np.all(hurt.last_ps[~before] > at_ps)
    packets = np.maximum(1, -(-np.asarray(flows.size_bytes) // 4096))
    into = hurt.links.bytes[(fabric.link_target < chips) & (fabric.vertex_count > chips)].sum()
    assert fabric.vertex_count == chips or into >= flows.size_bytes.sum()
    assert hurt.packets == packets.sum()
    if at_ps > whole.finish_ps:
        assert hurt.finish_ps == whole.finish_ps
        assert all(np.array_equal(getattr(hurt.links, name), getattr(whole.links, name)) for name in hurt.links.__slots__)


def one_way(switches=1):
    """Two chips at the ends of a row of switches, and one flow of 100 packets."""
    return line(switches), traffic.Flows([0], [1], [100 * 4096], [0.0])


@pytest.mark.parametrize("fraction", [0.5, 0.1, 0.01])
def test_what_is_left_when_a_cable_slows_takes_its_new_speed(fraction):
    """The second link slows when 40 packets have left it: 40 at full speed and 60 at the fraction of it."""
    fabric, flows = one_way()
    figures_ = PacketRules({"adapter": LinkFigures(12.5e9, 0.0)}, flow_control="none")
    last = int(np.flatnonzero((fabric.link_source == 2) & (fabric.link_target == 1))[0])
    done = Engine(fabric, figures_, flows, faults=(Fault(40.5 * PACKET_S, last, fraction, cable=False),)).iteration()
    assert done.finish_ps / 1e12 == pytest.approx((41 + 59 / fraction) * PACKET_S, rel=1e-6)


def test_a_mended_cable_goes_on_at_full_speed():
    fabric, flows = one_way()
    figures_ = PacketRules({"adapter": LinkFigures(12.5e9, 0.0)}, flow_control="none")
    last = int(np.flatnonzero((fabric.link_source == 2) & (fabric.link_target == 1))[0])
    faults = (Fault(0.0, last, 0.5, cable=False), Fault(20.5 * PACKET_S, last, 1.0, cable=False))
    done = Engine(fabric, figures_, flows, faults=faults).iteration()
    # 10 packets at half speed in 20 packet times, one more under way; what queued meanwhile leaves at full speed.
    assert done.finish_ps / 1e12 == pytest.approx((22 + 89) * PACKET_S, rel=1e-6)


@pytest.mark.parametrize("mode", ["credits", "pause", "drop", "go back", "store and forward"])
@pytest.mark.parametrize("where", ["source", "middle", "target"])
def test_a_flap_delays_and_resends(mode, where):
    """Down from 5 to 10 us on the only way: all that was to pass meanwhile passes after it, and what was on the cable again."""
    fabric, flows = one_way(2)
    link = {"source": (0, 2), "middle": (2, 3), "target": (3, 1)}[where]
    cable = int(np.flatnonzero((fabric.link_source == link[0]) & (fabric.link_target == link[1]))[0])
    whole = Engine(fabric, MODES[mode], flows).iteration()
    faults = (Fault(5e-6, cable, 0.0), Fault(10e-6, cable, 1.0))
    hurt = Engine(fabric, MODES[mode], flows, faults=faults).iteration()
    late_s = (hurt.finish_ps - whole.finish_ps) / 1e12
    timeouts = 0 if hurt.links.drops.sum() == 0 else 1
    assert 5e-6 - 3 * PACKET_S <= late_s <= 5e-6 + timeouts * 1e-4 + 150 * PACKET_S
    assert hurt.links.drops[cable] <= 1 or mode in ("drop", "go back")
    assert hurt.resent >= hurt.links.drops.sum()


def test_packets_queued_for_a_dead_cable_take_another():
    """Chips 0 to 3 flood the one spine that their flows hash to; when its cable dies, all but one packet go by the other."""
    fabric = leaf_spine(8, 4, 2)
    flows = traffic.Flows([0, 1, 2, 3], [4, 5, 6, 7], [50 * 4096] * 4, [0.0] * 4)
    spines = [int(np.flatnonzero((fabric.link_source == 8) & (fabric.link_target == spine))[0]) for spine in (10, 11)]
    whole = Engine(fabric, MODES["credits"], flows).iteration()
    busier = spines[int(whole.links.bytes[spines].argmax())]
    other = sum(spines) - busier
    hurt = Engine(fabric, MODES["credits"], flows, faults=(Fault(10e-6, busier, 0.0),)).iteration()
    assert hurt.links.drops.sum() == hurt.links.drops[busier] <= 1
    assert hurt.links.bytes[busier] <= 10e-6 * 12.5e9
    assert hurt.links.bytes[[busier, other]].sum() == 4 * 50 * 4096


def test_cut_off_is_said_only_where_nothing_mends_it():
    fabric, flows = one_way()
    for faults, mended in (
        ((Fault(5e-6, 0, 0.0),), False),
        ((Fault(5e-6, 0, 0.0), Fault(1e-3, 0, 0.5)), True),
        ((Fault(5e-6, 0, 0.0), Fault(6e-6, 0, 1.0), Fault(7e-6, 0, 0.0)), False),
        ((Fault(0.0, 0, 0.0), Fault(2e-3, 0, 1.0)), True),
    ):
        engine = Engine(fabric, MODES["credits"], flows, faults=faults)
        if mended:
            assert engine.iteration().finish_ps > faults[-1].at_s * 1e12
        else:
            with pytest.raises(FabricError, match="chip 0 is cut off from chip 1"):
                engine.iteration()


def test_a_message_goes_on_over_another_plane():
    """Two planes; the target's adapter on the one that the message took dies: what was sent there is sent again by the other."""
    cables = [(chip, 2 + plane, "adapter", 0.0) for chip in (0, 1) for plane in (0, 1)]
    fabric = from_cables("planes", 2, cables, vertex_count=4)
    flows = traffic.Flows([0], [1], [200 * 4096], [0.0])
    whole = Engine(fabric, MODES["credits"], flows).iteration()
    taken = int(fabric.link_target[int(np.flatnonzero(whole.links.bytes[:2])[0])])
    last = int(np.flatnonzero((fabric.link_source == taken) & (fabric.link_target == 1))[0])
    hurt = Engine(fabric, MODES["credits"], flows, faults=(Fault(20e-6, last, 0.0),)).iteration()
    assert whole.finish_ps < hurt.finish_ps < whole.finish_ps + 3e8
    assert np.count_nonzero(hurt.links.bytes[:2]) == 2


def test_faults_of_one_cable_share_their_tables():
    """A hundred flaps lay out two tables, not two hundred."""
    fabric, flows = one_way()
    flaps = tuple(Fault(k * 1e-6, 0, float(k % 2)) for k in range(2, 202))
    engine = Engine(fabric, MODES["credits"], flows, faults=flaps)
    assert engine._state.set_of.shape[0] == 4  # whole, either link of the cable down, or both
    assert engine.iteration().finish_ps > 0


def test_iterations_after_a_fault_that_was_mended_are_as_without():
    fabric, flows = one_way(2)
    faults = (Fault(5e-6, 0, 0.0), Fault(10e-6, 0, 1.0))
    hurt, whole = Engine(fabric, MODES["credits"], flows, faults=faults), Engine(fabric, MODES["credits"], flows)
    first = hurt.iteration(0).finish_ps, whole.iteration(0).finish_ps
    assert first[0] > first[1]
    assert hurt.iteration(1).finish_ps == whole.iteration(1).finish_ps
    assert hurt.iteration(2, fresh=True).finish_ps == first[0]
