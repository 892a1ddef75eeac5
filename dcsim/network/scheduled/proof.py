"""Proof that a schedule is sound. Knows the schedule, the graph, the tasks and the figures; not the compiler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dcsim.errors import ScheduleError
from dcsim.fabric.graph import Fabric
from dcsim.network.scheduled.rules import ScheduleRules
from dcsim.network.tasks import MESSAGE, Tasks

if TYPE_CHECKING:
    from dcsim.network.scheduled.schedule import Schedule

# Names of the faults, in the order of proof_kernel's numbers, and what each means.
FAULTS = {
    "overlap": "two vectors share a slot",
    "early_send": "a vector is sent or used before it is there",
    "dropped": "a vector is not delivered",
    "duplicated": "a vector is delivered twice, or belongs to no message",
    "wrong_link": "a path goes on over a link that does not start where it is",
    "wrong_last_hop": "a path does not end at the message's target",
    "buffer_overrun": "more vectors wait for a link than its buffer holds",
    "slack": "the receiver waits less than the slack beyond the nominal arrival",
    "dependency": "a task starts, or claims its outputs, before its inputs allow",
    "meeting": "a vector shares a slot with one of another micro-batch in flight",
    "held": "a chip works for two micro-batches at once",
}


@dataclass(frozen=True, slots=True)
class Proof:
    """What was shown: `conflicts` is 0, or proving would have raised."""

    conflicts: int
    tasks: int
    bursts: int
    vector_hops: int
    slack_cycles_min: int  # least margin between a vector's nominal arrival and its use; -1: no vector sent


def prove(schedule: Schedule, tasks: Tasks, fabric: Fabric, figures: ScheduleRules) -> Proof:
    """Show that no link slot is used twice, nothing is sent before it is there, every vector arrives once at the
    right chip over connected links, dependencies, transit buffers and slack are kept.

    Raises ScheduleError with `fault` (a key of FAULTS), link and cycle at the first rule broken.
    """
    from dcsim.network.scheduled import proof_kernel as kernel

    message = tasks.kind == MESSAGE
    size = np.where(message, np.maximum(1, -(-tasks.size_bytes // figures.vector_bytes)), 0).astype(np.int64)
    local = message & (tasks.chip == tasks.target)
    numbers = np.array(
        [
            figures.slot_cycles,
            figures.link_cycles,
            figures.slack_cycles,
            figures.send_cycles,
            figures.receive_cycles,
            figures.forward_cycles,
            figures.buffer_vectors,
        ],
        np.int64,
    )
    ready_last, least = np.zeros(len(tasks), np.int64), np.full(1, np.iinfo(np.int64).max)
    s = schedule
    _same_lengths(schedule, tasks)
    _raise(
        kernel.check_tasks(
            size,
            tasks.first_cycles,
            tasks.last_cycles,
            tasks.rows,
            tasks.lead_rows,
            tasks.before_start,
            tasks.before,
            local,
            s.start,
            s.first_out,
            s.last_out,
            ready_last,
        )
    )
    _raise(
        kernel.check_paths(
            fabric.link_source,
            fabric.link_target,
            tasks.chip,
            tasks.target,
            size,
            local,
            s.flow_task,
            s.vectors,
            s.stride,
            s.burst_offset,
            s.burst_link,
            figures.slot_cycles,
        )
    )
    _raise(kernel.check_delivery(size, local, s.flow_task, s.first_vector, s.vector_step, s.vectors))
    _raise(
        kernel.check_times(
            size,
            s.start,
            s.first_out,
            s.last_out,
            ready_last,
            s.flow_task,
            s.first_vector,
            s.vector_step,
            s.vectors,
            s.stride,
            s.burst_offset,
            s.burst_link,
            s.burst_start,
            numbers,
            least,
        )
    )
    by_link = kernel.bursts_by_link(fabric.link_count, s.burst_offset, s.burst_link, s.burst_start, s.vectors)
    _raise(kernel.check_slots(*by_link, s.vectors, s.stride, figures.slot_cycles))
    _raise(kernel.check_buffers(fabric.link_count, s.burst_offset, s.burst_link, s.burst_start, s.vectors, s.stride, numbers))
    return Proof(0, len(tasks), len(s.burst_link), s.vector_hops, int(least[0]) if len(s.flow_task) else -1)


def prove_repeated(schedule: Schedule, tasks: Tasks, fabric: Fabric, interval_cycles: int) -> None:
    """Show that a program that is sound by itself (`prove`) can be begun again every `interval_cycles`, for ever: no two
    vectors of any two micro-batches share a link slot, and no chip works for two at once.

    All else of a micro-batch is as in `prove`, an interval later. Raises ScheduleError as `prove` does.
    """
    from dcsim.network.scheduled import proof_kernel as kernel

    work = np.flatnonzero((tasks.kind != MESSAGE) & (tasks.last_cycles > 0))
    count = fabric.vertex_count
    first, last = np.full(count, np.iinfo(np.int64).max), np.full(count, -1)
    np.minimum.at(first, tasks.chip[work], schedule.start[work])
    np.maximum.at(last, tasks.chip[work], schedule.last_out[work])
    long = np.flatnonzero((last >= 0) & (last - first > interval_cycles))
    if len(long):
        chip = int(long[0])
        text = f"held on chip {chip}: {FAULTS['held']}: {last[chip] - first[chip]} cycles of every {interval_cycles}"
        raise ScheduleError(text, "held", -1, int(last[chip]))
    s = schedule
    offset, starts, flow_of, _ = kernel.bursts_by_link(fabric.link_count, s.burst_offset, s.burst_link, s.burst_start, s.vectors)
    _raise(kernel.check_repeated(offset, starts, flow_of, s.vectors, s.stride, s.slot_cycles, interval_cycles))


def _same_lengths(schedule: Schedule, tasks: Tasks) -> None:
    """A schedule of another program proves nothing."""
    if len(schedule.start) != len(tasks):
        raise ScheduleError(f"schedule of {len(schedule.start)} tasks for a program of {len(tasks)}", "dropped")


def _raise(found: tuple[Any, ...]) -> None:
    fault, item, link, cycle = (int(x) for x in found)
    if fault:
        name, text = list(FAULTS.items())[fault - 1]
        raise ScheduleError(f"{name} on link {link} in cycle {cycle}: {text} (task or flow {item})", name, link, cycle)
