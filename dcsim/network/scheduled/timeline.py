"""A schedule as a timeline that Perfetto and Chrome's tracing page show: chips and links as tracks."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dcsim.fabric.graph import Fabric
from dcsim.network.scheduled.schedule import Schedule
from dcsim.network.tasks import COMPUTE, PARTS, Tasks
from dcsim.writing import whole_file

CHIPS, LINKS = 1, 2  # the two groups of tracks


def write_timeline(path: Path, schedule: Schedule, tasks: Tasks, fabric: Fabric) -> int:
    """Write one iteration to `path` (see `write_events`), in microseconds from its epoch; returns how many bars it has."""
    return write_events(path, [*tracks([schedule], [tasks], fabric), *bars(schedule, tasks, 0.0)])


def write_events(path: Path, events: Iterable[dict[str, Any]]) -> int:
    """Write `path` (gzip, Chrome's trace-event JSON), whole or not at all; returns how many bars it has.

    Same events, same bytes.
    """
    count = 0
    with whole_file(path) as part, part.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        text = io.TextIOWrapper(packed, "utf-8", newline="\n")
        text.write('{"displayTimeUnit":"ns","traceEvents":[\n')
        for number, event in enumerate(events):
            text.write(",\n" if number else "")
            text.write(json.dumps(event, separators=(",", ":")))
            count += event["ph"] == "X"
        text.write("\n]}\n")
        text.flush()
        text.detach()
    return count


def tracks(schedules: Sequence[Schedule], tasks: Sequence[Tasks], fabric: Fabric) -> Iterator[dict[str, Any]]:
    """Names of the tracks of chips and links that any of the schedules uses."""
    chips = np.unique(np.concatenate([each.chip[each.kind == COMPUTE] for each in tasks])).tolist()
    links = np.unique(np.concatenate([schedule.burst_link for schedule in schedules])).tolist()
    yield group(CHIPS, "chips")
    yield group(LINKS, "links")
    for chip in chips:
        yield track(CHIPS, chip, f"chip {chip}")
    for link in links:
        name = fabric.link_classes[fabric.link_class[link]]
        yield track(LINKS, link, f"{name} {fabric.link_source[link]} to {fabric.link_target[link]}")


def bars(schedule: Schedule, tasks: Tasks, epoch_us: float) -> Iterator[dict[str, Any]]:
    """A bar for every operation and every burst of an iteration that begins then."""
    us = 1e6 / tasks.clock_hz
    for task in np.flatnonzero(tasks.kind == COMPUTE).tolist():
        start, last = int(schedule.start[task]), int(schedule.last_out[task])
        part = PARTS[tasks.part[task]]
        yield bar(CHIPS, int(tasks.chip[task]), part, epoch_us + start * us, (last - start) * us, {"task": task, "cycle": start})
    for link, flow, start, end in _bursts(schedule):
        message = int(schedule.flow_task[flow])
        counts = {"vectors": int(schedule.vectors[flow]), "stride": int(schedule.stride[flow])}
        name = f"{tasks.chip[message]} to {tasks.target[message]}"
        detail = {"task": message, **counts, "cycle": start}
        yield bar(LINKS, link, name, epoch_us + start * us, (end - start) * us, detail)


def outline(schedule: Schedule, tasks: Tasks) -> list[tuple[int, int, int, int]]:
    """(CHIPS or LINKS, chip or link, first cycle, last cycle) in which an iteration uses each chip and link."""
    found: dict[tuple[int, int], tuple[int, int]] = {}
    operations = np.flatnonzero(tasks.kind == COMPUTE)
    spans = zip(operations.tolist(), schedule.start[operations].tolist(), schedule.last_out[operations].tolist(), strict=True)
    used = [(CHIPS, int(tasks.chip[task]), start, end) for task, start, end in spans]
    used += [(LINKS, link, start, end) for link, _, start, end in _bursts(schedule)]
    for kind, number, start, end in used:
        first, last = found.get((kind, number), (start, end))
        found[kind, number] = min(first, start), max(last, end)
    return [(*key, *span) for key, span in sorted(found.items())]


def _bursts(schedule: Schedule) -> Iterator[tuple[int, int, int, int]]:
    """(link, flow, first cycle, cycle after the last slot) of each burst."""
    flow = np.repeat(np.arange(len(schedule.flow_task)), schedule.hops)
    end = schedule.burst_start + ((schedule.vectors - 1) * schedule.stride)[flow] + schedule.slot_cycles
    columns = (schedule.burst_link, flow, schedule.burst_start, end)
    return zip(*(column.tolist() for column in columns), strict=True)


def group(number: int, name: str) -> dict[str, Any]:
    """Name a group of tracks."""
    return {"ph": "M", "pid": number, "name": "process_name", "args": {"name": name}}


def track(in_group: int, number: int, name: str) -> dict[str, Any]:
    """Name a track."""
    return {"ph": "M", "pid": in_group, "tid": number, "name": "thread_name", "args": {"name": name}}


def bar(in_group: int, on_track: int, name: str, start_us: float, length_us: float, detail: dict[str, Any]) -> dict[str, Any]:
    """Something that takes time."""
    times = {"ts": round(start_us, 4), "dur": round(length_us, 4)}
    return {"ph": "X", "pid": in_group, "tid": on_track, "name": name, **times, "args": detail}
