"""The same seed gives the same bytes in any process; all requests of the main job are accounted for."""

import json

import numpy as np
import pytest
from command import dcsim

import dcsim as face

CASES = [("64chip", ("--duration", "60 s")), ("64chip", ("--workload", "sessions", "--duration", "60 s"))]


@pytest.mark.parametrize(("topology", "options"), CASES)
def test_i7_the_digest_is_the_same_in_any_process(tmp_path, topology, options):
    digests = []
    for hash_seed in ("0", "12345"):
        code, out, err = dcsim(
            "run",
            topology,
            *options,
            "--seed",
            "3",
            "--json",
            "--out",
            hash_seed,
            cwd=tmp_path,
            environment={"PYTHONHASHSEED": hash_seed},
        )
        assert code == 0, err
        digests.append(json.loads(out)["digest"])
    keywords = dict(zip((name.removeprefix("--") for name in options[::2]), options[1::2], strict=True))
    run = face.load(topology, **keywords).run(seed=3)
    assert digests == [run.summary["digest"]] * 2
    # The files hold the same bytes too.
    first, second = (sorted((tmp_path / name).iterdir()) for name in ("0", "12345"))
    assert [path.name for path in first] == [path.name for path in second]
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name


PRIORITIES = ["workload.classes=[{name: low, share: 1}, {name: high, share: 1, priority: 1}]", "serving.sequences_max=16"]


@pytest.mark.parametrize(
    ("topology", "options"),
    [
        ("8rack", {}),
        ("64chip", {"workload": "sessions", "duration": "10 min"}),
        ("64chip", {"workload": "summarise", "duration": "10 min", "rate_scale": 4, "set": PRIORITIES}),
    ],
    ids=["the hour", "sessions", "priorities"],
)
def test_i10_simpy_and_the_compiled_copy_give_one_digest(topology, options):
    """Summary and rows are the same to the last bit, power and energy included; who served is told apart from them."""
    simpy, compiled = (face.load(topology, engine=engine, **options).run(seed=2) for engine in ("simpy", "compiled"))
    assert (simpy.meta["engine"], compiled.meta["engine"]) == ("simpy", "compiled")
    assert simpy.meta["engine_processes"] > 0 == compiled.meta["engine_processes"]
    assert simpy.summary["requests_in"] > 300
    assert simpy.summary == compiled.summary  # the digest is in it
    assert {**simpy.meta, **ENGINE} == {**compiled.meta, **ENGINE}


ENGINE = dict.fromkeys(("engine", "engine_processes", "engine_events"))


def test_a_seed_moves_what_is_random_and_nothing_else():
    replayed = [face.load("64chip", duration="30 s").run(seed=seed) for seed in (1, 2)]
    assert replayed[0].requests.equals(replayed[1].requests)
    assert replayed[0].summary["digest"] != replayed[1].summary["digest"]  # which names its seed
    drawn = [face.load("64chip", workload="summarise", duration="30 s").run(seed=seed).requests for seed in (1, 2)]
    assert not np.array_equal(drawn[0].arrival_s.to_numpy()[:5], drawn[1].arrival_s.to_numpy()[:5])


def test_all_requests_of_the_main_job_are_accounted_for():
    run = face.load("topologies/8rack.yaml").run(seed=1)
    rows, summary = run.requests, run.summary
    assert len(rows) == summary["requests_in"] == 19_366
    beyond = rows.prompt_tokens + rows.output_tokens - 1 > 4096  # what Llama-2 was built for
    assert summary["requests_rejected"] == summary["requests_beyond_llm"] == beyond.sum() == 1_611
    assert summary["requests_finished"] == 19_366 - 1_611
    done = rows[rows.status == "finished"]
    assert (done.tokens_out == done.output_tokens).all()
    assert (done.arrival_s < done.ready_s).all()
    assert (done.ready_s <= done.admitted_s).all()
    assert (done.admitted_s < done.first_token_s).all()
    assert (done.first_token_s <= done.finished_s).all()
    many = done[done.output_tokens > 1]
    tpot_s = (many.finished_s - many.first_token_s) / (many.output_tokens - 1)
    np.testing.assert_allclose(many.tpot_s, tpot_s, rtol=1e-9)
    # Little's law on the run's own rows: the time average of requests inside is rate times time in the system.
    assert summary["concurrency_mean"] * summary["elapsed_s"] == pytest.approx(done.e2e_s.sum(), rel=1e-6)
    # One gap between every two tokens of a request.
    assert run.gaps["count"].sum() == (done.output_tokens - 1).sum()
    assert (run.gaps.gap_s * run.gaps["count"]).sum() == pytest.approx((done.finished_s - done.first_token_s).sum(), rel=1e-6)
