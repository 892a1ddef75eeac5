"""Fabrics read from files: node-link JSON as networkx writes it, and GraphML.

A vertex has any name, and may say its `kind` ("chip" or "switch"), `node`, `rack`, `group` (whole numbers or names, -1 for
none) and whether it is `active`. An edge is a cable and may say `class`, `length_m`, and, where its links are unlike those
of the network, `bandwidth` ("12.5 GB/s", or `bandwidth_bytes_per_s`, a number) and `latency` ("300 ns", or `latency_s`).
A directed file gives each cable as two edges. What is left out: vertices are chips, each its own node, cables have class
"local" and length 0.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import FabricError
from dcsim.fabric.graph import Fabric, from_cables
from dcsim.fabric.routes import hop_totals
from dcsim.reading import JSON_MAX, read_json, reading, reason_of
from dcsim.units import RATE, TIME, parse_quantity

VERTEX_KEYS = ("kind", "node", "rack", "group", "active")
CABLE_KEYS = ("class", "length_m", "bandwidth", "bandwidth_bytes_per_s", "latency", "latency_s", "rank", "rank_back")
BANDWIDTH_LEAST, BANDWIDTH_MOST = 1.0, 1e15  # bytes/s: a byte takes from a femtosecond to a second
LATENCY_MOST_S = 1.0
PROBLEMS_SHOWN = 10

Edge = tuple[Hashable, Hashable, dict[str, Any]]


@dataclass(slots=True)
class Drawing:
    """A file's graph as it was written, before anything is made of it."""

    graph: dict[str, Any]
    directed: bool
    parallel: bool  # whether two edges between the same vertices are two cables
    vertices: list[tuple[Hashable, dict[str, Any]]]
    edges: list[Edge]


def read_fabric(path: str | Path) -> Fabric:
    """A fabric from a file; FabricError, naming the file and everything that is wrong with it, when it cannot be one."""
    path = Path(path)
    readers: dict[str, Callable[[Path], Drawing]] = {".json": _read_json, ".graphml": _read_graphml}
    if path.suffix not in readers:
        raise FabricError(f"{path}: a graph is read from .json (node-link) or .graphml")
    with reading(path, FabricError):
        return build(readers[path.suffix](path), str(path))


def build(drawing: Drawing, name: str = "graph") -> Fabric:
    """The fabric of a drawing; chips come first, both in the order given. Every chip must reach every other."""
    problems = [*_vertex_problems(drawing), *_edge_problems(drawing)]
    _refuse(name, problems)
    edges = _cables_of_directed(drawing, problems) if drawing.directed else drawing.edges
    _refuse(name, problems)
    vertices = sorted(drawing.vertices, key=lambda vertex: vertex[1].get("kind", "chip") != "chip")
    chips = sum(data.get("kind", "chip") == "chip" for _, data in vertices)
    index = {label: i for i, (label, _) in enumerate(vertices)}
    cables, own = [], []
    for a, b, data in edges:
        ends = sorted((index[a], index[b]))
        turned = index[a] > index[b]
        cables.append((ends[0], ends[1], str(data.get("class", "local")), float(data.get("length_m", 0.0))))
        own.append((_bandwidth(data), _latency_s(data), *_ranks(data, turned)))
    bandwidth, latency_s, rank, back = np.array(own, np.float64).reshape(-1, 4).T
    fabric = from_cables(
        str(drawing.graph.get("kind", "custom")),
        chips,
        cables,
        vertex_count=len(vertices),
        node_of=_labels(vertices, "node", chips),
        rack_of=_labels(vertices, "rack"),
        group_of=_labels(vertices, "group"),
        chip_active=[data.get("active", True) for _, data in vertices[:chips]],
        bandwidth_bytes_per_s=bandwidth,
        latency_s=latency_s,
        rank=None if np.isnan(rank).any() or not len(rank) else np.stack([rank, back]),
    )
    if drawing.graph.get("chips_relay", False) is True:
        fabric = replace(fabric, chips_relay=True)
    try:
        hop_totals(fabric)
    except FabricError as error:
        hint = "" if fabric.chips_forward else " (chips pass packets on only where there is no switch)"
        raise FabricError(f"{name}: {error}{hint}") from error
    return fabric


def _refuse(name: str, problems: list[str]) -> None:
    if problems:
        shown = [f"{name}: {problem}" for problem in problems[:PROBLEMS_SHOWN]]
        more = [f"{name}: and {len(problems) - PROBLEMS_SHOWN} more"] if len(problems) > PROBLEMS_SHOWN else []
        raise FabricError("\n".join([*shown, *more]))


