"""Rings among ranks each of which has a link of its own to every other: as many as use all links alike.

Among n ranks there are n - 1 rings that share no link, but for n of 4 and 6, where none are that many; there 2 (n - 1) rings
use each link twice (Tillson, "A Hamiltonian decomposition of K*2m, 2m >= 8", Journal of Combinatorial Theory B 29, 1980).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import gcd

Ring = tuple[int, ...]
Left = dict[tuple[int, int], int]  # (from, to) -> how often the link may still be used

SEARCHED_MAX = 16  # ranks; beyond, rings of one stride each, which are fewer
_WITHOUT = (4, 6)  # ranks without n - 1 rings that share nothing


@cache
def mesh_rings(ranks: int) -> tuple[Ring, ...]:
    """Orders of the ranks from 0 on, such that all links are in equally many; beyond SEARCHED_MAX some links are in none."""
    if ranks > SEARCHED_MAX:
        return tuple(_strided(ranks, stride) for stride in range(1, ranks) if gcd(ranks, stride) == 1)
    each = 2 if ranks in _WITHOUT else 1
    left = {(a, b): each for a in range(ranks) for b in range(ranks) if a != b}
    return next(_filled(ranks, left, ()), ())


def _filled(ranks: int, left: Left, rings: tuple[Ring, ...]) -> Iterator[tuple[Ring, ...]]:
    """`rings` with more, until every link is used up."""
    begin = next((b for b in range(1, ranks) if left[0, b]), 0)
    if not begin:
        yield rings
        return
    for ring in _rings(ranks, left, (0,), begin):
        yield from _filled(ranks, left, (*rings, ring))


def _rings(ranks: int, left: Left, path: Ring, following: int) -> Iterator[Ring]:
    """Rings that go on from `path` to `following` by what is left, which is less as long as one of them is looked at."""
    link = path[-1], following
    if not left[link]:
        return
    left[link] -= 1
    path = (*path, following)
    if len(path) == ranks and left[following, 0]:
        left[following, 0] -= 1
        yield path
        left[following, 0] += 1
    for rank in range(1, ranks):
        if rank not in path:
            yield from _rings(ranks, left, path, rank)
    left[link] += 1


def _strided(ranks: int, stride: int) -> Ring:
    return tuple(stride * place % ranks for place in range(ranks))
