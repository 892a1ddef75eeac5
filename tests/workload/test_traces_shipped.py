"""The shipped traces are the publishers' files and measure as their README says."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from dcsim.spec.workload import ReplayWorkload, TraceSpec
from dcsim.workload.describe import describe, dispersion
from dcsim.workload.generate import make_requests
from dcsim.workload.streams import stream
from dcsim.workload.traces import find_trace, read_trace

SHARED = Path(__file__).resolve().parents[3] / "shared" / "traces"
ORIGINALS = {
    "azure-2023-conv.csv.gz": "AzureLLMInferenceTrace_conv.csv",
    "azure-2023-code.csv.gz": "AzureLLMInferenceTrace_code.csv",
    "mooncake-conversation.jsonl.gz": "mooncake_conversation_trace.jsonl",
}


def replay(name, **more):
    spec = TypeAdapter(ReplayWorkload).validate_python({"kind": "replay", "trace": name, **more})
    return make_requests(spec, seed=1)


@pytest.mark.parametrize("name", ORIGINALS)
def test_unpacks_to_the_original(name):
    original = SHARED / ORIGINALS[name]
    if not original.exists():
        pytest.skip("the originals are not on this machine")
    packed = find_trace(name).read_bytes()
    assert gzip.decompress(packed) == original.read_bytes()
    assert packed[4:8] == b"\0\0\0\0"  # no time stamp: packing again gives the same bytes


@pytest.mark.parametrize(
    ("name", "rows", "prompt", "output", "gap_cv", "spread"),
    [
        (
            "azure-2023-conv",
            19366,
            (1155, 1020, 2735, 4142, 14050),
            (211, 129, 424, 601, 1000),
            1.09,
            (1.4, 3.9, 16),
        ),
        (
            "azure-2023-code",
            8819,
            (2048, 1469, 5188, 7436, 7437),
            (28, 13, 55, 251, 1899),
            13.2,
            (13, 72, 164),
        ),
        (
            "mooncake-conversation",
            12031,
            (12035, 6909, 27367, 85400, 126195),
            (343, 350, 597, 1119, 2000),
            None,
            (None, 2.1, 3.0),
        ),
    ],
)
def test_published_measures(name, rows, prompt, output, gap_cv, spread):
    seen = describe(replay(name))
    assert seen.requests == rows
    for summary, expected in ((seen.prompt_tokens, prompt), (seen.output_tokens, output)):
        measured = (summary.mean, summary.p50, summary.p90, summary.p99, summary.max)
        assert measured == pytest.approx(expected, abs=0.51)
    if gap_cv:
        assert seen.gap_cv == pytest.approx(gap_cv, rel=0.005)
    for measured, expected in zip((seen.dispersion_1s, seen.dispersion_10s, seen.dispersion_60s), spread, strict=True):
        if expected:
            assert measured == pytest.approx(expected, rel=0.035)


def test_code_is_bursty():
    assert describe(replay("azure-2023-code")).peak_over_mean == pytest.approx(26, abs=0.5)


def test_replay_is_exact():
    """Every row against the file's own text, read without the code under test."""
    text = gzip.decompress(find_trace("azure-2023-conv").read_bytes()).decode().split()[1:]
    cells = [re.split(r"[:,]", line) for line in text[1::2]]  # the date is a word of its own
    hundred_ns = [(int(h) * 3600 + int(m) * 60) * 10**7 + int(s.replace(".", "")) for h, m, s, _, _ in cells]
    requests = replay("azure-2023-conv")
    assert requests.prompt_tokens.tolist() == [int(row[3]) for row in cells]
    assert requests.output_tokens.tolist() == [int(row[4]) for row in cells]
    since = [(value - hundred_ns[0]) / 1e7 for value in hundred_ns]
    np.testing.assert_allclose(requests.arrival_s, since, atol=1e-9)


def test_rate_scale_divides_time_and_leaves_rows():
    plain, fast = replay("azure-2023-conv"), replay("azure-2023-conv", rate_scale=4)
    np.testing.assert_allclose(fast.arrival_s * 4, plain.arrival_s, rtol=1e-12)
    assert (fast.prompt_tokens == plain.prompt_tokens).all()
    assert (fast.output_tokens == plain.output_tokens).all()


def test_window_and_repeat():
    plain = replay("azure-2023-conv")
    inside = (plain.arrival_s >= 600) & (plain.arrival_s < 900)
    part = replay({"file": "azure-2023-conv", "start": "10 min", "window": "5 min"}, repeat=3)
    assert len(part) == 3 * inside.sum()
    assert part.prompt_tokens.tolist() == 3 * plain.prompt_tokens[inside].tolist()
    np.testing.assert_allclose(part.arrival_s[: inside.sum()], plain.arrival_s[inside] - 600, atol=1e-9)
    np.testing.assert_allclose(part.arrival_s[-inside.sum() :], plain.arrival_s[inside] - 600 + 600, atol=1e-9)


def test_duration_counts_simulated_time():
    plain = replay("azure-2023-conv")
    cut = replay("azure-2023-conv", rate_scale=2, duration="5 min")
    assert len(cut) == (plain.arrival_s < 600).sum()
    assert len(replay("azure-2023-conv", requests=7)) == 7


def test_answers_shorten_when_the_rate_rises():
    requests = replay("azure-2023-conv")
    half_min = (requests.arrival_s // 30).astype(int)
    counts = np.bincount(half_min)
    means = np.bincount(half_min, requests.output_tokens) / counts
    assert np.corrcoef(counts[:-1], means[:-1])[0, 1] < -0.7


def test_shuffled_rows_would_wait_ten_times_as_long():
    """28 servers at 83 % load, first come first served: the 99th percentile of the wait, both ways."""
    trace = read_trace(find_trace("azure-2023-conv"), TraceSpec.model_validate({"file": "-"}))
    mean_s = 0.83 * 28 * trace.span_s / len(trace)
    traced = trace.output_tokens * (mean_s / trace.output_tokens.mean())
    shuffled = stream(1, "shuffle").permutation(traced)
    waits = [np.quantile(_waits(trace.arrival_s, service, 28), 0.99) for service in (traced, shuffled)]
    assert waits[0] == pytest.approx(7, rel=0.25)
    assert 60 < waits[1] < 120


def _waits(arrival_s, service_s, servers):
    import heapq

    free = [0.0] * servers
    waits = []
    for arrival, service in zip(arrival_s.tolist(), service_s.tolist(), strict=True):
        start = max(arrival, heapq.heappop(free))
        waits.append(start - arrival)
        heapq.heappush(free, start + service)
    return waits


def test_dispersion_of_a_clockwork_is_zero():
    assert dispersion(np.arange(1000) * 0.25, 10.0) == 0
    assert np.isnan(dispersion(np.array([0.0, 1.0]), 10.0))
