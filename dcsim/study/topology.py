"""What a topology is: chips, links, hops, bisection, cables."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.fabric.build import build_fabric
from dcsim.fabric.graph import Fabric
from dcsim.fabric.measures import measure
from dcsim.network.scheduled.rules import figures_of, require_alike
from dcsim.spec.network import ScheduledNetwork
from dcsim.spec.topology import Topology


def topology(spec: Topology, export: Path | None = None) -> dict[str, Any]:
    """Measures of the fabric, as one flat object; written to `export` (.json node-link or .graphml) if asked.

    `link_payload_bytes_per_s` is that of the links there are most of; `link_payloads` has that of each class.
    """
    fabric = build_fabric(spec.fabric)
    if export is not None:
        from dcsim.fabric.export import write_fabric

        write_fabric(fabric, export)
    payload = link_payloads(spec, fabric)
    measures = asdict(measure(fabric, payload))
    cables = measures.pop("cables")
    values, counts = np.unique(payload, return_counts=True)
    return {
        "name": spec.name,
        "kind": spec.fabric.kind,
        **measures,
        "link_payload_bytes_per_s": float(values[counts.argmax()]) if len(values) else 0.0,
        "link_payloads": [
            {"class": name, "least_bytes_per_s": float(own.min()), "most_bytes_per_s": float(own.max())}
            for name, own in ((name, payload[fabric.link_class == i]) for i, name in enumerate(fabric.link_classes))
        ],
        "cables": [{"class": name, "length_m": length, "count": count} for name, length, count in cables],
    }


def link_payloads(spec: Topology, fabric: Fabric) -> NDArray[np.float64]:
    """[link] payload bytes per second one way: a vector each slot, or packets less their headers."""
    network = spec.network
    if isinstance(network, ScheduledNetwork):
        require_alike(fabric)
        figures = figures_of(network, spec.chip.clock_hz)
        return np.full(fabric.link_count, figures.vector_bytes * spec.chip.clock_hz / figures.slot_cycles)
    from dcsim.network.packet.engine.setup import link_bandwidths
    from dcsim.network.packet.rules_of import figures_of as packet_figures

    figures_ = packet_figures(network, fabric, spec.node.island)
    return link_bandwidths(fabric, figures_) * network.mtu_bytes / (network.mtu_bytes + network.header_bytes)
