"""Compiled routing: minimal tables, and the choice of the next link for one packet."""

from __future__ import annotations

from typing import Any

from numba import njit

from dcsim.network.packet.engine.compile_kernel import leaf, part
from dcsim.network.packet.engine.cross_kernel import advance_cross_traffic, mix
from dcsim.network.packet.engine.state import ADAPTIVE, SPRAY, STRAIGHT, UGAL, VALIANT, State

CROSSING = 1024  # leaving a node or a group outweighs any number of links inside
FAR = 1 << 28
FOREVER = 1 << 62  # ps


@njit(cache=True)
def relax(source: Any, target: Any, weight: Any, usable: Any, distance: Any) -> None:
    """Lower distance[vertex, column] to that of the best neighbour plus the link's weight, until nothing moves."""
    moved = True
    while moved:
        moved = False
        for link in range(len(source)):
            if not usable[link]:
                continue
            here, there = distance[source[link]], distance[target[link]]
            for column in range(len(here)):
                near = there[column] + weight[link]
                if near < here[column]:
                    here[column] = near
                    moved = True


@njit(cache=True)
def gather_sets(
    first_link: Any,
    target: Any,
    weight: Any,
    usable: Any,
    distance: Any,
    attached: Any,
    set_of: Any,
    sets: Any,
    end: int,
) -> int:
    """Fill set_of[vertex, column] with where in `sets` the links one step closer are; equal sets of a vertex are shared.

    `attached[vertex, column]` marks targets the vertex itself serves. Returns the new end of `sets`.
    """
    for vertex in range(len(first_link) - 1):
        own = end
        for column in range(set_of.shape[1]):
            if attached[vertex, column]:
                set_of[vertex, column] = -1
                continue
            count = 0
            for link in range(first_link[vertex], first_link[vertex + 1]):
                if usable[link] and distance[target[link], column] + weight[link] == distance[vertex, column]:
                    count += 1
                    sets[end + count] = link
            if count == 0 or distance[vertex, column] >= FAR:
                set_of[vertex, column] = -2
                continue
            sets[end] = count
            found = _find_set(sets, own, end)
            if found == end:
                end += 1 + count
            set_of[vertex, column] = found
    return end


@part
def _find_set(sets: Any, own: int, end: int) -> int:
    """The earlier set of this vertex (they begin at `own`) equal to the one written at `end`, or `end`."""
    index = own
    while index < end:
        same = True
        for i in range(sets[index] + 1):
            if sets[index + i] != sets[end + i]:
                same = False
                break
        if same:
            return index
        index += sets[index] + 1
    return end


@leaf
def backlog_ps(s: State, link: int, now: int) -> int:
    """Work queued at a link, ps, packets held back for lack of credit and cross traffic included."""
    if s.links[link].background > 0.0:
        advance_cross_traffic(s.rules, s.links, link, now)
    return int(max(0, s.links[link].free - now) + s.links[link].waiting_ps)


@leaf
def _pick(s: State, index: int, rule: int, draw: int, now: int) -> int:
    """One link of a set: by the draw, or the one with the shortest queue (ties by the draw)."""
    begin, count = index + 1, s.sets[index]
    chosen, least = int(s.sets[begin + draw % count]), FOREVER
    if rule < ADAPTIVE:
        return chosen
    for i in range(count):
        link = int(s.sets[begin + (draw + i) % count])
        work = backlog_ps(s, link, now)
        if work < least:
            chosen, least = link, work
    return chosen


@part
def own_link(s: State, vertex: int, chip: int, draw: int) -> int:
    """The link from a switch to a chip cabled to it; parallel ones by the draw. -1 for none."""
    count = 0
    for link in range(s.vertices[chip].first_link, s.vertices[chip + 1].first_link):
        if s.links[link].target == vertex and s.links[s.links[link].reverse].up:
            count += 1
    if count == 0:
        return -1
    rank = draw % count
    for link in range(s.vertices[chip].first_link, s.vertices[chip + 1].first_link):
        if s.links[link].target == vertex and s.links[s.links[link].reverse].up:
            if rank == 0:
                return int(s.links[link].reverse)
            rank -= 1
    return -1


