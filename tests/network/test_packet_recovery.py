"""Acknowledgements and what is sent again after a loss, as network files say."""

import numpy as np
import pytest
from by_rule import load

from dcsim.errors import SpecError
from dcsim.fabric.switched import leaf_spine
from dcsim.network.packet.engine import traffic
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.rules_of import figures_of

FABRIC = leaf_spine(16, 8, 4)


def run(name, flows, *settings, cross_load=None):
    network = load("64chip", network=name, settings=[f"network.{s}" for s in settings]).spec.network
    return Engine(FABRIC, figures_of(network, FABRIC), flows, cross_load=cross_load).iteration()


@pytest.mark.parametrize(("name", "ack_bytes", "ack_packets"), [("roce-400g", 86, 8), ("ethernet-100g", 84, 2)])
def test_acknowledgements_load_the_reverse_links(name, ack_bytes, ack_packets):
    """One for every `ack_packets` packets of a message and for its last, on as many links as the data crossed."""
    flows = traffic.all_to_all(16, 100_000)
    shipped, free = run(name, flows, "buffer=100 MB"), run(name, flows, "buffer=100 MB", "ack=0")
    packets = -(-100_000 // {"roce-400g": 4096, "ethernet-100g": 1460}[name])
    hops = shipped.packet_hops // packets
    assert shipped.links.ack_bytes.sum() == hops * -(-packets // ack_packets) * ack_bytes
    assert free.links.ack_bytes.sum() == 0
    assert shipped.finish_ps > free.finish_ps
    assert np.array_equal(shipped.links.bytes, free.links.bytes)


def test_acknowledging_every_packet_costs_more():
    flows = traffic.all_to_all(16, 100_000)
    each, few = (run("roce-400g", flows, f"ack_packets={count}") for count in (1, 8))
    assert each.links.ack_bytes.sum() > 5 * few.links.ack_bytes.sum()
    assert each.finish_ps > few.finish_ps


def test_small_acknowledgements_leave_cross_traffic_where_it_is():
    """Cross traffic that passed before an acknowledgement does not queue behind it."""
    source = np.tile([0, 1], 200)
    release = np.repeat(np.arange(200) * 1e-4, 2) + np.where(source == 1, 1e-6, 0.0)
    flows = traffic.Flows(source, 1 - source, np.full(400, 64), release)  # a message goes back right after one came
    busy = np.full(FABRIC.link_count, 0.5)
    without, answered = (run("infiniband-ndr", flows, f"ack={size} B", cross_load=busy) for size in (0, 1))
    assert answered.links.ack_bytes.sum() > 0
    took = [(one.last_ps - one.start_ps).mean() for one in (without, answered)]
    assert took[1] == pytest.approx(took[0], rel=0.01)


def test_going_back_sends_more_again_than_selective_repeat():
    flows = traffic.incast(16, 200_000)
    selective, back = (run("ethernet-100g", flows, "buffer=20 kB", f"recovery={kind}") for kind in ("selective", "go_back"))
    assert selective.resent == selective.links.drops.sum() > 0
    assert back.resent > back.links.drops.sum() > 0
    assert back.packet_hops > selective.packet_hops


def test_an_unknown_recovery_is_refused():
    with pytest.raises(SpecError, match="selective"):
        load("64chip", network="roce-400g", settings=["network.recovery=twice"])
