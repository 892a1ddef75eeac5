"""How large flows are: entries of workloads/flows, for `dcsim traffic --sizes`."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field, model_validator

from dcsim.spec.section import Data, Fraction, Named, entries


class FlowSizes(Named):
    """A distribution by its quantiles: sizes are spread evenly between neighbouring points."""

    shares: Annotated[tuple[Fraction, ...], entries(2)] = Field(description="Ascending shares of all flows, from 0 to 1.")
    sizes_bytes: Annotated[tuple[Data, ...], entries(2)] = Field(description="The size that each share of flows does not exceed.")

    @model_validator(mode="after")
    def _is_a_distribution(self) -> FlowSizes:
        ascending = all(a <= b for values in (self.shares, self.sizes_bytes) for a, b in pairwise(values))
        if len(self.shares) != len(self.sizes_bytes) or (self.shares[0], self.shares[-1]) != (0.0, 1.0) or not ascending:
            raise ValueError("needs as many ascending sizes as shares, which go from 0 to 1")
        if not 1 <= self.sizes_bytes[0] <= self.sizes_bytes[-1] <= 2**40:
            raise ValueError("a flow has at least 1 B and at most 1 TiB")
        return self

    @property
    def mean_bytes(self) -> float:
        """Of many flows."""
        steps = zip(pairwise(self.shares), pairwise(self.sizes_bytes), strict=True)
        return sum((b - a) * (low + high) / 2 for (a, b), (low, high) in steps)
