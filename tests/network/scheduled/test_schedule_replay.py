"""The replay against the schedule, and clocks: drift, jitter, deskew and the smallest safe slack."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import simpy
from schedule_cases import CLOCK_HZ, FIGURES, all_to_all, direct_all_reduce, island, one_message, ring, ring_all_reduce

from dcsim.errors import ScheduleError
from dcsim.network.scheduled.clocks import (
    TICKS,
    drifting_clocks,
    perfect_clocks,
    slack_needed_cycles,
    spanning_tree,
)
from dcsim.network.scheduled.replay import Orders, ReplayedIteration, replay
from dcsim.network.scheduled.schedule import Schedule, compile_schedule
from dcsim.network.tasks import VECTOR, TaskBuilder, Tasks
from dcsim.spec.network import Clock

SLACK = replace(FIGURES, slack_cycles=24)
EPOCH_ONLY = np.zeros(0, np.int64)


def clock(drift: str = "100 ppm", jitter: int = 3, jitter_max: int = 11) -> Clock:
    return Clock(
        drift=drift,
        exchange_cycles=256,
        jitter_cycles=jitter,
        jitter_max_cycles=jitter_max,
        slack_cycles=24,
        late_rate=1e-15,
        deskew="layer",
        deskew_cycles=20_000,
    )


def long_program(rounds: int) -> Tasks:
    """Operations of 40,000 cycles (about a layer) with a message between them, round a ring."""
    build = TaskBuilder(CLOCK_HZ)
    before: list[int] = []
    for turn in range(rounds):
        done = build.compute(turn % 6, VECTOR, 40_000, 40_000, before)
        before = [build.message(turn % 6, (turn + 1) % 6, 3200, [done])]
    return build.build()


@pytest.mark.parametrize("tasks", [direct_all_reduce(8, 8 * 320 * 40), all_to_all(8, 320 * 30), one_message(320 * 99)])
def test_perfect_clocks_end_in_the_schedules_cycle(tasks: Tasks) -> None:
    schedule = compile_schedule(tasks, island(8), SLACK)
    result = replay(schedule, tasks, island(8), SLACK)
    assert result.cycles == schedule.makespan_cycles
    assert result.finish_s == pytest.approx(schedule.makespan_cycles / 900e6)
    assert result.margin_cycles_min == 24


def test_idle_chips_and_links_have_no_process() -> None:
    result = replay(compile_schedule(one_message(320), island(8), SLACK), one_message(320), island(8), SLACK)
    assert result.processes == 2  # the sender and its link; a receiver without instructions has none


@pytest.mark.parametrize(("slack", "holds"), [(47, 2), (48, 2), (48, 3), (71, 3), (72, 3)])
def test_vectors_too_early_for_their_reader_fail(slack: int, holds: int) -> None:
    """One that comes 48 cycles before it is read is the third to wait by then, where another comes every 24 cycles."""
    tasks, fabric = one_message(320 * 99), island(8)
    figures = replace(FIGURES, slack_cycles=slack, receive_vectors=holds)
    schedule = compile_schedule(tasks, fabric, figures)
    if slack // figures.slot_cycles + 1 <= holds:
        assert replay(schedule, tasks, fabric, figures).early_cycles_max == slack
        return
    with pytest.raises(ScheduleError, match=f"early on link .* its end holds {holds}") as caught:
        replay(schedule, tasks, fabric, figures)
    assert caught.value.fault == "early"
    assert caught.value.link in schedule.burst_link


@pytest.mark.parametrize("extra", [24, 25])
def test_a_link_slower_than_the_slack_fails(extra: int) -> None:
    """Exactly the slack is still in time; one cycle more is named with link and cycle."""
    tasks, fabric = ring_all_reduce(6, 6 * 320), ring(6)
    schedule = compile_schedule(tasks, fabric, SLACK)
    link = int(schedule.burst_link[0])
    if extra == 24:
        assert replay(schedule, tasks, fabric, SLACK, late_links={link: extra}).cycles == schedule.makespan_cycles
        return
    with pytest.raises(ScheduleError, match=f"late on link {link}") as caught:
        replay(schedule, tasks, fabric, SLACK, late_links={link: extra})
    first = min(schedule.burst_start[schedule.burst_link == link])
    assert (caught.value.fault, caught.value.link, caught.value.cycle) == ("slack", link, first + 217 + 24)


def test_the_replay_does_not_read_the_answer_back() -> None:
    """Wrong times written into the schedule's tasks do not move the replay's finish, and faults are found."""
    tasks, fabric = direct_all_reduce(8, 8 * 320 * 5), island(8)
    schedule = compile_schedule(tasks, fabric, SLACK)
    lies = replace(schedule, first_out=schedule.first_out + 7, last_out=schedule.last_out * 3)
    assert replay(lies, tasks, fabric, SLACK).cycles == schedule.makespan_cycles
    operation = int(np.flatnonzero(tasks.kind == 0)[0])
    early = schedule.start.copy()
    early[operation] -= 1
    with pytest.raises(ScheduleError, match="before its inputs"):
        replay(replace(schedule, start=early), tasks, fabric, SLACK)
    with pytest.raises(ScheduleError, match="ready only in"):
        replay(replace(schedule, burst_start=schedule.burst_start - 1), tasks, fabric, SLACK)
    with pytest.raises(ScheduleError, match="never ended"):
        replay(replace(schedule, vectors=schedule.vectors - 1), tasks, fabric, SLACK)


def test_iterations_under_way_at_once_end_each_in_its_own_cycle() -> None:
    """The same orders carried out three times in one environment, the second while the first is under way."""
    tasks, fabric = ring_all_reduce(6, 6 * 320 * 4), ring(6)
    schedule = compile_schedule(tasks, fabric, SLACK)
    orders = Orders(schedule, tasks, fabric, SLACK, drifting_clocks(fabric, clock(), 3, EPOCH_ONLY, schedule))
    env = simpy.Environment()
    middle = schedule.makespan_cycles * TICKS // 2
    iterations = []
    for epoch in (0, middle, 5 * middle + 1):
        if epoch:
            env.run(until=epoch)
        iterations.append(ReplayedIteration(env, orders))
    env.run()
    assert [each.finish_cycles() for each in iterations] == [schedule.makespan_cycles] * 3
    assert len({each.margin_ticks for each in iterations}) == 1
    assert env.now > 5 * middle + schedule.makespan_cycles * TICKS * 0.9


def test_forwarding_what_has_not_come_fails() -> None:
    tasks, fabric = one_message(320, 0, 2), ring(6)
    schedule = compile_schedule(tasks, fabric, SLACK)
    early = schedule.burst_start - np.array([0, 1])
    with pytest.raises(ScheduleError, match="does not have") as caught:
        replay(replace(schedule, burst_start=early), tasks, fabric, SLACK)
    assert caught.value.fault == "early_send"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_smallest_safe_slack_is_safe_and_smallest(seed: int) -> None:
    """Worked out from the clocks, confirmed by replaying with it and with one cycle less."""
    tasks, fabric = long_program(12), ring(6)
    schedule = compile_schedule(tasks, fabric, replace(FIGURES, slack_cycles=200))
    clocks = drifting_clocks(fabric, clock(), seed, EPOCH_ONLY, schedule)
    least = slack_needed_cycles(schedule, fabric, clocks, 217)
    assert 11 < least < 200  # 480,000 cycles at up to 200 ppm apart are up to 96 cycles of drift
    assert replay(schedule, tasks, fabric, replace(FIGURES, slack_cycles=least), clocks).cycles > 0
    with pytest.raises(ScheduleError) as caught:
        replay(schedule, tasks, fabric, replace(FIGURES, slack_cycles=least - 1), clocks)
    assert caught.value.fault == "slack"
    assert caught.value.link >= 0
    assert caught.value.cycle > 0


def needed(schedule: Schedule, drift: str, points: np.ndarray, jitter: int = 0, seed: int = 4) -> int:
    fabric = ring(6)
    clocks = drifting_clocks(fabric, clock(drift, jitter, 11 if jitter else 0), seed, points, schedule)
    return slack_needed_cycles(schedule, fabric, clocks, 217)


def test_drift_gathers_without_deskew_and_not_with_it() -> None:
    """Slack grows with drift and length; with a deskew a round it stays below one round's drift and a few cycles."""
    schedule = compile_schedule(long_program(30), ring(6), replace(FIGURES, slack_cycles=300))
    points = np.sort(schedule.last_out[1::2])[:-1]
    alone, doubled = needed(schedule, "50 ppm", EPOCH_ONLY), needed(schedule, "100 ppm", EPOCH_ONLY)
    assert doubled == pytest.approx(2 * alone, rel=0.1)
    assert doubled <= 2 * 100e-6 * schedule.makespan_cycles + 3
    absorbed = needed(schedule, "100 ppm", points)
    assert absorbed <= 2 * 100e-6 * 41_000 + 4
    assert absorbed < doubled / 3
    assert needed(schedule, "0 ppm", EPOCH_ONLY) == 0


