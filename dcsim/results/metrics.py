"""Every metric, defined once: name, unit and meaning feed code, command line, dashboard and docs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.results.records import BEYOND_LLM, FAILED, FINISHED, REJECTED, STATUSES, Table, blocks

SCHEMA_VERSION = 1

Targets = Mapping[str, tuple[float, float]]  # class -> (TTFT, TPOT) in seconds

_QUANTILES = (50, 90, 99)
_BIN_SHIFT = 44
_BINS = 1 << 63 - _BIN_SHIFT
_NUMBER = re.compile(r"\d[\d,.]*")
_LATENCIES = ("ttft_s", "tpot_s", "e2e_s")

# Student's t, 97.5th percentile for 1, 2, ... 30 degrees of freedom, and its limit (the normal distribution's).
_T95 = (
    12.7062,
    4.3027,
    3.1824,
    2.7764,
    2.5706,
    2.4469,
    2.3646,
    2.3060,
    2.2622,
    2.2281,
    2.2010,
    2.1788,
    2.1604,
    2.1448,
    2.1314,
    2.1199,
    2.1098,
    2.1009,
    2.0930,
    2.0860,
    2.0796,
    2.0739,
    2.0687,
    2.0639,
    2.0595,
    2.0555,
    2.0518,
    2.0484,
    2.0452,
    2.0423,
)
_T95_LIMIT = 1.95996


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a summary. Its unit is the last part of its name, before a qualifier such as `_p99`."""

    name: str
    unit: str
    meaning: str


# What a request can wait for or be limited by, and what that means.
LIMIT_MEANING = {
    "host": "host servers tokenise and hand over",
    "kv_memory": "requests wait for KV room in the chips",
    "sequence_slots": "requests wait for serving.sequences_max",
    "batch": "requests wait for the static batch before them to end",
    "prefill": "chips read prompts, or wait behind them",
    "pipeline": "the busiest stage has too many micro-batches",
    "power_cap": "chips slow down to stay under the power cap",
    "iteration_latency": "nothing waits; one token's way through all stages",
    "program_switch": "chips change from one compiled program to another, or wait until micro-batches in flight are through",
    "kv_transfer": "KV is copied from prefill to decode replicas",
    "fault": "work lost to a fault or run again for a bit error, or waiting for a spare",
}

METRICS: tuple[Metric, ...] = (
    Metric("requests_in", "requests", "arrivals; the sum of the next four"),
    Metric("requests_finished", "requests", "got all their output tokens"),
    Metric("requests_rejected", "requests", "turned away: could never fit, or a bounded queue was full"),
    Metric("requests_failed", "requests", "lost to a fault or given up"),
    Metric("requests_in_flight", "requests", "still being served when the run ended"),
    Metric("requests_beyond_llm", "requests", "of those rejected: longer than the LLM's own context, which no cluster changes"),
    Metric("requests_replayed", "requests", "a fault made them start again, or a bit error an iteration of theirs, once or more"),
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
    Metric(
        "reused_prompt_fraction",
        "",
        "prompt tokens found in KV (what a session or another prompt left there), over prompt tokens",
    ),
    Metric("concurrency_mean", "requests", "time average of requests in the system"),
    Metric("power_w_mean", "W", "power at the site's meter, time average"),
    Metric("power_w_max", "W", "power at the site's meter, largest sample"),
    Metric("it_power_w_mean", "W", "power of all racks at their meters, time average: the site's over PUE"),
    Metric("it_power_w_max", "W", "power of all racks at their meters, largest sample"),
    Metric("rack_power_w_max", "W", "power at one rack's meter, the largest sample of any rack"),
    Metric("energy_j_per_token", "J", "energy at the site's meter over output tokens, at the concurrency above"),
    Metric("limited_by", "", "what most of the requests' time was spent on or waiting for"),
    Metric("limited_by_fraction", "", "its share of the requests' time"),
    Metric("elapsed_s", "s", "from time 0 to the end of the run"),
    Metric("seed", "", "seed of every random stream"),
    Metric("schema_version", "", "version of this table"),
    Metric("digest", "", "SHA-256 of request rows and summary"),
)
UNIT = {metric.name: metric.unit for metric in METRICS}


