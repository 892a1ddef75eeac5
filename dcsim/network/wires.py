"""What each link of a fabric takes to carry bulk data, for either kind of network, as whole pieces on the wire.

A piece is a vector of the scheduled network or a full packet. Times are per link, so a copy between two chips is one
short sum along its way (see `cluster.copies`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.fabric.graph import Fabric
from dcsim.network.scheduled.rules import figures_of
from dcsim.spec.network import PacketNetwork, ScheduledNetwork


@dataclass(frozen=True, slots=True)
class Wires:
    """`piece_fs` [link] femtoseconds a piece holds a link, `hop_ps` [link] from entering it to entering the next.

    `ends_ps` is what a message takes besides, at its two ends (on the scheduled network less the forwarding that its last
    hop does not do and the slot that its last vector need not wait for).
    """

    piece_bytes: int  # payload
    piece_fs: NDArray[np.int64]
    hop_ps: NDArray[np.int64]
    ends_ps: int


def wires_of(network: ScheduledNetwork | PacketNetwork, fabric: Fabric, clock_hz: float) -> Wires:
    """The wires of `fabric`, which on a packet network has its adapters and switches already (`packet_fabric.attach`)."""
    return _WIRES[network.kind](network, fabric, clock_hz)


def _scheduled(network: ScheduledNetwork, fabric: Fabric, clock_hz: float) -> Wires:
    figures = figures_of(network, clock_hz)

    def every_link(cycles: int, per_s: float) -> NDArray[np.int64]:
        return np.full(fabric.link_count, round(cycles * per_s / clock_hz), np.int64)

    hop_cycles = figures.hop_cycles + figures.forward_cycles
    ends_cycles = figures.path_cycles(1) - hop_cycles - figures.slot_cycles
    return Wires(
        figures.vector_bytes,
        every_link(figures.slot_cycles, 1e15),
        every_link(hop_cycles, 1e12),
        round(ends_cycles * 1e12 / clock_hz),
    )


def _packet(network: PacketNetwork, fabric: Fabric, _: float) -> Wires:
    """Cross traffic takes its share of every link; a switch that stores before it forwards holds back one packet."""
    from dcsim.network.packet.engine.setup import make_links, ps
    from dcsim.network.packet.rules_of import layers_of

    layers = layers_of(network, fabric)
    figures, links = layers.figures, make_links(fabric, layers.figures)
    packet_fs = (figures.mtu_bytes + figures.header_bytes) * links["fs_per_byte"] / (1 - links["background"])
    stored = (fabric.link_target >= fabric.chip_count) & (not figures.cut_through)
    hop_ps = links["wire_ps"] + links["node_ps"] + np.where(stored, packet_fs / 1000, 0)
    return Wires(
        figures.mtu_bytes,
        np.rint(packet_fs).astype(np.int64),
        np.rint(hop_ps).astype(np.int64),
        ps(figures.adapter_s + layers.software.network.send_s),
    )


_WIRES: dict[str, Callable[..., Wires]] = {"scheduled": _scheduled, "packet": _packet}
