"""What a fabric measures: sizes, hops, bisection, cables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import FabricError
from dcsim.fabric.bisection import CUT_RULE, bisection
from dcsim.fabric.graph import Fabric, from_cables
from dcsim.fabric.routes import hop_totals


@dataclass(frozen=True, slots=True)
class Measures:
    """Figures of one fabric. Hops are over ordered pairs of different active chips.

    Three ways of counting the diameter: `diameter_hops` counts every link from chip to chip. `diameter_routers`
    counts links between routers only (a node of forwarding chips is one virtual router; a switch is one).
    `diameter_published` adds to that one hop at each end and leaves out what a path crosses inside the nodes
    on its way, as the published 5 hops of the largest packetless dragonfly do (2 in the source rack, 1, 2).
    """

    chips: int
    chips_active: int
    nodes: int
    racks: int
    links: int  # directed
    diameter_hops: int
    diameter_routers: int
    diameter_published: int
    mean_hops: float
    bisection_bytes_per_s: float  # one way
    bisection_bytes_per_s_per_chip: float  # over the chips of one half
    bisection_rule: str
    cables: tuple[tuple[str, float, int], ...]  # link class, length in m, how many


def measure(fabric: Fabric, bandwidth: Mapping[str, float] | NDArray[np.float64]) -> Measures:
    """Measure `fabric`; bandwidths are payload bytes per second one way, by link class or of each link.

    Raises FabricError for a class without bandwidth and for active chips that cannot reach each other.
    """
    active = int(fabric.chip_active.sum())
    hops = hop_totals(fabric)
    routers = _diameter_routers(fabric, hops.diameter_hops)
    widths = link_bandwidths(fabric, bandwidth) if isinstance(bandwidth, Mapping) else bandwidth
    cut, _ = bisection(fabric, widths)
    chips = fabric.chip_count
    return Measures(
        chips=chips,
        chips_active=active,
        nodes=_count(fabric.node_of[:chips]),
        racks=_count(fabric.rack_of[:chips]),
        links=fabric.link_count,
        diameter_hops=hops.diameter_hops,
        diameter_routers=routers,
        diameter_published=min(hops.diameter_hops, routers + 2),
        mean_hops=hops.mean_hops,
        bisection_bytes_per_s=cut,
        bisection_bytes_per_s_per_chip=cut / (active // 2) if active > 1 else 0.0,
        bisection_rule=CUT_RULE,
        cables=cable_counts(fabric),
    )


def link_bandwidths(fabric: Fabric, bandwidth_by_class: Mapping[str, float]) -> NDArray[np.float64]:
    """[link] bytes per second. Raises FabricError for a class that has none."""
    missing = [name for name in fabric.link_classes if name not in bandwidth_by_class]
    if missing:
        raise FabricError(f"no bandwidth for links of class {', '.join(missing)}")
    table = np.array([bandwidth_by_class[name] for name in fabric.link_classes], np.float64)
    return table[fabric.link_class] if len(table) else np.zeros(0)


def cable_counts(fabric: Fabric) -> tuple[tuple[str, float, int], ...]:
    """Cables by class and length (to the centimetre), sorted."""
    once = np.arange(fabric.link_count) < fabric.reverse
    pairs = np.stack([fabric.link_class[once], np.round(fabric.link_length_m[once] * 100)], 1).astype(np.int64)
    kinds, counts = np.unique(pairs, axis=0, return_counts=True)
    return tuple(
        (fabric.link_classes[name], length / 100, count)
        for (name, length), count in zip(kinds.tolist(), counts.tolist(), strict=True)
    )


def node_graph(fabric: Fabric) -> Fabric:
    """The chips of each node drawn together into one vertex; nodes without an active chip are inactive."""
    node = np.unique(fabric.node_of[: fabric.chip_count], return_inverse=True)[1]
    source, target = node[fabric.link_source], node[fabric.link_target]
    pairs = np.unique(np.stack([source, target], 1)[source < target], axis=0)
    active = np.bincount(node, fabric.chip_active) > 0
    cables = [(a, b, "node", 0.0) for a, b in pairs.tolist()]
    return from_cables("nodes", int(node.max()) + 1, cables, chip_active=active)


def _diameter_routers(fabric: Fabric, diameter_hops: int) -> int:
    if fabric.vertex_count > fabric.chip_count:
        return max(0, diameter_hops - 2)
    return hop_totals(node_graph(fabric)).diameter_hops


def _count(labels: NDArray[np.int32]) -> int:
    return len(np.unique(labels[labels >= 0]))
