"""The event loop: one iteration in one call.

An event names a packet that asks for a link, at once or after an adapter or a returned credit has chosen it. The loop
offers it, grants it and books what follows. Its helpers are kept one call deep, because each compiled function is
optimised again inside every function that calls it.
"""

from __future__ import annotations

from dcsim.kernels.fetch import fetch
from dcsim.kernels.jit import entry, leaf, part
from dcsim.network.packet.engine.adapter_kernel import NO_PORT, serve, start_message
from dcsim.network.packet.engine.fault_kernel import apply_fault, next_change
from dcsim.network.packet.engine.link_kernel import (
    DROPPED,
    GRANTED,
    give_back,
    grant,
    next_held,
    offer,
    overflows,
    pass_header,
)
from dcsim.network.packet.engine.loss_kernel import lose, resend, trimmed
from dcsim.network.packet.engine.progress_kernel import arrive, begin_root, spread
from dcsim.network.packet.engine.rate_kernel import cut_rate
from dcsim.network.packet.engine.receive_kernel import receive
from dcsim.network.packet.engine.routing_kernel import choose_detour, next_link
from dcsim.network.packet.engine.sample_kernel import sample
from dcsim.network.packet.engine.state import (
    ACK_PLACE,
    ADAPTIVE,
    ANSWERED,
    DIMENSION_BITS,
    FAULT_PLACE,
    NOT_YET,
    NOTICE_PLACE,
    PULL_PLACE,
    RELEASE_PLACE,
    SAMPLE_PLACE,
    SPOILT,
    START_PLACE,
    STRAIGHT,
    TIMED,
    TIMEOUT_PLACE,
    TRIM_PLACE,
    TRIMMED,
    UNDECIDED,
    VALIANT,
    EngineState,
)
from dcsim.network.packet.engine.transport_kernel import acknowledged, pulled
from dcsim.network.packet.engine.turns_kernel import call_adapter
from dcsim.network.packet.engine.wheel_kernel import CURSOR, PENDING, peek, pop, push

FINISHED, STUCK, CUT_OFF, CHANNELS_SHORT = range(4)
AHEAD = 8  # events between asking for memory and reading it
LINE = 64  # bytes of a cache line
NOWHERE, UNREACHABLE, NO_CHANNEL = -1, -2, -3  # in place of a link


@leaf
def _at_input_head(s: EngineState, now: int, link: int, packet: int) -> bool:
    """INPUT_FIFO: file the packet in the input buffer; True when it is the head and may ask for its output."""
    if s.links[link].input_first == packet:
        return True
    s.input_next[packet] = -1
    if s.links[link].input_first >= 0:
        s.input_next[s.links[link].input_last] = packet
        s.links[link].input_last = packet
        return False
    s.links[link].input_first = packet
    s.links[link].input_last = packet
    if s.links[link].input_until > now:
        push(s.wheel, s.links[link].input_until, link, packet)
        return False
    return True


@leaf
def _next_lane(s: EngineState, link: int, onward: int, packet: int, leg: int) -> int:
    """The lane of a packet's next link: one more where links do not rise in order; anew in a grid's next dimension.

    A packet whose detour was `leg` before may have come to its second leg, whose lanes are others.
    """
    row = s.packets[packet]
    second = s.rules[0].second_lane
    if second > 0 and leg >= 0 and row.detour == STRAIGHT:
        return int(second)
    if s.links[onward].order >> DIMENSION_BITS > s.links[link].order >> DIMENSION_BITS:
        return int(second) if row.detour == STRAIGHT else 0
    return int(row.channel) + int(s.links[onward].order <= s.links[link].order)


@part
def _discard(s: EngineState, now: int, link: int, packet: int) -> None:
    """A switch drops the packet that came over `link`, and its buffer slot is free again."""
    row = s.packets[packet]
    s.links[link].drops += 1
    s.links[link].dropped_bytes += row.bytes
    if s.rules[0].slots > 0:
        give_back(s, link, int(row.channel), now + s.links[link].wire_ps, now)
    lose(s, now, packet)


@part
def _stuck(s: EngineState, now: int, epoch: int, link: int, packet: int) -> int:
    """No way leads on from the switch behind `link`: NOWHERE, or UNREACHABLE if nothing will change that.

    Where its source knows another way the packet is dropped and sent again, as by a switch whose port is down; else it
    waits for the next fault that changes ways.
    """
    row = s.packets[packet]
    source = s.tasks[row.message].source
    if s.links[link].target != source and s.set_of[epoch, source, s.column[row.target]] >= 0:
        _discard(s, now, link, packet)
        return NOWHERE
    when = next_change(s, now)
    if when == NOT_YET:
        s.tally[0].culprit = row.message
        return UNREACHABLE
    push(s.wheel, when, link, packet)
    return NOWHERE


