"""Shortest prompt first: whoever waits with little to read is not behind those with much; on the mean all see tokens sooner."""

import numpy as np
from small_cluster import Line, make_table

SHORT, LONG = 64, 4096


def test_the_shortest_prompt_is_admitted_first(serve_small):
    random = np.random.default_rng(1)
    prompt = random.choice([SHORT, LONG], 60)
    table = make_table(np.linspace(0, 0.1, 60), prompt, np.full(60, 20))
    settings = ["serving.sequences_max=2", "serving.prefix_reuse=false"]
    ttft_s = {}
    for rule in ("in_turn", "shortest_prompt"):
        rows = serve_small(table, Line(), settings=[*settings, f"serving.admission={rule}"]).tables["requests"]
        assert set(rows["status"]) == {"finished"}
        ttft_s[rule] = rows["ttft_s"]
    short, before, after = prompt == SHORT, ttft_s["in_turn"], ttft_s["shortest_prompt"]
    assert after.mean() < before.mean()
    assert after[short].mean() < 0.7 * before[short].mean()
    assert after[~short].mean() > before[~short].mean()
