"""Library software and host jitter: what a message costs before it reaches its adapter. Entries of topologies/."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from dcsim.spec.section import Fraction, Named, Section, Time, entries, some


class PatternCost(Section):
    """A collective of s steps pays `first` once, at its first message, and `step` before each later one."""

    pattern: Literal["direct", "ring", "tree"] = Field(description="Message pattern of a collective.")
    first_s: Time = Field(description="Before a rank's first message.")
    step_s: Time = Field(description="Before each message that waited for another of the same collective.")


class PlaceCosts(Section):
    """Costs of calls between chips of one place: across the network, or inside a node's island."""

    patterns: Annotated[tuple[PatternCost, ...], AfterValidator(some)] = Field(
        description="Patterns the library has, the usual one first."
    )
    send_s: Time = Field(description="Before a message from one chip to another outside collectives.")


class SoftwareSpec(Named):
    """A communication library."""

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
