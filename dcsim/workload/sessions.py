"""Conversations of several turns whose prompts grow by all that was said before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcsim.spec.workload import SessionsWorkload
from dcsim.workload.requests import Requests
from dcsim.workload.streams import stream
from dcsim.workload.synthetic import Array, Lengths, arrivals, length_source, scaled

_COLUMNS = 5  # arrival_s, prompt, output, session, prefix


def sessions(spec: SessionsWorkload, seed: int, resolve: Callable[[str], Path]) -> Iterator[Requests]:
    """Turns of all conversations in order of arrival, without an end.

    A turn is given out once no later conversation can come before it: memory holds open conversations only.
    """
    lengths = scaled(length_source(spec.lengths, seed, resolve), spec.output_scale)
    rng = stream(seed, "workload.turns")
    started = 0
    waiting = np.empty((0, _COLUMNS))
    for start_s in arrivals(spec.arrivals, spec.rate_scale, seed, resolve, spec.duration_s):
        fresh = _turns(spec, start_s, started, lengths, rng)
        started += len(start_s)
        waiting = np.concatenate([waiting, fresh])
        waiting = waiting[np.lexsort((waiting[:, 3], waiting[:, 0]))]
        safe = int(np.searchsorted(waiting[:, 0], start_s[-1], side="right"))
        if safe:
            yield _table(waiting[:safe])
        waiting = waiting[safe:]
    yield _table(waiting)


def _turns(
    spec: SessionsWorkload,
    start_s: Array,
    first_session: int,
    lengths: Lengths,
    rng: np.random.Generator,
) -> Array:
    """All turns of the conversations that start at `start_s`, turn by turn, [turns, columns]."""
    session = first_session + np.arange(len(start_s))
    now_s, said = start_s, np.zeros(len(start_s))
    rows: list[Array] = []
    while len(session):
        message, output = lengths(len(session))
        prompt = said + message
        fits = prompt + output <= spec.context_max
        if not rows:  # the first message is cut to the context, so that every conversation has a turn
            output = np.minimum(output, spec.context_max - 1)
            prompt, fits = np.minimum(prompt, spec.context_max - output), np.ones(len(fits), np.bool_)
        rows.append(np.column_stack([now_s, prompt, output, session, said])[fits])
        goes_on = fits & (rng.random(len(fits)) < 1 - 1 / spec.turns_mean)
        pause_s = output * spec.answer_token_s + spec.think_s * rng.standard_exponential(len(fits))
        now_s, said, session = (now_s + pause_s)[goes_on], (prompt + output)[goes_on], session[goes_on]
    return np.concatenate(rows)


def _table(rows: Array) -> Requests:
    whole: NDArray[np.int32] = rows[:, 1:].astype(np.int32)
    return Requests(
        rows[:, 0].copy(),
        whole[:, 0],
        whole[:, 1],
        np.zeros(len(rows), np.int16),
        whole[:, 2],
        whole[:, 3],
    )
