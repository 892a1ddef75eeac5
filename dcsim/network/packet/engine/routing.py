"""Routing tables and lanes: the links one step closer for every vertex and target, and what keeps them free of deadlock.

Paths leave nodes and groups as rarely as possible and are then as short as possible, which on a canonical dragonfly is
local-global-local and on a fat tree up-down. In a grid a packet whose flow has one path takes the dimensions in order.
Targets that hang on the same switches share a column.

A detour (Valiant, UGAL) first visits a way point drawn at random: another group where groups are cabled to each other, else
another router that carries chips, or another chip where chips forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dcsim.errors import FabricError
from dcsim.fabric.graph import RANKS_A_DIMENSION, Fabric
from dcsim.network.packet.engine import tables_kernel as kernel
from dcsim.network.packet.engine.state import ADAPTIVE, DIMENSION_BITS, MINIMAL, SPRAY, VALIANT, WAY

WAYS_LEAST = 3  # the own, the target's and one to visit
WAYS_MOST = (1 << 15) - 1
LANES_MOST = 127


@dataclass(frozen=True, slots=True)
class Routes:
    """Minimal next hops: `set_of[epoch, vertex, column]` is where in `sets` the equal links are; -1: own switch, -2: cut off."""

    column: Any  # int32[chip] column of each chip
    set_of: Any  # int32[epoch, vertex, column]
    distance: Any  # int32[epoch, vertex, column] sum of link weights
    sets: Any  # int32[] at a set's number: how many links it has, then the links
    ways: Any  # WAY[] what a detour may visit; none where the rule makes no detours
    way_of: Any  # int32[vertex] the way point it belongs to, -1 for none


@dataclass(frozen=True, slots=True)
class Lanes:
    """Virtual channels: `order` [link] ranks links so that a packet takes the next lane whenever the rank does not rise.

    (lane, rank) then rises along every path, so no cycle of buffers can wait for each other. In a grid whose dimensions are
    taken in order (dimension, lane, rank) rises: lanes start anew with each, from `second` on in a detour's second leg.
    """

    order: Any  # int32[link]
    count: int
    whole: int  # lanes while no link is down: buffers are divided among so many, whatever faults may come
    second: int


def vertex_groups(fabric: Fabric) -> Any:
    """The group of each vertex; a chip without one belongs to its first switch's."""
    groups = fabric.group_of.astype(np.int32).copy()
    for chip in np.flatnonzero(groups[: fabric.chip_count] < 0):
        if fabric.first_link[chip] < fabric.first_link[chip + 1]:
            groups[chip] = fabric.group_of[fabric.link_target[fabric.first_link[chip]]]
    return groups


def link_weights(fabric: Fabric) -> Any:
    """1 a link, and CROSSING more for one that leaves a node or joins two groups."""
    source, target = fabric.link_source, fabric.link_target
    node = fabric.node_of[source] != fabric.node_of[target]
    group = fabric.group_of
    crosses = (group[source] != group[target]) & (group[source] >= 0) & (group[target] >= 0)
    return (1 + kernel.CROSSING * (node.astype(np.int64) + crosses)).astype(np.int32)


def in_order(fabric: Fabric, rule: int) -> bool:
    """Whether packets take a grid's dimensions one after another: always, but where each may take any shortest path."""
    return fabric.link_rank is not None and rule not in (SPRAY, ADAPTIVE)


def link_order(fabric: Fabric, rule: int) -> Any:
    """A rank of every link, for `Lanes`.

    Ranks go up the tiers, across inside a group, across groups, and down again: a fat tree needs one lane, a dragonfly two.
    Across a grid they are the fabric's own, which fall only where a ring closes.
    """
    tier = _tiers(fabric)
    top = int(tier.max()) if len(tier) else 0
    source, target = fabric.link_source, fabric.link_target
    group = fabric.group_of
    across = ((group[source] != group[target]) & (group[source] >= 0) & (group[target] >= 0)).astype(np.int32)
    levels = 2
    if fabric.link_rank is not None:
        dimension, place = fabric.link_rank // RANKS_A_DIMENSION, fabric.link_rank % RANKS_A_DIMENSION
        grid = fabric.link_rank >= 0
        length = int(place[grid].max(initial=0)) + 1
        across = np.where(grid, np.maximum(dimension, 0) * length + place, 0)
        levels = int(across.max(initial=0)) + 2
    order = np.where(tier[target] > tier[source], tier[source], top + across)
    order = np.where(tier[target] < tier[source], 2 * top + levels - tier[source], order)
    if fabric.link_rank is not None and in_order(fabric, rule):
        down = tier[target] < tier[source]
        major = np.where(grid, dimension + 1, np.where(down, dimension.max(initial=0) + 2, 0))
        order = major * (1 << DIMENSION_BITS) + np.where(grid, place, 0)
    return order.astype(np.int32)


