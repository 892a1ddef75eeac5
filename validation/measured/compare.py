"""Measured beside simulated: every job run, its errors, and their means by chip, LLM, library and degree."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dcsim.errors import DcsimError
from dcsim.writing import telling, write_text
from validation import store
from validation.measured.files import read_jobs
from validation.measured.jobs import Job
from validation.measured.predict import predict

FOLDER = Path("runs/validate/measured")
NEAR = 1.25  # a prediction within this factor counts as near

Row = dict[str, Any]
Progress = Callable[[str], None]


def compare(
    path: Path,
    llms: Path | None = None,
    sample: int = 0,
    *,
    seed: int = 1,
    stored: bool = True,
    jobs: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run the jobs of a file, or `sample` of them drawn by `seed`, and sum up their errors.

    Answers computed before by this very version are read from `runs/validate/measured` unless `stored` is off; `jobs` processes
    compute the others (0: as many as there are cores). Raises SpecError for a file in no known layout.
    """
    asked = read_jobs(path)
    if 0 < sample < len(asked):
        chosen = sorted(random.Random(seed).sample(range(len(asked)), sample))
        asked = [asked[i] for i in chosen]
    rows = [row for _, row in sorted(_answers(asked, llms, seed, stored, jobs, progress or (lambda _: None)))]
    return {**summary(rows), "by": by_group(rows), "rows": rows}


def _answers(
    asked: Sequence[Job], llms: Path | None, seed: int, stored: bool, jobs: int, tell: Progress
) -> Iterator[tuple[int, Row]]:
    """(place, row) of every job, stored ones first."""
    version = store.version() + _contents(llms)
    missing = []
    for place, job in enumerate(asked):
        kept = _read(job, version, seed) if stored else None
        if kept is None:
            missing.append(place)
        else:
            yield place, row_of(job, kept)
    if not missing:
        return
    groups = _grouped([(place, asked[place]) for place in missing])
    jobs = min(jobs or os.cpu_count() or 1, len(groups))
    tell(f"{len(missing)} of {len(asked)} jobs to run, {jobs} at once")
    for done, (place, answer) in enumerate(_computed([(group, llms, seed) for group in groups], jobs), 1):
        _write(asked[place], version, seed, answer)
        if done % 50 == 0:
            tell(f"{done} of {len(missing)} run")
        yield place, row_of(asked[place], answer)


Group = tuple[list[tuple[int, Job]], Path | None, int]


def _grouped(numbered: Sequence[tuple[int, Job]]) -> list[list[tuple[int, Job]]]:
    """Jobs on one machine together, since they share what is timed on it; large groups first, and none too large to share out."""
    together: dict[Any, list[tuple[int, Job]]] = {}
    for place, job in numbered:
        together.setdefault((job.system, job.llm, job.library, job.precision, job.degrees, job.reads), []).append((place, job))
    return sorted(together.values(), key=len, reverse=True)


def _computed(groups: Sequence[Group], jobs: int) -> Iterator[tuple[int, Row]]:
    if jobs <= 1:
        for group in groups:
            yield from run_group(group)
        return
    from dcsim.workers import Lost, spread

    for index, answers in spread(run_group, groups, jobs):
        if isinstance(answers, Lost):
            answers = [(place, {"reason": answers.reason}) for place, _ in groups[index][0]]
        yield from answers


def run_group(group: Group) -> list[tuple[int, Row]]:
    """What came of each job of a group."""
    numbered, llms, seed = group
    return [(place, answer_of(job, llms, seed)) for place, job in numbered]


def answer_of(job: Job, llms: Path | None, seed: int) -> Row:
    """The simulated figures of a job, or the reason why there are none."""
    try:
        return {"simulated": asdict(predict(job, llms, seed))}
    except DcsimError as error:
        return {"reason": str(error)}


def row_of(job: Job, answer: Row) -> Row:
    """A line of the answer: what was run, measured beside simulated, and their ratios, simulated over measured."""
    simulated: dict[str, float] = answer.get("simulated") or {}
    measured = asdict(job.measured) if job.measured else {}
    ratios = {
        f"{name}_ratio": simulated[figure] / measured[figure] if simulated and measured.get(figure) else None
        for name, figure in (("tpot", "tpot_s"), ("ttft", "ttft_s"), ("throughput", "output_tokens_per_s"))
    }
    return {
        "id": job.id,
        "system": job.system,
        "llm": job.llm,
        "library": job.library,
        "precision": job.precision,
        "degree": job.degree,
        "prompt_tokens_max": job.prompt[1],
        "output_tokens_max": job.output[1],
        "concurrency": job.concurrency,
        "measured": measured,
        "simulated": simulated or None,
        **ratios,
        "reason": answer.get("reason"),
    }


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Means over the rows that were run; None where there are none."""
    tpot, ttft = (_errors(rows, name) for name in ("tpot_ratio", "ttft_ratio"))
    run = [row for row in rows if row["simulated"]]
    return {
        "count": len(rows),
        "answered_fraction": len(run) / len(rows) if rows else None,
        "tpot_ln_error_mean": _mean(tpot),
        "ttft_ln_error_mean": _mean(ttft),
        "tpot_within_1.25_fraction": _mean([float(error <= math.log(NEAR)) for error in tpot]),
        "tpot_ln_ratio_mean": _mean([math.log(row["tpot_ratio"]) for row in run if row["tpot_ratio"]]),
        "throughput_ln_error_mean": _mean(_errors(rows, "throughput_ratio")),
    }


def by_group(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """The same for each chip, LLM, library and degree."""
    found: dict[str, dict[str, Any]] = {}
    for key in ("system", "llm", "library", "degree"):
        names = dict.fromkeys(row[key] for row in rows)
        found[key] = {name: summary([row for row in rows if row[key] == name]) for name in names}
    return found


def _errors(rows: Sequence[Row], name: str) -> list[float]:
    return [abs(math.log(row[name])) for row in rows if row[name]]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _contents(folder: Path | None) -> str:
    """A hash of the configs that jobs may be looked up in."""
    if folder is None:
        return ""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*_config.json")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _path(job: Job, version: str, seed: int) -> Path:
    text = json.dumps([version, seed, asdict(job)], sort_keys=True, default=str)
    return FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"


def _read(job: Job, version: str, seed: int) -> Row | None:
    try:
        kept = json.loads(_path(job, version, seed).read_text())
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) else None


def _write(job: Job, version: str, seed: int, answer: Row) -> None:
    path = _path(job, version, seed)
    with telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(answer))
