"""What a receiver does with a packet: keeps it or not, and tells the sender.

Acknowledgements, notices and pulls travel back in their own priority, in the time that the packet's cables and switches took.
"""

from __future__ import annotations

from dcsim.kernels.jit import leaf, part
from dcsim.network.packet.engine.loss_kernel import drop_from_list, lose
from dcsim.network.packet.engine.state import (
    LOST,
    MARKED,
    NACK_PLACE,
    NOTICE_PLACE,
    PULLED,
    SPOILT,
    TRIM_PLACE,
    TRIMMED,
    UNASKED,
    WINDOWED,
    EngineState,
)
from dcsim.network.packet.engine.transport_kernel import answer, pull
from dcsim.network.packet.engine.wheel_kernel import push


@leaf
def receive(s: EngineState, packet: int, when: int) -> bool:
    """A packet's tail reaches its target at `when`; True if it is kept. A mark sends a notice back, a gap what was lost."""
    row = s.packets[packet]
    message = row.message
    task = s.tasks[message]
    back = when + row.wire + row.switch
    if row.flags & (SPOILT | TRIMMED):
        _refuse(s, packet, when, back)
        return False
    if row.flags & MARKED and s.rules[0].rate_control:
        state = s.pairs[task.pair]
        if when - state.last_notice >= s.rules[0].notice_gap:
            state.last_notice = when
            push(s.wheel, back, len(s.links) + NOTICE_PLACE, task.pair)
    lost = task.lost_first
    while lost >= 0:
        after = s.packets[lost].next
        if lost + s.rules[0].reorder <= packet:
            push(s.wheel, back, len(s.links) + NACK_PLACE, lost)
            drop_from_list(s.tasks, s.packets, message, lost)
        lost = after
    if s.rules[0].go_back and packet != task.first_packet + task.arrived:
        row.flags |= LOST
        push(s.wheel, back, len(s.links) + NACK_PLACE, packet)
        return False
    if s.rules[0].transport != UNASKED:
        if s.rules[0].transport == WINDOWED:
            answer(s, packet, back)
        else:
            pull(s, message, int(row.link), when, back)
    return True


@part
def _refuse(s: EngineState, packet: int, when: int, back: int) -> None:
    """A packet without its data, or with wrong bits, is not kept."""
    row = s.packets[packet]
    line = s.links[row.link]
    if row.flags & TRIMMED:
        s.credits[row.message].owed += 1
        s.credits[row.message].trimmed = 1
        push(s.wheel, back, len(s.links) + TRIM_PLACE, packet)
        if s.rules[0].transport == PULLED:
            pull(s, row.message, int(row.link), when, back)
        return
    line.drops += 1
    line.dropped_bytes += row.bytes
    lose(s, when, packet)
