"""What ended turns of sessions left in each replica's KV, compiled: the rules of `kv.KvRoom` over arrays.

A replica's kept turns stand in a ring in the order they ended, those taken out since with 0 tokens; a hash table finds a
session's place. `s.now[TIGHT]` asks the caller to tidy both before they are full.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from dcsim.cluster import pool_layout as c
from dcsim.cluster.pool_layout import State


@njit(cache=True)
def take_kept(s: State, k: int, session: int) -> int:
    """Take out what the session left; returns its tokens, 0 if there are none."""
    rep, ring = s.replicas[k], s.kept[k]
    place = s.kept_at[k, _slot(s.kept_at[k], session), 1]
    if place < rep[c.KEPT_FIRST]:
        return 0
    entry = ring[place % len(ring)]
    tokens, entry[1] = entry[1], 0
    rep[c.KEPT_TOTAL] -= tokens
    return int(tokens)


@njit(cache=True)
def keep(s: State, k: int, session: int, tokens: int) -> None:
    """Keep an ended turn in place of the session's last one."""
    take_kept(s, k, session)
    rep, ring, table = s.replicas[k], s.kept[k], s.kept_at[k]
    place = rep[c.KEPT_NEXT]
    ring[place % len(ring), 0], ring[place % len(ring), 1] = session, tokens
    rep[c.KEPT_NEXT] += 1
    rep[c.KEPT_TOTAL] += tokens
    slot = _slot(table, session)
    if table[slot, 1] == c.NONE:
        rep[c.KEPT_KNOWN] += 1
    table[slot, 0], table[slot, 1] = session, place
    # Before the caller has tidied up, a round may end for every sequence there is room for.
    if 2 * (place - rep[c.KEPT_FIRST]) > len(ring) or 2 * rep[c.KEPT_KNOWN] > len(ring):
        s.now[c.TIGHT] = 1


@njit(cache=True)
def make_room(s: State, k: int) -> None:
    """Drop kept turns, the one that ended longest ago first, until they fit into the free room."""
    rep, ring = s.replicas[k], s.kept[k]
    while rep[c.KEPT_TOTAL] > rep[c.KV_FREE]:
        rep[c.KEPT_TOTAL] -= ring[rep[c.KEPT_FIRST] % len(ring), 1]
        rep[c.KEPT_FIRST] += 1


@njit(cache=True)
def refill(s: State, k: int, turns: Any) -> None:
    """Keep `turns` [place, (session, tokens)] in a replica whose ring and table are empty."""
    for place in range(len(turns)):
        keep(s, k, turns[place, 0], turns[place, 1])


@njit(cache=True)
def _slot(table: Any, session: int) -> int:
    """Where the table has the session, or else the free slot it would take."""
    slot = (session * 0x2545F4914F6CDD1D >> 20) & (len(table) - 1)
    while table[slot, 1] != c.NONE and table[slot, 0] != session:
        slot = (slot + 1) & (len(table) - 1)
    return int(slot)
