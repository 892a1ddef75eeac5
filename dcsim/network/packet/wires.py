"""What each link of a packet network takes to carry whole packets of bulk data."""

from __future__ import annotations

import numpy as np

from dcsim.network.packet.engine.setup import make_links, ps
from dcsim.network.packet.iteration import Attached
from dcsim.network.wires import Wires


def packet_wires(place: Attached) -> Wires:
    """Cross traffic takes its share of every link; a switch that stores before it forwards holds back one packet."""
    fabric, figures = place.fabric, place.layers.figures
    links = make_links(fabric, figures)
    packet_fs = (figures.mtu_bytes + figures.header_bytes) * links["fs_per_byte"] / (1 - links["background"])
    stored = (fabric.link_target >= fabric.chip_count) & (not figures.cut_through)
    hop_ps = links["wire_ps"] + links["node_ps"] + np.where(stored, packet_fs / 1000, 0)
    return Wires(
        figures.mtu_bytes,
        np.rint(packet_fs).astype(np.int64),
        np.rint(hop_ps).astype(np.int64),
        ps(figures.adapter_s + place.layers.software.network.send_s),
    )
