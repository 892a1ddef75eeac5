"""Packets that are lost, trimmed or spoilt: how their senders learn of it, and sending them again."""

from __future__ import annotations

from typing import Any

from dcsim.kernels.jit import part
from dcsim.network.packet.engine.rate_kernel import cut_rate
from dcsim.network.packet.engine.state import (
    ANSWERED,
    LOST,
    PULLED,
    TIMED,
    TIMEOUT_PLACE,
    UNASKED,
    WINDOWED,
    EngineState,
)
from dcsim.network.packet.engine.transport_kernel import owe, probe_ps, taken_back, window_lost
from dcsim.network.packet.engine.turns_kernel import requeue
from dcsim.network.packet.engine.wheel_kernel import push


@part
def lose(s: EngineState, now: int, packet: int) -> None:
    """A packet is dropped: its sender learns of it by a later arrival, or when its timer runs out."""
    row = s.packets[packet]
    message = row.message
    row.next = s.tasks[message].lost_first
    s.tasks[message].lost_first = packet
    if not row.flags & TIMED:
        push(s.wheel, now + probe_ps(s, message), len(s.links) + TIMEOUT_PLACE, packet)
    row.flags = (row.flags & ANSWERED) | LOST | TIMED


@part
def resend(s: EngineState, now: int, packet: int) -> None:
    """The sender hears that a packet is lost: it slows down, and the packet is first in its message's line."""
    row = s.packets[packet]
    if not row.flags & LOST:
        return
    message = row.message
    row.flags &= ~LOST
    drop_from_list(s.tasks, s.packets, message, packet)
    _line_up(s, message, packet)
    pair = s.tasks[message].pair
    if s.rules[0].rate_control and now - s.pairs[pair].cut_at >= s.rules[0].notice_gap:
        cut_rate(s.rules, s.pairs, pair, now)
    if s.rules[0].transport == WINDOWED:
        window_lost(s, now, message, int(s.sent_at[packet]))
    elif s.rules[0].transport == PULLED:
        owe(s, now, message)
    requeue(s, now, message, 0)


@part
def trimmed(s: EngineState, now: int, packet: int) -> None:
    """The sender hears of a packet that arrived without its data: it sends nothing more unasked, and this one when pulled."""
    message = s.packets[packet].message
    s.credits[message].unasked = 0
    _line_up(s, message, packet)
    requeue(s, now, message, 0)


@part
def _line_up(s: EngineState, message: int, packet: int) -> None:
    """A packet is behind those that its message is to send again."""
    s.packets[packet].next = -1
    if s.tasks[message].resend_first < 0:
        s.tasks[message].resend_first = packet
    else:
        s.packets[s.tasks[message].resend_last].next = packet
    s.tasks[message].resend_last = packet


@part
def put_back(s: EngineState, now: int, packet: int) -> None:
    """A packet that was taken and could not leave its chip is the next its message sends."""
    row = s.packets[packet]
    message = row.message
    row.next = s.tasks[message].resend_first
    if s.tasks[message].resend_first < 0:
        s.tasks[message].resend_last = packet
    s.tasks[message].resend_first = packet
    s.tally[0].resent -= 1  # it will be counted as sent again
    if s.rules[0].transport != UNASKED:
        taken_back(s, now, message)
    requeue(s, now, message, 0)


@part
def make_whole(s: EngineState, packet: int) -> None:
    """A trimmed packet is about to be sent again, with its data."""
    row = s.packets[packet]
    message = row.message
    left = s.tasks[message].size - (packet - s.tasks[message].first_packet) * s.rules[0].mtu
    row.bytes = max(0, min(s.rules[0].mtu, left)) + s.rules[0].header


@part
def drop_from_list(tasks: Any, packets: Any, message: int, packet: int) -> None:
    """Take a packet off its message's list of losses, if it is there."""
    here, before = tasks[message].lost_first, -1
    while here >= 0 and here != packet:
        before, here = here, packets[here].next
    if here < 0:
        return
    if before < 0:
        tasks[message].lost_first = packets[packet].next
    else:
        packets[before].next = packets[packet].next
