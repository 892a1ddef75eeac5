"""Host servers, nodes and the power path: what stands around the chips."""

from __future__ import annotations

from pydantic import Field, model_validator

from dcsim.spec.section import (
    Count,
    Data,
    Fraction,
    Latency,
    Length,
    LinkRate,
    Money,
    Named,
    Positive,
    Power,
    Rate,
    Section,
    Time,
)


class HostSpec(Named):
    """One host server: it tokenises, queues, feeds chips over the bus and streams tokens back."""

    cores: Positive = Field(le=10_000, description="Cores that work on requests, each on one at a time.")
    request_s: Time = Field(le=60, description="Core time to accept one request, besides tokenising.")
    tokenise_token_s: Time = Field(le=0.1, description="Core time to tokenise one prompt token.")
    detokenise_token_s: Time = Field(le=0.1, description="Core time to detokenise and send one output token.")
    token_bytes: Data = Field(le=1e9, description="Bytes of one token id on the bus.")
    bus_bandwidth_bytes_per_s: Rate = Field(description="Payload bytes per second of the bus to one chip.")
    bus_s: Time = Field(le=60, description="Latency of one transfer over the bus.")
    queue_max: Count = Field(le=1_000_000, description="Requests that may wait for a core of one server; more are rejected.")
    idle_w: Power = Field(description="Draw of an idle server.")
    busy_w: Power = Field(description="Draw with all cores busy.")
    buy_usd: Money = Field(description="Price of one server without accelerator cards.")


class IslandSpec(Section):
    """Switches inside a node, and each chip's port into them (NVLink): packets between its chips take no other way."""

    bandwidth_bytes_per_s: LinkRate = Field(description="Raw bytes per second of a chip's link, one way.")
    adapter_s: Latency = Field(description="Latency of a chip's port, send or receive.")
    switch_s: Latency = Field(description="Port to port through the switch.")
    packet_bytes: Data | None = Field(
        default=None, gt=0, le=2**20, description="Payload of its own packets; default: `bandwidth` is what the network's fill."
    )
    header_bytes: Data = Field(default=0.0, ge=0, le=2**20, description="What each has beside its payload.")
    sum_bandwidth_bytes_per_s: LinkRate | None = Field(
        default=None, description="Data a port carries each way while its switches make sums (NVLS); default: they make none."
    )


class NodeSpec(Named):
    """A chassis: chips, one host, fans and power supplies."""

    chips: Positive = Field(description="Chips in one node.")
    rack_units: Positive = Field(description="Height.")
    fan_w: Power = Field(description="Fans and board management.")
    supply_efficiency: Fraction = Field(gt=0, description="Share of wall power that reaches the parts.")
    buy_usd: Money = Field(
        description="Chassis, boards' carrier and islands, without chips, host, adapters and cables between chips."
    )
    island: IslandSpec | None = Field(default=None, description="Its own switches, on packet networks.")


class PowerSpec(Named):
    """Racks, and the path from wall to chip with its limits."""

    rack_units: Positive = Field(description="Height of a rack.")
    rack_cap_w: Power = Field(
        default=0.0, description="Most a rack may draw at the wall; 0: no cap. Chips in lock step slow down together to keep it."
    )
    pdu_cap_w: Power = Field(default=0.0, description="The same at the meter of a PDU, whose losses are in it.")
    hall_cap_w: Power = Field(default=0.0, description="The same at a hall's UPS.")
    site_cap_w: Power = Field(default=0.0, description="The same at the site's meter, cooling included.")
    racks_per_pdu: Positive = Field(default=8, description="Racks one PDU feeds, in order of their numbers.")
    pdus_per_hall: Positive = Field(default=8, description="PDUs of one hall.")
    pdu_efficiency: Fraction = Field(default=1.0, gt=0, description="Share of a PDU's power that reaches the racks.")
    ups_efficiency: Fraction = Field(default=1.0, gt=0, description="Share of a hall's power that reaches the PDUs.")
    copper_m: Length = Field(description="Copper reaches so far; longer cables are optical.")
    optic_w: Power = Field(default=0.0, description="Draw of one end of an optical cable.")
    pue: float = Field(ge=1.0, description="Site power over rack power: cooling, and the losses of PDUs and UPS.")
    swing_s: Time = Field(ge=1e-8, le=1, description="Swings shorter than this are fed by a board's own capacitors.")
    sample_s: Time = Field(
        default=1.0, ge=1e-3, le=86_400, description="Interval of the power table's rows: a millisecond to a day."
    )

    @model_validator(mode="after")
    def _pue_holds_the_losses(self) -> PowerSpec:
        least = 1 / (self.pdu_efficiency * self.ups_efficiency)
        if self.pue < least * (1 - 1e-9):
            raise ValueError(f"pue of {self.pue:g} is less than the losses of PDUs and UPS alone, {least:.3f}")
        return self