def _tiers(fabric: Fabric) -> Any:
    """Links from each vertex to the nearest chip."""
    tier = np.full(fabric.vertex_count, -1, np.int32)
    tier[: fabric.chip_count] = 0
    level = 0
    while True:
        reached = fabric.link_target[tier[fabric.link_source] == level]
        fresh = reached[tier[reached] < 0]
        if not len(fresh):
            return tier
        level += 1
        tier[fresh] = level


def groups_joined(fabric: Fabric) -> Any:
    """The groups a detour may visit: all of them where groups are cabled to each other, else none."""
    group = fabric.group_of
    a, b = group[fabric.link_source], group[fabric.link_target]
    if not np.any((a != b) & (a >= 0) & (b >= 0)):
        return np.zeros(0, np.int32)
    first = 0 if fabric.chips_forward else fabric.chip_count
    groups = np.unique(group[first:])
    return groups[groups >= 0].astype(np.int32)


@dataclass(frozen=True, slots=True)
class _Places:
    """Way points as sets of vertices: `members[w]`; `way_of` as in Routes; the router of each, -1 for a group."""

    members: list[Any]
    way_of: Any
    router: Any


def _places(fabric: Fabric) -> _Places:
    """Groups where groups are cabled to each other; else routers that carry chips, or the chips that forward."""
    first = 0 if fabric.chips_forward else fabric.chip_count
    groups = groups_joined(fabric)
    if len(groups):
        group_of = vertex_groups(fabric)
        way_of = np.where(group_of >= 0, np.searchsorted(groups, group_of), -1).astype(np.int32)
        members = [first + np.flatnonzero(fabric.group_of[first:] == group) for group in groups]
        return _Places(members, way_of, np.full(len(groups), -1))
    way_of = np.full(fabric.vertex_count, -1, np.int32)
    if fabric.chips_forward:
        routers = np.arange(fabric.chip_count)
        way_of[: fabric.chip_count] = routers
    else:
        door = fabric.link_target[fabric.first_link[: fabric.chip_count]]  # each chip's first switch
        routers = np.unique(door)
        way_of[routers] = np.arange(len(routers))
        way_of[: fabric.chip_count] = way_of[door]
    return _Places([np.array([router]) for router in routers], way_of, routers)


