"""Whose turn it is at an adapter: a round robin of messages that have a packet to send."""

from __future__ import annotations

from dcsim.kernels.jit import leaf, part
from dcsim.network.packet.engine.state import ADMITTED, IDLE, QUEUED, START_PLACE, EngineState
from dcsim.network.packet.engine.wheel_kernel import push


@leaf
def join(s: EngineState, port: int, message: int) -> None:
    """Put a message at the end of its adapter's round robin."""
    s.tasks[message].state = QUEUED
    s.tasks[message].flow_next = -1
    if s.links[port].flow_first < 0:
        s.links[port].flow_first = message
    else:
        s.tasks[s.links[port].flow_last].flow_next = message
    s.links[port].flow_last = message


@leaf
def take_turn(s: EngineState, port: int) -> int:
    """The message whose turn it is, taken off the round robin."""
    message = s.links[port].flow_first
    s.links[port].flow_first = s.tasks[message].flow_next
    s.tasks[message].state = IDLE
    return int(message)


@part
def requeue(s: EngineState, now: int, message: int, not_before: int) -> None:
    """Set the message's next turn if it has a packet left and none is set."""
    if s.tasks[message].state != IDLE:
        return
    when = max(now, not_before)
    if s.tasks[message].resend_first < 0:
        if s.tasks[message].sent >= s.tasks[message].released:
            return
        ready = s.ready[s.tasks[message].first_packet + s.tasks[message].sent]
        port = s.tasks[message].port
        when = max(when, ready + s.links[port].source_ps if port >= 0 else ready)
    s.tasks[message].state = ADMITTED
    push(s.wheel, when, len(s.links) + START_PLACE, message)


@leaf
def call_adapter(s: EngineState, now: int, port: int) -> None:
    """Have the adapter serve its next message when its link is free."""
    if not s.links[port].calling and s.links[port].flow_first >= 0:
        s.links[port].calling = True
        push(s.wheel, max(now, s.links[port].free), port, len(s.packets))


@part
def evict(s: EngineState, now: int, port: int) -> None:
    """The adapter's link is down: its messages choose another."""
    while s.links[port].flow_first >= 0:
        message = take_turn(s, port)
        s.tasks[message].port = -1
        s.tasks[message].state = ADMITTED
        push(s.wheel, now, len(s.links) + START_PLACE, message)
