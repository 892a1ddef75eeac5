"""The two figures of an engine's own time, fixed on measured jobs; nothing else moves, and rows left out say what it is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dcsim.errors import DcsimError, Problem, SpecError
from validation.measured.jobs import Job
from validation.measured.predict import Overhead, predict

MOST_FITTED = 24  # jobs that are run again for each pair of figures that is tried
STEPS_S = (0.0, 0.1e-3, 0.2e-3, 0.4e-3, 0.8e-3, 1.6e-3, 3.2e-3)
SEQUENCES_S = (0.0, 50e-6, 100e-6, 200e-6, 400e-6, 800e-6, 1600e-6)


def calibrate(
    jobs: Sequence[Job], llms: Path | None = None, seed: int = 1, progress: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Fit `step` and `sequence` to every second job of each library, and report the error on the others before and after.

    What is made smallest is the mean of |ln(simulated / measured)| of TPOT and TTFT together. Raises SpecError where no job can
    be run.
    """
    tell = progress or (lambda _: None)
    libraries: dict[str, list[Job]] = {}
    for job in jobs:
        if not job.problem and job.measured.tpot_s:
            libraries.setdefault(job.library, []).append(job)
    found = {}
    for name, own in libraries.items():
        runnable = [job for job in own if _errors([job], llms, seed, None)]
        if len(runnable) < 2:
            continue
        fitted, left_out = _halves(runnable)
        tell(f"{name}: {len(fitted)} jobs to fit on, {len(left_out)} left out")
        best = fit(fitted, llms, seed)
        found[name] = {
            "step_s": best.step_s,
            "sequence_s": best.sequence_s,
            "fitted": len(fitted),
            "left_out": len(left_out),
            "before": _means(left_out, llms, seed, None),
            "after": _means(left_out, llms, seed, best),
        }
    if not found:
        raise SpecError(Problem("--calibrate", "no library has two jobs that can be run", "look at their reasons without it"))
    return {"engines": found}


def fit(jobs: Sequence[Job], llms: Path | None, seed: int) -> Overhead:
    """The pair of figures with the least error: along one, then the other, until neither moves."""
    known: dict[Overhead, float] = {}

    def error(overhead: Overhead) -> float:
        if overhead not in known:
            both = _errors(jobs, llms, seed, overhead)
            known[overhead] = sum(tpot + ttft for tpot, ttft in both) / max(1, len(both))
        return known[overhead]

    best = Overhead(0.0, 0.0)
    while True:
        before = best
        best = min((Overhead(best.step_s, value) for value in SEQUENCES_S), key=error)
        best = min((Overhead(value, best.sequence_s) for value in STEPS_S), key=error)
        if best == before:
            break
    around = (0.5, 0.7, 0.85, 1.0, 1.2, 1.4)
    best = min((Overhead(best.step_s, best.sequence_s * by) for by in around), key=error)
    return min((Overhead(best.step_s * by, best.sequence_s) for by in around), key=error)


def _halves(jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """Every second job to fit on, no more than MOST_FITTED of them, evenly drawn; all others are left out."""
    every = jobs[::2]
    stride = -(-len(every) // MOST_FITTED)
    fitted = list(every[::stride])
    chosen = {id(job) for job in fitted}
    return fitted, [job for job in jobs if id(job) not in chosen]


def _errors(jobs: Sequence[Job], llms: Path | None, seed: int, overhead: Overhead | None) -> list[tuple[float, float]]:
    """(TPOT, TTFT) errors of the jobs that can be run; a figure that was not measured counts as met."""
    found = []
    for job in jobs:
        try:
            simulated = predict(job, llms, seed, overhead)
        except DcsimError:
            continue
        pairs = ((simulated.tpot_s, job.measured.tpot_s), (simulated.ttft_s, job.measured.ttft_s))
        tpot, ttft = (abs(math.log(ours / theirs)) if theirs else 0.0 for ours, theirs in pairs)
        found.append((tpot, ttft))
    return found


def _means(jobs: Sequence[Job], llms: Path | None, seed: int, overhead: Overhead | None) -> dict[str, float]:
    both = _errors(jobs, llms, seed, overhead)
    count = max(1, len(both))
    return {"tpot_ln_error_mean": sum(t for t, _ in both) / count, "ttft_ln_error_mean": sum(f for _, f in both) / count}