def build_routes(fabric: Fabric, downs: list[frozenset[int]], rule: int = MINIMAL) -> Routes:
    """Tables for each epoch: `downs[e]` holds the links that are down in epoch e. Raises FabricError for too many way points."""
    faulty = frozenset().union(*downs) if downs else frozenset()
    column, homes = _columns(fabric, faulty)
    places = _places(fabric) if rule >= VALIANT else _Places([], np.full(fabric.vertex_count, -1, np.int32), np.zeros(0, int))
    if len(places.members) > WAYS_MOST:
        raise FabricError(f"network.routing: detours over {len(places.members):,} places; {WAYS_MOST:,} can be told apart")
    ways = np.zeros(len(places.members), WAY)
    ways["vertex"] = places.router
    alone = {home[0]: i for i, home in enumerate(homes)} if fabric.chips_forward else _only_doors(fabric, homes)
    extra: list[Any] = []
    for w, members in enumerate(places.members):
        known = alone.get(int(places.router[w]), -1)
        ways["column"][w] = known if known >= 0 else len(homes) + len(extra)
        if known < 0:
            extra.append(members)
    width = len(homes) + len(extra)
    shape = (len(downs), fabric.vertex_count, width)
    set_of, distance = np.full(shape, -2, np.int32), np.full(shape, kernel.FAR, np.int32)
    weight = link_weights(fabric)
    dimension = np.zeros(fabric.link_count, np.int32)
    if fabric.link_rank is not None and in_order(fabric, rule):
        dimension = (fabric.link_rank // RANKS_A_DIMENSION).astype(np.int32)
    sets = np.zeros(_set_room(fabric, width) * len(downs), np.int32)
    end = 0
    for epoch, down in enumerate(downs):
        usable = np.ones(fabric.link_count, np.bool_)
        usable[list(down)] = False
        attached = _attach(fabric, homes, extra, usable, weight, distance[epoch])
        if not fabric.chips_forward:
            usable &= fabric.link_target >= fabric.chip_count
        kernel.relax(fabric.link_source, fabric.link_target, weight, usable, distance[epoch])
        end = kernel.gather_sets(
            fabric.first_link, fabric.link_target, weight, dimension, usable, distance[epoch], attached, set_of[epoch], sets, end
        )
    return Routes(column, set_of, distance, sets[:end].copy(), ways, places.way_of)


def _set_room(fabric: Fabric, width: int) -> int:
    """An upper bound of the room of all sets: every vertex could have a different set for every column."""
    degree = np.diff(fabric.first_link).astype(np.int64)
    return int(np.sum((degree + 1) * min(width, 1 << 16))) + int(degree.max(initial=0)) + 2


def _columns(fabric: Fabric, faulty: frozenset[int]) -> tuple[Any, list[list[int]]]:
    """(column of each chip, the links into a chip of each column); chips on the same switches share one."""
    column = np.zeros(fabric.chip_count, np.int32)
    homes: list[list[int]] = []
    known: dict[tuple[int, ...], int] = {}
    for chip in range(fabric.chip_count):
        own = range(int(fabric.first_link[chip]), int(fabric.first_link[chip + 1]))
        if not own:
            raise FabricError(f"chip {chip} has no link")
        inward = [int(fabric.reverse[link]) for link in own]
        alone = fabric.chips_forward or any(link in faulty for link in (*own, *inward))
        places = tuple(sorted({(int(fabric.link_source[i]), int(fabric.node_of[chip])) for i in inward}))
        key = (-1, chip) if alone else tuple(x for place in places for x in place)
        if key not in known:
            known[key] = len(homes)
            homes.append([chip] if fabric.chips_forward else inward)
        column[chip] = known[key]
    return column, homes


def _only_doors(fabric: Fabric, homes: list[list[int]]) -> dict[int, int]:
    """Routers that have a column already: that of chips which hang on nothing else."""
    doors: dict[int, int] = {}
    for column, home in enumerate(homes):
        sources = {int(fabric.link_source[link]) for link in home}
        if len(sources) == 1:
            doors.setdefault(sources.pop(), column)
    return doors


def _attach(fabric: Fabric, homes: list[list[int]], extra: list[Any], usable: Any, weight: Any, distance: Any) -> Any:
    """Mark the vertices that serve each column themselves and set their distance; returns bool[vertex, column]."""
    attached = np.zeros(distance.shape, np.bool_)
    for column, home in enumerate(homes):
        for place in home:
            vertex, far = (place, 0) if fabric.chips_forward else (int(fabric.link_source[place]), int(weight[place]))
            if fabric.chips_forward or usable[place]:
                attached[vertex, column] = True
                distance[vertex, column] = min(far, int(distance[vertex, column]))
    for i, members in enumerate(extra):
        attached[members, len(homes) + i] = True
        distance[members, len(homes) + i] = 0
    return attached


def lay_lanes(fabric: Fabric, routes: Routes, rule: int) -> Lanes:
    """The lanes that keep every path of this rule free of deadlock.

    Where links will be down, a packet on its way may be led elsewhere from any place: as many lanes more as that takes once.
    """
    order = link_order(fabric, rule)
    from_chip = fabric.link_source < fabric.chip_count
    legs = [(routes.column, from_chip)]
    if rule >= VALIANT and len(routes.ways) >= WAYS_LEAST:
        from_way = from_chip | (routes.way_of[fabric.link_source] >= 0)
        legs = [(routes.ways["column"], from_chip), (routes.column, from_way)]
    whole = [1 + _rises(fabric, routes, order, columns, first, 0) for columns, first in legs]
    anywhere = np.ones(fabric.link_count, np.bool_)
    later = [1 + _rises(fabric, routes, order, routes.column, anywhere, epoch) for epoch in range(1, len(routes.set_of))]
    second = whole[0] if len(legs) > 1 and in_order(fabric, rule) else 0
    return Lanes(order, min(sum(whole) + max(later, default=0), LANES_MOST), sum(whole), second)


def _rises(fabric: Fabric, routes: Routes, order: Any, columns: Any, first: Any, epoch: int) -> int:
    """The most times the lane rises on a way to any of the columns that begins with one of the links `first`."""
    scratch, set_of = np.zeros(fabric.link_count, np.int64), routes.set_of[epoch]
    return max(
        int(kernel.most_rises(fabric.link_source, order, fabric.link_target, set_of, routes.sets, column, first, scratch))
        for column in np.unique(columns).tolist()
    )
