"""M3: what no replica could ever serve is rejected as it arrives, with the reason, whoever serves."""

import numpy as np
import pytest
from by_rule import load
from small_cluster import make_table

from dcsim.cluster.admission import Limits
from dcsim.errors import CapacityError
from dcsim.llm.kv import room_of_tokens
from dcsim.study import scenario
from dcsim.study.capacity import meets
from dcsim.study.machine import build

LLM_MAX = 1000


@pytest.fixture(params=["compiled", "simpy"])
def serve(request, serve_small):
    def run(prompt, output, *settings, **options):
        table = make_table(np.arange(len(prompt), dtype=float), prompt, output)
        own = [f"llm.context_max={LLM_MAX}", *settings]
        result = serve_small(table, settings=own, engine=request.param, **options)
        rows = result.tables["requests"]
        return result, [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]

    return run


def test_a_request_longer_than_the_llm_was_built_for_is_rejected_with_that_reason(serve):
    """The last token is given to the user and never read, so it needs no position."""
    _, (fits, beyond) = serve([900, 900], [LLM_MAX - 900 + 1, LLM_MAX - 900 + 2])
    assert fits["status"] == "finished"
    assert beyond["status"] == "rejected"
    assert beyond["reason"] == "context beyond the LLM's own: 1001 tokens, it was built for 1000 (llm.context_max)"


def test_a_request_without_room_or_program_is_rejected_with_that_reason(serve):
    wide = "llm.context_max=1000000"
    _, (row,) = serve([900], [100], wide, kv_tokens=999)
    assert row["reason"] == "needs KV room for 1000 tokens, a replica has 999"
    _, (row,) = serve([900], [100], wide, "serving.context_buckets=[512]")
    assert row["reason"] == "context of 1000 tokens exceeds the largest compiled, 512"


def test_no_host_spends_time_on_what_is_rejected_at_once(serve):
    """Two thousand million tokens would take a host an hour; the next request finds it free and in its turn."""
    result, (huge, small) = serve([2_000_000_000, 10], [5, 3])
    assert (huge["status"], small["status"]) == ("rejected", "finished")
    assert (huge["host"], small["host"]) == (-1, 0)
    alone, _ = serve([10], [3])
    assert result.elapsed_s == pytest.approx(1 + alone.elapsed_s)
    assert result.tables["limits"]["request_s"].sum() == pytest.approx(alone.tables["limits"]["request_s"].sum())


def test_requests_no_cluster_could_take_do_not_decide_its_capacity():
    summary = {"requests_in": 10, "requests_finished": 9, "requests_beyond_llm": 1, "ttft_s_p99": 0.1, "tpot_s_p99": 0.01}
    assert meets(summary, 1.0, 1.0)
    assert not meets({**summary, "requests_beyond_llm": 0}, 1.0, 1.0)


def test_the_summary_counts_them(tmp_path):
    settings = ["llm.context_max=512", "workload.requests=50"]
    summary = scenario.load("64chip", set=settings).run().summary
    assert 0 < summary["requests_beyond_llm"] == summary["requests_rejected"] < summary["requests_in"] == 50


def test_what_a_draft_runs_ahead_needs_room_too():
    assert Limits(10**6, room_of_tokens(100), 10**6, ahead=0).refusal(90, 10) == ""
    assert "104 tokens" in Limits(10**6, room_of_tokens(100), 10**6, ahead=4).refusal(90, 10)


def test_a_shape_longer_than_the_llm_was_built_for_is_refused():
    from dcsim.llm.program import Shape
    from dcsim.study.explain import explain
    from dcsim.study.frontier import loads
    from dcsim.study.iteration import iteration
    from dcsim.study.schedule import schedule

    resolved = load("64chip", settings=["llm.context_max=1024"])
    machine, shape = build(resolved.spec), Shape(1, 1025)
    asks = (
        lambda: iteration(machine, shape),
        lambda: schedule(machine, shape),
        lambda: loads(machine, 1025),
        lambda: machine.require_room(shape),
        lambda: explain(resolved, shape),
    )
    for ask in asks:
        with pytest.raises(CapacityError, match=r"1,025 tokens is longer than Llama-3-8B's own, 1,024 \(llm.context_max\)"):
            ask()


def test_an_llm_that_keeps_no_kv_has_no_number_for_it():
    from dcsim.study.iteration import iteration, shape_of

    machine = build(load("node").spec)
    assert iteration(machine, shape_of(1, None, 0, machine.spec.llm))["kv_tokens"] is None
