"""Small fabrics without hierarchy: torus and island."""

from __future__ import annotations

from itertools import combinations
from math import prod

import numpy as np

from dcsim.errors import FabricError
from dcsim.fabric.graph import RANKS_A_DIMENSION, Fabric, from_cables


def torus(dims: tuple[int, ...] | list[int], cable_m: float = 1.0) -> Fabric:
    """Chips on a grid, the last dimension fastest; each row closes to a ring (two chips share one cable).

    Every chip is a node, all in one rack. Link class "local". FabricError for a dimension below 1. A link's rank is its
    place on the ring in its own direction, so that it falls only where the ring closes.
    """
    if not dims or min(dims) < 1:
        raise FabricError(f"a torus needs dimensions of at least 1, got {tuple(dims)}")
    count = prod(dims)
    grid = np.arange(count).reshape(dims)
    cables: list[tuple[int, int, str, float]] = []
    ranks: list[tuple[int, int]] = []
    for axis, length in enumerate(dims):
        if length > 1:
            ahead, place = np.roll(grid, -1, axis), np.indices(dims)[axis]
            keep = np.ones(dims, bool) if length > 2 else place == 0
            cables += [(int(a), int(b), "local", cable_m) for a, b in zip(grid[keep], ahead[keep], strict=True)]
            ranks += [
                (axis * RANKS_A_DIMENSION + at, axis * RANKS_A_DIMENSION + (-2 - at) % length) for at in place[keep].tolist()
            ]
    rank = np.array(ranks).reshape(-1, 2).T
    return from_cables("torus", count, cables, node_of=np.arange(count), rack_of=np.zeros(count), rank=rank)


def island(chips: int, switch: bool = False, cable_m: float = 0.5) -> Fabric:
    """One node of `chips` chips, all joined to all or through one switch. Link class "island"."""
    if chips < 1:
        raise FabricError(f"an island needs a chip, got {chips}")
    if switch:
        cables = [(chip, chips, "island", cable_m) for chip in range(chips)]
    else:
        cables = [(a, b, "island", cable_m) for a, b in combinations(range(chips), 2)]
    zeros = np.zeros(chips + switch)
    return from_cables("island", chips, cables, vertex_count=chips + switch, node_of=zeros, rack_of=zeros)
