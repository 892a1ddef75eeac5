"""Routes: hops, minimal paths and next hops, with links down where a mask says so.

Chips forward where `Fabric.chips_forward` says so; elsewhere a chip is an end. `up` [link] is False for links that
are down; None means all are up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import FabricError
from dcsim.fabric.graph import Fabric

Up = NDArray[np.bool_] | None
Path = tuple[int, ...]  # link indexes, source to target


@dataclass(frozen=True, slots=True)
class HopTotals:
    """Hops over ordered pairs of different active chips: their mean and the most."""

    mean_hops: float
    diameter_hops: int


def forwards(fabric: Fabric) -> NDArray[np.bool_]:
    """[vertex] whether it passes on what is not for it: switches do, chips where there is no switch or the fabric says so."""
    return np.arange(fabric.vertex_count) >= (0 if fabric.chips_forward else fabric.chip_count)


def distances_to(fabric: Fabric, target: int, up: Up = None) -> NDArray[np.int16]:
    """Hops from every vertex to `target` [vertex]; -1 where there is no way."""
    from dcsim.fabric import routes_kernel as kernel

    distance: NDArray[np.int16] = kernel.distances_to(
        fabric.first_link, fabric.link_target, fabric.reverse, _up(fabric, up), forwards(fabric), target
    )
    return distance


def hop_totals(fabric: Fabric, up: Up = None) -> HopTotals:
    """Mean and largest hops between active chips. Raises FabricError when some cannot reach each other."""
    from dcsim.fabric import routes_kernel as kernel

    ends = np.flatnonzero(fabric.chip_active).astype(np.int32)
    total, longest, reached = kernel.hop_totals(fabric.first_link, fabric.link_target, _up(fabric, up), forwards(fabric), ends)
    pairs = len(ends) * (len(ends) - 1)
    if reached < pairs:
        raise FabricError(f"{pairs - reached} of {pairs} ordered pairs of chips cannot reach each other")
    return HopTotals(total / pairs if pairs else 0.0, int(longest))


def minimal_paths(fabric: Fabric, source: int, target: int, paths_max: int = 64, up: Up = None) -> list[Path]:
    """Up to `paths_max` shortest paths, in the order of their link indexes. FabricError when there is none."""
    distance = distances_to(fabric, target, up)
    if distance[source] < 0:
        raise FabricError(f"no way from chip {source} to chip {target}")
    open_to = _up(fabric, up) & (forwards(fabric) | (np.arange(fabric.vertex_count) == target))[fabric.link_target]
    paths = _paths(fabric, source, target, distance, open_to)
    return [path for path, _ in zip(paths, range(paths_max), strict=False)]


def next_hops(fabric: Fabric, target: int, up: Up = None) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """(offsets, links): vertex v may send a packet for `target` on links[offsets[v]:offsets[v + 1]].

    All of them lie on shortest paths (an equal-cost set); the set is empty at the target and where no way leads.
    """
    from dcsim.fabric import routes_kernel as kernel

    distance = distances_to(fabric, target, up)
    offsets, links = kernel.next_hops(fabric.first_link, fabric.link_target, _up(fabric, up), forwards(fabric), distance)
    return offsets, links


def _up(fabric: Fabric, up: Up) -> NDArray[np.bool_]:
    return np.ones(fabric.link_count, np.bool_) if up is None else up


def _paths(fabric: Fabric, vertex: int, target: int, distance: NDArray[np.int16], open_to: NDArray[np.bool_]) -> Iterator[Path]:
    """All shortest paths over links that may be taken, in the order of their links."""
    if vertex == target:
        yield ()
        return
    for link in range(int(fabric.first_link[vertex]), int(fabric.first_link[vertex + 1])):
        other = int(fabric.link_target[link])
        if open_to[link] and distance[other] == distance[vertex] - 1:
            for rest in _paths(fabric, other, target, distance, open_to):
                yield (link, *rest)
