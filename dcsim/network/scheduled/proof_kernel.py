"""The proof's loops, compiled. Each returns (fault, flow or task, link, cycle); fault 0: none found.

Nothing here knows how a schedule is made: the rules are written down again from the model's text.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.kernels.jit import entry, part

Array = NDArray[Any]
Found = tuple[Any, Any, Any, Any]

NONE, OVERLAP, EARLY_SEND, DROPPED, DUPLICATED, WRONG_LINK, WRONG_LAST_HOP, BUFFER_OVERRUN, SLACK, DEPENDENCY = range(10)
MEETING = 10
UNKNOWN = -1  # a flow, a link, a cycle or a place that there is none of
# Columns of the figures handed in.
SLOT, LINK, SLACK_CYCLES, SEND, RECEIVE, FORWARD, BUFFER = range(7)

SPANS_MAX = 16  # spans of a slot for each vector of a link, up to which spans are looked at rather than sorted starts


@entry
def check_tasks(
    size: Array,
    first_cycles: Array,
    last_cycles: Array,
    rows: Array,
    lead_rows: Array,
    before_start: Array,
    before: Array,
    local: Array,
    start: Array,
    first_out: Array,
    last_out: Array,
    ready_last: Array,
) -> Found:
    """The timing rule of network/tasks.py for every task; fills `ready_last`, the last output before each."""
    for task in range(len(size)):
        soonest = 0
        latest = 0
        for i in range(before_start[task], before_start[task + 1]):
            other = before[i]
            run = last_out[other] - first_out[other]
            soonest = max(soonest, first_out[other] + run * lead_rows[task] // rows[task])
            latest = max(latest, last_out[other])
        ready_last[task] = max(latest, soonest)
        first = start[task] + first_cycles[task]
        last = max(start[task] + last_cycles[task], latest + first_cycles[task])
        wrong = start[task] < soonest or first_out[task] > last_out[task]
        if size[task] == 0 or local[task]:
            wrong |= first_out[task] < first or last_out[task] < last
        if wrong:
            return DEPENDENCY, task, UNKNOWN, start[task]
    return NONE, UNKNOWN, UNKNOWN, UNKNOWN


@entry
def check_paths(
    link_source: Array,
    link_target: Array,
    chip: Array,
    target: Array,
    size: Array,
    local: Array,
    flow_task: Array,
    vectors: Array,
    stride: Array,
    burst_offset: Array,
    burst_link: Array,
    slot: int,
) -> Found:
    """Every flow follows connected links from its message's source to its target, one vector a slot."""
    for flow in range(len(flow_task)):
        task = flow_task[flow]
        begin, end = burst_offset[flow], burst_offset[flow + 1]
        if task < 0 or task >= len(size) or size[task] == 0 or local[task]:
            return DUPLICATED, flow, UNKNOWN, UNKNOWN
        if vectors[flow] < 1 or end <= begin:
            return DROPPED, flow, UNKNOWN, UNKNOWN
        at = chip[task]
        for burst in range(begin, end):
            link = burst_link[burst]
            if link < 0 or link >= len(link_source) or link_source[link] != at:
                return WRONG_LINK, flow, link, UNKNOWN
            at = link_target[link]
        if at != target[task]:
            return WRONG_LAST_HOP, flow, burst_link[end - 1], UNKNOWN
        if vectors[flow] > 1 and stride[flow] < slot:
            return OVERLAP, flow, burst_link[begin], UNKNOWN
    return NONE, UNKNOWN, UNKNOWN, UNKNOWN


@entry(makes_arrays=True)
def check_delivery(
    size: Array,
    local: Array,
    flow_task: Array,
    first_vector: Array,
    vector_step: Array,
    vectors: Array,
) -> Found:
    """Every vector of every message is in exactly one flow."""
    count = np.zeros(len(size), np.int64)
    single = np.ones(len(size), np.bool_)
    for flow in range(len(flow_task)):
        task = flow_task[flow]
        count[task] += vectors[flow]
        single[task] &= first_vector[flow] == 0 and vector_step[flow] == 1 and vectors[flow] == size[task]
    offset = np.full(len(size), UNKNOWN, np.int64)
    used = 0
    for task in range(len(size)):
        if size[task] > 0 and not local[task]:
            if count[task] < size[task]:
                return DROPPED, task, UNKNOWN, UNKNOWN
            if count[task] > size[task]:
                return DUPLICATED, task, UNKNOWN, UNKNOWN
            if not single[task]:
                offset[task] = used
                used += size[task]
    seen = np.zeros(used, np.bool_)
    for flow in range(len(flow_task)):
        task = flow_task[flow]
        for j in range(vectors[flow] if offset[task] >= 0 else 0):
            k = first_vector[flow] + j * vector_step[flow]
            if k < 0 or k >= size[task] or seen[offset[task] + k]:
                return DUPLICATED, task, UNKNOWN, UNKNOWN
            seen[offset[task] + k] = True
    return NONE, UNKNOWN, UNKNOWN, UNKNOWN


