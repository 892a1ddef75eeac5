"""Closed loop: users who wait for each answer before they think and ask again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcsim.spec.workload import ClosedWorkload
from dcsim.workload.streams import stream
from dcsim.workload.synthetic import length_source, scaled
from dcsim.workload.traces import find_trace


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """What every user asks, [users, requests per user]; the cluster decides when.

    Request k of user u arrives `think_s[u, k]` after answer k - 1 was finished (k = 0: after time 0). None
    arrives at or after `duration_s`, and none after `requests_max` have arrived in all; 0: no such limit.
    """

    think_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    duration_s: float
    requests_max: int

    @property
    def users(self) -> int:
        """Number of users."""
        return len(self.think_s)

    @property
    def most_requests(self) -> int:
        """What all of them ask at most."""
        return min(self.think_s.size, self.requests_max or self.think_s.size)


def make_closed_loop(
    spec: ClosedWorkload,
    seed: int,
    resolve: Callable[[str], Path] = find_trace,
) -> ClosedLoop:
    """The users of `spec`; `rate_scale` multiplies their number (rounded, at least one)."""
    users = max(1, round(spec.users * spec.rate_scale))
    shape = (users, spec.requests_per_user)
    think_s = spec.think_s * stream(seed, "workload.think").standard_exponential(shape)
    prompt, output = scaled(length_source(spec.lengths, seed, resolve), spec.output_scale)(users * spec.requests_per_user)
    return ClosedLoop(think_s, prompt.reshape(shape), output.reshape(shape), spec.duration_s, spec.requests)
