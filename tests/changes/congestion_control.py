"""Additive increase, multiplicative decrease: fair (Chiu and Jain 1989), and a queue shorter than without."""

from dcsim.fabric.switched import leaf_spine
from dcsim.network.packet.engine import traffic
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.engine.rules import LinkFigures, PacketRules
from dcsim.network.packet.rules_of import rate_control_of
from dcsim.spec.transport import Aimd, TransportSpec

AIMD = Aimd(
    notice_gap="20 us",
    interval="20 us",
    additive_fraction=0.02,
    kept_fraction=0.5,
    least_fraction=0.001,
)
TRANSPORT = TransportSpec(name="aimd", description="", retransmit_timeout="1 ms", aimd=AIMD)


def incast(control):
    figures = PacketRules(
        {"adapter": LinkFigures(12.5e9, 1e-7)},
        flow_control="pause",
        buffer_bytes=1 << 22,
        pause_gap_bytes=4 * 4096,
        mark_low_bytes=20e3,
        mark_high_bytes=80e3,
        mark_fraction=0.2,
        rate_control=control,
    )
    return Engine(leaf_spine(16, 16), figures, traffic.incast(16, 4_000_000)).iteration()


def test_it_halves_the_queue_and_is_fair():
    with_it, without = incast(rate_control_of(TRANSPORT)), incast(None)
    assert with_it.links.marks.sum() > 0
    assert with_it.links.bytes.sum() == without.links.bytes.sum()
    assert with_it.links.peak_queue_bytes.max() < 0.5 * without.links.peak_queue_bytes.max()
    ends = with_it.last_ps[with_it.last_ps > 0]
    assert ends.min() > 0.85 * ends.max()  # all have had the same share