@entry
def check_times(
    size: Array,
    start: Array,
    first_out: Array,
    last_out: Array,
    ready_last: Array,
    flow_task: Array,
    first_vector: Array,
    vector_step: Array,
    vectors: Array,
    stride: Array,
    burst_offset: Array,
    burst_link: Array,
    burst_start: Array,
    figures: Array,
    least: Array,
) -> Found:
    """No vector leaves before it is ready or has arrived, none is used before; `least[0]` gets the margin left.

    Ready, leaving and arriving are straight lines over a flow's vectors, so its two ends prove it all.
    """
    travel = figures[LINK] + figures[FORWARD]
    for flow in range(len(flow_task)):
        task = flow_task[flow]
        begin, end = burst_offset[flow], burst_offset[flow + 1]
        ends = 1 if vectors[flow] == 1 else 2
        for side in range(ends):
            j = side * (vectors[flow] - 1)
            k = first_vector[flow] + j * vector_step[flow]
            left = burst_start[begin] + j * stride[flow]
            there = burst_start[end - 1] + j * stride[flow] + figures[LINK] + figures[RECEIVE]
            ready, due = ready_last[task], last_out[task]
            if size[task] > 1:
                ready = start[task] - (-((ready_last[task] - start[task]) * k) // (size[task] - 1))
                due = first_out[task] + (last_out[task] - first_out[task]) * k // (size[task] - 1)
            if left < ready + figures[SEND]:
                return EARLY_SEND, flow, burst_link[begin], left
            least[0] = min(least[0], due - there)
            if due - there < figures[SLACK_CYCLES]:
                return (SLACK if due >= there else EARLY_SEND), flow, burst_link[end - 1], due
        for burst in range(begin + 1, end):
            margin = burst_start[burst] - burst_start[burst - 1] - travel
            least[0] = min(least[0], margin)
            if margin < figures[SLACK_CYCLES]:
                return (SLACK if margin >= 0 else EARLY_SEND), flow, burst_link[burst], burst_start[burst]
    return NONE, UNKNOWN, UNKNOWN, UNKNOWN


@entry(makes_arrays=True)
def bursts_by_link(
    link_count: int,
    burst_offset: Array,
    burst_link: Array,
    burst_start: Array,
    vectors: Array,
) -> tuple[Array, Array, Array, Array]:
    """Offsets of each link's bursts, and their starts and flows; `single` [link]: all are of one vector."""
    offset = np.zeros(link_count + 1, np.int64)
    for link in burst_link:
        offset[link + 1] += 1
    offset = np.cumsum(offset)
    place, single = offset.copy(), np.ones(link_count, np.bool_)
    start, flow_of = np.empty(len(burst_link), np.int64), np.empty(len(burst_link), np.int32)
    for flow in range(len(vectors)):
        for burst in range(burst_offset[flow], burst_offset[flow + 1]):
            link = burst_link[burst]
            start[place[link]], flow_of[place[link]] = burst_start[burst], flow
            place[link] += 1
            single[link] &= vectors[flow] == 1
    return offset, start, flow_of, single


@part
def _clash(
    start: int,
    count: int,
    stride: int,
    other_start: int,
    other_count: int,
    other_stride: int,
    slot: int,
) -> Any:
    """First cycle at which vectors of two runs on one link overlap, or UNKNOWN."""
    for j in range(count):
        at = start + j * stride
        i = max(0, (at - slot - other_start) // other_stride + 1)
        if i < other_count and other_start + i * other_stride < at + slot:
            return at
    return UNKNOWN


@entry(makes_arrays=True)
def check_slots(
    offset: Array,
    starts: Array,
    flow_of: Array,
    single: Array,
    vectors: Array,
    stride: Array,
    slot: int,
) -> Found:
    """No two vectors share a slot of a link."""
    for link in np.flatnonzero(np.diff(offset)):
        begin, end = offset[link], offset[link + 1]
        if single[link]:
            cycle = _first_too_close(starts[begin:end], slot)
        else:
            order = np.argsort(starts[begin:end], kind="mergesort") + begin
            cycle = _first_overlap(order, starts, flow_of, vectors, stride, slot)
        if cycle >= 0:
            return OVERLAP, UNKNOWN, link, cycle
    return NONE, UNKNOWN, UNKNOWN, UNKNOWN


@entry(makes_arrays=True)
def check_repeated(
    offset: Array, starts: Array, flow_of: Array, vectors: Array, stride: Array, slot: int, interval: int
) -> Found:
    """No two vectors share a slot of a link when all is repeated every `interval` cycles."""
    for link in np.flatnonzero(np.diff(offset)):
        count = 0
        for burst in range(offset[link], offset[link + 1]):
            count += vectors[flow_of[burst]]
        if count * slot > interval:
            return MEETING, UNKNOWN, link, interval
        leaves, k = np.empty(count + 1, np.int64), 0
        for burst in range(offset[link], offset[link + 1]):
            flow = flow_of[burst]
            for j in range(vectors[flow]):
                leaves[k] = (starts[burst] + j * stride[flow]) % interval
                k += 1
        leaves[count] = leaves[:count].min() + interval  # what follows the last
        cycle = _first_too_close(leaves, slot)
        if cycle >= 0:
            return MEETING, UNKNOWN, link, cycle
    return NONE, UNKNOWN, UNKNOWN, UNKNOWN


@part(makes_arrays=True)
def _first_too_close(starts: Array, slot: int) -> Any:
    """A cycle at which a vector leaves less than a slot behind another, or UNKNOWN; each leaves alone.

    Where the link is busy, the cycles are cut in spans of a slot: two in one span are too close, else only those in spans
    side by side can be.
    """
    begin, end = starts.min(), starts.max()
    if (end - begin) // slot > SPANS_MAX * len(starts):
        ordered = np.sort(starts)
        for i in range(1, len(ordered)):
            if ordered[i] - ordered[i - 1] < slot:
                return ordered[i]
        return UNKNOWN
    within = np.full((end - begin) // slot + 2, -slot, np.int64)  # [span] when its vector leaves, counted from `begin`
    for start in starts:
        at = start - begin
        span = at // slot + 1  # nothing leaves in the first
        if within[span] >= 0:
            return start
        within[span] = at
    for start in starts:
        at = start - begin
        if at - within[at // slot] < slot:
            return start
    return UNKNOWN


@part(makes_arrays=True)
def _first_overlap(
    order: Array,
    starts: Array,
    flow_of: Array,
    vectors: Array,
    stride: Array,
    slot: int,
) -> Any:
    """Bursts of one link in order of start, each against those not yet over; the first clash or UNKNOWN."""
    running, alive = np.empty(len(order), np.int64), 0
    for at in order:
        flow, kept = flow_of[at], 0
        for r in range(alive):
            other = flow_of[running[r]]
            if starts[running[r]] + (vectors[other] - 1) * stride[other] + slot > starts[at]:
                cycle = _clash(starts[at], vectors[flow], stride[flow], starts[running[r]], vectors[other], stride[other], slot)
                if cycle >= 0:
                    return cycle
                running[kept] = running[r]
                kept += 1
        running[kept] = at
        alive = kept + 1
    return UNKNOWN


@entry(makes_arrays=True)
def check_buffers(
    link_count: int,
    burst_offset: Array,
    burst_link: Array,
    burst_start: Array,
    vectors: Array,
    stride: Array,
    figures: Array,
) -> Found:
    """No more vectors wait in a chip for a link than it has room for.

    If none waits longer than room x slot cycles, all that wait at any moment leave within as many cycles, one
    a slot, so they fit. Only where one waits longer, every vector is counted.
    """
    travel = figures[LINK] + figures[SLACK_CYCLES] + figures[FORWARD]
    crowded, waiting = np.zeros(link_count, np.bool_), np.zeros(link_count, np.int64)
    for flow in range(len(vectors)):
        for burst in range(burst_offset[flow] + 1, burst_offset[flow + 1]):
            wait = burst_start[burst] - burst_start[burst - 1] - travel
            if wait > 0:
                waiting[burst_link[burst]] += vectors[flow]
                crowded[burst_link[burst]] |= wait > figures[BUFFER] * figures[SLOT]
    for link in np.flatnonzero(crowded):
        enter, leave = np.empty(waiting[link], np.int64), np.empty(waiting[link], np.int64)
        at = 0
        for flow in range(len(vectors)):
            for burst in range(burst_offset[flow] + 1, burst_offset[flow + 1]):
                if burst_link[burst] == link and burst_start[burst] - burst_start[burst - 1] > travel:
                    steps = np.arange(vectors[flow]) * stride[flow]
                    enter[at : at + len(steps)] = burst_start[burst - 1] + travel + steps
                    leave[at : at + len(steps)] = burst_start[burst] + steps
                    at += len(steps)
        cycle = _fullest(np.sort(enter), np.sort(leave), figures[BUFFER])
        if cycle >= 0:
            return BUFFER_OVERRUN, UNKNOWN, link, cycle
    return NONE, UNKNOWN, UNKNOWN, UNKNOWN


@part
def _fullest(enter: Array, leave: Array, room: int) -> Any:
    """First cycle at which more than `room` vectors have entered and not left, or UNKNOWN."""
    left = 0
    for i in range(len(enter)):
        while leave[left] <= enter[i]:
            left += 1
        if i + 1 - left > room:
            return enter[i]
    return UNKNOWN
