"""The event loop: one iteration in one call."""

from __future__ import annotations

from dcsim.network.packet.compile_kernel import entry, leaf, part
from dcsim.network.packet.link_kernel import DROPPED, GRANTED, grant, next_held, offer
from dcsim.network.packet.progress_kernel import arrive, begin_root
from dcsim.network.packet.queue_kernel import PENDING, pop, push
from dcsim.network.packet.routing_kernel import next_link
from dcsim.network.packet.sender_kernel import call_adapter, cut_rate, drop_from_list, evict, resend, serve, start_message
from dcsim.network.packet.state import (
    FAULT_PLACE,
    LOST,
    MARKED,
    NACK_PLACE,
    NOTICE_PLACE,
    RELEASE_PLACE,
    START_PLACE,
    TIMED,
    TIMEOUT_PLACE,
    State,
)

FINISHED, STUCK, CUT_OFF, CHANNELS_SHORT = range(4)


@leaf
def _after_grant(s: State, now: int, packet: int) -> None:
    """Count the hop; at the target, deliver; at an adapter, call it for its next packet."""
    s.tally[0].hops += 1
    row = s.packets[packet]
    link, message = row.link, row.message
    if s.links[link].target == s.tasks[message].target:
        _deliver(s, now, message, packet)
    if s.links[link].source_ps >= 0:
        call_adapter(s, now, link)


@leaf
def _deliver(s: State, now: int, message: int, packet: int) -> None:
    """Book the arrival; a mark sends a notice back, a gap tells the sender what was lost.

    Notices and acknowledgements travel back in their own priority, in the time the packet's cables and
    switches took.
    """
    row = s.packets[packet]
    when = row.tail
    back = when + row.wire + row.switch
    if row.flags & MARKED and s.rules[0].rate_control:
        state = s.pairs[s.tasks[message].pair]
        if when - state.last_notice >= s.rules[0].notice_gap:
            state.last_notice = when
            push(s.wheel, back, len(s.links) + NOTICE_PLACE, s.tasks[message].pair)
    lost = s.tasks[message].lost_first
    while lost >= 0:
        after = s.packets[lost].next
        if lost < packet:
            push(s.wheel, back, len(s.links) + NACK_PLACE, lost)
            drop_from_list(s, message, lost)
        lost = after
    arrive(s, now, message, packet, when)


@part
def _lose(s: State, now: int, packet: int) -> None:
    """A packet is dropped: its sender learns of it by a later arrival, or when its timer runs out."""
    row = s.packets[packet]
    message = row.message
    row.next = s.tasks[message].lost_first
    s.tasks[message].lost_first = packet
    if not row.flags & TIMED:
        push(s.wheel, now + s.rules[0].timeout, len(s.links) + TIMEOUT_PLACE, packet)
    row.flags = LOST | TIMED


@part
def _at_input_head(s: State, now: int, link: int, packet: int) -> bool:
    """INPUT_FIFO: file the packet in the input buffer; True when it is the head and may ask for its output."""
    if s.links[link].input_first == packet:
        return True
    s.packets[packet].input_next = -1
    if s.links[link].input_first >= 0:
        s.packets[s.links[link].input_last].input_next = packet
        s.links[link].input_last = packet
        return False
    s.links[link].input_first = packet
    s.links[link].input_last = packet
    if s.links[link].input_until > now:
        push(s.wheel, s.links[link].input_until, link, packet)
        return False
    return True


@leaf
def _packet_arrives(s: State, now: int, link: int, packet: int) -> int:
    """A packet's head is at the switch behind `link`: route it and offer it to its next link."""
    if s.rules[0].input_fifo and not _at_input_head(s, now, link, packet):
        return FINISHED
    row = s.packets[packet]
    vertex, chip = s.links[link].target, s.tasks[row.message].target
    onward = next_link(s, s.tally[0].epoch, vertex, chip, packet, now)
    if onward < 0:
        s.tally[0].culprit = row.message
        return CUT_OFF
    channel = row.channel
    if s.rules[0].slots > 0 and s.links[onward].order <= s.links[link].order:
        channel += 1
        if channel >= s.rules[0].channels:
            return CHANNELS_SHORT
    outcome = offer(s, now, onward, channel, packet)
    if outcome == GRANTED:
        _after_grant(s, now, packet)
    elif outcome == DROPPED:
        _lose(s, now, packet)
    return FINISHED


@leaf
def _serve(s: State, now: int, port: int) -> None:
    """Let the adapter send, unless its link is busy or holds a packet back."""
    if s.links[port].calling or s.queues[port * s.rules[0].channels].held_first >= 0:
        return
    if s.links[port].free > now:
        call_adapter(s, now, port)
        return
    packet = serve(s, now, port)
    if packet >= 0:
        _after_grant(s, now, packet)


@part
def _wake(s: State, now: int, link: int, channel: int) -> None:
    """Credit has come back: grant the packets held for it."""
    s.queues[link * s.rules[0].channels + channel].waking = False
    while True:
        packet = next_held(s, now, link, channel)
        if packet < 0:
            return
        grant(s, now, link, channel, packet)
        _after_grant(s, now, packet)


@part
def _start(s: State, now: int, message: int) -> int:
    """A message's time has come at its adapter."""
    port = start_message(s, s.tally[0].epoch, now, message)
    if port == -2:
        s.tally[0].culprit = message
        return CUT_OFF
    if port >= 0:
        _serve(s, now, port)
    return FINISHED


@part
def _release_roots(s: State, now: int) -> int:
    """Start the tasks whose release time has come, and set the next such event."""
    while s.tally[0].root < len(s.roots):
        task = s.roots[s.tally[0].root]
        if s.tasks[task].release_ps > now:
            push(s.wheel, s.tasks[task].release_ps, len(s.links) + RELEASE_PLACE, 0)
            return FINISHED
        s.tally[0].root += 1
        begin_root(s, now, task)
    return FINISHED


@part
def _apply_fault(s: State, now: int, fault: int) -> None:
    """Change a link's speed, or take it down or up; routes follow. What it has queued it still carries."""
    link = s.faults[fault].link
    s.links[link].up = s.faults[fault].fs_per_byte > 0
    s.tally[0].epoch = s.faults[fault].epoch
    if s.links[link].up:
        s.links[link].fs_per_byte = s.faults[fault].fs_per_byte
    else:
        evict(s, now, link)


@part
def _pseudo_event(s: State, now: int, place: int, item: int) -> int:
    """An event that belongs to no link."""
    if place == START_PLACE:
        return int(_start(s, now, item))
    if place == RELEASE_PLACE:
        return int(_release_roots(s, now))
    if place == NOTICE_PLACE:
        cut_rate(s, s.pairs[item], now)
    elif place == FAULT_PLACE:
        _apply_fault(s, now, item)
    else:
        if place == TIMEOUT_PLACE:
            s.packets[item].flags &= ~TIMED
        resend(s, now, item)
    return FINISHED


@entry
def run_iteration(s: State) -> int:
    """Simulate until every task is complete; returns FINISHED, or why it could not."""
    link_count, packet_count = len(s.links), len(s.packets)
    while s.tally[0].open > 0:
        if s.wheel.at[PENDING] == 0:
            return STUCK
        now, place, item = pop(s.wheel)
        status = FINISHED
        if place >= link_count:
            status = _pseudo_event(s, now, place - link_count, item)
        elif item < packet_count:
            status = _packet_arrives(s, now, place, item)
        elif item == packet_count:
            s.links[place].calling = False
            _serve(s, now, place)
        else:
            _wake(s, now, place, item - packet_count - 1)
        if status != FINISHED:
            return status
    return FINISHED
