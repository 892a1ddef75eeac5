"""The proof against a count of every vector one by one, on schedules with random faults in them.

The oracle here knows the rules from the model's text, and nothing of how the proof goes about them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schedule_cases import FIGURES
from test_schedule_proof import programs

from dcsim.errors import ScheduleError
from dcsim.fabric.graph import Fabric
from dcsim.network.scheduled import proof_kernel as kernel
from dcsim.network.scheduled.proof import FAULTS, prove
from dcsim.network.scheduled.rules import ScheduleRules
from dcsim.network.scheduled.schedule import Schedule, compile_schedule
from dcsim.network.tasks import MESSAGE, Tasks

Fault = tuple[str, int, int]  # its name, the link and the cycle


def size_of(tasks: Tasks, task: int) -> int:
    """Vectors of a message; none of an operation."""
    return max(1, -(-int(tasks.size_bytes[task]) // 320)) if tasks.kind[task] == MESSAGE else 0


def travels(tasks: Tasks, task: int) -> bool:
    return bool(tasks.kind[task] == MESSAGE and tasks.chip[task] != tasks.target[task])


def bursts(s: Schedule, flow: int) -> range:
    return range(int(s.burst_offset[flow]), int(s.burst_offset[flow + 1]))


def last_ready(s: Schedule, tasks: Tasks, task: int) -> tuple[int, int]:
    """When a task may start, and when the last of its inputs is there."""
    soonest = latest = 0
    for other in tasks.before[tasks.before_start[task] : tasks.before_start[task + 1]].tolist():
        first, last = int(s.first_out[other]), int(s.last_out[other])
        soonest = max(soonest, first + (last - first) * int(tasks.lead_rows[task]) // int(tasks.rows[task]))
        latest = max(latest, last)
    return soonest, latest


def wrong_tasks(s: Schedule, tasks: Tasks) -> set[Fault]:
    faults = set()
    for task in range(len(tasks)):
        soonest, latest = last_ready(s, tasks, task)
        start, first, last = int(s.start[task]), int(s.first_out[task]), int(s.last_out[task])
        takes_first, takes_last = int(tasks.first_cycles[task]), int(tasks.last_cycles[task])
        early = not travels(tasks, task) and (first < start + takes_first or last < max(start + takes_last, latest + takes_first))
        if start < soonest or last < first or early:
            faults.add(("dependency", -1, start))
    return faults


def wrong_paths(s: Schedule, tasks: Tasks, fabric: Fabric) -> set[Fault]:
    faults = set()
    for flow, task in enumerate(s.flow_task.tolist()):
        if not 0 <= task < len(tasks) or not travels(tasks, task):
            faults.add(("duplicated", -1, -1))
            continue
        if s.vectors[flow] < 1 or not len(bursts(s, flow)):
            faults.add(("dropped", -1, -1))
            continue
        at = int(tasks.chip[task])
        links = s.burst_link[bursts(s, flow)].tolist()
        for link in links:
            if not 0 <= link < fabric.link_count or fabric.link_source[link] != at:
                faults.add(("wrong_link", link, -1))
                break
            at = int(fabric.link_target[link])
        else:
            if at != tasks.target[task]:
                faults.add(("wrong_last_hop", links[-1], -1))
            elif s.vectors[flow] > 1 and s.stride[flow] < 24:
                faults.add(("overlap", links[0], -1))
    return faults


def vectors_of(s: Schedule, flow: int) -> list[int]:
    return [int(s.first_vector[flow]) + j * int(s.vector_step[flow]) for j in range(int(s.vectors[flow]))]


def wrong_delivery(s: Schedule, tasks: Tasks) -> set[Fault]:
    got = defaultdict(Counter)
    for flow, task in enumerate(s.flow_task.tolist()):
        got[task].update(vectors_of(s, flow))
    faults = set()
    for task in range(len(tasks)):
        if not travels(tasks, task):
            continue
        count = sum(got[task].values())
        wanted = Counter(range(size_of(tasks, task)))
        if count < size_of(tasks, task):
            faults.add(("dropped", -1, -1))
        elif got[task] != wanted:
            faults.add(("duplicated", -1, -1))
    return faults


def wrong_times(s: Schedule, tasks: Tasks, figures: ScheduleRules) -> tuple[set[Fault], int]:
    """Vectors too early or too late, and the least margin of any."""
    faults, least = set(), 1 << 62

    def look(margin: int, link: int, cycle: int) -> None:
        nonlocal least
        least = min(least, margin)
        if margin < figures.slack_cycles:
            faults.add(("slack" if margin >= 0 else "early_send", link, cycle))

    for flow, task in enumerate(s.flow_task.tolist()):
        size, path = size_of(tasks, task), bursts(s, flow)
        start, ready_last = int(s.start[task]), max(last_ready(s, tasks, task))
        first_out, last_out = int(s.first_out[task]), int(s.last_out[task])
        for j, k in enumerate(vectors_of(s, flow)):
            ready, due = ready_last, last_out
            if size > 1:
                ready = start + -((start - ready_last) * k // (size - 1))
                due = first_out + (last_out - first_out) * k // (size - 1)
            times = [int(s.burst_start[burst]) + j * int(s.stride[flow]) for burst in path]
            links = s.burst_link[path].tolist()
            if times[0] < ready + figures.send_cycles:
                faults.add(("early_send", links[0], times[0]))
            look(due - (times[-1] + figures.link_cycles + figures.receive_cycles), links[-1], due)
            for (before, after), link in zip(pairwise(times), links[1:], strict=True):
                look(after - before - figures.link_cycles - figures.forward_cycles, link, after)
    return faults, least if len(s.flow_task) else -1


def leaving(s: Schedule) -> dict[int, list[int]]:
    """Cycles at which vectors leave on each link."""
    found = defaultdict(list)
    for flow in range(len(s.flow_task)):
        for burst in bursts(s, flow):
            found[int(s.burst_link[burst])] += [
                int(s.burst_start[burst]) + j * int(s.stride[flow]) for j in range(int(s.vectors[flow]))
            ]
    return {link: sorted(cycles) for link, cycles in found.items()}


def close_ones(cycles: list[int], slot: int) -> set[int]:
    """Cycles of vectors with another less than a slot away."""
    close = [(a, b) for a, b in pairwise(cycles) if b - a < slot]
    return {cycle for pair in close for cycle in pair}


def overruns(s: Schedule, figures: ScheduleRules) -> dict[int, int]:
    """The first cycle, by link, at which more vectors wait in a chip for it than there is room for."""
    travel, found = figures.link_cycles + figures.slack_cycles + figures.forward_cycles, {}
    waits = defaultdict(list)
    for flow in range(len(s.flow_task)):
        path = bursts(s, flow)
        for before, burst in pairwise(path):
            for j in range(int(s.vectors[flow])):
                came, left = (int(s.burst_start[b]) + j * int(s.stride[flow]) for b in (before, burst))
                if came + travel < left:
                    waits[int(s.burst_link[burst])].append((came + travel, left))
    for link, spans in waits.items():
        for cycle, _ in sorted(spans):
            if sum(came <= cycle < left for came, left in spans) > figures.buffer_vectors:
                found[link] = cycle
                break
    return found


def compare(s: Schedule, tasks: Tasks, fabric: Fabric, figures: ScheduleRules) -> str:
    """Check that proof and oracle agree; returns the fault, empty for none."""
    try:
        proof, raised = prove(s, tasks, fabric, figures), None
    except ScheduleError as error:
        proof, raised = None, error
    fault = raised.fault if raised else ""
    steps = (
        lambda: wrong_tasks(s, tasks),
        lambda: wrong_paths(s, tasks, fabric),
        lambda: wrong_delivery(s, tasks),
        lambda: wrong_times(s, tasks, figures)[0],
    )
    for step in steps:
        if faults := step():
            assert raised is not None
            assert (fault, raised.link, raised.cycle) in faults
            return fault
    close = {link: close_ones(cycles, figures.slot_cycles) for link, cycles in leaving(s).items()}
    if any(close.values()):
        assert fault == "overlap"
        assert raised is not None
        assert raised.cycle in close[raised.link]
        return fault
    if over := overruns(s, figures):
        assert fault == "buffer_overrun"
        assert raised is not None
        assert over[raised.link] == raised.cycle
        return fault
    assert proof is not None, fault
    assert proof.conflicts == 0
    assert proof.slack_cycles_min == wrong_times(s, tasks, figures)[1]
    assert proof.vector_hops == sum(len(cycles) for cycles in leaving(s).values())
    assert (proof.tasks, proof.bursts) == (len(tasks), len(s.burst_link))
    return ""


COLUMNS = ("start", "first_out", "last_out", "flow_task", "first_vector", "vector_step", "vectors", "stride", "burst_link")


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(programs(), st.sampled_from([0, 1, 3, 64]), st.sampled_from([0, 24]), st.integers(0, 10**6))
def test_proof_and_oracle_agree_whatever_is_changed(program: tuple[Tasks, Fabric], buffers: int, slack: int, seed: int) -> None:
    tasks, fabric = program
    figures = replace(FIGURES, buffer_vectors=buffers, slack_cycles=slack)
    schedule = compile_schedule(tasks, fabric, figures)
    assert compare(schedule, tasks, fabric, figures) == ""
    if not len(schedule.flow_task):
        return
    random = np.random.default_rng(seed)
    for _ in range(8):
        s = schedule
        for _ in range(random.integers(1, 3)):
            s = moved(s, random) if random.random() < 0.6 else changed(s, random, fabric.link_count)
        compare(s, tasks, fabric, figures)


def changed(s: Schedule, random: np.random.Generator, links: int) -> Schedule:
    """One entry of one column is another."""
    name = str(random.choice(COLUMNS))
    values = getattr(s, name).copy()
    place = int(random.integers(len(values)))
    if name == "burst_link":
        values[place] = random.integers(-1, links + 1)
    else:
        values[place] += random.choice(
            [-25, -24, -2, -1, 1, 2, 24, 25] if name in ("start", "first_out", "last_out") else [-1, 1]
        )
    return replace(s, **{name: values})


def moved(s: Schedule, random: np.random.Generator) -> Schedule:
    """A burst leaves sooner or later; mostly its whole message is awaited later, so that nothing else is wrong."""
    start = s.burst_start.copy()
    burst = int(random.integers(len(start)))
    by = int(random.choice([-200, -24, -1, 1, 12, 23, 24, 25, 100, 1000, 3000]))
    flow = int(np.searchsorted(s.burst_offset, burst, side="right") - 1)
    flow = min(max(flow, 0), len(s.flow_task) - 1)  # offsets may have been changed before
    start[burst : s.burst_offset[flow + 1]] += by  # and all after it on its way
    task = s.flow_task[flow]
    if by < 0 or random.random() < 0.2 or not 0 <= task < len(s.start):  # tasks too
        return replace(s, burst_start=start)
    late = np.zeros(len(s.start), np.int64)
    late[task] = by
    return replace(s, burst_start=start, first_out=s.first_out + late, last_out=s.last_out + late)


@pytest.mark.parametrize("seed", range(60))
def test_single_vectors_near_and_far_between_are_told_apart(seed: int) -> None:
    """Both ways of looking: at spans of a slot where a link is busy, at sorted starts where it is not."""
    random = np.random.default_rng(seed)
    count, slot = int(random.integers(2, 12)), 24
    reach = int(random.choice([30 * count, 24 * 17 * count, 10_000 * count]))
    if seed % 3:
        starts = np.sort(random.choice(reach // slot, count, replace=False)) * slot + random.integers(0, 2, count)
        starts = random.permutation(starts)
    else:
        starts = random.integers(0, reach, count)
    flows = np.arange(count, dtype=np.int32)
    ones = np.ones(count, np.int32)
    found = kernel.check_slots(
        np.array([0, 0, count]), starts.astype(np.int64), flows, np.ones(2, bool), ones, ones.astype(np.int64), slot
    )
    close = close_ones(sorted(starts.tolist()), slot)
    if close:
        assert (found[0], found[2]) == (kernel.OVERLAP, 1)
        assert found[3] in close
    else:
        assert found[0] == kernel.NONE


@pytest.mark.parametrize("seed", range(80))
def test_runs_on_one_link_clash_where_two_vectors_do(seed: int) -> None:
    random = np.random.default_rng(seed)
    count, slot = int(random.integers(2, 6)), 24
    vectors = random.integers(1, 7, count).astype(np.int32)
    stride = random.integers(24, 150, count).astype(np.int64)
    starts = random.integers(0, int(random.choice([500, 3000])), count).astype(np.int64)
    single = np.array([bool((vectors == 1).all())])
    found = kernel.check_slots(np.array([0, count]), starts, np.arange(count, dtype=np.int32), single, vectors, stride, slot)
    every = sorted(int(starts[f]) + j * int(stride[f]) for f in range(count) for j in range(vectors[f]))
    close = close_ones(every, slot)
    assert (found[0] == kernel.OVERLAP) is bool(close)
    if close:
        assert found[3] in close


@pytest.mark.parametrize("seed", range(80))
def test_waiting_vectors_are_counted_one_by_one(seed: int) -> None:
    """Flows over two links each; all wait for the second of them, which carries no two at once."""
    random = np.random.default_rng(seed)
    room = int(random.integers(0, 6))
    figures = replace(FIGURES, buffer_vectors=room, slack_cycles=24)
    travel = figures.link_cycles + figures.slack_cycles + figures.forward_cycles
    longest = int(random.choice([3, 200, 800]))
    while True:
        count = int(random.integers(1, 5))
        vectors = random.integers(1, 8, count).astype(np.int32)
        stride = random.integers(24, 60, count).astype(np.int64)
        first, wait = random.integers(0, 800, count), random.integers(-1, longest, count)
        starts = np.stack([first, first + travel + wait], axis=1).ravel().astype(np.int64)
        zeros = np.zeros(count, np.int64)
        links = np.tile([0, 1], count).astype(np.int32)
        s = Schedule(zeros, zeros, zeros, zeros, zeros, zeros, vectors, stride, np.arange(count + 1) * 2, links, starts, 24)
        if not close_ones(leaving(s)[1], 24):
            break
    order = ("slot", "link", "slack", "send", "receive", "forward")
    numbers = np.array([getattr(figures, f"{name}_cycles") for name in order] + [room], np.int64)
    found = kernel.check_buffers(2, s.burst_offset, links, starts, vectors, stride, numbers)
    over = overruns(s, figures)
    assert (found[0], found[2], found[3]) == ((kernel.BUFFER_OVERRUN, 1, over[1]) if over else (kernel.NONE, -1, -1))


def test_the_numbers_of_faults_are_those_of_their_names() -> None:
    names = [name for name in FAULTS if name != "held"]  # chips are looked at without the kernel
    numbers = [getattr(kernel, name.upper()) for name in names]
    assert numbers == list(range(1, len(names) + 1))


@pytest.mark.parametrize("seed", range(80))
def test_what_is_repeated_meets_itself_where_two_vectors_do_round_the_interval(seed: int) -> None:
    """The second link of two: runs of some flows, laid over themselves every `interval` cycles."""
    random = np.random.default_rng(seed)
    count, slot = int(random.integers(1, 5)), 24
    interval = int(random.choice([200, 500, 1500]))
    vectors = random.integers(1, 4, count).astype(np.int32)
    stride = random.integers(24, 150, count).astype(np.int64)
    starts = random.integers(0, 3000, count).astype(np.int64)
    found = kernel.check_repeated(
        np.array([0, 0, count]), starts, np.arange(count, dtype=np.int32), vectors, stride, slot, interval
    )
    leaves = sorted((int(starts[f]) + j * int(stride[f])) % interval for f in range(count) for j in range(vectors[f]))
    gaps = [b - a for a, b in pairwise([*leaves, leaves[0] + interval])]
    assert (found[0] == kernel.MEETING) is (min(gaps) < slot)
    assert found[2] == (1 if min(gaps) < slot else -1)
