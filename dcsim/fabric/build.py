"""From the spec's `fabric:` section to the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from dcsim.fabric.direct import island, torus
from dcsim.fabric.dragonfly import dragonfly, dragonfly_plus, lpu_dragonfly
from dcsim.fabric.floor import Floor
from dcsim.fabric.graph import Fabric
from dcsim.fabric.routers import hyperx, slim_fly
from dcsim.fabric.switched import fat_tree, leaf_spine, rail_only, with_islands
from dcsim.spec import fabric as spec


def build_fabric(section: spec.FabricSpec) -> Fabric:
    """The fabric a spec's section describes; FabricError when it cannot be built, unknown kinds do not load."""
    if section.kind in _OTHERS:
        return _OTHERS[section.kind](section)
    fabric = _SWITCHED[section.kind](section)
    switched = cast(spec.Switched, section)
    return with_islands(fabric, switched.node_chips, switched.floor.node_cable_m) if switched.node_chips else fabric


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
    return dragonfly(s.p, s.a, s.h, s.groups, _floor(s.floor), s.arrangement)


def _leaf_spine(s: spec.LeafSpine) -> Fabric:
    return leaf_spine(s.endpoints, s.leaf_ports_down, s.spines, s.links_per_spine, s.rails, _floor(s.floor))


def _custom(s: spec.Custom) -> Fabric:
    from dcsim.fabric.custom import read_fabric

    return read_fabric(s.path)


def _floor(s: spec.FloorSpec) -> Floor:
    return Floor(s.node_cable_m, s.rack_cable_m, s.rack_width_m, s.row_pitch_m, s.tray_m, s.racks_per_row)


# Fabrics of switches, in whose nodes chips may have switches of their own.
_SWITCHED: dict[str, Callable[[Any], Fabric]] = {
    "dragonfly": _dragonfly,
    "dragonfly_plus": lambda s: dragonfly_plus(s.p, s.leaves, s.spines, s.h, s.groups, _floor(s.floor)),
    "slim_fly": lambda s: slim_fly(s.q, s.p, _floor(s.floor)),
    "hyperx": lambda s: hyperx(s.dims, s.p, s.cables, _floor(s.floor)),
    "fat_tree": lambda s: fat_tree(s.endpoints, s.radix, s.levels, s.oversubscription, _floor(s.floor)),
    "leaf_spine": _leaf_spine,
}
_OTHERS: dict[str, Callable[[Any], Fabric]] = {
    "lpu_dragonfly": _lpu_dragonfly,
    "rail_only": lambda s: rail_only(s.endpoints, s.node_chips, s.radix, _floor(s.floor)),
    "torus": lambda s: torus(s.dims, s.cable_m),
    "island": lambda s: island(s.chips, s.switch, s.cable_m),
    "custom": _custom,
}
