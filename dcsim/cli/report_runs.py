"""Kept runs as tables a person likes to read, and as files for other tools."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dcsim.cli.report_explain import print_rows, write_csv
from dcsim.cli.tables import console
from dcsim.errors import Problem, SpecError
from dcsim.units import format_power, format_time
from dcsim.writing import whole_file, write_text


def print_runs(result: Mapping[str, Any]) -> None:
    """A line a run, the newest first."""
    if not result["runs"]:
        console().print(f"no runs in {result['folder']}")
        return
    print_rows([_short(run) for run in result["runs"]])


def _short(run: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("run", "topology", "llm", "workload", "interconnect", "seed")
    return {
        **{key: str(run[key]) for key in keys},
        "requests": f"{run['requests_finished']:,} of {run['requests_in']:,}",
        "p99 TTFT": _time(run["ttft_s_p99"]),
        "p99 TPOT": _time(run["tpot_s_p99"]),
        "tokens/s": f"{run['output_tokens_per_s']:,.4g}",
        "power": "-" if run["power_w_mean"] is None else format_power(run["power_w_mean"]),
        "limited by": run["limited_by"],
    }


def _time(value: float | None) -> str:
    return "-" if value is None else format_time(value)


def print_differences(result: Mapping[str, Any]) -> None:
    """What differs, key by key and metric by metric."""
    out = console()
    for part, name in (("spec", "key"), ("result", "metric")):
        if not result[part]:
            out.print(f"{part}: nothing differs")
            continue
        rows = [
            {
                part: row[name],
                result["first"]: _shown(row["first"]),
                result["second"]: _shown(row["second"]),
                **({"ratio": "" if row["ratio"] is None else f"{row['ratio']:.4g}"} if part == "result" else {}),
            }
            for row in result[part]
        ]
        print_rows(rows)


def _shown(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def write_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Rows as .csv, .json or .parquet, by the file's ending; whole or not at all. SpecError for another ending."""
    ending = path.suffix.lower()
    if ending == ".csv":
        write_csv(rows, path)
    elif ending == ".json":
        write_text(path, json.dumps(list(rows), indent=2, allow_nan=False) + "\n")
    elif ending == ".parquet":
        import pandas as pd

        with whole_file(path) as part:
            pd.DataFrame(_columns(rows)).to_parquet(part)
    else:
        raise SpecError(Problem(str(path), "not a kind of table that is known", "end it in .csv, .json or .parquet"))


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows by column. Keys that are `auto` here and a number there make one of texts, as Parquet has one type a column."""
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
    for name, values in columns.items():
        if any(isinstance(value, (str, bool)) for value in values):
            columns[name] = [None if value is None else str(value) for value in values]
    return columns
