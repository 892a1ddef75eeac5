"""Commands that test claims and explain answers: validate, explain, cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dcsim.cli.answer import give
from dcsim.cli.machine import Batch, Context, Prefill
from dcsim.cli.options import (
    FigureFile,
    Interconnect,
    Json,
    Llm,
    Objective,
    SavedSeed,
    Seed,
    Settings,
    TopologyPath,
    saved_run,
    say,
    with_objective,
    write_picture,
)
from dcsim.interrupt import last_words


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog="Example: dcsim cost runs/1a2b3c4d5e6f --rent rent-a100")(cost)
    app.command(epilog="Example: dcsim validate --only E1")(validate)
    app.command(epilog="Example: dcsim explain topologies/8rack.yaml --batch 1 --context 4096")(explain)


def validate(
    only: Annotated[list[str] | None, typer.Option(help="A row such as E1, or a letter for its group; repeatable.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Compute every row again, stored or not.")] = False,
    measured: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Served jobs that somebody measured (.csv, or vllm bench serve's .json).")
    ] = None,
    llms: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With --measured: where maker--name_config.json of LLMs lie."),
    ] = None,
    sample: Annotated[int, typer.Option(min=0, help="With --measured: so many of its jobs, drawn by --seed; 0: all.")] = 0,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="With --measured: fit the engine's own time to half of the jobs, and no more.")
    ] = False,
    figure: FigureFile = None,
    seed: Seed = 1,
    as_json: Json = False,
) -> None:
    """Test published claims and measurements: each simulated, compared and judged.

    With --measured it is your own cluster's jobs that are run and compared.
    """
    from dcsim.library import beside

    _require_measured(measured, llms=llms, sample=sample, calibrate=calibrate, figure=figure)
    if measured is not None and calibrate:
        jobs = beside("validation.measured.files").read_jobs(measured)
        fitted = beside("validation.measured.calibrate").calibrate(jobs, llms, seed, say)
        give(fitted, lambda rows: typer.echo(beside("validation.measured.page").calibrated(rows)), as_json=as_json, seed=seed)
        return
    if measured is not None:
        with last_words(lambda: "interrupted; jobs run so far are kept in runs/validate/measured"):
            answer = beside("validation.measured.compare").compare(
                measured, llms, sample, seed=seed, stored=not fresh, progress=say
            )
        give(answer, lambda rows: typer.echo(beside("validation.measured.page").table(rows)), as_json=as_json, seed=seed)
        if figure:
            write_picture(beside("validation.measured.page").scatter(answer["rows"]), figure)
        return
    with last_words(lambda: "interrupted; rows computed so far are kept in runs/validate"):
        result = beside("validation.table").validate(only or [], stored=not fresh, progress=say, seed=seed)
    give(result, lambda rows: typer.echo(beside("validation.page").table(rows)), as_json=as_json, seed=seed)


def _require_measured(measured: Path | None, **options: Any) -> None:
    """Options of --measured need it. Raises SpecError for one without."""
    from dcsim.errors import Problem, SpecError

    for name, value in options.items():
        if measured is None and value:
            raise SpecError(Problem(f"--{name}", "says how measured jobs are compared", "name their file with --measured"))


def explain(
    topology: TopologyPath,
    batch: Batch = 1,
    context: Context = None,
    prefill: Prefill = 0,
    llm: Llm = None,
    interconnect: Interconnect = None,
    objective: Objective = None,
    settings: Settings = None,
    metric: Annotated[str, typer.Option(help="iteration_s, tokens_per_s or energy_j.")] = "iteration_s",
    seed: Seed = 1,
    figure: FigureFile = None,
    as_json: Json = False,
) -> None:
    """List every figure in force with its source, and how far the answer moves when it moves by 10 %."""
    from dcsim.cli.report_explain import print_explanation
    from dcsim.errors import SpecError
    from dcsim.spec.load import load
    from dcsim.spec.unused import unused
    from dcsim.study import explain as study
    from dcsim.study.iteration import shape_of

    if metric not in study.METRICS:
        raise SpecError(f"--metric: '{metric}' is not known; use {', '.join(study.METRICS)}")
    resolved = load(topology, llm=llm, network=interconnect, settings=with_objective(settings, objective))
    result = study.explain(resolved, shape_of(batch, context, prefill, resolved.spec.llm), metric, seed)
    give(
        study.as_json(result),
        lambda _: print_explanation(result),
        as_json=as_json,
        seed=seed,
        unused=unused(resolved),
        settings=settings,
    )
    if figure:
        from dcsim.results.pictures import tornado

        write_picture(tornado(study.as_json(result)), figure)


def cost(
    folder: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Run folder; default: the newest in runs/.")] = None,
    prices: Annotated[str | None, typer.Option(help="Price file, or its name in topologies/prices; default: the run's.")] = None,
    rent: Annotated[str | None, typer.Option(help="Price file of a chip hour, to rent instead; such as rent-a100.")] = None,
    seed: SavedSeed = None,
    as_json: Json = False,
) -> None:
    """Say what a saved run's tokens cost: chips bought, at what they cost to build, or rented."""
    from dcsim.cli.report_explain import print_cost
    from dcsim.economics.cost import run_cost

    run = saved_run(folder, seed)
    give(run_cost(run, prices, rent), print_cost, as_json=as_json, seed=run.summary["seed"])
