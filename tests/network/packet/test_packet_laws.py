"""Laws of single steps of the packet engine, on so little traffic that its kernels are quick as plain Python too."""

from types import SimpleNamespace

import numpy as np
import pytest
from packet_fabrics import books_balance, fat_tree

from dcsim.fabric.direct import torus
from dcsim.fabric.graph import from_cables
from dcsim.fabric.routers import hyperx
from dcsim.network.packet.engine import state
from dcsim.network.packet.engine.breakdown_kernel import _packet_by
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.engine.link_kernel import TRIES_MOST
from dcsim.network.packet.engine.rules import Fault, LinkFigures, PacketRules, Pull, Window
from dcsim.network.tasks import TaskBuilder

BYTES_PER_S = 12.5e9


def engine(cables, packets=100, *, faults=(), **rules):
    """One message from chip 0 to chip 1 over cables between vertices; switches are the vertices from 2 on."""
    builder = TaskBuilder(1e9)
    builder.message(0, 1, packets * 4096, [])
    fabric = from_cables("small", 2, [(*ends, "adapter", 1.0) for ends in cables], vertex_count=1 + max(map(max, cables)))
    figures = PacketRules({"adapter": LinkFigures(BYTES_PER_S, 1e-7)}, buffer_bytes=1 << 18, retransmit_timeout_s=1e-5, **rules)
    return Engine(fabric, figures, builder.build(), faults=faults)


