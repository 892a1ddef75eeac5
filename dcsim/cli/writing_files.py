"""Commands that write and check the files that people edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dcsim.cli.answer import give, seedless
from dcsim.cli.options import Json, Llm, NoSeed, Workload, say


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog="Example: dcsim init mine.yaml --chip h100 --nodes 16 --network infiniband-ndr --llm llama-2-70b")(init)
    app.command(epilog="Example: dcsim check topologies/8rack.yaml")(check)


def init(
    place: Annotated[
        Path, typer.Argument(metavar="DIR|FILE", help="Folder to copy the library to, or a topology to write: mine.yaml.")
    ],
    chip: Annotated[str | None, typer.Option(help="Of a topology to write: its chip.")] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="How many nodes of them.")] = None,
    network: Annotated[str | None, typer.Option("--network", "--interconnect", help="What joins them.")] = None,
    llm: Llm = None,
    workload: Workload = None,
    node: Annotated[str | None, typer.Option(help="Which node; default: as the library has the chip.")] = None,
    host: Annotated[str | None, typer.Option(help="Which host server; default: as the library has the chip.")] = None,
    seed: NoSeed = None,
    as_json: Json = False,
) -> None:
    """Copy the topologies and workloads into a folder for editing, or write one short topology that runs.

    Commands run in that folder use the copies. A file that ends in .yaml is written from --chip and --nodes; it names the JSON
    Schema that editors check it by.
    """
    from dcsim.errors import Problem, SpecError

    if place.suffix in (".yaml", ".yml"):
        from dcsim.study.template import TopologyTemplate, write_topology

        if chip is None:
            raise SpecError(Problem("--chip", "is not given", "for example --chip h100 --nodes 16 --network infiniband-ndr"))
        result = write_topology(place, TopologyTemplate(chip, nodes or 1, network, llm, workload, node, host))
    else:
        given = {"--chip": chip, "--nodes": nodes, "--network": network, "--llm": llm, "--workload": workload}
        own = [option for option, value in given.items() if value is not None]
        if own:
            raise SpecError(
                Problem(own[0], f"is of a topology to write, and {place} is a folder", "name a file, such as mine.yaml")
            )
        from dcsim.library import copy_data

        result = {"made": [str(target) for target in copy_data(place)]}

    def show(_: Any) -> None:
        for target in result["made"]:
            say(f"made {target}")

    give(result, show, as_json=as_json, seed=seed, unused=seedless(seed))


def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A topology, workload, sweep, table of requests or LLM config.")],
    seed: NoSeed = None,
    as_json: Json = False,
) -> None:
    """Check a file: every mistake at once, each with its line and how to mend it; exit code 2 if there is any."""
    from dcsim.study.check import check_file

    result = check_file(file)

    def show(_: Any) -> None:
        if result["ok"]:
            named = ("llm", "interconnect", "chips", "workload")
            of = ", ".join(f"{key} {result[key]}" for key in named if key in result)
            typer.echo(f"{file}: a {result['kind']} without a mistake" + (f" ({of})" if of else ""))
        for one in result["problems"]:
            say(f"error: {one['where']}: {one['what']}" + (f"; {one['mend']}" if one["mend"] else ""))

    give(result, show, as_json=as_json, seed=seed, unused=seedless(seed))
    if not result["ok"]:
        raise typer.Exit(2)
