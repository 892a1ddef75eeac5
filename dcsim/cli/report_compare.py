"""Comparisons of interconnects as tables."""

from __future__ import annotations

from typing import Any

from dcsim.cli.tables import console, idle_row, search_rows
from dcsim.units import format_bytes, format_power, format_time

PART_MEANING = {
    "compute": "operations and sums on chips",
    "software": "library calls",
    "jitter": "the host's delays",
    "switch": "adapters, switches, link interfaces",
    "wire": "cables",
    "serialisation": "bytes clocked out",
    "queueing": "behind others' bytes",
    "slowest": "waiting for the slowest message",
    "other": "not attributed",
}

FAIRNESS = {
    "equal_bandwidth": "a chip has its own cables' bandwidth, striped perfectly over bonded ports",
    "equal_radix": "a chip has as many adapters as cables, at the network's port speed",
    "pcie": "a chip has one adapter behind its bus",
    "equal_cost": "adapters and switch ports cost what the chips' own cables do",
}


OBJECTIVES = {
    "capacity": "the largest rate inside the SLO",
    "latency": "the lowest latency",
    "throughput": "the most tokens per second",
    "cost": "the fewest USD per token",
}


def print_compare(result: dict[str, Any]) -> None:
    """Times, the waterfall, what joins the chips, and the rest."""
    out = console()
    what = f"{result['new_tokens']} prompt tokens" if result["new_tokens"] > 1 else f"batch {result['batch']}"
    rows = result["candidates"]
    objectives = dict.fromkeys(row["objective"] for row in rows)
    if len(objectives) == 1:
        out.print(
            f"{result['llm']} on {result['chips_used']} chips (tp {result['tp']}, pp {result['pp']}; mapping: "
            f"{result['mapping']}), {what} at context {result['context']}"
        )
    else:
        out.print(f"{result['llm']}, {what} at context {result['context']}; each with its own mapping")
    for objective in objectives:
        own = [row for row in rows if row["objective"] == objective]
        if len(objectives) > 1:
            out.print(f"for {OBJECTIVES[objective]}:")
        for table in (_times(own, own_mapping=len(objectives) > 1), _waterfall(own)):
            print_table(out, table)
        _print_searches(out, own)
    print_table(out, _plant(rows))
    for line in _incidents(rows):
        out.print(line, soft_wrap=True)
    for label, text in idle_row(result):
        out.print(f"{label}: {text}", soft_wrap=True)
    out.print("network's: share of p99 beyond an ideal network, which takes no time but for its cables", soft_wrap=True)
    if result["gpu_library"]:
        out.print(
            f"{result['gpu_library']}: what a GPU's library would cost; these chips have no kernels to run it", soft_wrap=True
        )
    if result["fairness"]:
        out.print(f"fairness {result['fairness']}: {FAIRNESS[result['fairness']]}; prices: {result['prices']}", soft_wrap=True)
    if result["jitter"] not in (None, "off"):
        out.print(f"jitter {result['jitter']}: {result['jitter_description']}", soft_wrap=True)
    _print_correlation(out, rows)
    for reason in result["identical"]:
        out.print(reason)
    if "users" in result:
        print_table(out, _users(result["users"]))


def _print_searches(out: Any, rows: list[dict[str, Any]]) -> None:
    """How each mapping was found: the winner, the next best, what binds it and numbers of stages nearby that change much.

    A network's libraries that have one mapping share a line.
    """
    libraries: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        text = "; ".join(text for _, text in search_rows(row))
        where = f"{row['chips']:,} chips, {row['interconnect']}" if "chips" in row else str(row["interconnect"])
        libraries.setdefault((where, text), []).append(row["software"] or "")
    for (where, text), names in libraries.items():
        if text:
            out.print(f"{where} {', '.join(names)}".strip() + f": {text}", soft_wrap=True)


def _print_correlation(out: Any, rows: list[dict[str, Any]]) -> None:
    """How alike successive iterations are, and what chance alone would show."""
    varying = [row for row in rows if row["iteration_s_interval"] > 1e-4 * row["iteration_s_mean"]]
    known = [row for row in varying if row["correlation_next"] is not None]
    if known:
        low, high = (pick(row["correlation_next"] for row in known) for pick in (min, max))
        chance = max(1.96 / row["replications"] ** 0.5 for row in known)
        out.print(f"correlation of an iteration with the next: {low:.2f} to {high:.2f}; chance alone: +-{chance:.2f}")


