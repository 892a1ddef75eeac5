"""Who serves: SimPy, or the compiled copy where there are many requests and nothing asked for that it does not know."""

import pytest
from small_cluster import random_requests

from dcsim.cluster import service
from dcsim.errors import SpecError
from dcsim.policies.batching import BATCHING, Batching
from dcsim.policies.routers import ROUTERS


def rows(result):
    return result.tables["requests"]


SPECIAL = {
    "serving.patience": ["serving.patience=1 s"],
    "serving.timeout": ["serving.timeout=1 s"],
    "mapping.prefill": ["mapping.prefill.tp=1", "serving.prefill_replicas=1"],
    "serving.speculation": [f"serving.speculation.{key}" for key in ("draft_tokens=2", "acceptance=0.5", "draft_token=1 us")],
    "faults": ["faults.link_mtbf=1 h"],
}


def test_auto_serves_few_with_simpy_and_many_with_the_copy(serve_small, monkeypatch):
    """The number of requests decides, block by block or at once; keys that nothing could use do not."""
    monkeypatch.setattr(service, "SIMPY_REQUESTS_MAX", 40)
    settings = ["faults.detect=2 s", "serving.router=round_robin"]
    table = random_requests(41, 100, 3)
    for count, name in ((40, "simpy"), (41, "compiled")):
        blocks = (table.part(start, min(start + 7, count)) for start in range(0, count, 7))
        for traffic in (table.part(0, count), blocks):
            result = serve_small(traffic, settings=settings)
            assert (result.engine.name, len(rows(result)["request"])) == (name, count)


@pytest.mark.parametrize("key", SPECIAL)
def test_what_the_copy_does_not_know_is_served_by_simpy_or_refused(serve_small, monkeypatch, key):
    monkeypatch.setattr(service, "SIMPY_REQUESTS_MAX", 0)
    table = random_requests(10, 100, 3)
    assert serve_small(table, replicas=2).engine.name == "compiled"
    assert serve_small(table, replicas=2, settings=SPECIAL[key]).engine.name == "simpy"
    with pytest.raises(SpecError, match=f"engine: compiled: the compiled copy does not know {key}"):
        serve_small(table, replicas=2, settings=SPECIAL[key], engine="compiled")


def test_a_policy_added_in_one_place_can_be_named_and_simpy_serves_it(serve_small, monkeypatch):
    monkeypatch.setattr(service, "SIMPY_REQUESTS_MAX", 0)
    monkeypatch.setitem(ROUTERS, "last", lambda router, request: len(router.loads) - 1)
    one_at_a_time = Batching(decodes=lambda prompts: True, admits=lambda active: not active)
    monkeypatch.setitem(BATCHING, "pairs", one_at_a_time)
    result = serve_small(random_requests(20, 100, 3), replicas=2, settings=["serving.router=last", "serving.batching=pairs"])
    assert result.engine.name == "simpy"
    assert set(rows(result)["replica"].tolist()) == {1}
    with pytest.raises(SpecError, match=r"serving\.batching, serving\.router"):
        serve_small(
            random_requests(20, 100, 3), replicas=2, settings=["serving.router=last", "serving.batching=pairs"], engine="compiled"
        )
