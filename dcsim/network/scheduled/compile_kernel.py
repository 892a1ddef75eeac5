"""List scheduling of a program, compiled: the task that can start first is placed first."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.kernels.jit import entry, part
from dcsim.network.scheduled.flows_kernel import (
    BURSTS_END,
    FIRST_VECTOR,
    HOPS_MAX,
    PATHS_MAX,
    STRIDE,
    VECTOR_STEP,
    VECTORS,
    Flows,
    Ways,
    claimed_link,
    find_paths,
    grow_flows,
    lacks_flows,
    lone_path,
    place_flow,
)
from dcsim.network.scheduled.links_kernel import CLAIM, PAGE, Links, grow_links, lacks_links

Array = NDArray[Any]

# The program: `table` [task, 8] has the columns below (a message's vectors, 0 for compute, in place of its
# bytes), `before` the predecessors `before_start[t]:before_start[t + 1]` of each task. A predecessor p below 0 stands
# for what came before the program: rows `given_start[-1 - p]:given_start[-p]` of `given` [row, 2], its outputs' first
# and last cycles.
Program = namedtuple("Program", ["table", "before_start", "before", "given_start", "given"])
CHIP, TARGET, SIZE, FIRST_CYCLES, LAST_CYCLES, ROWS, LEAD_ROWS = range(7)

# What each task gets: see Schedule for start, first_out and last_out [task]. `state` [task, 4]: READY_LAST is when the
# last predecessor ends; WAITING counts unplaced predecessors; CLAIMED is the link it counts on before it is placed, or -1.
Times = namedtuple("Times", ["start", "first_out", "last_out", "state"])
READY_LAST, WAITING, CLAIMED = range(3)


@entry(makes_arrays=True)
def successors(before_start: Array, before: Array) -> tuple[Array, Array]:
    """Offsets and tasks that wait for each task."""
    count = len(before_start) - 1
    offset = np.zeros(count + 1, np.int64)
    for other in before:
        if other >= 0:
            offset[other + 1] += 1
    offset = np.cumsum(offset)
    place = offset.copy()
    after = np.empty(offset[count], np.int32)
    for task in range(count):
        for i in range(before_start[task], before_start[task + 1]):
            other = before[i]
            if other >= 0:
                after[place[other]] = task
                place[other] += 1
    return offset, after


@entry(makes_arrays=True)
def remaining_cycles(
    table: Array,
    column: Array,
    distance: Array,
    path_cycles: Array,
    slot: int,
    offset: Array,
    after: Array,
) -> Array:
    """Cycles from each task's start to the end of the longest chain behind it, links idle; `path_cycles` [hops]."""
    remaining = np.zeros(len(table), np.int64)
    for task in range(len(table) - 1, -1, -1):
        longest = 0
        for i in range(offset[task], offset[task + 1]):
            longest = max(longest, remaining[after[i]])
        own = table[task, LAST_CYCLES]
        if table[task, SIZE] > 0:
            own = path_cycles[distance[table[task, CHIP], column[table[task, TARGET]]]] + (table[task, SIZE] - 1) * slot
        remaining[task] = own + longest
    return remaining


