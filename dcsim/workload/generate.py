"""From a workload's spec to its requests, all at once or block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import WorkloadError
from dcsim.spec.workload import ClassSpec, WorkloadSpec
from dcsim.workload.rates import mean_rate_per_s
from dcsim.workload.requests import Requests, join, reblock, require_countable
from dcsim.workload.resample import bootstrap, replay
from dcsim.workload.sessions import sessions
from dcsim.workload.streams import stream
from dcsim.workload.synthetic import synthetic
from dcsim.workload.traces import find_trace, read_trace

Resolver = Callable[[str], Path]  # a trace's name to its file


def make_requests(spec: WorkloadSpec, seed: int, resolve: Resolver = find_trace) -> Requests:
    """All requests of `spec` in order of arrival; the same seed gives the same in any process.

    Raises WorkloadError for a broken trace, and for a closed loop, whose arrivals only the cluster knows
    (`closed.make_closed_loop` gives its users).
    """
    return join(_blocks(spec, seed, resolve))


def iterate_requests(
    spec: WorkloadSpec,
    seed: int,
    block: int = 100_000,
    resolve: Resolver = find_trace,
) -> Iterator[Requests]:
    """The rows of `make_requests` in blocks of `block` rows, made as they are asked for."""
    return reblock(_blocks(spec, seed, resolve), block)


def own_rate_per_s(spec: WorkloadSpec, resolve: Resolver = find_trace) -> float:
    """Mean requests per second of `spec` as it stands, its `rate_scale` included.

    Of a trace: its rows over the time they span. Of conversations: their arrivals times their mean turns, which those that
    reach `context_max` do not all have. Raises WorkloadError for a closed loop, and for rows that all arrive at once.
    """
    if spec.kind == "closed":
        raise WorkloadError("users of a closed loop ask when they are answered: it has no rate; set workload.users")
    if spec.kind == "synthetic":
        return spec.rate_scale * mean_rate_per_s(spec.arrivals.rate, resolve)
    if spec.kind == "sessions":
        return spec.rate_scale * mean_rate_per_s(spec.arrivals.rate, resolve) * spec.turns_mean
    if spec.kind == "bootstrap" and spec.mean_per_s:
        return spec.rate_scale * spec.mean_per_s
    trace = read_trace(resolve(spec.trace.file), spec.trace)
    if trace.span_s == 0:
        raise WorkloadError(f"{spec.trace.file}: all rows arrive at once, so that there is no rate to scale")
    return spec.rate_scale * len(trace) / trace.span_s


def _blocks(spec: WorkloadSpec, seed: int, resolve: Resolver) -> Iterator[Requests]:
    """The requests of any kind, cut to the limits, with their classes; at least one block."""
    limited = _limited(_kind(spec, seed, resolve), spec.duration_s, spec.requests)
    return _classed(limited, spec.classes, seed) if spec.classes else limited


def _kind(spec: WorkloadSpec, seed: int, resolve: Resolver) -> Iterator[Requests]:
    if spec.kind == "replay":
        return replay(spec, resolve)
    if spec.kind == "bootstrap":
        return bootstrap(spec, seed, resolve)
    if spec.kind == "synthetic":
        return synthetic(spec, seed, resolve)
    if spec.kind == "sessions":
        return sessions(spec, seed, resolve)
    raise WorkloadError("a closed loop has no table of arrivals: each depends on the last answer")


def _limited(blocks: Iterator[Requests], duration_s: float, requests: int) -> Iterator[Requests]:
    """Stop before the first request at or past `duration_s`, or after `requests`; 0 means no limit."""
    count = 0
    for block in blocks:
        stop = int(np.searchsorted(block.arrival_s, duration_s)) if duration_s else len(block)
        if requests:
            stop = min(stop, requests - count)
        count += stop
        if stop:
            require_countable(float(block.arrival_s[stop - 1]))
        yield block.part(0, stop)
        if stop < len(block) or (requests and count == requests):
            return


def _classed(blocks: Iterator[Requests], classes: tuple[ClassSpec, ...], seed: int) -> Iterator[Requests]:
    """Give every request a class, drawn by share; the turns of one session share theirs."""
    names = tuple(entry.name for entry in classes)
    shares = np.cumsum([entry.share for entry in classes])
    rng = stream(seed, "workload.class")

    def draw(count: int) -> NDArray[np.int16]:
        return np.array(np.searchsorted(shares, rng.random(count) * shares[-1], side="right"), np.int16)

    of_session = np.empty(0, np.int16)
    for block in blocks:
        if len(block) and block.session[0] >= 0:
            unseen = int(block.session.max()) + 1 - len(of_session)
            of_session = np.concatenate([of_session, draw(max(0, unseen))])
            klass = of_session[block.session]
        else:
            klass = draw(len(block))
        yield replace(block, klass=klass, class_names=names)
