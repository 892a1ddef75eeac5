"""Links spread evenly over all pairs of groups, ports never exceeded."""

from __future__ import annotations

from math import gcd


def spread_links(ports: list[int]) -> list[tuple[int, int]]:
    """Pairs (a, b) with a < b, one for each cable between groups of `ports` free ports.

    Rounds: each gives every pair that still has a port at both ends one cable. When fewer than a round's ports
    are left, pairs at equal distance on the ring of groups are served together, so every group keeps as many
    ports as the others. With equal ports the cables of two pairs differ by at most one and at most one port
    stays free.
    """
    free = list(ports)
    cables: list[tuple[int, int]] = []
    while True:
        placed = _one_round(free)
        if not placed:
            return sorted(cables)
        cables += placed


def _one_round(free: list[int]) -> list[tuple[int, int]]:
    """One cable for every pair with a free port at both ends; takes the ports."""
    count = len(free)
    placed: list[tuple[int, int]] = []
    for distance in _distances(count, max(free, default=0)):
        for a, b in _ring(count, distance):
            if free[a] > 0 and free[b] > 0:
                free[a] -= 1
                free[b] -= 1
                placed.append((min(a, b), max(a, b)))
    return placed


def _distances(count: int, ports: int) -> list[int]:
    """Distances 1..count // 2 in the order served. Each takes two ports of a group, the opposite one takes one.

    An odd number of ports, too few for a whole round, ends on one port. With an even count the opposite
    distance comes first. With an odd count the longest comes where two ports no longer fit: it makes a single
    ring, and every second pair along it leaves one group without.
    """
    half = count // 2
    distances = list(range(1, half + 1))
    if ports % 2 and ports < count - 1:
        place = 0 if count % 2 == 0 else ports // 2
        distances.insert(place, distances.pop())
    return distances


def _ring(count: int, distance: int) -> list[tuple[int, int]]:
    """All pairs (a, a + distance), each once, in the order in which they follow each other around."""
    rings = gcd(count, distance)
    pairs = 1 if 2 * distance == count else count // rings
    return [
        ((start + i * distance) % count, (start + (i + 1) * distance) % count) for start in range(rings) for i in range(pairs)
    ]
