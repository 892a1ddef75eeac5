"""What a packet network is built of, and the bandwidth that the price of chips' own cables buys in it."""

from __future__ import annotations

from dcsim.errors import FabricError
from dcsim.fabric.graph import Fabric
from dcsim.network.bill import NetworkBill, Units, count_cables, count_switched, most_ports, optical_ends
from dcsim.spec.network import PacketNetwork
from dcsim.spec.price import TcoPrices


def packet_bill(network: PacketNetwork, fabric: Fabric, lanes: float, prices: TcoPrices, copper_m: float) -> NetworkBill:
    """The parts of a network in place on `fabric`, each of whose links stands for `lanes` ports of its own.

    Chips whose own ports carry packets have no adapters. Cables beyond `copper_m` are optical.
    """
    links, ports, switches = count_switched(fabric)
    own = network.layout == "own" or not links
    chip_cables = count_cables(fabric)
    adapters, switch_ports = (0, 0) if own else (round(lanes * links), round(lanes * ports))
    ports_a_chip = most_ports(fabric) if own else links / fabric.chip_count
    speed = network.chip_port_bytes_per_s if own else network.bandwidth_bytes_per_s
    return NetworkBill(
        adapters=adapters,
        switch_ports=switch_ports,
        switches=0 if own else round(max(1.0, lanes) * switches),
        cables=chip_cables + round((adapters + switch_ports) / 2),
        chip_cables=chip_cables,
        optical_ends=optical_ends(fabric, copper_m) * lanes,
        units=Units(network, prices),
        ports_per_chip=lanes * ports_a_chip,
        chip_bytes_per_s=ports_a_chip * speed,
        lanes=lanes,
    )


def bandwidth_for_cables(network: PacketNetwork, own: Fabric, plane: Fabric) -> float:
    """Bytes per second of each chip's link when one plane of switches costs what the chips' own cables do.

    `plane` has one of the network's ports a chip; money buys any share of one, or several. Raises FabricError where
    the network has no price.
    """
    units = Units(network, network.prices)
    adapters, ports, _ = count_switched(plane)
    plane_usd = adapters * units.adapter_usd + ports * units.switch_port_usd
    if plane_usd <= 0:
        raise FabricError(f"fairness equal_cost: network '{network.name}' costs nothing; give network.port or prices of adapters")
    return network.bandwidth_bytes_per_s * count_cables(own) * units.cable_usd / plane_usd
