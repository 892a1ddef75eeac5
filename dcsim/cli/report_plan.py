"""A plan by simulation as a person likes to read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dcsim.cli.report_explain import print_rows
from dcsim.cli.tables import console, counted
from dcsim.results.metrics import LIMIT_MEANING
from dcsim.units import format_power, format_time

WHY_MAX = 60  # characters of a reason in a table; --json has all of it


def candidate_line(row: Mapping[str, Any]) -> str:
    """One candidate as it comes."""
    verdict = "holds" if row["holds"] else "does not hold"
    why = f": {row['reason']}" if row["reason"] else ""
    seeds = f" with {row['seeds_held']} of {row['seeds']} seeds" if "seeds_held" in row else ""
    return f"{_what(row)}, {_layout(row)}: {verdict}{seeds}{why}"


def _what(row: Mapping[str, Any]) -> str:
    return f"{row['topology']} of {counted(row['units'], row['unit'])}"


def _layout(row: Mapping[str, Any]) -> str:
    if "tp" not in row:
        return (
            ", ".join(f"{key} {value}" for key, value in row["settings"].items() if not key.startswith("fabric.")) or "as it is"
        )
    return f"tp {row['tp']}, pp {row['pp']}, {counted(row['replicas'], 'replica')}, chunks of {row['chunk_tokens']}"


def print_sized(result: Mapping[str, Any]) -> None:
    """The answer in words, then each system's smallest size, and why nothing smaller does."""
    out = console()
    targets = ", ".join(f"{name} {format_time(limit)}" for name, limit in result["slo"].items())
    out.print(f"{result['rate_per_s']:.4g} requests/s within {targets}, by simulation with prompts, queues and bursts")
    answer = result["answer"]
    if answer is None:
        out.print("no system that was asked holds this, or none within the limits on power and cost")
    else:
        spare = f", {counted(answer['spare_units'], answer['unit'])} of them spare" if answer["spare_units"] else ""
        total = answer["units"] + answer["spare_units"]
        out.print(f"build {answer['topology']} of {counted(total, answer['unit'])}{spare}: {_layout(answer)}")
        met = [f"{name} {_time(answer[name.replace('_p', '_s_p')])}" for name in result["slo"]]
        out.print(f"  {', '.join(met)}")
        power = f"{format_power(answer['power_w'])} mean and {format_power(answer['power_w_max'])} at most"
        out.print(f"  {counted(answer['racks'], 'rack')}, {counted(answer['chips'], 'chip')}; {power} at the site's meter")
        cost = answer["usd_per_mtoken"]
        out.print(
            f"  {answer['capital_usd'] / 1e6:,.4g} M USD, {answer['usd_per_h']:,.4g} USD/h"
            + (f", {cost:.4g} USD per million output tokens at that rate" if cost else "")
        )
        meaning = LIMIT_MEANING.get(answer["binding"])
        out.print(f"  breaks first: {answer['binding']}" + (f": {meaning}" if meaning else ""))
    if len(result["answers"]) > 1:
        print_rows([_short(row, result) for row in result["answers"]])
    print_rows([_looked_at(row) for row in _told(result["candidates"])])
    if result.get("sensitivity"):
        print_rows([_moved(row, answer) for row in result["sensitivity"]])
    if len(result["front"]) > 1:
        print_rows([_on_front(row) for row in result["front"]])
    for one in result.get("growth", ())[1:]:
        grown = one["answer"]
        what = "nothing holds" if grown is None else f"{_what(grown)}, {grown['capital_usd'] / 1e6:,.4g} M USD"
        out.print(f"at {one['rate_per_s']:.4g} requests/s: {what}")
    for one in result["skipped"]:
        out.print(f"left out: {one['topology']}: {one['reason'].splitlines()[0]}")
    for line in result["assumes"]:
        out.print(f"assumes: {line}")


def _short(row: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    metrics = {f"{name}": row[name.replace("_p", "_s_p")] for name in result["slo"]}
    return {
        "smallest that holds": f"{row['topology']}, {counted(row['units'], row['unit'])}",
        "interconnect": row["interconnect"],
        "racks": str(row["racks"]),
        "chips": f"{row['chips']:,}",
        **{name: "-" if value is None else format_time(value) for name, value in metrics.items()},
        "power": format_power(row["power_w"]),
        "M USD": f"{row['capital_usd'] / 1e6:,.4g}",
        "USD/h": f"{row['usd_per_h']:,.4g}",
        "breaks first": row["binding"],
    }


def _told(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of each size that was simulated the layout that holds, or the first; of a system of which none was, the last refusal."""
    best: dict[tuple[str, str, int], Mapping[str, Any]] = {}
    refused: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        system = row["topology"], row["interconnect"]
        if not row["seeds"]:
            refused[system] = row
        elif row["holds"] or (*system, row["units"]) not in best:
            best[*system, row["units"]] = row
    simulated = {key[:2] for key in best}
    return [*best.values(), *(row for system, row in refused.items() if system not in simulated)]


def _looked_at(row: Mapping[str, Any]) -> dict[str, Any]:
    laid = f", {counted(row['replicas'], 'replica')}" if "tp" in row else ""
    return {
        "looked at": f"{_what(row)}{laid}",
        "by": counted(row["seeds"], "seed") if row["seeds"] else "bound",
        "holds": "yes" if row["holds"] else "no",
        "why": _short_reason(row["reason"]),
    }


def _moved(row: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """One uncertain figure, and the size that would hold with it at its ends."""

    def size(end: Mapping[str, Any]) -> str:
        held = "nothing holds" if end["units"] is None else counted(end["units"], answer["unit"])
        return f"{held} at {end['value']}"

    return {"if it were otherwise": row["key"], "kind": row["kind"], "low": size(row["low"]), "high": size(row["high"])}


def _on_front(row: Mapping[str, Any]) -> dict[str, Any]:
    """A system that no other beats in cost, power and speed at once."""
    speed = row["tokens_per_s_per_user_p50"]
    return {
        "beaten by none in all three": f"{_what(row)}",
        "USD/h": f"{row['usd_per_h']:,.4g}",
        "power": format_power(row["power_w"]),
        "tokens/s/user": "-" if speed is None else f"{speed:,.4g}",
    }


def _time(value: float | None) -> str:
    return "-" if value is None else format_time(value)


def _short_reason(reason: str) -> str:
    text = reason.partition("\n")[0]
    return text if len(text) <= WHY_MAX else f"{text[: WHY_MAX - 3]}..."
