"""What senders do about marks and losses, and what cables are: entries of topologies/ that packet networks name."""

from __future__ import annotations

from pydantic import Field, model_validator

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


class WindowSpec(Section):
    """Packets unanswered at once, as TCP has them: doubled each round trip until a loss cuts them, then one more each."""

    first_packets: float = Field(ge=1, description="Window of a connection that has sent nothing.")
    cut_fraction: Fraction = Field(gt=0, lt=1, description="Share of the window left after a loss.")
    probe_round_trips: float = Field(gt=0, description="A packet lost at the end is sent again after so many round trips.")
    reorder_packets: Positive = Field(description="A loss is told by a packet that was sent so many later.")


class PullSpec(Section):
    """A receiver that asks for each packet beyond the first ones, as fast as its link takes them (NDP, EQDS)."""

    first_packets: Positive = Field(description="Packets of a message that are sent unasked.")
    header_bytes: Data = Field(
        ge=0, le=2**20, description="What a full queue of `flow_control: drop` leaves of a packet; 0: it is dropped."
    )


class TransportSpec(Named):
    """What a sender does about marks and losses. At most one of `window` and `pull` holds it back."""

    retransmit_timeout_s: Time = Field(gt=0, description="A packet that nothing answers is sent again after this.")
    dcqcn: Dcqcn | None = Field(default=None, description="How senders heed marks (`network.ecn`); none: they do not.")
    window: WindowSpec | None = Field(default=None, description="A sender keeps to a window; none: it does not.")
    pull: PullSpec | None = Field(default=None, description="A receiver asks for what is sent; none: it does not.")

    @model_validator(mode="after")
    def _one_of_two(self) -> TransportSpec:
        if self.window is not None and self.pull is not None:
            raise ValueError("`window` and `pull` are two ways to hold a sender back; give one")
        return self


class CablesSpec(Named):
    """Cables of a packet network."""

    metre_s: Latency = Field(description="Time a metre of cable takes.")
    each_s: Latency | None = Field(default=None, description="Time every cable takes, in place of `metre` times its length.")
    adapter_m: Length = Field(description="Length of a cable from a chip to the switch that it gets.")
