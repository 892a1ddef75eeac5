"""What a topology is: chips, links, hops, bisection, cables."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from dcsim.fabric.build import build_fabric
from dcsim.fabric.measures import measure
from dcsim.network.scheduled.rules import figures_of
from dcsim.spec.network import ScheduledNetwork
from dcsim.spec.topology import Topology


def topology(spec: Topology, export: Path | None = None) -> dict[str, Any]:
    """Measures of the fabric, as one flat object; written to `export` (.json node-link or .graphml) if asked."""
    fabric = build_fabric(spec.fabric)
    if export is not None:
        from dcsim.fabric.export import write_fabric

        write_fabric(fabric, export)
    payload = payload_bytes_per_s(spec)
    measures = asdict(measure(fabric, dict.fromkeys(fabric.link_classes, payload)))
    cables = measures.pop("cables")
    return {
        "name": spec.name,
        "kind": spec.fabric.kind,
        **measures,
        "link_payload_bytes_per_s": payload,
        "cables": [{"class": name, "length_m": length, "count": count} for name, length, count in cables],
    }


def payload_bytes_per_s(spec: Topology) -> float:
    """Payload one link carries one way: a vector each slot, or packets less their headers."""
    network = spec.network
    if isinstance(network, ScheduledNetwork):
        figures = figures_of(network, spec.chip.clock_hz)
        return figures.vector_bytes * spec.chip.clock_hz / figures.slot_cycles
    return float(network.bandwidth_bytes_per_s * network.mtu_bytes / (network.mtu_bytes + network.header_bytes))
