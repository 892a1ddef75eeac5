"""The same scenario with several seeds: means with confidence intervals, never from the requests of one run."""

from __future__ import annotations

from typing import Any

from dcsim.results.metrics import METRICS, confidence
from dcsim.spec.load import Resolved
from dcsim.study.machine import build
from dcsim.study.serve import engines_of, programs_of, serve_on


def repeat(resolved: Resolved, seeds: int, first_seed: int = 1, progress: Any = None) -> dict[str, Any]:
    """Run seeds `first_seed` and up; for each metric that is a number its mean and the half-width of its 95 % interval.

    `random` is false where every seed gave the same run, so that there is nothing to take a mean of.
    """
    spec = resolved.spec
    machine = build(spec, first_seed)
    programs = programs_of(machine, machine.times)
    summaries, metas = [], []
    for i in range(seeds):
        _, summary, meta = serve_on(machine, programs, spec, first_seed + i)
        summaries.append(summary)
        metas.append(meta)
        if progress:
            progress(i + 1, seeds)
    means = {}
    for metric in METRICS:
        found = [summary.get(metric.name) for summary in summaries]
        values = [float(value) for value in found if isinstance(value, (int, float))]
        if metric.unit and len(values) == seeds:
            mean, half_width = confidence(values)
            means[metric.name] = {"mean": mean, "half_width": half_width, "unit": metric.unit}
    differ = any({**summary, "seed": 0} != {**summaries[0], "seed": 0} for summary in summaries)
    told = {"seeds": seeds, "first_seed": first_seed, "random": differ}
    return {**machine.terms, **told, **engines_of(metas), "metrics": means}