def plain_table(*columns: str) -> Any:
    """A table without lines, numbers to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    return table


def print_table(out: Any, table: Any) -> None:
    """Print a table; where it is too wide, with one space between its columns."""
    if out.measure(table, options=out.options.update(width=10 * out.width)).maximum > out.width:
        table.padding = (0, 1, 0, 0)
    out.print(table)


def _label(row: dict[str, Any]) -> str:
    return f"{row['interconnect']} {row['software']}" if row["software"] else str(row["interconnect"])


def _times(rows: list[dict[str, Any]], own_mapping: bool) -> Any:
    """A line for each candidate; its mapping in place of p99.9 where each has its own."""
    names = ["interconnect, library", "iteration", "+-", "p99", "network's", "p99.9", "tokens/s/user", "x first"]
    table = plain_table(*["tp x pp" if name == "p99.9" and own_mapping else name for name in names])
    for row in rows:
        table.add_row(
            _label(row),
            format_time(row["iteration_s_mean"]),
            format_time(row["iteration_s_interval"], 2),
            format_time(row["iteration_s_p99"]),
            _share(row["network_p99_fraction"]),
            f"{row['tp']} x {row['pp']}" if own_mapping else format_time(row["iteration_s_p999"]),
            f"{row['tokens_per_s_per_user']:,.1f}",
            f"{row['slower_than_first_ratio']:.3f}",
        )
    return table


def _incidents(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each of drops, pauses and other traffic, if there are any, with the rows that have them."""
    lines = []
    for name in ("drops", "pauses"):
        counted = [f"{_label(row)} {row[name]:,}" for row in rows if row[name]]
        lines += [f"{name}: {', '.join(counted)}"] if counted else []
    key = "background_fraction_max"
    shared = dict.fromkeys(f"{row['interconnect']} {_share(row[key])}" for row in rows if row[key])
    return [*lines, f"other traffic on the busiest link: {', '.join(shared)}"] if shared else lines


def _waterfall(rows: list[dict[str, Any]]) -> Any:
    parts = [part for part in PART_MEANING if any(row["waterfall_s"][part] for row in rows)]
    table = plain_table("in us", *parts, "sum")
    for row in rows:
        seconds = [row["waterfall_s"][part] for part in parts]
        table.add_row(_label(row), *(_us(value) for value in [*seconds, sum(seconds)]))
    return table


def _us(value_s: float) -> str:
    """Microseconds, with tenths below a thousand."""
    value = 1e6 * value_s
    return f"{value:,.0f}" if value >= 999.95 else f"{value:.1f}"


def _plant(rows: list[dict[str, Any]]) -> Any:
    table = plain_table("what joins the chips", "adapters", "switch ports", "cables", "power", "k USD", "ports a chip", "it has")
    shown: set[str] = set()
    for row in rows:
        if row["interconnect"] not in shown:
            shown.add(row["interconnect"])
            table.add_row(
                row["interconnect"],
                f"{row['adapters']:,}",
                f"{row['switch_ports']:,}",
                f"{row['cables']:,}",
                format_power(row["network_w"]),
                f"{row['network_usd'] / 1000:,.1f}",
                f"{row['ports_per_chip']:.3g}",
                f"{format_bytes(row['chip_bytes_per_s'])}/s" if row["chip_bytes_per_s"] else "-",
            )
    return table


def _users(rows: list[dict[str, Any]]) -> Any:
    table = plain_table(
        "what users see", "p99 TTFT", "network's", "p99 TPOT", "network's", "chips for the SLO", "cables", "watts"
    )
    for row in rows:
        table.add_row(
            _label(row),
            _time(row["ttft_s_p99"]),
            _share(row["network_ttft_p99_fraction"]),
            _time(row["tpot_s_p99"]),
            _share(row["network_tpot_p99_fraction"]),
            _times_as(row["headroom_chips"]),
            _times_as(row["headroom_cables"]),
            _times_as(row["headroom_w"]),
        )
    return table


def _time(value: float | None) -> str:
    return "-" if value is None else format_time(value)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _times_as(value: float | None) -> str:
    return "cannot" if value is None else f"{value:.2f} x"


def print_scale(result: dict[str, Any]) -> None:
    """Tokens per second and user by size and candidate."""
    table = plain_table("chips", "LLM", "used", "interconnect, library", "iteration", "p99", "tokens/s/user", "x first")
    for row in result["rows"]:
        table.add_row(
            f"{row['chips']:,}",
            row["llm"],
            f"{row['chips_used']:,} (tp {row['tp']})",
            _label(row),
            format_time(row["iteration_s_mean"]),
            format_time(row["iteration_s_p99"]),
            f"{row['tokens_per_s_per_user']:,.1f}",
            f"{row['slower_than_first_ratio']:.3f}",
        )
    print_table(console(), table)
    _print_searches(console(), result["rows"])
    for chips in result["no_llm_fits"]:
        console().print(f"{chips:,} chips: none of the LLMs fits")
