"""What one link does with one packet: queue, credits or pause, marking, dropping, cross traffic.

A packet is granted its place on a link the moment it arrives (start = max(now, link free)), so that an uncontended
packet costs one event a hop. It is held back only while its virtual channel has no credit: slot k of a buffer can be
filled once release k - slots is known. Pause (PFC) is the same rule with a gap: a sender that is told to stop has sent
what was in flight meanwhile (its slots are XOFF and that), and sends again when it hears that the buffer is down to XON.
Where headroom holds less than what is in flight, packets that find buffer and headroom full are lost.
"""

from __future__ import annotations

import math
from typing import Any

from dcsim.kernels.jit import leaf, part
from dcsim.network.packet.engine.cross_kernel import advance_cross_traffic, mix
from dcsim.network.packet.engine.routing_kernel import backlog_ps
from dcsim.network.packet.engine.state import ANSWERED, FOREVER, LANDED, MARKED, SPOILT, TRIMMED, EngineState
from dcsim.network.packet.engine.wheel_kernel import push

UNKNOWN = -1
LOOK_AHEAD = 8
DRAWS = float(1 << 62)  # values of a draw
TRIES_MOST = 1000  # of a link that repeats what was spoilt


@leaf
def _slot_time(s: EngineState, queue: int, now: int) -> int:
    """When the channel may send its next packet as far as buffers go; UNKNOWN while nobody can say."""
    mask, row = s.ring.shape[1] - 1, s.queues[queue]
    needed = max(row.taken - row.slots + 1, row.gate)
    if needed <= row.passed:
        return 0
    if row.released < needed:
        return UNKNOWN
    ready = s.ring[queue, (needed - 1) & mask]
    if ready <= now:
        row.passed = needed
        while row.passed < min(row.released, needed + LOOK_AHEAD) and s.ring[queue, row.passed & mask] <= now:
            row.passed += 1
    return int(ready)


@leaf
def _close_gate(s: EngineState, link: int, queue: int) -> None:
    """The channel ran out of buffer: unless that is known, note the pause and how many releases end it."""
    spent = s.queues[queue].taken - s.queues[queue].slots
    if s.queues[queue].gate <= spent:
        s.links[link].pauses += 1
        s.queues[queue].gate = spent + s.queues[queue].resume


@leaf
def _hold(s: EngineState, queue: int, link: int, packet: int, work_ps: int) -> None:
    s.packets[packet].next = -1
    if s.queues[queue].held_first < 0:
        s.queues[queue].held_first = packet
    else:
        s.packets[s.queues[queue].held_last].next = packet
    s.queues[queue].held_last = packet
    s.links[link].waiting_ps += work_ps


@leaf
def give_back(s: EngineState, link: int, channel: int, when: int, now: int) -> None:
    """A buffer slot at the end of `link` is free again at `when`: keep the releases sorted, wake a held queue."""
    queue = link * s.rules[0].channels + channel
    ring, row = s.ring[queue], s.queues[queue]
    i, mask = row.released, len(ring) - 1
    row.released += 1
    if when < row.latest:
        spent = max(0, row.taken - row.slots)
        while i > spent and ring[(i - 1) & mask] > when:
            ring[i & mask] = ring[(i - 1) & mask]
            i -= 1
    row.latest = max(when, row.latest)
    ring[i & mask] = when
    if s.queues[queue].held_first >= 0 and not s.queues[queue].waking:
        ready = _slot_time(s, queue, now)
        if ready != UNKNOWN:
            s.queues[queue].waking = 1
            push(s.wheel, max(ready, now), link, len(s.packets) + 1 + channel)


@part
def _mark(rules: Any, links: Any, packets: Any, link: int, packet: int, queue_ps: int) -> None:
    """ECN: mark with a probability rising from 0 at the low threshold to mark_fraction at the high one, then always."""
    low, high = links[link].mark_low_ps, links[link].mark_high_ps
    if queue_ps < high:
        draw = (mix(rules[0].seed, packet + (1 << 42), link) & 0xFFFFFF) / 16777216.0
        if draw * (high - low) >= rules[0].mark_fraction * (queue_ps - low):
            return
    packets[packet].flags |= MARKED
    links[link].marks += 1


@leaf
def _advance_input(s: EngineState, link: int, end: int) -> None:
    """INPUT_FIFO: the head of an input buffer has left at `end`; the packet behind it comes to the head then."""
    head = s.links[link].input_first
    after = s.input_next[head]
    s.links[link].input_first = after
    s.links[link].input_until = end
    if after >= 0:
        push(s.wheel, end, link, after)


