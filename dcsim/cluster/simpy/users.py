"""A closed loop: each user is a process that asks, waits for the end of the answer (or its failure), thinks and asks again."""

from __future__ import annotations

from collections.abc import Callable

import simpy

from dcsim.cluster.request import UNSET, Request
from dcsim.cluster.simpy.environment import ARRIVAL, Environment, Process
from dcsim.cluster.simpy.ledger import Ledger
from dcsim.units import to_ps
from dcsim.workload.closed import ClosedLoop


class Users:
    """All users of a run. Among those due at one instant the first in number asks first."""

    def __init__(self, env: Environment, loop: ClosedLoop, ledger: Ledger, arrive: Callable[[Request], None]) -> None:
        self._env, self._loop, self._ledger, self._arrive = env, loop, ledger, arrive
        self._answered: dict[int, simpy.Event] = {}  # request index -> its end
        self._asked = 0
        self._active = loop.users  # who may ask again
        ledger.on_close = self._tell
        for user in range(loop.users):
            env.process(self._user(user))

    def _tell(self, request: Request) -> None:
        self._answered.pop(request.index).succeed()

    def _user(self, user: int) -> Process:
        env, loop = self._env, self._loop
        since = 0
        for think_s, prompt, output in zip(
            *(column[user].tolist() for column in (loop.think_s, loop.prompt_tokens, loop.output_tokens)), strict=True
        ):
            due = since + to_ps(think_s)
            if loop.duration_s and due >= to_ps(loop.duration_s):
                break
            yield env.moment(due - env.now, ARRIVAL, user)
            if loop.requests_max and self._asked >= loop.requests_max:
                break
            request = Request(self._asked, env.now, prompt, output, user=user)
            self._asked += 1
            answered = self._answered[request.index] = env.event()
            self._arrive(request)
            yield answered
            since = env.now if request.finished_ps == UNSET else request.finished_ps
        self._active -= 1
        if not self._active:
            self._ledger.no_more(self._asked - 1)
