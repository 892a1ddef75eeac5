"""Under a serving engine: the compiled copy gives the rows of SimPy's replicas, where sequences are read anew too."""

from dataclasses import replace

import numpy as np
import pytest
from small_cluster import PLAIN, Steps, agree, closed, random_requests, uneven_room

from dcsim.cluster import service
from dcsim.errors import SpecError


def under(engine="vllm", **own):
    """Settings of a cluster under an engine, on chips that switch programs at once."""
    return [
        f"serving.engine={engine}",
        *(f"serving.engine.{key}={value}" for key, value in own.items()),
        "chip.program_switch=0 s",
    ]


def drawn(seed):
    """Traffic, and a cluster with room for few or many, under one of the engines."""
    random = np.random.default_rng(seed)
    pick = random.choice
    settings = [
        *under(
            pick(["vllm", "sglang", "tensorrt-llm"]),
            batching=pick(["continuous", "prefill_first", "static"]),
            preemption=pick(["recompute", "recompute", "never"]),
            batched_tokens_max=pick([64, 1000, 8192]),
        ),
        f"serving.sequences_max={pick([3, 64])}",
        f"serving.queue_max={pick([5, 1000])}",
        f"serving.drain={pick(['600 s', '200 ms'])}",
        f"serving.prefix_reuse={pick(['true', 'false'])}",
        f"power.rack_cap={pick(['0 W', '19 kW'])}",
        "workload.classes=[{name: a, share: 1}, {name: b, share: 1, priority: 2}]",
        *(PLAIN if seed % 3 == 0 else []),
    ]
    if seed % 4 == 0:
        traffic = replace_lengths(closed(int(random.integers(2, 30)), float(pick([0.0, 0.1])), requests=8), random)
    else:
        traffic = with_sessions(
            random_requests(60, float(pick([20, 200])), seed, prompt=300, output=int(pick([30, 200]))), random
        )
    tokens = int(pick([700, 1500, 6000]))
    room = uneven_room(tokens) if seed % 5 == 2 else tokens
    return traffic, {
        "settings": settings,
        "kv_tokens": room,
        "replicas": int(pick([1, 2])),
        "time": Steps(apart=int(pick([1, 2]))),
    }


def replace_lengths(loop, random):
    """The same users with lengths of their own."""
    lengths = [random.integers(1, most, loop.think_s.shape).astype(np.int32) for most in (500, 150)]
    return replace(loop, prompt_tokens=lengths[0], output_tokens=lengths[1])


def with_sessions(requests, random):
    """Two classes, and a third of the requests that continue the one before them."""
    count = len(requests)
    session = np.cumsum(random.random(count) < 0.67).astype(np.int32)
    prefix = np.where(np.diff(session, prepend=-1) == 0, requests.prompt_tokens // 2, 0).astype(np.int32)
    klass = random.integers(0, 2, count).astype(np.int16)
    return replace(requests, klass=klass, session=session, prefix_tokens=prefix, class_names=("a", "b"))


@pytest.mark.parametrize("seed", range(24))
def test_i10_random_clusters_under_an_engine(serve_small, seed):
    """Of all kinds of batching, room and traffic; waking every round gives the same rows as well."""
    traffic, setup = drawn(seed)
    one = agree(serve_small, traffic, **setup)
    every = serve_small(traffic, engine="compiled", skip=False, **setup)
    for name, column in one.tables["requests"].items():
        np.testing.assert_array_equal(column, every.tables["requests"][name], err_msg=name)


@pytest.mark.parametrize("room", [2_000, uneven_room(2_000)])
def test_i10_sequences_are_read_anew_where_room_ends(serve_small, room):
    """More than there is room for, so that answers stand still: their longest gaps are many rounds long, in both copies."""
    loop = closed(20, 0.0, requests=6, prompt=100, output=300)
    tight = agree(serve_small, loop, kv_tokens=room, settings=under())
    wide = agree(serve_small, loop, kv_tokens=100_000, settings=under())
    assert tight.tables["gaps"]["gap_s"].max() > 10 * wide.tables["gaps"]["gap_s"].max()
    assert tight.elapsed_s > 1.5 * wide.elapsed_s
    assert set(tight.tables["requests"]["status"]) == {"finished"}


def test_what_the_copy_does_not_know_of_engines(serve_small, monkeypatch):
    """Sequences that are swapped, and chips that take time to switch programs."""
    monkeypatch.setattr(service, "SIMPY_REQUESTS_MAX", 0)
    table = random_requests(10, 100, 3)
    assert serve_small(table, settings=under()).engine.name == "compiled"
    for settings, key in (
        (under(preemption="swap"), r"serving\.engine\.preemption: swap"),
        ([*under(), "chip.program_switch=1 us"], "chips that switch programs"),
    ):
        assert serve_small(table, settings=settings).engine.name == "simpy"
        with pytest.raises(SpecError, match=key):
            serve_small(table, settings=settings, engine="compiled")
