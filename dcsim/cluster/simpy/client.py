"""A client who does not wait for ever: without a first token, or without the end of the answer, the request is given up."""

from __future__ import annotations

from collections.abc import Callable

from dcsim.cluster.request import UNSET, Request
from dcsim.cluster.simpy.environment import Environment, Process
from dcsim.results.records import IN_FLIGHT
from dcsim.spec.topology import ServingSpec
from dcsim.units import to_ps


class Patience:
    """How long clients wait, from arrival; 0: for ever."""

    def __init__(self, serving: ServingSpec) -> None:
        self._serving = serving
        self.first_token_ps, self.answer_ps = to_ps(serving.patience_s), to_ps(serving.timeout_s)

    @property
    def any(self) -> bool:
        """Whether anybody ever goes."""
        return bool(self.first_token_ps or self.answer_ps)

    def is_over(self, request: Request, now: int) -> str:
        """Why the client has gone by now; nothing if it has not."""
        waited = now - request.arrival_ps
        if self.answer_ps and waited >= self.answer_ps:
            return f"timed out: not finished within {self._serving.timeout_s:g} s"
        if self.first_token_ps and waited >= self.first_token_ps and request.first_token_ps == UNSET:
            return f"gave up: no first token within {self._serving.patience_s:g} s"
        return ""

    def client(self, env: Environment, request: Request, leave: Callable[[Request], None]) -> Process:
        """The process of a request's client: tells when it has gone, which takes effect at the end of a round (M11)."""
        for wait_ps in sorted(filter(None, (self.first_token_ps, self.answer_ps))):
            yield env.timeout(request.arrival_ps + wait_ps - env.now)
            if request.status != IN_FLIGHT:
                return
            if self.is_over(request, env.now):
                leave(request)
