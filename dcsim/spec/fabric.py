"""Fabrics: how chips, switches and cables are laid out. One section a kind; figures of links stand in `network`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from dcsim.spec.section import Count, Length, Positive, Section, some

Dimensions = Annotated[tuple[Positive, ...], AfterValidator(some)]


class FloorSpec(Section):
    """Where racks stand and how long cables are. All assumed: ordinary rack widths, aisles and cable trays."""

    node_cable_m: Length = Field(default=0.5, description="Cable inside a node.")
    rack_cable_m: Length = Field(default=2.0, description="Cable between two nodes of a rack.")
    rack_width_m: Length = Field(default=0.6, description="From one rack to the next in a row.")
    row_pitch_m: Length = Field(default=2.4, description="From one row of racks to the next.")
    tray_m: Length = Field(default=4.0, description="Up to the cable tray and down again, both ends together.")
    racks_per_row: Count = Field(default=0, description="Racks in a row; 0: as many as make the floor about square.")


class LpuDragonfly(Section):
    """Nodes of fully connected chips that forward for each other. Give `racks` or `nodes`."""

    kind: Literal["lpu_dragonfly"]
    racks: Count = Field(default=0, description="Whole racks, each with its spare nodes.")
    nodes: Count = Field(default=0, description="A number of nodes instead, none of them spare.")
    nodes_per_rack: Positive = Field(default=9, description="Nodes in a full rack, spares included.")
    spare_nodes_per_rack: Count = Field(default=1, description="Nodes of a rack that forward but do not compute.")
    chips_per_node: Positive = Field(default=8, description="Chips of a node, each cabled to all others.")
    local_ports: Count = Field(default=7, description="Ports of a chip into its node; default: the chip's, or 7.")
    global_ports: Positive = Field(default=4, description="Ports of a chip that leave its node; default: the chip's, or 4.")
    floor: FloorSpec = Field(default_factory=FloorSpec)

    @model_validator(mode="after")
    def _racks_or_nodes(self) -> LpuDragonfly:
        if bool(self.racks) == bool(self.nodes):
            raise ValueError("give either `racks` or `nodes`")
        if self.racks and self.spare_nodes_per_rack >= self.nodes_per_rack:
            raise ValueError("`spare_nodes_per_rack` must leave a node that computes")
        return self


class Switched(Section):
    """Chips behind switches; `node_chips` of them may share a node with an inner switch of its own."""

    node_chips: Count = Field(default=0, description="Chips of a node, joined by an island switch; 0: no islands.")
    floor: FloorSpec = Field(default_factory=FloorSpec)


class Dragonfly(Switched):
    """The canonical dragonfly: p chips a router, a routers a group, h global links a router."""

    kind: Literal["dragonfly"]
    p: Positive = Field(description="Chips at each router.")
    a: Positive = Field(description="Routers in each group, all joined to all.")
    h: Positive = Field(description="Global links of each router.")
    groups: Count = Field(default=0, description="Groups; 0: the most there can be, a h + 1.")
    arrangement: Literal["relative", "absolute", "circulant"] = Field(
        default="relative",
        description="Where a group's ports lead in turn: to the next groups, to all from group 0 on, or to those 1, -1, 2 away.",
    )


class DragonflyPlus(Switched):
    """Groups of leaves all joined to all spines, of which only spines have global links (also known as Megafly)."""

    kind: Literal["dragonfly_plus"]
    p: Positive = Field(description="Chips at each leaf.")
    leaves: Positive = Field(description="Leaves in each group.")
    spines: Positive = Field(description="Spines in each group.")
    h: Positive = Field(description="Global links of each spine.")
    groups: Count = Field(default=0, description="Groups; 0: the most there can be, spines x h + 1.")


class SlimFly(Switched):
    """2 q^2 routers of which any two are at most two hops apart."""

    kind: Literal["slim_fly"]
    q: int = Field(ge=3, le=223, strict=True, description="An odd prime: routers in a row.")
    p: Count = Field(default=0, description="Chips at each router; 0: half as many as its ports to others, rounded up.")


class HyperX(Switched):
    """A grid of routers in which those that differ in one coordinate are all joined."""

    kind: Literal["hyperx"]
    dims: Dimensions = Field(description="Routers along each dimension.")
    p: Positive = Field(description="Chips at each router.")
    cables: Positive = Field(default=1, description="Parallel cables between two routers.")


class FatTree(Switched):
    """Leaves, (aggregation) and core switches of one radix."""

    kind: Literal["fat_tree"]
    endpoints: Positive = Field(description="Chips, one adapter each.")
    radix: Positive = Field(default=64, description="Ports of a switch.")
    levels: Literal[2, 3] = Field(default=3, description="Tiers of switches.")
    oversubscription: float = Field(default=1.0, ge=1, description="Ports down over ports up at a leaf.")


class LeafSpine(Switched):
    """Leaves all joined to all spines; with rails, chip i of each node goes to rail i's own leaves."""

    kind: Literal["leaf_spine"]
    endpoints: Positive = Field(description="Chips, one adapter each.")
    leaf_ports_down: Positive = Field(default=32, description="Chips at a full leaf.")
    spines: Positive = Field(default=32, description="Spine switches.")
    links_per_spine: Positive = Field(default=1, description="Parallel cables from a leaf to each spine.")
    rails: Positive = Field(default=1, description="Sets of leaves; chip i uses set i modulo this.")


class RailOnly(Section):
    """Nodes with a switch of their own; chip i of each node on rail i; rails joined only through the nodes' chips."""

    kind: Literal["rail_only"]
    endpoints: Positive = Field(description="Chips, one adapter each.")
    node_chips: int = Field(ge=2, strict=True, description="Chips of a node, and rails.")
    radix: Positive = Field(default=64, description="Ports of a switch.")
    floor: FloorSpec = Field(default_factory=FloorSpec)


class Torus(Section):
    """Chips on a grid whose rows close to rings."""

    kind: Literal["torus"]
    dims: Dimensions = Field(description="Chips along each dimension.")
    cable_m: Length = Field(default=1.0, description="Every cable's length (assumed; folded rings are near equal).")


class Island(Section):
    """Chips all joined to all, or through one ideal switch."""

    kind: Literal["island"]
    chips: Positive = Field(description="Chips in all.")
    switch: bool = Field(default=False, description="Through one switch with a port for every chip.")
    cable_m: Length = Field(default=0.5, description="Every cable's length (assumed).")


class Custom(Section):
    """A graph from a file: node-link JSON or GraphML, as `dcsim topology` exports it."""

    kind: Literal["custom"]
    path: str = Field(description="The file; its ending (.json or .graphml) tells the format.")


FabricSpec = Annotated[
    LpuDragonfly | Dragonfly | DragonflyPlus | SlimFly | HyperX | FatTree | LeafSpine | RailOnly | Torus | Island | Custom,
    Field(discriminator="kind"),
]
