"""What a network is built of: adapters, switches, cables and optical ends, their draw and their prices.

Islands (switches inside a node) are part of their nodes. Every cable between two chips counts at the price of one; the cables of
adapters and switches are in the price of the switch ports. What cables end in on the chips is in the chips' price.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.fabric.graph import Fabric
from dcsim.spec.network import NetworkSpec
from dcsim.spec.price import TcoPrices

ISLAND = "island"  # the class of links inside a node's own switches


@dataclass(frozen=True, slots=True)
class Units:
    """What one of each part draws and costs: the network's own figures, prices of small parts from `prices`.

    A scheduled network's ports are the chips' own. A figure is read when it is asked for, so that what counts parts or watts
    does not pass for a use of prices.
    """

    network: NetworkSpec
    prices: TcoPrices

    @property
    def adapter_w(self) -> float:
        return 0.0 if self.network.kind == "scheduled" else self.network.adapter_power_w

    @property
    def switch_port_w(self) -> float:
        return 0.0 if self.network.kind == "scheduled" else self.network.switch_power_w

    @property
    def switch_units(self) -> int:
        """Height of one switch."""
        return 0 if self.network.kind == "scheduled" else self.network.switch_units

    @property
    def adapter_usd(self) -> float:
        if self.network.kind == "scheduled":
            return 0.0
        own = self.network.adapter_price_usd
        return self.prices.adapter_usd if own is None else own

    @property
    def switch_port_usd(self) -> float:
        return 0.0 if self.network.kind == "scheduled" else self.network.port_usd

    @property
    def cable_usd(self) -> float:
        """Of a cable from chip to chip."""
        return self.prices.cable_usd


@dataclass(frozen=True, slots=True)
class NetworkBill:
    """The parts of a network in place.

    `optical_ends` [chip] are the ends of optical cables at each chip; ends at switches count with their ports. An
    optical end's draw is a figure of the power path (`power.optic`), not of the network.
    """

    adapters: int  # chips' ports into switches
    switch_ports: int
    switches: int
    cables: int
    chip_cables: int  # of these, from chip to chip: what is priced apart
    optical_ends: NDArray[np.float64]
    units: Units
    ports_per_chip: float = 0.0  # of the network's own speed; 0 where there are no such ports
    chip_bytes_per_s: float = 0.0  # all of a chip's links together, one way
    lanes: float = 1.0  # ports of the network that one link of the fabric stands for

    @property
    def network_usd(self) -> float:
        """Price of all of it."""
        units = self.units
        switched_usd = self.adapters * units.adapter_usd + self.switch_ports * units.switch_port_usd
        return switched_usd + self.chip_cables * units.cable_usd


def outside_islands(fabric: Fabric) -> NDArray[np.bool_]:
    """[link] whether it is no link of a node's own island."""
    source, target = fabric.node_of[fabric.link_source], fabric.node_of[fabric.link_target]
    island = np.array([name == ISLAND for name in fabric.link_classes], np.bool_)
    in_class = island[fabric.link_class] if len(island) else np.zeros(fabric.link_count, np.bool_)
    return np.asarray(~(in_class & (source == target) & (source >= 0)))


def count_switched(fabric: Fabric) -> tuple[int, int, int]:
    """(adapters, switch ports, switches) outside islands: links from chips into switches, links out of switches."""
    outside = outside_islands(fabric)
    into_switch, from_chip = fabric.link_target >= fabric.chip_count, fabric.link_source < fabric.chip_count
    leaving = outside & ~from_chip
    switches = len(np.unique(fabric.link_source[leaving]))
    return int(np.sum(outside & from_chip & into_switch)), int(np.sum(leaving)), switches


def count_cables(fabric: Fabric) -> int:
    """Cables from chip to chip."""
    between_chips = (fabric.link_source < fabric.chip_count) & (fabric.link_target < fabric.chip_count)
    return int(np.sum(outside_islands(fabric) & between_chips)) // 2


def optical_ends(fabric: Fabric, copper_m: float) -> NDArray[np.float64]:
    """[chip] ends of optical cables there: of those that copper, which reaches `copper_m`, is too short for."""
    optical = outside_islands(fabric) & (fabric.link_source < fabric.chip_count) & (fabric.link_length_m > copper_m)
    return np.bincount(fabric.link_source[optical], minlength=fabric.chip_count).astype(np.float64)


def most_ports(fabric: Fabric) -> int:
    """Links of the chip that has most."""
    return int(np.diff(fabric.first_link)[: fabric.chip_count].max(initial=0))
