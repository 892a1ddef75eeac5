"""Fabrics as files: node-link JSON and GraphML, written whole or not at all, and read back.

Vertices carry `kind` ("chip" or "switch"), `node`, `rack`, `group` (whole numbers, -1 for none) and `active`;
edges are cables with `class` and `length_m`. A file may leave out everything but the graph: vertices are then
chips, each its own node, and cables have class "local" and length 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dcsim.errors import FabricError
from dcsim.fabric.graph import Fabric, from_cables
from dcsim.fabric.routes import hop_totals
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
        {"source": a, "target": b, "key": key, "class": name, "length_m": length}
        for key, (a, b, name, length) in enumerate(cables_of(fabric))
    ]
    return {
        "directed": False,
        "multigraph": True,
        "graph": {"kind": fabric.kind},
        "nodes": nodes,
        "edges": edges,
    }


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


def read_fabric(path: str | Path) -> Fabric:
    """A fabric from a file; FabricError, naming the file and what is wrong, when it cannot be one."""
    path = Path(path)
    readers: dict[str, Callable[[Path], Any]] = {
        ".json": lambda p: _graph(json.loads(p.read_text(encoding="utf-8"))),
        ".graphml": lambda p: _networkx().read_graphml(p, force_multigraph=True),
    }
    if path.suffix not in readers:
        raise FabricError(f"{path}: a graph is read from .json (node-link) or .graphml")
    try:
        graph = readers[path.suffix](path)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        SyntaxError,
        _networkx().NetworkXException,
    ) as error:
        raise FabricError(f"{path}: not a graph: {error or type(error).__name__}") from error
    return from_graph(graph, str(path))


def from_graph(graph: Any, name: str = "graph") -> Fabric:
    """A fabric from a networkx graph; chips first, both in the graph's order. Every chip must reach every other."""
    vertices = list(graph.nodes(data=True))
    unknown = sorted({str(d.get("kind", "chip")) for _, d in vertices} - {"chip", "switch"})
    if unknown:
        raise FabricError(f"{name}: a vertex is a 'chip' or a 'switch', not '{unknown[0]}'")
    vertices.sort(key=lambda vertex: vertex[1].get("kind", "chip") != "chip")
    chips = sum(data.get("kind", "chip") == "chip" for _, data in vertices)
    if not chips:
        raise FabricError(f"{name}: has no chips")
    index = {vertex: i for i, (vertex, _) in enumerate(vertices)}
    nodes = [_label(data, "node", i if i < chips else -1, name) for i, (_, data) in enumerate(vertices)]
    fabric = from_cables(
        str(graph.graph.get("kind", "custom")),
        chips,
        _cables(graph, index, name),
        vertex_count=len(vertices),
        node_of=nodes,
        rack_of=[_label(data, "rack", 0, name) for _, data in vertices],
        group_of=[_label(data, "group", -1, name) for _, data in vertices],
        chip_active=[bool(data.get("active", True)) for _, data in vertices[:chips]],
    )
    try:
        hop_totals(fabric)
    except FabricError as error:
        raise FabricError(f"{name}: {error}") from error
    return fabric


def _cables(graph: Any, index: dict[Any, int], name: str) -> list[tuple[int, int, str, float]]:
    cables = []
    for a, b, data in graph.edges(data=True):
        length = data.get("length_m", 0.0)
        if a == b:
            raise FabricError(f"{name}: vertex {a} is cabled to itself")
        if isinstance(length, bool) or not isinstance(length, int | float) or not 0 <= length < np.inf:
            raise FabricError(f"{name}: cable {a} - {b}: length_m must be a number of metres, not {length!r}")
        ends = sorted((index[a], index[b]))
        cables.append((ends[0], ends[1], str(data.get("class", "local")), float(length)))
    return cables


def _label(data: dict[str, Any], key: str, default: int, name: str) -> int:
    value = data.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise FabricError(f"{name}: '{key}' must be a whole number, not {value!r}")
    return value


def _graph(data: dict[str, Any]) -> Any:
    """networkx's graph; older files name the edges `links`."""
    edges = "links" if "links" in data and "edges" not in data else "edges"
    return _networkx().node_link_graph({"multigraph": False, **data}, directed=False, edges=edges)


def _networkx() -> Any:
    import networkx

    return networkx
