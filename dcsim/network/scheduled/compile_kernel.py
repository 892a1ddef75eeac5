"""List scheduling of a program, compiled: the task that can start first is placed first."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dcsim.network.scheduled.flows_kernel import (
    HOPS_MAX,
    PATHS_MAX,
    Flows,
    Ways,
    claimed_link,
    find_paths,
    grow_flows,
    lacks_flows,
    place_flow,
)
from dcsim.network.scheduled.links_kernel import CLAIM, Links, grow_links, lacks_links

Array = NDArray[Any]

# The program: `table` [task, 8] has the columns below (a message's vectors, 0 for compute, in place of its
# bytes), `before` the predecessors `before_start[t]:before_start[t + 1]` of each task.
Program = namedtuple("Program", ["table", "before_start", "before"])
CHIP, TARGET, SIZE, FIRST_CYCLES, LAST_CYCLES, ROWS, LEAD_ROWS = range(7)

# What each task gets, `times` [task, 8]: see Schedule for START, FIRST_OUT and LAST_OUT. READY_LAST is when the
# last predecessor ends; HOPS a message's distance; IDLE the time of its vectors, had it its paths to itself;
# WAITING counts unplaced predecessors; CLAIMED is the link it counts on before it is placed, or -1.
START, FIRST_OUT, LAST_OUT, READY_LAST, HOPS, IDLE, WAITING, CLAIMED = range(8)

FLOWS_PER_MESSAGE = PATHS_MAX * (PATHS_MAX + 1) // 2


@njit(cache=True)
def successors(program: Program) -> tuple[Array, Array]:
    """Offsets and tasks that wait for each task."""
    count = len(program.table)
    offset = np.zeros(count + 1, np.int64)
    for other in program.before:
        offset[other + 1] += 1
    offset = np.cumsum(offset)
    place = offset.copy()
    after = np.empty(len(program.before), np.int32)
    for task in range(count):
        for i in range(program.before_start[task], program.before_start[task + 1]):
            other = program.before[i]
            after[place[other]] = task
            place[other] += 1
    return offset, after


@njit(cache=True)
def remaining_cycles(program: Program, ways: Ways, slot: int, offset: Array, after: Array) -> Array:
    """Cycles from each task's start to the end of the longest chain behind it, links idle."""
    remaining = np.zeros(len(program.table), np.int64)
    for task in range(len(program.table) - 1, -1, -1):
        longest = 0
        for i in range(offset[task], offset[task + 1]):
            longest = max(longest, remaining[after[i]])
        own = program.table[task, LAST_CYCLES]
        if program.table[task, SIZE] > 0:
            hops = ways.distance[ways.row[program.table[task, TARGET]], program.table[task, CHIP]]
            own = _path_cycles(ways, hops) + (program.table[task, SIZE] - 1) * slot
        remaining[task] = own + longest
    return remaining


@njit(cache=True)
def _path_cycles(ways: Ways, hops: int) -> Any:
    if hops == 0:
        return 0
    return ways.send + ways.receive + hops * ways.hop + (hops - 1) * ways.forward


