"""A schedule as a timeline that Perfetto and Chrome's tracing page show: chips and links as tracks."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dcsim.fabric.graph import Fabric
from dcsim.network.scheduled.schedule import Schedule
from dcsim.network.tasks import COMPUTE, PARTS, Tasks
from dcsim.writing import whole_file

CHIPS, LINKS = 1, 2  # the two groups of tracks


def write_timeline(path: Path, schedule: Schedule, tasks: Tasks, fabric: Fabric) -> int:
    """Write `path` (gzip, Chrome's trace-event JSON), whole or not at all; returns how many bars it has.

    Same schedule, same bytes. Times are microseconds from the epoch.
    """
    bars = 0
    with whole_file(path) as part, part.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        text = io.TextIOWrapper(packed, "utf-8", newline="\n")
        text.write('{"displayTimeUnit":"ns","traceEvents":[\n')
        for number, event in enumerate(_events(schedule, tasks, fabric)):
            text.write(",\n" if number else "")
            text.write(json.dumps(event, separators=(",", ":")))
            bars += event["ph"] == "X"
        text.write("\n]}\n")
        text.flush()
        text.detach()
    return bars


def _events(schedule: Schedule, tasks: Tasks, fabric: Fabric) -> Iterator[dict[str, Any]]:
    """Names of the tracks in use, then a bar for every operation and every burst."""
    operations = np.flatnonzero(tasks.kind == COMPUTE)
    chips = np.unique(tasks.chip[operations]).tolist()
    links = np.unique(schedule.burst_link).tolist()
    yield {"ph": "M", "pid": CHIPS, "name": "process_name", "args": {"name": "chips"}}
    yield {"ph": "M", "pid": LINKS, "name": "process_name", "args": {"name": "links"}}
    for chip in chips:
        yield _track(CHIPS, chip, f"chip {chip}")
    for link in links:
        name = fabric.link_classes[fabric.link_class[link]]
        yield _track(LINKS, link, f"{name} {fabric.link_source[link]} to {fabric.link_target[link]}")
    us = 1e6 / tasks.clock_hz
    for task in operations.tolist():
        start, last = int(schedule.start[task]), int(schedule.last_out[task])
        yield _bar(CHIPS, int(tasks.chip[task]), PARTS[tasks.part[task]], start, last, us, {"task": task})
    flow = np.repeat(np.arange(len(schedule.flow_task)), schedule.hops)
    last_start = schedule.burst_start + ((schedule.vectors - 1) * schedule.stride)[flow]
    rows = zip(schedule.burst_link.tolist(), flow.tolist(), schedule.burst_start.tolist(), last_start.tolist(), strict=True)
    for link, f, start, last in rows:
        message = int(schedule.flow_task[f])
        detail = {"task": message, "vectors": int(schedule.vectors[f]), "stride": int(schedule.stride[f])}
        name = f"{tasks.chip[message]} to {tasks.target[message]}"
        yield _bar(LINKS, link, name, start, last + schedule.slot_cycles, us, detail)


def _track(group: int, number: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": group, "tid": number, "name": "thread_name", "args": {"name": name}}


def _bar(group: int, track: int, name: str, start: int, end: int, us: float, detail: dict[str, int]) -> dict[str, Any]:
    return {
        "ph": "X",
        "pid": group,
        "tid": track,
        "name": name,
        "ts": round(start * us, 4),
        "dur": round((end - start) * us, 4),
        "args": {**detail, "cycle": start},
    }
