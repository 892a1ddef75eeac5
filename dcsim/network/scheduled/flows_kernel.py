"""From one message to flows: which paths, how many vectors on each, which cycle on each link; compiled.

A flow is a run of a message's vectors over one path: a burst on each link of the path, all with the same
count and stride. A path is a first link out of the source, then a shortest way. First links that keep the
distance are minimal; those that make it one hop longer are detours, and such a path cannot return.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.kernels.jit import leaf, part
from dcsim.network.scheduled.links_kernel import CLAIM, FREE, Links, earliest, fitting, grown, occupy, taken_by_others

Array = NDArray[Any]

HOPS_MAX = 127  # longest path a message may take, in links
PATHS_MAX = 32  # paths one message may be spread over
WAIT_LEAST = 48  # cycles a flow may wait for room as a whole before it is cut
WAIT_PART = 8  # or this part of its own length

# The fabric and the figures a flow needs. `hop` includes the slack; `wait_max` is the longest wait for a link;
# `most_hops` the farthest that any message of the program goes. Strides are `step` times or divided by a whole number, and
# a stream takes at least `spread` cycles; 1 and 0: streams go as they come.
Ways = namedtuple(
    "Ways",
    [
        "first_link",
        "link_target",
        "row",
        "distance",
        "hop",
        "forward",
        "send",
        "receive",
        "wait_max",
        "detours_max",
        "most_hops",
        "step",
        "spread",
    ],
)

# Growing output, for a Schedule: `runs` [flow, 4] and `paces` [flow, 2] with the columns below, the bursts of all flows in
# order, and how many flows and bursts there are, `used` [2]. Few arrays, as compiled code copies each one's shape a call.
Flows = namedtuple("Flows", ["runs", "paces", "burst_link", "burst_start", "used"])
TASK, FIRST_VECTOR, VECTOR_STEP, VECTORS = range(4)
STRIDE, BURSTS_END = range(2)


def make_flows(flow_room: int, burst_room: int) -> Flows:
    """Empty output; large arrays come from numpy, which asks for huge pages."""
    return Flows(
        np.empty((flow_room, 4), np.int32),
        np.empty((flow_room, 2), np.int64),
        np.empty(burst_room, np.int32),
        np.empty(burst_room, np.int64),
        np.zeros(2, np.int64),
    )


@leaf
def lacks_flows(out: Flows, flow_room: int, burst_room: int) -> Any:
    """Whether that many more flows and bursts might not fit."""
    return out.used[0] + flow_room > len(out.runs) or out.used[1] + burst_room > len(out.burst_link)


@part(makes_arrays=True)
def grow_flows(out: Flows, flow_room: int, burst_room: int) -> Flows:
    """The same output with room for that many more flows and bursts."""
    flows, bursts = out.used
    return Flows(
        grown(out.runs, flows, flow_room),
        grown(out.paces, flows, flow_room),
        grown(out.burst_link, bursts, burst_room),
        grown(out.burst_start, bursts, burst_room),
        out.used,
    )


@part
def claimed_link(ways: Ways, task: int, source: int, target: int) -> Any:
    """The first link a message counts on before it is placed: one of its minimal ones, in turn by task."""
    table = ways.distance[:, ways.row[target]]
    wanted = table[source] - 1
    begin, end = ways.first_link[source], ways.first_link[source + 1]
    count = 0
    for link in range(begin, end):
        count += table[ways.link_target[link]] == wanted
    turn = task % count
    for link in range(begin, end):
        if table[ways.link_target[link]] == wanted:
            if turn == 0:
                return link
            turn -= 1
    return -1


@leaf
def _next_link(ways: Ways, links: Links, table: Array, vertex: int, cycle: int, span: int) -> Any:
    """The minimal link out of `vertex` that is free first; the lowest index of equals."""
    wanted = table[vertex] - 1
    best, best_free = -1, 0
    for link in range(ways.first_link[vertex], ways.first_link[vertex + 1]):
        if table[ways.link_target[link]] == wanted:
            free = max(links.state[link, FREE], cycle) + links.state[link, CLAIM]
            free += taken_by_others(links, link, cycle, span)
            if best < 0 or free < best_free:
                best, best_free = link, free
    return best


@leaf
def _walk(ways: Ways, links: Links, target: int, first: int, cycle: int, span: int, path: Array) -> tuple[int, int]:
    """Fill `path` from link `first` to `target`; returns its hops and the cycle a lone vector may arrive."""
    table = ways.distance[:, ways.row[target]]
    link, hops = first, 0
    while True:
        path[hops] = link
        hops += 1
        taken = taken_by_others(links, link, cycle, span)
        cycle = max(links.state[link, FREE], cycle) + links.state[link, CLAIM] + taken + ways.hop
        vertex = ways.link_target[link]
        if vertex == target:
            return hops, cycle + ways.receive
        cycle += ways.forward
        link = _next_link(ways, links, table, vertex, cycle, span)


@part
def lone_path(ways: Ways, links: Links, source: int, target: int, ready: int, path: Array) -> Any:
    """The minimal path that is free first, for one vector; fills `path` and returns its hops."""
    cycle = ready + ways.send
    first = _next_link(ways, links, ways.distance[:, ways.row[target]], source, cycle, 0)
    return _walk(ways, links, target, first, cycle, 0, path)[0]


@part
def find_paths(
    ways: Ways,
    links: Links,
    source: int,
    target: int,
    ready: int,
    vectors: int,
    span: int,
    paths: Array,
    hops: Array,
    arrival: Array,
) -> Any:
    """Candidate paths for a message of several vectors, soonest arrival first; returns how many.

    They may be spread over all minimal first links, and
    over detours if the link time of the whole message exceeds what one more hop costs. Fills `paths`
    [path, hop], `hops` [path] and `arrival` [path], the cycle at which its first vector may be there.
    """
    table = ways.distance[:, ways.row[target]]
    cycle = ready + ways.send
    count = 0
    most = PATHS_MAX - ways.detours_max
    for extra in range(2):
        if extra == 1:
            if vectors * links.slot <= ways.hop + ways.forward:
                break
            most = count + ways.detours_max
        for link in range(ways.first_link[source], ways.first_link[source + 1]):
            if count < most and table[ways.link_target[link]] == table[source] - 1 + extra:
                hops[count], arrival[count] = _walk(ways, links, target, link, cycle, span, paths[count])
                count += 1
    _sort_paths(count, paths, hops, arrival)
    return count


@part
def _sort_paths(count: int, paths: Array, hops: Array, arrival: Array) -> None:
    """Insertion sort by arrival; equals keep their order."""
    for i in range(1, count):
        j = i
        while j > 0 and arrival[j - 1] > arrival[j]:
            arrival[j - 1], arrival[j] = arrival[j], arrival[j - 1]
            hops[j - 1], hops[j] = hops[j], hops[j - 1]
            for k in range(max(hops[j - 1], hops[j])):
                paths[j - 1, k], paths[j, k] = paths[j, k], paths[j - 1, k]
            j -= 1


@part
def place_flow(
    ways: Ways,
    links: Links,
    out: Flows,
    path: Array,
    hops: int,
    ready: int,
    task: int,
    first_vector: int,
    vector_step: int,
    vectors: int,
    stride: int,
    spot: Array,
) -> Any:
    """Give vectors that go one path their cycles and write them down; returns the arrival of the first.

    They go as one flow if that need not wait much; else as many as find room without waiting for each other, and so on
    with the rest. `spot` [hop] is scratch.
    """
    step = ways.hop + ways.forward
    placed, first = 0, 0
    while placed < vectors:
        part = vectors - placed
        cycle, pace = ready + placed * stride + ways.send, stride
        _find_room(ways, links, path, hops, cycle, part, stride, spot)
        wait = spot[hops - 1] - cycle - (hops - 1) * step
        if part > 1 and wait > max(WAIT_LEAST, part * stride // WAIT_PART):
            _find_room(ways, links, path, hops, cycle, 1, stride, spot)
            wait = spot[0] - cycle  # at its source: what the next ones are ready by
            hurried = part
            if wait > 0 and stride > links.slot:
                hurried = min(part, 1 + wait // (stride - links.slot))
                for h in range(hops):
                    hurried = fitting(links, path[h], spot[h], hurried, links.slot)
                if hurried > 1:
                    pace, part = links.slot, hurried
            if pace == stride:
                for h in range(hops):
                    part = fitting(links, path[h], spot[h], part, stride)
        if placed == 0:
            first = spot[hops - 1] + ways.hop + ways.receive
        _write_flow(links, out, path, hops, task, first_vector + placed * vector_step, vector_step, part, pace, spot)
        placed += part
    return first


@leaf
def _find_room(ways: Ways, links: Links, path: Array, hops: int, cycle: int, vectors: int, stride: int, spot: Array) -> None:
    """Into `spot` [hop] when each link of the path is to carry the first vector of a flow that may leave in `cycle`.

    Vectors wait in a chip for their next link at most `wait_max` cycles (see `Ways`): when a link is free only
    later than that, the flow leaves the previous chip later. As a link carries one vector a slot, no more than
    wait_max / slot vectors can then ever wait for it.
    """
    step = ways.hop + ways.forward
    h, found = 0, 0
    while h < hops:
        # What was found for a link holds as long as the flow is there no later: nothing sooner was free.
        if h >= found or spot[h] < cycle:
            spot[h] = earliest(links, path[h], cycle, vectors, stride)
            found = max(found, h + 1)
        if h > 0 and spot[h] - spot[h - 1] - step > ways.wait_max:
            h -= 1
            cycle = spot[h + 1] - step - ways.wait_max
        else:
            cycle = spot[h] + step
            h += 1


@leaf
def _write_flow(
    links: Links,
    out: Flows,
    path: Array,
    hops: int,
    task: int,
    first_vector: int,
    vector_step: int,
    vectors: int,
    stride: int,
    spot: Array,
) -> None:
    """Take the room found, and add the flow to the output."""
    flow, burst = out.used
    for h in range(hops):
        out.burst_link[burst + h], out.burst_start[burst + h] = path[h], spot[h]
        occupy(links, path[h], spot[h], vectors, stride)
    out.runs[flow, TASK], out.runs[flow, FIRST_VECTOR] = task, first_vector
    out.runs[flow, VECTOR_STEP], out.runs[flow, VECTORS] = vector_step, vectors
    out.paces[flow, STRIDE], out.paces[flow, BURSTS_END] = stride, burst + hops
    out.used[0] += 1
    out.used[1] += hops
