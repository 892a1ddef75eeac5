"""Fabrics of routers that each carry chips and are cabled to each other without a hierarchy: Slim Fly and HyperX.

`slim_fly`: Besta, Hoefler, "Slim Fly: a cost effective low-diameter network topology", SC 2014, on the graphs of McKay,
Miller, Siran, "A note on large graphs of diameter two and given maximum degree", J. Combinatorial Theory B 74 (1998).
`hyperx`: Ahn, Binkert, Davis, McLaren, Schreiber, "HyperX: topology, routing, and packaging of efficient large-scale
networks", SC 2009.

Chips come first, p to a router, and count as one node. Link classes "adapter", "local" (in a rack), "global".
"""

from __future__ import annotations

from itertools import combinations
from math import prod

import numpy as np

from dcsim.errors import FabricError
from dcsim.fabric.floor import Floor
from dcsim.fabric.graph import RANKS_A_DIMENSION, Fabric, from_cables

ROUTERS_MAX = 100_000


def slim_fly(q: int, p: int = 0, floor: Floor | None = None) -> Fabric:
    """Build the Slim Fly of a prime q = 4 w + d with d = 1 or -1: 2 q^2 routers of (3 q - d) / 2 ports to others.

    Any two routers are two hops apart at most. `p` chips a router; 0: half its ports to others, rounded up, as many as
    full bandwidth allows. A rack holds two rows of q routers. Raises FabricError for a q that is no odd prime.
    """
    floor = floor or Floor()
    if q < 3 or any(q % factor == 0 for factor in range(2, int(q**0.5) + 1)) or 2 * q * q > ROUTERS_MAX:
        raise FabricError(f"fabric.q: a Slim Fly needs an odd prime below {int((ROUTERS_MAX / 2) ** 0.5)}, not {q}")
    delta = 1 if q % 4 == 1 else -1
    own, other = _generators(q, delta)
    pairs: list[tuple[int, int]] = []
    for row in range(q):  # router (half, row, place) has the number half q^2 + row q + place
        for a, b in combinations(range(q), 2):
            if (b - a) % q in own:
                pairs.append((row * q + a, row * q + b))
            if (b - a) % q in other:
                pairs.append((q * q + row * q + a, q * q + row * q + b))
        for column in range(q):  # (0, row, y) is joined to (1, column, c) where y = column row + c
            pairs += [(row * q + y, q * q + column * q + (y - column * row) % q) for y in range(q)]
    rack = np.tile(np.repeat(np.arange(q), q), 2)
    return _with_chips("slim_fly", p or -(-(3 * q - delta) // 4), pairs, rack, floor)


def _generators(q: int, delta: int) -> tuple[set[int], set[int]]:
    """The two sets of distances at which routers of a row are joined, in the first half and in the second."""
    root = next(g for g in range(2, q) if len({pow(g, i, q) for i in range(q - 1)}) == q - 1)
    if delta == 1:
        even, odd = list(range(0, q - 1, 2)), list(range(1, q - 1, 2))
    else:  # each power with its opposite, which lies (q - 1) / 2 powers further
        opposite = (q - 1) // 2
        even = [i + turn for turn in (0, opposite) for i in range(0, opposite, 2)]
        odd = [i + turn for turn in (0, opposite) for i in range(1, opposite + 1, 2)]
    return {pow(root, i, q) for i in even}, {pow(root, i, q) for i in odd}


def hyperx(dims: tuple[int, ...] | list[int], p: int, cables: int = 1, floor: Floor | None = None) -> Fabric:
    """Build a grid of routers in which those that differ in one coordinate are all joined, by `cables` each.

    A router carries `p` chips and has p + cables x the sum of (dims - 1) ports. The first dimension is inside a rack.
    Raises FabricError for a size below 1, or a single router.
    """
    floor = floor or Floor()
    if not dims or min(*dims, p, cables, len(dims)) < 1 or not 1 < prod(dims) <= ROUTERS_MAX:
        raise FabricError(f"no HyperX of {tuple(dims)} routers, {p} chips each, {cables} cables a pair")
    grid = np.arange(prod(dims)).reshape(dims)
    pairs: list[tuple[int, int]] = []
    dimension: list[int] = []
    for axis, length in enumerate(dims):
        rows = np.moveaxis(grid, axis, -1).reshape(-1, length)
        own = [(int(row[a]), int(row[b])) for row in rows for a, b in combinations(range(length), 2)]
        pairs += [pair for pair in own for _ in range(cables)]
        dimension += [axis] * (len(own) * cables)
    rack = grid.reshape(dims[0], -1)
    rack_of = np.empty(prod(dims), int)
    rack_of[rack.ravel()] = np.tile(np.arange(rack.shape[1]), dims[0])
    return _with_chips("hyperx", p, pairs, rack_of, floor, dimension)


def _with_chips(
    kind: str, p: int, pairs: list[tuple[int, int]], rack: np.ndarray, floor: Floor, dimension: list[int] | None = None
) -> Fabric:
    """Routers joined in `pairs`, in racks, with p chips each; `dimension` [pair] makes it a grid."""
    routers, racks = len(rack), int(rack.max()) + 1
    chips = routers * p
    cables = [(chip, chips + chip // p, "adapter", floor.node_cable_m) for chip in range(chips)]
    where = rack.tolist()
    cables += [
        (
            chips + a,
            chips + b,
            "local" if where[a] == where[b] else "global",
            floor.cable_m(where[a], where[b], racks),
        )
        for a, b in pairs
    ]
    rank = None
    if dimension is not None:
        ranks = np.array([-1] * chips + [d * RANKS_A_DIMENSION for d in dimension])
        rank = np.stack([ranks, ranks])
    router_of = np.arange(chips) // p
    return from_cables(
        kind,
        chips,
        cables,
        vertex_count=chips + routers,
        node_of=np.concatenate([router_of, np.full(routers, -1)]),
        rack_of=np.concatenate([rack[router_of], rack]),
        rank=rank,
    )