@leaf
def _leave(s: State, epoch: int, vertex: int, column: int, whole: bool, now: int) -> tuple[int, int, int]:
    """Walk the minimal path until it has crossed to another group: (queue met in ps, links walked, vertex reached).

    With `whole` False only the first link's queue is counted (what a switch sees by itself).
    """
    work, hops, here = 0, 0, vertex
    while s.set_of[epoch, here, column] >= 0:
        link = s.sets[s.set_of[epoch, here, column] + 1]
        if whole or hops == 0:
            work += backlog_ps(s, link, now)
        hops += 1
        there = s.links[link].target
        if s.vertices[there].group != s.vertices[vertex].group:
            return work, hops, there
        here = there
    return work, hops, here


@leaf
def choose_detour(s: State, epoch: int, vertex: int, chip: int, packet: int, now: int) -> int:
    """The group a packet visits on its way (Valiant), or STRAIGHT.

    UGAL (Singh 2005; Kim et al. 2008) takes the minimal path unless its queue times its length exceeds the
    detour's by `bias` packets; it reads the queues up to the link that leaves the group. ADAPTIVE reads its own
    switch's queues only.
    """
    rule = s.rules[0].routing
    if len(s.groups) < 3:
        return STRAIGHT
    group = int(s.groups[mix(s.rules[0].seed, packet, 77) % len(s.groups)])
    column = s.column[chip]
    if s.vertices[chip].group == s.vertices[vertex].group or s.set_of[epoch, vertex, s.rules[0].first_group + group] < 0:
        return STRAIGHT
    if rule == VALIANT:
        return group
    whole = rule == UGAL
    direct, _, _ = _leave(s, epoch, vertex, column, whole, now)
    if direct == 0:
        return STRAIGHT
    around, out, entry = _leave(s, epoch, vertex, s.rules[0].first_group + group, whole, now)
    direct_hops = s.distance[epoch, vertex, column] & (CROSSING - 1)
    around_hops = out + (s.distance[epoch, entry, column] & (CROSSING - 1))
    first = s.sets[s.set_of[epoch, vertex, column] + 1]
    one_ps = (s.rules[0].mtu + s.rules[0].header) * s.links[first].fs_per_byte // 1000
    bias = s.rules[0].bias * one_ps * direct_hops
    return group if direct * direct_hops > around * around_hops + bias else STRAIGHT


@leaf
def next_link(s: State, epoch: int, vertex: int, packet: int, now: int) -> int:
    """The link a packet leaves `vertex` by on its way to its target; -1 when it is cut off."""
    row = s.packets[packet]
    rule = s.rules[0].routing
    column = s.column[row.target]
    if row.detour >= 0:
        if s.vertices[vertex].group == row.detour:
            row.detour = STRAIGHT
        else:
            column = s.rules[0].first_group + row.detour
    index = s.set_of[epoch, vertex, column]
    if index == -1 and s.home[row.target] >= 0 and (len(s.faults) == 0 or s.links[s.home[row.target]].up):
        return int(s.home[row.target])
    if index >= 0 and s.sets[index] == 1:
        return int(s.sets[index + 1])
    per_packet = rule == SPRAY or rule >= ADAPTIVE
    draw = mix(s.rules[0].seed, packet if per_packet else row.message + (1 << 40), vertex)
    if index == -1:
        return int(own_link(s, vertex, row.target, draw))
    if index < 0:
        return -1
    return int(_pick(s, index, rule, draw, now))


@njit(cache=True)
def most_rises(source: Any, order: Any, target: Any, set_of: Any, sets: Any, column: int, rises: Any) -> int:
    """The most times the channel rises on any minimal path to `column`; `rises` is scratch, int64[link]."""
    rises[:] = 0
    most, moved = 0, True
    while moved:
        moved = False
        for link in range(len(target)):
            vertex = target[link]
            source_set = set_of[source[link], column]
            index = set_of[vertex, column]
            if source_set < 0 or index < 0 or not _holds(sets, source_set, link):
                continue
            for i in range(sets[index]):
                onward = sets[index + 1 + i]
                count = rises[link] + (order[onward] <= order[link])
                if count > rises[onward]:
                    rises[onward] = count
                    most = max(most, count)
                    moved = True
    return most


@leaf
def _holds(sets: Any, index: int, link: int) -> bool:
    """True if the link is in the set."""
    found = False
    for i in range(sets[index]):
        found |= sets[index + 1 + i] == link
    return found
