"""Runs in other tools' formats: vLLM's serving benchmark, and traces for Perfetto or chrome://tracing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.results.metrics import weighted_percentile
from dcsim.results.records import FINISHED, Run

_PERCENTILES = (90, 95, 99)


def vllm_result(run: Run) -> dict[str, Any]:
    """The result file of `vllm bench serve` (names, milliseconds), without its lists of single requests.

    Completed requests only, as there; `duration` is the run's length. A statistic without data is None.
    """
    requests, gaps, spec = run.requests, run.gaps, run.spec
    done = requests[requests["status"] == FINISHED]
    duration, tokens_in, tokens_out = (run.summary["elapsed_s"], int(done["prompt_tokens"].sum()), int(done["tokens_out"].sum()))
    rate = 1 / duration if duration else 0.0
    result: dict[str, Any] = {
        "backend": "dcsim",
        "model_id": spec["llm"]["name"],
        "num_prompts": len(requests),
        "duration": duration,
        "completed": len(done),
        "failed": len(requests) - len(done),
        "total_input_tokens": tokens_in,
        "total_output_tokens": tokens_out,
        "request_throughput": len(done) * rate,
        "request_goodput": run.summary["goodput_requests_per_s"],
        "output_throughput": tokens_out * rate,
        "total_token_throughput": (tokens_in + tokens_out) * rate,
    }
    for name, column in (("ttft", "ttft_s"), ("tpot", "tpot_s"), ("e2el", "e2e_s")):
        values = done[column].to_numpy()
        values = values[~np.isnan(values)]
        result |= _statistics(name, values, np.ones(len(values), np.int64))
    return result | _statistics("itl", gaps["gap_s"].to_numpy(), gaps["count"].to_numpy())


def _statistics(name: str, values_s: NDArray[Any], counts: NDArray[Any]) -> dict[str, float | None]:
    """Mean, median, standard deviation and percentiles in ms of values that each occur `counts` times."""
    keys = [f"{kind}_{name}_ms" for kind in ("mean", "median", "std", *(f"p{q}" for q in _PERCENTILES))]
    if not len(values_s):
        return dict.fromkeys(keys)
    if (counts == 1).all():  # as numpy does it there, between ranks
        of = [np.percentile(values_s, q) for q in (50, *_PERCENTILES)]
    else:
        of = [weighted_percentile(values_s, counts, q) for q in (50, *_PERCENTILES)]
    mean = np.average(values_s, weights=counts)
    deviation = np.sqrt(np.average((values_s - mean) ** 2, weights=counts))
    return {key: float(value) * 1e3 for key, value in zip(keys, (mean, of[0], deviation, *of[1:]), strict=True)}


TRACED_REQUESTS = 10_000  # by default; Perfetto slows down beyond some hundred thousand spans


def timeline(run: Run, first: int = 0, count: int = TRACED_REQUESTS) -> dict[str, Any]:
    """Chrome's trace format of `request_trace`, and of the rounds meanwhile where the run kept them (`iteration_trace`)."""
    trace = request_trace(run, first, count)
    if not run.has_table("rounds"):
        return trace
    rows, rounds = run.requests.iloc[first : first + count], run.table("rounds")
    if len(rows):
        ends = rows["finished_s"].max()
        meanwhile = (rounds["end_s"] >= rows["arrival_s"].min()) & ~(rounds["start_s"] > ends)
        trace["traceEvents"] += iteration_trace(rounds[meanwhile])["traceEvents"]
    return trace


def request_trace(run: Run, first: int = 0, count: int = TRACED_REQUESTS) -> dict[str, Any]:
    """Chrome's trace format: a line for each of `count` requests from `first` on, grouped by replica.

    A request's time is cut into host, queue, prefill and decode; times in microseconds of simulated time.
    """
    rows = run.requests.iloc[first : first + count]
    events: list[dict[str, Any]] = []
    cuts = ("arrival_s", "ready_s", "admitted_s", "first_token_s", "finished_s")
    for row in rows.to_dict("records"):
        times = [row[cut] for cut in cuts]
        for name, start, end in zip(("host", "queue", "prefill", "decode"), times[:-1], times[1:], strict=True):
            if end == end:  # not missing
                events.append(
                    _span(
                        name,
                        start,
                        end,
                        row["replica"],
                        row["request"] + 1,
                        {
                            "prompt_tokens": row["prompt_tokens"],
                            "output_tokens": row["output_tokens"],
                            "class": row["klass"],
                        },
                    )
                )
    return _chrome(events, {int(replica): f"replica {replica}" for replica in sorted(set(rows["replica"]))})


def iteration_trace(rounds: Any) -> dict[str, Any]:
    """Chrome's trace format of a run's `rounds` table: a span for each run of equal rounds, line 0 of each replica."""
    events = [
        _span(
            "decode" if not row["chunks"] else "decode + prefill" if row["decoding"] else "prefill",
            row["start_s"],
            row["end_s"],
            row["replica"],
            0,
            {name: row[name] for name in ("rounds", "decoding", "chunks")},
        )
        for row in rounds.to_dict("records")
    ]
    lines = [
        {"name": "thread_name", "ph": "M", "pid": int(replica), "tid": 0, "args": {"name": "rounds"}}
        for replica in sorted(set(rounds["replica"]))
    ]
    events = lines + events
    return _chrome(events, {int(replica): f"replica {replica}" for replica in sorted(set(rounds["replica"]))})


def _span(name: str, start_s: float, end_s: float, process: int, line: int, detail: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "ph": "X",
        "ts": start_s * 1e6,
        "dur": (end_s - start_s) * 1e6,
        "pid": process,
        "tid": line,
        "args": detail,
    }


def _chrome(events: list[dict[str, Any]], names: dict[int, str]) -> dict[str, Any]:
    labels = [{"name": "process_name", "ph": "M", "pid": pid, "args": {"name": name}} for pid, name in names.items()]
    return {"displayTimeUnit": "ms", "traceEvents": labels + events}
