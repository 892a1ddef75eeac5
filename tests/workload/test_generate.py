"""Generators against the theory of the processes they claim to be."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from dcsim.errors import WorkloadError
from dcsim.spec.workload import ClosedWorkload, WorkloadSpec
from dcsim.workload.closed import make_closed_loop
from dcsim.workload.describe import describe, dispersion, gap_cv
from dcsim.workload.generate import iterate_requests, make_requests
from dcsim.workload.requests import COLUMNS
from dcsim.workload.streams import stream

ROOT = Path(__file__).resolve().parents[2]
SPECS = TypeAdapter(WorkloadSpec)
CONSTANT = {"kind": "constant", "mean": "20 requests/s"}
TRACED = {"kind": "trace", "trace": "azure-2023-conv"}
FIXED = {"kind": "lognormal", "prompt_tokens": {"median": 10}, "output_tokens": {"median": 5}}


def spec_of(kind, **more):
    return SPECS.validate_python({"kind": kind, **more})


def synthetic(rate=CONSTANT, lengths=FIXED, **more):
    arrivals = {
        "rate": rate,
        **{key: more.pop(key) for key in ("process", "cv", "bursts", "noise") if key in more},
    }
    return spec_of("synthetic", arrivals=arrivals, lengths=lengths, **more)


def examples():
    return {
        "replay": spec_of("replay", trace="azure-2023-conv", rate_scale=3, repeat=2),
        "bootstrap": spec_of("bootstrap", trace="azure-2023-code", block="2 min", duration="3 h"),
        "poisson": synthetic(lengths=TRACED, duration="2 h"),
        "modulated": synthetic(
            process="gamma",
            cv=1.5,
            noise={"cv": 0.2, "persistence": 0.8},
            bursts={"on": "20 s", "off": "40 s"},
            requests=150_000,
            lengths={
                "kind": "lognormal",
                "prompt_tokens": {"median": 800, "sigma": 1.0},
                "output_tokens": {"median": 100, "sigma": 0.8, "max": 500},
            },
            classes=[{"name": "paid", "share": 1, "priority": 1}, {"name": "free", "share": 3}],
        ),
        "sessions": spec_of(
            "sessions",
            arrivals={"rate": CONSTANT},
            lengths=TRACED,
            turns_mean=4,
            think="30 s",
            answer_token="10 ms",
            context_max=8192,
            duration="1 h",
            classes=[{"name": "a", "share": 1}, {"name": "b", "share": 1}],
        ),
    }


EXAMPLES = examples()


def digest(requests):
    sha = hashlib.sha256()
    for column in COLUMNS:
        sha.update(getattr(requests, column).tobytes())
    return sha.hexdigest()


@pytest.mark.parametrize("seed", range(5))
def test_poisson_has_the_rate_asked(seed):
    """Counts in T seconds are Poisson(20 T): within 4 standard deviations, which is 0.3 % here."""
    requests = make_requests(synthetic(duration="25 h"), seed)
    expected = 20 * 25 * 3600
    assert abs(len(requests) - expected) < 4 * expected**0.5
    assert gap_cv(requests.arrival_s) == pytest.approx(1.0, abs=0.005)
    assert dispersion(requests.arrival_s, 1.0) == pytest.approx(1.0, abs=0.02)
    assert dispersion(requests.arrival_s, 60.0) == pytest.approx(1.0, abs=0.15)


def test_poisson_gaps_are_exponential():
    """Kolmogorov-Smirnov distance to 1 - exp(-20 x) below the 0.1 % point, 1.95 / sqrt(n)."""
    gaps = np.sort(np.diff(make_requests(synthetic(requests=100_001), 3).arrival_s))
    ranks = np.arange(1, len(gaps) + 1) / len(gaps)
    assert np.abs(ranks - (1 - np.exp(-20 * gaps))).max() < 1.95 / len(gaps) ** 0.5


def test_gamma_gaps_have_the_mean_and_cv_asked():
    gaps = np.diff(make_requests(synthetic(process="gamma", cv=2.5, requests=400_000), 1).arrival_s)
    assert gaps.mean() == pytest.approx(1 / 20, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(2.5, rel=0.02)


def test_doubling_the_rate_halves_the_times():
    one, two = (make_requests(synthetic(requests=1000, rate_scale=scale), 1) for scale in (1, 2))
    np.testing.assert_allclose(one.arrival_s, 2 * two.arrival_s)


def test_pieces_follow_their_rates():
    pieces = [
        {"duration": "100 s", "rate": "30 requests/s"},
        {"duration": "50 s", "rate": 0},
        {"duration": "50 s", "rate": "4 requests/s"},
    ]
    arrival_s = make_requests(synthetic({"kind": "pieces", "pieces": pieces}, duration="20000 s"), 1).arrival_s
    counts = np.histogram(arrival_s % 200, [0, 100, 150, 200])[0]
    assert counts[0] == pytest.approx(100 * 100 * 30, rel=4 / 300_000**0.5)
    assert counts[1] == 0
    assert counts[2] == pytest.approx(100 * 50 * 4, rel=4 / 20_000**0.5)


def test_day_curve_keeps_the_mean_and_the_shape():
    hours = [1.0] * 12 + [3.0] * 12
    arrival_s = make_requests(synthetic({"kind": "day", "mean": "5 requests/s", "hours": hours}, duration="3 d"), 1).arrival_s
    assert len(arrival_s) == pytest.approx(3 * 86400 * 5, rel=4 / 1_296_000**0.5)
    per_hour = np.bincount((arrival_s % 86400 // 3600).astype(int)) / (3 * 3600)
    assert per_hour[2:10] == pytest.approx(2.5, rel=0.03)
    assert per_hour[14:22] == pytest.approx(7.5, rel=0.03)


def test_bursts_keep_the_mean_and_give_the_theory_s_dispersion():
    """On/off with rates a and 0: var/mean over windows w is 1 + 2 s^2 t (1 - t/w (1 - exp(-w/t))) / m, where
    s^2 is the variance of the rate, m its mean and t the correlation time 1 / (1/on + 1/off)."""
    spec = synthetic(bursts={"on": "2 s", "off": "3 s"}, duration="40 h")
    arrival_s = make_requests(spec, 1).arrival_s
    assert len(arrival_s) / (40 * 3600) == pytest.approx(20, rel=0.03)
    time_s = 1 / (1 / 2 + 1 / 3)
    variance, mean = 0.4 * 50**2 - 20**2, 20
    window = 60.0
    share = 1 - time_s / window * (1 - np.exp(-window / time_s))
    assert dispersion(arrival_s, window) == pytest.approx(1 + 2 * variance * time_s * share / mean, rel=0.08)


def test_noise_gives_the_theory_s_dispersion():
    """Windows of one piece: var/mean = 1 + mean count x cv^2."""
    arrival_s = make_requests(synthetic(noise={"piece": "10 s", "cv": 0.3}, duration="50 h"), 1).arrival_s
    assert len(arrival_s) / (50 * 3600) == pytest.approx(20, rel=0.01)
    assert dispersion(arrival_s, 10.0) == pytest.approx(1 + 200 * 0.3**2, rel=0.08)


def test_a_renewal_process_is_not_enough():
    """The chat hour's counts over 60 s have dispersion 16. Gamma gaps of its CV give about its square; a rate
    taken from the trace in 30 s pieces gives the trace's, and so do bootstrapped blocks and fitted noise."""
    rate = {"kind": "constant", "mean": "5.53 requests/s"}
    noise = {"piece": "30 s", "cv": 0.22, "persistence": 0.9}

    def spread(spec):
        return dispersion(make_requests(spec, 1).arrival_s, 60.0)

    assert spread(synthetic(rate, process="gamma", cv=1.09, duration="24 h")) == pytest.approx(1.2, abs=0.3)
    assert spread(synthetic({"kind": "trace", "trace": "azure-2023-conv"}, duration="24 h")) == pytest.approx(16, rel=0.15)
    assert spread(spec_of("bootstrap", trace="azure-2023-conv", duration="24 h")) == pytest.approx(16, rel=0.15)
    assert spread(synthetic(rate, noise=noise, duration="72 h")) == pytest.approx(16, rel=0.15)


