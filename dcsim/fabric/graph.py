"""The fabric as plain arrays: chips, switches and directed links.

Built once with networkx at hand, read everywhere after as arrays. Vertices 0..chip_count-1 are chips,
the rest are switches. A cable is two links, one each way; link `i` and `reverse[i]` share the cable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int32]
RANKS_A_DIMENSION = 1 << 16  # more places than a row of a grid has


@dataclass(frozen=True, slots=True)
class Fabric:
    """A directed graph of chips, switches and links, in nodes, racks and groups.

    Links are sorted by (source, target, copy), so the links leaving vertex v are
    `first_link[v]:first_link[v + 1]`. `link_class[i]` indexes `link_classes`, the names under which a
    network's YAML gives latency and bandwidth ("local", "global", "adapter", ...).
    """

    kind: str
    chip_count: int
    vertex_count: int
    node_of: Int  # [vertex] node index, -1 for a switch outside any node
    rack_of: Int  # [vertex] rack index, -1 for none
    group_of: Int  # [vertex] dragonfly group (or pod) index, -1 for none
    chip_active: NDArray[np.bool_]  # [chip] False for chips of spare nodes
    link_source: Int  # [link] vertex
    link_target: Int  # [link] vertex
    link_class: Int  # [link] index into link_classes
    link_length_m: NDArray[np.float64]  # [link] cable length
    reverse: Int  # [link] the other direction of the same cable
    first_link: Int  # [vertex + 1] offsets of each vertex's outgoing links
    link_classes: tuple[str, ...]
    own_bandwidth_bytes_per_s: NDArray[np.float64] | None = None  # [link] a link's own, nan: its class's; None: all their class's
    own_latency_s: NDArray[np.float64] | None = None  # [link] the same of its latency
    link_rank: Int | None = (
        None  # [link] grids: RANKS_A_DIMENSION x dimension + place along its row, -1: no grid's; None: no grid
    )

    chips_relay: bool = False  # chips pass packets on though there are switches

    @property
    def chips_forward(self) -> bool:
        """Whether chips pass on what is not for them: where there is no switch, or where the fabric says so."""
        return self.chips_relay or self.vertex_count == self.chip_count

    @property
    def link_count(self) -> int:
        """How many directed links there are."""
        return len(self.link_source)


def subgraph(fabric: Fabric, vertices: NDArray[np.integer[Any]]) -> tuple[Fabric, Int]:
    """The part of `fabric` among `vertices`, which become 0, 1, ... in the order given, and its links there.

    Links come in the order every Fabric has them, so two parts with equal link arrays are wired alike.
    """
    place = np.full(fabric.vertex_count, -1, np.int32)
    place[vertices] = np.arange(len(vertices), dtype=np.int32)
    begin, end = fabric.first_link[vertices], fabric.first_link[vertices + 1]
    counts = end - begin
    leaving = np.repeat(begin - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum(), dtype=np.int32)
    links = leaving[place[fabric.link_target[leaving]] >= 0]
    source, target = place[fabric.link_source[links]], place[fabric.link_target[links]]
    order = np.lexsort((links, target, source))
    links, source = links[order].astype(np.int32), source[order]
    position = np.empty(fabric.link_count, np.int32)
    position[links] = np.arange(len(links), dtype=np.int32)
    chips = vertices[vertices < fabric.chip_count]
    return Fabric(
        kind=fabric.kind,
        chip_count=len(chips),
        vertex_count=len(vertices),
        node_of=fabric.node_of[vertices],
        rack_of=fabric.rack_of[vertices],
        group_of=fabric.group_of[vertices],
        chip_active=fabric.chip_active[chips],
        link_source=source,
        link_target=target[order],
        link_class=fabric.link_class[links],
        link_length_m=fabric.link_length_m[links],
        reverse=position[fabric.reverse[links]],
        first_link=np.searchsorted(source, np.arange(len(vertices) + 1)).astype(np.int32),
        link_classes=fabric.link_classes,
        own_bandwidth_bytes_per_s=_at(fabric.own_bandwidth_bytes_per_s, links),
        own_latency_s=_at(fabric.own_latency_s, links),
        link_rank=_at(fabric.link_rank, links),
        chips_relay=fabric.chips_relay,
    ), links


def _at(values: Any, links: Int) -> Any:
    return None if values is None else values[links]


def from_cables(
    kind: str,
    chip_count: int,
    cables: list[tuple[int, int, str, float]],
    *,
    vertex_count: int | None = None,
    node_of: Any = None,
    rack_of: Any = None,
    group_of: Any = None,
    chip_active: Any = None,
    bandwidth_bytes_per_s: Any = None,
    latency_s: Any = None,
    rank: Any = None,
) -> Fabric:
    """Build a Fabric from cables `(vertex, vertex, link class, length in m)`; parallel cables are allowed.

    `bandwidth_bytes_per_s` and `latency_s` [cable] are cables' own (nan: none), `rank` [2, cable] the rank of each
    cable's two links.
    """
    count = chip_count if vertex_count is None else vertex_count
    classes = tuple(dict.fromkeys(name for _, _, name, _ in cables))
    index = {name: i for i, name in enumerate(classes)}
    a = np.fromiter((c[0] for c in cables), np.int32, len(cables))
    b = np.fromiter((c[1] for c in cables), np.int32, len(cables))
    cls = np.fromiter((index[c[2]] for c in cables), np.int32, len(cables))
    length = np.fromiter((c[3] for c in cables), np.float64, len(cables))
    source, target = np.concatenate([a, b]), np.concatenate([b, a])
    cable = np.concatenate([np.arange(len(a)), np.arange(len(a))])
    order = np.lexsort((cable, target, source))
    position = np.empty(len(order), np.int32)
    position[order] = np.arange(len(order), dtype=np.int32)
    other = np.concatenate([np.arange(len(a), 2 * len(a)), np.arange(len(a))])

    def labels(values: Any) -> Int:
        return np.full(count, -1, np.int32) if values is None else np.asarray(values, np.int32)

    def both_ways(values: Any) -> Any:
        return None if values is None or np.isnan(values).all() else np.concatenate([values, values])[order]

    source = source[order]
    return Fabric(
        kind=kind,
        chip_count=chip_count,
        vertex_count=count,
        node_of=labels(node_of),
        rack_of=labels(rack_of),
        group_of=labels(group_of),
        chip_active=np.ones(chip_count, np.bool_) if chip_active is None else np.asarray(chip_active, np.bool_),
        link_source=source,
        link_target=target[order],
        link_class=np.concatenate([cls, cls])[order],
        link_length_m=np.concatenate([length, length])[order],
        reverse=position[other[order]].astype(np.int32),
        first_link=np.searchsorted(source, np.arange(count + 1)).astype(np.int32),
        link_classes=classes,
        own_bandwidth_bytes_per_s=both_ways(bandwidth_bytes_per_s),
        own_latency_s=both_ways(latency_s),
        link_rank=None if rank is None else np.concatenate([rank[0], rank[1]]).astype(np.int32)[order],
    )
