"""How tasks progress: operations hand out results as they are ready, packets leave when they are full.

Each task has a fraction of its output that is out (or whose time is known), with the time of that fraction. A
predecessor's progress is passed on at once, with times that may lie in the future; only packets become events. Once a
task's inputs are complete its output is linear between first and last, as in dcsim.network.tasks.
"""

from __future__ import annotations

from typing import Any

from dcsim.kernels.jit import entry, leaf, part
from dcsim.network.packet.engine.state import ADMITTED, ANSWERED, IDLE, START_PLACE, STARTING, UNDECIDED, EngineState
from dcsim.network.packet.engine.wheel_kernel import push

ONE = 1 << 20
MESSAGE_KIND = 1


@leaf
def _inputs(s: EngineState, task: int) -> tuple[int, int, int]:
    """(least fraction of any input, latest first output, latest output so far) over the predecessors."""
    fraction, first, last = ONE, 0, 0
    for i in range(s.tasks[task].before_start, s.tasks[task + 1].before_start):
        before = s.before[i]
        fraction = min(fraction, s.tasks[before].fraction)
        first = max(first, s.tasks[before].first_out)
        last = max(last, s.tasks[before].last_out)
    return fraction, first, last


@leaf
def _lead_time(s: EngineState, task: int) -> int:
    """When the lead rows of every input are there; call once each has that fraction."""
    when, rows, lead = 0, s.tasks[task].rows, s.tasks[task].lead
    for i in range(s.tasks[task].before_start, s.tasks[task + 1].before_start):
        before = s.before[i]
        first, last = s.tasks[before].first_out, s.tasks[before].last_out
        if s.tasks[before].fraction == ONE:
            last = first + (last - first) * lead // rows
        elif lead == 0:
            last = first
        when = max(when, last)
    return when


@leaf
def _compute(s: EngineState, task: int, fraction: int, last: int) -> bool:
    """Advance a compute task to a fraction of its input; True when its output moved."""
    if s.tasks[task].start < 0:
        if fraction * s.tasks[task].rows < s.tasks[task].lead * ONE:
            return False
        s.tasks[task].start = _lead_time(s, task)
        s.tasks[task].first_out = s.tasks[task].start + s.spans[task].first
    elif fraction == s.tasks[task].fraction:
        return False
    span = s.spans[task].last - s.spans[task].first
    out = s.tasks[task].first_out + span * fraction // ONE
    s.tasks[task].last_out = max(out, last + s.spans[task].first)
    s.tasks[task].fraction = fraction
    return True


@leaf
def _release(s: EngineState, now: int, message: int, fraction: int, first: int, last: int) -> None:
    """Hand the packets that are full to the adapter."""
    begin = s.tasks[message].first_packet
    count = s.tasks[message].packets
    if s.tasks[message].start < 0:
        s.tasks[message].start = first
    full = fraction * count >> 20
    at_once = fraction == ONE and s.tasks[message].released == 0
    earliest = max(s.tasks[message].start + s.spans[message].delay, now)
    size = s.tasks[message].size
    for k in range(s.tasks[message].released, full):
        ready = last
        if at_once and size > 0:
            ready = first + (last - first) * min((k + 1) * s.rules[0].mtu, size) // size
        row = s.packets[begin + k]
        row.message, row.target, row.link, row.next = message, s.tasks[message].target, -1, -1
        row.detour = UNDECIDED
        row.bytes = max(0, min(s.rules[0].mtu, size - k * s.rules[0].mtu)) + s.rules[0].header
        answered = (k + 1) % s.rules[0].ack_packets == 0 or k + 1 == count
        row.flags = ANSWERED if answered else 0
        row.channel, row.wire, row.serial, row.switch = 0, 0, 0, 0
        s.ready[begin + k] = max(ready + s.spans[message].delay, earliest)
    if full > s.tasks[message].released:
        first_new = begin + s.tasks[message].released
        s.tasks[message].released = full
        if s.tasks[message].state == IDLE:
            s.tasks[message].state = ADMITTED if s.tasks[message].sent > 0 else STARTING
            push(s.wheel, s.ready[first_new], len(s.links) + START_PLACE, message)