@leaf
def _onward(s: EngineState, now: int, link: int, packet: int) -> tuple[int, int]:
    """A packet's head is at the switch behind `link`: (the link it asks for, or why none; the virtual channel)."""
    row = s.packets[packet]
    if s.rules[0].overflow and overflows(s, now, link, packet):
        lose(s, now, packet)
        return NOWHERE, 0
    if row.flags & SPOILT and s.rules[0].store_forward:
        _discard(s, now, link, packet)
        return NOWHERE, 0
    if s.rules[0].input_fifo and not _at_input_head(s, now, link, packet):
        return NOWHERE, 0
    vertex, epoch = s.links[link].target, s.tally[0].epoch
    if s.rules[0].routing >= VALIANT and row.detour == UNDECIDED and s.links[link].from_chip:
        row.detour = choose_detour(s, epoch, vertex, row.target, packet, now)
    leg = row.detour
    onward = row.next  # if it was chosen ahead
    if onward < 0:
        onward = next_link(s, epoch, vertex, packet, now)
    if onward < 0:
        return _stuck(s, now, epoch, link, packet), 0
    if s.rules[0].slots == 0:
        return int(onward), 0
    lane = _next_lane(s, link, onward, packet, leg)
    if lane >= s.rules[0].channels:
        if len(s.faults) == 0:
            return NO_CHANNEL, 0
        lane = s.rules[0].channels - 1  # led astray more than once: the last lane is shared
    return int(onward), int(lane)


@leaf
def _free_adapter(s: EngineState, now: int, port: int) -> int:
    """The packet an adapter sends next; -1 while its link is busy or holds a packet back."""
    if s.links[port].calling or s.queues[port * s.rules[0].channels].held_first >= 0:
        return -1
    if s.links[port].free > now:
        call_adapter(s, now, port)
        return -1
    return int(serve(s, now, port))


@leaf
def _release_root(s: EngineState, now: int) -> int:
    """Start tasks whose release time has come up to the first whose progress is to be spread, which is returned.

    -1 when there is none left; the next such event is then set.
    """
    while s.tally[0].root < len(s.roots):
        task = s.roots[s.tally[0].root]
        if s.spans[task].release > now:
            push(s.wheel, s.spans[task].release, len(s.links) + RELEASE_PLACE, 0)
            return -1
        s.tally[0].root += 1
        if begin_root(s, now, task):
            return int(task)
    return -1


@part
def _rare_event(s: EngineState, now: int, place: int, item: int) -> None:
    """An event that belongs to no link and no adapter."""
    if place == NOTICE_PLACE:
        cut_rate(s.rules, s.pairs, item, now)
    elif place == ACK_PLACE:
        acknowledged(s, now, item)
    elif place == PULL_PLACE:
        pulled(s, now, item)
    elif place == TRIM_PLACE:
        trimmed(s, now, item)
    elif place == FAULT_PLACE:
        apply_fault(s, now, item)
    elif place == SAMPLE_PLACE:
        sample(s, now)
    else:
        if place == TIMEOUT_PLACE:
            s.packets[item].flags &= ~TIMED
        resend(s, now, item)


@part
def _wait_for_way(s: EngineState, now: int, message: int) -> int:
    """A message that no cable leads on waits for the next fault that changes ways: NOWHERE, or UNREACHABLE for none."""
    when = next_change(s, now)
    if when == NOT_YET:
        s.tally[0].culprit = message
        return UNREACHABLE
    push(s.wheel, when, len(s.links) + START_PLACE, message)
    return NOWHERE


@leaf
def _candidate(s: EngineState, now: int, place: int, item: int) -> tuple[int, int, int]:
    """(link, channel, packet) of the packet that asks for a link on this event, the link negative when none does."""
    link_count, port = len(s.links), place
    if place < link_count:
        if item < len(s.packets):
            link, channel = _onward(s, now, place, item)
            return link, channel, item
        s.links[port].calling = False
    elif place == link_count + START_PLACE:
        port = start_message(s, s.tally[0].epoch, now, item)
        if port == NO_PORT:
            port = _wait_for_way(s, now, item)
        if port < 0:
            return port, 0, -1
    else:
        _rare_event(s, now, place - link_count, item)
        return NOWHERE, 0, -1
    packet = _free_adapter(s, now, port)
    return (port if packet >= 0 else NOWHERE), 0, packet


