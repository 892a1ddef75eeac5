"""Faults: parts that fail at given times or at random, and what happens to the requests they held."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from dcsim.spec.section import Count, Section, Time

MTBF_LEAST_S = 60.0  # parts that fail faster than this have no use, and a run would do nothing but count their failures


def _zero_or_long(mtbf_s: float) -> float:
    if 0 < mtbf_s < MTBF_LEAST_S:
        raise ValueError(f"0 (never) or at least {MTBF_LEAST_S:g} s")
    return mtbf_s


Mtbf = Annotated[Time, AfterValidator(_zero_or_long)]


class FaultEvent(Section):
    """One planned failure."""

    at_s: Time = Field(ge=0, description="When the part fails.")
    part: Literal["chip", "node", "host", "link"] = Field(description="What fails.")
    index: Count = Field(description="Which one: index of the chip, node, host server or link.")


class FaultsSpec(Section):
    """A failed chip, or chip at the end of a failed link, takes its node out; the rack's spare node takes over.

    Mean times are of one part; times between failures are exponential; 0: never at random.
    """

    events: tuple[FaultEvent, ...] = Field(default=(), description="Failures at given times.")
    chip_mtbf_s: Mtbf = Field(default=0.0, description="Mean time between failures of one chip.")
    node_mtbf_s: Mtbf = Field(default=0.0, description="Mean time between failures of one node.")
    host_mtbf_s: Mtbf = Field(default=0.0, description="Mean time between failures of one host server.")
    link_mtbf_s: Mtbf = Field(default=0.0, description="Mean time between failures of one directed link.")
    detect_s: Time = Field(default=1.0, ge=0, description="From a failure to the start of the takeover.")
    repair_s: Time = Field(
        default=14400.0, gt=0, description="From a failure until the part works again and its node is a spare."
    )
    in_flight: Literal["replay", "fail"] = Field(
        default="replay", description="Requests whose KV is lost: read again with the answer so far, or failed."
    )

    @property
    def any(self) -> bool:
        """Whether anything can fail."""
        return bool(self.events or self.chip_mtbf_s or self.node_mtbf_s or self.host_mtbf_s or self.link_mtbf_s)