@leaf
def _acknowledge(s: EngineState, link: int, now: int) -> None:
    """A packet that is answered has the reverse of each of its links busy with its acknowledgement.

    That is booked as the packet passes, not a round trip later, which costs the same bandwidth.
    """
    back = s.links[link].reverse
    if s.links[back].background > 0.0:
        advance_cross_traffic(s.rules, s.links, back, now)
    serial = (s.rules[0].ack_bytes * s.links[back].fs_per_byte + 500) // 1000
    s.links[back].free = max(now, s.links[back].free) + serial
    s.links[back].busy += serial
    s.links[back].ack_bytes += s.rules[0].ack_bytes


@leaf
def _relay(s: EngineState, packet: int, vertex: int) -> None:
    """A chip that passes a packet on sends it again: its adapter takes its time once more."""
    if vertex < len(s.column):
        again = s.links[s.vertices[vertex].first_link].source_ps
        s.packets[packet].switch += again
        s.packets[packet].arrived += again
        s.packets[packet].tail += again


@part
def _strand(s: EngineState, link: int, channel: int, packet: int, start: int, end: int) -> None:
    """The packet would still be on the link at its next fault: it stays in the queue, and counts there."""
    line = s.links[link]
    s.packets[packet].next = -1
    s.lane_asked[packet] = channel
    if line.stranded_first < 0:
        line.stranded_first, line.stranded_start, line.true_free = packet, start, line.free
    else:
        s.packets[line.stranded_last].next = packet
    line.stranded_last = packet
    line.free = end
    if s.rules[0].slots > 0:
        s.queues[link * s.rules[0].channels + channel].taken += 1
    s.tally[0].hops -= 1


@leaf
def grant(s: EngineState, now: int, link: int, channel: int, packet: int) -> bool:
    """Give the packet its place on the link; True when the link ends at its target: `tail` is when it is delivered.

    Otherwise its next event (its head's arrival at the next queue) is pushed, unless a fault will strike before.
    """
    row, line = s.packets[packet], s.links[link]
    start = max(now, line.free)
    serial = (row.bytes * line.fs_per_byte + 500) // 1000
    end = max(start + serial, row.tail)
    if s.rules[0].errors:
        end = _corrupt(s, now, link, packet, end, serial)
    if end > line.next_fault and (start >= line.next_fault or line.next_down):
        _strand(s, link, channel, packet, start, end)
        return False
    line.free = end
    line.busy += end - start
    line.bytes += row.bytes
    line.packets += 1
    came_from, came_on = row.link, row.channel
    row.flags &= ~LANDED
    if came_from >= 0:
        if s.rules[0].slots > 0:
            give_back(s, came_from, came_on, end + s.links[came_from].wire_ps, now)
        if s.rules[0].input_fifo:
            _advance_input(s, came_from, end)
    if s.rules[0].slots > 0:
        s.queues[link * s.rules[0].channels + channel].taken += 1
    last = line.target == row.target
    row.wire += line.wire_ps
    row.switch += line.node_ps
    row.link, row.channel = link, channel
    row.tail = end + line.wire_ps + line.node_ps
    leave = end
    if not (last or s.rules[0].store_forward):
        leave = start
    row.serial += leave - start
    row.arrived = leave + line.wire_ps + line.node_ps
    if s.rules[0].store_forward:
        row.tail = row.arrived
    if s.rules[0].relay and not last:
        _relay(s, packet, line.target)
    if s.rules[0].ack_bytes > 0 and row.flags & ANSWERED:
        _acknowledge(s, link, now)
    if not last:
        row.next = -1
        push(s.wheel, row.arrived, link, packet)
    elif s.rules[0].slots > 0:
        give_back(s, link, channel, row.tail + line.wire_ps, now)
    return bool(last)


GRANTED, HELD, DROPPED = 0, 1, 2


@part
def _trim(s: EngineState, link: int, packet: int) -> None:
    """A full queue leaves a packet's header, which tells the receiver what to ask for again."""
    row = s.packets[packet]
    s.links[link].dropped_bytes -= min(row.bytes, s.rules[0].trim_bytes)
    row.bytes = min(row.bytes, s.rules[0].trim_bytes)
    row.flags |= TRIMMED


@part
def _corrupt(s: EngineState, now: int, link: int, packet: int, end: int, serial: int) -> int:
    """Bits that the cable turns: the packet is spoilt, or the link sends it again at once; returns when it has left then.

    A link that repeats a packet hears of it a round trip of its cable later, and sends nothing meanwhile.
    """
    row, line = s.packets[packet], s.links[link]
    spoilt = -math.expm1(8.0 * row.bytes * s.rules[0].log_whole)
    tries = 0
    while mix(s.rules[0].seed + now, packet + (tries << 44), link + (1 << 43)) < spoilt * DRAWS:
        tries += 1
        if not s.rules[0].link_retry:
            row.flags |= SPOILT
            break
        if tries == TRIES_MOST:
            break
    if s.rules[0].link_retry:
        line.retries += tries
        end += tries * (serial + 2 * line.wire_ps)
    return int(end)


