"""The figures of a packet network, as the engine wants them: plain numbers, no names of products."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LinkFigures:
    """One class of links: raw bytes per second one way, latency of the cable, cross traffic offered (0..1).

    `cable_s` None takes the network's `cable_s_per_m` for each metre of cable; `adapter_s` and `switch_s` None are the
    network's own.
    """

    bandwidth_bytes_per_s: float
    cable_s: float | None = None
    load_fraction: float = 0.0
    adapter_s: float | None = None
    switch_s: float | None = None


@dataclass(frozen=True, slots=True)
class RateControl:
    """How senders heed marks: a rule of `rate_kernel.KINDS` and its figures in the order that it names, times in ps."""

    kind: str
    notice_gap_s: float  # a receiver tells a sender of marks at most this often
    figures: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """Packets unanswered at once (TCP): at first, share left after a loss, round trips until a silent end is probed.

    A loss is told by a packet `reorder_packets` later.
    """

    first_packets: float = 10.0
    cut_fraction: float = 0.5
    probe_round_trips: float = 2.0
    reorder_packets: int = 3


@dataclass(frozen=True, slots=True)
class Pull:
    """Packets of a message sent unasked, and what a full queue leaves of a packet (0: nothing, it is dropped)."""

    first_packets: int
    header_bytes: int = 64


@dataclass(frozen=True, slots=True)
class PacketRules:
    """How adapters, switches and links behave.

    `flow_control`: "none" (endless buffers), "credits" (InfiniBand), "pause" (PFC) or "drop" (tail drop and
    selective retransmission). `buffer_bytes` is one switch port's input buffer (credits, pause) or output queue
    (drop); with `go_back` a receiver takes packets in order only, and what follows a loss is sent again (go-back-N).
    One acknowledgement of `ack_bytes` answers every `ack_packets` packets of a message and its last, on the reverse
    of each link they crossed. `pause_gap_bytes` is XOFF - XON; `headroom_bytes` is what a port holds above XOFF (None: all
    that is in flight). `mark_*` are the ECN thresholds on an output queue; None: no marking.
    `error_rate` is the chance that a cable turns a bit; a link sends a packet again itself (`link_retry`), or it is spoilt.
    `rate_control`, `window` or `pull` hold senders back; none: they send as fast as their link takes it.
    `input_fifo` makes each switch input one FIFO (head-of-line blocking) instead of virtual output queues.
    `cross_burst_s` groups cross traffic in bursts of that mean length; 0 is Poisson.
    """

    links: dict[str, LinkFigures]
    cable_s_per_m: float = 0.0
    mtu_bytes: int = 4096
    header_bytes: int = 0
    adapter_s: float = 0.0
    adapter_messages_per_s: float = 0.0  # 0: no limit
    switch_s: float = 0.0
    cut_through: bool = True
    routing: str = "minimal"
    flow_control: str = "none"
    buffer_bytes: int = 1 << 20
    pause_gap_bytes: int = 0
    headroom_bytes: int | None = None
    mark_low_bytes: float | None = None
    mark_high_bytes: float = 0.0
    mark_fraction: float = 0.01
    rate_control: RateControl | None = None
    window: Window | None = None
    pull: Pull | None = None
    error_rate: float = 0.0
    link_retry: bool = False
    retransmit_timeout_s: float = 1e-3
    go_back: bool = False
    ack_bytes: int = 0  # 0: acknowledgements take no bandwidth
    ack_packets: int = 1
    input_fifo: bool = False
    ugal_bias_packets: int = 0
    cross_packet_bytes: int = 4096
    cross_burst_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """At `at_s` a link (both ways if `cable`) changes to `speed_fraction` of its speed; 0 takes it down, 1 mends it."""

    at_s: float
    link: int
    speed_fraction: float
    cable: bool = True


@dataclass(frozen=True, slots=True)
class Software:
    """Library and host costs in front of each message.

    `call_s` by kind of call (tasks.NO_CALL, COLLECTIVE_FIRST, COLLECTIVE_STEP, SEND, and a library's own); `jitter_s` is an
    empirical table from which each message draws one value; empty: no jitter.
    """

    call_s: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    jitter_s: tuple[float, ...] = field(default=())
