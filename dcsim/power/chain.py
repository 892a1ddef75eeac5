"""The path of power from the parts to the site's meter.

Racks stand on PDUs in order of their numbers, PDUs in halls. Each level's meter reads the levels below it and what is
lost between: supplies, PDUs, the hall's UPS; the site's reads racks times PUE, which holds all these and cooling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.fabric.graph import Fabric
from dcsim.spec.topology import Topology

COPPER_M = 3.0  # passive copper reaches no farther at 100 Gb/s; longer cables are optical (usual practice)


@dataclass(frozen=True, slots=True)
class Level:
    """One level: which group of it each rack is in, and the share of the meter's power that reaches the parts."""

    name: str
    cap_w: float
    group_of: NDArray[np.int64]  # [rack]
    efficiency: float

    def meter_w(self, parts_w: NDArray[np.float64]) -> NDArray[np.float64]:
        """[group] reading of the meters for the parts' draw of each rack."""
        reading: NDArray[np.float64] = np.bincount(self.group_of, parts_w) / self.efficiency
        return reading


def levels(spec: Topology, racks: int) -> tuple[Level, ...]:
    """Rack, PDU, hall and site, from the chips up."""
    power, rack = spec.power, np.arange(racks)
    pdu = rack // power.racks_per_pdu
    supply = spec.node.supply_efficiency
    return (
        Level("rack", power.rack_cap_w, rack, supply),
        Level("pdu", power.pdu_cap_w, pdu, supply * power.pdu_efficiency),
        Level("hall", power.hall_cap_w, pdu // power.pdus_per_hall, supply * power.pdu_efficiency * power.ups_efficiency),
        Level("site", power.site_cap_w, np.zeros(racks, np.int64), supply / power.pue),
    )


def rack_count(fabric: Fabric) -> int:
    """Racks up to the last that holds chips; those beyond hold switches alone, whose power counts with the chips they join."""
    return int(fabric.rack_of[: fabric.chip_count].max()) + 1


def installed_chips(fabric: Fabric, racks: int) -> NDArray[np.int64]:
    """[rack] chips that stand in it, spares included."""
    return np.bincount(fabric.rack_of[: fabric.chip_count], minlength=racks)


def plant_w(spec: Topology, fabric: Fabric, racks: int) -> NDArray[np.float64]:
    """[rack] draw of its fans, adapters, optical cables and share of the switches: what does not vary."""
    installed = installed_chips(fabric, racks)
    nodes = -(-installed // spec.node.chips)
    network_w = network_power_w(spec, fabric) * installed / max(1, installed.sum())
    watts: NDArray[np.float64] = nodes * spec.node.fan_w + network_w + optical_ends(fabric, racks) * spec.power.optic_w
    return watts


def idle_w(spec: Topology, fabric: Fabric, racks: int) -> NDArray[np.float64]:
    """[rack] draw of its parts while no program runs and no request comes: every chip and host idle."""
    installed = installed_chips(fabric, racks)
    nodes = -(-installed // spec.node.chips)
    watts: NDArray[np.float64] = plant_w(spec, fabric, racks) + nodes * spec.host.idle_w + installed * spec.chip.power.idle_w
    return watts


def network_power_w(spec: Topology, fabric: Fabric) -> float:
    """Adapters and switch ports outside nodes; the ports of a scheduled network are the chips' own."""
    network = spec.network
    if network.kind == "scheduled":
        return 0.0
    from dcsim.network.packet.prices import count_ports

    adapters, ports = count_ports(fabric)
    return adapters * network.adapter_power_w + ports * network.switch_power_w


def optical_ends(fabric: Fabric, racks: int) -> NDArray[np.int64]:
    """[rack] ends of optical cables at its chips."""
    optical = (fabric.link_source < fabric.chip_count) & (fabric.link_length_m > COPPER_M)
    return np.bincount(fabric.rack_of[fabric.link_source[optical]], minlength=racks)
