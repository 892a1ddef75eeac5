"""What joins chips, in money: the chips' own cables, or adapters and switch ports; and the bandwidth that money buys.

Every cable counts at the price of one, those inside a node too, though the chassis' price holds them: an upper bound
for the cables, so that `equal_cost` errs in favour of packets. Ends of cables on the chips are in the chips' price.
"""

from __future__ import annotations

import numpy as np

from dcsim.errors import FabricError
from dcsim.fabric.graph import Fabric
from dcsim.spec.network import PacketNetwork
from dcsim.spec.price import TcoPrices


def cables_usd(fabric: Fabric, prices: TcoPrices) -> float:
    """The cables of chips that are joined to each other."""
    return fabric.link_count // 2 * prices.cable_usd


def count_ports(fabric: Fabric) -> tuple[int, int]:
    """(adapters, switch ports) outside nodes: links from chips into switches, links out of switches."""
    source_node, target_node = fabric.node_of[fabric.link_source], fabric.node_of[fabric.link_target]
    outside = (source_node != target_node) | (source_node < 0)
    into_switch = fabric.link_target >= fabric.chip_count
    from_chip = fabric.link_source < fabric.chip_count
    return int(np.sum(outside & from_chip & into_switch)), int(np.sum(outside & ~from_chip))


def switched_usd(adapters: float, switch_ports: float, network: PacketNetwork, prices: TcoPrices) -> float:
    """Adapters, and switch ports with their share of cable."""
    adapter_usd = prices.adapter_usd if network.adapter_price_usd is None else network.adapter_price_usd
    return adapters * adapter_usd + switch_ports * network.port_usd


def bandwidth_for_cables(network: PacketNetwork, own: Fabric, plane: Fabric) -> float:
    """Bytes per second of each chip's link when one plane of switches costs what the chips' own cables do.

    `plane` has one of the network's ports a chip; money buys any share of one, or several. Raises FabricError where
    the network has no price.
    """
    prices = network.prices
    plane_usd = switched_usd(*count_ports(plane), network, prices)
    if plane_usd <= 0:
        raise FabricError(f"fairness equal_cost: network '{network.name}' costs nothing; give network.port or prices of adapters")
    return network.bandwidth_bytes_per_s * cables_usd(own, prices) / plane_usd
