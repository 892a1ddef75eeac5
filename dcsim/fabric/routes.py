"""Routes: hops, minimal paths, detours and next hops, with links down where a mask says so.

Chips forward only in a fabric without switches; elsewhere a chip is an end. `up` [link] is False for links that
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
    """[vertex] whether it passes on what is not for it: switches do, chips only where there is no switch."""
    direct = fabric.vertex_count == fabric.chip_count
    return np.arange(fabric.vertex_count) >= (0 if direct else fabric.chip_count)


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
    total, longest, reached = kernel.hop_totals(
        fabric.first_link, fabric.link_target, _up(fabric, up), forwards(fabric), ends
    )
    pairs = len(ends) * (len(ends) - 1)
    if reached < pairs:
        raise FabricError(f"{pairs - reached} of {pairs} ordered pairs of chips cannot reach each other")
    return HopTotals(total / pairs if pairs else 0.0, int(longest))


def minimal_paths(fabric: Fabric, source: int, target: int, paths_max: int = 64, up: Up = None) -> list[Path]:
    """Up to `paths_max` shortest paths, in the order of their link indexes. FabricError when there is none."""
    distance = _reach(fabric, source, target, up)
    return _take(_paths(fabric, source, target, int(distance[source]), distance, _up(fabric, up)), paths_max)


def candidate_paths(
    fabric: Fabric,
    source: int,
    target: int,
    detours_max: int,
    paths_max: int = 64,
    extra_hops_max: int = 2,
    up: Up = None,
) -> list[Path]:
    """Up to `paths_max` minimal paths, then up to `detours_max` others, shorter ones first.

    Detours have one hop more, then two, to `extra_hops_max`, and visit no vertex twice. The order is that of
    the link indexes.
    """
    distance = _reach(fabric, source, target, up)
    usable, shortest = _up(fabric, up), int(distance[source])
    found = _take(_paths(fabric, source, target, shortest, distance, usable), paths_max)
    room = detours_max
    for extra in range(1, extra_hops_max + 1):
        if source == target or not room:
            break
        detours = _take(_paths(fabric, source, target, shortest + extra, distance, usable), room)
        found += detours
        room -= len(detours)
    return found


def next_hops(fabric: Fabric, target: int, up: Up = None) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """(offsets, links): vertex v may send a packet for `target` on links[offsets[v]:offsets[v + 1]].

    All of them lie on shortest paths (an equal-cost set); the set is empty at the target and where no way leads.
    """
    from dcsim.fabric import routes_kernel as kernel

    distance = distances_to(fabric, target, up)
    offsets, links = kernel.next_hops(
        fabric.first_link, fabric.link_target, _up(fabric, up), forwards(fabric), distance
    )
    return offsets, links


def _up(fabric: Fabric, up: Up) -> NDArray[np.bool_]:
    return np.ones(fabric.link_count, np.bool_) if up is None else up


def _reach(fabric: Fabric, source: int, target: int, up: Up) -> NDArray[np.int16]:
    distance = distances_to(fabric, target, up)
    if distance[source] < 0:
        raise FabricError(f"no way from chip {source} to chip {target}")
    return distance


def _take(paths: Iterator[Path], most: int) -> list[Path]:
    return [path for path, _ in zip(paths, range(most), strict=False)]


def _paths(
    fabric: Fabric, source: int, target: int, hops: int, distance: NDArray[np.int16], up: NDArray[np.bool_]
) -> Iterator[Path]:
    """All paths of exactly `hops` links that visit no vertex twice, in the order of their links."""
    passes = forwards(fabric)
    visited = {source}
    path: list[int] = []

    def extend(vertex: int, left: int) -> Iterator[Path]:
        if vertex == target:
            if left == 0:
                yield tuple(path)
            return
        for link in range(int(fabric.first_link[vertex]), int(fabric.first_link[vertex + 1])):
            other = int(fabric.link_target[link])
            enters = up[link] and other not in visited and (other == target or passes[other])
            if enters and 0 <= distance[other] < left:
                visited.add(other)
                path.append(link)
                yield from extend(other, left - 1)
                path.pop()
                visited.remove(other)

    return extend(source, hops)
