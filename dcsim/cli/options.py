"""Options that several commands share, and how commands speak."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dcsim.errors import Problem, SpecError
from dcsim.writing import require_writable, whole_file

if TYPE_CHECKING:
    from dcsim.results.records import Run

TopologyPath = Annotated[str, typer.Argument(metavar="TOPOLOGY", help="A topology file, or the name of one in the library.")]
Workload = Annotated[str | None, typer.Option(help="Workload file or name; default: the topology's.")]
Llm = Annotated[str | None, typer.Option(help="LLM file, name, or Hugging Face config.json; default: the topology's.")]
Interconnect = Annotated[str | None, typer.Option(help="Network file or name; default: the topology's.")]
Rate = Annotated[
    str | None, typer.Option("--rate", help="Requests in a second, on average, whatever the workload's own: '30/s'.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a dotted key of the spec; repeatable.")
]


def writable(path: Path | None) -> Path | None:
    """Refuse before the work is done what could not be written after it."""
    if path is not None:
        require_writable(path)
    return path


FigureFile = Annotated[Path | None, typer.Option("--figure", help="Write the picture as an .html file.", callback=writable)]


class EngineName(StrEnum):
    """Who may serve, as `engine` in a topology."""

    AUTO, SIMPY, COMPILED = "auto", "simpy", "compiled"


Engine = Annotated[
    EngineName | None,
    typer.Option(help="Who serves: SimPy's processes, their compiled copy (same rows), or auto: SimPy up to 50,000 requests."),
]


class ObjectiveName(StrEnum):
    """What a mapping is searched for, as `mapping.objective` in a topology."""

    CAPACITY, LATENCY, THROUGHPUT, COST = "capacity", "latency", "throughput", "cost"


Objective = Annotated[
    ObjectiveName | None,
    typer.Option(
        help="What degrees that are auto are searched for: the largest rate inside the SLO, the shortest iteration, the most "
        "tokens per second, the fewest USD per token; default: the topology's."
    ),
]


def with_objective(settings: list[str] | None, objective: ObjectiveName | None) -> list[str]:
    """The settings, with the objective of the mapping if one is named."""
    return [*(settings or []), *([f"mapping.objective={objective}"] if objective else [])]


def with_engine(settings: list[str] | None, engine: EngineName | None) -> list[str]:
    """The settings, with the engine if one is named."""
    return [*(settings or []), *([f"engine={engine}"] if engine else [])]


Seed = Annotated[int, typer.Option(min=0, help="Seed of every random stream.")]
NoSeed = Annotated[int | None, typer.Option("--seed", min=0, help="Accepted as everywhere; nothing here is random.")]
SavedSeed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed that the run must have; default: any.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def saved_run(folder: Path | None, seed: int | None) -> Run:
    """The run in `folder`, or the newest in runs/. SpecError if it has another seed than the one asked for."""
    from dcsim.results import records

    run = records.open_run(folder or records.last_run(Path("runs")))
    if seed is not None and run.summary["seed"] != seed:
        raise SpecError(Problem("--seed", f"the run in {run.folder} has seed {run.summary['seed']}", "name another run folder"))
    return run


SIZE_MOST_BYTES = 1 << 50


def bytes_of(text: str, option: str = "--bytes") -> int:
    """A size given with its unit, as whole bytes. SpecError for what is no size, or none that anybody sends."""
    from dcsim.units import DATA, parse_quantity

    try:
        size_bytes = parse_quantity(text, DATA)
    except ValueError as error:
        raise SpecError(Problem(option, str(error))) from error
    if not 1 <= size_bytes <= SIZE_MOST_BYTES:
        raise SpecError(Problem(option, f"'{text}' is no size to send", "at least 1 B, at most 1,024 TiB"))
    return round(size_bytes)


def say(text: str) -> None:
    print(text, file=sys.stderr)


def write_picture(picture: Any, path: Path) -> None:
    """Write a figure as a web page that needs no other file; OutputError where that is not possible."""
    with whole_file(path) as part:
        picture.write_html(part)
    say(f"written: {path}")


class progress_bar:
    """A progress bar with ETA on stderr while the block runs; silent when stderr is not a terminal."""

    def __init__(self, verb: str, noun: str) -> None:
        self._verb, self._noun, self._bar, self._task = verb, noun, None, None  # type: str, str, Any, Any

    def __enter__(self) -> Any:
        if not sys.stderr.isatty():
            return None
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(self._noun),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(self._verb, total=None)
        return lambda done, total: self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
