"""Batching, priorities, prefix reuse, routers, give-ups, separate pools and speculation: each does what it says."""

import numpy as np
import pytest
from small_cluster import PLAIN, Line, constant, make_table, random_requests, slow_copies

from dcsim.network.timing import IterationTime
from dcsim.results.records import FAILED, FINISHED
from dcsim.workload.requests import Requests

US = 1e-6


def rows(result):
    return result.tables["requests"]


def turns(arrival_s, prompt, output, session, prefix, klass=None, names=("default",)):
    return Requests(
        np.array(arrival_s, float),
        np.array(prompt, np.int32),
        np.array(output, np.int32),
        np.array(klass or [0] * len(prompt), np.int16),
        np.array(session, np.int32),
        np.array(prefix, np.int32),
        names,
    )


def test_continuous_batching_decodes_beside_prompts_and_prefill_first_does_not(serve_small):
    """One sequence decodes while a prompt of 40 chunks, 16 a round, is read in three rounds."""
    table = make_table([0, 0.0105], [100, 5120], [20, 2])
    gaps = {}
    for batching in ("continuous", "prefill_first"):
        result = serve_small(table, constant(1000), settings=[*PLAIN, f"serving.batching={batching}"])
        gaps[batching] = dict(zip(*(result.tables["gaps"][c].tolist() for c in ("gap_s", "count")), strict=True))
    assert gaps["continuous"] == {0.001: 20}
    assert gaps["prefill_first"] == {0.001: 19, 0.004: 1}


def test_a_static_batch_runs_to_its_end_before_the_next(serve_small):
    table = make_table([0, 0, 0, 0], [10] * 4, [5, 50, 5, 5])
    result = serve_small(table, constant(1000), settings=[*PLAIN, "serving.batching=static", "serving.sequences_max=2"])
    admitted, finished = rows(result)["admitted_s"], rows(result)["finished_s"]
    assert admitted[:2].tolist() == [0, 0]
    assert admitted[2:].tolist() == [finished[1]] * 2
    late = make_table([0, 0.010, 0.010], [10] * 3, [50, 5, 5])
    result = serve_small(late, constant(1000), settings=[*PLAIN, "serving.batching=static"])
    limits = dict(zip(*(result.tables["limits"][c].tolist() for c in ("resource", "request_s")), strict=True))
    assert limits["batch"] == pytest.approx(2 * 0.040)


def test_higher_priority_is_served_first(serve_small):
    random = np.random.default_rng(1)
    base = random_requests(300, 400, 2)
    klass = random.integers(0, 2, 300).tolist()
    table = turns(base.arrival_s, base.prompt_tokens, base.output_tokens, [-1] * 300, [0] * 300, klass, ("low", "high"))
    ttft = {}
    for priority in (0, 1):
        classes = f"workload.classes=[{{name: low, share: 1}}, {{name: high, share: 1, priority: {priority}}}]"
        result = rows(serve_small(table, settings=[classes, "serving.sequences_max=16"]))
        ttft[priority] = [np.mean(result["ttft_s"][result["klass"] == name]) for name in ("low", "high")]
    assert ttft[0][1] == pytest.approx(ttft[0][0], rel=0.1)
    assert ttft[1][1] < 0.6 * ttft[1][0]


def test_a_session_finds_what_its_last_turn_left(serve_small):
    """1000 + 100 tokens stored less the last: of the second prompt's 1500 tokens 401 are read, in 4 chunks of 16 a round."""
    table = turns([0, 5], [1000, 1500], [100, 1], [7, 7], [0, 1100])
    result = rows(serve_small(table))
    assert result["reused_tokens"].tolist() == [0, 1099]
    without = rows(serve_small(table, settings=["serving.prefix_reuse=false"]))
    assert without["reused_tokens"].tolist() == [0, 0]
    # 401 tokens: four chunks instead of twelve, each holding a stage for 1/60 of its latency.
    assert without["ttft_s"][1] > result["ttft_s"][1]


def test_kept_turns_make_room_oldest_first(serve_small):
    """Room for 2300 tokens: a third turn of 1000 drops session 1's 1009, which ended first, but not session 2's."""
    table = turns([0, 2, 4, 6, 8], [1000] * 3 + [1100] * 2, [10] * 5, [1, 2, 3, 1, 3], [0, 0, 0, 1010, 1010])
    reused = rows(serve_small(table, kv_tokens=2300))["reused_tokens"]
    assert reused.tolist() == [0, 0, 0, 0, 1009]


def test_only_the_replica_of_the_last_turn_has_it(serve_small):
    table = turns([0, 2, 4, 6], [500, 800, 500, 800], [10] * 4, [0, 0, 1, 1], [0, 510, 0, 510])
    affine = serve_small(table, replicas=2, settings=["serving.router=session"])
    assert rows(affine)["replica"].tolist() == [0, 0, 1, 1]
    assert (rows(affine)["reused_tokens"] > 0).sum() == 2
    spread = serve_small(table, replicas=2, settings=["serving.router=round_robin"])
    assert rows(spread)["replica"].tolist() == [0, 1, 0, 1]
    assert rows(spread)["reused_tokens"].sum() == 0


