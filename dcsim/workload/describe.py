"""What a table of requests looks like: rate, burstiness, lengths."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.workload.requests import Requests


@dataclass(frozen=True, slots=True)
class TokenSummary:
    """One column of token counts. Quantiles are linear between order statistics."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: int
    total: int


@dataclass(frozen=True, slots=True)
class Description:
    """Summary of a table. NaN where the table is too short to tell.

    `dispersion_<w>s` is the variance over the mean of the arrivals in whole windows of w seconds: 1 for a
    Poisson process of constant rate, more for a bursty one.
    """

    requests: int
    span_s: float  # first arrival to last
    rate_per_s: float  # gaps over the span
    peak_per_s: int  # most arrivals in one window of 1 s
    peak_over_mean: float
    gap_cv: float  # standard deviation over mean of the gaps between arrivals
    dispersion_1s: float
    dispersion_10s: float
    dispersion_60s: float
    prompt_tokens: TokenSummary
    output_tokens: TokenSummary
    prefix_tokens: int  # prompt tokens said before in the same session
    sessions: int
    per_class: dict[str, int]

    def as_dict(self) -> dict[str, object]:
        """Plain nested dicts and numbers."""
        return asdict(self)


def describe(requests: Requests) -> Description:
    """Summarise a table; an empty one has 0 requests and NaN for what needs some."""
    arrival_s, n = requests.arrival_s, len(requests)
    span_s = float(arrival_s[-1] - arrival_s[0]) if n else 0.0
    rate_per_s = (n - 1) / span_s if span_s > 0 else float("nan")
    peak = int(_all_counts(arrival_s, 1.0).max()) if n else 0
    classes = np.bincount(requests.klass, minlength=len(requests.class_names))
    return Description(
        requests=n,
        span_s=span_s,
        rate_per_s=rate_per_s,
        peak_per_s=peak,
        peak_over_mean=peak / rate_per_s,
        gap_cv=gap_cv(arrival_s),
        dispersion_1s=dispersion(arrival_s, 1.0),
        dispersion_10s=dispersion(arrival_s, 10.0),
        dispersion_60s=dispersion(arrival_s, 60.0),
        prompt_tokens=_tokens(requests.prompt_tokens),
        output_tokens=_tokens(requests.output_tokens),
        prefix_tokens=int(requests.prefix_tokens.sum(dtype=np.int64)),
        sessions=len(np.unique(requests.session[requests.session >= 0])),
        per_class={name: int(count) for name, count in zip(requests.class_names, classes, strict=True)},
    )


def gap_cv(arrival_s: NDArray[np.float64]) -> float:
    """Standard deviation over mean of the gaps; NaN for fewer than two gaps, or when all arrive at once."""
    gaps_s = np.diff(arrival_s)
    if len(gaps_s) < 2 or gaps_s.mean() == 0:
        return float("nan")
    return float(gaps_s.std() / gaps_s.mean())


def dispersion(arrival_s: NDArray[np.float64], window_s: float) -> float:
    """Variance over mean of the arrivals in whole windows from time 0; NaN for fewer than two windows."""
    if not len(arrival_s) or arrival_s[-1] < 2 * window_s:
        return float("nan")
    counts = _all_counts(arrival_s, window_s)[:-1]  # the last window is not over yet
    return float(counts.var(ddof=1) / counts.mean()) if counts.any() else float("nan")


def _all_counts(arrival_s: NDArray[np.float64], window_s: float) -> NDArray[np.int64]:
    """Arrivals in each window of `window_s` seconds from time 0 to the last arrival."""
    return np.bincount((arrival_s / window_s).astype(np.int64))


def _tokens(column: NDArray[np.int32]) -> TokenSummary:
    if not len(column):
        nan = float("nan")
        return TokenSummary(nan, nan, nan, nan, 0, 0)
    p50, p90, p99 = (float(value) for value in np.quantile(column, [0.5, 0.9, 0.99]))
    total = int(column.sum(dtype=np.int64))
    return TokenSummary(total / len(column), p50, p90, p99, int(column.max()), total)
