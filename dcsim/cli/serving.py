"""Commands that serve traffic and look at runs."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from dcsim.cli.answer import give, seedless
from dcsim.cli.options import (
    Engine,
    FigureFile,
    Interconnect,
    Json,
    Llm,
    Objective,
    Rate,
    SavedSeed,
    Seed,
    Settings,
    TopologyPath,
    Workload,
    progress_bar,
    saved_run,
    say,
    with_engine,
    with_objective,
    writable,
    write_picture,
)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog="Example: dcsim run topologies/8rack.yaml --rate-scale 20 --set mapping.tp=8")(run)
    app.command(epilog="Example: dcsim capacity topologies/8rack.yaml --set slo.ttft='1 s'")(capacity)
    app.command(epilog="Example: dcsim repeat topologies/8rack.yaml --seeds 5 --workload day --duration '1 h'")(repeat)
    app.command(epilog="Example: dcsim workload workloads/chat.yaml --figure chat.html")(workload)
    app.command(epilog="Example: dcsim export --format perfetto --first 0 --count 500 --out trace.json")(export)
    app.command(epilog="Example: dcsim dashboard --port 8050")(dashboard)


class Zoom(StrEnum):
    """How closely a run is looked at."""

    SERVICE, CHIPS = "service", "chips"


def run(
    topology: TopologyPath,
    workload: Workload = None,
    llm: Llm = None,
    interconnect: Interconnect = None,
    settings: Settings = None,
    duration: Annotated[str | None, typer.Option(help="Serve only requests that arrive before this time, e.g. '10 min'.")] = None,
    rate_scale: Annotated[float | None, typer.Option(help="Let requests come this many times as fast.")] = None,
    rate: Rate = None,
    objective: Objective = None,
    engine: Engine = None,
    seed: Seed = 1,
    out: Annotated[Path | None, typer.Option(help="Run folder to write; default: runs/<hash>.")] = None,
    rounds: Annotated[bool, typer.Option("--rounds", help="Keep every round of every replica, for `dcsim export`.")] = False,
    zoom: Annotated[
        Zoom, typer.Option(help="chips: every chip and link carries every round out, with a timeline; for short workloads.")
    ] = Zoom.SERVICE,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run it again though runs/ has it.")] = False,
    as_json: Json = False,
) -> None:
    """Serve a workload on a cluster and report speed, tails, power and what limits it.

    Hosts, replicas, racks, users and faults are SimPy processes; beyond 50,000 requests a compiled copy of them gives the same
    rows (--engine). With --zoom chips so is every chip and link, on its own drifting clock.
    """
    from dcsim.cli.tables import print_run
    from dcsim.study import scenario
    from dcsim.study.serve import ENGINE_KEYS, WHAT_RAN

    case = scenario.load(
        topology,
        llm=llm,
        workload=workload,
        interconnect=interconnect,
        set=with_engine(with_objective(settings, objective), engine),
        duration=duration,
        rate_scale=rate_scale,
        rate=rate,
    )
    with progress_bar("serving", "iterations" if zoom == Zoom.CHIPS else "requests") as progress:
        result = case.run(seed, out, save=True, progress=progress, rounds=rounds, zoom=zoom.value, fresh=fresh)
    give(
        result.summary | {key: result.meta[key] for key in (*WHAT_RAN, *ENGINE_KEYS)},
        lambda _: print_run(result),
        as_json=as_json,
        seed=seed,
        unused=case.unused(result),
        settings=settings,
    )
    say(f"run folder: {result.folder}" + (" (as it was; --fresh runs it again)" if result.reused else ""))


def repeat(
    topology: TopologyPath,
    workload: Workload = None,
    llm: Llm = None,
    interconnect: Interconnect = None,
    settings: Settings = None,
    duration: Annotated[str | None, typer.Option(help="Serve only requests that arrive before this time.")] = None,
    rate: Rate = None,
    objective: Objective = None,
    engine: Engine = None,
    seeds: Annotated[int, typer.Option(min=2, max=1000, help="How many seeds, from --seed on.")] = 5,
    seed: Seed = 1,
    as_json: Json = False,
) -> None:
    """Serve a random workload with several seeds and give each metric with its confidence interval."""
    from dcsim.cli.tables import print_repeat
    from dcsim.spec.unused import unused
    from dcsim.study import repeat as study
    from dcsim.study.scenario import load

    case = load(
        topology,
        llm=llm,
        workload=workload,
        interconnect=interconnect,
        set=with_engine(with_objective(settings, objective), engine),
        duration=duration,
        rate=rate,
    )
    with progress_bar("serving", "seeds") as progress:
        result = study.repeat(case.resolved, seeds, seed, progress)
    give(result, print_repeat, as_json=as_json, seed=seed, unused=unused(case.resolved), settings=settings)


def workload(
    name: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help="A workload file, the name of one in the library, or a table of requests.")
    ],
    rate: Rate = None,
    settings: Settings = None,
    seed: Seed = 1,
    figure: FigureFile = None,
    as_json: Json = False,
) -> None:
    """Describe a workload: rate, peaks, burstiness over 1, 10 and 60 s, lengths."""
    from dcsim.cli.tables import print_workload
    from dcsim.study import workload as study

    result = study.workload(name, seed, settings or [], rate)
    give(result, print_workload, as_json=as_json, seed=seed, unused=result["unused_keys"], settings=settings)
    if figure:
        from dcsim.results.pictures import arrivals

        write_picture(arrivals(result["rate_over_time"]), figure)


def export(
    out: Annotated[Path, typer.Option(help="File to write.", callback=writable)],
    folder: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Run folder; default: the newest in runs/.")] = None,
    form: Annotated[str, typer.Option("--format", help="vllm: its benchmark's result file; perfetto: a timeline.")] = "vllm",
    first: Annotated[int, typer.Option(min=0, help="Timeline: the first request shown.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="Timeline: how many requests are shown.")] = 10_000,
    seed: SavedSeed = None,
    as_json: Json = False,
) -> None:
    """Write a saved run for other tools.

    The timeline (for ui.perfetto.dev) shows each request's host, queue, prefill and decode, and each replica's rounds where
    the run kept them (dcsim run --rounds).
    """
    import json

    from dcsim.errors import RunStoreError, SpecError
    from dcsim.reading import reading
    from dcsim.results import export as forms
    from dcsim.writing import write_text

    timeline = partial(forms.timeline, first=first, count=count)
    writers: dict[str, Callable[..., Any]] = {"vllm": forms.vllm_result, "perfetto": timeline}
    if form not in writers:
        raise SpecError(f"--format: '{form}' is not known; use {' or '.join(writers)}")
    run = saved_run(folder, seed)
    with reading(run.folder, RunStoreError):
        total = run.summary["requests_in"]
        if first and first >= total:
            raise SpecError(f"--first: there is no request {first:,}; the run has {total:,}, counted from 0")
        content = json.dumps(writers[form](run))
    write_text(out, content)
    if form == "perfetto" and (first or count < total):
        say(f"requests {first:,} to {min(first + count, total) - 1:,} of {total:,}; choose others with --first and --count")
    written = {"run": str(run.folder), "format": form, "written": str(out)}
    give(written, lambda _: say(f"written: {out}"), as_json=as_json, seed=run.summary["seed"])


def capacity(
    topology: TopologyPath,
    workload: Workload = None,
    llm: Llm = None,
    interconnect: Interconnect = None,
    rate: Rate = None,
    settings: Settings = None,
    objective: Objective = None,
    engine: Engine = None,
    seed: Seed = 1,
    as_json: Json = False,
) -> None:
    """Find the largest rate of requests that still meets the SLO's p99, and what limits it."""
    from dcsim.cli.tables import print_capacity
    from dcsim.spec.unused import unused
    from dcsim.study import capacity as study
    from dcsim.study.scenario import load

    resolved = load(
        topology,
        llm=llm,
        workload=workload,
        interconnect=interconnect,
        set=with_engine(with_objective(settings, objective), engine),
        rate=rate,
    ).resolved
    result = study.capacity(
        resolved, seed, progress=lambda t: say(f"{t['rate_scale']:.3g} x the rate: {'holds' if t['holds'] else 'misses'} the SLO")
    )
    give(result, print_capacity, as_json=as_json, seed=seed, unused=unused(resolved), settings=settings)


