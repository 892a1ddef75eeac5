"""Compiled routing tables: distances, the links one step closer, and how often a lane rises along them."""

from __future__ import annotations

from typing import Any

from dcsim.kernels.jit import entry, leaf, part
from dcsim.network.packet.engine.state import DIMENSION_BITS

CROSSING = 1024  # leaving a node or a group outweighs any number of links inside
FAR = 1 << 28


@entry
def relax(source: Any, target: Any, weight: Any, usable: Any, distance: Any) -> None:
    """Lower distance[vertex, column] to that of the best neighbour plus the link's weight, until nothing moves."""
    moved = True
    while moved:
        moved = False
        for link in range(len(source)):
            if not usable[link]:
                continue
            here, there = distance[source[link]], distance[target[link]]
            for column in range(len(here)):
                near = there[column] + weight[link]
                if near < here[column]:
                    here[column] = near
                    moved = True


@entry
def gather_sets(
    first_link: Any,
    target: Any,
    weight: Any,
    dimension: Any,
    usable: Any,
    distance: Any,
    attached: Any,
    set_of: Any,
    sets: Any,
    end: int,
) -> int:
    """Fill set_of[vertex, column] with where in `sets` the links one step closer are; equal sets of a vertex are shared.

    Of links of several dimensions [link] only those of the lowest are taken. `attached[vertex, column]` marks targets the
    vertex itself serves. Returns the new end of `sets`.
    """
    for vertex in range(len(first_link) - 1):
        own = end
        for column in range(set_of.shape[1]):
            if attached[vertex, column]:
                set_of[vertex, column] = -1
                continue
            count = 0
            for link in range(first_link[vertex], first_link[vertex + 1]):
                if usable[link] and distance[target[link], column] + weight[link] == distance[vertex, column]:
                    if count > 0 and dimension[link] < dimension[sets[end + count]]:
                        count = 0
                    if count == 0 or dimension[link] == dimension[sets[end + count]]:
                        count += 1
                        sets[end + count] = link
            if count == 0 or distance[vertex, column] >= FAR:
                set_of[vertex, column] = -2
                continue
            sets[end] = count
            found = _find_set(sets, own, end)
            if found == end:
                end += 1 + count
            set_of[vertex, column] = found
    return end


@part
def _find_set(sets: Any, own: int, end: int) -> int:
    """The earlier set of this vertex (they begin at `own`) equal to the one written at `end`, or `end`."""
    index = own
    while index < end:
        same = True
        for i in range(sets[index] + 1):
            if sets[index + i] != sets[end + i]:
                same = False
                break
        if same:
            return index
        index += sets[index] + 1
    return end


@entry
def most_rises(source: Any, order: Any, target: Any, set_of: Any, sets: Any, column: int, first: Any, rises: Any) -> int:
    """The most times the lane rises on any minimal path to `column` that begins with one of the links `first` (bool[link]).

    A link of a higher dimension starts again from none. `rises` is scratch, int64[link].
    """
    for link in range(len(target)):
        source_set = set_of[source[link], column]
        rises[link] = 0 if first[link] and source_set >= 0 and _holds(sets, source_set, link) else -1
    most, moved = 0, True
    while moved:
        moved = False
        for link in range(len(target)):
            index = set_of[target[link], column]
            if rises[link] < 0 or index < 0:
                continue
            for i in range(sets[index]):
                onward = sets[index + 1 + i]
                count = rises[link] + (order[onward] <= order[link])
                if order[onward] >> DIMENSION_BITS > order[link] >> DIMENSION_BITS:
                    count = 0
                if count > rises[onward]:
                    rises[onward] = count
                    most = max(most, count)
                    moved = True
    return most


@leaf
def _holds(sets: Any, index: int, link: int) -> bool:
    """True if the link is in the set."""
    found = False
    for i in range(sets[index]):
        found |= sets[index + 1 + i] == link
    return found
