"""What ended turns of sessions left in each replica's KV, compiled: the rules of `kv.KvRoom` over arrays.

The first third of a replica's places (`s.kept[k]`) is a ring of (session, tokens) in the order the turns ended, those taken
out since with 0 tokens. The rest is a hash table of (session, its number among all turns ever kept), NONE where it is free.
`now[TIGHT]` asks the caller to tidy both before they are full.
"""

from __future__ import annotations

from typing import Any

from dcsim.cluster.fast import layout as c
from dcsim.kernels.jit import entry, part


@part
def cost(costs: Any, tokens: int) -> int:
    """KV room that a sequence of so many tokens takes; see `PoolState.costs`."""
    return int(costs[tokens]) if len(costs) else tokens


@part
def take_kept(rep: Any, places: Any, costs: Any, session: int) -> int:
    """Take out what the session left; returns its tokens, 0 if there are none."""
    size = len(places) // 3
    number = places[_slot(places, size, session), 1]
    if number < rep[c.KEPT_FIRST]:
        return 0
    tokens, places[number % size, 1] = places[number % size, 1], 0
    rep[c.KEPT_TOTAL] -= cost(costs, tokens)
    return int(tokens)


@part
def keep(now: Any, rep: Any, places: Any, costs: Any, session: int, tokens: int, free: int) -> None:
    """Keep an ended turn in place of the session's last one; `free` is the room that nobody holds."""
    take_kept(rep, places, costs, session)
    size, number = len(places) // 3, rep[c.KEPT_NEXT]
    places[number % size, 0], places[number % size, 1] = session, tokens
    rep[c.KEPT_NEXT] += 1
    rep[c.KEPT_TOTAL] += cost(costs, tokens)
    slot = _slot(places, size, session)
    if places[slot, 1] == c.NONE:
        rep[c.KEPT_KNOWN] += 1
    places[slot, 0], places[slot, 1] = session, number
    # Before the caller has tidied up, a round may end for every sequence there is room for.
    if 2 * (number - rep[c.KEPT_FIRST]) > size or 2 * rep[c.KEPT_KNOWN] > size:
        now[c.TIGHT] = 1
    make_room(rep, places, costs, free)


@part
def make_room(rep: Any, places: Any, costs: Any, free: int) -> None:
    """Drop kept turns, the one that ended longest ago first, until they fit into the room that nobody holds."""
    size = len(places) // 3
    while rep[c.KEPT_TOTAL] > free and rep[c.KEPT_FIRST] < rep[c.KEPT_NEXT]:
        rep[c.KEPT_TOTAL] -= cost(costs, places[rep[c.KEPT_FIRST] % size, 1])
        rep[c.KEPT_FIRST] += 1


@entry
def refill(now: Any, rep: Any, places: Any, costs: Any, turns: Any) -> None:
    """Keep `turns` [place, (session, tokens)] in a replica that keeps none."""
    for place in range(len(turns)):
        keep(now, rep, places, costs, turns[place, 0], turns[place, 1], rep[c.KV_FREE])


@part
def _slot(places: Any, size: int, session: int) -> int:
    """The place where the table has the session, or else the free one it would take."""
    slot = (session * 0x2545F4914F6CDD1D >> 20) & (2 * size - 1)
    while places[size + slot, 1] != c.NONE and places[size + slot, 0] != session:
        slot = (slot + 1) & (2 * size - 1)
    return int(size + slot)
