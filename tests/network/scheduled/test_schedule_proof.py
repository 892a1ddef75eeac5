"""Every planted fault is caught by its name; random programs pass; the checker knows nothing of the compiler."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schedule_cases import CLOCK_HZ, FIGURES, direct_all_reduce, island, line, one_message, ring

import dcsim.network.scheduled.proof as proof_module
from dcsim.errors import ScheduleError
from dcsim.fabric.graph import Fabric, from_cables
from dcsim.network.scheduled.bound import find_bound
from dcsim.network.scheduled.proof import FAULTS, prove
from dcsim.network.scheduled.replay import replay
from dcsim.network.scheduled.rules import ScheduleRules
from dcsim.network.scheduled.schedule import Schedule, compile_schedule
from dcsim.network.tasks import VECTOR, TaskBuilder, Tasks

Case = tuple[Schedule, Tasks, Fabric, ScheduleRules]
SLACK = replace(FIGURES, slack_cycles=24)


def compiled(tasks: Tasks, fabric: Fabric, figures: ScheduleRules = SLACK) -> Case:
    schedule = compile_schedule(tasks, fabric, figures)
    prove(schedule, tasks, fabric, figures)
    return schedule, tasks, fabric, figures


def fault_of(case: Case) -> str:
    with pytest.raises(ScheduleError) as caught:
        prove(*case)
    return caught.value.fault


def changed(values: np.ndarray, index: int, value: int) -> np.ndarray:
    copy = values.copy()
    copy[index] = value
    return copy


def two_on_a_link(gap_cycles: int) -> Case:
    """Two messages of 4 vectors on the one link of a pair, the second's start set by hand."""
    build = TaskBuilder(CLOCK_HZ)
    build.message(0, 1, 4 * 320, [])
    build.message(0, 1, 4 * 320, [])
    schedule, tasks, fabric, figures = compiled(build.build(), island(2))
    first, second = schedule.burst_start.tolist()
    assert second == first + 4 * 24
    late = np.array([0, gap_cycles - 96])
    moved = replace(
        schedule,
        burst_start=np.array([first, first + gap_cycles]),
        first_out=schedule.first_out + late,
        last_out=schedule.last_out + late,
    )
    return moved, tasks, fabric, figures


def test_i8_overlap_by_one_slot_and_by_one_cycle() -> None:
    assert prove(*two_on_a_link(96)).conflicts == 0
    assert prove(*two_on_a_link(120)).conflicts == 0
    assert fault_of(two_on_a_link(72)) == "overlap"
    assert fault_of(two_on_a_link(95)) == "overlap"


def test_overlap_of_single_vectors_names_link_and_cycle() -> None:
    build = TaskBuilder(CLOCK_HZ)
    build.message(0, 1, 320, [])
    build.message(0, 1, 320, [])
    schedule, *rest = compiled(build.build(), island(2))
    start = int(schedule.burst_start[0])
    with pytest.raises(ScheduleError) as caught:
        prove(replace(schedule, burst_start=np.array([start, start + 23])), *rest)
    assert (caught.value.fault, caught.value.link, caught.value.cycle) == ("overlap", 0, start + 23)


def test_stride_below_a_slot_is_an_overlap() -> None:
    schedule, *rest = compiled(one_message(320 * 5), island(2))
    assert fault_of((replace(schedule, stride=schedule.stride - 1), *rest)) == "overlap"


def test_interleaved_runs_that_touch_are_an_overlap() -> None:
    """Two runs, one vector in 100 cycles each, half a period apart; moved on to 23 cycles apart they clash."""
    build = TaskBuilder(CLOCK_HZ)
    slow = build.compute(0, VECTOR, 0, 1000, [])
    for _ in range(2):
        build.message(0, 1, 320 * 11, [slow])
    schedule, *rest = compiled(build.build(), island(2))
    start = schedule.burst_start[0]
    late = np.array([0, 0, 100])
    for gap, fault in ((24, ""), (50, ""), (76, ""), (23, "overlap"), (77, "overlap"), (0, "overlap")):
        moved = replace(
            schedule,
            burst_start=np.array([start, start + gap]),
            first_out=schedule.first_out + late,
            last_out=schedule.last_out + late,
        )
        if fault:
            assert fault_of((moved, *rest)) == fault, gap
        else:
            assert prove(moved, *rest).conflicts == 0, gap


def test_a_send_before_its_receive() -> None:
    schedule, *rest = compiled(one_message(320, 0, 2), line(3))
    early = schedule.burst_start[1] - 24 - 1  # before even a receiver without slack has it
    assert fault_of((replace(schedule, burst_start=changed(schedule.burst_start, 1, early)), *rest)) == "early_send"


def test_a_first_send_before_the_vector_is_ready() -> None:
    schedule, *rest = compiled(one_message(320), island(2))
    assert fault_of((replace(schedule, burst_start=schedule.burst_start - 1), *rest)) == "early_send"


