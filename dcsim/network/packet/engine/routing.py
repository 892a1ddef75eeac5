"""Routing tables: for every vertex and target, the links that lead one step closer.

Paths leave nodes and groups as rarely as possible and are then as short as possible, which on a canonical
dragonfly is local-global-local and on a fat tree up-down. Targets that hang on the same switches share a column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dcsim.errors import FabricError
from dcsim.fabric.graph import Fabric
from dcsim.network.packet.engine import routing_kernel as kernel
from dcsim.network.packet.engine.state import ADAPTIVE


@dataclass(frozen=True, slots=True)
class Routes:
    """Minimal next hops: `set_of[epoch, vertex, column]` is where in `sets` the equal links are.

    -1 is the target's own switch, -2 cut off. The columns from `first_group` on lead to each group.
    """

    column: Any  # int32[chip] column of each chip
    set_of: Any  # int32[epoch, vertex, column]
    distance: Any  # int32[epoch, vertex, column] sum of link weights
    sets: Any  # int32[] at a set's number: how many links it has, then the links
    groups: Any  # int32[] groups a detour may visit
    first_group: int


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


def link_order(fabric: Fabric) -> Any:
    """A rank of every link; a packet takes the next virtual channel whenever the rank of its links does not rise.

    (channel, rank) then rises along every path, so no cycle of buffers can wait for each other. Ranks go up the
    tiers, across inside a group, across groups, and down again: a fat tree needs one channel, a dragonfly two.
    """
    tier = _tiers(fabric)
    top = int(tier.max()) if len(tier) else 0
    source, target = fabric.link_source, fabric.link_target
    group = fabric.group_of
    across = ((group[source] != group[target]) & (group[source] >= 0) & (group[target] >= 0)).astype(np.int32)
    order = np.where(tier[target] > tier[source], tier[source], top + across)
    return np.where(tier[target] < tier[source], 2 * top + 2 - tier[source], order).astype(np.int32)


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


def detour_groups(fabric: Fabric) -> Any:
    """The groups a detour may visit: all of them where groups are cabled to each other, else none."""
    group = fabric.group_of
    a, b = group[fabric.link_source], group[fabric.link_target]
    if not np.any((a != b) & (a >= 0) & (b >= 0)):
        return np.zeros(0, np.int32)
    first = 0 if fabric.chips_forward else fabric.chip_count
    groups = np.unique(group[first:])
    return groups[groups >= 0].astype(np.int32)


def build_routes(fabric: Fabric, downs: list[frozenset[int]]) -> Routes:
    """Tables for each epoch: `downs[e]` holds the links that are down in epoch e."""
    faulty = frozenset().union(*downs) if downs else frozenset()
    column, homes = _columns(fabric, faulty)
    groups = detour_groups(fabric)
    first_group = len(homes)
    width = first_group + (int(groups.max()) + 1 if len(groups) else 0)
    shape = (len(downs), fabric.vertex_count, width)
    set_of, distance = np.full(shape, -2, np.int32), np.full(shape, kernel.FAR, np.int32)
    weight = link_weights(fabric)
    sets = np.zeros(_set_room(fabric, width) * len(downs), np.int32)
    end = 0
    for epoch, down in enumerate(downs):
        usable = np.ones(fabric.link_count, np.bool_)
        usable[list(down)] = False
        attached = _attach(fabric, homes, groups, first_group, usable, weight, distance[epoch])
        if not fabric.chips_forward:
            usable &= fabric.link_target >= fabric.chip_count
        kernel.relax(fabric.link_source, fabric.link_target, weight, usable, distance[epoch])
        end = kernel.gather_sets(
            fabric.first_link, fabric.link_target, weight, usable, distance[epoch], attached, set_of[epoch], sets, end
        )
    return Routes(column, set_of, distance, sets[:end].copy(), groups, first_group)


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


def _attach(
    fabric: Fabric, homes: list[list[int]], groups: Any, first_group: int, usable: Any, weight: Any, distance: Any
) -> Any:
    """Mark the vertices that serve each column themselves and set their distance; returns bool[vertex, column]."""
    attached = np.zeros(distance.shape, np.bool_)
    for column, home in enumerate(homes):
        for place in home:
            vertex, far = (place, 0) if fabric.chips_forward else (int(fabric.link_source[place]), int(weight[place]))
            if fabric.chips_forward or usable[place]:
                attached[vertex, column] = True
                distance[vertex, column] = min(far, int(distance[vertex, column]))
    first = 0 if fabric.chips_forward else fabric.chip_count
    for group in groups:
        inside = first + np.flatnonzero(fabric.group_of[first:] == group)
        attached[inside, first_group + group] = True
        distance[inside, first_group + group] = 0
    return attached


def channels_needed(fabric: Fabric, routes: Routes, rule: int) -> int:
    """Virtual channels that keep every path of this rule free of deadlock."""
    order, rises = link_order(fabric), np.zeros(fabric.link_count, np.int64)
    most = [0, 0]
    for set_of in routes.set_of:
        for column in range(set_of.shape[1]):
            count = kernel.most_rises(fabric.link_source, order, fabric.link_target, set_of, routes.sets, column, rises)
            to_group = int(column >= routes.first_group)
            most[to_group] = max(most[to_group], count)
    if rule >= ADAPTIVE and len(routes.groups) >= 3:
        return most[0] + most[1] + 2
    return most[0] + 1