@leaf
def _fetch_coming(s: EngineState) -> None:
    """Bring what coming events will touch into the processor's cache, in steps that need each other's memory.

    A hop touches a dozen cache lines all over memory; waiting for each in turn would take most of the time. The first
    event of a bucket looks at all those that later ones cannot.
    """
    fresh = s.wheel.at[CURSOR] == 1
    for ahead in range(0 if fresh else 3 * AHEAD, 3 * AHEAD + 1):
        place, item = peek(s.wheel, ahead)
        if 0 <= place < len(s.links):
            fetch(s.links, place, 0)
            if item < len(s.packets):
                fetch(s.packets, item, 0)
            else:
                fetch(s.links, place, 2 * LINE)
    for ahead in range(0 if fresh else 2 * AHEAD, 2 * AHEAD + 1):
        place, item = peek(s.wheel, ahead)
        if 0 <= place < len(s.links):
            _fetch_second(s, place, item)
    for ahead in range(0 if fresh else AHEAD, AHEAD + 1):
        place, item = peek(s.wheel, ahead)
        if 0 <= place < len(s.links):
            _fetch_third(s, place, item)
    if s.rules[0].ack_bytes > 0 and s.rules[0].routing < ADAPTIVE and len(s.faults) == 0:
        for ahead in range(0 if fresh else AHEAD // 2, AHEAD // 2 + 1):
            place, item = peek(s.wheel, ahead)
            if 0 <= place < len(s.links) and item < len(s.packets):
                _fetch_way_back(s, item)


@leaf
def _fetch_second(s: EngineState, place: int, item: int) -> None:
    """Of a packet the routing table and the credits; of an adapter the message in turn."""
    if item < len(s.packets):
        fetch(s.set_of[s.tally[0].epoch, s.links[place].target], s.column[s.packets[item].target], 0)
        if s.rules[0].slots > 0:
            fetch(s.queues, place * s.rules[0].channels + s.packets[item].channel, 0)
    elif s.links[place].flow_first >= 0:
        fetch(s.tasks, s.links[place].flow_first, 0)
        fetch(s.tasks, s.links[place].flow_first, LINE)


@leaf
def _fetch_third(s: EngineState, place: int, item: int) -> None:
    """Of a packet the buffer it leaves and the link it takes; of an adapter the packet in turn."""
    if item < len(s.packets):
        if s.rules[0].slots > 0:
            queue = place * s.rules[0].channels + s.packets[item].channel
            fetch(s.ring[queue], s.queues[queue].released & (s.ring.shape[1] - 1), 0)
        if s.rules[0].routing < ADAPTIVE and len(s.faults) == 0:
            _route_ahead(s, place, item)
    elif s.links[place].flow_first >= 0:
        message = s.links[place].flow_first
        packet = s.tasks[message].first_packet + s.tasks[message].sent
        if packet < len(s.packets):
            fetch(s.packets, packet, 0)
            fetch(s.ready, packet, 0)
            fetch(s.links, place, LINE)


@leaf
def _route_ahead(s: EngineState, link: int, packet: int) -> None:
    """Choose a coming packet's next link, as neither queues nor faults have a say, and fetch what it will touch there."""
    row = s.packets[packet]
    onward = next_link(s, s.tally[0].epoch, s.links[link].target, packet, 0)
    row.next = onward
    if onward >= 0:
        fetch(s.links, onward, 0)
        fetch(s.links, onward, LINE)
        if onward == s.home[row.target]:
            fetch(s.tasks, row.message, 0)
        if s.rules[0].slots > 0:
            fetch(s.queues, onward * s.rules[0].channels + row.channel, 0)


@leaf
def _fetch_way_back(s: EngineState, packet: int) -> None:
    """The link that carries a coming packet's acknowledgement, if it has one; its way on has been chosen."""
    row = s.packets[packet]
    if row.next >= 0 and row.flags & ANSWERED:
        fetch(s.links, s.links[row.next].reverse, 0)
        fetch(s.links, s.links[row.next].reverse, LINE)


@entry
def run_iteration(s: EngineState) -> int:
    """Simulate until every task is complete; returns FINISHED, or why it could not."""
    while s.tally[0].open > 0:
        if s.wheel.at[PENDING] == 0:
            return STUCK
        now, place, item = pop(s.wheel)
        _fetch_coming(s)
        if place == len(s.links) + RELEASE_PLACE:
            task = _release_root(s, now)
            while task >= 0:
                spread(s, now, task, 0)
                task = _release_root(s, now)
            continue
        channel = item - len(s.packets) - 1
        waking = place < len(s.links) and channel >= 0
        if waking:
            link = place
            s.queues[link * s.rules[0].channels + channel].waking = 0
            packet = next_held(s, now, link, channel)
        else:
            link, channel, packet = _candidate(s, now, place, item)
            if link < NOWHERE:
                return CUT_OFF if link == UNREACHABLE else CHANNELS_SHORT
            if link == NOWHERE:
                continue
            outcome = GRANTED
            if not s.packets[packet].flags & TRIMMED:
                outcome = offer(s, now, link, channel, packet)
            if outcome == DROPPED:
                lose(s, now, packet)
            if outcome != GRANTED:
                continue
        while packet >= 0:
            s.tally[0].hops += 1
            trimmed = s.packets[packet].flags & TRIMMED
            if pass_header(s, now, link, packet) if trimmed else grant(s, now, link, channel, packet):
                when = s.packets[packet].tail
                if receive(s, packet, when):
                    message = s.packets[packet].message
                    was = arrive(s, message, packet, when)
                    if was >= 0:
                        spread(s, now, message, was)
            if s.links[link].from_chip:
                call_adapter(s, now, link)
            packet = next_held(s, now, link, channel) if waking else -1
    return FINISHED
