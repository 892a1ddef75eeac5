"""Adapters: each serves its messages' packets in turn, at the rate congestion control allows."""

from __future__ import annotations

from typing import Any

from dcsim.kernels.jit import leaf, part
from dcsim.network.packet.engine.cross_kernel import mix
from dcsim.network.packet.engine.loss_kernel import make_whole
from dcsim.network.packet.engine.rate_kernel import pace
from dcsim.network.packet.engine.routing_kernel import choose_detour, next_link, queue_grains
from dcsim.network.packet.engine.state import (
    ADAPTIVE,
    ADMITTED,
    ANSWERED,
    ANY_PORT,
    BONDED_PORTS,
    FOREVER,
    OWN_PORT,
    PULLED,
    START_PLACE,
    STARTING,
    TIMED,
    TRIMMED,
    UNASKED,
    UNDECIDED,
    VALIANT,
    EngineState,
)
from dcsim.network.packet.engine.transport_kernel import may_send, note_sent
from dcsim.network.packet.engine.turns_kernel import call_adapter, join, requeue, take_turn
from dcsim.network.packet.engine.wheel_kernel import push

NO_PORT = -4  # in place of an adapter


@leaf
def _next_packet(s: EngineState, message: int) -> int:
    """The packet a message sends next: one to send again, or the first not sent yet."""
    packet = s.tasks[message].resend_first
    return int(packet) if packet >= 0 else int(s.tasks[message].first_packet + s.tasks[message].sent)


@part
def _port(s: EngineState, epoch: int, message: int, serving: int, now: int) -> int:
    """The cable a message's next packet leaves its chip by; -1 when it is cut off.

    Messages that keep their adapter choose it for their first packet. Others take parallel cables in turn or, where
    routing looks at queues, the one with the shortest; `serving` is about to send a packet (-1: none is).
    """
    source, ports = s.tasks[message].source, s.rules[0].ports
    if s.home[source] >= 0 and len(s.faults) == 0:
        return int(s.vertices[source].first_link)
    if ports == ANY_PORT:
        return int(_any_port(s, epoch, message, serving, now))
    port = int(next_link(s, epoch, source, int(s.tasks[message].first_packet), now))
    return int(_beside(s, port, message, serving, now)) if port >= 0 and ports == BONDED_PORTS else port


@leaf
def _turn(s: EngineState, link: int, serving: int, rank: int, now: int) -> int:
    """How soon it is a cable's turn: its rank, or its queue and the packet it is about to send."""
    if s.rules[0].routing < ADAPTIVE:
        return rank
    return int(queue_grains(s, link, now) + (2 if link == serving else 0))


@part
def _any_port(s: EngineState, epoch: int, message: int, serving: int, now: int) -> int:
    """A chip that forwards chooses for each of its packets like a router, detours included."""
    source, packet = s.tasks[message].source, _next_packet(s, message)
    row = s.packets[packet]
    if row.detour == UNDECIDED and s.rules[0].routing >= VALIANT:
        row.detour = choose_detour(s, epoch, source, row.target, packet, now)
    index = s.set_of[epoch, source, s.ways[row.detour].column if row.detour >= 0 else s.column[row.target]]
    if index < 0:
        return -1
    begin, count = index + 1, s.sets[index]
    first = mix(s.rules[0].seed, message + (1 << 40), source) + packet - s.tasks[message].first_packet
    chosen, least = -1, FOREVER
    for i in range(count):
        link = int(s.sets[begin + (first + i) % count])
        work = _turn(s, link, serving, i, now)
        if work < least:
            chosen, least = link, work
    return chosen


@part
def _beside(s: EngineState, port: int, message: int, serving: int, now: int) -> int:
    """Of the cables parallel to `port`, the one for the message's next packet."""
    source, target = s.tasks[message].source, s.links[port].target
    begin, end = s.vertices[source].first_link, s.vertices[source + 1].first_link
    first = port + _next_packet(s, message) - s.tasks[message].first_packet
    chosen, least = port, FOREVER
    for i in range(end - begin):
        link = begin + (first + i - begin) % (end - begin)
        if s.links[link].target == target and s.links[link].up:
            work = _turn(s, link, serving, i, now)
            if work < least:
                chosen, least = int(link), work
    return chosen


