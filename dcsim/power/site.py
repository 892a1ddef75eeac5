"""What stands in the racks of a cluster, and what it draws there: counted once, for every question about watts or parts.

Chips stand in the fabric's racks, as many nodes in each as its height holds. Switches fill what height is left; those that do
not fit take racks of their own. Adapters and switch ports draw power in the racks of the chips they join.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.fabric.graph import Fabric
from dcsim.network.bill import NetworkBill
from dcsim.network.network import Network
from dcsim.power.chain import Level, levels
from dcsim.spec.host import NodeSpec
from dcsim.spec.topology import Topology

Watts = NDArray[Any]  # float64


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster's floor: which rack each chip stands in, and the parts of the network that joins them."""

    spec: Topology
    bill: NetworkBill
    rack_of: NDArray[np.int64]  # [chip]
    chips: NDArray[np.int64]  # [rack] installed, spares included
    nodes: NDArray[np.int64]  # [rack] chassis, each with its host server

    @property
    def racks(self) -> int:
        """Racks that hold chips."""
        return len(self.chips)

    @property
    def switch_racks(self) -> int:
        """Racks that hold switches alone."""
        rack_units = self.spec.power.rack_units
        spare_units = self.racks * rack_units - int(self.nodes.sum()) * self.spec.node.rack_units
        return ceil(max(0, self.bill.switches * self.bill.units.switch_units - spare_units) / rack_units)

    @property
    def network_w(self) -> float:
        """Draw of all adapters and switch ports, which does not vary."""
        bill = self.bill
        return bill.adapters * bill.units.adapter_w + bill.switch_ports * bill.units.switch_port_w

    def chips_in(self, replica_chips: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """[replica, rack] how many of the replica's chips stand in the rack."""
        return np.array([np.bincount(self.rack_of[list(chips)], minlength=self.racks) for chips in replica_chips])

    def draw(
        self,
        chips_in: NDArray[np.int64] | None = None,
        work_w: Mapping[str, Watts] | None = None,
        hosts_w: Watts | float = 0.0,
    ) -> Draw:
        """What is drawn while the chips of `chips_in` [replica, rack] are in a program and all others idle.

        `work_w` [replica] by state is what the chips' work adds to waiting, `hosts_w` [rack] what hosts draw above idle.
        """
        spec, bill = self.spec, self.bill
        power = spec.chip.power
        chips_in = np.zeros((0, self.racks), np.int64) if chips_in is None else chips_in
        running = chips_in.sum(axis=0)
        spread = chips_in / np.maximum(chips_in.sum(axis=1, keepdims=True), 1)  # M7
        of_network = self.chips / self.chips.sum()
        optical = np.bincount(self.rack_of, bill.optical_ends, self.racks)
        return Draw(
            spec,
            {
                "chips idle": (self.chips - running) * power.idle_w,
                "chips waiting": running * power.wait_w,
                **{f"chips {state}": spread.T @ watts for state, watts in (work_w or {}).items()},
                "hosts": self.nodes * spec.host.idle_w + hosts_w,
                "fans": self.nodes * spec.node.fan_w,
                "switches and adapters": self.network_w * of_network,
                "optics": optical * spec.power.optic_w,
            },
        )

    def peak(self) -> Draw:
        """The most that can be drawn at once: every chip in its hungriest state, every host busy."""
        power, host = self.spec.chip.power, self.spec.host
        hungriest_w = max(power.idle_w, power.wait_w, power.matrix_w, power.vector_w)
        all_chips = self.chips[None, :]
        work_w = np.array([self.chips.sum() * (hungriest_w - power.wait_w)])
        return self.draw(all_chips, {"work": work_w}, self.nodes * (host.busy_w - host.idle_w))


@dataclass(frozen=True, slots=True)
class Draw:
    """Watts of the parts of each rack, by what they are, and what the meters read of them."""

    spec: Topology
    by_part: dict[str, Watts]  # [rack]

    @property
    def parts_w(self) -> Watts:
        """[rack] what reaches its parts."""
        total: Watts = sum(self.by_part.values(), np.zeros(1))
        return total

    @property
    def levels(self) -> tuple[Level, ...]:
        """Rack, PDU, hall and site."""
        return levels(self.spec, len(next(iter(self.by_part.values()))))

    def meters_w(self) -> dict[str, Watts]:
        """[group] what the meters of each level read."""
        parts_w = self.parts_w
        return {level.name: level.meter_w(parts_w) for level in self.levels}

    @property
    def rack_power_w(self) -> float:
        """What the meter of the rack that draws most reads."""
        return float(self.meters_w()["rack"].max())

    @property
    def it_power_w(self) -> float:
        """What all racks draw at their meters: the power of the equipment itself."""
        return float(self.meters_w()["rack"].sum())

    @property
    def power_w(self) -> float:
        """What the site's meter reads."""
        return float(self.meters_w()["site"].sum())

    def spent_w(self) -> dict[str, float]:
        """Watts by part, then by what is lost on the way from the site's meter; they sum to its reading."""
        meters = {level: float(watts.sum()) for level, watts in self.meters_w().items()}
        parts = {part: float(watts.sum()) for part, watts in self.by_part.items()}
        return {
            **parts,
            "supply loss": meters["rack"] - sum(parts.values()),
            "PDU and UPS loss": meters["hall"] - meters["rack"],
            "cooling": meters["site"] - meters["hall"],
        }


def site_of(network: Network) -> Site:
    """The floor of the cluster that `network` joins."""
    spec, fabric = network.spec, network.fabric
    rack_of = standing(fabric, spec.node, spec.power.rack_units)
    chips = np.bincount(rack_of)
    return Site(spec, network.bill(), rack_of, chips, -(-chips // spec.node.chips))


def standing(fabric: Fabric, node: NodeSpec, rack_units: int) -> NDArray[np.int64]:
    """[chip] rack: the fabric's own, numbered from 0, or further ones where more nodes stand in one than its height holds."""
    named = np.unique(fabric.rack_of[: fabric.chip_count], return_inverse=True)[1]
    fit = max(1, rack_units // node.rack_units) * node.chips  # chips of a full rack
    order = np.argsort(named, kind="stable")
    counts = np.bincount(named)
    place = np.arange(len(named)) - np.repeat(np.cumsum(counts) - counts, counts)
    floor = np.zeros(len(named), np.int64)
    floor[order] = place // fit
    return np.asarray(np.unique(named * (len(named) + 1) + floor, return_inverse=True)[1], np.int64)
