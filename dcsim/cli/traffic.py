"""`dcsim traffic`: flows over a packet network, as a pattern at once, at given loads, or from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dcsim.cli.answer import give
from dcsim.cli.options import FigureFile, Json, Seed, Settings, bytes_of, say, write_picture
from dcsim.errors import Problem, SpecError
from dcsim.units import TIME, format_bytes, format_time, parse_quantity


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: dcsim traffic --endpoints 64 --pattern uniform --sizes hadoop --load .2,.5,.8")(traffic)


def traffic(
    topology: Annotated[str | None, typer.Argument(metavar="[TOPOLOGY]", help="Default: a three-tier fat tree.")] = None,
    pattern: Annotated[str, typer.Option(help="perm, uniform, adversarial, incast or all_to_all.")] = "perm",
    endpoints: Annotated[
        int | None, typer.Option(min=2, help="Chips that take part: the first so many; default: all, or 1024 of the fat tree.")
    ] = None,
    size: Annotated[str | None, typer.Option("--bytes", help="Size of each flow with unit; default 256KiB.")] = None,
    flows: Annotated[
        Path | None, typer.Option(help="A CSV of flows: source, destination (chips from 0), bytes, start (seconds).")
    ] = None,
    load: Annotated[
        str | None,
        typer.Option(help="Flows start at random and offer so much of what a chip's cables carry: 0.5, or several as .1,.5,.9."),
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(help="Sizes of flows at a load: websearch, hadoop or a file like theirs; default: --bytes.")
    ] = None,
    duration: Annotated[
        str | None, typer.Option(help="How long flows start at a load, as '1 ms'; default: a million packets at the highest.")
    ] = None,
    interconnect: Annotated[
        str | None, typer.Option(help="Network file or name; default: the topology's, or infiniband-hdr.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write flows.csv (each flow's times) and queues.csv (each link's queue over time) there.")
    ] = None,
    settings: Settings = None,
    seed: Seed = 1,
    figure: FigureFile = None,
    as_json: Json = False,
) -> None:
    """Send flows over a packet network: a pattern at once, at random at a load, or those of a file."""
    from dcsim.study import traffic as study

    _check_together(flows, load, size, sizes, duration)
    loads = _loads(load)
    asked = study.FlowsAsked(
        pattern.replace("-", "_"),
        endpoints,
        bytes_of(size or "256KiB"),
        loads,
        sizes,
        None if duration is None else _span_s(duration),
        flows,
    )
    wanted = out is not None or (figure is not None and len(loads) < 2)
    result = study.traffic(
        topology, interconnect, asked, seed, tuple(settings or ()), tables=wanted, progress=None if as_json else say
    )
    tables = {name: result.pop(f"{name}_table") for name in ("flow", "queue") if wanted}
    give(result, print_traffic, as_json=as_json, seed=seed, unused=result["unused_keys"], settings=settings)
    if out is not None:
        _write_tables(out, tables)
    if figure is not None:
        from dcsim.results import pictures

        drawn = pictures.latency_at_load(result["rows"]) if len(loads) > 1 else pictures.queues(tables["queue"])
        write_picture(drawn, figure)


def _check_together(flows: Path | None, load: str | None, size: str | None, sizes: str | None, duration: str | None) -> None:
    problems = []
    at_load = [("--sizes", sizes), ("--duration", duration)]
    if flows is not None:
        others = [("--load", load), ("--bytes", size), *at_load]
        problems += [Problem(name, "the flows of --flows are as they are", "leave it out") for name, value in others if value]
    elif load is None:
        problems += [Problem(name, "says how flows are at a load", "give --load too") for name, value in at_load if value]
    if sizes is not None and size is not None:
        problems.append(Problem("--bytes", "--sizes says how large flows are", "give one of them"))
    if problems:
        raise SpecError(problems)


def _loads(text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        loads = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise SpecError(Problem("--load", f"'{text}' is no list of numbers", "such as 0.5, or .1,.5,.9")) from None
    if not all(0 < load <= 2 for load in loads):
        raise SpecError(Problem("--load", f"'{text}': loads are above 0 and at most 2"))
    return loads


def _span_s(text: str) -> float:
    try:
        span_s = parse_quantity(text, TIME)
    except ValueError as error:
        raise SpecError(Problem("--duration", str(error))) from error
    if not 0 < span_s <= 1e3:
        raise SpecError(Problem("--duration", f"'{text}' is no time to send for", "above 0, at most 1000 s"))
    return span_s


def _write_tables(out: Path, tables: dict[str, Any]) -> None:
    from dcsim.writing import whole_folder

    with whole_folder(out) as work:
        for name, table in tables.items():
            table.to_csv(work / f"{name}s.csv", index=False)


def print_traffic(result: dict[str, Any]) -> None:
    """What the flows took: a table of one simulation, or a row for each load."""
    from dcsim.cli.tables import console

    what = "flows of a file" if result["pattern"] == "file" else f"{result['pattern']} among {result['endpoints']:,} chips"
    console().print(f"{what}, {result['interconnect']} on {result['fabric']}")
    if len(result["rows"]) > 1:
        _print_loads(result)
    else:
        _print_one(result)


def _print_one(result: dict[str, Any]) -> None:
    from dcsim.cli.report_compare import plain_table, print_table
    from dcsim.cli.tables import console

    size = f", {result['sizes']}" if result["sizes"] else ""
    if result["size_bytes"]:
        size = f" of {format_bytes(result['size_bytes'])}"
    loaded = []
    if "load_fraction" in result:
        loaded = [("load", f"{100 * result['load_fraction']:.4g} % offered, {_taken(result)} accepted")]
    rows = [
        ("finished after", format_time(result["finish_s"])),
        *loaded,
        ("flows", f"{result['flows']:,}{size}; p50 {format_time(result['flow_s_p50'])}, p99 {format_time(result['flow_s_p99'])}"),
        (
            "until answered",
            f"p50 {format_time(result['answered_s_p50'])}, p99 {format_time(result['answered_s_p99'])}",
        ),
        ("times alone", f"p50 {result['slowdown_p50']:.3g}, p99 {result['slowdown_p99']:.3g}"),
        ("packets", f"{result['packets']:,}, {result['packet_hops']:,} packet-hops, {result['resent']:,} sent again"),
        (
            "queues",
            f"{format_bytes(result['peak_queue_bytes'])} at most; {result['drops']:,} drops, {result['pauses']:,} pauses, "
            f"{result['marks']:,} marks",
        ),
        ("busiest link", f"{100 * result['link_use_fraction_max']:.1f} % of the time"),
        ("simulated in", f"{format_time(result['wall_s'])}: {result['packet_hops_per_wall_s'] / 1e6:.2f} M packet-hops/s"),
    ]
    table = plain_table("", "")
    for row in rows:
        table.add_row(*row)
    table.show_header = False
    print_table(console(), table)


def _print_loads(result: dict[str, Any]) -> None:
    from dcsim.cli.report_compare import plain_table, print_table
    from dcsim.cli.tables import console

    table = plain_table("load", "accepted", "flows", "p50", "p99", "p99.9", "times alone p50", "p99", "longest queue", "drops")
    for row in result["rows"]:
        table.add_row(
            f"{row['load_fraction']:g}",
            _taken(row),
            f"{row['flows']:,}",
            *(format_time(row[f"flow_s_p{q}"]) for q in ("50", "99", "999")),
            *(f"{row[f'slowdown_p{q}']:.3g}" for q in ("50", "99")),
            format_bytes(row["peak_queue_bytes"]),
            f"{row['drops']:,}",
        )
    print_table(console(), table)


def _taken(row: dict[str, Any]) -> str:
    """What arrived while flows started, in the unit that the load is in."""
    return f"{100 * row['load_fraction'] * row['accepted_bytes_per_s'] / row['offered_bytes_per_s']:.4g} %"