@pytest.mark.parametrize("flow_control", ["credits", "drop", "none"])
def test_a_message_leaves_by_its_other_cable_once_the_way_beyond_its_switch_is_cut(flow_control):
    """Two chips on two switches that are joined: what is sent after the cut does not go round by both."""
    cables = [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    whole = engine(cables, flow_control=flow_control).iteration()
    fabric = engine(cables).fabric
    first, last = np.flatnonzero(whole.links.packets).tolist()
    fault = Fault(whole.finish_ps * 0.5e-12, last, 0.0)
    hurt = engine(cables, flow_control=flow_control, faults=(fault,)).iteration()
    sent = hurt.links.packets
    other = next(link for link in range(2) if link != first)
    assert 40 < sent[first] < 60
    assert sent[first] + sent[other] == 100
    between = (fabric.link_source >= 2) & (fabric.link_target >= 2)
    assert sent[between].sum() <= 2  # what the cut found on its way
    assert hurt.finish_ps < 1.1 * whole.finish_ps


def test_a_link_gives_up_on_a_packet_that_is_spoilt_whenever_it_is_sent():
    """With a half of all bits turned, each of two links sends it `TRIES_MOST` times more, a round trip of the cable apart."""
    cables = [(0, 2), (2, 1)]
    whole, spoilt = (engine(cables, 1, **rules).iteration() for rules in ({}, {"error_rate": 0.5, "link_retry": True}))
    assert sorted(spoilt.links.retries.tolist()) == [0, 0, TRIES_MOST, TRIES_MOST]
    again_ps = round(4096 / BYTES_PER_S * 1e12) + 2 * 100_000
    assert spoilt.finish_ps == whole.finish_ps + 2 * TRIES_MOST * again_ps


@pytest.mark.parametrize("headroom", [1, 3, 5, 7])
def test_headroom_loses_what_it_lacks_at_each_pause(headroom):
    """A pause takes effect two flights of the cable later, in which six packets come."""
    builder = TaskBuilder(1e9)
    builder.message(0, 1, 200 * 4096, [])
    fabric = from_cables("small", 2, [(0, 2, "adapter", 0.0), (2, 1, "slow", 0.0)], vertex_count=3)
    flight_s = 3 * 4096 / BYTES_PER_S
    links = {"adapter": LinkFigures(BYTES_PER_S, flight_s), "slow": LinkFigures(BYTES_PER_S / 20, 0.0)}
    pause = {"flow_control": "pause", "buffer_bytes": 20 * 4096, "pause_gap_bytes": 4 * 4096, "switch_s": 0.0, "adapter_s": 0.0}
    rules = PacketRules(links, headroom_bytes=headroom * 4096, retransmit_timeout_s=1e-4, **pause)
    done = Engine(fabric, rules, builder.build()).iteration()
    into = int(np.flatnonzero(fabric.link_source == 0)[0])
    lost, pauses = int(done.links.drops[into]), int(done.links.pauses[into])
    assert done.links.drops.sum() == lost == done.resent
    assert pauses > 10
    assert lost == pytest.approx(max(0, 6 - headroom) * pauses, rel=0.05)


SENDERS = {"as it likes": {}, "window": {"window": Window(first_packets=20.0)}, "pull": {"pull": Pull(first_packets=8)}}


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize(("off_ps", "sent_first", "lost"), [(-1, 9, 1), (0, 10, 0), (1, 10, 1)])
def test_a_cable_cut_between_two_packets_loses_neither(sender, off_ps, sent_first, lost):
    """The one about to leave goes by the other cable at once. A picosecond sooner the tenth is lost, and has to be sent again;
    a picosecond later the eleventh, which had begun.
    """
    rules = {"flow_control": "drop", "adapter_s": 0.0, "switch_s": 0.0, "header_bytes": 0, **SENDERS[sender]}
    packet_ps = round(4096 / BYTES_PER_S * 1e12)
    cables = [(0, 2), (0, 3), (2, 1), (3, 1)]
    first = int(np.flatnonzero(engine(cables, 40, **rules).iteration().links.packets)[0])
    hurt = engine(cables, 40, faults=(Fault((10 * packet_ps + off_ps) * 1e-12, first, 0.0),), **rules)
    done = hurt.iteration()
    assert done.links.packets[:2].tolist() == [sent_first, 40 - sent_first]
    assert done.resent == done.links.drops.sum() == lost
    again_ps = off_ps % packet_ps if lost else 0  # the cable was busy for nothing
    assert done.finish_ps == 40 * packet_ps + 2 * 100_000 + again_ps
    books_balance(hurt._state)


@pytest.mark.parametrize("answered", [2, 4, 100])  # packets that an acknowledgement waits for
def test_a_loss_costs_the_same_whichever_message_comes_first_in_the_list(answered):
    """Two windows, one each way; the first packet of one is lost with its cable, be it the very first of all or not."""
    cables = [(0, 2, "adapter", 1.0), (0, 3, "adapter", 1.0), (2, 1, "adapter", 1.0), (3, 1, "adapter", 1.0)]
    fabric = from_cables("small", 2, cables, vertex_count=4)
    idle = {"adapter_s": 0.0, "switch_s": 0.0, "buffer_bytes": 1 << 18, "retransmit_timeout_s": 1e-4}
    window = {"window": Window(first_packets=3.0, reorder_packets=8), "ack_packets": answered}
    rules = PacketRules({"adapter": LinkFigures(BYTES_PER_S, 2e-6)}, flow_control="drop", **idle, **window)
    ends = []
    for order in ([(0, 1), (1, 0)], [(1, 0), (0, 1)]):
        builder = TaskBuilder(1e9)
        for source, target in order:
            builder.message(source, target, 60 * 4096, [])
        tasks = builder.build()
        out = np.flatnonzero((fabric.link_source == 0) & (Engine(fabric, rules, tasks).iteration().links.packets > 0))
        done = Engine(fabric, rules, tasks, faults=(Fault(1e-7, int(out[0]), 0.0),)).iteration()
        assert done.resent == 1
        ends.append(dict(zip(order, done.last_ps.tolist(), strict=True)))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("sender", ["as it likes", "window"])
@pytest.mark.parametrize("cut", range(9, 40, 3))
def test_what_is_lost_beyond_a_cut_cable_is_sent_again_once_it_is_mended(cut, sender):
    """A switch passes on a quarter of what it gets and drops most of the rest. Its senders hear of that while their own cable is
    down between two packets, and send all of it later, with the packet that was about to leave: each arrives once.
    """
    fabric = from_cables("small", 2, [(0, 2, "adapter", 0.0), (2, 1, "slow", 0.0)], vertex_count=3)
    links = {"adapter": LinkFigures(BYTES_PER_S, 1e-7), "slow": LinkFigures(BYTES_PER_S / 4, 1e-7)}
    idle = {"adapter_s": 0.0, "switch_s": 0.0, "header_bytes": 0, "retransmit_timeout_s": 1e-5}
    rules = PacketRules(links, flow_control="drop", buffer_bytes=3 * 4096, **idle, **SENDERS[sender])
    builder = TaskBuilder(1e9)
    builder.message(0, 1, 40 * 4096, [])
    (out,), (slow,) = (np.flatnonzero(fabric.link_source == 0), np.flatnonzero(fabric.link_target == 1))
    at_s = cut * 4096 / BYTES_PER_S
    faults = (Fault(at_s, int(out), 0.0), Fault(at_s + 2e-5, int(out), 1.0))
    hurt = Engine(fabric, rules, builder.build(), faults=faults)
    done = hurt.iteration()
    drops = done.links.drops
    assert drops.sum() == drops[slow] + drops[out] == done.resent > 15
    assert done.links.packets[slow] == 40
    assert done.links.packets[out] == 40 + drops[slow]
    books_balance(hurt._state)


@pytest.mark.parametrize("fabric", [fat_tree(4), torus((3, 4)), hyperx((3, 3), 2)], ids=["fat tree", "torus", "hyperx"])
def test_each_vertex_keeps_a_set_of_next_links_once(fabric):
    """Those that lead one step closer, as distances say; targets with the same links share their set."""
    builder = TaskBuilder(1e9)
    builder.message(0, 1, 1, [])
    s = Engine(fabric, PacketRules({name: LinkFigures(1e9, 0.0) for name in fabric.link_classes}), builder.build())._state
    kept = 0
    for vertex in range(fabric.vertex_count):
        places = {int(place) for place in s.set_of[0, vertex] if place >= 0}
        sets = {tuple(s.sets[place + 1 : place + 1 + s.sets[place]].tolist()) for place in places}
        assert len(sets) == len(places)
        kept += sum(1 + len(links) for links in sets)
    assert kept == len(s.sets)


packet_by = getattr(_packet_by, "py_func", _packet_by)  # plain, whether kernels are compiled or not


@pytest.mark.parametrize("seed", range(5))
def test_of_a_message_under_way_the_packet_that_came_last_counts(seed):
    """Of its own packets alone, those of the messages beside it arriving all the while; before the first, its first."""
    random = np.random.default_rng(seed)
    tasks, packets = np.zeros(5, state.TASK).view(np.recarray), np.zeros(20, state.PACKET).view(np.recarray)
    tasks.first_packet = [0, 5, 6, 13, 20]
    packets.tail = random.permutation(20) * 10
    tasks.last_out, tasks.last_packet = 1000, random.integers(0, 20, 5)
    state_of = SimpleNamespace(tasks=tasks, packets=packets)
    for message, (first, end) in enumerate(((0, 5), (5, 6), (6, 13), (13, 20))):
        for when in range(0, 200, 7):
            here = [packet for packet in range(first, end) if packets.tail[packet] <= when]
            assert packet_by(state_of, message, when) == max(here, key=packets.tail.__getitem__, default=first)
        assert packet_by(state_of, message, 1000) == tasks.last_packet[message]