@leaf
def start_message(s: EngineState, epoch: int, now: int, message: int) -> int:
    """A message has a packet ready: choose its adapter, pass its admission and latency, and join the round robin.

    Returns the adapter to serve, -1 when the message waits, or NO_PORT when no way leads to its target.
    """
    port = s.tasks[message].port
    if port < 0 or not s.links[port].up or s.rules[0].ports != OWN_PORT:
        port = _port(s, epoch, message, -1, now)
        if port < 0:
            return NO_PORT
        s.tasks[message].port = port
    ready = s.ready[s.tasks[message].first_packet + min(s.tasks[message].sent, s.tasks[message].released - 1)]
    at = max(now, ready + s.links[port].source_ps)
    if s.tasks[message].state == STARTING and s.tasks[message].sent == 0:
        at = max(at, s.links[port].next_start)
        s.links[port].next_start = at + s.rules[0].message_gap
        s.tasks[message].state = ADMITTED
    if at > now:
        push(s.wheel, at, len(s.links) + START_PLACE, message)
        return -1
    join(s, port, message)
    return int(port)


@leaf
def _take_packet(s: EngineState, port: int, message: int, now: int) -> int:
    """The message's next packet: one to send again, or a new one that is ready. -1 for none yet."""
    packet = s.tasks[message].resend_first
    if packet >= 0:
        s.tasks[message].resend_first = s.packets[packet].next
        if s.rules[0].transport == PULLED:
            s.credits[message].owed -= 1
        if s.packets[packet].flags & TRIMMED:
            make_whole(s, packet)
        _forget_journey(s.packets[packet], s.links[port].source_ps, now)
        s.tally[0].resent += 1
        return int(packet)
    if s.tasks[message].sent >= s.tasks[message].released:
        return -1
    packet = s.tasks[message].first_packet + s.tasks[message].sent
    arrived = s.ready[packet] + s.links[port].source_ps
    if arrived > now:
        return -1
    row = s.packets[packet]
    row.switch = s.links[port].source_ps
    row.arrived = arrived
    row.tail = arrived
    s.tasks[message].sent += 1
    return int(packet)


@leaf
def _forget_journey(row: Any, source_ps: int, now: int) -> None:
    """A lost packet starts again; the time since it was ready counts as queueing."""
    row.wire, row.serial, row.switch = 0, 0, source_ps
    row.arrived, row.tail = now, now
    row.link, row.channel, row.flags = -1, 0, row.flags & (TIMED | ANSWERED)


@leaf
def _own_serialisation(s: EngineState, port: int, message: int, packet: int, now: int) -> None:
    """Waiting for the message's own earlier packets is serialisation, not queueing."""
    row = s.packets[packet]
    one = (s.rules[0].mtu + s.rules[0].header) * s.links[port].fs_per_byte // 1000
    own = min(now - row.arrived, (packet - s.tasks[message].first_packet) * one)
    row.serial += own
    row.arrived += own


@leaf
def rejoin(s: EngineState, now: int, port: int, message: int) -> None:
    """After a packet: to the end of the round robin if the next is ready, else wait for it."""
    if s.tasks[message].resend_first < 0:
        if s.tasks[message].sent >= s.tasks[message].released:
            return
        ready = s.ready[s.tasks[message].first_packet + s.tasks[message].sent]
        if ready + s.links[port].source_ps > now:
            requeue(s, now, message, 0)
            return
    if s.rules[0].ports != OWN_PORT:
        _move_on(s, now, port, message)
        return
    join(s, port, message)


@part
def _move_on(s: EngineState, now: int, port: int, message: int) -> None:
    """The next packet may take another cable than `port`, whose adapter is being served."""
    other = _port(s, s.tally[0].epoch, message, port, now)
    if other < 0:
        requeue(s, now, message, 0)
        return
    s.tasks[message].port = other
    join(s, other, message)
    if other != port:
        call_adapter(s, now, other)


@leaf
def serve(s: EngineState, now: int, port: int) -> int:
    """The next packet in turn of an adapter that is free, its message back in line; -1 for none."""
    while s.links[port].flow_first >= 0:
        message = take_turn(s, port)
        if s.rules[0].transport != UNASKED and not may_send(s, message):
            continue
        state = s.pairs[s.tasks[message].pair]
        limited = s.rules[0].rate_control and state.now_rate < 1.0
        if limited and state.next_send > now:
            requeue(s, now, message, state.next_send)
            continue
        packet = _take_packet(s, port, message, now)
        if packet < 0:
            requeue(s, now, message, 0)
            continue
        row = s.packets[packet]
        if row.arrived < now:
            _own_serialisation(s, port, message, packet, now)
        if s.rules[0].transport != UNASKED:
            note_sent(s, now, message, packet)
        if limited:
            pace(s.rules, s.pairs, s.tasks[message].pair, now, row.bytes, row.bytes * s.links[port].fs_per_byte // 1000)
        rejoin(s, now, port, message)
        return int(packet)
    return -1
