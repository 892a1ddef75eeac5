"""Fabrics of switches: fat tree, leaf and spine with rails, rails alone, and islands of chips inside nodes.

Chips come first, then leaves, then the switches above. Each chip has one adapter. Chips that share a leaf count
as one node and a leaf as a rack, unless `with_islands` says which chips share a node.

`rail_only`: Wang et al., "Rail-only: a low-cost high-performance network for training LLMs with trillion parameters", 2023.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import ceil

import numpy as np

from dcsim.errors import FabricError
from dcsim.fabric.floor import Floor
from dcsim.fabric.graph import Fabric, from_cables

Cable = tuple[int, int, str, float]
OVERSUBSCRIPTION_SLACK = 0.005  # 1.33 stands for 4 to 3


def leaf_spine(
    endpoints: int,
    leaf_ports_down: int = 32,
    spines: int = 32,
    links_per_spine: int = 1,
    rails: int = 1,
    floor: Floor | None = None,
) -> Fabric:
    """Leaves all joined to all spines. Chip e belongs to rail e % rails, which has leaves of its own.

    Link classes: "adapter" (chip to leaf) and "fabric" (leaf to spine). FabricError for a size below 1.
    """
    floor = floor or Floor()
    if min(endpoints, leaf_ports_down, spines, links_per_spine, rails) < 1:
        raise FabricError("leaf_spine needs at least one chip, port, spine, link and rail")
    chips = np.arange(endpoints)
    leaf = _renumbered((chips // rails // leaf_ports_down) * rails + chips % rails)
    leaves = int(leaf.max()) + 1
    cables: list[Cable] = [(e, endpoints + int(leaf[e]), "adapter", floor.rack_cable_m) for e in range(endpoints)]
    if leaves > 1:
        for i in range(leaves):
            length = floor.cable_m(i, leaves, leaves + 1)
            cables += [
                (endpoints + i, endpoints + leaves + k, "fabric", length) for k in range(spines) for _ in range(links_per_spine)
            ]
    upper = spines if leaves > 1 else 0
    return _tree("leaf_spine", leaf, cables, np.full(upper, -1), np.full(leaves + upper, -1))


def fat_tree(
    endpoints: int,
    radix: int = 64,
    levels: int = 3,
    oversubscription: float = 1.0,
    floor: Floor | None = None,
) -> Fabric:
    """A fat tree of two or three tiers of switches with `radix` ports.

    A leaf has d ports down and u = d / oversubscription up, as many as d + u <= radix allows. Two tiers: every leaf reaches every
    spine. Three: pods of radix/2 leaves and u aggregation switches; aggregation switch i of every pod reaches the
    cores of plane i. The upper tiers have as few switches as carry the cables below them evenly.
    Raises FabricError when the endpoints need more ports, or when no split of the ports is as oversubscribed.
    """
    floor = floor or Floor()
    if endpoints < 1 or radix < 2 or oversubscription < 1 or levels not in (2, 3):
        raise FabricError(f"no fat tree of {endpoints} chips, radix {radix}, {levels} levels, {oversubscription} to 1")
    down, up = split_ports(radix, oversubscription)
    leaf = np.arange(endpoints) // down
    leaves = int(leaf[-1]) + 1
    limit = radix if levels == 2 else radix * (radix // 2)
    if leaves > limit:
        raise FabricError(
            f"{endpoints} chips need {leaves} leaves ({down} ports down, {up} up); {levels} levels of radix {radix} join {limit}"
        )
    if levels == 2:
        spines = _fewest(up, leaves * up, radix)
        return replace(leaf_spine(endpoints, down, spines, up // spines, floor=floor), kind="fat_tree")
    return _three_tiers(leaf, radix, up, floor)


def rail_only(endpoints: int, node_chips: int, radix: int = 64, floor: Floor | None = None) -> Fabric:
    """Nodes of `node_chips` chips on an island switch; chip i of every node on rail i, and nothing joins rails.

    A rail is one switch, or a two-tier fat tree where nodes are more than its ports. Between rails a message passes a chip
    of its own or of the target's node, which sends it on. Raises FabricError when chips do not divide into nodes, or
    two tiers of `radix` do not join them.
    """
    floor = floor or Floor()
    if node_chips < 2 or endpoints < 1 or endpoints % node_chips:
        raise FabricError(f"fabric.node_chips: {endpoints} chips do not divide into nodes of {node_chips} chips")
    nodes = endpoints // node_chips
    one = leaf_spine(nodes, nodes, floor=floor) if nodes <= radix else fat_tree(nodes, radix, 2, floor=floor)
    switches = one.vertex_count - nodes
    cables: list[Cable] = []
    for rail in range(node_chips):
        shift = endpoints + rail * switches - nodes
        for a, b, name, length in cables_of(one):
            cables.append((a * node_chips + rail if a < nodes else a + shift, b + shift, name, length))
    node, inner = np.arange(endpoints) // node_chips, np.full(node_chips * switches, -1)
    rails = from_cables(
        "rail_only",
        endpoints,
        cables,
        vertex_count=endpoints + node_chips * switches,
        node_of=np.concatenate([node, inner]),
        rack_of=np.concatenate([node, inner]),
    )
    return replace(with_islands(rails, node_chips, floor.node_cable_m), chips_relay=True)


def split_ports(radix: int, oversubscription: float) -> tuple[int, int]:
    """(ports down, ports up) of a leaf: as many as fit whose ratio is what is asked, to OVERSUBSCRIPTION_SLACK.

    Raises FabricError, with the nearest splits and a radix that does, where there are none.
    """
    splits = [(down, up) for up in range(1, radix) for down in range(up, radix - up + 1)]
    asked = [s for s in splits if abs(s[0] / s[1] - oversubscription) <= OVERSUBSCRIPTION_SLACK * oversubscription]
    if asked:
        return max(asked, key=lambda s: (sum(s), -abs(s[0] / s[1] - oversubscription)))
    exact = Fraction(oversubscription).limit_denominator(radix)
    least = exact.numerator + exact.denominator
    full = [s for s in splits if sum(s) == radix]
    near = sorted(full, key=lambda s: abs(s[0] / s[1] - oversubscription))[:2]
    shown = ", ".join(f"{down} down, {up} up ({down / up:.4g} to 1)" for down, up in sorted(near))
    raise FabricError(
        f"fabric.oversubscription: leaves of {radix} ports cannot be {oversubscription:g} to 1: {shown or 'none'}; "
        f"radix {-(-(radix + 1) // least) * least} can"
    )


def _three_tiers(leaf: np.ndarray, radix: int, up: int, floor: Floor) -> Fabric:
    endpoints, leaves, half = len(leaf), int(leaf[-1]) + 1, radix // 2
    pods = ceil(leaves / half)
    planes = _fewest(half, pods * half, radix)  # cores of one plane
    first_upper = endpoints + leaves
    first_core = first_upper + pods * up
    cables: list[Cable] = [(e, endpoints + int(leaf[e]), "adapter", floor.rack_cable_m) for e in range(endpoints)]
    for i in range(leaves):
        pod = i // half
        length = floor.cable_m(i, min(pod * half + half // 2, leaves - 1), leaves)
        cables += [(endpoints + i, first_upper + pod * up + k, "fabric", length) for k in range(up)]
    if pods > 1:
        for pod in range(pods):
            length = floor.cable_m(pod * half, leaves, leaves + 1)
            cables += [
                (first_upper + pod * up + k, first_core + k * planes + j % planes, "fabric", length)
                for k in range(up)
                for j in range(half)
            ]
    cores = up * planes if pods > 1 else 0
    pod_of = np.concatenate([np.arange(leaves) // half, np.repeat(np.arange(pods), up), np.full(cores, -1)])
    return _tree("fat_tree", leaf, cables, np.full(pods * up + cores, -1), pod_of)


def _fewest(multiple: int, links: int, radix: int) -> int:
    """The fewest switches that `multiple` cables from below divide over evenly and whose ports hold all `links`."""
    return next(n for n in range(1, multiple + 1) if multiple % n == 0 and n * radix >= links)


def _tree(kind: str, leaf: np.ndarray, cables: list[Cable], upper_rack: np.ndarray, group: np.ndarray) -> Fabric:
    chips, leaves = len(leaf), int(leaf.max()) + 1
    switches = leaves + len(upper_rack)
    return from_cables(
        kind,
        chips,
        cables,
        vertex_count=chips + switches,
        node_of=np.concatenate([leaf, np.full(switches, -1)]),
        rack_of=np.concatenate([leaf, np.arange(leaves), upper_rack]),
        group_of=np.concatenate([group[leaf], group]),
    )


def _renumbered(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels, return_inverse=True)[1]


def with_islands(fabric: Fabric, node_chips: int, cable_m: float = 0.5) -> Fabric:
    """`fabric` with an island switch for every `node_chips` consecutive chips, which then make a node.

    The island's switches follow the others; their links have the class "island". Raises FabricError when the
    chips do not divide into nodes.
    """
    chips = fabric.chip_count
    if node_chips < 2:
        raise FabricError(f"fabric.node_chips: a node of {node_chips} chip needs no switch of its own; leave it out")
    if chips % node_chips:
        raise FabricError(f"{chips} chips do not divide into nodes of {node_chips}")
    nodes = chips // node_chips
    cables = cables_of(fabric)
    cables += [(chip, fabric.vertex_count + chip // node_chips, "island", cable_m) for chip in range(chips)]
    node = np.arange(chips) // node_chips
    first = np.arange(nodes) * node_chips
    inner = np.full(fabric.vertex_count - chips, -1)
    built = from_cables(
        fabric.kind,
        chips,
        cables,
        vertex_count=fabric.vertex_count + nodes,
        node_of=np.concatenate([node, inner, np.arange(nodes)]),
        rack_of=np.concatenate([fabric.rack_of[first][node], fabric.rack_of[chips:], fabric.rack_of[first]]),
        group_of=np.concatenate([fabric.group_of, fabric.group_of[first]]),
        rank=None if fabric.link_rank is None else np.pad(_rank_of_cables(fabric), ((0, 0), (0, chips)), constant_values=-1),
    )
    return replace(built, chip_active=fabric.chip_active)


def _rank_of_cables(fabric: Fabric) -> np.ndarray:
    """[2, cable] the ranks of each cable's links, in the order of `cables_of`."""
    assert fabric.link_rank is not None
    once = np.flatnonzero(np.arange(fabric.link_count) < fabric.reverse)
    return np.stack([fabric.link_rank[once], fabric.link_rank[fabric.reverse[once]]])


def cables_of(fabric: Fabric) -> list[Cable]:
    """Every cable once, as `from_cables` takes them."""
    once = np.flatnonzero(np.arange(fabric.link_count) < fabric.reverse)
    return [
        (
            int(fabric.link_source[i]),
            int(fabric.link_target[i]),
            fabric.link_classes[fabric.link_class[i]],
            float(fabric.link_length_m[i]),
        )
        for i in once
    ]