@part
def _push(heap: Array, size: int, key: int) -> None:
    at = size
    while at > 0 and heap[(at - 1) // 2] > key:
        heap[at] = heap[(at - 1) // 2]
        at = (at - 1) // 2
    heap[at] = key


@part
def _pop(heap: Array, size: int) -> None:
    """Drop the smallest key, the first; the caller lowers its size by one."""
    last = heap[size - 1]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size - 1:
            break
        if child + 1 < size - 1 and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= last:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = last


@part
def release(program: Program, task: int, first_out: Array, last_out: Array) -> tuple[int, int]:
    """A task's start and when its last input is there, from the outputs before it (the rule of network/tasks.py)."""
    start, ready_last = 0, 0
    rows, lead_rows = program.table[task, ROWS], program.table[task, LEAD_ROWS]
    for i in range(program.before_start[task], program.before_start[task + 1]):
        other = program.before[i]
        if other >= 0:
            first, last = first_out[other], last_out[other]
            start = max(start, first + (last - first) * lead_rows // rows)
            ready_last = max(ready_last, last)
        else:
            for row in range(program.given_start[-1 - other], program.given_start[-other]):
                first, last = program.given[row, 0], program.given[row, 1]
                start = max(start, first + (last - first) * lead_rows // rows)
                ready_last = max(ready_last, last)
    return start, max(start, ready_last)


@part
def _ready(start: int, ready_last: int, vectors: int, k: int) -> Any:
    """Cycle at which vector `k` of a message may leave: evenly from start to ready_last."""
    return start + ((ready_last - start) * k + vectors - 2) // (vectors - 1)


@part
def _stride(ways: Ways, slot: int, span: int, open_paths: int, vectors: int) -> Any:
    """Cycles between vectors on each of so many paths, of a message whose vectors are ready over `span` cycles.

    In step, the nearest to that: a smaller stride starts later, to end when the last vector is ready, a larger one ends later.
    """
    pace = max(slot, -(-(ways.spread // vectors) // slot) * slot, -(-span * open_paths // (vectors - 1)))
    if ways.step == 1:
        return pace
    if 2 * pace > ways.step:
        return max(1, (2 * pace + ways.step - 1) // (2 * ways.step)) * ways.step
    return ways.step // min((2 * ways.step + pace) // (2 * pace), ways.step // slot)


@part
def _place_message(
    table: Array,
    ways: Ways,
    links: Links,
    out: Flows,
    task: int,
    start: int,
    ready_last: int,
    scratch: tuple[Array, ...],
) -> tuple[int, int]:
    """Spread a message of several vectors over paths and place its flows; returns when its first and last vectors are there
    (see `_line`).

    Vectors go to the path whose next slot arrives first: while only q paths are open (the others arrive later
    than these can carry), the vectors go round these q, so vectors arrive in their order and each round is q
    flows. A stream in step that leaves room for others takes one path.
    """
    paths, hops, arrival, spot = scratch
    source, target, vectors = table[task, CHIP], table[task, TARGET], table[task, SIZE]
    slot = links.slot
    ready = _ready(start, ready_last, vectors, 0)
    count = find_paths(ways, links, source, target, ready, vectors, max(ready_last - start, vectors * slot), paths, hops, arrival)
    if ways.step > 1 and _stride(ways, slot, ready_last - start, 1, vectors) >= 2 * slot:
        count = 1
    k, first_flow = 0, out.used[0]
    for open_paths in range(1, count + 1):
        take = vectors - k
        if open_paths < count:
            take = min(take, open_paths * ((arrival[open_paths] - arrival[open_paths - 1]) // slot))
        for p in range(min(open_paths, take)):
            run = (take - p + open_paths - 1) // open_paths
            stride = _stride(ways, slot, ready_last - start, open_paths, vectors)
            ready = max(
                _ready(start, ready_last, vectors, k + p),
                _ready(start, ready_last, vectors, k + p + (run - 1) * open_paths) - (run - 1) * stride,
            )
            place_flow(ways, links, out, paths[p], hops[p], ready, task, k + p, open_paths, run, stride, spot)
        k += take
    return _line(out, first_flow, vectors, ways.hop + ways.receive)


@part
def _line(out: Flows, first_flow: int, vectors: int, tail: int) -> tuple[int, int]:
    """When the last vector of the flows from `first_flow` on is there, and the smallest start of a line to it that no
    vector is behind: vector k is there by first + (last - first) k / (vectors - 1). `tail`: from the last link to there.
    """
    last = 0
    for flow in range(first_flow, out.used[0]):
        there = out.burst_start[out.paces[flow, BURSTS_END] - 1] + tail
        last = max(last, there + (out.runs[flow, VECTORS] - 1) * out.paces[flow, STRIDE])
    first = 0
    for flow in range(first_flow, out.used[0]):
        there = out.burst_start[out.paces[flow, BURSTS_END] - 1] + tail
        count, stride = np.int64(out.runs[flow, VECTORS]), out.paces[flow, STRIDE]
        k, step = np.int64(out.runs[flow, FIRST_VECTOR]), np.int64(out.runs[flow, VECTOR_STEP])
        for j in (0, count - 1):
            left = vectors - 1 - k - j * step
            if left > 0:
                first = max(first, -((last * (k + j * step) - (there + j * stride) * (vectors - 1)) // left))
    return first, last


@part
def operation_out(table: Array, task: int, start: int, ready_last: int) -> tuple[int, int]:
    """First and last output of a compute operation (the rule of network/tasks.py)."""
    first = table[task, FIRST_CYCLES]
    return start + first, max(start + table[task, LAST_CYCLES], ready_last + first)


@part
def _room(program: Program, ways: Ways, links: Links, times: Times, task: int) -> tuple[int, int, int]:
    """Most flows, bursts and pages of link time that placing a task can add."""
    source, vectors = program.table[task, CHIP], program.table[task, SIZE]
    if vectors == 0 or source == program.table[task, TARGET]:
        return 0, 0, 0
    paths = 1 if vectors == 1 else min(PATHS_MAX, ways.first_link[source + 1] - ways.first_link[source])
    flows, hops = paths * (paths + 1) // 2 + vectors, ways.most_hops + 1
    # All is free behind the end of everything, and no stride is more than a few times what spreads the vectors evenly.
    span = times.state[task, READY_LAST] - times.start[task] + ways.spread + (vectors + 1) * links.slot
    behind = max(0, links.used[2] - times.start[task]) + hops * (ways.hop + ways.forward)
    pages = min(2 * vectors, paths * ((behind + 6 * span + 2 * ways.step >> PAGE) + 3))
    return flows, flows * hops, hops * pages


@entry(makes_arrays=True)
def place_all(
    program: Program,
    ways: Ways,
    order: Array,
    rank: Array,
    offset: Array,
    after: Array,
    links: Links,
    out: Flows,
    times: Times,
) -> Flows:
    """Place every task: fills `times` and returns the flows."""
    count = len(program.table)
    scratch = (
        np.empty((PATHS_MAX, HOPS_MAX), np.int64),
        np.empty(PATHS_MAX, np.int64),
        np.empty(PATHS_MAX, np.int64),
        np.empty(HOPS_MAX, np.int64),
    )
    first = _without_predecessors(program, ways, order, rank, links, times)
    heap, at = np.empty(count - len(first), np.int64), np.zeros(2, np.int64)
    while True:
        task = _place_on(program, ways, order, rank, offset, after, links, out, times, first, heap, at, scratch)
        if task < 0:
            return out
        flow_room, burst_room, pages = _room(program, ways, links, times, task)
        if lacks_flows(out, flow_room, burst_room):
            out = grow_flows(out, flow_room, burst_room)
        if lacks_links(links, burst_room, pages):
            links = grow_links(links, burst_room, pages)


@part
def _place_on(
    program: Program,
    ways: Ways,
    order: Array,
    rank: Array,
    offset: Array,
    after: Array,
    links: Links,
    out: Flows,
    times: Times,
    first: Array,
    heap: Array,
    at: Array,
    scratch: tuple[Array, ...],
) -> Any:
    """Place tasks until one may not find room in `links` or `out`: returns it, or -1 when all are placed.

    `at` [2] is where it goes on: how many of `first`, which have no predecessors, are placed, and the heap's size.
    """
    count = len(program.table)
    cursor, size = at
    task = -1
    while cursor < len(first) or size > 0:
        early = size == 0 or (cursor < len(first) and first[cursor] < heap[0])
        task = order[(first[cursor] if early else heap[0]) % count]
        flow_room, burst_room, pages = _room(program, ways, links, times, task)
        if lacks_flows(out, flow_room, burst_room) or lacks_links(links, burst_room, pages):
            break
        if early:
            cursor += 1
        else:
            _pop(heap, size)
            size -= 1
        _place(program.table, ways, links, out, times, task, scratch)
        for i in range(offset[task], offset[task + 1]):
            other = int(after[i])
            times.state[other, WAITING] -= 1
            if times.state[other, WAITING] == 0:
                _release(program, ways, links, times, other)
                _push(heap, size, times.start[other] * count + rank[other])
                size += 1
        task = -1
    at[0], at[1] = cursor, size
    return task


@part(makes_arrays=True)
def _without_predecessors(
    program: Program,
    ways: Ways,
    order: Array,
    rank: Array,
    links: Links,
    times: Times,
) -> Array:
    """Counts every task's predecessors within the program; returns the keys of tasks with none, sorted."""
    count, firsts, in_order = len(program.table), 0, True
    first = np.empty(count, np.int64)
    for task in range(count):
        waiting = 0
        for i in range(program.before_start[task], program.before_start[task + 1]):
            waiting += program.before[i] >= 0
        times.state[task, WAITING] = waiting
        if waiting == 0:
            _release(program, ways, links, times, task)
    for task in order:
        if times.state[task, WAITING] == 0:
            first[firsts] = times.start[task] * count + rank[task]
            in_order &= firsts == 0 or first[firsts - 1] < first[firsts]
            firsts += 1
    return first[:firsts] if in_order else np.sort(first[:firsts])


@part
def _release(program: Program, ways: Ways, links: Links, times: Times, task: int) -> None:
    """Set when a task may start; a message lets others know which link it is about to take.

    Without this the first message of an exchange would spread over links its neighbours need.
    """
    times.start[task], times.state[task, READY_LAST] = release(program, task, times.first_out, times.last_out)
    times.state[task, CLAIMED] = -1
    if program.table[task, SIZE] > 1 and program.table[task, CHIP] != program.table[task, TARGET]:
        link = claimed_link(ways, task, program.table[task, CHIP], program.table[task, TARGET])
        times.state[task, CLAIMED] = link
        links.state[link, CLAIM] += program.table[task, SIZE] * links.slot


@part
def _place(
    table: Array,
    ways: Ways,
    links: Links,
    out: Flows,
    times: Times,
    task: int,
    scratch: tuple[Array, ...],
) -> None:
    """Place one task: an operation needs no link, a message to its own chip no time."""
    start, ready_last = times.start[task], times.state[task, READY_LAST]
    if table[task, SIZE] == 0:
        first, last = operation_out(table, task, start, ready_last)
    elif table[task, CHIP] == table[task, TARGET]:
        first, last = start, ready_last
    else:
        if times.state[task, CLAIMED] >= 0:
            links.state[times.state[task, CLAIMED], CLAIM] -= table[task, SIZE] * links.slot
        if table[task, SIZE] == 1:
            paths, _, _, spot = scratch
            hops = lone_path(ways, links, table[task, CHIP], table[task, TARGET], ready_last, paths[0])
            first = place_flow(ways, links, out, paths[0], hops, ready_last, task, 0, 1, 1, links.slot, spot)
            last = first
        else:
            first, last = _place_message(table, ways, links, out, task, start, ready_last, scratch)
    times.first_out[task], times.last_out[task] = first, last