def dashboard(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[RUNS]", help="Folder of run folders, or one run folder; default: runs.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but loopback asks visitors for a token.", show_default="127.0.0.1")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free one.")] = 8050,
    token: Annotated[str | None, typer.Option(help="Token that visitors need; default: a new one where one is needed.")] = None,
    seed: SavedSeed = None,
    as_json: Json = False,
) -> None:
    """Serve pages on this machine: compare networks, look at runs, schedules and topologies (needs the `dashboard` extra).

    Starts without a run, too. Comparisons and runs asked for in a page are computed in the background and kept in RUNS.
    """
    from dcsim.errors import Problem, SpecError
    from dcsim.library import beside

    if folder is not None and folder.exists() and not folder.is_dir():
        raise SpecError(Problem(str(folder), "is a file", "name a folder of runs, which may be empty"))
    shown = saved_run(folder, seed) if folder is not None and (folder / "meta.json").exists() else None
    store = shown.folder.parent if shown else folder or Path("runs")
    serving = beside("dashboard.server").serve(store, host, port, token)
    url = serving.url + (f"/run?run={shown.folder.name}" if shown else "")
    if serving.token and not shown:
        url = f"{serving.url}/?token={serving.token}"
    content = {"store": str(store), "run": str(shown.folder) if shown else None, "url": url, "token": serving.token}
    of_run, unused = (shown.summary["seed"], {}) if shown else (None, seedless(seed))
    give(content, lambda _: say(f"dashboard on {url} (Ctrl-C to stop)"), as_json=as_json, seed=of_run, unused=unused)
    serving.run()
