"""What joins the chips of a candidate: adapters, switch ports, cables, their power and price, and a chip's bandwidth."""

from __future__ import annotations

from typing import Any

import numpy as np

from dcsim.fabric.graph import Fabric
from dcsim.network.packet.prices import cables_usd, count_ports, switched_usd
from dcsim.network.packet.switches import attach, bonded
from dcsim.spec.network import PacketNetwork
from dcsim.spec.price import TcoPrices
from dcsim.spec.topology import Topology


def plant(spec: Topology, fabric: Fabric, prices: TcoPrices | None = None) -> dict[str, Any]:
    """The plant of `spec`'s network for `fabric`, whose chips have their own cables; islands are part of their nodes.

    `prices` are those of another candidate that this one is compared with; default: the network's own.
    """
    network, figures = spec.network, prices or spec.network.prices
    if not isinstance(network, PacketNetwork) or network.layout == "own":
        packets = isinstance(network, PacketNetwork)
        rate = network.chip_port_bytes_per_s if isinstance(network, PacketNetwork) else network.bandwidth_bytes_per_s
        return {
            "adapters": 0,
            "switch_ports": 0,
            "cables": fabric.link_count // 2,
            "network_w": 0.0,
            "network_usd": cables_usd(fabric, figures),
            "ports_per_chip": _ports(fabric) if packets else 0,
            "chip_bytes_per_s": _ports(fabric) * rate,
        }
    attached, joined = attach(network, fabric)
    lanes = bonded(network, attached)
    adapters, ports = (round(lanes * count) for count in count_ports(joined))
    links = count_ports(joined)[0] / fabric.chip_count
    return {
        "adapters": adapters,
        "switch_ports": ports,
        "cables": round((adapters + ports) / 2),
        "network_w": adapters * network.adapter_power_w + ports * network.switch_power_w,
        "network_usd": switched_usd(adapters, ports, network, figures),
        "ports_per_chip": lanes * links,
        "chip_bytes_per_s": links * attached.bandwidth_bytes_per_s,
    }


def _ports(fabric: Fabric) -> int:
    """Links of the chip that has most."""
    return int(np.diff(fabric.first_link)[: fabric.chip_count].max(initial=0))
