"""The commands that look after runs: list, filter, compare, remove and export them; and put them in a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dcsim.cli.answer import give, seedless, typed
from dcsim.cli.options import Json, NoSeed, SavedSeed, say, writable


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog="Example: dcsim runs --where 'fabric.racks>=8' --where 'ttft_s_p99<1 s'")(runs)
    app.command(epilog="Example: dcsim report plan.json runs/1a2b3c4d5e6f --out report.html")(report)


def runs(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="The folder of runs.")] = Path("runs"),
    where: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only runs of which this holds; = != < <= > >=; repeatable.")
    ] = None,
    compare: Annotated[
        tuple[str, str] | None, typer.Option(metavar="RUN RUN", help="What differs between two runs, in spec and result.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(metavar="RUN", help="Remove a run, by its name's beginning; repeatable.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write the runs with all keys and metrics: .csv, .json or .parquet.", callback=writable)
    ] = None,
    seed: SavedSeed = None,
    as_json: Json = False,
) -> None:
    """List the runs kept in a folder, filter them by any key or metric, compare two, remove and export.

    What else stands in the folder is named with the reason why it is no run. A run's name is a hash of what it simulates and
    of the code; names may be shortened.
    """
    from dcsim.cli import report_runs
    from dcsim.study import store

    conditions = [store.condition(text) for text in where or ()]
    kept = store.Store(folder)
    if compare is not None:
        pair = [kept.open(name) for name in compare]
        give(store.differences(*pair), report_runs.print_differences, as_json=as_json, seed=seed)
        return
    removed = [kept.open(name).folder.name for name in remove or ()]  # all of them, before any is
    removed = [kept.remove(name) for name in dict.fromkeys(removed)]
    found, skipped = kept.look()
    found = [run for run in store.chosen(found, conditions) if seed is None or run.summary["seed"] == seed]
    content: dict[str, Any] = {
        "folder": str(folder),
        "runs": [store.row(run) for run in found],
        "skipped": [{"name": one.name, "reason": one.reason} for one in skipped],
        "removed": removed,
    }
    if export is not None:
        report_runs.write_rows(store.wide_rows(found), export)
        content["written"] = str(export)
    give(content, report_runs.print_runs, as_json=as_json, seed=seed)
    for one in skipped:
        say(f"skipped: {folder / one.name}: {one.reason}")
    for name in removed:
        say(f"removed: {folder / name}")
    if export is not None:
        say(f"written: {export}")


def report(
    what: Annotated[
        list[str],
        typer.Argument(metavar="RUN|PLAN|SWEEP|COMPARE...", help="Runs; files with the --json of others."),
    ],
    out: Annotated[Path, typer.Option(help="The file to write.", callback=writable)] = Path("report.html"),
    seed: NoSeed = None,
    as_json: Json = False,
) -> None:
    """Write one HTML file that needs no other: figures, tables, sources, limits, and the commands that made it."""
    from dcsim.study.report import report as page
    from dcsim.study.store import RUNS
    from dcsim.writing import write_text

    write_text(out, page(what, RUNS, typed()))
    give({"written": str(out)}, lambda _: say(f"written: {out}"), as_json=as_json, seed=seed, unused=seedless(seed))
