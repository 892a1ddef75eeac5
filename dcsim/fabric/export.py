"""Fabrics as files: node-link JSON and GraphML, written whole or not at all. `custom` reads them back.

Vertices carry `kind` ("chip" or "switch"), `node`, `rack`, `group` (whole numbers, -1 for none) and `active`; edges are
cables with `class` and `length_m`, with `bandwidth_bytes_per_s` and `latency_s` where they have their own, and in grids
with the `rank` of their two links. `chips_relay` of the whole graph says that chips pass packets on beside switches.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from dcsim.errors import FabricError
from dcsim.fabric.graph import Fabric
from dcsim.fabric.switched import cables_of
from dcsim.writing import write_text


def to_node_link(fabric: Fabric) -> dict[str, Any]:
    """The fabric as networkx's node-link data: plain values, one edge a cable."""
    chips = fabric.chip_count
    labels = [fabric.node_of.tolist(), fabric.rack_of.tolist(), fabric.group_of.tolist()]
    active = [*fabric.chip_active.tolist(), *[True] * (fabric.vertex_count - chips)]
    nodes = [
        {
            "id": v,
            "kind": "chip" if v < chips else "switch",
            "node": node,
            "rack": rack,
            "group": group,
            "active": active[v],
        }
        for v, (node, rack, group) in enumerate(zip(*labels, strict=True))
    ]
    edges = [
        {"source": a, "target": b, "key": key, "class": name, "length_m": length, **own}
        for key, ((a, b, name, length), own) in enumerate(zip(cables_of(fabric), _own_figures(fabric), strict=True))
    ]
    return {
        "directed": False,
        "multigraph": True,
        "graph": {"kind": fabric.kind, **({"chips_relay": True} if fabric.chips_relay else {})},
        "nodes": nodes,
        "edges": edges,
    }


def _own_figures(fabric: Fabric) -> list[dict[str, float | int]]:
    """[cable] what it says besides class and length, in the order of `cables_of`."""
    once = np.flatnonzero(np.arange(fabric.link_count) < fabric.reverse)
    own: list[dict[str, float | int]] = [{} for _ in once]
    for key, values in (("bandwidth_bytes_per_s", fabric.own_bandwidth_bytes_per_s), ("latency_s", fabric.own_latency_s)):
        if values is not None:
            for figures, value in zip(own, values[once].tolist(), strict=True):
                if not np.isnan(value):
                    figures[key] = value
    if fabric.link_rank is not None:
        for figures, there, back in zip(own, fabric.link_rank[once], fabric.link_rank[fabric.reverse[once]], strict=True):
            figures |= {"rank": int(there), "rank_back": int(back)}
    return own


def write_fabric(fabric: Fabric, path: str | Path) -> None:
    """Write `.json` (node-link) or `.graphml`; FabricError for another ending, OutputError where it cannot be written."""
    path = Path(path)
    if path.suffix == ".json":
        text = json.dumps(to_node_link(fabric), separators=(",", ":")) + "\n"
    elif path.suffix == ".graphml":
        text = "\n".join(_networkx().generate_graphml(_graph(to_node_link(fabric)))) + "\n"
    else:
        raise FabricError(f"{path}: a graph is written as .json or .graphml")
    write_text(path, text)


def _graph(data: dict[str, Any]) -> Any:
    """networkx's graph."""
    return _networkx().node_link_graph(data, directed=False, edges="edges")


def _networkx() -> Any:
    import networkx

    return networkx