def _read_json(path: Path) -> Drawing:
    """Node-link data; older files name the edges `links`."""
    try:
        data = read_json(path, JSON_MAX)
    except (OSError, ValueError, RecursionError) as error:
        raise FabricError(f"{path}: not a graph: {reason_of(error)}") from error
    if not isinstance(data, dict):
        raise FabricError(f"{path}: not a graph: a JSON object with nodes and edges is needed")
    edges_key = "links" if "links" in data and "edges" not in data else "edges"
    problems = [f"not a graph: '{key}' must be a list of objects" for key in ("nodes", edges_key) if not _objects(data.get(key))]
    _refuse(str(path), problems)
    problems += [f"not a graph: node {i} has no 'id'" for i, node in enumerate(data["nodes"]) if "id" not in node]
    problems += [
        f"not a graph: edge {i} has no '{end}'"
        for i, edge in enumerate(data[edges_key])
        for end in ("source", "target")
        if end not in edge
    ]
    _refuse(str(path), problems)
    graph = data.get("graph", {})
    return Drawing(
        graph if isinstance(graph, dict) else {},
        data.get("directed", False) is True,
        data.get("multigraph", False) is True,
        [(_hashable(node["id"]), {k: v for k, v in node.items() if k != "id"}) for node in data["nodes"]],
        [
            (
                _hashable(edge["source"]),
                _hashable(edge["target"]),
                {k: v for k, v in edge.items() if k not in ("source", "target", "key")},
            )
            for edge in data[edges_key]
        ],
    )


def _objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _hashable(label: Any) -> Hashable:
    """A name as JSON may write it: lists stand for tuples."""
    return tuple(_hashable(part) for part in label) if isinstance(label, list) else label if _is_name(label) else str(label)


def _read_graphml(path: Path) -> Drawing:
    """GraphML by networkx, which knows its types; names and ends of edges as the file has them, since networkx mends both."""
    import networkx
    from networkx.exception import NetworkXException

    try:
        graph = networkx.read_graphml(path, force_multigraph=True)
        vertices, ends = _graphml_names(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SyntaxError, NetworkXException) as error:
        raise FabricError(f"{path}: not a graph: {reason_of(error)}") from error
    data = dict(graph.nodes(data=True))
    edges = [(a, b, attributes) for a, b, attributes in graph.edges(data=True)]
    if len(edges) != len(ends):
        raise FabricError(f"{path}: not a graph: {len(ends)} edges of which {len(edges)} have an 'id' of their own")
    return Drawing(
        graph.graph,
        graph.is_directed(),
        True,
        [(label, data[label]) for label in vertices],
        edges,
    )


