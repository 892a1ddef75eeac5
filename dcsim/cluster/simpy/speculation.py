"""Speculative decoding: how many tokens each iteration yields a sequence.

Of k drafted tokens those before the first refused one are kept, and the check itself yields one more. With
independent acceptance p an iteration yields (1 - p^(k+1)) / (1 - p) tokens on average (Leviathan, Kalman and Matias,
"Fast Inference from Transformers via Speculative Decoding", ICML 2023, equation 1).
"""

from __future__ import annotations

import numpy as np

from dcsim.cluster.request import Request
from dcsim.spec.topology import SpeculationSpec
from dcsim.workload.streams import stream


class Drafts:
    """Draws a sequence's growth from a stream of its own, so that it depends on nothing that happens beside it."""

    def __init__(self, spec: SpeculationSpec, seed: int) -> None:
        self._spec, self._seed = spec, seed

    def __call__(self, request: Request) -> list[int]:
        """Tokens given after each further step of the request, up to all of its output."""
        k, p, left = self._spec.draft_tokens, self._spec.acceptance, request.output - request.given
        random = stream(self._seed, f"speculation.{request.index}.{request.given}")
        # `left` steps always suffice: each yields at least one token.
        accepted = (random.random((left, k)) < p).cumprod(axis=1).sum(axis=1)
        given = request.given + np.cumsum(accepted + 1)
        last = int(np.searchsorted(given, request.output))
        return [int(g) for g in np.minimum(given[: last + 1], request.output)]


def tokens_per_step(spec: SpeculationSpec) -> float:
    """Tokens that an iteration yields a sequence on average."""
    return sum(spec.acceptance**drafted for drafted in range(spec.draft_tokens + 1))
