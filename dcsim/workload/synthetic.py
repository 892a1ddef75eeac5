"""Generated requests: arrivals of a modulated Poisson or gamma process, lengths drawn beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcsim.spec.workload import ArrivalSpec, LengthSpec, SyntheticWorkload, TokenCount, TokenSpan
from dcsim.workload.rates import rate_spans
from dcsim.workload.requests import Requests, plain, require_countable
from dcsim.workload.streams import stream
from dcsim.workload.traces import read_trace

Array = NDArray[np.float64]
Tokens = NDArray[np.int32]
Lengths = Callable[[int], tuple[Tokens, Tokens]]  # the next n (prompt, output)

DRAWS_AT_ONCE = 65_536
OUTPUT_MAX = 2**30  # tokens of one answer, far beyond any context


def synthetic(spec: SyntheticWorkload, seed: int, resolve: Callable[[str], Path]) -> Iterator[Requests]:
    """Requests without an end, in blocks."""
    lengths = scaled(length_source(spec.lengths, seed, resolve), spec.output_scale)
    for arrival_s in arrivals(spec.arrivals, spec.rate_scale, seed, resolve, spec.duration_s):
        yield plain(arrival_s, *lengths(len(arrival_s)))


def arrivals(
    spec: ArrivalSpec,
    rate_scale: float,
    seed: int,
    resolve: Callable[[str], Path],
    duration_s: float = 0.0,
) -> Iterator[Array]:
    """Ascending arrival times, in blocks; they end only after `duration_s`, if that is not 0.

    Raises WorkloadError where the next arrival is beyond what a run can count.

    Time change: an event of a unit-rate renewal process at u moves to the t where the rate's integral is u
    (Cox and Lewis 1966): exact for Poisson, and gamma gaps have the asked cv where the rate is constant.
    """
    unit = _unit_process(spec, seed)
    ahead, total = next(unit), 0.0
    for edges, rates in rate_spans(spec, seed, resolve):
        if duration_s and edges[0] >= duration_s:
            return
        require_countable(edges[0])
        integral = total + np.concatenate([[0.0], np.cumsum(rates * rate_scale * np.diff(edges))])
        total = integral[-1]
        while True:
            inside = int(np.searchsorted(ahead, total))
            if inside:
                yield np.interp(ahead[:inside], integral, edges)
            ahead = ahead[inside:]
            if len(ahead):
                break
            ahead = next(unit)


def _unit_process(spec: ArrivalSpec, seed: int) -> Iterator[Array]:
    """Events at mean rate 1. A gamma of shape k has cv 1 / sqrt(k)."""
    rng = stream(seed, "workload.gaps")
    now = 0.0
    shape = 1 / spec.cv**2 if spec.process == "gamma" else 1.0
    while True:
        if spec.process == "gamma":
            gaps = rng.standard_gamma(shape, DRAWS_AT_ONCE) / shape
        else:
            gaps = rng.standard_exponential(DRAWS_AT_ONCE)
        events = now + np.cumsum(gaps)
        yield events
        now = events[-1]


def length_source(spec: LengthSpec, seed: int, resolve: Callable[[str], Path]) -> Lengths:
    """A function that gives the next n pairs of prompt and output tokens."""
    if spec.kind == "lognormal":
        prompt_rng, output_rng = stream(seed, "workload.prompt"), stream(seed, "workload.output")
        prompt, output = spec.prompt_tokens, spec.output_tokens
        return lambda n: (_lognormal(prompt, prompt_rng, n), _lognormal(output, output_rng, n))
    if spec.kind == "uniform":
        prompt_rng, output_rng = stream(seed, "workload.prompt"), stream(seed, "workload.output")
        prompts, outputs = spec.prompt_tokens, spec.output_tokens
        return lambda n: (_uniform(prompts, prompt_rng, n), _uniform(outputs, output_rng, n))
    trace = read_trace(resolve(spec.trace.file), spec.trace)
    rows = _row_source(len(trace), spec.block_rows, stream(seed, "workload.rows"))

    def take(n: int) -> tuple[Tokens, Tokens]:
        picked = rows(n)
        return trace.prompt_tokens[picked], trace.output_tokens[picked]

    return take


def scaled(lengths: Lengths, output_scale: float) -> Lengths:
    """The same lengths with answers `output_scale` times as long."""

    def take(n: int) -> tuple[Tokens, Tokens]:
        prompt, output = lengths(n)
        return prompt, scaled_output(output, output_scale)

    return take if output_scale != 1 else lengths


def scaled_output(output: Tokens, output_scale: float) -> Tokens:
    """Tokens of answers `output_scale` times as long: rounded, at least one, at most what a table counts."""
    if output_scale == 1:
        return output
    tokens: Tokens = np.clip(np.rint(output * output_scale), 1, OUTPUT_MAX).astype(np.int32)
    return tokens


def _lognormal(spec: TokenCount, rng: np.random.Generator, n: int) -> Tokens:
    drawn = spec.median * (np.exp(spec.sigma * rng.standard_normal(n)) if spec.sigma else np.ones(n))
    tokens: Tokens = np.clip(spec.fixed + np.rint(drawn), 1, spec.max).astype(np.int32)
    return tokens


def _uniform(spec: TokenSpan, rng: np.random.Generator, n: int) -> Tokens:
    return rng.integers(spec.min, spec.max, n, np.int32, endpoint=True)


def _row_source(rows: int, block_rows: int, rng: np.random.Generator) -> Callable[[int], NDArray[np.int64]]:
    """A function that gives the next n row numbers: blocks of consecutive rows, wrapped around."""
    held = np.empty(0, np.int64)

    def take(n: int) -> NDArray[np.int64]:
        nonlocal held
        blocks = max(0, -((len(held) - n) // block_rows))
        start = rng.integers(0, rows, blocks)
        fresh = (start[:, None] + np.arange(block_rows)).ravel() % rows
        held = np.concatenate([held, fresh])
        taken, held = held[:n], held[n:]
        return taken

    return take
