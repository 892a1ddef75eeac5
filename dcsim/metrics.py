"""Every metric, defined once: name, unit and meaning feed code, command line, dashboard and docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.records import FAILED, FINISHED, IN_FLIGHT, REJECTED, Table

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a summary. Its unit is the last part of its name, before a qualifier such as `_p99`."""

    name: str
    unit: str
    meaning: str


METRICS: tuple[Metric, ...] = (
    Metric("requests_in", "requests", "arrivals; the sum of the next four"),
    Metric("requests_finished", "requests", "got all their output tokens"),
    Metric("requests_rejected", "requests", "turned away: could never fit, or a bounded queue was full"),
    Metric("requests_failed", "requests", "lost to a fault or given up"),
    Metric("requests_in_flight", "requests", "still being served when the run ended"),
    Metric("ttft_s_p50", "s", "time to first token, queueing included: median over finished requests"),
    Metric("ttft_s_p90", "s", "time to first token, 90th percentile"),
    Metric("ttft_s_p99", "s", "time to first token, 99th percentile"),
    Metric("tpot_s_p50", "s", "time per output token after the first, one value a request: median"),
    Metric("tpot_s_p90", "s", "time per output token, 90th percentile"),
    Metric("tpot_s_p99", "s", "time per output token, 99th percentile"),
    Metric("itl_s_p50", "s", "gap between successive tokens, over every single gap: median"),
    Metric("itl_s_p90", "s", "gap between successive tokens, 90th percentile over every gap"),
    Metric("itl_s_p99", "s", "gap between successive tokens, 99th percentile over every gap"),
    Metric("e2e_s_p50", "s", "arrival to last token: median"),
    Metric("e2e_s_p99", "s", "arrival to last token, 99th percentile"),
    Metric("tokens_per_s_per_user_p50", "tokens/s", "1 / tpot_s_p50"),
    Metric("output_tokens_per_s", "tokens/s", "output tokens over elapsed time"),
    Metric("goodput_requests_per_s", "requests/s", "requests that met every SLO jointly, over elapsed time"),
    Metric("slo_met_fraction", "", "requests that met every SLO jointly, over requests in"),
    Metric("concurrency_mean", "requests", "time average of requests in the system"),
    Metric("power_w_mean", "W", "site power, time average"),
    Metric("power_w_max", "W", "site power, largest sample"),
    Metric("energy_j_per_token", "J", "site energy over output tokens, at the concurrency above"),
    Metric("limited_by", "", "what most of the requests' time was spent on or waiting for"),
    Metric("limited_by_fraction", "", "its share of the requests' time"),
    Metric("elapsed_s", "s", "from time 0 to the end of the run"),
    Metric("seed", "", "seed of every random stream"),
    Metric("schema_version", "", "version of this table"),
    Metric("digest", "", "SHA-256 of request rows and summary"),
)
UNIT = {metric.name: metric.unit for metric in METRICS}


def _percentile(values: NDArray[Any], q: float) -> float | None:
    values = values[~np.isnan(values)]
    return float(np.percentile(values, q)) if len(values) else None


def weighted_percentile(values: NDArray[Any], counts: NDArray[Any], q: float) -> float | None:
    """The smallest value at or below which at least q percent of the counts lie."""
    if not len(values):
        return None
    order = np.argsort(values, kind="stable")
    total = np.cumsum(counts[order])
    return float(values[order][np.searchsorted(total, q * total[-1] / 100)])


def meets_slo(requests: Table, ttft_s: float, tpot_s: float) -> NDArray[np.bool_]:
    """Which requests finished and met both limits; a request of one token has no TPOT to miss."""
    tpot_ok = np.isnan(requests["tpot_s"]) | (requests["tpot_s"] <= tpot_s)
    return np.asarray((requests["status"] == FINISHED) & (requests["ttft_s"] <= ttft_s) & tpot_ok)


def energy_j(power: Table, pue: float) -> float:
    """Site energy: the integral of all racks' power, times PUE."""
    return float(np.sum(power["power_w"] * power["interval_s"])) * pue


def site_power_w(power: Table, pue: float) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Times, interval lengths and site power of each sample (racks summed)."""
    times, first, inverse = np.unique(power["time_s"], return_index=True, return_inverse=True)
    return times, power["interval_s"][first], np.bincount(inverse, weights=power["power_w"]) * pue


def summarise(
    tables: Mapping[str, Table], *, slo_ttft_s: float, slo_tpot_s: float, pue: float, elapsed_s: float,
    concurrency_mean: float, seed: int,
) -> dict[str, Any]:
    """Reduce a run's tables to one flat object; a metric without data is None. `digest` is added by the caller."""
    requests, gaps, limits = tables["requests"], tables["gaps"], tables["limits"]
    status = requests["status"]
    finished = status == FINISHED
    result: dict[str, Any] = {"requests_in": len(status)}
    for name in (FINISHED, REJECTED, FAILED, IN_FLIGHT):
        result[f"requests_{name}"] = int(np.sum(status == name))
    for column, quantiles in (("ttft_s", (50, 90, 99)), ("tpot_s", (50, 90, 99))):
        for q in quantiles:
            result[f"{column}_p{q}"] = _percentile(requests[column][finished], q)
    for q in (50, 90, 99):
        result[f"itl_s_p{q}"] = weighted_percentile(gaps["gap_s"], gaps["count"], q)
    for q in (50, 99):
        result[f"e2e_s_p{q}"] = _percentile(requests["e2e_s"][finished], q)
    tpot = result["tpot_s_p50"]
    result["tokens_per_s_per_user_p50"] = 1 / tpot if tpot else None
    tokens = int(np.sum(requests["tokens_out"]))
    result["output_tokens_per_s"] = tokens / elapsed_s if elapsed_s else 0.0
    good = int(np.sum(meets_slo(requests, slo_ttft_s, slo_tpot_s)))
    result["goodput_requests_per_s"] = good / elapsed_s if elapsed_s else 0.0
    result["slo_met_fraction"] = good / len(status) if len(status) else None
    result["concurrency_mean"] = concurrency_mean
    energy = energy_j(tables["power"], pue)
    _, _, power_w = site_power_w(tables["power"], pue)
    result["power_w_mean"] = energy / elapsed_s if elapsed_s else None
    result["power_w_max"] = float(power_w.max()) if len(power_w) else None
    result["energy_j_per_token"] = energy / tokens if tokens else None
    total = float(np.sum(limits["request_s"]))
    top = int(np.argmax(limits["request_s"])) if total > 0 else -1
    result["limited_by"] = str(limits["resource"][top]) if top >= 0 else None
    result["limited_by_fraction"] = float(limits["request_s"][top]) / total if top >= 0 else None
    result |= {"elapsed_s": elapsed_s, "seed": seed, "schema_version": SCHEMA_VERSION}
    return result
