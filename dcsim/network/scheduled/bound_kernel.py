"""The bound of `bound.py`, compiled: when every task could end at the soonest, piece by piece."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.kernels.jit import entry, part

Array = NDArray[Any]

WAITERS_MAX = 64  # tasks of the next piece that are followed, one bit each; fewer make the bound no less true

# `vectors` [task] of each message, 0 for an operation; the rest as in network/tasks.py.
Program = namedtuple("Program", ["vectors", "first_cycles", "last_cycles", "rows", "lead_rows", "before_start", "before"])
Flows = namedtuple("Flows", ["task", "vectors", "burst_offset", "burst_link"])
Cycles = namedtuple("Cycles", ["slot", "hop", "forward", "send", "receive"])


@entry(makes_arrays=True)
def bound_cycles(
    program: Program,
    flows: Flows,
    order: Array,
    cycles: Cycles,
    begins: Array,
    ends: Array,
    link_count: int,
    links_shared: bool,
) -> Any:
    """The soonest end of all tasks; `order` lists flows by task, `begins` and `ends` the tasks of each piece.

    Without `links_shared` every message has its paths to itself.
    """
    count = len(program.vectors)
    start, first_out, last_out = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.int64)
    floor = np.zeros(count, np.int64)  # [task] its last input is there no sooner
    head, tail = np.zeros(link_count, np.int64), np.zeros(link_count, np.int64)
    load, heard = np.zeros(link_count, np.int64), np.zeros(link_count, np.uint64)
    used = np.empty(link_count, np.int64)
    reach = np.zeros(count, np.uint64)
    bound, flow = 0, 0
    for piece in range(len(begins)):
        at_flow = flow
        for task in range(begins[piece], ends[piece]):
            flow = _alone(program, flows, order, cycles, task, flow, floor, start, first_out, last_out)
            bound = max(bound, last_out[task])
        if not links_shared or flow == at_flow:
            continue
        waiters, waiter_count = _waiters(program, piece, begins, ends, reach)
        used_count = _share_links(flows, order, cycles, at_flow, flow, start, reach, head, tail, load, heard, used)
        for i in range(used_count):
            link = used[i]
            done = head[link] + load[link] - cycles.slot + tail[link]
            bound = max(bound, done)
            for w in range(waiter_count):
                if heard[link] >> np.uint64(w) & np.uint64(1):
                    floor[waiters[w]] = max(floor[waiters[w]], done)
            load[link] = 0
    return bound


@part
def _path_cycles(cycles: Cycles, hops: int) -> Any:
    return cycles.send + cycles.receive + hops * cycles.hop + (hops - 1) * cycles.forward


@part
def _alone(
    program: Program,
    flows: Flows,
    order: Array,
    cycles: Cycles,
    task: int,
    flow: int,
    floor: Array,
    start: Array,
    first_out: Array,
    last_out: Array,
) -> Any:
    """Outputs of one task from those before it, its paths idle; returns the first flow behind its own."""
    begin, ready_last = 0, floor[task]
    rows, lead_rows = program.rows[task], program.lead_rows[task]
    for i in range(program.before_start[task], program.before_start[task + 1]):
        first, last = first_out[program.before[i]], last_out[program.before[i]]
        begin = max(begin, first + (last - first) * lead_rows // rows)
        ready_last = max(ready_last, last)
    if lead_rows == rows:
        begin = max(begin, ready_last)
    ready_last = max(begin, ready_last)
    start[task] = begin
    if program.vectors[task] == 0:
        first_out[task] = begin + program.first_cycles[task]
        last_out[task] = max(begin + program.last_cycles[task], ready_last + program.first_cycles[task])
        return flow
    first_out[task], last_out[task] = begin, ready_last
    shortest = 0
    while flow < len(order) and flows.task[order[flow]] == task:
        link = flows.burst_link[flows.burst_offset[order[flow]]]
        hops = flows.burst_offset[order[flow] + 1] - flows.burst_offset[order[flow]]
        path = _path_cycles(cycles, hops)
        shortest = path if shortest == 0 else min(shortest, path)
        carried, other = flows.vectors[order[flow]], flow - 1
        while other >= 0 and flows.task[order[other]] == task:  # the same way out, taken in an earlier round
            if flows.burst_link[flows.burst_offset[order[other]]] == link:
                carried += flows.vectors[order[other]]
            other -= 1
        last_out[task] = max(last_out[task], begin + path + (carried - 1) * cycles.slot)
        flow += 1
    last_out[task] = max(last_out[task], ready_last + shortest)
    if shortest > 0:  # else it stays on its chip, which takes no time
        first_out[task] = last_out[task] if program.vectors[task] == 1 else begin + shortest
    return flow


@part(makes_arrays=True)
def _waiters(program: Program, piece: int, begins: Array, ends: Array, reach: Array) -> tuple[Array, int]:
    """Tasks of the next piece that wait for this one, and into `reach` [task] which of them wait for each of its tasks."""
    waiters, count = np.empty(WAITERS_MAX, np.int64), 0
    begin, end = begins[piece], ends[piece]
    if piece + 1 < len(begins):
        for task in range(begins[piece + 1], ends[piece + 1]):
            waits = False
            for i in range(program.before_start[task], program.before_start[task + 1]):
                if count < WAITERS_MAX and begin <= program.before[i] < end:
                    reach[program.before[i]] |= np.uint64(1) << np.uint64(count)
                    waits = True
            if waits:
                waiters[count] = task
                count += 1
    for task in range(end - 1, begin - 1, -1):
        for i in range(program.before_start[task], program.before_start[task + 1]):
            if program.before[i] >= begin:
                reach[program.before[i]] |= reach[task]
    return waiters, count


@part
def _share_links(
    flows: Flows,
    order: Array,
    cycles: Cycles,
    begin: int,
    end: int,
    start: Array,
    reach: Array,
    head: Array,
    tail: Array,
    load: Array,
    heard: Array,
    used: Array,
) -> Any:
    """For each link a piece's flows take: soonest begin, link time, shortest way on, and who waits for all of it.

    Returns how many links there are in `used`.
    """
    count = 0
    for i in range(begin, end):
        flow = order[i]
        task, hops = flows.task[flow], flows.burst_offset[flow + 1] - flows.burst_offset[flow]
        for h in range(hops):
            link = flows.burst_link[flows.burst_offset[flow] + h]
            there = start[task] + cycles.send + h * (cycles.hop + cycles.forward)
            onward = cycles.hop + (hops - 1 - h) * (cycles.hop + cycles.forward) + cycles.receive
            if load[link] == 0:
                used[count] = link
                count += 1
                head[link], tail[link], heard[link] = there, onward, reach[task]
            else:
                head[link], tail[link] = min(head[link], there), min(tail[link], onward)
                heard[link] &= reach[task]
            load[link] += flows.vectors[flow] * cycles.slot
    return count
