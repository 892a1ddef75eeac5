"""The command that goes through many points."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dcsim.cli.answer import give, typed
from dcsim.cli.machine import Batch, Context, Prefill
from dcsim.cli.options import (
    Engine,
    Interconnect,
    Json,
    Llm,
    Objective,
    Rate,
    Seed,
    Settings,
    Workload,
    say,
    with_engine,
    with_objective,
    writable,
)
from dcsim.interrupt import last_words

if TYPE_CHECKING:
    from dcsim.study.sweep import Case, Design


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: dcsim sweep topologies/8rack.yaml --set-range mapping.tp=8,16,32 --metric iteration_s")(sweep)


def sweep(
    topology: Annotated[
        str, typer.Argument(metavar="TOPOLOGY", help="A topology file, the name of one in the library, or a sweep's own file.")
    ],
    set_range: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=V,V", help="Values of a dotted key; repeatable. For random and latin a range, 1..10, too."),
    ] = None,
    design: Annotated[
        str, typer.Option(help="grid: every combination; zip: side by side; random or latin (hypercube): --samples points.")
    ] = "grid",
    samples: Annotated[int, typer.Option(min=0, help="Points that random and latin draw.")] = 0,
    replications: Annotated[int, typer.Option(min=1, max=1000, help="Seeds at each point, from --seed on, the same at all.")] = 1,
    metric: Annotated[list[str] | None, typer.Option(help="Metrics to show; default: a few.")] = None,
    zoom: Annotated[str, typer.Option(help="iteration: time one iteration; run: serve the workload.")] = "iteration",
    batch: Batch = 1,
    context: Context = None,
    prefill: Prefill = 0,
    workload: Workload = None,
    rate: Rate = None,
    llm: Llm = None,
    interconnect: Interconnect = None,
    objective: Objective = None,
    settings: Settings = None,
    engine: Engine = None,
    seed: Seed = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes; the rows do not depend on it.")] = 1,
    executor: Annotated[
        str | None, typer.Option(metavar="URL", help="A Dask cluster to do it, such as dask://localhost:8786.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do every point again, kept or not.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write all metrics as CSV.", callback=writable)] = None,
    as_json: Json = False,
) -> None:
    """Time or run every combination of the given values, or points drawn among them.

    Everything is checked before the first point is done. Each point is kept in runs/sweeps as it ends: the same command goes on
    where it was stopped. A point that cannot be built, or whose worker is killed, is a row with the reason.
    """
    from dcsim.errors import Problem, SpecError
    from dcsim.study import sweep as study
    from dcsim.study.sweep.file import checked, document_if_sweep

    if zoom not in ("iteration", "run"):
        raise SpecError(f"--zoom: '{zoom}' is not known; use iteration or run")
    document = document_if_sweep(topology)
    if document is not None:
        if set_range or samples or design != "grid":
            raise SpecError(
                Problem(topology, "is a sweep with a design of its own", "leave out --set-range, --design, --samples")
            )
        asked = _from_file(
            checked(document), tuple(with_engine(with_objective(settings, objective), engine)), metric, replications
        )
    else:
        pairs = [study.parse_range(text) for text in set_range or ()]
        if not pairs:
            raise SpecError(Problem("--set-range", "no key is given", "for example --set-range mapping.tp=8,16"))
        if len(dict(pairs)) < len(pairs):
            raise SpecError(Problem("--set-range", "a key is given twice", "list its values in one"))
        own = tuple(with_engine(with_objective(settings, objective), engine))
        case = study.Case(topology, own, interconnect, llm, batch, context, prefill, zoom == "run", seed, workload, rate)
        asked = SweepAsked(case, study.Design(design, dict(pairs), samples=samples, seed=seed), metric or [], replications)
    _sweep(asked, set_range or [], settings, jobs, executor, fresh, csv, as_json)


@dataclass(frozen=True, slots=True)
class SweepAsked:
    """What is swept, how, and what of it is shown."""

    case: Case
    design: Design
    metrics: list[str]
    replications: int


def _from_file(spec: Any, settings: tuple[str, ...], metric: list[str] | None, replications: int) -> SweepAsked:
    from dcsim.study.sweep import Case, Design
    from dcsim.study.sweep.design import text_of, texts

    own = tuple(f"{key}={text_of(value)}" for key, value in spec.set.items())
    case = Case(
        spec.topology,
        (*own, *settings),
        spec.interconnect,
        spec.llm,
        spec.batch,
        spec.context,
        0,
        spec.zoom == "run",
        spec.seed,
        spec.workload,
        spec.rate,
    )
    points = [{key: text_of(value) for key, value in point.items()} for point in spec.points]
    kind = "list" if points and spec.design == "grid" else spec.design
    design = Design(kind, texts(spec.values), points, spec.samples, spec.seed)
    return SweepAsked(case, design, metric or list(spec.metrics), max(replications, spec.replications))


def _sweep(
    asked: SweepAsked,
    set_range: list[str],
    settings: list[str] | None,
    jobs: int,
    executor: str | None,
    fresh: bool,
    csv: Path | None,
    as_json: bool,
) -> None:
    from dcsim.cli.report_explain import print_rows, write_csv
    from dcsim.cli.watching import SweepLines
    from dcsim.spec.unused import Keys, unused_of
    from dcsim.study import sweep as study
    from dcsim.study.store import RUNS
    from dcsim.study.sweep.journal import journal_of
    from dcsim.study.sweep.sweep import means

    case, kept = asked.case, dict[int, dict[str, Any]]()
    swept = list(dict.fromkeys(key for point in asked.design.settings() for key in point))
    metrics = asked.metrics or study.SHOWN["run" if case.run else "iteration"]
    keys: list[Keys] = []

    def tell() -> None:
        rows = [kept[index] for index in sorted(kept)]
        try:
            lines = means(rows, swept) if asked.replications > 1 else rows
            counted = ["replications"] if asked.replications > 1 else []
            shown = study.pick(lines, swept, [*counted, *metrics])
            content = {"rows": study.pick(rows, swept, asked.metrics) if asked.metrics else rows}
            give(
                content | ({"points": lines} if asked.replications > 1 else {}) | {"command": typed()},
                lambda _: print_rows(shown),
                as_json=as_json,
                seed=case.seed,
                unused=unused_of(keys, set_range),
                settings=settings,
            )
        finally:
            if csv:
                write_csv(rows, csv)

    import rich.table  # noqa: F401  # before anybody interrupts: what is found is shown at once

    journal = journal_of(case, RUNS)
    if fresh:
        journal.path.unlink(missing_ok=True)
    with SweepLines(swept, metrics) as watching, last_words(lambda: _tell_at_the_end(tell, len(kept), csv)):
        study.sweep(
            case,
            asked.design,
            jobs,
            watching.on(kept),
            kept,
            keys,
            replications=asked.replications,
            metrics=asked.metrics,
            journal=journal,
            executor=executor,
        )
    tell()
    if csv:
        say(f"written: {csv}")


def _tell_at_the_end(tell: Callable[[], None], points: int, csv: Path | None) -> str:
    """What an interrupted sweep has found goes out past Python's buffers, which the end of the process does not empty."""
    if not points:
        return ""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        tell()
    os.write(1, text.getvalue().encode())
    return f"interrupted after {points} points" + (f"; written: {csv}" if csv else "")
