"""Dragonflies: the packetless one of chips alone, and the canonical one of routers.

`lpu_dragonfly`: nodes of fully connected chips, cabled chip to chip, no switches anywhere. A node's chips
together are a virtual router. While every node can reach every other by a cable of its own, the node is the
dragonfly's group (33 nodes of 8 chips with 4 global ports: 8 x 4 + 1). Above that the rack is: half of a node's
ports go to the rack's other nodes, evenly (9 nodes: 2 cables a pair), the rest to other racks (9 x 16 = 144
ports, hence up to 145 racks). Source: Abts et al., "A software-defined tensor streaming
multiprocessor for large-scale machine learning", ISCA 2022.

`dragonfly`: Kim, Dally, Scott, Abts, "Technology-driven, highly-scalable dragonfly topology", ISCA 2008. Which group a global
port leads to is an arrangement (Hastings et al., "Comparing global link arrangements for dragonfly networks", CLUSTER 2015).

`dragonfly_plus`: Shpiner et al., "Dragonfly+: low cost topology for scaling datacenters", HiPINEB 2017; the same as Megafly
(Flajslik, Borch, Parker, ISC 2018): a group is leaves all joined to all spines, and only spines have global links.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np

from dcsim.errors import FabricError
from dcsim.fabric.floor import Floor
from dcsim.fabric.graph import Fabric, from_cables
from dcsim.fabric.spread import spread_links

Cable = tuple[int, int, str, float]


def lpu_dragonfly(
    racks: int = 0,
    nodes_per_rack: int = 9,
    spare_nodes_per_rack: int = 1,
    chips_per_node: int = 8,
    local_ports: int = 7,
    global_ports: int = 4,
    *,
    nodes: int = 0,
    floor: Floor | None = None,
) -> Fabric:
    """Build `racks` whole racks (the last nodes of each spare: they forward but do not compute), or `nodes` nodes.

    Chips are numbered node by node, nodes rack by rack. Link classes: "local" in a node, "rack" between nodes of
    a rack, "global" between racks. Raises FabricError when the ports cannot join that many.
    """
    floor = floor or Floor()
    spares = spare_nodes_per_rack if racks else 0
    count = racks * nodes_per_rack if racks else nodes
    if count < 1 or spares >= nodes_per_rack:
        raise FabricError(f"lpu_dragonfly needs a node that computes, got {count} nodes, {spares} of each rack spare")
    if chips_per_node - 1 > local_ports:
        raise FabricError(f"a node of {chips_per_node} chips needs {chips_per_node - 1} local ports a chip, not {local_ports}")
    node_ports = chips_per_node * global_ports
    rack_of_node = np.arange(count) // nodes_per_rack
    small = count <= node_ports + 1
    links = _node_links(np.arange(count) if small else rack_of_node, node_ports)
    cables = _local_cables(count, chips_per_node, floor) + _node_cables(links, rack_of_node, chips_per_node, floor)
    node_of = np.repeat(np.arange(count), chips_per_node)
    return from_cables(
        "lpu_dragonfly",
        count * chips_per_node,
        cables,
        node_of=node_of,
        rack_of=rack_of_node[node_of],
        group_of=node_of if small else rack_of_node[node_of],
        chip_active=(node_of % nodes_per_rack) < nodes_per_rack - spares,
    )


def dragonfly(p: int, a: int, h: int, groups: int = 0, floor: Floor | None = None, arrangement: str = "relative") -> Fabric:
    """Build the canonical dragonfly: p chips a router, a routers a group, h global links a router.

    Routers come after the chips. `groups` 0 means a h + 1, each pair joined by one cable, a group's ports to the others in
    the order of ARRANGEMENTS; fewer groups share the cables evenly.
    Chips of a router are a node, groups are racks. Link classes "adapter", "local", "global".
    """
    floor = floor or Floor()
    groups = groups or a * h + 1
    if not 1 <= groups <= a * h + 1 or min(p, a, h) < 1:
        raise FabricError(f"dragonfly({p}, {a}, {h}) has 1 to {a * h + 1} groups, not {groups}")
    routers, chips = a * groups, p * a * groups
    members = [np.arange(a) + group * a for group in range(groups)]
    cables: list[Cable] = [(chip, chips + chip // p, "adapter", floor.rack_cable_m) for chip in range(chips)]
    for routers_of_group in members:
        cables += [(chips + int(i), chips + int(j), "local", floor.rack_cable_m) for i, j in combinations(routers_of_group, 2)]
    for i, j in _between_groups(spread_links([a * h] * groups), members, groups == a * h + 1, arrangement):
        cables.append((chips + i, chips + j, "global", floor.cable_m(i // a, j // a, groups)))
    group_of = np.concatenate([np.arange(chips) // (p * a), np.arange(routers) // a])
    return from_cables(
        "dragonfly",
        chips,
        cables,
        vertex_count=chips + routers,
        rack_of=group_of,
        group_of=group_of,
        node_of=np.concatenate([np.arange(chips) // p, np.full(routers, -1)]),
    )


def dragonfly_plus(p: int, leaves: int, spines: int, h: int, groups: int = 0, floor: Floor | None = None) -> Fabric:
    """Build a Dragonfly+: p chips a leaf, `leaves` leaves and `spines` spines a group, h global links a spine.

    Chips come first, then all leaves, then all spines. `groups` 0 means spines x h + 1, each pair joined by one cable; fewer
    share the cables evenly. Chips of a leaf are a node, groups are racks. Link classes "adapter", "local", "global".
    """
    floor = floor or Floor()
    groups = groups or spines * h + 1
    if not 1 <= groups <= spines * h + 1 or min(p, leaves, spines, h) < 1:
        raise FabricError(f"dragonfly_plus({p}, {leaves}, {spines}, {h}) has 1 to {spines * h + 1} groups, not {groups}")
    chips, all_leaves = p * leaves * groups, leaves * groups
    first_spine = chips + all_leaves
    cables: list[Cable] = [(chip, chips + chip // p, "adapter", floor.rack_cable_m) for chip in range(chips)]
    for leaf in range(all_leaves):
        group = leaf // leaves
        cables += [(chips + leaf, first_spine + group * spines + i, "local", floor.rack_cable_m) for i in range(spines)]
    members = [np.arange(spines) + group * spines for group in range(groups)]
    for i, j in _between_groups(spread_links([spines * h] * groups), members, groups == spines * h + 1):
        cables.append((first_spine + i, first_spine + j, "global", floor.cable_m(i // spines, j // spines, groups)))
    group_of = np.concatenate(
        [np.arange(chips) // (p * leaves), np.repeat(np.arange(groups), leaves), np.repeat(np.arange(groups), spines)]
    )
    switches = all_leaves + spines * groups
    return from_cables(
        "dragonfly_plus",
        chips,
        cables,
        vertex_count=chips + switches,
        rack_of=group_of,
        group_of=group_of,
        node_of=np.concatenate([np.arange(chips) // p, np.full(switches, -1)]),
    )


def racks_max(nodes_per_rack: int = 9, chips_per_node: int = 8, global_ports: int = 4) -> int:
    """The most racks that can each have a cable to every other."""
    ports = chips_per_node * global_ports
    return nodes_per_rack * (ports - rack_links(nodes_per_rack, ports) * (nodes_per_rack - 1)) + 1


def rack_links(nodes_per_rack: int, node_ports: int) -> int:
    """Cables between two nodes of a rack that is a group: half of the ports, at least one cable a pair."""
    return max(1, node_ports // 2 // max(1, nodes_per_rack - 1))


def _node_links(group_of_node: np.ndarray, node_ports: int) -> list[tuple[int, int]]:
    """Pairs of nodes, one for each cable outside nodes: first those inside groups, then between groups."""
    groups = int(group_of_node[-1]) + 1
    members = [np.flatnonzero(group_of_node == group) for group in range(groups)]
    each = rack_links(len(members[0]), node_ports)
    inside = [(int(a), int(b)) for nodes in members for a, b in combinations(nodes, 2) for _ in range(each)]
    ports = [len(nodes) * (node_ports - each * (len(nodes) - 1)) for nodes in members]
    if ports[0] < groups - 1:
        raise FabricError(f"{groups} groups need {groups - 1} ports out of each, there are {max(ports[0], 0)}")
    return inside + _between_groups(spread_links(ports), members)


def _circulant(distance: int, groups: int) -> int:
    """Distances on the ring of groups in the order 1, -1, 2, -2, ..."""
    return 2 * distance - 1 if 2 * distance <= groups else 2 * (groups - distance)


# In which order a group's ports lead to its peers: by (the group, its peer, how many groups there are).
ARRANGEMENTS: dict[str, Callable[[int, int, int], int]] = {
    "relative": lambda group, peer, groups: (peer - group) % groups,
    "absolute": lambda group, peer, groups: peer,
    "circulant": lambda group, peer, groups: _circulant((peer - group) % groups, groups),
}


def _between_groups(
    pairs: list[tuple[int, int]], members: list[np.ndarray], in_blocks: bool = False, arrangement: str = "relative"
) -> list[tuple[int, int]]:
    """The nodes at both ends of each cable between groups.

    A group's cables are taken peer by peer, in the order of the arrangement, and dealt to its nodes in turn: the cables to
    one peer leave from different nodes, and no node has more than its share. `in_blocks` gives each node its share at
    once: with relative peers, traffic from a group to the next then meets no busy link in the groups it detours through.
    """
    groups, place = len(members), ARRANGEMENTS[arrangement]
    order: list[list[tuple[int, int]]] = [[] for _ in members]
    for i, (a, b) in enumerate(pairs):
        order[a].append((place(a, b, groups), i))
        order[b].append((place(b, a, groups), i))
    ends: list[list[int]] = [[] for _ in pairs]
    for group, cables in enumerate(order):
        for turn, (_, i) in enumerate(sorted(cables)):
            nodes = len(members[group])
            ends[i].append(int(members[group][turn * nodes // len(cables) if in_blocks else turn % nodes]))
    return [(a, b) for a, b in ends]


def _local_cables(nodes: int, chips: int, floor: Floor) -> list[Cable]:
    return [
        (node * chips + a, node * chips + b, "local", floor.node_cable_m)
        for node in range(nodes)
        for a, b in combinations(range(chips), 2)
    ]


def _node_cables(links: list[tuple[int, int]], rack_of_node: np.ndarray, chips: int, floor: Floor) -> list[Cable]:
    """Chips take a node's cables in turn, so none uses more than its global ports."""
    racks = int(rack_of_node[-1]) + 1
    rack = rack_of_node.tolist()
    used = [0] * len(rack)
    cables: list[Cable] = []
    for a, b in links:
        ends = a * chips + used[a] % chips, b * chips + used[b] % chips
        used[a] += 1
        used[b] += 1
        name = "rack" if rack[a] == rack[b] else "global"
        cables.append((*ends, name, floor.cable_m(rack[a], rack[b], racks)))
    return cables
