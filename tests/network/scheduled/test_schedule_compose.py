"""Composition against the whole: composed copies, flattened, pass the checker and the replay; unsound ones do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from schedule_cases import CLOCK_HZ, FIGURES, direct_all_reduce, island, line, one_message

from dcsim.errors import ScheduleError
from dcsim.fabric.graph import Fabric, from_cables
from dcsim.network.scheduled.compose import (
    Block,
    Copy,
    check_interval,
    compose,
    flatten,
    interval_cycles,
    links_between,
    same_place,
)
from dcsim.network.scheduled.proof import prove
from dcsim.network.scheduled.replay import replay
from dcsim.network.scheduled.schedule import compile_schedule
from dcsim.network.tasks import TaskBuilder, Tasks


def block_of(tasks: Tasks, fabric: Fabric) -> Block:
    schedule = compile_schedule(tasks, fabric, FIGURES)
    prove(schedule, tasks, fabric, FIGURES)
    return Block(schedule, tasks, fabric)


def two_islands() -> Fabric:
    """Two islands of 8, chips i and 15 - i cabled: the second is the first in another order."""
    cables = [(8 * i + a, 8 * i + b, "local", 1.0) for i in range(2) for a in range(8) for b in range(a)]
    return from_cables("islands", 16, [*cables, *((c, 15 - c, "global", 2.0) for c in range(8))])


def layers(count: int, gap_cycles: int = 0) -> tuple[list[Copy], Fabric]:
    """One all-reduce compiled on an island, run `count` times on alternating islands."""
    small, fabric = island(8), two_islands()
    block = block_of(direct_all_reduce(8, 8 * 320 * 30), small)
    places = [np.arange(8, dtype=np.int32), np.arange(15, 7, -1, dtype=np.int32)]
    copies = []
    for n in range(count):
        chips = places[n % 2]
        offset = n * (block.schedule.makespan_cycles + gap_cycles)
        copies.append(Copy(block, offset, chips, links_between(small, fabric, chips), (n - 1,) if n else ()))
    return copies, fabric


def test_equal_layers_compiled_once_are_a_sound_whole() -> None:
    copies, fabric = layers(6)
    whole = compose(copies, fabric, FIGURES)
    one = copies[0].block.schedule
    assert whole.makespan_cycles == 6 * one.makespan_cycles
    assert whole.vector_hops == 6 * one.vector_hops
    schedule, tasks = flatten(whole)
    proof = prove(schedule, tasks, fabric, FIGURES)
    assert proof.vector_hops == whole.vector_hops
    assert replay(schedule, tasks, fabric, FIGURES).cycles == whole.makespan_cycles


def test_copies_on_other_chips_may_run_at_once() -> None:
    copies, fabric = layers(2)
    together = [copies[0], replace(copies[1], offset_cycles=0, after=())]
    assert compose(together, fabric, FIGURES).makespan_cycles == copies[0].block.schedule.makespan_cycles


def test_copies_that_share_links_at_once_are_refused() -> None:
    """Refused at the first cycle two windows share, and the checker agrees that it is no schedule."""
    copies, fabric = layers(3)
    again = replace(copies[2], offset_cycles=100, after=())
    with pytest.raises(ScheduleError, match="two copies use link") as caught:
        compose([copies[0], again], fabric, FIGURES)
    assert caught.value.fault == "overlap"
    apart = compose([copies[0]], fabric, FIGURES)
    schedule, tasks = flatten(replace(apart, copies=(copies[0], again)))
    with pytest.raises(ScheduleError) as seen:
        prove(schedule, tasks, fabric, FIGURES)
    assert seen.value.fault == "overlap"


def test_a_copy_may_not_start_before_what_it_needs() -> None:
    copies, fabric = layers(2, gap_cycles=-1)
    with pytest.raises(ScheduleError) as caught:
        compose(copies, fabric, FIGURES)
    assert caught.value.fault == "dependency"


def test_a_place_that_is_not_cabled_alike_is_refused() -> None:
    copies, fabric = layers(1)
    chips = copies[0].chips.copy()
    chips[7] = 8  # chip 8 is cabled to chip 7 only
    links = links_between(copies[0].block.fabric, fabric, chips)
    with pytest.raises(ScheduleError) as caught:
        compose([replace(copies[0], chips=chips, links=links)], fabric, FIGURES)
    assert caught.value.fault == "wrong_link"
    swapped = copies[0].links.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    with pytest.raises(ScheduleError) as caught:
        compose([replace(copies[0], links=swapped)], fabric, FIGURES)
    assert caught.value.fault == "wrong_link"


def test_parallel_links_are_renamed_in_order() -> None:
    double = [(0, 1, "local", 1.0), (0, 1, "local", 1.0)]
    small = from_cables("double", 2, double)
    large = from_cables("chain", 4, [*double, (2, 3, "local", 1.0), (2, 3, "local", 1.0), (1, 2, "local", 1.0)])
    links = links_between(small, large, np.array([3, 2], np.int32))
    assert len(set(links.tolist())) == 4
    assert (large.link_source[links] == np.array([3, 2])[small.link_source]).all()
    assert (links_between(small, line(3), np.array([0, 1], np.int32)) == -1).sum() == 2


def test_interval_of_one_link_is_its_window() -> None:
    """10 vectors take 240 cycles of the only link: it may start again every 240 cycles, not every 239."""
    tasks, fabric = one_message(3200), line(2)
    block = block_of(tasks, fabric)
    whole = compose([Copy(block, 0, *same_place(block))], fabric, FIGURES)
    assert interval_cycles(whole) == 240
    check_interval(whole, 240)
    with pytest.raises(ScheduleError, match="every 239 cycles"):
        check_interval(whole, 239)


@pytest.mark.parametrize("second", [300, 500, 5000])
def test_interval_agrees_with_the_checker(second: int) -> None:
    """Two windows on one link: started again at the interval found, three rounds are a schedule."""
    tasks, fabric = one_message(3200), line(2)
    block = block_of(tasks, fabric)
    place = same_place(block)
    whole = compose([Copy(block, 0, *place), Copy(block, second, *place)], fabric, FIGURES)
    interval = interval_cycles(whole)
    assert interval >= 480
    check_interval(whole, interval)
    rounds = [Copy(block, start + n * interval, *place) for n in range(3) for start in (0, second)]
    schedule, joined = flatten(compose(rounds, fabric, FIGURES))
    assert prove(schedule, joined, fabric, FIGURES).conflicts == 0
    with pytest.raises(ScheduleError):
        check_interval(whole, second)  # the second window of a round falls on the first of the next


def test_nothing_composes_to_nothing() -> None:
    whole = compose([], line(2), FIGURES)
    assert (whole.makespan_cycles, whole.vector_hops, interval_cycles(whole)) == (0, 0, 1)
    empty = block_of(TaskBuilder(CLOCK_HZ).build(), line(2))
    assert compose([Copy(empty, 5, *same_place(empty))], line(2), FIGURES).makespan_cycles == 5
