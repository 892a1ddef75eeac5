"""Prefill and decode apart: the compiled copy passes requests on and fetches their KV as SimPy's replicas do."""

import numpy as np
import pytest
from small_cluster import PLAIN, agree, closed, random_requests, slow_copies, uneven_room


def drawn(seed):
    """Pools of two to four replicas, on compiled programs or under an engine; KV that takes no time, some, or long."""
    random = np.random.default_rng(seed)
    pick = random.choice
    replicas = int(pick([2, 4]))
    settings = [
        f"serving.prefill_replicas={random.integers(1, replicas)}",
        f"serving.router={pick(['least_loaded', 'round_robin', 'session'])}",
        f"serving.batching={pick(['continuous', 'prefill_first', 'static'])}",
        f"serving.sequences_max={pick([2, 64])}",
        f"serving.queue_max={pick([2, 1000])}",
        f"serving.prefill_tokens_max={pick([1, 4096])}",
        f"serving.drain={pick(['600 s', '200 ms'])}",
        f"power.rack_cap={pick(['0 W', '19 kW'])}",
        *(PLAIN if seed % 3 == 0 else []),
    ]
    if seed % 2:
        settings += ["serving.engine=vllm", f"serving.engine.preemption={pick(['recompute', 'never'])}"]
        settings += ["chip.program_switch=0 s", f"serving.engine.batching={pick(['continuous', 'static'])}"]
    if seed % 4 < 2:
        traffic = random_requests(50, float(pick([20, 200])), seed, prompt=300, output=int(pick([1, 30, 150])))
    else:
        traffic = closed(int(random.integers(2, 20)), float(pick([0.0, 0.1])), requests=5, prompt=200, output=int(pick([1, 80])))
    tokens = int(pick([900, 6000]))
    return traffic, {
        "settings": settings,
        "replicas": replicas,
        "kv_tokens": uneven_room(tokens) if seed % 5 == 2 else tokens,
        "place": {"copies": pick([None, slow_copies(1e-7), slow_copies(1e-4)])},
    }


@pytest.mark.parametrize("seed", range(24))
def test_i10_random_pools(serve_small, seed):
    """Of all routers, engines and rooms, with links that are idle and links that are not."""
    traffic, setup = drawn(seed)
    assert agree(serve_small, traffic, **setup).engine.name == "compiled"


def test_slow_links_are_what_requests_wait_for(serve_small):
    """KV that is on its way for long is booked as such, and held at both ends meanwhile."""
    setup = {"replicas": 2, "settings": ["serving.prefill_replicas=1"]}
    table = random_requests(40, 100, 1, prompt=300, output=30)
    slow, fast = (agree(serve_small, table, place={"copies": slow_copies(s)}, **setup) for s in (1e-4, 1e-8))
    waited = [dict(zip(r.tables["limits"]["resource"], r.tables["limits"]["request_s"], strict=True)) for r in (slow, fast)]
    assert waited[0]["kv_transfer"] > 100 * waited[1]["kv_transfer"] > 0
    assert set(slow.tables["requests"]["replica"]) == {1}
