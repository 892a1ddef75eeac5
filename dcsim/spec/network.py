"""Interconnects: `scheduled` (packetless, compiled) or `packet` (adapters, switches, buffers)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dcsim.spec.section import Count, Data, Drift, Energy, Events, Fraction, Length, Money, Named, Positive, Power, Rate, Section, Time


class Clock(Section):
    """How chips keep one notion of time."""

    drift: Drift = Field(description="Each crystal's offset lies within +- this.")
    exchange_cycles: Positive = Field(description="Cycles between counter exchanges down the spanning tree.")
    jitter_cycles: Count = Field(description="Standard deviation of a link's latency.")
    jitter_max_cycles: Count = Field(description="Largest deviation of a link's latency from its mean.")
    slack_cycles: Count = Field(description="Cycles a receiver waits beyond the nominal arrival.")
    deskew: Literal["layer", "stage", "iteration"] = Field(description="Program points at which drift is absorbed.")


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
    error_rate: float = Field(ge=0, le=1, description="Bit errors per bit left after error correction.")
    detours_max: Count = Field(description="Non-minimal paths tried for one message.")
    clock: Clock
    link_energy_j: Energy = Field(description="Energy per byte and link.")


class LinkClass(Section):
    """Figures of one class of links in a packet network."""

    bandwidth_bytes_per_s: Rate = Field(description="Raw bytes per second, one way.")
    cable_m: Length = Field(default=0.0, description="Cable length where the fabric gives none.")


class PacketNetwork(Named):
    """Adapters and switches that move packets."""

    kind: Literal["packet"]
    family: Literal["infiniband", "roce", "ethernet", "nvlink"] = Field(description="Which link-level rules apply.")
    bandwidth_bytes_per_s: Rate = Field(description="Raw bytes per second of one port, one way.")
    mtu_bytes: Data = Field(gt=0, description="Largest payload of one packet.")
    header_bytes: Data = Field(description="Bytes added to each packet on the wire.")
    adapter_s: Time = Field(description="Latency of one adapter, send or receive, bus included.")
    adapter_messages_per_s: Events = Field(gt=0, description="Messages one adapter starts per second.")
    switch_s: Time = Field(description="Port to port through one switch.")
    cut_through: bool = Field(description="A switch forwards before the whole packet is in.")
    buffer_bytes: Data = Field(description="Buffer of one switch port.")
    routing: Literal["minimal", "valiant", "ugal", "adaptive", "ecmp", "spray"] = Field(description="How a packet's path is chosen.")
    software: Literal["none", "verbs", "nccl"] = Field(description="Which library's costs a call pays.")
    jitter: Literal["off", "host"] = Field(default="off", description="Host jitter on each send.")
    replications: Positive = Field(default=100, description="Iterations simulated per shape.")
    switch_power_w: Power = Field(default=0.0, description="Draw of one switch port.")
    adapter_power_w: Power = Field(default=0.0, description="Draw of one adapter.")
    port_usd: Money = Field(default=0.0, description="Price of one switch port with its share of cable.")
    energy_j: Energy = Field(default=0.0, description="Energy per byte and hop.")
    load_fraction: Fraction = Field(default=0.0, description="Cross traffic offered to every link.")


NetworkSpec = Annotated[ScheduledNetwork | PacketNetwork, Field(discriminator="kind")]
