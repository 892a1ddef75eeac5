"""How a system grows: which keys make a topology of n units of it, and which sizes are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dcsim.spec.fabric import FatTree, LeafSpine, LpuDragonfly, RailOnly
from dcsim.spec.topology import Topology

COUNT_MAX = 2000  # units
_EVERY = 24  # sizes up to this are all looked at; beyond, steps of a twentieth, and what lies between the last two
NODES_A_REPLICA = (1, 2, 4)  # of nodes behind switches
Settings = dict[str, str]


@dataclass(frozen=True, slots=True)
class GrowthPath:
    """How a topology grows. `settings(n)` make it n units large; none where it grows by whole clusters like itself."""

    unit: str  # rack, node or cluster
    settings: Callable[[int], Settings] | None = None
    node_chips: int = 0

    def point(self, count: int) -> tuple[Settings, int]:
        """The settings of `count` units, and how many clusters alike share the traffic."""
        return ({}, count) if self.settings is None else (self.settings(count), 1)


def growth_of(spec: Topology) -> GrowthPath:
    """How the topology of `spec` grows: racks of nodes that forward, nodes behind switches, or clusters like the one given."""
    fabric = spec.fabric
    if isinstance(fabric, LpuDragonfly):
        return GrowthPath("rack", lambda count: {"fabric.nodes": "0", "fabric.racks": str(count)})
    if isinstance(fabric, (LeafSpine, FatTree, RailOnly)) and fabric.node_chips:
        chips = fabric.node_chips
        return GrowthPath("node", lambda count: {"fabric.endpoints": str(chips * count)}, chips)
    return GrowthPath("cluster")


def counts() -> Iterator[int]:
    """Numbers of units to look at, the smallest first."""
    count = 1
    while count <= COUNT_MAX:
        yield count
        count = count + 1 if count < _EVERY else count + count // 20
