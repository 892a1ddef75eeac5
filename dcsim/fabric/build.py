"""From the spec's `fabric:` section to the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dcsim.fabric.direct import island, torus
from dcsim.fabric.dragonfly import dragonfly, lpu_dragonfly
from dcsim.fabric.floor import Floor
from dcsim.fabric.graph import Fabric
from dcsim.fabric.switched import fat_tree, leaf_spine, with_islands
from dcsim.spec import fabric as spec


def build_fabric(section: spec.FabricSpec) -> Fabric:
    """The fabric a spec's section describes; FabricError when it cannot be built, unknown kinds do not load."""
    return _BUILDERS[section.kind](section)


def _lpu_dragonfly(s: spec.LpuDragonfly) -> Fabric:
    spares = s.spare_nodes_per_rack if s.racks else 0
    return lpu_dragonfly(
        s.racks,
        s.nodes_per_rack,
        spares,
        s.chips_per_node,
        s.local_ports,
        s.global_ports,
        nodes=s.nodes,
        floor=_floor(s.floor),
    )


def _dragonfly(s: spec.Dragonfly) -> Fabric:
    return _islands(dragonfly(s.p, s.a, s.h, s.groups, _floor(s.floor)), s)


def _fat_tree(s: spec.FatTree) -> Fabric:
    return _islands(fat_tree(s.endpoints, s.radix, s.levels, s.oversubscription, _floor(s.floor)), s)


def _leaf_spine(s: spec.LeafSpine) -> Fabric:
    built = leaf_spine(s.endpoints, s.leaf_ports_down, s.spines, s.links_per_spine, s.rails, _floor(s.floor))
    return _islands(built, s)


def _islands(fabric: Fabric, s: spec.Dragonfly | spec.FatTree | spec.LeafSpine) -> Fabric:
    return with_islands(fabric, s.node_chips, s.floor.node_cable_m) if s.node_chips else fabric


def _custom(s: spec.Custom) -> Fabric:
    from dcsim.fabric.custom import read_fabric

    return read_fabric(s.path)


def _floor(s: spec.FloorSpec) -> Floor:
    return Floor(s.node_cable_m, s.rack_cable_m, s.rack_width_m, s.row_pitch_m, s.tray_m, s.racks_per_row)


_BUILDERS: dict[str, Callable[[Any], Fabric]] = {
    "lpu_dragonfly": _lpu_dragonfly,
    "dragonfly": _dragonfly,
    "fat_tree": _fat_tree,
    "leaf_spine": _leaf_spine,
    "torus": lambda s: torus(s.dims, s.cable_m),
    "island": lambda s: island(s.chips, s.switch, s.cable_m),
    "custom": _custom,
}
