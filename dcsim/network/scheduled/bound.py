"""How short a program could be at best: a bound beside the makespan, found without the compiler."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.fabric.graph import Fabric
from dcsim.network.scheduled.rules import ScheduleRules
from dcsim.network.scheduled.schedule import Schedule, message_vectors
from dcsim.network.tasks import Tasks

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bound:
    """Cycles no schedule on the same paths can end before.

    `critical_cycles`: the longest chain of tasks, each message alone on the paths it was given. `busiest_link_cycles`:
    the most link time on one link and the ends any vector on it has to pass. `cycles`: the two together. Where a
    piece's messages share a link, and a later task waits for all of them, that task waits for the link's whole work.
    """

    critical_cycles: int
    busiest_link_cycles: int
    cycles: int


def find_bound(
    schedule: Schedule,
    tasks: Tasks,
    fabric: Fabric,
    figures: ScheduleRules,
    starts: Int64 | None = None,
) -> Bound:
    """Bound of a schedule's makespan; `starts` are the first tasks of the program's pieces (None: it is one piece)."""
    from dcsim.network.scheduled import bound_kernel as kernel

    if not len(tasks):
        return Bound(0, 0, 0)
    begins = np.zeros(1, np.int64) if starts is None else np.unique(starts[starts < len(tasks)])
    program = kernel.Program(
        message_vectors(tasks, figures),
        tasks.first_cycles,
        tasks.last_cycles,
        tasks.rows,
        tasks.lead_rows,
        tasks.before_start,
        tasks.before,
    )
    flows = kernel.Flows(schedule.flow_task, schedule.vectors, schedule.burst_offset, schedule.burst_link)
    piece_flows = np.argsort(schedule.flow_task, kind="stable")
    cycles = kernel.Cycles(
        figures.slot_cycles, figures.hop_cycles, figures.forward_cycles, figures.send_cycles, figures.receive_cycles
    )
    ends = np.append(begins[1:], len(tasks))
    critical = kernel.bound_cycles(program, flows, piece_flows, cycles, begins, ends, fabric.link_count, False)
    together = kernel.bound_cycles(program, flows, piece_flows, cycles, begins, ends, fabric.link_count, True)
    load = int(schedule.link_cycles(fabric.link_count).max(initial=0))
    busiest = load - figures.slot_cycles + figures.path_cycles(1) if load else 0
    return Bound(int(critical), busiest, max(int(together), busiest))