def test_bootstrap_keeps_rate_rows_and_their_order():
    whole = make_requests(spec_of("replay", trace="azure-2023-conv"), 1)
    drawn = make_requests(spec_of("bootstrap", trace="azure-2023-conv", block="5 min", duration="100 h"), 2)
    assert len(drawn) / 360_000 == pytest.approx(19366 / 3501.7, rel=0.03)
    after = set(
        zip(
            whole.prompt_tokens[:-1].tolist(),
            whole.output_tokens[:-1].tolist(),
            whole.prompt_tokens[1:].tolist(),
            whole.output_tokens[1:].tolist(),
            strict=True,
        )
    )
    first = drawn.part(0, 50_000)
    pairs = list(
        zip(
            first.prompt_tokens[:-1].tolist(),
            first.output_tokens[:-1].tolist(),
            first.prompt_tokens[1:].tolist(),
            first.output_tokens[1:].tolist(),
            strict=True,
        )
    )
    seams = sum(pair not in after for pair in pairs)
    assert 0 < seams <= first.arrival_s[-1] / 300 + 20
    assert drawn.output_tokens.mean() == pytest.approx(whole.output_tokens.mean(), rel=0.03)


def test_bootstrap_at_a_rate_and_a_scale():
    for scale in (1, 2):
        spec = spec_of("bootstrap", trace="azure-2023-conv", mean="20 requests/s", rate_scale=scale, duration="20 h")
        assert len(make_requests(spec, 1)) / 72_000 == pytest.approx(20 * scale, rel=0.04)


