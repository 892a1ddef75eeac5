"""Transports that hold senders back: a window of unanswered packets (TCP), or pulls of the receiver (NDP, EQDS).

Acknowledgements, notices and pulls travel back in their own priority, in the time that a packet's cables and switches took.
"""

from __future__ import annotations

from dcsim.kernels.jit import part
from dcsim.network.packet.engine.state import ACK_PLACE, BLOCKED, IDLE, PULL_PLACE, PULLED, WINDOWED, EngineState
from dcsim.network.packet.engine.turns_kernel import requeue
from dcsim.network.packet.engine.wheel_kernel import push

SMOOTHING = 0.125  # weight of a new round trip (RFC 6298)
WINDOW_LEAST = 1.0


@part
def may_send(s: EngineState, message: int) -> bool:
    """Whether a message, taken off its adapter's round robin, may send a packet now; if not, it waits for that."""
    if s.rules[0].transport == WINDOWED:
        window = s.windows[s.tasks[message].pair]
        if window.out < window.size:
            return True
        s.tasks[message].flow_next = -1
        if window.blocked_first < 0:
            window.blocked_first = message
        else:
            s.tasks[window.blocked_last].flow_next = message
        window.blocked_last = message
    elif s.credits[message].pulled + s.credits[message].unasked > 0:
        return True
    s.tasks[message].state = BLOCKED
    return False


@part
def note_sent(s: EngineState, now: int, message: int, packet: int) -> None:
    """A packet leaves its source."""
    if s.rules[0].transport == WINDOWED:
        s.windows[s.tasks[message].pair].out += 1
        s.sent_at[packet] = now
    elif s.credits[message].pulled > 0:
        s.credits[message].pulled -= 1
    else:
        s.credits[message].unasked -= 1


@part
def _unblock(s: EngineState, now: int, pair: int) -> None:
    """The messages that waited for a window try again."""
    message = s.windows[pair].blocked_first
    s.windows[pair].blocked_first = -1
    while message >= 0:
        after = int(s.tasks[message].flow_next)
        s.tasks[message].state = IDLE
        requeue(s, now, message, 0)
        message = after


@part
def answer(s: EngineState, packet: int, back: int) -> None:
    """WINDOWED, at the receiver: every `ack_packets`-th packet of a queue pair is acknowledged, and with it those before.

    At once are a message's last, those after a gap, and those after which the sender's window lets nothing follow.
    """
    task = s.tasks[s.packets[packet].message]
    window = s.windows[task.pair]
    window.unanswered += 1
    due = window.unanswered >= s.rules[0].ack_packets or window.out >= window.size
    if due or task.arrived + 1 == task.packets or task.lost_first >= 0:
        s.answers[packet] = window.unanswered
        window.unanswered = 0
        push(s.wheel, back, len(s.links) + ACK_PLACE, packet)


@part
def acknowledged(s: EngineState, now: int, packet: int) -> None:
    """WINDOWED, at the sender: an acknowledgement makes room and lets the window grow (RFC 5681)."""
    pair = s.tasks[s.packets[packet].message].pair
    window, count = s.windows[pair], int(s.answers[packet])
    s.answers[packet] = 0
    if count == 0:  # of an iteration before
        return
    took = now - s.sent_at[packet]
    window.round_trip = took if window.round_trip == 0.0 else window.round_trip + SMOOTHING * (took - window.round_trip)
    window.out -= count
    if window.size < window.threshold:
        window.size += count
    else:
        window.size += count / window.size
    _unblock(s, now, pair)


@part
def window_lost(s: EngineState, now: int, message: int, sent_at: int) -> None:
    """WINDOWED, at the sender: a loss makes room and cuts the window, once for all packets sent before the last cut."""
    pair = s.tasks[message].pair
    window = s.windows[pair]
    window.out -= 1 + window.unanswered  # who tells of a loss tells of what has arrived
    window.unanswered = 0
    if sent_at >= window.cut_at:
        window.threshold = max(2.0, window.size * s.rules[0].window_cut)
        window.size = max(WINDOW_LEAST, window.threshold)
        window.cut_at = now
    _unblock(s, now, pair)


@part
def taken_back(s: EngineState, now: int, message: int) -> None:
    """A packet that was to leave its source has not."""
    if s.rules[0].transport == WINDOWED:
        s.windows[s.tasks[message].pair].out -= 1
        _unblock(s, now, s.tasks[message].pair)
    elif s.rules[0].transport == PULLED:
        owe(s, now, message)


@part
def owe(s: EngineState, now: int, message: int) -> None:
    """PULLED, at the sender: a packet has to be sent again, which needs no pull of its own; the message may wait for one."""
    s.credits[message].owed += 1
    s.credits[message].pulled += 1
    let_go(s, now, message)


@part
def probe_ps(s: EngineState, message: int) -> int:
    """How long after a loss its sender asks for the packet if no later one tells of it."""
    if s.rules[0].transport == WINDOWED:
        round_trip = s.windows[s.tasks[message].pair].round_trip
        if round_trip > 0.0:
            return int(min(s.rules[0].probe * round_trip, s.rules[0].timeout))
    return int(s.rules[0].timeout)


@part
def pull(s: EngineState, message: int, link: int, when: int, back: int) -> None:
    """PULLED, at the receiver: something of a message has arrived over `link`, and another packet is asked for if it has one.

    Pulls of all messages to a chip leave one behind another, a full packet's time apart, so that what they call for fits.
    """
    task, credit = s.tasks[message], s.credits[message]
    needed = task.packets - task.sent + credit.owed
    if credit.trimmed == 0:
        needed -= credit.unasked
    if needed <= credit.pulled + credit.coming:
        return
    full_ps = (s.rules[0].mtu + s.rules[0].header) * s.links[link].fs_per_byte // 1000
    at = max(when, s.pull_free[task.target])
    s.pull_free[task.target] = at + full_ps
    credit.coming += 1
    push(s.wheel, at + back - when, len(s.links) + PULL_PLACE, message)


@part
def pulled(s: EngineState, now: int, message: int) -> None:
    """PULLED, at the sender: a pull arrives."""
    s.credits[message].coming -= 1
    s.credits[message].pulled += 1
    let_go(s, now, message)


@part
def let_go(s: EngineState, now: int, message: int) -> None:
    """A message that waited to be pulled tries again."""
    if s.tasks[message].state == BLOCKED:
        s.tasks[message].state = IDLE
        requeue(s, now, message, 0)
