"""Walk an iteration's critical path back from its end, booking every picosecond."""

from __future__ import annotations

from typing import Any

from dcsim.kernels.jit import entry, leaf
from dcsim.network.packet.engine.state import EngineState

MESSAGE_KIND = 1
PART_COUNT = 10
COMPUTE, SOFTWARE, JITTER, SWITCHING, CABLE, SERIALISATION, QUEUEING, SLOWEST, RELEASED, OTHER = range(PART_COUNT)


@leaf
def _available(s: EngineState, task: int, when: int) -> int:
    """The latest time up to `when` at which the task gave something out; -1 for never."""
    if s.tasks[task].last_out <= when:
        return int(s.tasks[task].last_out)
    if s.tasks[task].first_out > when:
        return -1
    if s.tasks[task].kind != MESSAGE_KIND:
        return when
    return int(s.packets[_packet_by(s, task, when)].tail)


@leaf
def _packet_by(s: EngineState, message: int, when: int) -> int:
    """The message's packet that arrived last up to `when`."""
    if s.tasks[message].last_out <= when:
        return int(s.tasks[message].last_packet)
    best, found = -1, s.tasks[message].first_packet
    for packet in range(s.tasks[message].first_packet, s.tasks[message + 1].first_packet):
        if best < s.packets[packet].tail <= when:
            best, found = s.packets[packet].tail, packet
    return int(found)


@leaf
def _queueing(s: EngineState, packet: int) -> int:
    """What a delivered packet spent in queues: all of its journey but cables, switches and being clocked out."""
    row = s.packets[packet]
    return int(row.tail - s.ready[packet] - row.wire - row.switch - row.serial)


@leaf
def _cause(s: EngineState, task: int, when: int) -> tuple[int, int]:
    """(the predecessor whose output came last up to `when`, that time); (-1, -1) for none."""
    best, cause = -1, -1
    for i in range(s.tasks[task].before_start, s.tasks[task + 1].before_start):
        time = _available(s, s.before[i], when)
        if time > best:
            best, cause = time, s.before[i]
    return cause, best


@leaf
def _excess(s: EngineState, parts: Any, follower: int, message: int) -> int:
    """How much longer this message queued (jitter included) than the mean of those awaited with it by `follower`."""
    total, count = 0, 0
    for i in range(s.tasks[follower].before_start, s.tasks[follower + 1].before_start):
        other = s.before[i]
        if s.tasks[other].kind == MESSAGE_KIND:
            total += parts[other, QUEUEING] + parts[other, JITTER]
            count += 1
    own = parts[message, QUEUEING] + parts[message, JITTER]
    return int(max(0, own - total // count)) if count > 1 else 0


@leaf
def _book_message(s: EngineState, parts: Any, message: int, follower: int, when: int, out: Any) -> int:
    """Book a message's journey; returns when its data was there."""
    packet = _packet_by(s, message, when)
    journey = s.packets[packet]
    queueing, jitter = _queueing(s, packet), parts[message, JITTER]
    if follower >= 0:
        excess = min(_excess(s, parts, follower, message), queueing + jitter)
        out[SLOWEST] += excess
        from_queue = min(excess, queueing)
        queueing -= from_queue
        jitter -= excess - from_queue
    out[OTHER] += when - journey.tail
    out[QUEUEING] += queueing
    out[JITTER] += jitter
    out[CABLE] += journey.wire
    out[SERIALISATION] += journey.serial
    out[SWITCHING] += journey.switch
    out[SOFTWARE] += parts[message, SOFTWARE]
    return int(s.ready[packet] - s.spans[message].delay)


@entry
def walk(s: EngineState, parts: Any, base: int, out: Any) -> None:
    """Fill out[part] so that its sum is the time from `base` to the last output of any task.

    What a computing task holds of that goes to parts[task, COMPUTE] too.
    """
    task, follower = 0, -1
    for other in range(len(s.tasks) - 1):
        if s.tasks[other].last_out > s.tasks[task].last_out:
            task = other
    when = s.tasks[task].last_out
    while task >= 0:
        if s.tasks[task].kind == MESSAGE_KIND:
            when = _book_message(s, parts, task, follower, when, out)
        elif when <= s.tasks[task].start + s.spans[task].last:
            parts[task, COMPUTE] = when - s.tasks[task].start
            out[COMPUTE] += parts[task, COMPUTE]
            when = s.tasks[task].start
        else:
            parts[task, COMPUTE] = s.spans[task].first
            out[COMPUTE] += parts[task, COMPUTE]
            when -= s.spans[task].first
        follower = task
        task, time = _cause(s, follower, when)
        if task >= 0:
            out[OTHER] += when - time
            when = time
    out[RELEASED] += when - base


@entry
def collect(s: EngineState, base: int, jitter: Any, times: Any, parts: Any) -> None:
    """Fill times[0..2, task] = start, first and last output since `base`, and parts[task] of each message's last packet."""
    for task in range(len(s.tasks) - 1):
        row = s.tasks[task]
        times[0, task], times[1, task], times[2, task] = row.start - base, row.first_out - base, row.last_out - base
        if row.kind == MESSAGE_KIND:
            last, out = s.packets[row.last_packet], parts[task]
            out[COMPUTE] = s.ready[row.last_packet] - s.spans[task].delay - row.start
            out[SOFTWARE], out[JITTER] = s.spans[task].delay - jitter[task], jitter[task]
            out[SWITCHING], out[CABLE], out[SERIALISATION] = last.switch, last.wire, last.serial
            out[QUEUEING] = _queueing(s, row.last_packet)
