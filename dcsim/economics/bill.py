"""A cluster's parts and what they cost, line by line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dcsim.network.bill import NetworkBill, Units
from dcsim.power.site import Site
from dcsim.spec.document import Figure, Path_
from dcsim.spec.topology import Topology

Basis = Literal["buy", "build"]  # chips at a customer's price, or at what they cost their maker


@dataclass(frozen=True, slots=True)
class Parts:
    """How many of each part a cluster holds, spares included."""

    chips: int
    nodes: int  # chassis, each with its host server
    racks: int  # that hold chips
    switch_racks: int  # that hold switches alone
    switch_ports: int  # of switches outside nodes
    switches: int
    adapters: int  # chip ports into such switches
    cables: int
    chip_cables: int  # of these, from chip to chip; the price of the others is in the switch ports'
    optical_ends: int  # at chips


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a bill. `kind` and `source` say what the unit price rests on."""

    item: str
    count: int
    unit_usd: float
    kind: str
    source: str

    @property
    def usd(self) -> float:
        """The whole line."""
        return self.count * self.unit_usd


def parts_of(site: Site) -> Parts:
    """The parts of a cluster in place."""
    bill = site.bill
    return Parts(
        chips=int(site.chips.sum()),
        nodes=int(site.nodes.sum()),
        racks=site.racks,
        switch_racks=site.switch_racks,
        switch_ports=bill.switch_ports,
        switches=bill.switches,
        adapters=bill.adapters,
        cables=bill.cables,
        chip_cables=bill.chip_cables,
        optical_ends=round(float(bill.optical_ends.sum())),
    )


def site_again(parts: Parts, spec: Topology) -> Site:
    """A cluster of these parts, whose racks are not told apart: enough for what all of them draw together."""
    bill = NetworkBill(
        parts.adapters,
        parts.switch_ports,
        parts.switches,
        parts.cables,
        parts.chip_cables,
        np.array([float(parts.optical_ends)]),
        Units(spec.network, spec.network.prices),
    )
    return Site(spec, bill, np.zeros(1, np.int64), np.array([parts.chips]), np.array([parts.nodes]))


def bill(parts: Parts, spec: Topology, basis: Basis, figures: Mapping[Path_, Figure] | None = None) -> list[Line]:
    """Price every part. Only chips differ between the bases: their maker too buys servers, switches and cables.

    `figures` gives kind and source by path, prices under `network.prices`; where it is silent a line says "not stated".
    Parts of which there are none are left out.
    """
    prices, known, small = spec.network.prices, figures or {}, ("network", "prices")
    units = Units(spec.network, prices)
    own_adapter: Path_ = ("network", "adapter_price")
    rows: list[tuple[str, int, float, Path_]] = [
        ("chip card", parts.chips, getattr(spec.chip.price, f"{basis}_usd"), ("chip", "price", basis)),
        ("host server", parts.nodes, spec.host.buy_usd, ("host", "buy")),
        ("chassis", parts.nodes, spec.node.buy_usd, ("node", "buy")),
        ("rack", parts.racks + parts.switch_racks, prices.rack_usd, (*small, "rack")),
        ("switch port", parts.switch_ports, units.switch_port_usd, ("network", "port")),
        ("adapter", parts.adapters, units.adapter_usd, own_adapter if own_adapter in known else (*small, "adapter")),
        ("cable", parts.chip_cables, units.cable_usd, (*small, "cable")),
    ]
    return [Line(item, count, unit_usd, *_provenance(known, path)) for item, count, unit_usd, path in rows if count]


def _provenance(figures: Mapping[Path_, Figure], path: Path_) -> tuple[str, str]:
    figure = figures.get(path)
    return (figure.kind, figure.source) if figure else ("", "not stated")


def total_usd(lines: list[Line]) -> float:
    """The sum of a bill."""
    return sum(line.usd for line in lines)
