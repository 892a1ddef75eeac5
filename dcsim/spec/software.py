"""Library software and host jitter: what a message costs before it reaches its adapter. Entries of topologies/."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from dcsim.spec.section import Data, Fraction, LinkRate, Named, Section, Time, entries, some


class PatternCost(Section):
    """A pattern with a protocol. A collective of s steps pays `first` once, at its first message, `step` before each other."""

    pattern: Literal["direct", "one_shot", "two_shot", "ring", "tree", "pipeline", "in_network"] = Field(
        description="Message pattern of a collective. `in_network` needs switches that make sums (`sum_bandwidth`)."
    )
    protocol: Literal["plain", "ll", "ll128", "simple"] = Field(
        default="plain",
        description="How a receiver learns that data is there: `ll` by a flag with every 4 bytes, `ll128` by one in every 128, "
        "`simple` and `plain` by one after all of it.",
    )
    first_s: Time = Field(description="Before a rank's first message.")
    step_s: Time = Field(description="Before each message that waited for another of the same collective.")
    payload_fraction: Fraction = Field(default=1.0, gt=0, description="Data's share of what the protocol sends.")
    message_max_bytes: Data | None = Field(default=None, description="Largest message it is used for; default: any.")
    own_bandwidth_bytes_per_s: LinkRate | None = Field(
        default=None,
        description="Speed at which a rank's own share of the data is written, in turn with what it sends: a ring's last step "
        "sends nothing, and an exchange copies what a rank has for itself. Default: that takes no time.",
    )
    operations: tuple[Literal["all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast"], ...] = Field(
        default=(), description="Operations it is used for; none named: every one that has such a pattern."
    )

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from the others of its place."""
        return self.pattern, self.protocol


class PlaceCosts(Section):
    """Costs of calls between chips of one place: across the network, or inside a node's island."""

    patterns: Annotated[tuple[PatternCost, ...], AfterValidator(some)] = Field(
        description="Patterns the library has, the usual one first."
    )
    send_s: Time = Field(description="Before a message from one chip to another outside collectives.")


class SoftwareSpec(Named):
    """A communication library: the patterns and protocols it has, of which a collective takes what is quickest."""

    version: str = Field(default="", description="The version whose figures these are.")
    network: PlaceCosts = Field(description="Between chips that adapters and switches join.")
    island: PlaceCosts = Field(description="Between chips of one node's island.")


class JitterSpec(Named):
    """A distribution by its quantiles: delays are spread evenly between neighbouring points."""

    shares: Annotated[tuple[Fraction, ...], entries(2)] = Field(description="Ascending shares of all messages, from 0 to 1.")
    delays_s: Annotated[tuple[Time, ...], entries(2)] = Field(
        description="The delay that each share of messages does not exceed."
    )

    @model_validator(mode="after")
    def _is_a_distribution(self) -> JitterSpec:
        ascending = all(a <= b for values in (self.shares, self.delays_s) for a, b in pairwise(values))
        if len(self.shares) != len(self.delays_s) or (self.shares[0], self.shares[-1]) != (0.0, 1.0) or not ascending:
            raise ValueError("needs as many ascending delays as shares, which go from 0 to 1")
        return self
