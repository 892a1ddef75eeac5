"""Who wins a comparison, and why: one sentence from its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dcsim.units import format_time

# What a part of an iteration is called in a sentence.
CAUSES = {
    "compute": "time on the chips",
    "software": "library calls",
    "jitter": "host jitter",
    "switch": "time in adapters and switches",
    "wire": "time on cables",
    "serialisation": "time to clock bytes out",
    "queueing": "queueing",
    "slowest": "waiting for the slowest message",
    "other": "time not attributed",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fastest candidate, the one after it on another network, and the largest parts of the gap between the two.

    `causes` are (part, seconds an iteration that it costs the second more), the largest first, at most two; `cheapest` is the
    candidate with the least USD per million tokens, None where nothing is priced.
    """

    fastest: Mapping[str, Any]
    second: Mapping[str, Any] | None
    causes: tuple[tuple[str, float], ...]
    cheapest: Mapping[str, Any] | None


def verdict(rows: Sequence[Mapping[str, Any]]) -> Verdict | None:
    """Judge rows that have `iteration_s_mean`, `waterfall_s` and, where priced, `usd_per_mtoken`; None without rows."""
    if not rows:
        return None
    ordered = sorted(rows, key=lambda row: float(row["iteration_s_mean"]))
    fastest = ordered[0]
    second = next((row for row in ordered if row["interconnect"] != fastest["interconnect"]), None)
    causes: list[tuple[str, float]] = []
    if second is not None:
        gap = {part: second["waterfall_s"][part] - seconds for part, seconds in fastest["waterfall_s"].items()}
        causes = sorted(((part, seconds) for part, seconds in gap.items() if seconds > 0), key=lambda item: -item[1])[:2]
    priced = [row for row in rows if row.get("usd_per_mtoken") is not None]
    cheapest = min(priced, key=lambda row: float(row["usd_per_mtoken"]), default=None)
    return Verdict(fastest, second, tuple(causes), cheapest)


def sentence(found: Verdict, chips: int, llm: str) -> str:
    """The verdict in words."""
    fastest, second = found.fastest, found.second
    speed = f"{fastest['tokens_per_s_per_user']:,.4g} tokens/s a user"
    head = f"On {chips:,} chips {llm} answers fastest over {name_of(fastest)}: {speed}"
    if second is None:
        return head + ", the only network here that can be built."
    ratio = float(second["iteration_s_mean"]) / float(fastest["iteration_s_mean"])
    if ratio == 1:
        return head + f", as fast as {name_of(second)}." + _cheapest(found)
    why = " and ".join(f"{format_time(seconds)} more {CAUSES[part]}" for part, seconds in found.causes)
    return f"{head}, {ratio:.3g} x {name_of(second)}, where a token takes {why}." + _cheapest(found)


def _cheapest(found: Verdict) -> str:
    if found.cheapest is None:
        return ""
    usd = f"{found.cheapest['usd_per_mtoken']:,.4g} USD"
    if found.cheapest is found.fastest:
        return f" It is the cheapest as well: {usd} per million tokens at this load."
    return f" The cheapest is {name_of(found.cheapest)}: {usd} per million tokens at this load."


def name_of(row: Mapping[str, Any]) -> str:
    """A network and its library."""
    return f"{row['interconnect']} ({row['software']})" if row["software"] else str(row["interconnect"])
