"""Other tools' formats, recomputed from the rows."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_cluster import random_requests

from dcsim.results import export, metrics, records


@pytest.fixture(scope="module")
def run(serve_small):
    result = serve_small(random_requests(200, 40, 1), record_rounds=True)
    summary = metrics.summarise(
        result.tables,
        slo_ttft_s=1.0,
        slo_tpot_s=0.01,
        pue=1.0,
        elapsed_s=result.elapsed_s,
        concurrency_mean=result.concurrency_mean,
        seed=1,
    )
    return records.Run(Path("none"), summary, {"llm": {"name": "tiny"}}, {}, result.tables)


def test_vllm_names_and_milliseconds(run):
    result, rows = export.vllm_result(run), run.requests
    assert result["completed"] == 200
    assert result["total_input_tokens"] == rows["prompt_tokens"].sum()
    assert result["total_token_throughput"] == pytest.approx(
        (rows["prompt_tokens"].sum() + rows["tokens_out"].sum()) / run.summary["elapsed_s"]
    )
    for name, column in (("ttft", "ttft_s"), ("tpot", "tpot_s"), ("e2el", "e2e_s")):
        values = rows[column].dropna() * 1e3
        assert result[f"mean_{name}_ms"] == pytest.approx(values.mean())
        assert result[f"median_{name}_ms"] == pytest.approx(values.median())
        assert result[f"std_{name}_ms"] == pytest.approx(values.std(ddof=0))
        assert result[f"p99_{name}_ms"] == pytest.approx(np.percentile(values, 99))
    every_gap = np.repeat(run.gaps["gap_s"], run.gaps["count"]) * 1e3
    assert result["mean_itl_ms"] == pytest.approx(every_gap.mean())
    assert result["std_itl_ms"] == pytest.approx(every_gap.std(ddof=0))
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_request_trace_spends_each_request_once(run):
    trace = export.request_trace(run)
    spans = pd.DataFrame([event for event in trace["traceEvents"] if event["ph"] == "X"])
    assert spans.groupby("tid")["dur"].sum().to_numpy() == pytest.approx(run.requests["e2e_s"].to_numpy() * 1e6)
    assert len(export.request_trace(run, first=10, count=1)["traceEvents"]) == 1 + 4


def test_an_iteration_trace_shows_every_round_without_overlap(run):
    rounds = run.table("rounds")
    assert (rounds["rounds"] * rounds["decoding"]).sum() == (run.requests["output_tokens"] - 1).sum()
    spans = [event for event in export.iteration_trace(rounds)["traceEvents"] if event["ph"] == "X"]
    ends = [span["ts"] + span["dur"] for span in spans]
    assert all(span["ts"] >= end - 1e-6 for span, end in zip(spans[1:], ends[:-1], strict=True))
    assert {span["name"] for span in spans} <= {"prefill", "decode", "decode + prefill"}
