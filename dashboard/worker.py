"""A worker: a process that does the jobs of a store one after another, and ends when there are none for a while."""

from __future__ import annotations

import resource
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from dashboard.jobs import (
    BEGUN_MOST,
    CANCELLED,
    DONE,
    FAILED,
    LINGER_S,
    LONG,
    SHORT,
    WAITING,
    WORKERS,
    BackgroundJob,
    JobReport,
    Jobs,
    PutBack,
    held,
)
from dashboard.points import Points
from dcsim.errors import DcsimError
from dcsim.study import side_by_side
from dcsim.study.pictured import Pictured, pictured
from dcsim.study.standing import standing

MEMORY_MAX = 8 << 30  # of addresses, most of which compiled code and its libraries reserve

Work = Callable[[dict[str, Any], Path, JobReport], dict[str, Any]]  # (what was asked, the store, whom to tell) -> result


def main(store: str) -> None:
    """Take one of the few places, do what there is to do, and wait a little for more."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, resource.getrlimit(resource.RLIMIT_AS)[1]))
    jobs = Jobs(Path(store))
    for place in range(WORKERS):
        with held(jobs.folder.parent / f"worker-{place}") as mine:
            if mine:
                _work(jobs, Path(store), place)
                return


def _work(jobs: Jobs, store: Path, place: int) -> None:
    """Job after job; what takes minutes is for the first place alone."""
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < LINGER_S:
        for job in jobs.ready():
            if (job.kind not in LONG or place == 0) and _take(jobs, job, store):
                idle_since = time.monotonic()
                break
        else:
            time.sleep(0.15)


def _take(jobs: Jobs, job: BackgroundJob, store: Path) -> bool:
    """Do a job, unless somebody else does it."""
    folder = jobs.folder / job.name
    with held(folder / "lock") as mine:
        now = jobs.find(job.name) if mine else None
        if now is None or now.over:
            return False
        report = JobReport(folder, now.begun + 1)
        if now.begun >= BEGUN_MOST:
            report.over(FAILED, note=f"its process was lost {now.begun} times, as happens where memory runs out")
            return True
        try:
            report.progress(0, 0, "begins")
            result = WORK[now.kind](now.ask, store, report)
        except KeyboardInterrupt:
            report.over(CANCELLED)
        except PutBack as reason:
            JobReport(folder, now.begun).over(WAITING, note=str(reason))
        except DcsimError as error:
            report.over(FAILED, note=str(error))
        except Exception as error:  # a fault of ours must not end the jobs after it
            traceback.print_exc()  # into worker.log
            report.over(FAILED, note=f"an error of dcsim's own, {type(error).__name__}: see .dashboard/worker.log")
        else:
            report.over(DONE, result=result)
    return True


def _points(ask: dict[str, Any], store: Path, report: JobReport) -> dict[str, Any]:
    """Compute the cells of a comparison that are missing, and keep each as it is done."""
    points = Points(store / ".dashboard" / "points")
    cells = points.missing(map(side_by_side.cell_of, ask["cells"]))
    for done, cell in enumerate(cells):
        if done and any(job.kind in SHORT for job in Jobs(store).ready()):
            raise PutBack("waits while something shorter is done")
        what = {side_by_side.SERVED: "load"}.get(cell.kind, cell.kind)
        report.progress(done, len(cells), f"{what} on {cell.network} {cell.library}".strip())
        points.keep(cell, side_by_side.answer(cell))
    return {"cells": len(cells)}


def _schedule(ask: dict[str, Any], store: Path, report: JobReport) -> dict[str, Any]:
    """Spell an iteration out for the schedule page."""
    asked = Pictured(**ask["asked"])
    steps = ("compiling", "simulating packets", "micro-batches in flight")
    found = pictured(asked, lambda step: report.progress(steps.index(step), len(steps), step))
    Points(store / ".dashboard" / "points").keep_picture(ask["name"], found)
    return {}


def _topology(ask: dict[str, Any], store: Path, report: JobReport) -> dict[str, Any]:
    """Build a cluster for the topology page."""
    report.progress(0, 2, "building, and one iteration")
    found = standing(ask["asked"]["topology"], ask["asked"]["network"] or None, ask["asked"]["batch"])
    Points(store / ".dashboard" / "points").keep_picture(ask["name"], found)
    return {}


def _claims(ask: dict[str, Any], store: Path, report: JobReport) -> dict[str, Any]:
    """Simulate and judge every published claim that is not kept yet."""
    from validation.claims import read_claims
    from validation.table import validate

    total, done = len(read_claims()), 0

    def tell(text: str) -> None:
        nonlocal done
        done += text.startswith("computed")
        report.progress(done, total, text)

    Points(store / ".dashboard" / "points").keep_picture(ask["name"], validate(progress=tell, jobs=1))
    return {}


def _run(ask: dict[str, Any], store: Path, report: JobReport) -> dict[str, Any]:
    """Serve what a form asked for, and keep the run in the store under its own name."""
    from dashboard.fence import fence
    from dashboard.uploads import loaded
    from dcsim.study.scenario import run_hash

    with fence(store):
        report.progress(0, 0, "reading")
        case = loaded(store, ask)
        name = run_hash(case.spec.model_dump(mode="json", by_alias=True), ask["seed"])
        if not (store / name / "meta.json").is_file():
            told = partial(report.progress, note="requests served")
            span_s = case.spec.workload.duration_s  # endless where it is served to its end
            span = {"span_s": span_s if 0 < span_s < inf else None}
            case.run(ask["seed"], store / name, progress=told, watch=lambda state: report.look(asdict(state) | span))
    return {"run": name}


def _plan(ask: dict[str, Any], store: Path, report: JobReport) -> dict[str, Any]:
    """Look for the smallest systems; what is simulated is kept in the store, as `dcsim plan` keeps it."""
    from dashboard.asked import plan_command, plan_of
    from dashboard.fence import fence
    from dcsim.study.sizing.ask import journal_in, sized

    found = 0

    def hear(row: Mapping[str, Any]) -> None:
        nonlocal found
        found += 1
        report.found({name: row.get(name) for name in LIVE_OF_PLANS}, found, note="candidates simulated or taken from before")

    with fence(store):
        report.progress(0, 0, "reading")
        result, _ = sized(plan_of(ask["asked"], store), journal_in(store), hear)
    Points(store / ".dashboard" / "points").keep_picture(ask["name"], result | {"command": plan_command(ask["asked"])})
    return {}


def _sweep(ask: dict[str, Any], store: Path, report: JobReport) -> dict[str, Any]:
    """Do every point of a sweep; each is kept in the store as it ends, as `dcsim sweep` keeps it."""
    from dashboard.asked import sweep_command, sweep_of
    from dashboard.fence import fence
    from dcsim.study.sweep import SHOWN
    from dcsim.study.sweep import sweep as study
    from dcsim.study.sweep.journal import journal_of

    asked, rows, told = ask["asked"], dict[int, dict[str, Any]](), 0

    def hear(done: int, total: int) -> None:
        nonlocal told
        for place in list(rows)[told:]:
            told += 1
            report.found({name: rows[place][name] for name in shown if name in rows[place]}, done, total, "points")

    with fence(store):
        report.progress(0, 0, "reading")
        case, design = sweep_of(asked, store)
        keys = list(dict.fromkeys(key for point in design.settings() for key in point))
        shown = [*keys, *SHOWN[asked["zoom"]], "error"]
        found = study(case, design, 1, hear, rows, replications=asked["replications"], journal=journal_of(case, store))
    result = {"rows": found, "keys": keys, "seed": asked["seed"], "command": sweep_command(asked)}
    Points(store / ".dashboard" / "points").keep_picture(ask["name"], result)
    return {}


def _systems(ask: dict[str, Any], store: Path, report: JobReport) -> dict[str, Any]:
    """Serve LLMs on systems, as `dcsim compare` of several topologies does."""
    from dashboard.asked import systems_command
    from dashboard.fence import fence
    from dashboard.uploads import path_of
    from dcsim.library import beside
    from dcsim.study.systems import load_of, systems

    asked, begun = ask["asked"], 0

    def hear(note: str) -> None:
        nonlocal begun
        begun += 1
        report.progress(0, 0, f"{note}, {begun} begun")

    with fence(store):
        report.progress(0, 0, "reading")
        found = systems(
            *([path_of(store, name) or name for name in asked[part]] for part in ("topologies", "llms")),
            interconnects=[path_of(store, name) or name for name in asked["interconnects"]],
            settings=asked["settings"],
            asked=load_of(asked["prompt"], asked["output"], asked["users"]),
            error_of=beside("validation.measured.known").error_of,
            seed=asked["seed"],
            progress=hear,
        )
    Points(store / ".dashboard" / "points").keep_picture(ask["name"], found | {"command": systems_command(asked)})
    return {}


def _run_links(ask: dict[str, Any], store: Path, report: JobReport) -> dict[str, Any]:
    """How busy links were over a run: what links do in one iteration of each program that ran."""
    from dashboard.fence import fence
    from dcsim.api.run import open_run

    with fence(store):
        report.progress(0, 0, "links of each program that ran")
        rows = open_run(store / ask["run"]).links_over_time
    Points(store / ".dashboard" / "points").keep_picture(ask["name"], {name: rows[name].tolist() for name in rows})
    return {}


# What is told of a candidate of a plan while others are still looked at.
LIVE_OF_PLANS = ("topology", "interconnect", "units", "unit", "replicas", "holds", "reason")
WORK: dict[str, Work] = {
    "run": _run,
    "run-links": _run_links,
    "points": _points,
    "schedule": _schedule,
    "topology": _topology,
    "claims": _claims,
    "plan": _plan,
    "sweep": _sweep,
    "systems": _systems,
}