def test_traced_lengths_keep_pairs_and_runs():
    whole = make_requests(spec_of("replay", trace="azure-2023-conv"), 1)
    drawn = make_requests(synthetic(lengths={**TRACED, "block_rows": 50}, requests=500), 1)
    prompts = whole.prompt_tokens.tolist() + whole.prompt_tokens[:50].tolist()
    outputs = whole.output_tokens.tolist() + whole.output_tokens[:50].tolist()
    runs = {(tuple(prompts[i : i + 50]), tuple(outputs[i : i + 50])) for i in range(len(whole))}
    for start in range(0, 500, 50):
        part = drawn.part(start, start + 50)
        assert (tuple(part.prompt_tokens.tolist()), tuple(part.output_tokens.tolist())) in runs


def test_lognormal_lengths():
    lengths = {
        "kind": "lognormal",
        "prompt_tokens": {"median": 800, "sigma": 0.5, "fixed": 100, "max": 5000},
        "output_tokens": {"median": 0.3, "sigma": 1.0},
    }
    requests = make_requests(synthetic(lengths=lengths, requests=200_000), 1)
    logs = np.log(requests.prompt_tokens - 100)
    assert np.median(requests.prompt_tokens) == pytest.approx(900, rel=0.01)
    assert logs.std() == pytest.approx(0.5, rel=0.02)
    assert requests.prompt_tokens.max() <= 5000
    assert requests.output_tokens.min() == 1


def test_classes_follow_their_shares_and_move_nothing_else():
    classes = [{"name": "paid", "share": 1}, {"name": "free", "share": 3}]
    plain, classed = (make_requests(synthetic(requests=40_000, classes=c), 1) for c in ((), classes))
    assert describe(classed).per_class["paid"] == pytest.approx(10_000, abs=4 * (40_000 * 0.25 * 0.75) ** 0.5)
    assert classed.class_names == ("paid", "free")
    assert (plain.arrival_s == classed.arrival_s).all()


@pytest.mark.parametrize("name", EXAMPLES)
def test_rows_are_sound(name):
    requests = make_requests(EXAMPLES[name], 1)
    assert len(requests) > 10_000
    assert (np.diff(requests.arrival_s) >= 0).all()
    assert requests.arrival_s[0] >= 0
    assert min(requests.prompt_tokens.min(), requests.output_tokens.min()) >= 1
    assert (requests.prefix_tokens < requests.prompt_tokens).all()
    assert [getattr(requests, c).dtype for c in COLUMNS] == ["f8", "i4", "i4", "i2", "i4", "i4"]


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("block", [977, 100_000])
def test_blocks_are_the_same_rows(name, block):
    whole = make_requests(EXAMPLES[name], 7)
    parts = list(iterate_requests(EXAMPLES[name], 7, block))
    assert [len(part) for part in parts[:-1]] == [block] * (len(parts) - 1)
    for column in COLUMNS:
        assert np.concatenate([getattr(part, column) for part in parts]).tobytes() == getattr(whole, column).tobytes()
    assert {part.class_names for part in parts} == {whole.class_names}


def test_blocks_are_made_as_they_are_asked_for():
    endless = synthetic(requests=10**12)
    assert len(next(iterate_requests(endless, 1, 1000))) == 1000


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "replay"])
def test_seeds_differ_and_repeat(name):
    one, again, other = (digest(make_requests(EXAMPLES[name], seed)) for seed in (1, 1, 2))
    assert one == again != other


