"""The rate of arrivals over time, as endless spans of constant pieces.

A span is (edges_s, rates_per_s): n + 1 ascending times and the n rates between them; the next span starts
where the last one ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import WorkloadError
from dcsim.spec.workload import ArrivalSpec, Bursts, DayCurve, Noise, RateSpec, TracedRate
from dcsim.workload.streams import stream
from dcsim.workload.traces import read_trace

Array = NDArray[np.float64]
Span = tuple[Array, Array]

_SPAN_S = 3600.0
_DAY_PIECE_S = 300.0
_PIECES_AT_ONCE = 1024


def rate_spans(spec: ArrivalSpec, seed: int, resolve: Callable[[str], Path]) -> Iterator[Span]:
    """The base rate, over and over, times the noise and the bursts asked for."""
    spans = _repeated(*_cycle(spec.rate, resolve))
    if spec.noise is not None:
        spans = _times(spans, _noise(spec.noise, seed))
    if spec.bursts is not None:
        spans = _times(spans, _bursts(spec.bursts, seed))
    return spans


def mean_rate_per_s(rate: RateSpec, resolve: Callable[[str], Path]) -> float:
    """The mean of a rate over one turn of it."""
    edges, rates = _cycle(rate, resolve)
    return float((rates * np.diff(edges)).sum() / edges[-1])


def _cycle(rate: RateSpec, resolve: Callable[[str], Path]) -> Span:
    """One turn of the base rate, from time 0."""
    if rate.kind == "constant":
        return np.array([0.0, _SPAN_S]), np.array([rate.mean_per_s])
    if rate.kind == "pieces":
        edges = np.cumsum([0.0] + [piece.duration_s for piece in rate.pieces])
        return edges, np.array([piece.rate_per_s for piece in rate.pieces])
    if rate.kind == "day":
        return one_day(rate)
    return _traced(rate, resolve)


def one_day(rate: DayCurve) -> Span:
    """Straight lines between the hours' middles, in short pieces, scaled to the mean asked."""
    edges = np.arange(0.0, 86400.0 + 1, _DAY_PIECE_S)
    middle_h = (edges[:-1] + edges[1:]) / 7200
    weights = np.interp(middle_h, np.arange(24) + 0.5, np.array(rate.hours), period=24)
    return edges, weights * rate.mean_per_s / weights.mean()


def _traced(rate: TracedRate, resolve: Callable[[str], Path]) -> Span:
    """Rows of the trace in each piece over the piece's length; the last piece may be shorter."""
    trace = read_trace(resolve(rate.trace.file), rate.trace)
    if trace.span_s == 0:
        raise WorkloadError(f"{rate.trace.file}: all rows arrive at once, so there is no rate to take")
    pieces = max(1, int(np.ceil(trace.span_s / rate.piece_s - 1e-9)))
    edges = np.minimum(np.arange(pieces + 1) * rate.piece_s, trace.span_s)
    counts = np.histogram(trace.arrival_s, edges)[0]
    rates = counts / np.diff(edges)
    mean_per_s = rate.mean_per_s
    return edges, rates * (mean_per_s * trace.span_s / len(trace)) if mean_per_s else rates


def _repeated(edges: Array, rates: Array) -> Iterator[Span]:
    """The cycle over and over; several turns of a short cycle make one span, so that spans stay few."""
    turns = min(math.ceil(_SPAN_S / edges[-1]), max(1, _PIECES_AT_ONCE // len(rates)))
    starts = np.arange(turns)[:, None] * edges[-1]
    span, rates = np.append((starts + edges[:-1]).ravel(), turns * edges[-1]), np.tile(rates, turns)
    for turn in count():
        yield span + turn * span[-1], rates


def _noise(spec: Noise, seed: int) -> Iterator[Span]:
    """exp(x - sigma^2 / 2) per piece, x a stationary AR(1) of standard deviation sigma: mean 1, cv as asked.

    For a lognormal, sigma^2 = ln(1 + cv^2).
    """
    rng = stream(seed, "workload.noise")
    sigma = math.sqrt(math.log1p(spec.cv**2))
    keep, fresh = spec.persistence, math.sqrt(1 - spec.persistence**2)
    x = rng.standard_normal()
    for turn in count():
        levels = np.empty(_PIECES_AT_ONCE)
        for i, z in enumerate(rng.standard_normal(_PIECES_AT_ONCE)):
            levels[i] = x
            x = keep * x + fresh * z
        edges = (turn * _PIECES_AT_ONCE + np.arange(_PIECES_AT_ONCE + 1)) * spec.piece_s
        yield edges.astype(np.float64), np.exp(sigma * levels - sigma**2 / 2)


def _bursts(spec: Bursts, seed: int) -> Iterator[Span]:
    """Burst and lull in turn, factors of mean 1 over time. The first is drawn by its share of time."""
    rng = stream(seed, "workload.bursts")
    on_share = spec.on_s / (spec.on_s + spec.off_s)
    high = 1 / (on_share + (1 - on_share) * spec.lull_fraction)
    lengths_s, factors = np.array([spec.on_s, spec.off_s]), np.array([high, high * spec.lull_fraction])
    if rng.random() >= on_share:
        lengths_s, factors = lengths_s[::-1], factors[::-1]
    half, now_s = _PIECES_AT_ONCE // 2, 0.0
    while True:
        stays_s = rng.standard_exponential(_PIECES_AT_ONCE) * np.tile(lengths_s, half)
        edges = now_s + np.concatenate([[0.0], np.cumsum(stays_s)])
        yield edges, np.tile(factors, half)
        now_s = edges[-1]


def _times(spans: Iterator[Span], factors: Iterator[Span]) -> Iterator[Span]:
    """The product of two rates over time, on the spans of the first."""
    held_edges, held = next(factors)
    for edges, rates in spans:
        while held_edges[-1] <= edges[-1]:
            more_edges, more = next(factors)
            held_edges, held = np.concatenate([held_edges[:-1], more_edges]), np.concatenate([held, more])
        inside = held_edges[(held_edges > edges[0]) & (held_edges < edges[-1])]
        cuts = np.union1d(edges, inside)
        base = np.searchsorted(edges, cuts[:-1], side="right") - 1
        factor = np.searchsorted(held_edges, cuts[:-1], side="right") - 1
        yield cuts, rates[base] * held[factor]
        past = int(np.searchsorted(held_edges, edges[-1], side="right")) - 1
        held_edges, held = held_edges[past:], held[past:]
