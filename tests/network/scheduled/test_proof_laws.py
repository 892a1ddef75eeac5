"""The proof on schedules written by hand: what just fits passes, a cycle or a vector off is refused by name, place and cycle."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from schedule_cases import line

from dcsim.errors import ScheduleError
from dcsim.network.scheduled import proof_kernel as kernel
from dcsim.network.scheduled.proof import prove, prove_repeated
from dcsim.network.scheduled.rules import ScheduleRules
from dcsim.network.scheduled.schedule import Schedule
from dcsim.network.tasks import VECTOR, TaskBuilder

SLOT, CABLE, SEND, RECEIVE, FORWARD, ROOM = 10, 100, 20, 30, 5, 2
RULES = ScheduleRules(
    clock_hz=1e9,
    vector_bytes=320,
    slot_cycles=SLOT,
    link_cycles=CABLE,
    slack_cycles=0,
    send_cycles=SEND,
    receive_cycles=RECEIVE,
    forward_cycles=FORWARD,
    buffer_vectors=ROOM,
    receive_vectors=99,
    detours_max=0,
)
HOP = CABLE + FORWARD  # leaving one chip to leaving the next, at the soonest


class Flow(NamedTuple):
    """Vectors of a message along the chips 0, 1, 2, ... of a line; `leaves` [hop] when the first does."""

    task: int
    vectors: int
    leaves: tuple[int, ...]
    stride: int = SLOT
    first_vector: int = 0
    vector_step: int = 1


def schedule_of(flows, times):
    """The schedule of `flows`, with (start, first_out, last_out) of each task."""
    start, first_out, last_out = np.array(times, np.int64).reshape(-1, 3).T.copy()
    onward = [fabric_link(hop) for flow in flows for hop in range(len(flow.leaves))]

    def column(name, kind):
        return np.array([getattr(flow, name) for flow in flows], kind)

    return Schedule(
        start=start,
        first_out=first_out,
        last_out=last_out,
        flow_task=column("task", np.int32),
        first_vector=column("first_vector", np.int32),
        vector_step=column("vector_step", np.int32),
        vectors=column("vectors", np.int32),
        stride=column("stride", np.int64),
        burst_offset=np.cumsum([0, *(len(flow.leaves) for flow in flows)]),
        burst_link=np.array(onward, np.int32),
        burst_start=np.array([cycle for flow in flows for cycle in flow.leaves], np.int64),
        slot_cycles=SLOT,
    )


CHIPS = line(5)


def fabric_link(chip):
    """The link from a chip of the line to the next."""
    return int(np.flatnonzero((CHIPS.link_source == chip) & (CHIPS.link_target == chip + 1))[0])


def messages(*vectors, hops=1):
    """A program of messages from chip 0, of so many vectors each."""
    build = TaskBuilder(1e9)
    for count in vectors:
        build.message(0, hops, 320 * count, [])
    return build.build()


def shown(flows, times, tasks, rules=RULES):
    """(fault, link, cycle) of the first rule broken, or the least slack."""
    try:
        return prove(schedule_of(flows, times), tasks, CHIPS, rules).slack_cycles_min
    except ScheduleError as error:
        return error.fault, error.link, error.cycle


def test_a_vector_over_three_links_needs_just_the_cycles_of_the_rule():
    """It is ready at 0; each of its four steps a cycle sooner is too early, and is told at its link and cycle."""
    leaves = (SEND, SEND + HOP, SEND + 2 * HOP)
    due = leaves[-1] + CABLE + RECEIVE
    tasks = messages(1, hops=3)
    assert shown([Flow(0, 1, leaves)], [(0, due, due)], tasks) == 0
    assert shown([Flow(0, 1, leaves)], [(0, due - 1, due - 1)], tasks) == ("early_send", fabric_link(2), due - 1)
    for hop in range(3):
        sooner = tuple(cycle - (place >= hop) for place, cycle in enumerate(leaves))
        assert shown([Flow(0, 1, sooner)], [(0, due, due)], tasks) == ("early_send", fabric_link(hop), sooner[hop])


@pytest.mark.parametrize("margins", [(3, 7, 9), (9, 3, 7), (7, 9, 3), (0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_the_least_slack_is_that_of_the_tightest_of_its_steps(margins):
    """Two forwardings and the arrival, each with a margin of its own; a rule of just so much slack is kept, of more is not."""
    first, second, last = margins
    leaves = (SEND, SEND + HOP + first, SEND + 2 * HOP + first + second)
    due = leaves[-1] + CABLE + RECEIVE + last
    given = [Flow(0, 1, leaves)], [(0, due, due)], messages(1, hops=3)
    assert shown(*given) == min(margins)
    for slack in range(1, 10):
        asked = replace(RULES, slack_cycles=slack)
        found = shown(*given, asked)
        assert found == min(margins) if slack <= min(margins) else found[0] == "slack"


@pytest.mark.parametrize("vectors", [2, 3, 5])
def test_the_last_vector_of_a_message_is_looked_at_as_well_as_the_first(vectors):
    """They leave as they become ready and come as they are awaited, one in `stride` cycles; a last one off is refused."""
    stride, spread = 15, 15 * (vectors - 1)
    build = TaskBuilder(1e9)
    made = build.compute(0, VECTOR, 100, 100 + spread, [])
    build.message(0, 1, 320 * vectors, [made])
    tasks, leaves, due = build.build(), 100 + SEND, 100 + SEND + CABLE + RECEIVE
    work = (0, 100, 100 + spread)

    def told(stride, ends):
        return shown([Flow(1, vectors, (leaves,), stride)], [work, (100, due, ends)], tasks)

    assert told(stride, due + spread) == 0
    sooner = leaves + (stride - 1) * (vectors - 1)
    assert told(stride - 1, due + spread) == ("early_send", fabric_link(0), sooner)
    assert told(stride, due + spread - 1) == ("early_send", fabric_link(0), due + spread - 1)
    assert told(stride + 1, due + spread) == ("early_send", fabric_link(0), due + spread)
    assert told(stride + 1, due + spread + vectors - 1) == 0


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_flow_of_no_vectors_or_of_no_links_is_refused(place):
    """Beside others that bring all there is, wherever it stands among them."""
    tasks, times = messages(1, 1), [(0, 500, 500)] * 2
    whole = [Flow(0, 1, (SEND,)), Flow(1, 1, (SEND + SLOT,))]
    assert shown(whole, times, tasks) == 500 - (SEND + SLOT + CABLE + RECEIVE)
    for empty in (Flow(0, 0, (200,)), Flow(0, 1, ())):
        with pytest.raises(ScheduleError, match=rf"dropped on link -1 in cycle -1: .* \(task or flow {place}\)"):
            prove(schedule_of([*whole[:place], empty, *whole[place:]], times), tasks, CHIPS, RULES)


@pytest.mark.parametrize("stranger", [-1, 3, 1, 2])
def test_a_flow_of_what_is_no_message_between_chips_is_refused(stranger):
    """Of no task at all, before the first and behind the last; of an operation; of a message that stays on its chip."""
    build = TaskBuilder(1e9)
    build.message(0, 1, 320, [])
    build.compute(0, VECTOR, 1, 1, [])
    build.message(0, 0, 320, [])
    own, times = Flow(0, 1, (SEND,)), [(0, 500, 500), (0, 1, 1), (0, 0, 0)]
    assert shown([own], times, build.build()) > 0
    assert shown([own, Flow(stranger, 1, (200,))], times, build.build()) == ("duplicated", -1, -1)


def test_vectors_of_two_messages_at_the_very_first_cycle_are_seen():
    """Cycle 0 of link 0 is a cycle and a link like others, whether they are lone or in runs, of one round or of two."""
    rules = replace(RULES, send_cycles=0)
    far = 10**6
    for vectors in (1, 3):
        tasks = messages(vectors, vectors)
        for starts in ((0, 0), (0, SLOT * vectors - 1), (SLOT * vectors - 1, 0)):
            flows = [Flow(task, vectors, (start,)) for task, start in enumerate(starts)]
            fault, link, _ = shown(flows, [(0, far, far)] * 2, tasks, rules)
            assert (fault, link) == ("overlap", fabric_link(0))
        flows = [Flow(task, vectors, (start,)) for task, start in enumerate((0, SLOT * vectors))]
        assert shown(flows, [(0, far, far)] * 2, tasks, rules) > 0
    one = schedule_of([Flow(0, 2, (0,), 100)], [(0, far, far)])
    with pytest.raises(ScheduleError, match="meeting on link 0 in cycle 0"):
        prove_repeated(one, messages(2), CHIPS, 100)
    at_once = replace(
        RULES, link_cycles=0, send_cycles=0, receive_cycles=0, forward_cycles=0, buffer_vectors=0
    )  # nothing takes time, and nothing may wait
    assert shown([Flow(0, 1, (0, 0))], [(0, far, far)], messages(1, hops=2), at_once) == 0
    assert shown([Flow(0, 1, (0, 1))], [(0, far, far)], messages(1, hops=2), at_once) == ("buffer_overrun", fabric_link(1), 0)


def test_bursts_are_gathered_by_link_in_the_order_of_their_flows():
    """Each with its start and flow; a link is one of single vectors where all of its flows are."""
    random = np.random.default_rng(3)
    for _ in range(200):
        vectors = random.integers(1, 3, random.integers(1, 6)).astype(np.int32)
        offset = np.concatenate([[0], np.cumsum(random.integers(1, 4, len(vectors)))])
        link = random.integers(0, 4, offset[-1]).astype(np.int32)
        start = random.integers(0, 1000, offset[-1])
        flow = np.repeat(np.arange(len(vectors)), np.diff(offset))
        own = [np.flatnonzero(link == one) for one in range(4)]
        places, starts, flows, single = kernel.bursts_by_link(4, offset, link, start, vectors)
        assert places.tolist() == [0, *np.cumsum([len(bursts) for bursts in own]).tolist()]
        assert starts.tolist() == start[np.concatenate(own)].tolist()
        assert flows.tolist() == flow[np.concatenate(own)].tolist()
        assert single.tolist() == [bool((vectors[flow[bursts]] == 1).all()) for bursts in own]


def test_a_vector_may_take_the_room_that_another_leaves_in_that_cycle():
    """A buffer of one: two lone vectors wait `SLOT` + 1 cycles each, one after the other; a cycle of both is too many."""
    rules = replace(RULES, buffer_vectors=1)
    waits, far = SLOT + 1, 10**6
    for gap, fits in ((waits, True), (waits + 1, True), (waits - 1, False)):
        flows = [Flow(task, 1, (at, at + HOP + waits)) for task, at in enumerate((SEND, SEND + gap))]
        found = shown(flows, [(0, far, far)] * 2, messages(1, 1, hops=2), rules)
        assert found == waits if fits else found == ("buffer_overrun", fabric_link(1), SEND + gap + HOP)


def test_an_operation_of_a_single_cycle_holds_its_chip():
    """Two of them 100 cycles apart: their chip can begin anew every 101 cycles, and no sooner."""
    build = TaskBuilder(1e9)
    for _ in range(2):
        build.compute(0, VECTOR, 1, 1, [])
    twice = schedule_of([], [(0, 1, 1), (100, 101, 101)])
    prove_repeated(twice, build.build(), CHIPS, 101)
    with pytest.raises(ScheduleError) as caught:
        prove_repeated(twice, build.build(), CHIPS, 100)
    assert (caught.value.fault, caught.value.cycle) == ("held", 101)


def delivery_oracle(sizes, local, flows):
    """The faults of a delivery, by counting each vector: {(fault, message)}."""
    got = [Counter() for _ in sizes]
    for task, first, step, count in flows:
        got[task].update(first + j * step for j in range(count))
    found = set()
    for task, size in enumerate(sizes):
        if size > 0 and not local[task] and got[task] != Counter(range(size)):
            few = sum(got[task].values()) < size
            found.add((kernel.DROPPED if few else kernel.DUPLICATED, task))
    return found


def test_each_vector_is_in_just_one_flow_however_messages_are_split():
    """Thousands of small messages in one to three flows, by turns or one after another; in half of them one number is off."""
    random, seen = np.random.default_rng(1), Counter()
    for _ in range(3000):
        sizes = random.integers(0, 5, 4)
        local = random.random(4) < 0.15
        flows = []
        for task in np.flatnonzero((sizes > 0) & ~local):
            parts = int(random.integers(1, 4))
            if random.random() < 0.5:
                flows += [(task, part, parts, len(range(part, sizes[task], parts))) for part in range(parts)]
            else:
                cuts = np.linspace(0, sizes[task], parts + 1).astype(int)
                flows += [(task, a, 1, b - a) for a, b in pairwise(cuts)]
        table = np.array([flow for flow in flows if flow[3]], np.int32).reshape(-1, 4)
        random.shuffle(table)
        if len(table) and random.random() < 0.6:
            row, column = random.integers(len(table)), random.integers(1, 4)
            table[row, column] = max(table[row, column] + random.choice([-1, 1]), int(column == 3))
        columns = [np.ascontiguousarray(column) for column in table.T]
        fault, task, link, cycle = kernel.check_delivery(sizes.astype(np.int64), local, *columns)
        wanted = delivery_oracle(sizes, local, table.tolist())
        assert (link, cycle) == (-1, -1)
        assert (fault, task) in wanted if wanted else fault == kernel.NONE
        seen[int(fault)] += 1
    assert min(seen.values()) > 100
    assert len(seen) == 3


def leaving_too_close(cycles, slot, interval=None):
    """Cycles of vectors with another less than a slot before or behind, round and round an interval if there is one."""
    ordered = sorted(cycles)
    if interval is not None:
        ordered = [ordered[-1] - interval, *ordered, ordered[0] + interval]
    return {cycle for a, b in pairwise(ordered) if b - a < slot for cycle in (a, b)}


@pytest.mark.parametrize("apart", [40, 40 * 16, 40 * 40])  # in slots of a link: busy, just as busy as may be, idle
def test_two_vectors_of_many_are_told_apart_by_a_cycle(apart):
    """Twelve lone vectors in any order, all but one pair far apart; the pair is a slot apart, or a cycle less or more."""
    random = np.random.default_rng(apart)
    for pair in range(11):
        for gap in (SLOT - 1, SLOT, SLOT + 1, 0):
            gaps = np.full(11, apart)
            gaps[pair] = gap
            starts = random.permutation(np.concatenate([[0], np.cumsum(gaps)])) + random.integers(3)
            flows, ones = np.arange(12, dtype=np.int32), np.ones(12, np.int32)
            offset, strides = np.array([0, 0, 12]), np.ones(12, np.int64)
            found = kernel.check_slots(offset, starts.astype(np.int64), flows, np.ones(2, bool), ones, strides, SLOT)
            close = leaving_too_close(starts.tolist(), SLOT)
            assert (found[0], found[2]) == ((kernel.OVERLAP, 1) if gap < SLOT else (kernel.NONE, -1))
            assert gap >= SLOT or found[3] in close


def test_what_repeats_meets_itself_where_a_count_of_cycles_says():
    """Runs of a few vectors on two links, laid over themselves: just as many as fit, one cycle too many, and across the end."""
    random, seen = np.random.default_rng(2), Counter()
    for _ in range(1500):
        runs = int(random.integers(1, 4))
        vectors = random.integers(1, 4, runs).astype(np.int32)
        stride = random.choice([SLOT, SLOT + 1, 3 * SLOT, 500], runs).astype(np.int64)
        link = random.integers(0, 2, runs)
        starts = (random.integers(0, 30, runs) * SLOT + random.choice([0, 0, 0, 1], runs)).astype(np.int64)
        interval = int(random.choice([SLOT, 2 * SLOT, 4 * SLOT, 9 * SLOT, 10**4])) + int(random.choice([-1, 0, 0, 1]))
        order = np.argsort(link, kind="stable")
        offset = np.concatenate([[0], np.cumsum(np.bincount(link, minlength=2))])
        found = kernel.check_repeated(offset, starts[order], order.astype(np.int32), vectors, stride, SLOT, interval)
        wanted = None
        for one in range(2):
            mine = np.flatnonzero(link == one).tolist()
            leaves = [int(starts[run] + j * stride[run]) % interval for run in mine for j in range(vectors[run])]
            if len(leaves) * SLOT > interval:
                wanted = one, {interval}
            elif close := leaving_too_close(leaves, SLOT, interval) if leaves else set():
                wanted = one, {cycle % interval for cycle in close}
            if wanted:
                break
        if wanted:
            assert (found[0], found[2]) == (kernel.MEETING, wanted[0])
            assert found[3] in wanted[1] or found[3] - interval in wanted[1]
        else:
            assert tuple(found) == (kernel.NONE, -1, -1, -1)
        seen[bool(wanted)] += 1
    assert min(seen.values()) > 300
