"""The largest rate at which a cluster still holds its SLO, and what limits it there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dcsim.errors import CapacityError
from dcsim.power.chain import power_terms
from dcsim.spec.load import Resolved
from dcsim.study.machine import build
from dcsim.study.serve import engines_of, programs_of, serve_on

RATE_MAX = 4096.0  # times the workload's own rate
RATE_LEAST = 1 / 256
OVERLOAD = 1.5  # times the capacity, where `limited_by` is read


def capacity(
    resolved: Resolved, seed: int = 1, tolerance_fraction: float = 0.02, progress: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Bisect the workload's rate until the largest that meets p99 TTFT and p99 TPOT is known within the tolerance.

    The SLO holds at a rate if every request the LLM can take finishes and both 99th percentiles are inside: one longer than
    the LLM's own context is rejected at any rate.
    Returns `capacity_requests_per_s`, the scale it is of the workload's rate, the summary there, every try, and
    what limits at `OVERLOAD` times it. Raises CapacityError if even `RATE_LEAST` of the rate is too much.
    """
    spec = resolved.spec
    machine = build(spec, seed)
    programs = programs_of(machine, machine.times)
    tries: list[dict[str, Any]] = []
    metas: list[dict[str, Any]] = []

    def holds(scale: float) -> bool:
        workload = spec.workload.model_copy(update={"rate_scale": spec.workload.rate_scale * scale})
        _, summary, meta = serve_on(machine, programs, spec.model_copy(update={"workload": workload}), seed)
        metas.append(meta)
        tries.append({"rate_scale": scale, "holds": meets(summary, spec.slo.ttft_s, spec.slo.tpot_s), "summary": summary})
        if progress:
            progress(tries[-1])
        return bool(tries[-1]["holds"])

    low, high = _bracket(holds)
    while high / low > 1 + tolerance_fraction:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if holds(middle) else (low, middle)
    best = next(t for t in tries if t["rate_scale"] == low)["summary"]
    # Near the edge most requests still meet no queue; half as much again shows what gives way.
    holds(low * OVERLOAD)
    beyond = tries[-1]["summary"]
    return {
        **machine.terms,
        "capacity_requests_per_s": best["requests_in"] / best["elapsed_s"],
        "rate_scale": low,
        "at_capacity": best,
        "limited_by": beyond["limited_by"],
        "limited_by_fraction": beyond["limited_by_fraction"],
        "overload": OVERLOAD,
        "slo_ttft_s": spec.slo.ttft_s,
        "slo_tpot_s": spec.slo.tpot_s,
        **power_terms(spec),
        **engines_of(metas),
        "tries": [_short(t) for t in sorted(tries, key=lambda t: float(t["rate_scale"]))],
    }


def meets(summary: dict[str, Any], ttft_s: float, tpot_s: float) -> bool:
    """Whether every request that the LLM can take was served and both 99th percentiles are inside the SLO."""
    served = summary["requests_finished"] == summary["requests_in"] - summary["requests_beyond_llm"]
    within = all(
        value is None or value <= limit for value, limit in ((summary["ttft_s_p99"], ttft_s), (summary["tpot_s_p99"], tpot_s))
    )
    return served and within


def _bracket(holds: Callable[[float], bool]) -> tuple[float, float]:
    """A scale that holds and one, at most four times it, that does not."""
    scale = 1.0
    if holds(scale):
        while scale < RATE_MAX:
            if not holds(scale * 4):
                return scale, scale * 4
            scale *= 4
        return scale, scale
    while scale > RATE_LEAST:
        scale /= 4
        if holds(scale):
            return scale, scale * 4
    raise CapacityError(f"the SLO is missed even at a {1 / scale:.0f}th of the rate, where requests hardly meet", scale, 0.0)


def _short(attempt: dict[str, Any]) -> dict[str, Any]:
    summary = attempt["summary"]
    keys = ("ttft_s_p99", "tpot_s_p99", "concurrency_mean", "power_w_mean", "limited_by", "limited_by_fraction")
    return {
        "rate_scale": attempt["rate_scale"],
        "requests_per_s": summary["requests_in"] / summary["elapsed_s"],
        "holds": attempt["holds"],
        **{key: summary[key] for key in keys},
    }