def test_same_bytes_in_another_process():
    code = (
        "import sys; sys.path[:0] = ['.', 'tests/workload']\n"
        "from test_generate import EXAMPLES, digest, make_requests\n"
        "print([digest(make_requests(spec, 5)) for spec in EXAMPLES.values()])"
    )
    here = str([digest(make_requests(spec, 5)) for spec in EXAMPLES.values()])
    for hash_seed in ("0", "4711"):
        run = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert (run.returncode, run.stdout.strip()) == (0, here), run.stderr


def test_streams_are_apart_and_fixed():
    """The first draw is pinned: a new numpy or a new use must not move runs people have kept."""
    assert stream(1, "a").random() != stream(1, "b").random() != stream(2, "b").random()
    assert stream(1, "a").random() == stream(1, "a").random()
    expected = np.random.Generator(np.random.PCG64(np.random.SeedSequence([1, 0xE8B7BE43]))).random()
    assert stream(1, "a").random() == expected  # 0xE8B7BE43 is the CRC-32 of "a"


def test_closed_loop_table():
    spec = spec_of("closed", users=40, think="20 s", lengths=TRACED, requests_per_user=500, duration="1 h")
    assert isinstance(spec, ClosedWorkload)
    loop = make_closed_loop(spec, 1)
    assert loop.think_s.shape == loop.prompt_tokens.shape == loop.output_tokens.shape == (40, 500)
    assert loop.think_s.mean() == pytest.approx(20, rel=4 / 20_000**0.5)
    assert loop.duration_s == 3600
    assert make_closed_loop(spec.model_copy(update={"rate_scale": 2.5}), 1).users == 100
    with pytest.raises(WorkloadError, match="closed loop"):
        make_requests(spec, 1)


def test_bootstrap_block_must_fit():
    with pytest.raises(WorkloadError, match="longer than"):
        make_requests(spec_of("bootstrap", trace="azure-2023-conv", block="2 h", duration="1 h"), 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "bootstrap", "trace": "x"}, "needs a `duration` or a number of `requests`"),
        ({"kind": "replay", "trace": {"file": "x", "format": "columns"}}, "go together"),
        ({"kind": "replay", "trace": "x", "classes": [{"name": "a", "share": 1}] * 2}, "share a name"),
        ({"kind": "replay", "trace": "x", "rate_scale": 0}, "greater than 0"),
        ({"kind": "replay", "trace": "x", "duration": 60}, "needs a unit"),
        ({"kind": "replay", "trace": "x", "duration": "-1 s"}, "greater than or equal to 0"),
        (
            {
                "kind": "synthetic",
                "duration": "1 h",
                "lengths": FIXED,
                "arrivals": {"rate": {**CONSTANT, "mean": 0}},
            },
            "greater than 0",
        ),
        (
            {
                "kind": "synthetic",
                "duration": "1 h",
                "lengths": FIXED,
                "arrivals": {"rate": {"kind": "pieces", "pieces": [{"duration": "1 s", "rate": 0}]}},
            },
            "above 0",
        ),
    ],
)
def test_bad_specs_say_why(data, message):
    with pytest.raises(ValidationError, match=message):
        SPECS.validate_python(data)


def test_every_key_given_is_read():
    """A run reports keys without effect by what was read: a generator must read all that shapes its rows."""
    for spec in examples().values():
        assert "kind" in unread(spec)
        make_requests(spec, 1)
        assert unread(spec) <= {"priority", "ttft_s", "tpot_s"}  # those are the scheduler's and the metrics'


def unread(section):
    given = section.model_fields_set
    missing = {name for name in given if name not in section.fields_read()}
    for name in given:
        value = section.__dict__[name]
        for part in value if isinstance(value, tuple) else (value,):
            if hasattr(part, "fields_read"):
                missing |= unread(part)
    return missing


def test_bursts_start_as_they_go_on():
    """The first half second has the mean rate too: 10 arrivals, within 4 standard errors over 400 seeds."""
    spec = synthetic(bursts={"on": "2 s", "off": "3 s"}, duration="0.5 s")
    counts = [len(make_requests(spec, seed)) for seed in range(400)]
    assert np.mean(counts) == pytest.approx(10, abs=4 * 0.65)
