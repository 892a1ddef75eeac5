"""Every metric, defined once: name, unit and meaning feed code, command line, dashboard and docs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.records import FAILED, FINISHED, IN_FLIGHT, REJECTED, Table

SCHEMA_VERSION = 1

Targets = Mapping[str, tuple[float, float]]  # class -> (TTFT, TPOT) in seconds

_NUMBER = re.compile(r"\d[\d,.]*")
_CLASS_COLUMNS = ("status", "ttft_s", "tpot_s", "e2e_s")

# Student's t, 97.5th percentile for 1, 2, ... 30 degrees of freedom, and its limit (the normal distribution's).
_T95 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604, 2.1448,
    2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484,
    2.0452, 2.0423,
)
_T95_LIMIT = 1.95996


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
    Metric("requests_replayed", "requests", "made to start again by a fault, once or more"),
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
    Metric("e2e_s_p90", "s", "arrival to last token, 90th percentile"),
    Metric("e2e_s_p99", "s", "arrival to last token, 99th percentile"),
    Metric("tokens_per_s_per_user_p50", "tokens/s", "1 / tpot_s_p50"),
    Metric("output_tokens_per_s", "tokens/s", "output tokens over elapsed time"),
    Metric("goodput_requests_per_s", "requests/s", "requests that met every SLO jointly, over elapsed time"),
    Metric("slo_met_fraction", "", "requests that met every SLO jointly, over requests in"),
    Metric("goodput_lost_requests_per_s", "requests/s", "requests hit by a fault that did not meet every SLO, over elapsed time"),
    Metric("availability_fraction", "", "share of time, over replicas, in which no fault stopped them"),
    Metric("reused_prompt_fraction", "", "prompt tokens found in KV from the session's previous turn, over prompt tokens"),
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


def meets_slo(requests: Table, ttft_s: Any, tpot_s: Any) -> NDArray[np.bool_]:
    """Which requests finished and met both limits (numbers, or one a request); a request of one token has no TPOT to miss."""
    tpot_ok = np.isnan(requests["tpot_s"]) | (requests["tpot_s"] <= tpot_s)
    return np.asarray((requests["status"] == FINISHED) & (requests["ttft_s"] <= ttft_s) & tpot_ok)


def energy_j(power: Table, pue: float) -> float:
    """Site energy: the integral of all racks' power, times PUE."""
    return float(np.sum(power["power_w"] * power["interval_s"])) * pue


def site_power_w(power: Table, pue: float) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Times, interval lengths and site power of each sample (racks summed)."""
    times, first, inverse = np.unique(power["time_s"], return_index=True, return_inverse=True)
    return times, power["interval_s"][first], np.bincount(inverse, weights=power["power_w"]) * pue


def measured(requests: Table, warmup_s: float) -> Table:
    """The requests that count: those that arrive at or after `warmup_s`."""
    if not warmup_s:
        return requests
    keep = requests["arrival_s"] >= warmup_s
    return {name: requests[name][keep] for name in requests}


def _goodness(requests: Table, slo_ttft_s: float, slo_tpot_s: float, targets: Targets) -> NDArray[np.bool_]:
    """`meets_slo` with each class's own targets where it has some."""
    if not targets:
        return meets_slo(requests, slo_ttft_s, slo_tpot_s)
    klass = requests["klass"]
    ttft, tpot = np.full(len(klass), slo_ttft_s), np.full(len(klass), slo_tpot_s)
    for name, (class_ttft_s, class_tpot_s) in targets.items():
        ttft[klass == name], tpot[klass == name] = class_ttft_s, class_tpot_s
    return meets_slo(requests, ttft, tpot)


def _latencies(requests: Table) -> dict[str, float | None]:
    """Percentiles over finished requests."""
    finished = requests["status"] == FINISHED
    result: dict[str, float | None] = {}
    for column, quantiles in (("ttft_s", (50, 90, 99)), ("tpot_s", (50, 90, 99)), ("e2e_s", (50, 90, 99))):
        values = requests[column][finished]
        result |= {f"{column}_p{q}": _percentile(values, q) for q in quantiles}
    return result


def _counts(status: NDArray[Any]) -> dict[str, int]:
    counts = {"requests_in": len(status)}
    return counts | {f"requests_{name}": int(np.sum(status == name)) for name in (FINISHED, REJECTED, FAILED, IN_FLIGHT)}


def class_table(requests: Table, *, targets: Targets, elapsed_s: float, warmup_s: float = 0.0) -> Table:
    """The metrics that mean something for one class, a row each; empty where there is only one class."""
    counted = measured(requests, warmup_s)
    klass = counted["klass"]
    names = np.unique(klass).tolist()
    rows: list[tuple[str, str, float]] = []
    for name in names if len(names) > 1 else ():
        own = {column: counted[column][klass == name] for column in (*_CLASS_COLUMNS, "klass")}
        ttft_s, tpot_s = targets.get(name, (np.inf, np.inf))
        good = int(meets_slo(own, ttft_s, tpot_s).sum())
        values = _counts(own["status"]) | _latencies(own) | {
            "goodput_requests_per_s": _per(good, elapsed_s - warmup_s), "slo_met_fraction": _per(good, len(own["status"])),
        }
        rows += [(name, metric, np.nan if value is None else float(value)) for metric, value in values.items()]
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [[], [], []]
    return {
        "klass": np.array(columns[0], "U"), "metric": np.array(columns[1], "U"), "value": np.array(columns[2], float)
    }


