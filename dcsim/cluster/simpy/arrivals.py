"""Where requests come from: a table that says when, or users who wait for each answer."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import numpy as np
import simpy

from dcsim.cluster.request import UNSET, Request
from dcsim.cluster.simpy.events import Environment, call_at
from dcsim.cluster.simpy.ledger import Ledger
from dcsim.units import PS_PER_S, to_ps
from dcsim.workload.closed import ClosedLoop
from dcsim.workload.requests import Requests

Accept = Callable[[Request], None]


def table_requests(blocks: Iterable[Requests], priorities: tuple[int, ...]) -> Iterator[Request]:
    """The table's rows as requests, one after another; `priorities` by class."""
    index = 0
    for block in blocks:
        arrival_ps = np.rint(block.arrival_s * PS_PER_S).astype(np.int64)
        columns = (arrival_ps, block.prompt_tokens, block.output_tokens, block.klass, block.session, block.prefix_tokens)
        for at, prompt, output, klass, session, prefix in zip(*(c.tolist() for c in columns), strict=True):
            yield Request(index, at, prompt, output, klass, priorities[klass], session, prefix)
            index += 1


def open_loop(env: Environment, requests: Iterator[Request], ledger: Ledger, accept: Accept) -> Generator[simpy.Event, Any, None]:
    """A process that hands each request over when it is due, and ends after the last."""
    last = -1
    for request in requests:
        if request.arrival_ps > env.now:
            yield env.timeout(request.arrival_ps - env.now)
        ledger.arrive(request)
        accept(request)
        last = request.index
    ledger.no_more(last)


class Users:
    """A closed loop: each user asks, waits for the end of the answer (or its failure), thinks and asks again."""

    def __init__(self, env: Environment, loop: ClosedLoop, ledger: Ledger, accept: Accept) -> None:
        self._env, self._loop, self._ledger, self._accept = env, loop, ledger, accept
        self._asked = [0] * loop.users
        self._due: list[tuple[int, int]] = []  # heap of (time, user)
        self._index = 0
        self._active = loop.users  # users who may ask again
        ledger.on_close = self._answered
        for user in range(loop.users):
            self._think(user, 0)

    def _think(self, user: int, since: int) -> None:
        """The user's next request comes after a pause, if there is a next one."""
        loop, k = self._loop, self._asked[user]
        if k < loop.think_s.shape[1]:
            at = since + to_ps(float(loop.think_s[user, k]))
            if not loop.duration_s or at < to_ps(loop.duration_s):
                heapq.heappush(self._due, (at, user))
                call_at(self._env, at, self._ask)
                return
        self._retire()

    def _ask(self, _: simpy.Event) -> None:
        # Among users due at one instant the first in number asks first, whoever's answer came first.
        at, user = heapq.heappop(self._due)
        loop, k = self._loop, self._asked[user]
        if loop.requests_max and self._index >= loop.requests_max:
            self._retire()
            return
        prompt, output = int(loop.prompt_tokens[user, k]), int(loop.output_tokens[user, k])
        request = Request(self._index, at, prompt, output, user=user)
        self._asked[user] += 1
        self._index += 1
        self._ledger.arrive(request)
        self._accept(request)

    def _answered(self, request: Request) -> None:
        self._think(request.user, self._env.now if request.finished_ps == UNSET else request.finished_ps)

    def _retire(self) -> None:
        self._active -= 1
        if not self._active:
            self._ledger.no_more(self._index - 1)
