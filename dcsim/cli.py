"""The command line: thin, results on stdout, everything else on stderr. Nothing heavy is imported until needed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dcsim.errors import DcsimError, SpecError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="What do I build to serve this LLM to this traffic at this speed per user?",
)

TopologyPath = Annotated[str, typer.Argument(metavar="TOPOLOGY", help="A topology file, or the name of one in the library.")]
Workload = Annotated[str | None, typer.Option(help="Workload file or name; default: the topology's.")]
Llm = Annotated[str | None, typer.Option(help="LLM file, name, or Hugging Face config.json; default: the topology's.")]
Interconnect = Annotated[str | None, typer.Option(help="Network file or name; default: the topology's.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a dotted key of the spec; repeatable.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every random stream.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback for errors.")] = False,
) -> None:
    if version:
        from dcsim import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.command(epilog="Example: dcsim run topologies/8rack.yaml --rate-scale 20 --set mapping.tp=8")
def run(
    topology: TopologyPath, workload: Workload = None, llm: Llm = None, interconnect: Interconnect = None,
    settings: Settings = None,
    duration: Annotated[str | None, typer.Option(help="Serve only requests that arrive before this time, e.g. '10 min'.")] = None,
    rate_scale: Annotated[float | None, typer.Option(help="Let requests come this many times as fast.")] = None,
    seed: Seed = 1,
    out: Annotated[Path | None, typer.Option(help="Run folder to write; default: runs/<hash>.")] = None,
    as_json: Json = False,
) -> None:
    """Serve a workload on a cluster and report speed, tails, power and what limits it."""
    from dcsim.study import scenario

    case = scenario.load(
        topology, llm=llm, workload=workload, interconnect=interconnect, set=settings or [],
        duration=duration, rate_scale=rate_scale,
    )
    with _progress("serving", "requests") as progress:
        result = case.run(seed, out, save=True, progress=progress)
    if as_json:
        _print_json(result.summary)
    else:
        from dcsim.report import print_run

        print_run(result)
    for key in result.meta["unread"]:
        _say(f"no effect in this run: {key}")
    _say(f"run folder: {result.folder}")


@app.command(epilog="Example: dcsim dashboard --port 8050")
def dashboard(
    folder: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Run folder; default: the newest in runs/.")] = None,
    port: Annotated[int, typer.Option(help="Port on the loopback interface.")] = 8050,
) -> None:
    """Open the last run in a web page on this machine (needs the `dashboard` extra)."""
    from dcsim import records
    from dcsim.library import dashboard_app

    run_folder = folder or records.last_run(Path("runs"))
    records.open_run(run_folder)
    make_app = dashboard_app()
    _say(f"dashboard on http://127.0.0.1:{port} (Ctrl-C to stop)")
    make_app(run_folder).run(host="127.0.0.1", port=port, debug=False)


def main() -> None:
    """Entry point: a DcsimError becomes one clear message and exit code 2; Ctrl-C exits with 130."""
    try:
        app(standalone_mode=False)
    except DcsimError as error:
        if "--debug" in sys.argv:
            raise
        for line in str(error).splitlines():
            _say(f"error: {line}")
        sys.exit(2)
    except typer.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        _say("interrupted; nothing was written")
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # click's own usage errors
            _say(f"error: {error.format_message()}")
            sys.exit(2)
        raise


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, allow_nan=False))


class _progress:
    """A progress bar with ETA on stderr while the block runs; silent when stderr is not a terminal."""

    def __init__(self, verb: str, noun: str) -> None:
        self._verb, self._noun, self._bar, self._task = verb, noun, None, None  # type: str, str, Any, Any

    def __enter__(self) -> Any:
        if not sys.stderr.isatty():
            return None
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(self._noun), TimeRemainingColumn()]
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._bar.start()
        self._task = self._bar.add_task(self._verb, total=None)
        return lambda done, total: self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


__all__ = ["SpecError", "app", "main"]