def percentiles(passes: Callable[[], Iterable[Table]], columns: Sequence[str]) -> dict[str, float | None]:
    """`{column}_p{q}` for the quantiles of each column's numbers, none of them negative, as numpy has them; NaN is left out.

    `passes()` goes through blocks of rows. One block is taken whole; more take two passes, and memory for neither: the first
    counts numbers that begin with the same bits, which says where those of the wanted ranks are, and the second gathers these.
    """
    first = list(islice(passes(), 2))
    if len(first) < 2:
        values = {name: _known(first[0][name]) if first else np.empty(0) for name in columns}
        return {
            f"{name}_p{q}": float(np.percentile(values[name], q)) if len(values[name]) else None
            for name in columns
            for q in _QUANTILES
        }
    counts = {name: np.zeros(_BINS, np.int64) for name in columns}
    for block in passes():
        for name in columns:
            counts[name] += np.bincount(_bins(_known(block[name])), minlength=_BINS)
    wanted = {name: _wanted(np.cumsum(count)) for name, count in counts.items()}
    gathered: dict[str, list[NDArray[Any]]] = {name: [] for name in columns}
    for block in passes():
        for name in columns:
            values_here = _known(block[name])
            gathered[name].append(values_here[wanted[name][_bins(values_here)]])
    result: dict[str, float | None] = {}
    for name in columns:
        ordered, total = np.sort(np.concatenate(gathered[name])), np.cumsum(counts[name])
        left_out = np.cumsum(np.where(wanted[name], 0, counts[name]))  # numbers up to each bin that were not gathered
        for q in _QUANTILES:
            low, high, share = _ranks(int(total[-1]), q)
            ends = [float(ordered[r - left_out[np.searchsorted(total, r, side="right")]]) for r in (low, high) if total[-1]]
            result[f"{name}_p{q}"] = _between(ends[0], ends[1], share) if ends else None
    return result