def test_with_enough_slack_clocks_change_no_cycle() -> None:
    tasks, fabric = long_program(30), ring(6)
    schedule = compile_schedule(tasks, fabric, SLACK)
    points = np.sort(schedule.last_out[1::2])[:-1]
    figures = replace(SLACK, slack_cycles=60)
    schedule = compile_schedule(tasks, fabric, figures)
    for seed in range(3):
        clocks = drifting_clocks(fabric, clock(), seed, points, schedule)
        result = replay(schedule, tasks, fabric, figures, clocks)
        assert result.cycles == schedule.makespan_cycles
        assert 0 <= result.margin_cycles_min < 60
        assert 60 < result.early_cycles_max < 2 * 60


def test_clocks_are_their_seeds() -> None:
    fabric = ring(6)
    one, same, other = (drifting_clocks(fabric, clock(), seed, np.array([9000])) for seed in (7, 7, 8))
    assert (one.resume_ticks == same.resume_ticks).all()
    assert (one.period_ticks == same.period_ticks).all()
    assert (one.period_ticks != other.period_ticks).any()
    assert (abs(one.period_ticks - TICKS) <= 100_000).all()
    assert one.jitter_ticks is None


def test_counters_follow_the_root_within_a_few_cycles() -> None:
    """Free-running for 10 million cycles 200 ppm drift apart 2000 cycles; exchanged counters do not."""
    fabric = ring(12)
    clocks = drifting_clocks(fabric, clock(), 3, np.array([10_000_000]))
    spread = np.ptp(clocks.resume_ticks[1] - 10_000_000 * TICKS) / TICKS
    assert 0 < spread < 30
    assert spanning_tree(fabric).tolist() == [0, 0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 0]