def test_a_vector_dropped_and_one_duplicated() -> None:
    schedule, *rest = compiled(one_message(320 * 5), island(2))
    assert fault_of((replace(schedule, vectors=schedule.vectors - 1), *rest)) == "dropped"
    assert fault_of((replace(schedule, vectors=schedule.vectors + 1), *rest)) == "duplicated"
    spread, *rest = compiled(one_message(320 * 100), island(8))
    assert len(spread.flow_task) > 2
    twice = replace(spread, first_vector=changed(spread.first_vector, 2, int(spread.first_vector[1])))
    assert fault_of((twice, *rest)) == "duplicated"


def test_a_whole_message_dropped() -> None:
    schedule, tasks, fabric, figures = compiled(one_message(320), island(2))
    nothing = np.zeros(0, np.int32)
    none = replace(
        schedule,
        flow_task=nothing,
        first_vector=nothing,
        vector_step=nothing,
        vectors=nothing,
        stride=np.zeros(0, np.int64),
        burst_offset=np.zeros(1, np.int64),
        burst_link=nothing,
        burst_start=np.zeros(0, np.int64),
    )
    assert fault_of((none, tasks, fabric, figures)) == "dropped"


def test_a_wrong_link_and_a_wrong_last_hop() -> None:
    schedule, tasks, fabric, figures = compiled(one_message(320, 0, 2), line(4))
    off = int(np.flatnonzero((fabric.link_source == 2) & (fabric.link_target == 3))[0])
    back = int(np.flatnonzero((fabric.link_source == 1) & (fabric.link_target == 0))[0])
    rest = (tasks, fabric, figures)
    assert fault_of((replace(schedule, burst_link=changed(schedule.burst_link, 1, off)), *rest)) == "wrong_link"
    assert fault_of((replace(schedule, burst_link=changed(schedule.burst_link, 0, off)), *rest)) == "wrong_link"
    assert fault_of((replace(schedule, burst_link=changed(schedule.burst_link, 1, back)), *rest)) == "wrong_last_hop"


def test_a_buffer_overrun() -> None:
    """100 vectors wait 64 slots: the buffer holds 64, and is full; one slot longer it runs over."""
    schedule, tasks, fabric, figures = compiled(one_message(320 * 100, 0, 2), line(3), replace(SLACK, detours_max=0))

    def waiting(cycles: int) -> Case:
        late = replace(
            schedule,
            burst_start=schedule.burst_start + np.array([0, cycles]),
            first_out=schedule.first_out + cycles,
            last_out=schedule.last_out + cycles,
        )
        return late, tasks, fabric, figures

    assert prove(*waiting(64 * 24)).conflicts == 0
    assert fault_of(waiting(64 * 24 + 1)) == "buffer_overrun"
    few = compiled(one_message(320 * 64, 0, 2), line(3), replace(SLACK, detours_max=0))
    late = replace(
        few[0],
        burst_start=few[0].burst_start + np.array([0, 90_000]),
        first_out=few[0].first_out + 90_000,
        last_out=few[0].last_out + 90_000,
    )
    assert prove(late, *few[1:]).conflicts == 0  # however long, 64 fit


@pytest.mark.parametrize("hops", [1, 2])
def test_slack_one_cycle_short(hops: int) -> None:
    """A schedule made for 23 cycles of slack does not hold for 24."""
    tasks, fabric = one_message(320 * 3, 0, hops), line(hops + 1)
    short = compile_schedule(tasks, fabric, replace(SLACK, slack_cycles=23))
    assert prove(short, tasks, fabric, replace(SLACK, slack_cycles=23)).slack_cycles_min == 23
    assert fault_of((short, tasks, fabric, SLACK)) == "slack"


@pytest.mark.parametrize("hops", [1, 2])
def test_no_slack_is_told_from_a_vector_used_before_it_is_there(hops: int) -> None:
    """On its last cable and between two: a margin of nothing is too little slack, one cycle less is too early."""
    tasks, fabric = one_message(320 * 3, 0, hops), line(hops + 1)
    made = compile_schedule(tasks, fabric, replace(SLACK, slack_cycles=0))
    for sooner, fault in ((0, "slack"), (1, "early_send")):
        start = made.burst_start.copy()
        start[1:] -= sooner  # of the second cable, where there is one
        later = -sooner if hops == 1 else 100
        s = replace(made, burst_start=start, first_out=made.first_out + later, last_out=made.last_out + later)
        assert fault_of((s, tasks, fabric, SLACK)) == fault


def test_a_dependency_removed() -> None:
    def program(before: bool, message: bool) -> Tasks:
        build = TaskBuilder(CLOCK_HZ)
        first = build.compute(0, VECTOR, 500, 500, [])
        if message:
            build.message(0, 1, 320, [first] if before else [])
        else:
            build.compute(0, VECTOR, 500, 500, [first] if before else [])
        return build.build()

    for message in (False, True):
        without = compile_schedule(program(False, message), island(2), SLACK)
        assert fault_of((without, program(True, message), island(2), SLACK)) == "dependency"


