"""Where a compiled iteration's time goes: along its critical path, in the parts that every network has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcsim.network.scheduled.rules import ScheduleRules
from dcsim.network.scheduled.schedule import Schedule
from dcsim.network.tasks import MESSAGE, PARTS, WAIT, Tasks
from dcsim.network.timing import BREAKDOWN


def breakdown_cycles(tasks: Tasks, schedule: Schedule, figures: ScheduleRules) -> dict[str, int]:
    """Cycles of the makespan by BREAKDOWN; they sum to it.

    A message's link latency is `wire`: its cable and both transceivers.
    """
    hops = _hops(tasks, schedule)
    cycles = dict.fromkeys(BREAKDOWN, 0)
    for task, part, booked in critical_path(tasks, schedule, figures.send_cycles):
        if part == WAIT:
            cycles["queueing"] += booked
        elif tasks.kind[task] == MESSAGE:
            wire = min(booked, int(hops[task]) * figures.link_cycles)
            ends = min(booked - wire, figures.path_cycles(int(hops[task])) - int(hops[task]) * figures.link_cycles)
            cycles["wire"] += wire
            cycles["switch"] += ends
            cycles["serialisation"] += booked - wire - ends
        else:
            cycles[PARTS[part]] += booked
    return cycles


def _hops(tasks: Tasks, schedule: Schedule) -> NDArray[np.int64]:
    """[task] links of a message's shortest flow; 0 for other tasks."""
    links = np.diff(schedule.burst_offset)
    hops = np.full(len(tasks), np.iinfo(np.int64).max)
    np.minimum.at(hops, schedule.flow_task, links)
    hops[hops == np.iinfo(np.int64).max] = 0
    return hops


def critical_path(tasks: Tasks, schedule: Schedule, send_cycles: int) -> list[tuple[int, int, int]]:
    """(task, part, cycles) along the critical path, from its end: walked back along what each task waited for.

    Where a predecessor's output still streams in after a task has started, only the time since its end is the task's.
    The cycles sum to the makespan.
    """
    booked: list[tuple[int, int, int]] = []
    start, first, last = schedule.start, schedule.first_out, schedule.last_out
    if not len(start):
        return booked
    leaves = _first_departures(schedule, len(start))
    task = int(last.argmax())
    now = int(last[task])
    while True:
        part = int(tasks.part[task])
        before = tasks.before[tasks.before_start[task] : tasks.before_start[task + 1]]
        streaming = before[last[before] > start[task]]
        if len(streaming) and now == last[task] and _tail_bound(tasks, schedule, task):
            producer = int(streaming[last[streaming].argmax()])
            booked.append((task, part, now - int(last[producer])))
            task, now = producer, int(last[producer])
            continue
        began = int(start[task])
        if tasks.kind[task] == MESSAGE:
            queued = max(0, min(int(leaves[task]) - send_cycles - began, now - began))
            booked.append((task, WAIT, queued))
            began += queued
        booked.append((task, part, now - began))
        now = int(start[task])
        if not len(before):
            booked.append((task, WAIT, now))
            return booked
        lead, rows = int(tasks.lead_rows[task]), int(tasks.rows[task])
        ready = first[before] + (last[before] - first[before]) * lead // rows
        binding = int(ready.argmax())
        booked.append((task, WAIT, now - int(ready[binding])))
        task, now = int(before[binding]), int(ready[binding])


def _tail_bound(tasks: Tasks, schedule: Schedule, task: int) -> bool:
    """Whether a task ended when it did because its input still streamed in."""
    if tasks.kind[task] == MESSAGE:
        return True
    return bool(schedule.last_out[task] > schedule.start[task] + tasks.last_cycles[task])


def _first_departures(schedule: Schedule, count: int) -> NDArray[np.int64]:
    """[task] cycle in which a message's first vector leaves its source; 0 for other tasks."""
    leaves = np.full(count, np.iinfo(np.int64).max)
    flows = np.flatnonzero(schedule.hops)
    np.minimum.at(leaves, schedule.flow_task[flows], schedule.burst_start[schedule.burst_offset[flows]])
    leaves[leaves == np.iinfo(np.int64).max] = 0
    return leaves