@part
def pass_header(s: EngineState, now: int, link: int, packet: int) -> bool:
    """What is left of a trimmed packet overtakes what is queued; True when the link ends at its target."""
    row, line = s.packets[packet], s.links[link]
    serial = (row.bytes * line.fs_per_byte + 500) // 1000
    end = max(now + serial, row.tail)
    line.free = max(now, line.free) + serial
    line.busy += serial
    line.bytes += row.bytes
    line.packets += 1
    row.wire += line.wire_ps
    row.switch += line.node_ps
    row.link, row.channel = link, 0
    row.arrived = end + line.wire_ps + line.node_ps
    row.tail = row.arrived
    if line.target == row.target:
        return True
    row.next = -1
    push(s.wheel, row.arrived, link, packet)
    return False


@part
def overflows(s: EngineState, now: int, link: int, packet: int) -> bool:
    """A packet reaches the buffer behind a paused link: True, and its slot is free again, when buffer and headroom are full."""
    row = s.packets[packet]
    if row.flags & LANDED:
        return False
    row.flags |= LANDED
    queue = link * s.rules[0].channels + row.channel
    s.landed[queue] += 1
    gone, mask = s.queues[queue].passed, s.ring.shape[1] - 1
    heard = now + s.links[link].wire_ps
    while gone < s.queues[queue].released and s.ring[queue, gone & mask] <= heard:
        gone += 1
    if s.landed[queue] - gone <= s.queues[queue].capacity:
        return False
    s.links[link].drops += 1
    s.links[link].dropped_bytes += row.bytes
    give_back(s, link, int(row.channel), heard, now)
    return True


@part
def _is_full(s: EngineState, now: int, link: int, packet: int, queue_ps: int) -> bool:
    """Whether an output queue has no room for a packet, to within a packet: cells are freed unevenly.

    Drawn, because else the sender whose packets come in step with those that leave would find all the room, for ever.
    """
    share = (mix(s.rules[0].seed + now, packet, link + (1 << 44)) & 0xFFFFFF) / 16777216.0
    one_ps = s.packets[packet].bytes * s.links[link].fs_per_byte // 1000
    return bool(queue_ps + share * one_ps > s.links[link].buffer_ps)


@leaf
def offer(s: EngineState, now: int, link: int, channel: int, packet: int) -> int:
    """A packet asks for a link: it may be GRANTED, HELD until there is credit, or DROPPED because the queue is full."""
    row, line = s.packets[packet], s.links[link]
    queue_ps = backlog_ps(s, link, now)
    if queue_ps > line.peak_ps:
        line.peak_ps = queue_ps
    at_switch = row.link >= 0
    if at_switch and line.buffer_ps < FOREVER and _is_full(s, now, link, packet, queue_ps):
        line.drops += 1
        line.dropped_bytes += row.bytes
        if s.rules[0].trim_bytes > 0:
            _trim(s, link, packet)
            return GRANTED
        return DROPPED
    if at_switch and queue_ps > line.mark_low_ps:
        _mark(s.rules, s.links, s.packets, link, packet, queue_ps)
    if s.rules[0].slots > 0:
        queue = link * s.rules[0].channels + channel
        ready = UNKNOWN
        if s.queues[queue].held_first < 0:
            ready = _ready(s, now, link, queue)
        if ready == UNKNOWN or ready > max(now, line.free):
            _hold(s, queue, link, packet, row.bytes * line.fs_per_byte // 1000)
            if ready != UNKNOWN:
                s.queues[queue].waking = 1
                push(s.wheel, ready, link, len(s.packets) + 1 + channel)
            return HELD
    return GRANTED


@leaf
def _ready(s: EngineState, now: int, link: int, queue: int) -> int:
    """When the channel may send its next packet; when buffers alone delay it, that pause is noted."""
    if s.rules[0].slots == 0:
        return 0
    ready = _slot_time(s, queue, now)
    if ready == UNKNOWN or ready > max(now, s.links[link].free):
        _close_gate(s, link, queue)
        ready = _slot_time(s, queue, now)
    return int(ready)


@leaf
def next_held(s: EngineState, now: int, link: int, channel: int) -> int:
    """The held packet that may go now, taken off its queue; -1 when none may (a wake is then set if it can be)."""
    queue = link * s.rules[0].channels + channel
    packet = s.queues[queue].held_first
    if packet < 0:
        return -1
    ready = _ready(s, now, link, queue)
    if ready == UNKNOWN:
        return -1
    if ready > max(now, s.links[link].free):
        s.queues[queue].waking = 1
        push(s.wheel, ready, link, len(s.packets) + 1 + channel)
        return -1
    s.queues[queue].held_first = s.packets[packet].next
    s.links[link].waiting_ps -= s.packets[packet].bytes * s.links[link].fs_per_byte // 1000
    return int(packet)
