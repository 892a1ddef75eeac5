"""Interconnects: `scheduled` (packetless, compiled) or `packet` (adapters, switches, buffers)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dcsim.spec.price import TcoPrices
from dcsim.spec.section import (
    Count,
    Data,
    Drift,
    Energy,
    Events,
    Fraction,
    Latency,
    LinkRate,
    Money,
    Named,
    Positive,
    Power,
    Rate,
    Section,
    Time,
)
from dcsim.spec.software import JitterSpec, SoftwareSpec
from dcsim.spec.transport import CablesSpec, TransportSpec


class Clock(Section):
    """How chips keep one notion of time."""

    drift: Drift = Field(description="Each crystal's offset lies within +- this.")
    exchange_cycles: Positive = Field(description="Cycles between counter exchanges down the spanning tree.")
    jitter_cycles: Count = Field(description="Standard deviation of a link's latency.")
    jitter_max_cycles: Count = Field(description="Largest deviation of a link's latency from its mean.")
    slack_cycles: Count | Literal["auto"] = Field(
        default="auto", description="Cycles a receiver waits beyond the nominal arrival; `auto`: the least that is safe."
    )
    late_rate: float = Field(
        gt=0, lt=1, description="Chance, at a deskew point, that two linked counters differ by more than the slack allows for."
    )
    deskew: Literal["layer", "stage", "iteration"] = Field(description="Program points at which drift is absorbed.")
    deskew_cycles: Positive = Field(description="By layer, a longer layer absorbs drift this often within, in cycles.")


class ScheduledNetwork(Named):
    """Links whose every vector has a cycle fixed at compile time."""

    kind: Literal["scheduled"]
    vector_bytes: Data = Field(gt=0, description="Payload of one vector.")
    vector_wire_bytes: Data = Field(gt=0, description="The same vector on the wire, encoded.")
    bandwidth_bytes_per_s: Rate = Field(description="Raw bytes per second of one link, one way.")
    link_cycles: Count = Field(description="Raw link latency, transmitter to receiver.")
    end_cycles: Count = Field(description="SRAM read, stream, link interface and back at the two ends of a path.")
    forward_cycles: Count = Field(description="Forwarding through a chip on the way.")
    reduce_cycles: Count = Field(description="Reduction in the vector unit, start to first sum.")
    buffer_vectors: Count = Field(description="Vectors a chip may hold in transit on each link.")
    receive_vectors: Count | Literal["auto"] = Field(
        default="auto",
        description="Vectors a receiver holds on each link that came before it reads them; `auto`: the fewest that are safe.",
    )
    error_rate: float = Field(ge=0, le=1, description="Bit errors per bit left after error correction.")
    detours_max: Count = Field(description="Non-minimal paths tried for one message.")
    compile_s: Time = Field(default=0.0, ge=0, description="One program compiled again for a node that has moved to its spare.")
    clock: Clock
    link_energy_j: Energy = Field(description="Energy per byte and link.")
    prices: TcoPrices = Field(description="What parts, buildings and electricity cost, an entry of topologies/prices.")

    @property
    def terms(self) -> dict[str, str | None]:
        """What results call it: `interconnect`, and `software`, the library of its calls; None: it has none."""
        return {"interconnect": self.name, "software": None}


class Ecn(Section):
    """Marks set on packets at a long output queue, and DCQCN at the senders that are told of them."""

    low_bytes: Data = Field(description="Queue at which marking starts.")
    high_bytes: Data = Field(description="Queue from which on every packet is marked.")
    fraction: Fraction = Field(description="Share marked just below `high`.")


SPEED_LEAST = 1e-6  # of a link's speed: slower is down


class LinkFault(Section):
    """A cable that fails, slows down or is mended at a time of each run of iterations: a chip's or a switch's."""

    at_s: Time = Field(description="When, from the start of the first iteration.")
    chip: Count | None = Field(default=None, description="The chip whose adapter it is.")
    adapter: Count = Field(default=0, description="Which of its adapters.")
    switch: Count | None = Field(default=None, description="The switch whose port it is, in place of a chip.")
    port: Count = Field(default=0, description="Which of its ports.")
    speed_fraction: Fraction = Field(default=0.0, description="Speed left; 0: down, 1: mended.")

    @model_validator(mode="after")
    def _down_or_moving(self) -> LinkFault:
        if 0 < self.speed_fraction < SPEED_LEAST:
            raise ValueError(f"`speed_fraction` is 0 (down) or at least {SPEED_LEAST:g}")
        return self


class Background(Section):
    """What else crosses a packet network while one replica is timed, as steady flows from chip to chip."""

    micro_batches: float = Field(
        default=0.0, ge=0, description="Micro-batches like the one timed that every other replica has in flight."
    )
    kv_tokens_per_s: Events = Field(
        default=0.0, description="Prompt tokens a second whose KV every replica receives, evenly from the others."
    )
    host_bytes_per_s: Rate | None = Field(
        default=None, description="Bytes a second each node's host sends through its first chip's adapter, evenly to other nodes."
    )


class PacketNetwork(Named):
    """Adapters and switches that move packets."""

    kind: Literal["packet"]
    layout: Literal["fat_tree", "dragonfly", "island", "own"] = Field(
        default="fat_tree",
        description="How switches join chips whose own fabric has none. `island`: one tier; `own`: chips forward packets.",
    )
    switch_ports: Positive = Field(description="Ports of one switch.")
    fairness: Literal["equal_bandwidth", "equal_radix", "pcie", "equal_cost"] = Field(
        default="equal_bandwidth",
        description="A chip's own cables become one link as fast as all, as many adapters, one adapter behind PCIe, "
        "or one link of the bandwidth that their price buys.",
    )
    prices: TcoPrices = Field(description="What parts, buildings and electricity cost, an entry of topologies/prices.")
    chip_port_bytes_per_s: LinkRate = Field(description="Raw bytes per second of a chip's own port that adapters stand for.")
    pcie_bytes_per_s: LinkRate = Field(description="Bytes per second of one adapter's bus, for `fairness: pcie`.")
    bandwidth_bytes_per_s: LinkRate = Field(description="Raw bytes per second of one port, one way.")
    sum_bandwidth_bytes_per_s: LinkRate | None = Field(
        default=None, description="Data a port carries each way while switches make sums (NVLS, SHARP); default: they make none."
    )
    mtu_bytes: Data = Field(ge=1, le=2**30, description="Largest payload of one packet.")
    header_bytes: Data = Field(le=2**20, description="Bytes added to each packet on the wire.")
    adapter_s: Latency = Field(description="Latency of one adapter, send or receive, bus included.")
    adapter_messages_per_s: Events = Field(gt=0, description="Messages one adapter starts per second.")
    switch_s: Latency = Field(description="Port to port through one switch.")
    cut_through: bool = Field(description="A switch forwards before the whole packet is in.")
    flow_control: Literal["credits", "pause", "drop"] = Field(
        description="Credits (InfiniBand), PFC pause, or tail drop and retransmission."
    )
    buffer_bytes: Data = Field(le=2**40, description="Buffer of one switch port; it holds a packet at least.")
    ecn: Ecn | None = Field(default=None, description="Congestion control by marks; none by default.")
    recovery: Literal["selective", "go_back"] = Field(
        default="selective", description="What is sent again after a drop: lost packets only, or all from the first lost on."
    )
    ack_bytes: Data = Field(default=0.0, le=2**20, description="One acknowledgement on the wire; 0: they take no bandwidth.")
    ack_packets: Positive = Field(default=1, description="Packets of a message that one acknowledgement answers.")
    pause_gap_packets: Positive | None = Field(
        default=None, description="A pause ends when the buffer is so many packets below full, for `flow_control: pause`."
    )
    headroom_bytes: Data | None = Field(
        default=None,
        le=2**40,
        description="What a port holds beyond its buffer after it has asked for a pause; what finds that full is lost. "
        "Default: all that may be in flight.",
    )
    error_rate: float = Field(default=0.0, ge=0, lt=1e-3, description="Bit errors per bit left after error correction.")
    link_retry: bool = Field(
        default=False, description="A link sends a spoilt packet again itself; else who finds it drops it, and its sender does."
    )
    transport: TransportSpec = Field(
        description="What senders do about marks and losses, an entry of topologies/transports; default: rdma."
    )
    cables: CablesSpec = Field(description="Cables, an entry of topologies/cables; default: usual.")
    routing: Literal["minimal", "valiant", "ugal", "ugal_l", "adaptive", "ecmp", "spray"] = Field(
        description="How a packet's path is chosen. `minimal`, `ecmp`: a flow keeps one of its shortest paths; `spray`: each "
        "packet draws one; `adaptive`: it takes the shortest queue among links one step closer; `valiant`: it first visits a "
        "random group, or router where groups are not cabled to each other; `ugal`: only where queues that way are shorter; "
        "`ugal_l`: the same by its own switch's queues alone."
    )
    ugal_bias_packets: Count | None = Field(
        default=None, description="A detour must be shorter by so many queued packets to be taken, for `ugal` and `ugal_l`."
    )
    reduce_s: Latency = Field(description="Sum of two vectors on a chip, start to first result.")
    vector_bytes: Data = Field(ge=1, description="Collectives cut data in whole pieces of this size.")
    software: SoftwareSpec = Field(
        description="Library whose costs a call pays, an entry of topologies/software; default: the chip's. `ideal`: none."
    )
    jitter: JitterSpec | None = Field(
        default=None, description="Host jitter on each message, an entry of topologies/jitter; `off`: none."
    )
    replications: Positive = Field(default=100, description="Successive iterations simulated per shape.")
    switch_units: Positive = Field(default=1, description="Height of one switch, in rack units.")
    switch_power_w: Power = Field(default=0.0, description="Draw of one switch port.")
    adapter_power_w: Power = Field(default=0.0, description="Draw of one adapter.")
    adapter_price_usd: Money | None = Field(default=None, description="Price of one adapter; default: that of `prices`.")
    port_usd: Money = Field(default=0.0, description="Price of one switch port with its share of cable.")
    energy_j: Energy = Field(default=0.0, description="Energy per byte and hop.")
    load_fraction: float = Field(
        default=0.0, ge=0, lt=1, description="Cross traffic offered to the link that `load_pattern` makes busiest."
    )
    load_pattern: Literal["every_link", "uniform", "perm", "adversarial", "incast"] = Field(
        default="every_link", description="Between which chips cross traffic goes; `every_link`: alike on all links."
    )
    background: Background = Field(default_factory=Background)
    cross_burst_s: Time = Field(default=0.0, description="Mean length of a burst of cross traffic; 0: Poisson packets.")
    faults: tuple[LinkFault, ...] = Field(default=(), description="Adapters and cables that fail or slow down.")

    @property
    def terms(self) -> dict[str, str | None]:
        """What results call it: `interconnect`, and `software`, the library of its calls. To name one is not to use it."""
        return {"interconnect": self.name, "software": self.__dict__["software"].name}

    @model_validator(mode="after")
    def _has_what_its_rules_need(self) -> PacketNetwork:
        if self.flow_control == "pause" and self.pause_gap_packets is None:
            raise ValueError("`flow_control: pause` needs `pause_gap_packets`, for example 4")
        if self.routing in ("ugal", "ugal_l") and self.ugal_bias_packets is None:
            raise ValueError(f"`routing: {self.routing}` needs `ugal_bias_packets`, for example 3")
        return self

    @model_validator(mode="after")
    def _buffer_holds_a_packet(self) -> PacketNetwork:
        packet_bytes = self.mtu_bytes + self.header_bytes
        if self.buffer_bytes < packet_bytes:
            raise ValueError(
                f"`buffer` of {self.buffer_bytes:,.0f} B is less than one packet of {packet_bytes:,.0f} B, header included"
            )
        return self


NetworkSpec = Annotated[ScheduledNetwork | PacketNetwork, Field(discriminator="kind")]
