"""The scheduled network's figures in whole cycles of the chip clock."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from dcsim.errors import FabricError, Problem, SpecError
from dcsim.fabric.graph import Fabric
from dcsim.spec.network import ScheduledNetwork


@dataclass(frozen=True, slots=True)
class ScheduleRules:
    """What compiler, proof and replay agree on. All times are cycles.

    A vector that is ready at cycle r leaves on its first link at r + send_cycles or later; the far end of a
    link has it link_cycles later, and reads it slack_cycles after that, always; forwarding takes
    forward_cycles more, the way into memory receive_cycles. So a path of h links takes
    `end + h (link + slack) + (h - 1) forward` with end = send + receive: the slack is paid once per link.
    """

    clock_hz: float
    vector_bytes: int
    slot_cycles: int  # link time of one vector
    link_cycles: int
    slack_cycles: int
    send_cycles: int
    receive_cycles: int
    forward_cycles: int
    buffer_vectors: int  # vectors that may wait in a chip for each of its outgoing links
    receive_vectors: int  # vectors that may wait at the far end of a link until they are read
    detours_max: int  # non-minimal paths tried for one message

    @property
    def hop_cycles(self) -> int:
        """One link, as the schedule counts it: its latency and the receiver's slack."""
        return self.link_cycles + self.slack_cycles

    def path_cycles(self, hops: int) -> int:
        """Ready at the source to usable at the target over `hops` idle links; 0 hops take no time."""
        if hops == 0:
            return 0
        ends = self.send_cycles + self.receive_cycles
        return ends + hops * self.hop_cycles + (hops - 1) * self.forward_cycles

    def vectors(self, size_bytes: int) -> int:
        """Vectors of a message; a message without payload is one vector, a bare signal."""
        return max(1, -(-size_bytes // self.vector_bytes))


def figures_of(network: ScheduledNetwork, clock_hz: float, slack_cycles: int) -> ScheduleRules:
    """Figures of a network whose chips run at `clock_hz` and whose receivers wait `slack_cycles` (see `slack`).

    slot = ceil(vector_wire_bytes / bandwidth * clock), exact. The published end-to-end figures fix only the
    sum of the two ends, so it is halved between them; the halves move no arrival. Raises SpecError where receivers hold fewer
    vectors than may come before they are read.
    """
    exact = Fraction(network.vector_wire_bytes) * Fraction(clock_hz) / Fraction(network.bandwidth_bytes_per_s)
    slot, send_cycles = max(1, ceil(exact)), network.end_cycles // 2
    needed, given = early_vectors(slack_cycles, slot), network.receive_vectors
    if given != "auto" and given < needed:
        early = f"one may come {2 * slack_cycles} cycles before it is read, and another every {slot}"
        what = f"{given} are too few, {needed} are needed: {early}"
        raise SpecError(Problem("network.receive_vectors", what, f"give {needed} or more, or `auto`"))
    return ScheduleRules(
        clock_hz=clock_hz,
        vector_bytes=round(network.vector_bytes),
        slot_cycles=slot,
        link_cycles=network.link_cycles,
        slack_cycles=slack_cycles,
        send_cycles=send_cycles,
        receive_cycles=network.end_cycles - send_cycles,
        forward_cycles=network.forward_cycles,
        buffer_vectors=network.buffer_vectors,
        receive_vectors=needed if given == "auto" else given,
        detours_max=network.detours_max,
    )


def early_vectors(slack_cycles: int, slot_cycles: int) -> int:
    """Vectors that may wait at the end of a link: what makes one late by less than the slack makes another as early, so that it
    waits up to twice as long.
    """
    return 2 * slack_cycles // slot_cycles + 1


def require_alike(fabric: Fabric) -> None:
    """Raise FabricError where cables have figures of their own: every link of a scheduled network takes the same cycles."""
    for name, values in (("bandwidth", fabric.own_bandwidth_bytes_per_s), ("latency", fabric.own_latency_s)):
        if values is not None:
            raise FabricError(
                f"fabric: cables give their own {name}, and all links of a scheduled network are alike; "
                "leave it out, or take a packet network"
            )
