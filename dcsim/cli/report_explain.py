"""Explanations, sweeps and plans as tables a person likes to read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcsim.cli.tables import console, counted, idle_row, network_text, print_search, pue_text, search_rows, what_ran
from dcsim.units import format_power, format_time

if TYPE_CHECKING:
    from dcsim.study.explain import Effect, Explanation

ROWS_SHOWN = 20  # a tornado's longest bars; the rest is summed up in a line
BAR = 24  # characters of the longest bar


def print_explanation(result: Explanation) -> None:
    """The tornado, the widest bars with their sources; then the figures that move less, cannot move or move nothing."""
    answer = result.answer[result.metric]
    moving = [effect for effect in result.effects if effect.swing(result.metric) > 0]
    stuck = [effect for effect in result.effects if effect.low is None or effect.high is None]
    still = [effect for effect in result.effects if effect not in moving and effect not in stuck]
    out = console()
    out.print(what_ran(result.terms))
    print_search(out, result.terms)
    out.print(f"{result.metric} {answer:.6g}; each figure 10 % lower and higher, the mapping held; % of the answer for 1 %")
    widest = moving[0].swing(result.metric) if moving else 1.0
    width = max(34, *(len(effect.key) + 2 for effect in moving[:ROWS_SHOWN]), 0)
    for effect in moving[:ROWS_SHOWN]:
        bar = "█" * max(1, round(BAR * effect.swing(result.metric) / widest))
        elasticity = effect.elasticity(result.metric, answer)
        out.print(f"{effect.key:<{width}}{effect.value!s:<14}{effect.kind:<11}{elasticity:+.4f} {bar}")
        out.print(f"    {_source(effect)}", style="dim")
    for label, effects in (("also, less", moving[ROWS_SHOWN:]), ("cannot move by a tenth", stuck), ("no effect", still)):
        if effects:
            out.print(f"{label}: {', '.join(effect.key for effect in effects)}")


def _source(effect: Effect) -> str:
    span = f" [{effect.range[0]} to {effect.range[-1]}]" if effect.range else ""
    return f"{effect.source}{span}"


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """A sweep's rows as a table; what cannot be built says why."""
    from rich.table import Table

    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name != "error"]
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, justify="right")
    if any("error" in row for row in rows):
        table.add_column("", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in names), *([row["error"]] if "error" in row else []))
    console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def write_csv(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """All rows and all columns; a missing value is empty."""
    import csv

    from dcsim.writing import whole_file

    names = list(dict.fromkeys(name for row in rows for name in row))
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def print_plan(result: dict[str, Any]) -> None:
    """What to build, the frontier it was chosen from, and what the answer leaves out."""
    from rich.table import Table

    out = console()
    out.print(
        f"{result['llm']} on {result['topology']} clusters ({network_text(result)}, tp {result['tp']}, "
        f"pp {result['pp']}), context {result['context']}"
    )
    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_row("rate", f"{result['tokens_per_s']:,.0f} tokens/s at {result['tokens_per_s_per_user']:.4g} tokens/s per user")
    grid.add_row(
        "one replica",
        f"{result['tokens_per_s_per_replica']:,.0f} tokens/s, {result['concurrency_per_replica']} "
        f"sequences: {result['micro_batches']} micro-batches of {result['batch']}",
    )
    switch_racks = result["parts"]["switch_racks"]
    grid.add_row(
        "build",
        f"{counted(result['clusters'], 'cluster')}, {counted(result['replicas'], 'replica')}, "
        f"{counted(result['chips'], 'chip')}, {counted(result['racks'], 'rack')}"
        f"{f' and {switch_racks:,} of switches' if switch_racks else ''}",
    )
    grid.add_row(
        "power",
        f"{format_power(result['power_w'])} at the site's meter, {result['energy_j_per_token']:.4g} J per token; "
        f"{pue_text(result)}",
    )
    for row in (*idle_row(result), *search_rows(result)):
        grid.add_row(*row)
    for basis, money in result["money"].items():
        grid.add_row(
            f"money ({basis})",
            f"{money['capital_usd'] / 1e6:,.4g} M USD, {money['usd_per_h']:,.0f} USD/h, "
            f"{money['usd_per_mtoken']:.4g} USD per million tokens",
        )
    out.print(grid)
    table = Table("tokens/s per user", "tokens/s per chip", "sequences", "J per token", "round", box=None, pad_edge=False)
    for load in result["frontier"]:
        table.add_row(
            f"{load['tokens_per_s_per_user']:.4g}",
            f"{load['tokens_per_s_per_chip']:.4g}",
            str(load["concurrency"]),
            f"{load['energy_j_per_token']:.4g}",
            format_time(load["interval_s"]),
        )
    out.print(table)
    for line in result["assumes"]:
        out.print(f"assumes: {line}")


def print_power(result: dict[str, Any]) -> None:
    """The parts by load, the meters by level, and how a rack's draw moves in lock step."""
    from rich.table import Table

    out, loads = console(), result["loads"]
    out.print(
        f"{result['llm']} on {result['topology']} ({network_text(result)}), batch {result['batch']}, "
        f"context {result['context']}; full: {result['micro_batches_full']} micro-batches in every replica"
    )
    table = Table("", *(load["load"] for load in loads), box=None, pad_edge=False)
    for name in loads[0]["parts_w"]:
        table.add_row(name, *(format_power(load["parts_w"][name]) for load in loads))
    for index, level in enumerate(loads[0]["levels"]):
        label = f"{level['level']} (1 of {level['count']})" if level["count"] > 1 else level["level"]
        table.add_row(label, *(format_power(load["levels"][index]["power_w_max"]) for load in loads), style="bold")
    out.print(table)
    for load in loads[1:]:
        out.print(
            f"lock step, {load['load']}: a rack swings by {format_power(load['rack_swing_w'])} every "
            f"{format_time(load['period_s'])}, at most {load['rack_rise_w_per_s'] / 1e6:.4g} W per us"
        )
    out.print(f"a rack's chips entering a program at once: +{format_power(loads[-1]['rack_start_w'])}")
    for label, text in idle_row(result):
        out.print(f"{label}: {text}")
    print_search(out, result)
    out.print(pue_text(result))


def print_cost(result: dict[str, Any]) -> None:
    """USD per million tokens on each basis, term by term; the bill; what moves the answer."""
    from rich.table import Table

    out, bases = console(), result["bases"]
    out.print(f"{result['run']}, prices {result['prices']}; at the run's load, whatever stood idle included")
    if result["power_w_mean"] is not None:
        out.print(f"power {format_power(result['power_w_mean'])} at the site's meter, {pue_text(result)}")
    table = Table("", *bases, box=None, pad_edge=False)
    for label, key in (
        ("USD per million tokens", "usd_per_mtoken"),
        ("USD/h", "usd_per_h"),
        ("capital, USD", "capital_usd"),
        ("capital per user's token/s", "usd_per_user_speed"),
        ("capital per token/s", "usd_per_throughput"),
    ):
        table.add_row(label, *(_cell(bases[basis][key]) for basis in bases))
    for term in dict.fromkeys(term for basis in bases.values() for term in basis["terms"]):
        table.add_row(f"  {term}", *(_cell(bases[basis]["terms"].get(term)) for basis in bases))
    out.print(table)
    for line in bases["buy"]["lines"]:
        out.print(f"{line['count']:>8,} {line['item']:<14}{line['unit_usd']:>10,.0f} USD  {line['kind']}: {line['source']}")
    moving = ", ".join(f"{bar['parameter']['name']} {bar['elasticity']:+.2f}" for bar in bases["buy"]["sensitivities"][:5])
    out.print(f"bought: % of USD per million tokens for 1 % of a figure: {moving}")
