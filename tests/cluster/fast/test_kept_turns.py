"""What ended turns of sessions left: the compiled copy finds what SimPy's replicas find."""

from dataclasses import replace

import numpy as np
import pytest
from small_cluster import make_table


def rows(result):
    return result.tables["requests"]


@pytest.mark.parametrize("kv_tokens", [2_000, 12_000, 500_000])
def test_i10_the_compiled_pool_finds_what_sessions_left(serve_small, kv_tokens):
    """Thousands of conversations, dropped soon, late and never."""
    random = np.random.default_rng(kv_tokens)
    count = 12_000
    session = random.integers(0, 4000, count).astype(np.int32) + np.arange(count, dtype=np.int32) // 4
    table = make_table(np.cumsum(random.exponential(0.01, count)), random.integers(30, 90, count), random.integers(1, 12, count))
    table = replace(table, session=session, prefix_tokens=table.prompt_tokens - random.integers(0, 20, count).astype(np.int32))
    setup = {"kv_tokens": kv_tokens, "replicas": 2, "settings": ["serving.router=session", "serving.sequences_max=16"]}
    reference, compiled = (serve_small(table, engine=engine, **setup) for engine in ("simpy", "compiled"))
    for table in ("requests", "gaps", "limits", "power"):
        for name, column in reference.tables[table].items():
            np.testing.assert_array_equal(column, compiled.tables[table][name], err_msg=f"{table}.{name}")
    found = (rows(compiled)["reused_tokens"] > 0).mean()
    assert {2_000: 0.01, 12_000: 0.08, 500_000: 0.5}[kv_tokens] < found < {2_000: 0.05, 12_000: 0.2, 500_000: 0.6}[kv_tokens]