def test_every_fault_has_a_test() -> None:
    text = Path(__file__).read_text() + Path(__file__).with_name("test_steady.py").read_text()
    assert all(f'"{name}"' in text for name in FAULTS)


def test_the_checker_imports_nothing_of_the_compiler() -> None:
    """Directly or through the modules it imports; a type hint alone (under TYPE_CHECKING) does not count."""
    folder = Path(proof_module.__file__).parent
    seen, pending = set(), ["proof", "proof_kernel"]
    while pending:
        name = pending.pop()
        seen.add(name)
        tree = ast.parse((folder / f"{name}.py").read_text())
        hints = {n for branch in ast.walk(tree) if isinstance(branch, ast.If) for n in ast.walk(branch)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node not in hints:
                package = "dcsim.network.scheduled"
                used = [a.name for a in node.names] if node.module == package else [node.module.split(".")[-1]]
                pending += [u for u in used if (node.module or "").startswith(package) and u not in seen]
    assert seen == {"proof", "proof_kernel", "rules"}


@st.composite
def programs(draw: st.DrawFn) -> tuple[Tasks, Fabric]:
    """A connected random fabric of 2..7 chips and up to 25 random tasks that stream into each other."""
    chips = draw(st.integers(2, 7))
    cables = [(draw(st.integers(0, c - 1)), c, "local", 1.0) for c in range(1, chips)]
    pairs = st.tuples(st.integers(0, chips - 1), st.integers(0, chips - 1)).filter(lambda p: p[0] != p[1])
    cables += [(a, b, "local", 1.0) for a, b in draw(st.lists(pairs, max_size=8))]
    build = TaskBuilder(CLOCK_HZ)
    held: list[list[int]] = [[] for _ in range(chips)]
    for _ in range(draw(st.integers(1, 25))):
        chip = draw(st.integers(0, chips - 1))
        before = draw(st.lists(st.sampled_from(held[chip]), max_size=3, unique=True)) if held[chip] else []
        if draw(st.booleans()):
            first = draw(st.integers(0, 600))
            rows = draw(st.integers(1, 8))
            held[chip].append(
                build.compute(chip, VECTOR, first, first + draw(st.integers(0, 3000)), before, rows, draw(st.integers(0, rows)))
            )
        else:
            target = draw(st.integers(0, chips - 1))
            held[target].append(build.message(chip, target, 320 * draw(st.integers(0, 60)), before))
    return build.build(), from_cables("random", chips, cables)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(programs(), st.sampled_from([0, 1, 64]), st.sampled_from([0, 24]), st.sampled_from([0, 6]))
def test_random_programs_compile_prove_and_replay(
    program: tuple[Tasks, Fabric],
    buffers: int,
    slack: int,
    detours: int,
) -> None:
    """What the compiler makes of any program the checker accepts, and the replay ends in the same cycle."""
    tasks, fabric = program
    figures = replace(FIGURES, buffer_vectors=buffers, slack_cycles=slack, detours_max=detours)
    schedule = compile_schedule(tasks, fabric, figures)
    proof = prove(schedule, tasks, fabric, figures)
    bound = find_bound(schedule, tasks, fabric, figures)
    assert schedule.makespan_cycles >= bound.cycles >= max(bound.critical_cycles, bound.busiest_link_cycles)
    assert proof.slack_cycles_min == -1 or proof.slack_cycles_min >= slack
    assert replay(schedule, tasks, fabric, figures).cycles == schedule.makespan_cycles


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(programs(), st.data())
def test_any_burst_sent_a_cycle_early_is_caught_or_harmless(program: tuple[Tasks, Fabric], data: st.DataObject) -> None:
    """Moving one burst by a cycle either breaks a rule the checker names, or the replay still runs."""
    tasks, fabric = program
    schedule = compile_schedule(tasks, fabric, SLACK)
    if not len(schedule.burst_link):
        return
    burst = data.draw(st.integers(0, len(schedule.burst_link) - 1))
    moved = replace(schedule, burst_start=changed(schedule.burst_start, burst, int(schedule.burst_start[burst]) - 1))
    fault = ""
    try:
        prove(moved, tasks, fabric, SLACK)
    except ScheduleError as error:
        fault = error.fault
    assert fault in ("", *FAULTS)
    if not fault:
        assert replay(moved, tasks, fabric, SLACK).cycles <= schedule.makespan_cycles


def test_a_larger_exchange_is_proved_with_its_counts() -> None:
    schedule, tasks, fabric, figures = compiled(direct_all_reduce(8, 8 * 320 * 10), island(8))
    proof = prove(schedule, tasks, fabric, figures)
    assert (proof.conflicts, proof.tasks, proof.vector_hops, proof.slack_cycles_min) == (0, 120, 2 * 56 * 10, 24)
    assert prove(*compiled(one_message(320, 0, 3), ring(6))).vector_hops == 3
