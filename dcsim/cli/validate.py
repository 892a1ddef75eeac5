"""Commands that test claims and explain answers: validate, explain, sweep, plan, cost."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from dcsim.cli.answer import give
from dcsim.cli.machine import Batch, Context, Prefill
from dcsim.cli.options import (
    Engine,
    FigureFile,
    Interconnect,
    Json,
    Llm,
    SavedSeed,
    Seed,
    Settings,
    TopologyPath,
    progress_bar,
    saved_run,
    say,
    with_engine,
    writable,
    write_picture,
)
from dcsim.interrupt import last_words

Rate = Annotated[float, typer.Option(min=0.0, help="Output tokens per second the fleet must give.")]
Speed = Annotated[float, typer.Option(min=0.0, help="Tokens per second each user must get.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog="Example: dcsim cost runs/1a2b3c4d5e6f --rent rent-a100")(cost)
    app.command(epilog="Example: dcsim validate --only E1")(validate)
    app.command(epilog="Example: dcsim explain topologies/8rack.yaml --batch 1 --context 4096")(explain)
    app.command(epilog="Example: dcsim sweep topologies/8rack.yaml --set-range mapping.tp=8,16,32 --metric iteration_s")(sweep)
    app.command(epilog="Example: dcsim plan topologies/8rack.yaml --tokens-per-s 25e6 --tokens-per-s-per-user 250")(plan)


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
    resolved = load(topology, llm=llm, network=interconnect, settings=settings or [])
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


def sweep(
    topology: TopologyPath,
    set_range: Annotated[list[str], typer.Option(metavar="KEY=V,V", help="Values of a dotted key; repeat for a grid.")],
    metric: Annotated[list[str] | None, typer.Option(help="Metrics to show; default: a few.")] = None,
    zoom: Annotated[str, typer.Option(help="iteration: time one iteration; run: serve the workload.")] = "iteration",
    batch: Batch = 1,
    context: Context = None,
    prefill: Prefill = 0,
    llm: Llm = None,
    interconnect: Interconnect = None,
    settings: Settings = None,
    engine: Engine = None,
    seed: Seed = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes; the rows do not depend on it.")] = 1,
    csv: Annotated[Path | None, typer.Option(help="Write all metrics as CSV.", callback=writable)] = None,
    as_json: Json = False,
) -> None:
    """Time or run every combination of the given values."""
    from dcsim.cli.report_explain import print_rows, write_csv
    from dcsim.errors import SpecError
    from dcsim.spec.unused import Keys, unused_of
    from dcsim.study import sweep as study

    if zoom not in ("iteration", "run"):
        raise SpecError(f"--zoom: '{zoom}' is not known; use iteration or run")
    case = study.Case(
        topology, tuple(with_engine(settings, engine)), interconnect, llm, batch, context, prefill, zoom == "run", seed
    )
    ranges = [study.parse_range(text) for text in set_range]
    kept: dict[int, dict[str, Any]] = {}
    keys: list[Keys] = []

    def tell() -> None:
        rows = [kept[index] for index in sorted(kept)]
        try:
            shown = study.pick(rows, [key for key, _ in ranges], metric or study.SHOWN[zoom])
            give(
                {"rows": shown if metric else rows},
                lambda _: print_rows(shown),
                as_json=as_json,
                seed=seed,
                unused=unused_of(keys, set_range),
                settings=settings,
            )
        finally:
            if csv:
                write_csv(rows, csv)

    with progress_bar("sweeping", "points") as progress, last_words(lambda: _tell_at_the_end(tell, len(kept), csv)):
        study.sweep(case, ranges, jobs, progress, kept, keys)
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


def plan(
    topology: TopologyPath,
    tokens_per_s: Rate,
    tokens_per_s_per_user: Speed,
    context: Context = None,
    llm: Llm = None,
    interconnect: Interconnect = None,
    settings: Settings = None,
    prices: Annotated[
        str | None, typer.Option(help="Price file, or its name in topologies/prices; default: the topology's.")
    ] = None,
    seed: Seed = 1,
    as_json: Json = False,
) -> None:
    """Say how many chips and racks, how much power and money, a rate at a speed per user takes."""
    from dcsim.cli.report_explain import print_plan
    from dcsim.spec.load import load
    from dcsim.spec.unused import unused
    from dcsim.study import plan as study

    priced = [*(settings or ()), *([f"network.prices={prices}"] if prices else [])]
    resolved = load(topology, llm=llm, network=interconnect, settings=priced)
    result = study.plan(
        resolved, tokens_per_s=tokens_per_s, tokens_per_s_per_user=tokens_per_s_per_user, context=context, seed=seed
    )
    give(result, print_plan, as_json=as_json, seed=seed, unused=unused(resolved), settings=settings)