def test_ticks_are_exact_and_never_go_back() -> None:
    perfect = perfect_clocks(3)
    assert perfect.ticks(np.array([2]), np.array([12_345]))[0] == 12_345 * TICKS
    drifting = drifting_clocks(ring(6), clock(), 5, np.array([1000, 2000]))
    cycles = np.arange(0, 3000, 7)
    for chip in range(6):
        assert (np.diff(drifting.ticks(np.full(len(cycles), chip), cycles)) >= 0).all()


def test_jitter_of_long_bursts_is_nearer_the_worst() -> None:
    """The largest of n draws grows with n and never passes the cut."""
    short = compile_schedule(all_to_all(8, 320), island(8), SLACK)
    long = compile_schedule(all_to_all(8, 320 * 500), island(8), replace(SLACK, detours_max=0))
    a, b = (drifting_clocks(island(8), clock(), 1, EPOCH_ONLY, s).jitter_ticks for s in (short, long))
    assert a is not None
    assert b is not None
    assert abs(a.mean()) < 1.5 * TICKS  # zero on average: 56 draws of sigma 3, standard error 0.4
    assert 8 * TICKS < b.mean() < 11 * TICKS  # the largest of 500 normal draws is about 3 sigma
    assert max(a.max(), b.max()) <= 11 * TICKS
