"""Uncorrectable bit errors: a marked vector marks its iteration, and the runtime runs it again.

A deterministic link cannot ask for a vector again, so the smallest thing repeated is the iteration.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import expm1, inf, log1p

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class ErrorCost:
    """What the replays of one machine cost, on average."""

    bits_per_iteration: float
    iteration_fails_fraction: float  # chance that a run of an iteration is marked
    replays_per_iteration: float
    replays_per_day: float
    replay_s_per_day: float
    replay_j_per_day: float


def link_bits_per_s(chips: int, links_per_chip: int, bandwidth_bytes_per_s: float) -> float:
    """Bits all links carry per second when none is ever idle: the most that can go wrong."""
    return chips * links_per_chip * bandwidth_bytes_per_s * 8.0


def hazard(error_rate: float, vector_hops: int, vector_wire_bytes: float) -> float:
    """Minus the logarithm of the chance that an iteration of so many vector-hops is clean; infinite where none can be.

    A run with b bits on the wire is clean with (1 - e)^b.
    """
    bits = vector_hops * vector_wire_bytes * 8.0
    if not bits:
        return 0.0
    return -bits * log1p(-error_rate) if error_rate < 1.0 else inf


def error_cost(
    error_rate: float, vector_hops: int, vector_wire_bytes: float, iteration_s: float, iteration_j: float
) -> ErrorCost:
    """Cost of replaying marked iterations on a machine that never idles.

    Runs until a clean one are geometric: p / (1 - p) replays for p the chance of a marked run, so a day holds
    86400 / (iteration_s (1 + p / (1 - p))) iterations.
    """
    bits = vector_hops * vector_wire_bytes * 8.0
    fails = -expm1(-hazard(error_rate, vector_hops, vector_wire_bytes))
    replays = fails / (1.0 - fails) if fails < 1.0 else float("inf")
    runs_per_day = DAY_S / iteration_s
    replays_per_day = runs_per_day * fails
    return ErrorCost(bits, fails, replays, replays_per_day, replays_per_day * iteration_s, replays_per_day * iteration_j)
