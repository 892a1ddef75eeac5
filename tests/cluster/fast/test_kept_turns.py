"""What ended turns of sessions left: the compiled copy finds what SimPy's replicas find."""

from dataclasses import replace

import numpy as np
import pytest
from small_cluster import make_table, uneven_room


def rows(result):
    return result.tables["requests"]


def conversations(seed, prefix_less):
    """Thousands of conversations, each turn of which begins with the last but for up to `prefix_less` tokens."""
    random = np.random.default_rng(seed)
    count = 12_000
    session = random.integers(0, 4000, count).astype(np.int32) + np.arange(count, dtype=np.int32) // 4
    table = make_table(np.cumsum(random.exponential(0.01, count)), random.integers(30, 90, count), random.integers(1, 12, count))
    less = random.integers(0, prefix_less, count).astype(np.int32)
    return replace(table, session=session, prefix_tokens=table.prompt_tokens - less)


def share_that_reuses(serve_small, table, kv_tokens):
    """The share of requests that find something, the same in both copies."""
    setup = {"kv_tokens": kv_tokens, "replicas": 2, "settings": ["serving.router=session", "serving.sequences_max=16"]}
    reference, compiled = (serve_small(table, engine=engine, **setup) for engine in ("simpy", "compiled"))
    for name in ("requests", "gaps", "limits", "power"):
        for column, values in reference.tables[name].items():
            np.testing.assert_array_equal(values, compiled.tables[name][column], err_msg=f"{name}.{column}")
    return (rows(compiled)["reused_tokens"] > 0).mean()


@pytest.mark.parametrize(("kv_tokens", "least", "most"), [(2_000, 0.01, 0.05), (12_000, 0.08, 0.2), (500_000, 0.5, 0.6)])
def test_i10_the_compiled_pool_finds_what_sessions_left(serve_small, kv_tokens, least, most):
    """Dropped soon, late and never."""
    assert least < share_that_reuses(serve_small, conversations(kv_tokens, 20), kv_tokens) < most


def test_i10_windows_and_states_are_of_use_as_a_whole_or_not_at_all(serve_small):
    """They cannot go back to an earlier token, so less is found than where every token is kept."""
    table = conversations(500_000, 20)
    full = share_that_reuses(serve_small, table, 500_000)
    found = share_that_reuses(serve_small, table, uneven_room(500_000))
    assert 0.1 < found < 0.9 * full