def _known(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.abs(np.asarray(values[~np.isnan(values)], np.float64))  # there may be a -0


def _bins(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The leading bits of numbers that are not negative grow with them; a bin's numbers differ by 0.4 % at most."""
    return values.view(np.int64) >> _BIN_SHIFT


def _wanted(total: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which bins hold a rank that some quantile needs, given the numbers up to each bin."""
    wanted = np.zeros(_BINS, np.bool_)
    n = int(total[-1])
    if n:
        ranks = [rank for q in _QUANTILES for rank in _ranks(n, q)[:2]]
        wanted[np.searchsorted(total, ranks, side="right")] = True
    return wanted


def _ranks(n: int, q: int) -> tuple[int, int, float]:
    """The two ranks around the quantile of n numbers, and how far it lies between them."""
    place = (n - 1) * (q / 100)
    low = max(0, int(place))
    return low, max(0, min(low + 1, n - 1)), place - low


def _between(low: float, high: float, share: float) -> float:
    return high - (high - low) * (1 - share) if share >= 0.5 else low + (high - low) * share  # as numpy rounds it


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
    """Times, interval lengths and site power of each sample (racks summed), from rows in order of time."""
    times, length = np.asarray(power["time_s"]), np.asarray(power["interval_s"])
    begins = np.diff(times, prepend=-np.inf) > 0
    return times[begins], length[begins], np.bincount(np.cumsum(begins) - 1, weights=power["power_w"]) * pue


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


def _latencies(requests: Table, warmup_s: float, klass: str = "") -> dict[str, float | None]:
    """Percentiles over finished requests that count, of one class or of all."""
    return percentiles(partial(_finished, requests, warmup_s, klass), _LATENCIES)


def _finished(requests: Table, warmup_s: float, klass: str) -> Iterator[Table]:
    """Their latencies. Only requests that finished have a time to their last token."""
    others = [*(["arrival_s"] if warmup_s else []), *(["klass"] if klass else [])]
    for block in blocks(requests, (*_LATENCIES, *others)):
        own = measured(block, warmup_s)
        keep = ~np.isnan(own["e2e_s"])
        if klass:
            keep &= own["klass"] == klass
        yield {name: own[name][keep] for name in _LATENCIES}


def _count(
    requests: Table, slo_ttft_s: float, slo_tpot_s: float, targets: Targets, warmup_s: float, klass: str = ""
) -> dict[str, int]:
    """Counts of requests of one class or of all, by status and of those that count, and sums of their tokens."""
    sums = ("tokens_out", "reused_tokens", "prompt_tokens")
    total = dict.fromkeys((*STATUSES, "beyond_llm", "replayed", *sums, "counted", "good", "lost"), 0)
    others = [*(["arrival_s"] if warmup_s else []), *(["klass"] if klass or targets else [])]
    for block in blocks(requests, ("status", "reason", "replays", "ttft_s", "tpot_s", *sums, *others)):
        own = block if not klass else {name: block[name][block["klass"] == klass] for name in block}
        for name in STATUSES:
            total[name] += int(np.sum(own["status"] == name))
        rejected = own["reason"][own["status"] == REJECTED]
        total["beyond_llm"] += int(np.sum(np.char.startswith(rejected, BEYOND_LLM))) if len(rejected) else 0
        total["replayed"] += int(np.sum(own["replays"] > 0))
        for name in sums:
            total[name] += int(own[name].sum())
        counted = measured(own, warmup_s)
        is_good = _goodness(counted, slo_ttft_s, slo_tpot_s, targets)
        total["counted"] += len(is_good)
        total["good"] += int(np.sum(is_good))
        total["lost"] += int(np.sum(~is_good & _hit_by_fault(counted)))
    return total


def _by_status(total: Mapping[str, int]) -> dict[str, int]:
    return {"requests_in": sum(total[name] for name in STATUSES)} | {f"requests_{name}": total[name] for name in STATUSES}


def class_table(requests: Table, names: Sequence[str], *, targets: Targets, elapsed_s: float, warmup_s: float = 0.0) -> Table:
    """The metrics that mean something for one class, a row each, of the classes called `names`; empty for fewer than two."""
    rows: list[tuple[str, str, float]] = []
    for name in names if len(names) > 1 else ():
        ttft_s, tpot_s = targets.get(name, (np.inf, np.inf))
        total = _count(requests, ttft_s, tpot_s, {}, warmup_s, name)
        values = (
            _by_status(total)
            | _latencies(requests, warmup_s, name)
            | {
                "goodput_requests_per_s": _per(total["good"], elapsed_s - warmup_s),
                "slo_met_fraction": _per(total["good"], total["counted"]),
            }
        )
        rows += [(name, metric, np.nan if value is None else float(value)) for metric, value in values.items()]
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [[], [], []]
    return {"klass": np.array(columns[0], "U"), "metric": np.array(columns[1], "U"), "value": np.array(columns[2], float)}


def reasons(requests: Table) -> list[dict[str, Any]]:
    """Why requests were rejected or failed, the most frequent first.

    Each has its `status`, the first such `reason`, how many `requests` differ from it in numbers only, and whether none does.
    """
    kinds: dict[tuple[str, str], dict[str, Any]] = {}
    for block in blocks(requests, ("status", "reason")):
        lost = np.flatnonzero(np.isin(block["status"], (REJECTED, FAILED)))
        for status, reason in zip(block["status"][lost].tolist(), block["reason"][lost].tolist(), strict=True):
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
    tables: Mapping[str, Table],
    *,
    slo_ttft_s: float,
    slo_tpot_s: float,
    pue: float,
    elapsed_s: float,
    concurrency_mean: float,
    seed: int,
    warmup_s: float = 0.0,
    availability_fraction: float = 1.0,
    targets: Targets | None = None,
) -> dict[str, Any]:
    """Reduce a run's tables to one flat object; a metric without data is None. `digest` is added by the caller.

    Requests that arrive before `warmup_s` count in `requests_*`, throughput, gaps, power and limits only; latencies,
    goodput and SLOs are of the others, and their time starts there. `targets` are (TTFT, TPOT) of classes with their own.
    """
    requests, gaps, limits = tables["requests"], tables["gaps"], tables["limits"]
    total, counted_s = _count(requests, slo_ttft_s, slo_tpot_s, targets or {}, warmup_s), elapsed_s - warmup_s
    tokens = total["tokens_out"]
    result: dict[str, Any] = dict(_by_status(total))
    result |= {f"requests_{name}": total[name] for name in ("beyond_llm", "replayed")}
    result |= _latencies(requests, warmup_s)
    for q in _QUANTILES:
        result[f"itl_s_p{q}"] = weighted_percentile(gaps["gap_s"], gaps["count"], q)
    tpot = result["tpot_s_p50"]
    result["tokens_per_s_per_user_p50"] = 1 / tpot if tpot else None
    result["output_tokens_per_s"] = tokens / elapsed_s if elapsed_s else 0.0
    result["goodput_requests_per_s"] = total["good"] / counted_s if counted_s > 0 else 0.0
    result["slo_met_fraction"] = _per(total["good"], total["counted"])
    result["goodput_lost_requests_per_s"] = total["lost"] / counted_s if counted_s > 0 else 0.0
    result["availability_fraction"] = availability_fraction
    result["reused_prompt_fraction"] = _per(total["reused_tokens"], total["prompt_tokens"])
    result["concurrency_mean"] = concurrency_mean
    result |= _power_metrics(tables["power"], pue, elapsed_s, tokens)
    limit_s = float(np.sum(limits["request_s"]))
    top = int(np.argmax(limits["request_s"])) if limit_s > 0 else None
    result["limited_by"] = None if top is None else str(limits["resource"][top])
    result["limited_by_fraction"] = None if top is None else float(limits["request_s"][top]) / limit_s
    return {**result, "elapsed_s": elapsed_s, "seed": seed, "schema_version": SCHEMA_VERSION}


def _hit_by_fault(requests: Table) -> NDArray[np.bool_]:
    """Which requests a fault made start again, or fail."""
    hit, failed = requests["replays"] > 0, np.flatnonzero(requests["status"] == FAILED)
    if len(failed):
        hit[failed] |= np.char.startswith(requests["reason"][failed], "fault")
    return np.asarray(hit)


def _power_metrics(power: Table, pue: float, elapsed_s: float, tokens: int) -> dict[str, float | None]:
    energy, racks_j = energy_j(power, pue), energy_j(power, 1.0)
    _, _, power_w = site_power_w(power, pue)
    _, _, racks_w = site_power_w(power, 1.0)
    return {
        "power_w_mean": _per(energy, elapsed_s),
        "power_w_max": float(power_w.max()) if len(power_w) else None,
        "it_power_w_mean": _per(racks_j, elapsed_s),
        "it_power_w_max": float(racks_w.max()) if len(racks_w) else None,
        "rack_power_w_max": float(np.max(power["power_w"])) if len(power_w) else None,
        "energy_j_per_token": _per(energy, tokens),
    }
