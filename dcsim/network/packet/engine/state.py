"""The engine's state: a few arrays of records, handed around as one `EngineState`.

A link is one direction of a cable with the output queue that feeds it and the input buffer it fills. A message is a
task of kind MESSAGE (or one flow of a traffic pattern); its packets are numbered from `first_packet` on. Times are
picoseconds. An index of -1 means none, and lists are chains through a `next` field.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dcsim.kernels.plain import readable

# Bits of a packet's flags. TIMED: a retransmission timer runs; LANDED: counted in a buffer that may overflow; SPOILT: bits of it
# are wrong, or part of it is missing; TRIMMED: only its header is left; ANSWERED: it has an acknowledgement of its own.
MARKED, LOST, TIMED, LANDED, SPOILT, TRIMMED, ANSWERED = 1, 2, 4, 8, 16, 32, 64

# What a message is doing at its adapter: nothing, waiting for an event (ADMITTED: the adapter has taken it), in turn, or
# waiting until its transport lets it send.
IDLE, STARTING, ADMITTED, QUEUED, BLOCKED = range(5)

# Transports: as fast as the link and rate control let, a window of packets unanswered, or as the receiver pulls.
UNASKED, WINDOWED, PULLED = range(3)

# Pseudo links, after the last link: events that belong to no link.
PLACES = 10
(
    RELEASE_PLACE,
    FAULT_PLACE,
    START_PLACE,
    NOTICE_PLACE,
    NACK_PLACE,
    TIMEOUT_PLACE,
    ACK_PLACE,
    PULL_PLACE,
    TRIM_PLACE,
    SAMPLE_PLACE,
) = range(PLACES)

# Routing rules. From ADAPTIVE on a packet takes the shortest of several queues; from VALIANT on it may make a detour.
MINIMAL, SPRAY, ADAPTIVE, VALIANT, UGAL, UGAL_L = range(6)
ROUTING = {
    "minimal": MINIMAL,
    "ecmp": MINIMAL,
    "spray": SPRAY,
    "adaptive": ADAPTIVE,
    "valiant": VALIANT,
    "ugal": UGAL,
    "ugal_l": UGAL_L,
}

FOREVER = 1 << 62  # ps
NOT_YET = -1  # in place of a time

UNDECIDED, STRAIGHT = -1, -2  # a packet's `detour` when it is no way point

# Which cable a message's packets leave a chip by: its own; any of those beside it; any that leads one step closer.
OWN_PORT, BONDED_PORTS, ANY_PORT = range(3)

DIMENSION_BITS = 16  # of a link's order: what is above is the dimension of a grid, in which lanes start anew

# Records are laid out by cache lines of 64 bytes: what every hop touches comes first.
LINK = np.dtype(
    [
        ("target", "i4"),  # vertex at its end
        ("order", "i4"),  # the lane rises when this does not
        ("reverse", "i4"),  # the other direction of its cable
        ("up", "b1"),
        ("calling", "b1"),  # an adapter event is pending
        ("from_chip", "b1"),  # an adapter at its near end
        ("next_down", "b1"),  # the next fault takes it down
        ("free", "i8"),  # when the last packet granted has left
        ("fs_per_byte", "i8"),  # femtoseconds a byte takes
        ("wire_ps", "i8"),  # cable
        ("node_ps", "i8"),  # switch or adapter at its far end
        ("waiting_ps", "i8"),  # work of packets held back for lack of credit
        ("next_fault", "i8"),  # when its next fault strikes, FOREVER for none
        # what is counted, per iteration
        ("busy", "i8"),  # ps spent sending packets
        ("bytes", "i8"),  # bytes sent, headers included
        ("packets", "i8"),
        ("peak_ps", "i8"),  # longest queue met by a packet
        ("buffer_ps", "i8"),  # longest queue before packets are dropped, FOREVER for no limit
        ("mark_low_ps", "i8"),  # queue at which marking starts, FOREVER for never
        ("background", "f8"),  # share of the link that cross traffic offers
        ("ack_bytes", "i8"),  # acknowledgements carried
        # adapters: round robin of messages with a packet to send
        ("flow_first", "i4"),
        ("flow_last", "i4"),
        ("next_start", "i8"),  # when the adapter may start another message
        ("source_ps", "i8"),  # adapter at its near end, -1 for a link that leaves a switch
        ("mark_high_ps", "i8"),  # queue at which every packet is marked
        ("drops", "i8"),
        ("dropped_bytes", "i8"),
        ("marks", "i8"),
        ("pauses", "i4"),  # times a channel ran out of credit or was paused
        ("retries", "i4"),  # packets sent again by the link itself
        ("input_first", "i4"),  # input FIFO of the switch at its end (input_fifo only)
        ("input_last", "i4"),
        ("input_until", "i8"),  # when the FIFO's last head has left
        ("cross_next", "i8"),  # next arrival of cross traffic
        ("cross_turn", "i8"),  # when cross traffic next turns off (positive) or on (negative)
        ("cross_count", "i8"),  # draws made so far
        ("stranded_first", "i4"),  # packets that would still be on the link at its next fault, in order
        ("stranded_last", "i4"),
        ("stranded_start", "i8"),  # when the first of them would start
        ("true_free", "i8"),  # when the last packet before them has left
    ]
)
COUNTED = ("busy", "bytes", "packets", "peak_ps", "drops", "dropped_bytes", "marks", "pauses", "ack_bytes", "retries")

# One virtual channel of one link: number link * channels + channel.
QUEUE = np.dtype(
    [
        ("taken", "i8"),  # buffer slots ever taken
        ("released", "i8"),  # buffer slots ever given back (or known to be)
        ("passed", "i8"),  # of those, how many are known to lie in the past
        ("latest", "i8"),  # the last release time
        ("gate", "i8"),  # releases needed before a paused channel sends again
        ("held_first", "i4"),  # packets held back, oldest first
        ("held_last", "i4"),
        ("waking", "i4"),  # 1: a wake event is pending
        ("slots", "i4"),  # packets its sender may have sent and not know to have left the buffer
        ("resume", "i4"),  # releases that end a pause
        ("capacity", "i4"),  # packets the buffer and its headroom hold
    ]
)

VERTEX = np.dtype(
    [
        ("first_link", "i4"),  # of the links that leave it; one more vertex ends the list
        ("way", "i4"),  # the way point it belongs to, -1 for none
    ]
)

# A place that a detour visits: a group of switches, or one router (a chip where chips forward).
WAY = np.dtype([("column", "i4"), ("vertex", "i4")])  # its routing column; the router, -1 for a group

# One cache line. A packet has been queueing for as long as it has been neither on wires, in switches nor clocked out.
PACKET = np.dtype(
    [
        ("message", "i4"),
        ("target", "i4"),  # chip
        ("link", "i4"),  # link it last crossed, -1 at its source
        ("next", "i4"),  # next packet of the list it is in; on a link, the next link if that is known already
        ("bytes", "i4"),  # on the wire, header included
        ("detour", "i2"),  # way point it must visit first, UNDECIDED or STRAIGHT
        ("channel", "i1"),  # its lane (virtual channel) on that link
        ("flags", "i1"),
        ("arrived", "i8"),  # when its head reached the queue it is in
        ("tail", "i8"),  # when its tail reached it; at the target chip, when it is delivered
        ("wire", "i8"),  # time spent on cables so far
        ("switch", "i8"),  # in switches and adapters
        ("serial", "i8"),  # being clocked out
    ]
)

# One task; one more ends the lists of predecessors, successors and packets. `fraction` is in units of 2**-20.
# The first cache line is what the arrival of a packet touches, the second what sending one does.
TASK = np.dtype(
    [
        ("first_out", "i8"),
        ("last_out", "i8"),  # latest output so far
        ("target", "i4"),
        ("pair", "i4"),  # queue pair
        ("first_packet", "i4"),
        ("packets", "i4"),
        ("followers", "i4"),  # tasks that depend on it
        ("arrived", "i4"),  # packets arrived
        ("last_packet", "i4"),  # the packet that arrived last
        ("lost_first", "i4"),  # dropped packets the sender has not heard of
        ("fraction", "i4"),  # of the output that is out, or whose time is known
        ("port", "i4"),  # the link it leaves by
        ("kind", "i1"),
        ("whole", "b1"),  # needs its whole input before it starts
        ("state", "i1"),  # IDLE, STARTING, ADMITTED or QUEUED
        ("unused", "i1"),
        ("source", "i4"),
        ("start", "i8"),  # -1 before
        ("size", "i8"),  # bytes
        ("released", "i4"),  # packets handed to the adapter
        ("sent", "i4"),  # packets sent at least once
        ("flow_next", "i4"),  # next message of its adapter's round robin
        ("resend_first", "i4"),  # packets to send again
        ("resend_last", "i4"),
        ("idle", "i4"),  # predecessors without any output yet
        ("unfinished", "i4"),  # predecessors not complete
        ("before_start", "i4"),
        ("after_start", "i4"),
        ("rows", "i4"),
        ("lead", "i4"),
        ("room", "i4"),
    ]
)

# What a task waits and takes, ps.
SPAN = np.dtype(
    [
        ("delay", "i8"),  # software and jitter of a message
        ("release", "i8"),  # it starts not before this
        ("first", "i8"),  # start to first output of a compute task
        ("last", "i8"),
    ]
)

# A queue pair's rate control; rates are shares of the line rate.
PAIR = np.dtype(
    [
        ("now_rate", "f8"),
        ("target_rate", "f8"),
        ("alpha", "f8"),
        ("cut_at", "i8"),
        ("alpha_at", "i8"),
        ("next_send", "i8"),
        ("last_notice", "i8"),
        ("bytes_sent", "i8"),
        ("timer_steps", "i8"),
        ("byte_steps", "i8"),
    ]
)

RATE_FIGURES_MAX = 8

# A queue pair's window of packets that are on their way and not answered.
WINDOW = np.dtype(
    [
        ("size", "f8"),  # packets
        ("threshold", "f8"),  # above it the window grows by one packet a round trip
        ("round_trip", "f8"),  # smoothed, ps; 0 before the first answer
        ("cut_at", "i8"),  # when it was last cut
        ("out", "i8"),  # packets not answered
        ("blocked_first", "i4"),  # messages that wait for it
        ("blocked_last", "i4"),
        ("unanswered", "i8"),  # packets arrived since the last acknowledgement
        ("room", "i8", 1),
    ]
)

# What a message may send where its receiver pulls, in packets.
CREDIT = np.dtype(
    [
        ("unasked", "i4"),
        ("pulled", "i4"),
        ("coming", "i4"),  # pulls on their way to it
        ("owed", "i4"),  # packets to send again
        ("trimmed", "i4"),  # 1 once the receiver got a packet without its data: what was not sent yet is to be pulled
    ]
)

# PacketRules of the whole network (one record).
RULES = np.dtype(
    [
        ("mtu", "i8"),
        ("header", "i8"),
        ("store_forward", "b1"),
        ("input_fifo", "b1"),
        ("go_back", "b1"),
        ("relay", "b1"),  # chips pass packets on beside switches
        ("overflow", "b1"),  # paused links may send more than the headroom behind them holds
        ("errors", "b1"),  # links corrupt packets
        ("link_retry", "b1"),  # and send them again themselves
        ("ack_bytes", "i8"),
        ("ack_packets", "i8"),
        ("routing", "i8"),
        ("bias", "i8"),
        ("message_gap", "i8"),
        ("timeout", "i8"),
        ("seed", "i8"),
        ("channels", "i8"),
        ("slots", "i8"),  # the most buffer slots of any lane, 0 for endless
        ("second_lane", "i8"),  # first lane of what a detour's second leg takes, where lanes start anew; else 0
        ("ports", "i8"),  # OWN_PORT, BONDED_PORTS or ANY_PORT
        ("cross_bytes", "i8"),
        ("burst_ps", "i8"),
        ("mark_fraction", "f8"),
        ("rate_control", "i8"),  # of rate_kernel.KINDS; 0: none
        ("notice_gap", "i8"),
        ("rate", "f8", (RATE_FIGURES_MAX,)),  # figures of the rate control
        ("transport", "i8"),  # UNASKED, WINDOWED or PULLED
        ("window_first", "f8"),
        ("window_cut", "f8"),
        ("probe", "f8"),  # round trips after which a window's last packet is asked for
        ("reorder", "i8"),  # later packets that tell of a loss
        ("pull_first", "i8"),  # packets sent unasked
        ("trim_bytes", "i8"),  # what a full queue leaves of a packet; 0: nothing
        ("log_whole", "f8"),  # logarithm of the chance that a bit is whole
    ]
)

# Counters of one iteration (one record); `root` is the next task to let go, `culprit` the message in an error.
TALLY = np.dtype(
    [
        ("open", "i8"),
        ("hops", "i8"),
        ("resent", "i8"),
        ("root", "i8"),
        ("culprit", "i8"),
        ("epoch", "i8"),
        ("sampled", "i8"),  # rows of `samples` that are filled
        ("sample_ps", "i8"),  # time between them
    ]
)

FAULT = np.dtype(
    [
        ("at_ps", "i8"),
        ("link", "i4"),
        ("epoch", "i4"),
        ("fs_per_byte", "i8"),  # from then on; 0: down
        ("following", "i8"),  # when the same link's next fault strikes, FOREVER for none
        ("following_down", "b1"),
    ]
)


class EngineState(NamedTuple):
    """Everything the kernels read and change."""

    wheel: Any  # queue_kernel.Wheel
    rules: Any  # RULES[1]
    tally: Any  # TALLY[1]
    links: Any  # LINK[link]
    queues: Any  # QUEUE[link * channels]
    ring: Any  # int64[link * channels, power of two] when buffer slots come back, sorted
    vertices: Any  # VERTEX[vertex + 1]
    column: Any  # int32[chip] its column of the routing tables
    home: Any  # int32[chip] the one link into it, -1 for several
    set_of: Any  # int32[epoch, vertex, column] where in `sets` the next links are; -1 the target's own switch, -2 cut off
    distance: Any  # int32[epoch, vertex, column] links, and CROSSING for each crossing
    sets: Any  # int32[] at a set's number: how many links it has, then the links
    ways: Any  # WAY[] the places a detour may visit
    packets: Any  # PACKET[packet]
    ready: Any  # int64[packet] when the library handed it to the adapter
    input_next: Any  # int32[packet] next packet of its input FIFO; empty without input_fifo
    tasks: Any  # TASK[task + 1]
    spans: Any  # SPAN[task]
    before: Any  # int32[]
    after: Any  # int32[]
    roots: Any  # int32[] tasks without predecessors, by release then number
    stack: Any  # int32[]
    pairs: Any  # PAIR[pair]
    windows: Any  # WINDOW[pair]; empty without windows
    sent_at: Any  # int64[packet] when it last left its source; empty without windows
    answers: Any  # int64[packet] how many packets its acknowledgement on the way answers; empty without windows
    credits: Any  # CREDIT[task]; empty where nobody pulls
    pull_free: Any  # int64[chip] when it may pull again; empty where nobody pulls
    landed: Any  # int64[link * channels] packets that reached the buffer; empty where none can overflow
    faults: Any  # FAULT[fault]
    lane_asked: Any  # int8[packet] the lane a stranded packet asked for; empty without faults
    samples: Any  # int64[row, link] what was queued, ps; no rows where nobody looks


def aligned(count: int, record: Any) -> Any:
    """`count` records of zeros that start on a cache line."""
    block = np.zeros(count * record.itemsize + 64, np.uint8)
    begin = -block.ctypes.data % 64
    return block[begin : begin + count * record.itemsize].view(record)


def in_one_block(s: EngineState) -> EngineState:
    """The same state in one stretch of memory, which the system maps in large pages: fewer address look-ups."""
    parts = [*s.wheel, *s[1:]]
    places = np.cumsum([0, *(-(-part.nbytes // 64) * 64 for part in parts)])
    block = aligned(int(places[-1]), np.dtype(np.uint8))
    moved = []
    for part, begin in zip(parts, places[:-1], strict=True):
        copy = block[begin : begin + part.nbytes].view(part.dtype).reshape(part.shape)
        if part.view(np.uint8).any():  # pages of zeros are not asked for until they are used
            copy[...] = part
        moved.append(readable(copy))
    return EngineState(type(s.wheel)(*moved[: len(s.wheel)]), *moved[len(s.wheel) :])
