"""Collectives move the right data, in the right number of bytes and steps."""

from itertools import pairwise
from math import ceil, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsim.errors import FabricError
from dcsim.fabric.dragonfly import lpu_dragonfly
from dcsim.network import collectives as c
from dcsim.network.tasks import COLLECTIVE_FIRST, COLLECTIVE_STEP, COMPUTE, MESSAGE, SEND, TaskBuilder

UNIT = c.VectorUnit(vector_bytes=4, reduce_cycles=118)


class Recorded(c.Ranks):
    """Also notes which bytes each task is about."""

    def __init__(self, *args):
        super().__init__(*args)
        self.spans = {}

    def send(self, source, target, spans, before):
        made = super().send(source, target, spans, before)
        self.spans |= dict.fromkeys(made, spans)
        return made

    def add(self, rank, spans, before):
        made = super().add(rank, spans, before)
        self.spans |= dict.fromkeys(made, spans)
        return made


def run(op, algorithm, n, size, levels=()):
    """(tasks, spans of each task, after, initial task of each rank)."""
    builder = TaskBuilder(9e8)
    before = [[builder.compute(100 + r, 0, 1, 1, [])] for r in range(n)]
    ranks = Recorded(builder, [100 + r for r in range(n)], UNIT, SEND if op == "broadcast" else None)
    after = c.ALGORITHMS[op, algorithm](ranks, size, before, levels)
    return builder.build(), ranks.spans, [a or b for a, b in zip(after, before, strict=True)], before


def flow(tasks, spans, before, inputs):
    """The numbers each task holds, NaN elsewhere: sums add, messages copy, and both check where they stand."""
    values = []
    for t in range(len(tasks)):
        own = list(tasks.before[tasks.before_start[t] : tasks.before_start[t + 1]])
        if t < len(before):
            values.append(inputs[t])
            continue
        for p in own:
            place = tasks.target[p] if tasks.kind[p] == MESSAGE else tasks.chip[p]
            assert place == tasks.chip[t], "data used on a chip it never reached"
        mask = np.zeros(len(inputs[0]), bool)
        for start, end in spans[t]:
            mask[start:end] = True
        stack = np.array([np.where(mask, values[p], np.nan) for p in own])
        if tasks.kind[t] == COMPUTE:
            total = stack.sum(0)
        else:
            total = merge(stack)
        assert not np.isnan(total[mask]).any(), "a task uses bytes that its predecessors do not bring"
        values.append(total)
    return values


def merge(stack):
    """Bytes brought by several tasks must agree."""
    low, high = np.fmin.reduce(stack), np.fmax.reduce(stack)
    assert np.array_equal(low, high, equal_nan=True), "two predecessors bring different values of one byte"
    return low


