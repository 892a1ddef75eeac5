"""What senders do about marks and losses, and what cables are: entries of topologies/ that packet networks name."""

from __future__ import annotations

from pydantic import Field

from dcsim.spec.section import Data, Fraction, Latency, Length, Named, Positive, Section, Time


class Dcqcn(Section):
    """Rate control by marks (Zhu et al., SIGCOMM 2015). Rates are shares of the line's, so that they scale with it."""

    gain: Fraction = Field(gt=0, description="Weight of a new mark in the share of marked packets (g).")
    notice_gap_s: Time = Field(description="A receiver tells a sender of marks at most this often.")
    timer_s: Time = Field(gt=0, description="A sender raises its rate each time this passes without notice.")
    byte_counter_bytes: Data = Field(gt=0, description="It raises it as well each time it has sent so much.")
    additive_fraction: Fraction = Field(description="Additive step.")
    hyper_fraction: Fraction = Field(description="Step once timer and counter have both gone through the fast steps.")
    least_fraction: Fraction = Field(gt=0, description="No sender goes slower than this.")
    fast_steps: Positive = Field(description="Steps of fast recovery, each halfway back to the rate before the notice.")


class TransportSpec(Named):
    """What a sender does about marks and losses."""

    retransmit_timeout_s: Time = Field(gt=0, description="A packet that nothing answers is sent again after this.")
    dcqcn: Dcqcn | None = Field(default=None, description="How senders heed marks (`network.ecn`); none: they do not.")


class CablesSpec(Named):
    """Cables of a packet network."""

    metre_s: Latency = Field(description="Time a metre of cable takes.")
    adapter_m: Length = Field(description="Length of a cable from a chip to the switch that it gets.")
