"""Links spread evenly over all pairs of groups, ports never exceeded."""

from __future__ import annotations


def spread_links(ports: list[int]) -> list[tuple[int, int]]:
    """Pairs (a, b) with a < b, one for each cable between groups of `ports` free ports.

    Rounds: each gives every pair that still has a port at both ends one cable. When fewer than a round's ports
    are left, pairs at equal distance on the ring of groups are served together, so every group keeps as many
    ports as the others; the opposite group comes first when the number left is odd. With equal ports the cables
    of two pairs differ by at most one and at most one port of a group stays free.
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
    half = count // 2
    distances = list(range(1, half + 1))
    if count % 2 == 0 and max(free, default=0) < count - 1 and max(free, default=0) % 2:
        distances = [half, *range(1, half)]
    placed: list[tuple[int, int]] = []
    for distance in distances:
        opposite = 2 * distance == count
        for a in range(half if opposite else count):
            b = (a + distance) % count
            if free[a] > 0 and free[b] > 0:
                free[a] -= 1
                free[b] -= 1
                placed.append((min(a, b), max(a, b)))
    return placed
