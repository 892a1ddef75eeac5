"""A cluster's parts and what they cost, line by line.

The spec here is the resolved spec as a run saves it: nested mappings under the files' keys, in base units
(`spec["chip"]["price"]["buy"]` is in USD).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dcsim.spec.document import Figure, Path_
from dcsim.spec.price import TcoPrices

Basis = Literal["buy", "build"]  # chips at a customer's price, or at what they cost their maker
Spec = Mapping[str, Any]

RACK_UNITS = 42  # height of an ordinary rack


@dataclass(frozen=True, slots=True)
class Parts:
    """How many of each part a cluster holds, spares included."""

    chips: int
    nodes: int  # chassis, each with its host server
    racks: int
    switch_ports: int  # of switches outside nodes
    adapters: int  # chip ports into such switches
    cables: int  # chip to chip, leaving a node


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


def count_parts(fabric: Any, node: Any) -> Parts:
    """Count the parts of a built fabric (`fabric.graph.Fabric`) whose chassis are as `node` (`spec.host.NodeSpec`).

    Links of class `island` lie inside a node: the price of the chassis or the cards holds them. Racks are those of
    the fabric, or more where the chassis would not fit in so many.
    """
    import numpy as np

    inside = np.array([name == "island" for name in fabric.link_classes], bool)
    outside = ~inside[fabric.link_class] if len(inside) else np.zeros(0, bool)
    from_chip, to_chip = fabric.link_source < fabric.chip_count, fabric.link_target < fabric.chip_count
    leaves_node = fabric.node_of[fabric.link_source] != fabric.node_of[fabric.link_target]
    nodes = math.ceil(fabric.chip_count / node.chips)
    racks = fabric.rack_of[: fabric.chip_count]
    return Parts(
        chips=fabric.chip_count,
        nodes=nodes,
        racks=max(len(np.unique(racks[racks >= 0])), math.ceil(nodes * node.rack_units / RACK_UNITS)),
        switch_ports=int(np.sum(outside & ~to_chip)),
        adapters=int(np.sum(outside & from_chip & ~to_chip)),
        cables=int(np.sum(outside & from_chip & to_chip & leaves_node)) // 2,
    )


def bill(parts: Parts, spec: Spec, prices: TcoPrices, basis: Basis, figures: Mapping[Path_, Figure] | None = None) -> list[Line]:
    """Price every part. Only chips differ between the bases: their maker too buys servers, switches and cables.

    `figures` gives kind and source by path, prices under `price`; where it is silent a line says "not stated".
    Parts of which there are none are left out.
    """
    rows: list[tuple[str, int, float, Path_]] = [
        ("chip card", parts.chips, spec["chip"]["price"][basis], ("chip", "price", basis)),
        ("host server", parts.nodes, spec["host"]["buy"], ("host", "buy")),
        ("chassis", parts.nodes, spec["node"]["buy"], ("node", "buy")),
        ("rack", parts.racks, prices.rack_usd, ("price", "rack")),
        ("switch port", parts.switch_ports, spec["network"].get("port", 0.0), ("network", "port")),
        ("adapter", parts.adapters, prices.adapter_usd, ("price", "adapter")),
        ("cable", parts.cables, prices.cable_usd, ("price", "cable")),
    ]
    return [Line(item, count, unit_usd, *_provenance(figures or {}, path)) for item, count, unit_usd, path in rows if count]


def _provenance(figures: Mapping[Path_, Figure], path: Path_) -> tuple[str, str]:
    figure = figures.get(path)
    return (figure.kind, figure.source) if figure else ("", "not stated")


def total_usd(lines: list[Line]) -> float:
    """The sum of a bill."""
    return sum(line.usd for line in lines)


def peak_power_w(parts: Parts, spec: Spec) -> float:
    """Most the parts can draw at the wall at once, cooling apart: what the datacenter must be built for.

    Every chip in its hungriest state, hosts busy, fans, switch ports and adapters, over the supply efficiency.
    """
    chip_w = max(spec["chip"]["power"].values())
    network = spec["network"]
    inside_w = parts.chips * chip_w + parts.nodes * (spec["host"]["busy"] + spec["node"]["fan"])
    inside_w += parts.switch_ports * network.get("switch_power", 0.0) + parts.adapters * network.get("adapter_power", 0.0)
    return float(inside_w / spec["node"]["supply_efficiency"])
