"""Compiled routing: the choice of a packet's detour and of its next link."""

from __future__ import annotations

from dcsim.kernels.jit import leaf, part
from dcsim.network.packet.engine.cross_kernel import advance_cross_traffic, mix
from dcsim.network.packet.engine.state import ADAPTIVE, FOREVER, MINIMAL, STRAIGHT, UGAL_L, VALIANT, EngineState
from dcsim.network.packet.engine.tables_kernel import CROSSING


@leaf
def backlog_ps(s: EngineState, link: int, now: int) -> int:
    """Work queued at a link, ps: packets held back for lack of credit, cross traffic and acknowledgements included."""
    if s.links[link].background > 0.0:
        advance_cross_traffic(s.rules, s.links, link, now)
    return int(max(0, s.links[link].free - now) + s.links[link].waiting_ps)


@leaf
def queue_grains(s: EngineState, link: int, now: int) -> int:
    """The queue at a link in halves of a full packet, rounded down: as finely as a switch compares queues.

    What is less, such as an acknowledgement or the rest of a packet being sent, moves nobody to another link.
    """
    full_ps = (s.rules[0].mtu + s.rules[0].header) * s.links[link].fs_per_byte // 1000
    return int(2 * backlog_ps(s, link, now) // max(1, full_ps))


@leaf
def _pick(s: EngineState, index: int, rule: int, draw: int, now: int) -> int:
    """One link of a set: by the draw, or the one with the shortest queue (ties by the draw)."""
    begin, count = index + 1, s.sets[index]
    chosen, least = int(s.sets[begin + draw % count]), FOREVER
    if rule < ADAPTIVE:
        return chosen
    for i in range(count):
        link = int(s.sets[begin + (draw + i) % count])
        work = queue_grains(s, link, now)
        if work < least:
            chosen, least = link, work
    return chosen


@part
def own_link(s: EngineState, vertex: int, chip: int, draw: int, now: int) -> int:
    """The link from a switch to a chip cabled to it; of parallel ones as `_pick`. -1 for none."""
    count = 0
    for link in range(s.vertices[chip].first_link, s.vertices[chip + 1].first_link):
        if s.links[link].target == vertex and s.links[s.links[link].reverse].up:
            count += 1
    chosen, rank, least = -1, 0, FOREVER
    for link in range(s.vertices[chip].first_link, s.vertices[chip + 1].first_link):
        inward = s.links[link].reverse
        if s.links[link].target == vertex and s.links[inward].up:
            turn = (rank - draw) % count  # the drawn one is first, then those after it
            work = turn
            if s.rules[0].routing >= ADAPTIVE:
                work += queue_grains(s, inward, now) * count
            if work < least:
                chosen, least = inward, work
            rank += 1
    return int(chosen)


@part
def _shortest_ps(s: EngineState, epoch: int, vertex: int, column: int, now: int) -> int:
    """The shortest queue of the links one step closer: what a switch sees by itself."""
    index, least = s.set_of[epoch, vertex, column], FOREVER
    for i in range(s.sets[index]):
        least = min(least, backlog_ps(s, int(s.sets[index + 1 + i]), now))
    return least


@part
def _walk(s: EngineState, epoch: int, vertex: int, column: int, crossing: bool, now: int) -> tuple[int, int, int]:
    """Along a minimal path to its end, or until it has crossed to another way point: (queue in ps, links, vertex reached)."""
    work, hops, here = 0, 0, vertex
    while s.set_of[epoch, here, column] >= 0:
        link = s.sets[s.set_of[epoch, here, column] + 1]
        work += backlog_ps(s, link, now)
        hops += 1
        here = s.links[link].target
        if crossing and s.vertices[here].way != s.vertices[vertex].way:
            return work, hops, here
    return work, hops, here


@leaf
def choose_detour(s: EngineState, epoch: int, vertex: int, chip: int, packet: int, now: int) -> int:
    """The way point a packet visits on its way (Valiant), or STRAIGHT.

    UGAL (Singh 2005; Kim et al. 2008) takes the minimal path unless its queue times its length exceeds the detour's by `bias`
    packets. UGAL knows the queues up to the link that leaves the group or, where way points are routers, along both paths
    (UGAL-G); UGAL_L those of its own switch only.
    """
    rule = s.rules[0].routing
    if len(s.ways) < 3:
        return STRAIGHT
    way = int(mix(s.rules[0].seed, packet, 77) % len(s.ways))
    column, around_column = s.column[chip], s.ways[way].column
    if s.vertices[chip].way == s.vertices[vertex].way or s.set_of[epoch, vertex, around_column] < 0:
        return STRAIGHT
    if rule == VALIANT:
        return way
    router = int(s.ways[way].vertex)
    if rule == UGAL_L:
        direct = _shortest_ps(s, epoch, vertex, column, now)
    else:
        direct, _, _ = _walk(s, epoch, vertex, column, router < 0, now)
    if direct == 0:
        return STRAIGHT
    around, around_hops, entry = _walk(s, epoch, vertex, around_column, router < 0, now)
    if rule == UGAL_L:
        around = _shortest_ps(s, epoch, vertex, around_column, now)
    elif router >= 0:
        more, _, _ = _walk(s, epoch, router, column, False, now)
        around += more
    around_hops += s.distance[epoch, entry, column] & (CROSSING - 1)
    direct_hops = s.distance[epoch, vertex, column] & (CROSSING - 1)
    first = s.sets[s.set_of[epoch, vertex, column] + 1]
    one_ps = (s.rules[0].mtu + s.rules[0].header) * s.links[first].fs_per_byte // 1000
    bias = s.rules[0].bias * one_ps * direct_hops
    return way if direct * direct_hops > around * around_hops + bias else STRAIGHT


@leaf
def next_link(s: EngineState, epoch: int, vertex: int, packet: int, now: int) -> int:
    """The link a packet leaves `vertex` by on its way to its target; -1 when it is cut off."""
    row = s.packets[packet]
    rule = s.rules[0].routing
    column = s.column[row.target]
    if row.detour >= 0:
        if s.vertices[vertex].way == row.detour:
            row.detour = STRAIGHT
        else:
            column = s.ways[row.detour].column
    index = s.set_of[epoch, vertex, column]
    if index == -1 and s.home[row.target] >= 0 and (len(s.faults) == 0 or s.links[s.home[row.target]].up):
        return int(s.home[row.target])
    if index >= 0 and s.sets[index] == 1:
        return int(s.sets[index + 1])
    per_packet = rule != MINIMAL
    draw = mix(s.rules[0].seed, packet if per_packet else row.message + (1 << 40), vertex)
    if index == -1:
        return int(own_link(s, vertex, row.target, draw, now))
    if index < 0:
        return -1
    return int(_pick(s, index, rule, draw, now))
