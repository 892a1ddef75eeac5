"""Micro-batches in flight: laid over itself at its interval no schedule meets itself, however it is looked at."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from by_rule import load
from schedule_cases import CLOCK_HZ, FIGURES, island

from dcsim.errors import ScheduleError, SpecError
from dcsim.llm.program import Shape
from dcsim.network.scheduled.proof import prove, prove_repeated
from dcsim.network.scheduled.schedule import compile_schedule
from dcsim.network.tasks import COMPUTE, VECTOR, TaskBuilder
from dcsim.study.machine import build

DECODE, MANY, CHUNK = Shape(1, 1024), Shape(8, 1024), Shape(1, 512, 128)
QUICK = [("node", CHUNK), ("64chip", DECODE), ("64chip", MANY), ("64chip", CHUNK), ("1rack", CHUNK), ("264chip", DECODE)]
LONG = [
    ("264chip", CHUNK),
    ("8rack", DECODE),
    ("8rack", MANY),
    ("8rack", CHUNK),
    ("1500chip", DECODE),
    ("1500chip", MANY),
]


@cache
def machine(name):
    return build(load(name).spec)


def within(name, shape):
    """The shape, or one as long as the LLM of the topology reads."""
    context = min(shape.context, machine(name).spec.llm.context_max)
    return Shape(shape.batch, context, min(shape.new_tokens, context))


def meetings(schedule, interval):
    """Pairs of vectors on one link that leave less than a slot apart, counting cycles round and round the interval."""
    vectors = np.repeat(schedule.vectors, schedule.hops).astype(np.int64)
    stride = np.repeat(schedule.stride, schedule.hops)
    which = np.repeat(np.arange(len(vectors)), vectors)
    nth = np.arange(len(which)) - np.repeat(np.cumsum(vectors) - vectors, vectors)
    leaves = (schedule.burst_start[which] + nth * stride[which]) % interval
    link = schedule.burst_link[which].astype(np.int64)
    order = np.lexsort((leaves, link))
    link, leaves = link[order], leaves[order]
    begins = np.flatnonzero(np.append(True, link[1:] != link[:-1]))
    following = np.append(leaves[1:], 0)
    following[np.append(begins[1:], len(link)) - 1] = leaves[begins] + interval
    return int((following - leaves < schedule.slot_cycles).sum())


def longest_held(tasks, schedule):
    """Cycles from a chip's first operation to its last output, of the chip where that is longest."""
    work = np.flatnonzero((tasks.kind == COMPUTE) & (tasks.last_cycles > 0))
    chips = tasks.chip[work]
    return max(int(schedule.last_out[work[chips == c]].max() - schedule.start[work[chips == c]].min()) for c in np.unique(chips))


def lays_over_itself(name, shape):
    own = machine(name)
    found = own.network.in_flight(within(name, shape))
    assert found is not None
    prove(found.schedule, found.tasks, own.fabric, found.figures)
    prove_repeated(found.schedule, found.tasks, own.fabric, found.interval_cycles)
    assert meetings(found.schedule, found.interval_cycles) == 0
    assert longest_held(found.tasks, found.schedule) <= found.interval_cycles
    busiest = int(found.schedule.link_cycles(own.fabric.link_count).max())
    assert busiest <= found.interval_cycles
    return found.bound_cycles, found.interval_cycles


@pytest.mark.parametrize(("name", "shape"), QUICK, ids=str)
def test_shipped_topologies_repeat_at_their_interval(name, shape):
    bound, interval = lays_over_itself(name, shape)
    assert bound <= interval <= 1.10 * bound


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shape"), LONG, ids=str)
def test_large_topologies_repeat_at_their_interval(name, shape):
    bound, interval = lays_over_itself(name, shape)
    assert bound <= interval <= 1.10 * bound


def test_a_lone_micro_batchs_schedule_meets_itself_and_the_proof_says_so():
    """Eight sequences decoding on 64 chips: hops pass nodes at any time, so at the same interval some vectors meet."""
    own = machine("64chip")
    alone, found = own.network.schedule(MANY), own.network.in_flight(MANY)
    interval = max(found.interval_cycles, longest_held(alone.tasks, alone.schedule))
    assert meetings(alone.schedule, interval) > 0
    with pytest.raises(ScheduleError, match="another micro-batch") as caught:
        prove_repeated(alone.schedule, alone.tasks, own.fabric, interval)
    assert caught.value.fault == "meeting"


def two_steps(vectors=10):
    """An operation, its message, and an operation that waits for it."""
    build = TaskBuilder(CLOCK_HZ)
    first = build.compute(0, VECTOR, 1000, 1000, [])
    sent = build.message(0, 1, 320 * vectors, [first])
    build.compute(1, VECTOR, 1000, 1000, [sent])
    return build.build()


def test_the_proof_of_repetition_finds_what_is_wrong():
    tasks, fabric = two_steps(), island(8)
    schedule = compile_schedule(tasks, fabric, FIGURES)
    prove_repeated(schedule, tasks, fabric, 1000)  # 240 cycles of link time, 1,000 of a chip
    with pytest.raises(ScheduleError) as caught:
        prove_repeated(schedule, tasks, fabric, 999)
    assert caught.value.fault == "held"
    apart = replace(schedule, stride=np.full_like(schedule.stride, 1000))  # all in the same cycle of every interval
    with pytest.raises(ScheduleError) as caught:
        prove_repeated(apart, tasks, fabric, 1000)
    assert caught.value.fault == "meeting"
    wrapped = replace(schedule, vectors=np.full_like(schedule.vectors, 2), stride=np.full_like(schedule.stride, 990))
    with pytest.raises(ScheduleError) as caught:  # the second leaves ten cycles before the first of the next
        prove_repeated(wrapped, tasks, fabric, 1000)
    assert caught.value.fault == "meeting"


def test_more_than_a_link_carries_in_an_interval_is_refused():
    tasks, fabric = two_steps(100), island(2)
    schedule = compile_schedule(tasks, fabric, FIGURES)
    with pytest.raises(ScheduleError) as caught:
        prove_repeated(schedule, tasks, fabric, 2399)
    assert caught.value.fault == "meeting"
    prove_repeated(schedule, tasks, fabric, 2400)


def test_packets_have_no_interval():
    with pytest.raises(SpecError, match="moves packets"):
        build(load("64chip", network="infiniband-ndr").spec).network.in_flight(DECODE)