@njit(cache=True)
def _push(heap: Array, size: int, key: int) -> None:
    at = size
    while at > 0 and heap[(at - 1) // 2] > key:
        heap[at] = heap[(at - 1) // 2]
        at = (at - 1) // 2
    heap[at] = key


@njit(cache=True)
def _pop(heap: Array, size: int) -> Any:
    """The smallest key; the caller lowers its size by one."""
    top, last = heap[0], heap[size - 1]
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
    return top


@njit(cache=True)
def _release(program: Program, task: int, times: Array) -> None:
    """A task's start, from the first and last outputs of those before it (the rule of network/tasks.py)."""
    start, ready_last = 0, 0
    for i in range(program.before_start[task], program.before_start[task + 1]):
        first, last = times[program.before[i], FIRST_OUT], times[program.before[i], LAST_OUT]
        lead = (last - first) * program.table[task, LEAD_ROWS] // program.table[task, ROWS]
        start = max(start, first + lead)
        ready_last = max(ready_last, last)
    times[task, START], times[task, READY_LAST] = start, max(start, ready_last)


@njit(cache=True)
def _ready(start: int, ready_last: int, vectors: int, k: int) -> Any:
    """Cycle at which vector `k` of a message may leave: evenly from start to ready_last."""
    if vectors == 1:
        return ready_last
    return start + ((ready_last - start) * k + vectors - 2) // (vectors - 1)


@njit(cache=True)
def _place_message(
    program: Program, ways: Ways, links: Links, out: Flows, times: Array, task: int,
    scratch: tuple[Array, ...],
) -> None:
    """Spread a message over paths, place its flows, and set when its first and last vectors are there.

    Vectors go to the path whose next slot arrives first: while only q paths are open (the others arrive later
    than these can carry), the vectors go round these q, so vectors arrive in their order and each round is q
    flows. `first_out` is the latest line's start such that no vector arrives after the line.
    """
    paths, hops, arrival, carried, ends = scratch
    source, target, vectors = program.table[task, CHIP], program.table[task, TARGET], program.table[task, SIZE]
    start, ready_last = times[task, START], times[task, READY_LAST]
    slot = links.slot
    ready = _ready(start, ready_last, vectors, 0)
    count = find_paths(ways, links, source, target, ready, vectors, paths, hops, arrival)
    times[task, HOPS] = ways.distance[ways.row[target], source]
    if vectors == 1:
        there = place_flow(ways, links, out, paths[0], hops[0], ready, task, 0, 1, 1, slot)
        times[task, FIRST_OUT], times[task, LAST_OUT] = there, there
        times[task, IDLE] = _path_cycles(ways, hops[0])
        return
    carried[:count] = 0
    k, last, end_count = 0, 0, 0
    for open_paths in range(1, count + 1):
        take = vectors - k
        if open_paths < count:
            take = min(take, open_paths * ((arrival[open_paths] - arrival[open_paths - 1]) // slot))
        for p in range(min(open_paths, take)):
            run = (take - p + open_paths - 1) // open_paths
            stride = max(slot, -(-(ready_last - start) * open_paths // (vectors - 1)))
            ready = _ready(start, ready_last, vectors, k + p)
            there = place_flow(ways, links, out, paths[p], hops[p], ready, task, k + p, open_paths, run, stride)
            last = max(last, there + (run - 1) * stride)
            ends[end_count, 0], ends[end_count, 1] = k + p, there
            ends[end_count + 1, 0] = k + p + (run - 1) * open_paths
            ends[end_count + 1, 1] = there + (run - 1) * stride
            end_count += 2
            carried[p] += run
        k += take
    times[task, LAST_OUT] = last
    times[task, FIRST_OUT] = _line_start(vectors, last, ends, end_count)
    for p in range(count):
        if carried[p] > 0:
            alone = _path_cycles(ways, hops[p]) + (carried[p] - 1) * slot
            times[task, IDLE] = max(times[task, IDLE], alone)


@njit(cache=True)
def _line_start(vectors: int, last: int, ends: Array, end_count: int) -> Any:
    """Smallest F such that vector k is there by F + (last - F) k / (vectors - 1), for the ends of all flows."""
    first = 0
    for i in range(end_count):
        k, there = ends[i, 0], ends[i, 1]
        left = vectors - 1 - k
        if left > 0:
            first = max(first, -((last * k - there * (vectors - 1)) // left))
    return first


@njit(cache=True)
def _operation_out(program: Program, task: int, start: int, ready_last: int) -> tuple[int, int]:
    """First and last output of a compute operation (the rule of network/tasks.py)."""
    first = program.table[task, FIRST_CYCLES]
    return start + first, max(start + program.table[task, LAST_CYCLES], ready_last + first)


@njit(cache=True)
def _room(program: Program, ways: Ways, task: int) -> tuple[int, int]:
    """Most flows and bursts placing a task can add."""
    if program.table[task, SIZE] == 0 or program.table[task, CHIP] == program.table[task, TARGET]:
        return 0, 0
    degree = ways.first_link[program.table[task, CHIP] + 1] - ways.first_link[program.table[task, CHIP]]
    most_paths = 1 if program.table[task, SIZE] == 1 else min(PATHS_MAX, degree)
    flow_room = most_paths * (most_paths + 1) // 2
    return flow_room, flow_room * (ways.distance[ways.row[program.table[task, TARGET]], program.table[task, CHIP]] + 1)


@njit(cache=True)
def place_all(
    program: Program, ways: Ways, order: Array, rank: Array, offset: Array, after: Array, links: Links, out: Flows,
    times: Array,
) -> tuple[Flows, Links]:
    """Place every task: fills `times` and returns the flows and the links."""
    count = len(program.table)
    scratch = (np.empty((PATHS_MAX, HOPS_MAX), np.int32), np.empty(PATHS_MAX, np.int64),
               np.empty(PATHS_MAX, np.int64), np.empty(PATHS_MAX, np.int64),
               np.empty((2 * FLOWS_PER_MESSAGE, 2), np.int64))
    times[:] = 0
    times[:, WAITING] = np.diff(program.before_start)
    times[:, CLAIMED] = -1
    heap, size, cursor = np.empty(count, np.int64), 0, 0
    for task in range(count):
        if times[task, WAITING] == 0:
            _claim(program, ways, links, times, task)
    while True:
        # Tasks without predecessors all start at 0, so their order is that of their rank: no heap needed.
        while cursor < count and times[order[cursor], WAITING] != 0:
            cursor += 1
        if cursor < count and (size == 0 or heap[0] > cursor):
            task = order[cursor]
            cursor += 1
        elif size > 0:
            task = order[_pop(heap, size) % count]
            size -= 1
        else:
            break
        times[task, WAITING] = -1
        flow_room, burst_room = _room(program, ways, task)
        if lacks_flows(out, flow_room, burst_room):
            out = grow_flows(out, flow_room, burst_room)
        if lacks_links(links, burst_room):
            links = grow_links(links, burst_room)
        _place(program, ways, links, out, times, task, scratch)
        for i in range(offset[task], offset[task + 1]):
            other = after[i]
            times[other, WAITING] -= 1
            if times[other, WAITING] == 0:
                times[other, WAITING] = -2  # in the heap, not among those without predecessors
                _release(program, other, times)
                _claim(program, ways, links, times, other)
                _push(heap, size, times[other, START] * count + rank[other])
                size += 1
    return out, links


@njit(cache=True)
def _claim(program: Program, ways: Ways, links: Links, times: Array, task: int) -> None:
    """Let others know, before a message is placed, which link it is about to take.

    Without this the first message of an exchange would spread over links its neighbours need.
    """
    if program.table[task, SIZE] > 1 and program.table[task, CHIP] != program.table[task, TARGET]:
        times[task, CLAIMED] = claimed_link(ways, task, program.table[task, CHIP], program.table[task, TARGET])
        links.state[times[task, CLAIMED], CLAIM] += program.table[task, SIZE] * links.slot


@njit(cache=True)
def _place(
    program: Program, ways: Ways, links: Links, out: Flows, times: Array, task: int,
    scratch: tuple[Array, ...],
) -> None:
    """Place one task: an operation needs no link, a message to its own chip no time."""
    start = times[task, START]
    if program.table[task, SIZE] == 0:
        times[task, FIRST_OUT], times[task, LAST_OUT] = _operation_out(program, task, start, times[task, READY_LAST])
    elif program.table[task, CHIP] == program.table[task, TARGET]:
        times[task, FIRST_OUT], times[task, LAST_OUT] = start, times[task, READY_LAST]
    else:
        if times[task, CLAIMED] >= 0:
            links.state[times[task, CLAIMED], CLAIM] -= program.table[task, SIZE] * links.slot
        _place_message(program, ways, links, out, times, task, scratch)


@njit(cache=True)
def critical_cycles(program: Program, ways: Ways, times: Array) -> Any:
    """Makespan had every message, on the paths it was given, the links to itself."""
    alone = np.zeros_like(times)
    longest = 0
    for task in range(len(times)):
        _release(program, task, alone)
        start, ready_last = alone[task, START], alone[task, READY_LAST]
        if program.table[task, SIZE] == 0:
            first, last = _operation_out(program, task, start, ready_last)
        elif times[task, HOPS] == 0:
            first, last = start, ready_last
        else:
            path = _path_cycles(ways, times[task, HOPS])
            last = max(ready_last + path, start + times[task, IDLE])
            first = last if program.table[task, SIZE] == 1 else start + path
        alone[task, FIRST_OUT], alone[task, LAST_OUT] = first, last
        longest = max(longest, last)
    return longest
