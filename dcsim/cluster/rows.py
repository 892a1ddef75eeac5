"""From integers in picoseconds to rows of the requests table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.cluster.request import UNSET
from dcsim.llm.program import Shape
from dcsim.results.records import TABLES, Table
from dcsim.units import PS_PER_S

COUNTS = ("request", "prompt_tokens", "output_tokens", "tokens_out", "reused_tokens", "replays", "host", "replica")
# What a request's time is spent on or waiting for; doubling the named thing shortens it.
LIMITS = (
    "host",
    "kv_memory",
    "sequence_slots",
    "batch",
    "prefill",
    "pipeline",
    "power_cap",
    "iteration_latency",
    "program_switch",
    "kv_transfer",
    "fault",
)
TIMES = ("arrival", "ready", "admitted", "first_token", "finished")


def request_rows(
    counts: NDArray[np.int64],
    times: NDArray[np.int64],
    klass: NDArray[Any],
    status: NDArray[Any],
    reason: NDArray[Any],
) -> Table:
    """Rows from `counts[COUNTS, row]` and `times[TIMES, row]` in picoseconds; the others are texts by row."""
    arrival, _, _, first, finished = times
    is_finished = finished != UNSET
    output = counts[COUNTS.index("output_tokens")]
    # Differences are taken in picoseconds, where they are exact.
    with np.errstate(divide="ignore", invalid="ignore"):
        tpot = np.where(is_finished & (output > 1), (finished - first) / PS_PER_S / (output - 1), np.nan)
    rows: dict[str, NDArray[Any]] = dict(zip(COUNTS, counts, strict=True))
    rows |= {f"{name}_s": _seconds(column) for name, column in zip(TIMES, times, strict=True)}
    rows |= {
        "klass": klass,
        "status": status,
        "reason": reason,
        "ttft_s": np.where(first == UNSET, np.nan, (first - arrival) / PS_PER_S),
        "tpot_s": tpot,
        "e2e_s": np.where(is_finished, (finished - arrival) / PS_PER_S, np.nan),
    }
    return {column.name: rows[column.name] for column in TABLES["requests"]}


def sums_tables(gaps: dict[int, int], limits: dict[str, int]) -> dict[str, Table]:
    """The gaps and limits tables from picoseconds: gap -> how often, name -> request-picoseconds."""
    order = sorted(gaps)
    return {
        "gaps": {"gap_s": np.array(order, float) / PS_PER_S, "count": np.array([gaps[gap] for gap in order], np.int64)},
        "limits": {
            "resource": np.array(list(limits)),
            "request_s": np.array([float(ps) for ps in limits.values()]) / PS_PER_S,
        },
    }


def limits_over_time_rows(amounts: Mapping[tuple[int, str], float], interval_ps: int, end_ps: int) -> Table:
    """The table of limits over time from request-picoseconds by interval and name; the last interval ends with the run."""
    order = sorted(amounts, key=lambda key: (key[0], LIMITS.index(key[1])))
    return {
        **_intervals([place for place, _ in order], interval_ps, end_ps),
        "resource": np.array([name for _, name in order], "U17"),
        "request_s": np.array([amounts[key] for key in order], float) / PS_PER_S,
    }


def program_rows(amounts: Mapping[tuple[int, tuple[int, Shape]], float], interval_ps: int, end_ps: int) -> Table:
    """The programs table from iterations by interval, replica and shape."""
    rows = sorted(
        (place, replica, shape.new_tokens, shape.batch, shape.context, amount)
        for (place, (replica, shape)), amount in amounts.items()
    )
    columns = list(zip(*rows, strict=True)) if rows else [()] * 6
    counts = zip(("replica", "new_tokens", "batch", "context"), columns[1:5], strict=True)
    return {
        **_intervals(columns[0], interval_ps, end_ps),
        **{name: np.array(column, np.int64) for name, column in counts},
        "iterations": np.array(columns[5], float),
    }


def _intervals(places: Sequence[int], interval_ps: int, end_ps: int) -> dict[str, NDArray[np.float64]]:
    """End and length of equal intervals by their number, the last one cut at the end of the run."""
    begins = np.array(places, np.int64) * interval_ps
    ends = np.maximum(np.minimum(begins + interval_ps, end_ps), begins)
    return {"time_s": ends / PS_PER_S, "interval_s": (ends - begins) / PS_PER_S}


def round_rows(rows: list[tuple[int, ...]]) -> Table:
    """The rounds table from (replica, start ps, end ps, rounds, decoding, chunks, iterations)."""
    columns = np.array(rows, np.int64).reshape(-1, 7).T
    return {
        "replica": columns[0],
        "start_s": columns[1] / PS_PER_S,
        "end_s": columns[2] / PS_PER_S,
        "rounds": columns[3],
        "decoding": columns[4],
        "chunks": columns[5],
        "iterations": columns[6],
    }


def fault_rows(rows: list[tuple[int, str, int, int, int, int]]) -> Table:
    """The table of failures from (ps, part, index, replica, ps stood still, requests hit)."""
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [[]] * 6
    return {
        "time_s": np.array(columns[0], float) / PS_PER_S,
        "part": np.array(columns[1], "U4"),
        "index": np.array(columns[2], np.int64),
        "replica": np.array(columns[3], np.int64),
        "down_s": np.array(columns[4], float) / PS_PER_S,
        "requests_hit": np.array(columns[5], np.int64),
    }


def _seconds(times: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(np.where(times == UNSET, np.nan, times / PS_PER_S))
