"""Bit errors that error correction cannot mend run an iteration again (M19): how often, for how long, and whose."""

import numpy as np
import pytest
from small_cluster import PLAIN, Line, make_table, random_requests

from dcsim.cluster.marks import UNIT, Marks, bit_errors, error_draws
from dcsim.cluster.programs import MicroBatches
from dcsim.errors import SpecError
from dcsim.llm.program import Shape
from dcsim.network.timing import IterationTime

ENGINES = ["simpy", "compiled"]
LATENCY_S = 1e-3
TOKENS = 20_000
ONE = [*PLAIN, "serving.batch_buckets=[1]", "serving.context_buckets=[65536]", "workload.duration=0 s"]


def same_time(hazard=0.0, work_j=1.0):
    """Every iteration takes a millisecond and so much work."""
    return lambda shape: IterationTime(round(LATENCY_S * 1e12), 1, work_j, hazard=hazard)


def lone(serve_small, engine, hazard, seed=1, **options):
    """One request of many tokens, an iteration each."""
    options = {"settings": ONE, "skip": True} | options
    return serve_small(make_table([0.0], [1], [TOKENS]), same_time(hazard), engine=engine, seed=seed, **options)


def reruns_of(result):
    return round(result.tables["requests"]["e2e_s"][0] / LATENCY_S) - TOKENS


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("chance", [0.003, 0.1, 0.6])
def test_reruns_are_geometric(serve_small, engine, chance):
    """An iteration is marked with chance p, and runs again until it is clean: p / (1 - p) reruns on average, marked or not."""
    result = lone(serve_small, engine, -np.log1p(-chance))
    mean, variance = chance / (1 - chance), chance / (1 - chance) ** 2
    assert abs(reruns_of(result) - TOKENS * mean) < 4 * np.sqrt(TOKENS * variance)
    marked = result.tables["requests"]["replays"][0]
    assert abs(marked - TOKENS * chance) < 4 * np.sqrt(TOKENS * chance * (1 - chance))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_rerun_costs_an_iteration_and_nothing_else(serve_small, engine):
    clean, marked = (lone(serve_small, engine, hazard) for hazard in (0.0, 0.01))
    reruns = reruns_of(marked)
    assert reruns > 100
    limits = [dict(zip(*result.tables["limits"].values(), strict=True)) for result in (clean, marked)]
    assert limits[1]["fault"] == pytest.approx(reruns * LATENCY_S - first_tokens_reruns_s(marked), abs=1e-9)
    assert limits[1]["iteration_latency"] == pytest.approx(limits[0]["iteration_latency"], rel=1e-12)
    gaps = marked.tables["gaps"]
    assert gaps["count"].sum() == TOKENS - 1
    assert set(np.rint(gaps["gap_s"] / LATENCY_S)) == set(range(1, 1 + len(gaps["gap_s"])))  # whole iterations
    joules = [(r.tables["power"]["power_w"] * r.tables["power"]["interval_s"]).sum() for r in (clean, marked)]
    assert joules[1] == pytest.approx(joules[0] * (TOKENS + reruns) / TOKENS, rel=1e-3)


def first_tokens_reruns_s(result):
    """What ran again while the prompt was read, which counts as that."""
    return result.tables["requests"]["ttft_s"][0] - LATENCY_S


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_not_marked_is_as_without_errors(serve_small, engine):
    """Every table to the last bit, where errors can be but none is met."""
    clean, hazard = (lone(serve_small, engine, hazard) for hazard in (0.0, 1e-9))
    for name, table in clean.tables.items():
        for column, values in table.items():
            np.testing.assert_array_equal(values, hazard.tables[name][column])


def test_both_engines_and_both_ways_meet_the_same_errors(serve_small):
    results = [lone(serve_small, *way, 0.02, skip=skip) for way in [["simpy"], ["compiled"]] for skip in (True, False)]
    assert reruns_of(results[0]) > 100
    assert len({reruns_of(result) for result in results}) == 1
    assert len({int(result.tables["requests"]["replays"][0]) for result in results}) == 1


def test_seeds_and_replicas_meet_errors_of_their_own(serve_small):
    assert len({reruns_of(lone(serve_small, "compiled", 0.02, seed)) for seed in range(1, 6)}) >= 4
    first = [next(error_draws(1, replica)) for replica in range(5)]
    assert len(set(first)) == 5


@pytest.mark.parametrize("engine", ENGINES)
def test_throughput_falls_as_errors_grow(serve_small, engine):
    table = random_requests(200, 1e4, 3, prompt=10, output=100)
    took_s = [serve_small(table, Line(hazard=h), engine=engine, replicas=2).elapsed_s for h in (0.0, 0.002, 0.01, 0.05, 0.2)]
    assert took_s == sorted(took_s)
    assert took_s[-1] > 1.5 * took_s[0]


@pytest.mark.parametrize("engine", ENGINES)
def test_only_the_sequences_of_a_marked_iteration_are_counted(serve_small, engine):
    """Two micro-batches of two: each error is counted for two requests, and each of the four is as often hit."""
    settings = [*PLAIN, "serving.batch_buckets=[2]", "serving.context_buckets=[65536]", "serving.prefill_tokens_max=4096"]
    result = serve_small(make_table([0.0] * 4, [1] * 4, [4000] * 4), same_time(0.02), engine=engine, settings=settings)
    replays = result.tables["requests"]["replays"]
    assert abs(replays[0] - replays[1]) + abs(replays[2] - replays[3]) <= 4  # but for prompts, read one by one
    assert abs(replays - 4000 * 0.02).max() < 5 * np.sqrt(4000 * 0.02)
    assert (replays[0], replays[1]) != (replays[2], replays[3])


def test_a_stretch_of_rounds_meets_its_errors_where_single_rounds_do():
    batches = (MicroBatches(Shape(1, 1), 3, 1, 1, bit_errors=UNIT // 5), MicroBatches(Shape(1, 1), 1, 1, 1, bit_errors=UNIT // 7))

    def met(stretch):
        marks, found, done = Marks(error_draws(1, 0)), [], 0
        while done < 200:
            clean = marks.clean_rounds(batches, min(stretch, 200 - done))
            if clean:
                marks.passed(batches, clean)
                done += clean
            else:
                found += [(done, number) for number, _ in marks.marked(batches)]
                done += 1
        return found

    assert met(1) == met(7) == met(200)
    assert len(met(1)) > 50


def test_rates_with_hardly_a_clean_iteration_are_refused():
    for hazard in (2.5, 1000.0, float("inf")):
        with pytest.raises(SpecError, match=r"network\.error_rate"):
            bit_errors(hazard)
    assert bit_errors(0.0) == 0
    assert bit_errors(1e-10) == pytest.approx(1e-10 * UNIT, rel=1e-6)
