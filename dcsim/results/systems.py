"""Rows of several systems that serve the same LLMs (`study.systems`), as tables, pages and pictures tell them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SPEEDS = (20, 50, 100, 200, 500)  # tokens/s of one user, at which the cheapest load of each system is told


def rows_of(result: Mapping[str, Any], head: Mapping[str, Any], best: bool = False) -> list[dict[str, Any]]:
    """The loads of one system and LLM, fastest for a user first; with `best` those that no other beats."""
    same = ("llm", "topology", "interconnect")
    found = [row for row in result["rows"] if all(row[key] == head[key] for key in same)]
    return [row for row in found if row["best"] or not best]


def cheapest_at(rows: Sequence[Mapping[str, Any]], speed: float) -> Mapping[str, Any] | None:
    """The load with the fewest USD per token at which a user still sees `speed` tokens/s; None where none is as fast."""
    fast = [row for row in rows if row["tokens_per_s_per_user"] >= speed]
    return min(fast, key=lambda row: float(row["usd_per_mtoken"]), default=None)


def name_of(head: Mapping[str, Any]) -> str:
    """A system as tables call it: its topology, and its network's library if it has one."""
    library = f" {head['software']}" if head["software"] else ""
    return f"{head['topology']}, {head['interconnect']}{library}"


def laid_out(row: Mapping[str, Any]) -> str:
    """Degrees and replicas in few characters."""
    degrees = f"tp {row['tp']}" + (f" pp {row['pp']}" if row["pp"] > 1 else "")
    spread = f" dp {row['attention_dp']} ep {row['ep']}" if row["attention_dp"] > 1 or row["ep"] > 1 else ""
    return f"{row['replicas']} x {degrees}{spread}"


def error_text(head: Mapping[str, Any]) -> str:
    """The known error, and on how many jobs of what it rests."""
    if head.get("tpot_ln_error_mean") is None:
        return "-"
    other = " (other LLMs)" if head["error_of"] != head["llm"] else ""
    return f"{head['tpot_ln_error_mean']:.2f}, {head['error_jobs']}{other}"