@leaf
def _wake_successors(s: EngineState, task: int, was: int, depth: int) -> int:
    """Put the successors that may advance on the stack; returns its new depth."""
    started = was == 0
    done = s.tasks[task].fraction == ONE
    for i in range(s.tasks[task].after_start, s.tasks[task + 1].after_start):
        after = s.after[i]
        if started:
            s.tasks[after].idle -= 1
        if done:
            s.tasks[after].unfinished -= 1
        if s.tasks[after].idle == 0 and (s.tasks[after].unfinished == 0 or not s.tasks[after].whole):
            s.stack[depth] = after
            depth += 1
    return depth


@part
def spread(s: EngineState, now: int, task: int, was: int) -> None:
    """Task `task` has progressed from fraction `was`: advance everything that follows from it."""
    depth = 0
    while True:
        if s.tasks[task].fraction == ONE and was < ONE:
            s.tally[0].open -= 1
        depth = _wake_successors(s, task, was, depth)
        moved = False
        while depth > 0 and not moved:
            depth -= 1
            task = int(s.stack[depth])
            fraction, first, last = _inputs(s, task)
            if s.tasks[task].kind == MESSAGE_KIND:
                _release(s, now, task, fraction, first, last)
            else:
                was = s.tasks[task].fraction
                moved = _compute(s, task, fraction, last)
        if not moved:
            return


@leaf
def begin_root(s: EngineState, now: int, task: int) -> bool:
    """Start a task without predecessors at `now`; True when its progress is to be spread."""
    if s.tasks[task].kind == MESSAGE_KIND:
        _release(s, now, task, ONE, now, now)
        return False
    s.tasks[task].start = now
    s.tasks[task].first_out = now + s.spans[task].first
    s.tasks[task].last_out = now + s.spans[task].last
    s.tasks[task].fraction = ONE
    return True


@leaf
def arrive(s: EngineState, message: int, packet: int, when: int) -> int:
    """A packet's tail reaches the target chip at `when`: the fraction its message had before, to be spread from there.

    -1 when nothing follows from the message.
    """
    row = s.tasks[message]
    was = row.fraction
    row.arrived += 1
    row.fraction = (row.arrived * ONE + row.packets - 1) // row.packets
    if was == 0 or when < row.first_out:
        row.first_out = when
    if was == 0 or when > row.last_out:
        row.last_out = when
        row.last_packet = packet
    if row.followers > 0:
        return int(was)
    if row.fraction == ONE:
        s.tally[0].open -= 1
    return -1


@entry
def reset_tasks(s: EngineState, base: int, release_ps: Any, delay_ps: Any) -> None:
    """All tasks back to their beginning, released no earlier than release_ps[task] after `base`."""
    s.tally[0].open = len(s.tasks) - 1
    for task in range(len(s.tasks) - 1):
        row = s.tasks[task]
        row.fraction, row.arrived, row.released, row.sent, row.state = 0, 0, 0, 0, IDLE
        row.start, row.last_packet, row.port, row.resend_first, row.lost_first = -1, -1, -1, -1, -1
        row.idle = s.tasks[task + 1].before_start - row.before_start
        row.unfinished = row.idle
        s.spans[task].release, s.spans[task].delay = base + release_ps[task], delay_ps[task]
    for pair in range(len(s.windows)):  # all has arrived; what answers are still on their way say nothing new
        s.windows[pair].out, s.windows[pair].unanswered, s.windows[pair].blocked_first = 0, 0, -1
    s.answers[:] = 0
    for task in range(len(s.credits)):
        credit = s.credits[task]
        credit.unasked, credit.pulled, credit.coming, credit.owed, credit.trimmed = s.rules[0].pull_first, 0, 0, 0, 0
