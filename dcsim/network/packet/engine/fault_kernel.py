"""Cables that fail, slow down and are mended, and what becomes of the packets on them.

Faults are known beforehand, so a packet that would still be on a link at the link's next fault is not granted its place but
stranded there: until that moment nothing differs from a network without the fault, queues included. When it strikes, what was
being sent over a cable that goes down is lost; what had queued for it finds another way, or waits until a later fault changes
the ways. A cable that only changes speed keeps its queue, and what is being sent is finished at the old speed.
"""

from __future__ import annotations

from dcsim.kernels.jit import part
from dcsim.network.packet.engine.link_kernel import give_back
from dcsim.network.packet.engine.loss_kernel import lose, put_back
from dcsim.network.packet.engine.state import NOT_YET, EngineState
from dcsim.network.packet.engine.turns_kernel import evict
from dcsim.network.packet.engine.wheel_kernel import push


@part
def apply_fault(s: EngineState, now: int, fault: int) -> None:
    """A link changes its speed, goes down or is mended; routes follow."""
    row = s.faults[fault]
    link = row.link
    line = s.links[link]
    was_up = line.up
    line.up = row.fs_per_byte > 0
    line.next_fault, line.next_down = row.following, row.following_down
    new_ways = s.tally[0].epoch != row.epoch
    s.tally[0].epoch = row.epoch
    if line.up:
        line.fs_per_byte = row.fs_per_byte
        if was_up:
            _queue_again(s, now, link)
    else:
        _clear(s, now, link)
    if new_ways:
        _choose_anew(s, now)


@part
def _untake(s: EngineState, link: int, packet: int) -> None:
    """The buffer slot that a stranded packet was to fill is free, and no pause waits for it to be given back."""
    if s.rules[0].slots > 0:
        row = s.queues[link * s.rules[0].channels + s.lane_asked[packet]]
        row.taken -= 1
        row.gate = min(row.gate, row.taken - row.slots + row.resume)


@part
def _queue_again(s: EngineState, now: int, link: int) -> None:
    """What was stranded waits first in line of its lane, at the link's new speed."""
    line, lanes = s.links[link], s.rules[0].channels
    if line.stranded_first >= 0:
        line.free = max(now, line.true_free)
    last = -1  # the list reversed, so that putting each first keeps their order
    packet = line.stranded_first
    while packet >= 0:
        after = s.packets[packet].next
        s.packets[packet].next = last
        last, packet = packet, after
    while last >= 0:
        after = s.packets[last].next
        queue = link * lanes + s.lane_asked[last]
        s.packets[last].next = s.queues[queue].held_first
        if s.queues[queue].held_first < 0:
            s.queues[queue].held_last = last
        s.queues[queue].held_first = last
        _untake(s, link, last)
        last = after
    line.stranded_first, line.stranded_last, line.waiting_ps = -1, -1, 0
    for lane in range(lanes):
        queue = link * lanes + lane
        packet = s.queues[queue].held_first
        if packet >= 0 and not s.queues[queue].waking:
            s.queues[queue].waking = 1
            push(s.wheel, now, link, len(s.packets) + 1 + lane)
        while packet >= 0:
            line.waiting_ps += s.packets[packet].bytes * line.fs_per_byte // 1000
            packet = s.packets[packet].next


@part
def _clear(s: EngineState, now: int, link: int) -> None:
    """The link is down: the packet on it is lost, the others look for another way."""
    line, lanes = s.links[link], s.rules[0].channels
    packet = line.stranded_first
    if packet >= 0 and line.stranded_start < now:
        after = s.packets[packet].next
        _untake(s, link, packet)
        line.drops += 1
        line.dropped_bytes += s.packets[packet].bytes
        came_from = s.packets[packet].link
        if came_from >= 0 and s.rules[0].slots > 0:
            give_back(s, came_from, int(s.packets[packet].channel), now + s.links[came_from].wire_ps, now)
        lose(s, now, packet)
        packet = after
    while packet >= 0:
        after = s.packets[packet].next
        _untake(s, link, packet)
        _ask_again(s, now, packet)
        packet = after
    for lane in range(lanes):
        packet = s.queues[link * lanes + lane].held_first
        s.queues[link * lanes + lane].held_first = -1
        while packet >= 0:
            after = s.packets[packet].next
            _ask_again(s, now, packet)
            packet = after
    line.stranded_first, line.stranded_last, line.waiting_ps, line.free = -1, -1, 0, now
    evict(s, now, link)


@part
def _ask_again(s: EngineState, now: int, packet: int) -> None:
    """A packet that waited for the link asks for one anew, at its switch or its source."""
    s.packets[packet].next = -1
    if s.packets[packet].link >= 0:
        push(s.wheel, now, s.packets[packet].link, packet)
    else:
        put_back(s, now, packet)


@part
def _choose_anew(s: EngineState, now: int) -> None:
    """Ways have changed: messages of chips with several cables choose again which to leave by."""
    for message in range(len(s.tasks) - 1):
        if s.tasks[message].port >= 0:
            source = s.tasks[message].source
            if s.vertices[source + 1].first_link - s.vertices[source].first_link > 1:
                evict(s, now, int(s.tasks[message].port))
                s.tasks[message].port = -1


@part
def next_change(s: EngineState, now: int) -> int:
    """Just after the next fault that changes the ways packets may take; NOT_YET for none."""
    for fault in range(len(s.faults)):
        if s.faults[fault].at_ps >= now and s.faults[fault].epoch != s.tally[0].epoch:
            return int(s.faults[fault].at_ps + 1)
    return NOT_YET
