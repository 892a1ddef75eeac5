"""What joins chips on a packet network: adapters, and planes of switches.

A fabric that has switches, or a network whose `layout` is `own`, is used as it is. Chips cabled to each other get
adapters and switches instead, by `fairness`:

- `equal_bandwidth`: one link as fast as the chip's own cables together, through switches of such ports. It stands for
  as many of the network's ports as come nearest, striped perfectly packet by packet: the best that bonding can do.
- `equal_radix`: one adapter for each of the chip's cables, at the network's own port speed. A message takes one of them,
  by the network's routing, so messages may meet on one while others idle.
- `pcie`: one adapter, no faster than its bus.
- `equal_cost`: one link of the bandwidth that the price of the chips' own cables buys in adapters and switch ports; it
  stands for a share of a port (chips take turns at an adapter of full latency) or for several.

Adapter i of every chip belongs to plane i, a fabric of its own: no switch oversubscribed, as few tiers as do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

import numpy as np

from dcsim.errors import FabricError
from dcsim.fabric.dragonfly import dragonfly
from dcsim.fabric.graph import Fabric, from_cables
from dcsim.fabric.switched import Cable, cables_of, fat_tree
from dcsim.network.packet.bill import bandwidth_for_cables
from dcsim.spec.network import PacketNetwork


def attach(network: PacketNetwork, fabric: Fabric) -> tuple[PacketNetwork, Fabric]:
    """The network with the speed of one adapter's link as its bandwidth, and the fabric with its switches.

    Chips keep numbers, nodes, racks and spares. Raises FabricError where the switches cannot join them.
    """
    if fabric.vertex_count > fabric.chip_count or network.layout == "own":
        return network, fabric
    one = plane(network, fabric.chip_count)
    if network.fairness == "equal_cost":
        planes = with_planes(fabric, one, 1)
        bandwidth = bandwidth_for_cables(network, fabric, planes)
    else:
        count, bandwidth = adapters(network, int(np.diff(fabric.first_link)[: fabric.chip_count].max(initial=1)))
        planes = with_planes(fabric, one, count)
    return network.model_copy(update={"bandwidth_bytes_per_s": bandwidth}), planes


def adapters(network: PacketNetwork, ports: int) -> tuple[int, float]:
    """(adapters a chip, bytes per second of each) that stand for `ports` cables of a chip."""
    port = network.bandwidth_bytes_per_s
    if network.fairness == "pcie":
        return 1, min(port, network.pcie_bytes_per_s)
    if network.fairness == "equal_radix":
        return ports, port
    return 1, ports * network.chip_port_bytes_per_s


def bonded(network: PacketNetwork, attached: PacketNetwork) -> float:
    """How many of the network's ports one attached link stands for: whole ones, but for `equal_cost`."""
    ports = attached.bandwidth_bytes_per_s / network.bandwidth_bytes_per_s
    return ports if network.fairness == "equal_cost" else max(1, round(ports))


def plane(network: PacketNetwork, chips: int) -> Fabric:
    """One plane: switches that give each of `chips` one port. Raises FabricError when they have too few ports."""
    radix = network.switch_ports
    if network.layout == "dragonfly":
        return _dragonfly(chips, radix)
    if network.layout == "island":
        if chips > radix:
            raise FabricError(f"one tier of {radix}-port switches joins {radix} chips, not {chips}: {network.name}")
        cables = [(chip, chips, "island", network.cables.adapter_m) for chip in range(chips)]
        return from_cables("island", chips, cables, vertex_count=chips + 1)
    if chips <= radix:
        cables = [(chip, chips, "adapter", network.cables.adapter_m) for chip in range(chips)]
        return from_cables("switch", chips, cables, vertex_count=chips + 1)
    return fat_tree(chips, radix, 2 if ceil(chips / (radix // 2)) <= radix else 3)


def _dragonfly(chips: int, radix: int) -> Fabric:
    """The canonical balanced dragonfly (a = 2p = 2h, 4p - 1 ports a router) with only the groups that are needed."""
    if radix < 3:
        raise FabricError(f"a dragonfly needs routers of 3 ports at least, not {radix}")
    p = max(1, (radix + 1) // 4)
    a = min(2 * p, ceil(chips / p))
    groups = ceil(chips / (p * a))
    if groups > a * p + 1:
        raise FabricError(f"{chips} chips need {groups} groups of {a} routers; routers of {radix} ports join {a * p + 1}")
    return dragonfly(p, a, p, groups)


def with_planes(fabric: Fabric, one: Fabric, count: int) -> Fabric:
    """`fabric`'s chips joined by `count` copies of `one`, whose chips may be more; its own cables are gone.

    Groups of all planes share numbers, so that a detour stays in its plane; chips are in no group.
    """
    chips, switches = fabric.chip_count, one.vertex_count - one.chip_count
    cables: list[Cable] = []
    for i in range(count):
        shift = chips + i * switches - one.chip_count
        for a, b, name, length in cables_of(one):
            if min(a, b) < one.chip_count:
                if min(a, b) < chips:
                    cables.append((min(a, b), max(a, b) + shift, name, length))
            else:
                cables.append((a + shift, b + shift, name, length))
    outside = np.full(count * switches, -1)
    groups = one.group_of[one.chip_count :] if one.kind == "dragonfly" else np.full(switches, -1)
    built = from_cables(
        one.kind,
        chips,
        cables,
        vertex_count=chips + count * switches,
        node_of=np.concatenate([fabric.node_of[:chips], outside]),
        rack_of=np.concatenate([fabric.rack_of[:chips], outside]),
        group_of=np.concatenate([np.full(chips, -1), np.tile(groups, count)]),
    )
    return replace(built, chip_active=fabric.chip_active)


def on_island(fabric: Fabric, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[message] whether its two chips share an island: links of that class lead from one to the other."""
    if "island" not in fabric.link_classes:
        return np.zeros(len(source), np.bool_)
    inside = fabric.link_class == fabric.link_classes.index("island")
    a, b = fabric.link_source[inside], fabric.link_target[inside]
    island = np.full(fabric.vertex_count, -1)
    island[a] = a
    while True:  # each takes the lowest number among its neighbours', until all of an island have the same
        lowest = island.copy()
        np.minimum.at(lowest, a, island[b])
        if np.array_equal(lowest, island):
            return np.asarray((island[source] == island[target]) & (island[source] >= 0))
        island = lowest


def is_mesh(fabric: Fabric, chips: Sequence[int]) -> bool:
    """Whether each of these chips has a cable of its own to every other."""
    if fabric.vertex_count > fabric.chip_count or len(chips) < 2:
        return False
    first, target = fabric.first_link, fabric.link_target
    return all(set(chips) - {chip} <= set(target[first[chip] : first[chip + 1]].tolist()) for chip in chips)
