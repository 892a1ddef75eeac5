"""What two iterations under way at once want together, against a count of every slot one by one."""

from __future__ import annotations

import numpy as np
import pytest
from schedule_cases import FIGURES, all_to_all, direct_all_reduce, island, ring, ring_all_reduce

from dcsim.network.scheduled.overlap import Usage, shared_chips, shared_slots
from dcsim.network.scheduled.schedule import Schedule, compile_schedule
from dcsim.network.tasks import COMPUTE, Tasks


def leaving(schedule: Schedule) -> list[tuple[int, int]]:
    """(link, cycle) of every vector."""
    flow = np.repeat(np.arange(len(schedule.flow_task)), schedule.hops)
    return [
        (int(link), int(start + vector * schedule.stride[f]))
        for link, start, f in zip(schedule.burst_link, schedule.burst_start, flow, strict=True)
        for vector in range(int(schedule.vectors[f]))
    ]


def counted(first: Schedule, second: Schedule, later: int) -> int:
    """Vectors of the second that leave within a slot of one of the first's on the same link."""
    ours, slot = set(leaving(first)), first.slot_cycles
    near = range(1 - slot, slot)
    return sum(any((link, cycle + later + shift) in ours for shift in near) for link, cycle in leaving(second))


def chips_counted(first: tuple[Schedule, Tasks], second: tuple[Schedule, Tasks], later: int) -> int:
    spans = []
    for (schedule, tasks), by in ((first, 0), (second, later)):
        rows = [(int(tasks.chip[t]), t) for t in np.flatnonzero(tasks.kind == COMPUTE).tolist()]
        chips = {chip for chip, _ in rows}
        spans.append(
            {
                chip: (
                    min(int(schedule.start[t]) for c, t in rows if c == chip) + by,
                    max(int(schedule.last_out[t]) for c, t in rows if c == chip) + by,
                )
                for chip in chips
            }
        )
    both = spans[0].keys() & spans[1].keys()
    return sum(spans[1][c][0] < spans[0][c][1] and spans[0][c][0] < spans[1][c][1] for c in both)


CASES = {
    "ring": (ring_all_reduce(6, 6 * 320 * 4), ring(6)),
    "island": (direct_all_reduce(6, 6 * 320 * 5), island(6)),
    "crossing": (all_to_all(6, 6 * 320 * 7), ring(6)),
}


@pytest.mark.parametrize("later", [0, 1, 23, 24, 25, 700, 1301, 10**6])
@pytest.mark.parametrize("case", CASES)
def test_shared_slots_are_those_of_a_count_one_by_one(case: str, later: int) -> None:
    tasks, fabric = CASES[case]
    schedule = compile_schedule(tasks, fabric, FIGURES)
    usage = Usage(schedule, tasks)
    assert usage.slots == len(leaving(schedule))
    assert shared_slots(usage, usage, later) == counted(schedule, schedule, later)
    assert shared_chips(usage, usage, later) == chips_counted((schedule, tasks), (schedule, tasks), later)


def test_an_iteration_shares_all_with_itself_and_nothing_with_one_after_its_end() -> None:
    tasks, fabric = CASES["island"]
    usage = Usage(compile_schedule(tasks, fabric, FIGURES), tasks)
    assert shared_slots(usage, usage, 0) == usage.slots > 0
    assert shared_chips(usage, usage, 0) == 6
    assert shared_slots(usage, usage, usage.makespan_cycles) == shared_chips(usage, usage, usage.makespan_cycles) == 0


def test_different_programs_share_what_both_want() -> None:
    fabric = ring(6)
    one, other = ring_all_reduce(6, 6 * 320 * 4), all_to_all(6, 6 * 320 * 7)
    first, second = (compile_schedule(tasks, fabric, FIGURES) for tasks in (one, other))
    for later in (0, 111, 1500):
        found = shared_slots(Usage(first, one), Usage(second, other), later)
        assert found == counted(first, second, later)