def test_clients_give_up_and_answers_time_out(serve_small):
    table = make_table([0, 0.001, 0.2], [10] * 3, [500, 500, 20])
    options = [*PLAIN, "serving.sequences_max=1"]
    patient = rows(serve_small(table, constant(1000), settings=options))
    assert patient["status"].tolist() == [FINISHED] * 3
    hasty = rows(serve_small(table, constant(1000), settings=[*options, "serving.patience=100 ms"]))
    assert hasty["status"].tolist() == [FINISHED, FAILED, FAILED]
    assert hasty["reason"][1] == "gave up: no first token within 0.1 s"
    limited = rows(serve_small(table, constant(1000), settings=[*options, "serving.timeout=400 ms"]))
    assert limited["status"].tolist() == [FAILED, FAILED, FINISHED]
    assert limited["reason"][0] == "timed out: not finished within 0.4 s"
    assert limited["tokens_out"].tolist() == [400, 1, 20]
    assert limited["admitted_s"][2] == pytest.approx(0.401)


def test_separate_pools_copy_kv_between_them(serve_small):
    """Alone: read on replica 0, KV of 300 tokens copied at 10 us each, decoded on replica 1 from the landing on."""
    table = make_table([0.0], [300], [11])
    result = serve_small(
        table,
        constant(1000),
        replicas=2,
        settings=[*PLAIN, "serving.prefill_replicas=1"],
        place={"copies": slow_copies(10 * US)},
    )
    row = {name: column[0] for name, column in rows(result).items()}
    assert row["replica"] == 1
    assert row["first_token_s"] == pytest.approx(0.001)
    assert row["finished_s"] == pytest.approx(0.001 + 0.003 + 10 * 0.001)
    limits = dict(zip(*(result.tables["limits"][c].tolist() for c in ("resource", "request_s")), strict=True))
    assert limits["kv_transfer"] == pytest.approx(0.003)


def test_pools_may_be_of_unequal_size_and_the_prefill_side_can_limit(serve_small):
    table = random_requests(200, 300, 3, prompt=2000, output=50)
    ttft = [np.median(rows(serve_small(table, replicas=4, settings=[f"serving.prefill_replicas={n}"]))["ttft_s"]) for n in (1, 3)]
    assert ttft[1] < 0.6 * ttft[0]


@pytest.mark.parametrize(("k", "p"), [(1, 0.5), (3, 0.8), (5, 0.3)])
def test_speculation_yields_the_expected_tokens_a_round(serve_small, k, p):
    """One long answer: tokens over rounds against (1 - p^(k+1)) / (1 - p)."""
    options = [
        *PLAIN,
        f"serving.speculation.draft_tokens={k}",
        f"serving.speculation.acceptance={p}",
        "serving.speculation.draft_token=100 us",
    ]
    result = serve_small(make_table([0.0], [10], [20_001]), constant(1000), settings=options)
    rounds = (rows(result)["finished_s"][0] - rows(result)["first_token_s"][0]) / (0.001 + k * 100 * US)
    assert 20_000 / rounds == pytest.approx((1 - p ** (k + 1)) / (1 - p), rel=0.03)


def test_speculation_at_its_ends(serve_small):
    """Nothing accepted: one token a round; everything accepted: k + 1 tokens a round."""
    for p, per_round in ((0, 1), (1, 4)):
        options = [
            *PLAIN,
            "serving.speculation.draft_tokens=3",
            f"serving.speculation.acceptance={p}",
            "serving.speculation.draft_token=0 s",
        ]
        result = serve_small(make_table([0.0], [10], [401]), constant(1000), settings=options)
        assert rows(result)["tpot_s"][0] == pytest.approx(0.001 / per_round)


def test_a_change_of_program_costs_what_the_chip_says(serve_small):
    """A lone answer of 100 tokens within one bucket changes program twice: to the prompt's and to decoding."""

    def e2e(switch_us):
        settings = [f"chip.program_switch={switch_us} us"]
        return rows(serve_small(make_table([0.0], [10], [100]), settings=settings))["e2e_s"][0]

    assert e2e(500) - e2e(0) == pytest.approx(2 * 500 * US)


class Swinging:
    """Rounds that are long for a while and then short, as replications in order show."""

    def __init__(self):
        self.lengths_ps = [2_000_000_000] * 50 + [1_000_000_000] * 50

    def __call__(self, shape):
        return [IterationTime(ps, ps // 60, 0.0) for ps in self.lengths_ps]


def test_drawn_rounds_keep_their_mean_and_their_runs(serve_small):
    """The mean is the replications'; a longer block keeps neighbours alike, so a 10-token answer varies more."""
    table = make_table(np.arange(400) * 0.1, [10] * 400, [11] * 400)
    spread = {}
    for block in (1, 50):
        tpot = rows(serve_small(table, Swinging(), settings=[*PLAIN, f"serving.draw_block={block}"]))["tpot_s"]
        assert np.mean(tpot) == pytest.approx(0.0015, rel=0.04)
        spread[block] = np.std(tpot)
    assert spread[50] > 2 * spread[1]


def test_seeds_draw_differently_and_repeat(serve_small):
    table = random_requests(50, 20, 4)
    first, again, other = (serve_small(table, Swinging(), seed=seed) for seed in (1, 1, 2))
    assert rows(first)["finished_s"].tolist() == rows(again)["finished_s"].tolist()
    assert rows(first)["finished_s"].tolist() != rows(other)["finished_s"].tolist()


def test_one_chip_and_no_request_at_all(serve_small):
    empty = serve_small(make_table([], [], []))
    assert len(rows(empty)["request"]) == 0
    assert empty.concurrency_mean == 0
    assert rows(serve_small(make_table([0.0], [1], [1]), replicas=64, time=Line()))["status"].tolist() == [FINISHED]