def levels_for(n, node, rack):
    return ([r // node for r in range(n)], [r // rack for r in range(n)])


CASES = st.tuples(st.integers(1, 13), st.integers(1, 90), st.integers(1, 5), st.integers(5, 9))


@pytest.mark.parametrize("algorithm", ["direct", "ring", "tree", "hierarchical"])
@given(case=CASES)
@settings(max_examples=40, deadline=None)
def test_all_reduce_sums_every_byte_on_every_rank(algorithm, case):
    n, size, node, rack = case
    tasks, spans, after, before = run("all_reduce", algorithm, n, size, levels_for(n, node, rack))
    inputs = np.random.default_rng(1).integers(0, 1000, (n, size)).astype(float)
    values = flow(tasks, spans, before, inputs)
    for done in after:
        assert np.array_equal(merge(np.array([values[t] for t in done])), inputs.sum(0))


@pytest.mark.parametrize("algorithm", ["direct", "ring", "hierarchical"])
@given(case=CASES)
@settings(max_examples=30, deadline=None)
def test_reduce_scatter_and_all_gather(algorithm, case):
    n, size, node, rack = case
    levels, slices = levels_for(n, node, rack), c.cut(size, n, UNIT.vector_bytes)
    inputs = np.random.default_rng(2).integers(0, 1000, (n, size)).astype(float)
    tasks, spans, after, before = run("reduce_scatter", algorithm, n, size, levels)
    values = flow(tasks, spans, before, inputs)
    for (start, end), done in zip(slices, after, strict=True):
        if end > start:
            assert np.array_equal(merge(np.array([values[t] for t in done]))[start:end], inputs.sum(0)[start:end])
    own = np.full((n, size), np.nan)
    for rank, (start, end) in enumerate(slices):
        own[rank, start:end] = inputs[0, start:end]
    tasks, spans, after, before = run("all_gather", algorithm, n, size, levels)
    values = flow(tasks, spans, before, own)
    for done in after:
        assert np.array_equal(merge(np.array([values[t] for t in done])), inputs[0])


@pytest.mark.parametrize("algorithm", ["direct", "tree"])
@given(n=st.integers(1, 17), size=st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_broadcast_reaches_every_rank(algorithm, n, size):
    tasks, spans, after, before = run("broadcast", algorithm, n, size)
    inputs = np.random.default_rng(3).integers(0, 9, (n, size)).astype(float)
    values = flow(tasks, spans, before, inputs)
    for done in after:
        assert np.array_equal(merge(np.array([values[t] for t in done])), inputs[0])
    assert (tasks.call[n:] == SEND).all()


@given(n=st.integers(1, 9), size=st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_all_to_all_sends_each_its_span(n, size):
    tasks, spans, after, _ = run("all_to_all", "direct", n, size)
    slices = c.cut(size, n, UNIT.vector_bytes)
    seen = {(int(tasks.chip[t]) - 100, int(tasks.target[t]) - 100): spans[t] for t in range(n, len(tasks))}
    wanted = {(s, t): [slices[t]] for s in range(n) for t in range(n) if s != t and slices[t][1] > slices[t][0]}
    assert seen == wanted
    for rank, done in enumerate(after):
        arrived = {t for t in range(n, len(tasks)) if tasks.target[t] == 100 + rank}
        assert set(done) == arrived | {rank}


def sent_bytes(tasks, n):
    return np.bincount(tasks.chip[n:] - 100, tasks.size_bytes[n:], minlength=n)


@pytest.mark.parametrize(
    ("op", "algorithm", "factor"),
    [
        ("all_reduce", "ring", 2),
        ("all_reduce", "direct", 2),
        ("all_reduce", "hierarchical", None),
        ("reduce_scatter", "ring", 1),
        ("reduce_scatter", "direct", 1),
        ("all_gather", "ring", 1),
        ("all_gather", "direct", 1),
        ("all_to_all", "direct", 1),
    ],
)
def test_bytes_moved_per_rank(op, algorithm, factor):
    n, size = 16, 16 * 40
    levels = levels_for(n, 4, 8)
    tasks, *_ = run(op, algorithm, n, size, levels)
    if factor is None:  # node of 4, rack of 2 nodes, 2 racks: 3/4 of the whole, 1/2 of a quarter, 1/2 of an eighth
        expected = 2 * size * (3 / 4 + 1 / 4 / 2 + 1 / 8 / 2)
    else:
        expected = factor * size * (n - 1) / n
    assert (sent_bytes(tasks, n) == expected).all()


def finish(tasks, latency, per_byte, per_sum):
    """Every task waits for its whole input; ports are as many as needed (zero contention)."""
    done = np.zeros(len(tasks))
    for t in range(len(tasks)):
        own = tasks.before[tasks.before_start[t] : tasks.before_start[t + 1]]
        ready = done[own].max() if len(own) else 0.0
        if tasks.kind[t] == MESSAGE:
            done[t] = ready + latency + per_byte * tasks.size_bytes[t]
        elif len(own):
            done[t] = ready + per_sum * tasks.rows[t] * UNIT.vector_bytes
    return done.max()


@pytest.mark.parametrize("n", [2, 4, 8, 16])
def test_times_at_zero_contention(n):
    a, b, r, size = 7.0, 0.5, 0.25, 64 * n
    assert finish(run("all_reduce", "ring", n, size)[0], a, b, r) == pytest.approx(
        2 * (n - 1) * a + 2 * (n - 1) / n * size * b + (n - 1) / n * size * r
    )
    assert finish(run("all_reduce", "direct", n, size)[0], a, b, r) == pytest.approx(2 * (a + size / n * b) + size / n * r)
    steps = log2(n)
    assert finish(run("all_reduce", "tree", n, size)[0], a, b, r) == pytest.approx(2 * steps * (a + size * b) + steps * size * r)
    assert finish(run("broadcast", "tree", n, size)[0], a, b, r) == pytest.approx(steps * (a + size * b))


@pytest.mark.parametrize("n", [3, 5, 8, 13])
def test_steps(n):
    def depth(op, algorithm):
        return finish(run(op, algorithm, n, 4 * n)[0], 1, 0, 0)

    assert depth("all_reduce", "ring") == 2 * (n - 1)
    tree = run("all_reduce", "tree", n, 4 * n)[0]
    assert ((tree.kind == COMPUTE) & (tree.chip == 100)).sum() - 1 == ceil(log2(n))
    assert depth("all_reduce", "tree") <= 2 * ceil(log2(n))
    assert depth("all_reduce", "direct") == 2
    assert depth("reduce_scatter", "ring") == n - 1
    assert depth("all_to_all", "direct") == 1


def test_first_and_later_steps_are_told_apart():
    tasks, *_ = run("all_reduce", "direct", 4, 64)
    calls = tasks.call[tasks.kind == MESSAGE]
    assert list(calls) == [COLLECTIVE_FIRST] * 12 + [COLLECTIVE_STEP] * 12
    tasks, *_ = run("all_reduce", "ring", 4, 64)
    calls = list(tasks.call[tasks.kind == MESSAGE])
    assert calls.count(COLLECTIVE_FIRST) == 4
    assert calls.count(COLLECTIVE_STEP) == 4 * 5


def test_a_sum_streams():
    tasks, *_ = run("all_reduce", "direct", 4, 4 * 4 * 10)
    sums = (tasks.kind == COMPUTE) & (tasks.chip >= 0) & (tasks.rows > 1)
    assert sums.sum() == 4
    assert (tasks.first_cycles[sums] == 118).all()
    assert (tasks.last_cycles[sums] == 118 + 9).all()
    assert (tasks.rows[sums] == 10).all()
    assert (tasks.lead_rows[sums] == 0).all()


@given(size=st.integers(0, 5000), parts=st.integers(1, 70))
def test_cut_covers_and_is_even(size, parts):
    spans = c.cut(size, parts, 320)
    assert spans[0][0] == 0
    assert spans[-1][1] == size
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    vectors = [-(-(end - start) // 320) for start, end in spans]
    assert max(vectors) - min(vectors) <= 1
    assert sum(vectors) == -(-size // 320)


def test_auto_is_direct_in_a_node_and_hierarchical_beyond():
    fabric = lpu_dragonfly(racks=8)
    assert c.choose("all_reduce", 8, c.levels_of(fabric, range(8))) == "direct"
    assert c.choose("all_reduce", 9, c.levels_of(fabric, range(9))) == "hierarchical"
    assert c.choose("all_to_all", 64, c.levels_of(fabric, range(64))) == "direct"
    assert c.choose("broadcast", 64, c.levels_of(fabric, range(64))) == "tree"


def test_hierarchy_sends_less_between_nodes_than_direct():
    levels = levels_for(64, 8, 64)

    def crossing(algorithm):
        tasks, *_ = run("all_gather", algorithm, 64, 64 * 4, levels)
        out = (tasks.kind == MESSAGE) & ((tasks.chip - 100) // 8 != (tasks.target - 100) // 8)
        return tasks.size_bytes[out].sum()

    assert crossing("direct") == 8 * crossing("hierarchical")


def test_edges():
    builder = TaskBuilder(9e8)
    start = builder.compute(0, 0, 1, 1, [])
    assert c.add_collective(builder, "all_reduce", [5], 100, [[start]], UNIT) == [[start]]
    assert c.add_collective(builder, "all_reduce", [5, 6], 0, [[start], []], UNIT) == [[start], []]
    assert len(builder.build()) == 1
    with pytest.raises(FabricError, match="all_reduce ring"):
        c.add_collective(builder, "all_reduce", [5, 6], 10, [[], []], UNIT, algorithm="spiral")
