"""An open loop: requests come when a table says, whatever becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat

import numpy as np

from dcsim.cluster.request import Request
from dcsim.cluster.simpy.environment import ARRIVAL, Environment, Process
from dcsim.cluster.simpy.ledger import Ledger
from dcsim.units import PS_PER_S
from dcsim.workload.requests import Requests


def open_loop(env: Environment, requests: Iterator[Request], ledger: Ledger, arrive: Callable[[Request], None]) -> Process:
    """A process that lets each request come when it is due, and ends after the last."""
    last = -1
    for request in requests:
        yield env.moment(request.arrival_ps - env.now, ARRIVAL)
        arrive(request)
        last = request.index
    ledger.no_more(last)


def table_requests(blocks: Iterable[Requests], priorities: tuple[int, ...]) -> Iterator[Request]:
    """The table's rows as requests, one after another; `priorities` by class."""
    index = 0
    for block in blocks:
        arrival_ps = np.rint(block.arrival_s * PS_PER_S).astype(np.int64)
        columns = (arrival_ps, block.prompt_tokens, block.output_tokens, block.klass, block.session, block.prefix_tokens)
        ids: Iterable[tuple[int, ...]] = repeat(()) if block.blocks is None else block.blocks
        rows = zip(zip(*(c.tolist() for c in columns), strict=True), ids, strict=False)
        for (at, prompt, output, klass, session, prefix), own in rows:
            request = Request(index, at, prompt, output, klass, priorities[klass], session, prefix)
            request.blocks, request.block_tokens = own, block.block_tokens
            yield request
            index += 1
