"""Where a piece of a program runs: the part of the fabric among its chips, and which parts are wired alike."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import FabricError
from dcsim.fabric.graph import Fabric, subgraph
from dcsim.network.lower import Piece
from dcsim.network.scheduled.schedule import check_reached
from dcsim.network.scheduled.slack import Margins, margins_of
from dcsim.network.tasks import MESSAGE, Tasks
from dcsim.spec.network import Clock

Int32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Place:
    """A part of the fabric with its own numbers; `vertices` and `links` give the fabric's.

    Two places of one `wiring` have the same links between the same of their chips. `chips` and `targets` [rank] are
    the place's numbers of the piece's ranks and of those its messages go to.
    """

    wiring: int
    fabric: Fabric
    vertices: Int32
    links: Int32
    chips: Int32
    targets: Int32

    def tasks(self, tasks: Tasks) -> Tasks:
        """A template's tasks on this place's chips."""
        return replace(tasks, chip=self.chips[tasks.chip], target=np.append(self.targets, np.int32(-1))[tasks.target])

    def links_of(self, links: Int32) -> Int32:
        """This place's number of each of the fabric's `links`, -1 for those elsewhere."""
        if not len(self.links):
            return np.full(len(links), -1, np.int32)
        order = np.argsort(self.links)
        at = order[np.minimum(np.searchsorted(self.links, links, sorter=order), len(self.links) - 1)]
        return np.where(self.links[at] == links, at, -1).astype(np.int32)


class Kept:
    """What was made for a place, by a key of all it follows from; forgotten when it takes too much memory."""

    def __init__(self, bytes_max: int = 64 << 20) -> None:
        self.bytes_max, self._bytes = bytes_max, 0
        self._items: dict[Hashable, Any] = {}

    def get(self, key: Hashable) -> Any:
        """What was put there, or None."""
        return self._items.get(key)

    def put(self, key: Hashable, item: Any, size_bytes: int) -> None:
        """Keep `item`; what was kept before goes when all together would take more than `bytes_max`."""
        if size_bytes > self.bytes_max:
            return
        if self._bytes + size_bytes > self.bytes_max:
            self._items.clear()
            self._bytes = 0
        self._items[key] = item
        self._bytes += size_bytes


class Places:
    """The places of one fabric, each made once: a piece's chips and all there is on the shortest ways of its messages.

    `kept` are compiled pieces, for other iterations on the same fabric.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self._turn: Int32 | None = None  # [vertex] of the stage it belongs to; a message passes no later one
        self._in_order: dict[tuple[tuple[int, ...], ...], Places] = {}
        self._places: dict[tuple[tuple[int, ...], tuple[int, ...], bytes], Place] = {}
        self._shared: dict[tuple[int, int], Int32] = {}
        self._wirings: dict[tuple[bytes, ...], int] = {}
        self._margins: dict[str, Margins] = {}
        self.kept = Kept()

    def in_order(self, chips: Sequence[tuple[int, ...]]) -> Places:
        """Places whose messages pass over chips of earlier pieces and idle ones alone, where there is such a way."""
        key = tuple(dict.fromkeys(chips))
        if key not in self._in_order:
            places = Places(self.fabric)
            places._turn = np.full(self.fabric.vertex_count, -1, np.int32)
            for turn, own in enumerate(key):
                places._turn[list(own)] = turn
            self._in_order[key] = places
        return self._in_order[key]

    def of(self, piece: Piece, pairs: Int32) -> Place:
        """Where `piece`, with messages between these ranks, runs. Raises FabricError when one cannot reach its target."""
        key = piece.chips, piece.targets, pairs.tobytes()
        if key not in self._places:
            self._places[key] = self._make(piece, pairs)
        return self._places[key]

    def margins(self, clock: Clock) -> Margins:
        """How far its chips' clocks can be out of step."""
        key = clock.model_dump_json()
        if key not in self._margins:
            self._margins[key] = margins_of(self.fabric, clock)
        return self._margins[key]

    def shared_links(self, place: Place, other: Place) -> Int32:
        """[link of `place`] the number of the same link in `other`, -1 if it is not there."""
        key = id(place), id(other)
        if key not in self._shared:
            self._shared[key] = other.links_of(place.links)
        return self._shared[key]

    def _make(self, piece: Piece, pairs: Int32) -> Place:
        ends = np.array(list(dict.fromkeys(piece.chips + piece.targets)), np.int32)
        chips, targets = np.array(piece.chips, np.int32), np.array(piece.targets, np.int32)
        vertices = self._between(chips[pairs[:, 0]], targets[pairs[:, 1]], ends)
        number = np.full(self.fabric.vertex_count, -1, np.int32)
        number[vertices] = np.arange(len(vertices), dtype=np.int32)
        part, links = subgraph(self.fabric, vertices)
        wiring = part.first_link.tobytes(), part.link_target.tobytes(), number[chips].tobytes(), number[targets].tobytes()
        number_of_wiring = self._wirings.setdefault(wiring, len(self._wirings))
        return Place(number_of_wiring, part, vertices, links, number[chips], number[targets])

    def _between(self, sources: Int32, targets: Int32, ends: Int32) -> Int32:
        """The vertices on shortest ways, of those that may be passed."""
        if self._turn is not None:
            passed = self._turn <= self._turn[ends[0]]
            passed[ends] = True
            open_ = np.concatenate([ends, np.setdiff1d(np.flatnonzero(passed), ends)]).astype(np.int32)
            number = np.full(self.fabric.vertex_count, -1, np.int32)
            number[open_] = np.arange(len(open_), dtype=np.int32)
            part, _ = subgraph(self.fabric, open_)
            try:
                return np.asarray(open_[vertices_between(part, number[sources], number[targets], number[ends])])
            except FabricError:
                pass  # only over later ones
        return vertices_between(self.fabric, sources, targets, ends)


def message_pairs(tasks: Tasks) -> Int32:
    """[pair, 2] ranks that some message goes between."""
    message = tasks.kind == MESSAGE
    return np.unique(np.stack([tasks.chip[message], tasks.target[message]], axis=1), axis=0)


def vertices_between(fabric: Fabric, sources: Int32, targets: Int32, first: Int32) -> Int32:
    """The vertices of `first`, then all others on a shortest way sources[i] -> targets[i], in the order they are met.

    Raises FabricError when there is no way.
    """
    from dcsim.network.scheduled.paths_kernel import distances_to, vertices_between

    column, distance = distances_to(fabric.first_link, fabric.link_target, sources, targets)
    check_reached(sources, targets, distance[sources, column[targets]])
    return vertices_between(fabric.first_link, fabric.link_target, column, distance, sources, targets, first)