def _graphml_names(path: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """(ids of nodes, (source, target) of edges) of the file's first graph, in order."""
    from xml.etree import ElementTree

    vertices, ends = [], []
    for _, element in ElementTree.iterparse(path):
        tag = element.tag.rpartition("}")[2]
        if tag == "node":
            vertices.append(element.attrib["id"])
        elif tag == "edge":
            ends.append((element.attrib["source"], element.attrib["target"]))
    return vertices, ends


def _vertex_problems(drawing: Drawing) -> Iterable[str]:
    """What is wrong with the vertices alone."""
    for label, count in Counter(label for label, _ in drawing.vertices).items():
        if count > 1:
            yield f"vertex {label!r} is given {count} times"
    for label, data in drawing.vertices:
        place = f"vertex {label!r}"
        yield from _unknown(place, data, VERTEX_KEYS)
        if data.get("kind", "chip") not in ("chip", "switch"):
            yield f"{place}: kind is 'chip' or 'switch', not {data['kind']!r}"
        if not isinstance(data.get("active", True), bool):
            yield f"{place}: active is true or false, not {data['active']!r}"
        for key in ("node", "rack", "group"):
            if not _is_name(data.get(key, 0)):
                yield f"{place}: {key} must be a whole number or a name, not {data[key]!r}"
    chips = [data for _, data in drawing.vertices if data.get("kind", "chip") == "chip"]
    if not chips:
        yield "has no chips"
    elif not any(data.get("active", True) for data in chips):
        yield "has no active chips"


def _edge_problems(drawing: Drawing) -> Iterable[str]:
    """What is wrong with the edges, given the vertices."""
    known = {label for label, _ in drawing.vertices}
    seen: set[Any] = set()
    for a, b, data in drawing.edges:
        place = f"edge {a} - {b}"
        for end in (a, b):
            if end not in known:
                near = difflib.get_close_matches(str(end), [str(label) for label in known], n=1)
                yield f"{place}: there is no vertex {end!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        if a == b:
            yield f"{place}: vertex {a!r} is cabled to itself"
        pair = (a, b) if drawing.directed else frozenset((a, b))
        if pair in seen and not drawing.parallel:
            yield f'{place} is given twice; parallel cables need "multigraph": true'
        seen.add(pair)
        yield from _unknown(place, data, CABLE_KEYS)
        yield from _figure_problems(place, data)
    joined = {end for a, b, _ in drawing.edges for end in (a, b)}
    for label, data in drawing.vertices:
        if data.get("kind") == "switch" and label not in joined:
            yield f"switch {label!r} has no cable; leave it out"


def _unknown(place: str, data: dict[str, Any], known: tuple[str, ...]) -> Iterable[str]:
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            yield f"{place}: unknown attribute '{key}'; " + (
                f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
            )


def _figure_problems(place: str, data: dict[str, Any]) -> Iterable[str]:
    if not isinstance(data.get("class", ""), str):
        yield f"{place}: class must be a name, not {data['class']!r}"
    length = data.get("length_m", 0.0)
    if not _is_number(length) or not 0 <= length < np.inf:
        yield f"{place}: length_m must be a number of metres, not {length!r}"
    for keys, read, least, most, example in (
        (("bandwidth", "bandwidth_bytes_per_s"), _bandwidth, BANDWIDTH_LEAST, BANDWIDTH_MOST, "12.5 GB/s"),
        (("latency", "latency_s"), _latency_s, 0.0, LATENCY_MOST_S, "300 ns"),
    ):
        given = [key for key in keys if key in data]
        if not given:
            continue
        try:
            value = read(data)
        except (ValueError, TypeError):
            value = np.nan
        if len(given) > 1 or not least <= value <= most:
            shown = " and ".join(f"{key} {data[key]!r}" for key in given)
            mend = f"{keys[0]} needs a unit, for example '{example}' (or {keys[1]}, a number from {least:g} to {most:g})"
            yield f"{place}: {shown}: {mend}"
    if ("rank" in data) != ("rank_back" in data) or not all(isinstance(data.get(key, 0), int) for key in ("rank", "rank_back")):
        yield f"{place}: rank and rank_back are two whole numbers"


def _bandwidth(data: dict[str, Any]) -> float:
    """A cable's own bandwidth, nan for none. ValueError or TypeError for what is none."""
    if "bandwidth" in data:
        return parse_quantity(data["bandwidth"], RATE)
    return _number(data.get("bandwidth_bytes_per_s", np.nan))


def _latency_s(data: dict[str, Any]) -> float:
    """A cable's own latency, nan for none. ValueError or TypeError for what is none."""
    if "latency" in data:
        return parse_quantity(data["latency"], TIME)
    return _number(data.get("latency_s", np.nan))


def _ranks(data: dict[str, Any], turned: bool) -> tuple[float, float]:
    """(rank from the vertex with the lower number, rank back), nan for none."""
    ranks = data.get("rank", np.nan), data.get("rank_back", np.nan)
    return (ranks[1], ranks[0]) if turned else ranks


def _number(value: Any) -> float:
    if not _is_number(value):
        raise TypeError(value)
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))


def _cables_of_directed(drawing: Drawing, problems: list[str]) -> list[Edge]:
    """Each two opposite edges as one cable; notes in `problems` those that have no opposite or another one's figures."""
    open_edges: dict[tuple[Hashable, Hashable], list[dict[str, Any]]] = {}
    cables: list[Edge] = []
    for a, b, data in drawing.edges:
        opposite = open_edges.get((b, a), [])
        if not opposite:
            open_edges.setdefault((a, b), []).append(data)
            continue
        first = opposite.pop(0)
        if first != data:
            problems.append(f"edges {b} - {a} and {a} - {b} differ; the two directions of a cable are alike")
        cables.append((b, a, first))
    for (a, b), left in open_edges.items():
        if left:
            problems.append(f"edge {a} - {b} has no edge back; in a directed graph a cable is two edges, one each way")
    return cables


def _labels(vertices: list[tuple[Hashable, dict[str, Any]]], key: str, chips: int = 0) -> NDArray[np.int64]:
    """[vertex] number of its node, rack or group: the file's own where all are whole numbers, else in order of appearance.

    -1 is none; where nothing is said, a chip is its own node and all stand in rack 0.
    """
    given = [data.get(key) for _, data in vertices]
    named = [value for value in given if value is not None]
    if not named:
        default = -1 if key == "group" else 0
        return np.array([i if i < chips else -1 for i in range(len(given))] if key == "node" else [default] * len(given))
    plain = all(isinstance(value, int) and -1 <= value < 1 << 31 for value in named)
    number = {value: value for value in named} if plain else {value: i for i, value in enumerate(dict.fromkeys(named))}
    number[-1] = -1
    first_free = max((value for value in number.values()), default=-1) + 1
    none = [first_free + i if key == "node" and i < chips else -1 for i in range(len(given))]
    return np.array([none[i] if value is None else number[value] for i, value in enumerate(given)])