def reasons(requests: Table) -> list[dict[str, Any]]:
    """Why requests were rejected or failed, the most frequent first.

    Each has its `status`, the first such `reason`, how many `requests` differ from it in numbers only, and whether none does.
    """
    lost = np.flatnonzero(np.isin(requests["status"], (REJECTED, FAILED)))
    kinds: dict[tuple[str, str], dict[str, Any]] = {}
    for status, reason in zip(requests["status"][lost].tolist(), requests["reason"][lost].tolist(), strict=True):
        first = {"status": status, "reason": reason, "requests": 0, "alike": True}
        kind = kinds.setdefault((status, _NUMBER.sub("", reason)), first)
        kind["requests"] += 1
        kind["alike"] &= reason == kind["reason"]
    return sorted(kinds.values(), key=lambda kind: -int(kind["requests"]))


def _per(amount: float, base: float) -> float | None:
    return amount / base if base else None


def confidence(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half-width of its 95 % confidence interval, from independent replications such as runs of several seeds.

    Student's t with n - 1 degrees of freedom; infinite for fewer than two values. Never for the requests of one run,
    which are not independent.
    """
    if not len(values):
        raise ValueError("no values to average")
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, float("inf")
    freedom = len(values) - 1
    t = _T95[freedom - 1] if freedom <= len(_T95) else _T95_LIMIT + 2.48 / freedom
    return mean, t * float(np.std(values, ddof=1)) / len(values) ** 0.5


def summarise(
    tables: Mapping[str, Table], *, slo_ttft_s: float, slo_tpot_s: float, pue: float, elapsed_s: float,
    concurrency_mean: float, seed: int, warmup_s: float = 0.0, availability_fraction: float = 1.0,
    targets: Targets | None = None,
) -> dict[str, Any]:
    """Reduce a run's tables to one flat object; a metric without data is None. `digest` is added by the caller.

    Requests that arrive before `warmup_s` count in `requests_*`, throughput, gaps, power and limits only; latencies,
    goodput and SLOs are of the others, and their time starts there. `targets` are (TTFT, TPOT) of classes with their own.
    """
    requests, gaps, limits = tables["requests"], tables["gaps"], tables["limits"]
    result: dict[str, Any] = dict(_counts(requests["status"]))
    counted, counted_s = measured(requests, warmup_s), elapsed_s - warmup_s
    result["requests_replayed"] = int(np.sum(requests["replays"] > 0))
    result |= _latencies(counted)
    for q in (50, 90, 99):
        result[f"itl_s_p{q}"] = weighted_percentile(gaps["gap_s"], gaps["count"], q)
    tpot = result["tpot_s_p50"]
    result["tokens_per_s_per_user_p50"] = 1 / tpot if tpot else None
    tokens = int(np.sum(requests["tokens_out"]))
    result["output_tokens_per_s"] = tokens / elapsed_s if elapsed_s else 0.0
    is_good = _goodness(counted, slo_ttft_s, slo_tpot_s, targets or {})
    good = int(np.sum(is_good))
    lost = int(np.sum(~is_good & _hit_by_fault(counted)))
    result["goodput_requests_per_s"] = good / counted_s if counted_s > 0 else 0.0
    result["slo_met_fraction"] = _per(good, len(is_good))
    result["goodput_lost_requests_per_s"] = lost / counted_s if counted_s > 0 else 0.0
    result["availability_fraction"] = availability_fraction
    result["reused_prompt_fraction"] = _per(int(requests["reused_tokens"].sum()), int(requests["prompt_tokens"].sum()))
    result["concurrency_mean"] = concurrency_mean
    result |= _power_metrics(tables["power"], pue, elapsed_s, tokens)
    total = float(np.sum(limits["request_s"]))
    top = int(np.argmax(limits["request_s"])) if total > 0 else -1
    result["limited_by"] = str(limits["resource"][top]) if top >= 0 else None
    result["limited_by_fraction"] = float(limits["request_s"][top]) / total if top >= 0 else None
    return {**result, "elapsed_s": elapsed_s, "seed": seed, "schema_version": SCHEMA_VERSION}


def _hit_by_fault(requests: Table) -> NDArray[np.bool_]:
    """Which requests a fault made start again, or fail."""
    hit, failed = requests["replays"] > 0, np.flatnonzero(requests["status"] == FAILED)
    if len(failed):
        hit[failed] |= np.char.startswith(requests["reason"][failed], "fault")
    return np.asarray(hit)


def _power_metrics(power: Table, pue: float, elapsed_s: float, tokens: int) -> dict[str, float | None]:
    energy = energy_j(power, pue)
    _, _, power_w = site_power_w(power, pue)
    return {
        "power_w_mean": _per(energy, elapsed_s), "power_w_max": float(power_w.max()) if len(power_w) else None,
        "energy_j_per_token": _per(energy, tokens),
    }
