"""What a topology is: chips, links, hops, bisection, cables."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dcsim.economics.bill import parts_of
from dcsim.fabric.build import build_fabric
from dcsim.fabric.measures import measure
from dcsim.network.network import make_network
from dcsim.power.site import site_of
from dcsim.spec.topology import Topology


def topology(spec: Topology, export: Path | None = None) -> dict[str, Any]:
    """Measures of the fabric, as one flat object; written to `export` (.json node-link or .graphml) if asked.

    `link_payload_bytes_per_s` is that of the links there are most of; `link_payloads` has that of each class.
    """
    network = make_network(spec, build_fabric(spec.fabric))
    fabric = network.fabric
    if export is not None:
        from dcsim.fabric.export import write_fabric

        write_fabric(fabric, export)
    payload = network.link_payload_bytes_per_s()
    measures = asdict(measure(fabric, payload))
    cables = measures.pop("cables")
    site = site_of(network)
    parts = parts_of(site)
    values, counts = np.unique(payload, return_counts=True)
    return {
        "name": spec.name,
        "kind": spec.fabric.kind,
        "interconnect": spec.network.name,
        **measures,
        "nodes": parts.nodes,
        "racks": parts.racks,
        "parts": asdict(parts),
        "adapters": parts.adapters,
        "switch_ports": parts.switch_ports,
        "network_w": site.network_w,
        "network_usd": site.bill.network_usd,
        "link_payload_bytes_per_s": float(values[counts.argmax()]) if len(values) else 0.0,
        "link_payloads": [
            {"class": name, "least_bytes_per_s": float(own.min()), "most_bytes_per_s": float(own.max())}
            for name, own in ((name, payload[fabric.link_class == i]) for i, name in enumerate(fabric.link_classes))
        ],
        "cables": [
            {"class": name, "length_m": length, "count": round(site.bill.lanes * count)} for name, length, count in cables
        ],
    }
