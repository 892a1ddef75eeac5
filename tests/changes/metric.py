"""Prompt tokens per second: in the summary, the table that feeds docs and dashboard, and every command's JSON."""

import json

import pytest
from command import dcsim

import dcsim as face
from dcsim.results.metrics import UNIT
from validation.docs_pages import PAGES


def test_it_is_counted_and_told(tmp_path):
    run = face.load("64chip", duration="60 s").run(seed=1)
    rows = run.requests
    assert run.summary["prompt_tokens_per_s"] == pytest.approx(sum(rows["prompt_tokens"]) / run.summary["elapsed_s"])
    assert UNIT["prompt_tokens_per_s"] == "tokens/s"
    assert "`prompt_tokens_per_s`" in PAGES["METRICS.md"]()
    code, out, err = dcsim("run", "64chip", "--duration", "60 s", "--json", "--out", "r", cwd=tmp_path)
    assert (code, json.loads(out)["prompt_tokens_per_s"]) == (0, run.summary["prompt_tokens_per_s"]), err
