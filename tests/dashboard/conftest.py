"""Run folders of made-up rows, so that the dashboard is tested without the simulator."""

import os
import shutil

import numpy as np
import pytest
from dashboard_server import served

from dcsim.results.metrics import summarise
from dcsim.results.records import digest, write_run


def make_tables(count=3000, seed=5, span_s=600.0, racks=8):
    """Rows as a run would write them: gamma latencies, even arrivals, some requests not finished."""
    random = np.random.default_rng(seed)
    arrival = np.sort(random.uniform(0, span_s, count))
    output = 1 + random.poisson(200, count)
    statuses = ["finished", "rejected", "failed", "in_flight"]
    status = random.choice(statuses, count, p=[0.97, 0.01, 0.005, 0.015])
    first = arrival + 0.05 + random.gamma(2, 0.03, count)
    tpot = 0.003 * (1 + random.gamma(1.5, 0.05, count))
    finished = first + tpot * (output - 1)
    nan = np.full(count, np.nan)
    done, served = status == "finished", np.isin(status, ["finished", "in_flight"])
    requests = {
        "request": np.arange(count),
        "arrival_s": arrival,
        "klass": np.full(count, "chat"),
        "prompt_tokens": 1 + random.poisson(900, count),
        "output_tokens": output,
        "tokens_out": np.where(done, output, np.where(served, output // 2, 0)),
        "status": status,
        "reason": np.where(status == "rejected", "queue full", ""),
        "host": np.arange(count) % 8,
        "reused_tokens": np.zeros(count, int),
        "replays": np.zeros(count, int),
        "replica": np.where(served, 0, -1),
        "ready_s": arrival + 0.002,
        "admitted_s": np.where(served, arrival + 0.01, nan),
        "first_token_s": np.where(served, first, nan),
        "finished_s": np.where(done, finished, nan),
        "ttft_s": np.where(served, first - arrival, nan),
        "tpot_s": np.where(done & (output > 1), tpot, nan),
        "e2e_s": np.where(done, finished - arrival, nan),
    }
    time = np.repeat(np.arange(1, int(span_s) + 1, dtype=float), racks)
    power = {
        "time_s": time,
        "rack": np.tile(np.arange(racks), int(span_s)),
        "interval_s": np.ones(len(time)),
        "power_w": 9000 + 1500 * np.sin(time / 60) + random.normal(0, 120, len(time)),
    }
    gaps = {"gap_s": np.array([0.003, 0.0031, 0.004, 0.02]), "count": np.array([400_000, 90_000, 9_000, 50])}
    limits = {
        "resource": np.array(["host", "kv_memory", "prefill", "pipeline", "iteration_latency"]),
        "request_s": np.array([6.0, 0.0, 240.0, 30.0, 1500.0]),
    }
    return {"requests": requests, "power": power, "gaps": gaps, "limits": limits}


@pytest.fixture
def make_run():
    """Write a run folder and return its path."""

    def make(folder, seed=5, **shape):
        tables = make_tables(seed=seed, **shape)
        summary = summarise(tables, slo_ttft_s=1.0, slo_tpot_s=0.01, pue=1.2, elapsed_s=603.0, concurrency_mean=3.3, seed=seed)
        summary["digest"] = digest(tables, summary)
        meta = {
            "llm": "some-llm",
            "chips_used": 480,
            "chips_active": 512,
            "tp": 8,
            "pp": 60,
            "replicas": 1,
            "interconnect": "scheduled",
            "slo_ttft_s": 1.0,
            "slo_tpot_s": 0.01,
            "unused_keys": ["fabric.cable_m"],
        }
        spec = {"name": "made-up", "description": "Rows of a test.", "power": {"pue": 1.2}}
        write_run(folder, tables, summary, spec, meta)
        return folder

    return make


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NO_BROWSER = "no chromium on this machine; apt-get install chromium"
REQUIRED = os.environ.get("DCSIM_BROWSER") == "required"  # as where a browser is sure to be, such as .ci/run


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    """The system's own browser; none is downloaded."""
    if CHROMIUM is None:
        assert not REQUIRED, NO_BROWSER
        pytest.skip(NO_BROWSER)
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": ["--no-sandbox", "--disable-gpu"]}


@pytest.fixture
def serve_folder():
    """Serve a folder for the length of a block."""
    return served


@pytest.fixture
def said(page):
    """What the page complained of: errors of its scripts and its console."""
    found = []
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found
