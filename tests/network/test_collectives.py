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
from dcsim.network.patterns import rails, trees
from dcsim.network.patterns.ranks import Ranks, VectorUnit, cut, cut_span
from dcsim.network.tasks import COLLECTIVE_FIRST, COLLECTIVE_STEP, COMPUTE, MESSAGE, TaskBuilder

UNIT = VectorUnit(vector_bytes=4, reduce_cycles=118)


class Recorded(Ranks):
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
    ranks = Recorded(builder, [100 + r for r in range(n)], UNIT)
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


@pytest.mark.parametrize("algorithm", ["direct", "ring", "tree", "hierarchical", "one_shot", "two_shot"])
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
    levels, slices = levels_for(n, node, rack), cut(size, n, UNIT.vector_bytes)
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


@pytest.mark.parametrize("algorithm", ["direct", "tree", "pipeline"])
@given(n=st.integers(1, 17), size=st.integers(1, 40), node=st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_broadcast_reaches_every_rank(algorithm, n, size, node):
    tasks, spans, after, before = run("broadcast", algorithm, n, size, levels_for(n, node, n))
    inputs = np.random.default_rng(3).integers(0, 9, (n, size)).astype(float)
    values = flow(tasks, spans, before, inputs)
    for done in after:
        assert np.array_equal(merge(np.array([values[t] for t in done])), inputs[0])


@given(n=st.integers(1, 9), size=st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_all_to_all_sends_each_its_span(n, size):
    tasks, spans, after, _ = run("all_to_all", "direct", n, size)
    slices = cut(size, n, UNIT.vector_bytes)
    seen = {(int(tasks.chip[t]) - 100, int(tasks.target[t]) - 100): spans[t] for t in range(n, len(tasks))}
    wanted = {(s, t): [slices[t]] for s in range(n) for t in range(n) if s != t and slices[t][1] > slices[t][0]}
    assert seen == wanted
    for source in range(n):  # the next rank first
        order = [target for sender, target in seen if sender == source]
        assert order == sorted(order, key=lambda target: (target - source) % n)
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
    assert finish(run("broadcast", "tree", n, size)[0], a, b, r) == pytest.approx(steps * (a + size * b))
    assert finish(run("all_reduce", "one_shot", n, size)[0], a, b, r) == pytest.approx(a + size * b + size * r)
    assert finish(run("broadcast", "pipeline", n, size)[0], a, b, r) == pytest.approx((n - 1) * (a + size * b))


@pytest.mark.parametrize("n", [3, 5, 8, 13])
def test_steps(n):
    def depth(op, algorithm):
        return finish(run(op, algorithm, n, 4 * n)[0], 1, 0, 0)

    assert depth("all_reduce", "ring") == 2 * (n - 1)
    alone = run("all_reduce", "tree", n, 8 * n, levels_for(n, 1, n))[0]
    assert finish(alone, 1, 0, 0) <= 2 * ceil(log2(n))
    assert depth("all_reduce", "tree") == 2 * (n - 1)  # in one node: a chain
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
    spans = cut(size, parts, 320)
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


@pytest.mark.parametrize(("op", "passes"), [("reduce_scatter", 1), ("all_reduce", 2)])
def test_each_level_of_a_hierarchy_adds_up_before_it_sends_on(op, passes):
    """Sixteen ranks in nodes of two and racks of eight: each of two racks sends the other's half once it has added it up, and
    gets it back. Where racks are not known, each of their four nodes sends it.
    """

    def across(levels):
        tasks, *_ = run(op, "hierarchical", 16, 1600, levels)
        between = (tasks.kind == MESSAGE) & ((tasks.chip - 100) // 8 != (tasks.target - 100) // 8)
        return tasks.size_bytes[between].sum()

    nodes, racks = levels_for(16, 2, 8)
    assert across([nodes, racks]) == passes * 1600
    assert across([nodes]) == 4 * passes * 1600


def test_a_channel_more_for_each_4096_bytes_a_rank():
    """As many as a node has chips; a byte less than enough is one channel less."""
    levels = levels_for(8, 4, 8)
    for count in range(1, 7):
        assert rails.channels(8, 4096 * 8 * count, levels) == min(count, 4)
        assert rails.channels(8, 4096 * 8 * count - 1, levels) == min(max(1, count - 1), 4)
    assert rails.channels(8, 1 << 30, ()) == 1  # behind one switch


@pytest.mark.parametrize(("unit", "rate"), [(UNIT, 1.0), (VectorUnit(4, 118, 2.0), 2.0), (VectorUnit(4, 118, 0.3), 0.3)])
def test_a_sum_takes_its_first_vector_and_the_others_at_a_rate(unit, rate):
    for size in (1, 4, 5, 400):
        builder = TaskBuilder(9e8)
        Ranks(builder, [7], unit).add(0, [(0, size)], [builder.compute(7, 0, 1, 1, [])])
        tasks, vectors = builder.build(), ceil(size / 4)
        assert (tasks.first_cycles[1], tasks.last_cycles[1]) == (118, 118 + ceil((vectors - 1) / rate))
        assert (tasks.rows[1], tasks.lead_rows[1]) == (vectors, 0)


MANY = [("all_reduce", "ring"), ("all_reduce", "tree"), ("reduce_scatter", "ring"), ("all_gather", "ring")]


@pytest.mark.parametrize(("op", "algorithm"), [*MANY, ("broadcast", "pipeline")])
def test_channels_carry_a_share_each_in_their_own_order(op, algorithm, monkeypatch):
    """Three chips a node and as many channels: all bytes come as over one, along other ways between nodes."""
    n, size, levels = 6, 180, levels_for(6, 3, 6)
    inputs, slices = np.random.default_rng(4).integers(0, 9, (n, size)).astype(float), cut(size, n, UNIT.vector_bytes)
    own = np.full((n, size), np.nan)
    for rank, (start, end) in enumerate(slices):
        own[rank, start:end] = inputs[0, start:end]
    ways = []
    for bytes_each in (1, 1 << 20):
        monkeypatch.setattr(rails, "CHANNEL_RANK_BYTES", bytes_each)
        tasks, spans, after, before = run(op, algorithm, n, size, levels)
        values = flow(tasks, spans, before, own if op == "all_gather" else inputs)
        for rank, done in enumerate(after):
            whole = inputs.sum(0) if op in ("all_reduce", "reduce_scatter") else inputs[0]
            part = slice(*slices[rank]) if op == "reduce_scatter" else slice(0, size)
            assert np.array_equal(merge(np.array([values[t] for t in done]))[part], whole[part])
        message = tasks.kind == MESSAGE
        ends = zip((tasks.chip[message] - 100).tolist(), (tasks.target[message] - 100).tolist(), strict=True)
        ways.append({(a, b) for a, b in ends if a // 3 != b // 3})
    assert len(ways[0]) > len(ways[1])


def test_a_channel_has_the_share_of_its_number(monkeypatch):
    """Of what each rank holds the first third goes round by the first order, and so on."""
    monkeypatch.setattr(rails, "CHANNEL_RANK_BYTES", 1)
    n, size, levels = 6, 180, levels_for(6, 3, 6)
    tasks, spans, *_ = run("all_gather", "ring", n, size, levels)
    first = [t for t in range(n, len(tasks)) if tasks.before[tasks.before_start[t]] < n]  # what ranks send of their own
    for t in first:
        rank, target = int(tasks.chip[t]) - 100, int(tasks.target[t]) - 100
        shares = cut_span(cut(size, n, UNIT.vector_bytes)[rank], 3, UNIT.vector_bytes)
        orders = [rails.order(channel, n, levels) for channel in range(3)]
        assert any(spans[t] == [shares[c]] and ring[ring.index(rank) - 5] == target for c, ring in enumerate(orders))
    assert len(first) == 3 * n


@pytest.mark.parametrize("nodes", range(2, 20))
def test_the_second_of_two_trees_is_the_first_from_the_other_side(nodes):
    """Mirrored where the number is even, one place on where it is odd."""
    first, second = trees.double_trees(nodes)
    place = [(node + 1) % nodes if nodes % 2 else nodes - 1 - node for node in range(nodes)]
    assert second == [-1 if first[node] < 0 else place[first[node]] for node in sorted(range(nodes), key=place.__getitem__)]


def test_edges():
    builder = TaskBuilder(9e8)
    start = builder.compute(0, 0, 1, 1, [])
    assert c.add_collective(builder, "all_reduce", [5], 100, [[start]], UNIT) == [[start]]
    assert c.add_collective(builder, "all_reduce", [5, 6], 0, [[start], []], UNIT) == [[start], []]
    assert len(builder.build()) == 1
    with pytest.raises(FabricError, match="all_reduce ring"):
        c.add_collective(builder, "all_reduce", [5, 6], 10, [[], []], UNIT, algorithm="spiral")


@pytest.mark.parametrize(("op", "algorithm"), c.ALGORITHMS)
@pytest.mark.parametrize(("n", "size"), [(2, 4), (6, 100), (8, 12), (8, 4096)])
def test_what_is_said_of_a_patterns_messages_is_no_more_than_it_has(op, algorithm, n, size):
    """And no less than half, a third level by level, where it is one for each pair."""
    levels = [[rank // 2 for rank in range(n)], [0] * n]
    tasks = run(op, algorithm, n, size, levels)[0]
    messages = int((tasks.kind == MESSAGE).sum())
    least = c.messages_least(op, algorithm, n, -(-size // UNIT.vector_bytes), n // 2)
    assert least <= messages
    assert least == 0 or messages <= 3 * least + n


def test_more_messages_than_memory_holds_are_refused_before_they_are_made():
    chips = range(9280)
    before = [[] for _ in chips]
    builder = TaskBuilder(9e8)
    for op, algorithm in (("all_to_all", "auto"), ("all_reduce", "ring"), ("all_gather", "direct")):
        with pytest.raises(FabricError, match=r"86,109,120 messages.* take up to 2,896 ranks"):
            c.add_collective(builder, op, chips, 9280 * 4, before, UNIT, algorithm=algorithm)
    assert len(builder.build()) == 0
    c.add_collective(builder, "all_to_all", chips, 4 * UNIT.vector_bytes, before, UNIT)  # but for four there is nothing
    assert len(builder.build()) == 4 * 9279


@pytest.mark.parametrize("nodes", range(1, 34))
def test_double_trees_are_two_trees_and_no_node_is_inner_in_both(nodes):
    """Sanders, Speck, Traeff 2009: every byte is then sent and received about once by everybody."""
    both = trees.double_trees(nodes)
    for parents in both:
        assert parents.count(-1) == 1
        for node in range(nodes):
            steps = 0
            while node >= 0:
                node, steps = parents[node], steps + 1
            assert steps <= ceil(log2(nodes)) + 1 if nodes > 1 else steps == 1
        assert max(np.bincount([p for p in parents if p >= 0], minlength=nodes)) <= 2
    inner = [{p for p in parents if p >= 0 and parents[p] >= 0} for parents in both]
    assert not inner[0] & inner[1]


@given(nodes=st.integers(2, 6), wide=st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_channels_use_every_adapter_once_each_way_and_stay_on_rails(nodes, wide):
    n, levels = nodes * wide, levels_for(nodes * wide, wide, nodes * wide)
    assert rails.channels(n, 1 << 30, levels) == wide
    assert rails.channels(n, 100, levels) == 1
    out, into = np.zeros(n, int), np.zeros(n, int)
    for channel in range(wide):
        ring = rails.order(channel, n, levels)
        assert sorted(ring) == list(range(n))
        for k, (a, b) in enumerate(zip(ring, ring[1:] + ring[:1], strict=True)):
            if a // wide != b // wide:
                out[a] += 1
                into[b] += 1
                assert a % wide == b % wide or (nodes % 2 and k == n - 1)  # an odd number of nodes: once round, it changes
    assert (out == 1).all()
    assert (into == 1).all()


@given(nodes=st.integers(1, 4), wide=st.integers(1, 5), more=st.integers(0, 4), size=st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_an_all_to_all_by_rails_brings_every_rank_its_own(nodes, wide, more, size):
    """The last node may have fewer. Every span leaves its node along the rail of its target."""
    n = nodes * wide + min(more, wide)
    levels, slices = levels_for(n, wide, n), cut(size, n, UNIT.vector_bytes)
    tasks, _, after, _ = run("all_to_all", "hierarchical", n, size, levels)
    heard = []
    for t in range(len(tasks)):
        known = {t} if t < n else set()
        for earlier in tasks.before[tasks.before_start[t] : tasks.before_start[t + 1]]:
            known |= heard[earlier]
        heard.append(known)
    for rank, done in enumerate(after):
        if slices[rank][1] > slices[rank][0]:
            assert set().union(*(heard[t] for t in done)) == set(range(n))
    across = (tasks.kind == MESSAGE) & ((tasks.chip - 100) // wide != (tasks.target - 100) // wide)
    sent = sum((end - start) * sum(1 for s in range(n) if s // wide != r // wide) for r, (start, end) in enumerate(slices))
    assert tasks.size_bytes[across].sum() == sent
    full = across & ((tasks.chip - 100) // wide < nodes) & ((tasks.target - 100) // wide < nodes)
    assert ((tasks.chip[full] - 100) % wide == (tasks.target[full] - 100) % wide).all()
    for source in range(n):  # in its node the next chip first
        node = len(range(source - source % wide, min(n, source - source % wide + wide)))
        inside = tasks.target[(tasks.kind == MESSAGE) & ~across & (tasks.chip - 100 == source)] - 100
        shifts = (inside - source) % node if node == wide else (inside % wide - source % wide) % node
        assert (np.diff(shifts) >= 0).all()


def test_a_sum_in_switches_loads_each_port_with_the_whole_once():
    """Whatever the number of ranks; several nodes sum a share of it in each column."""
    for n in (2, 8):
        tasks, *_ = run("all_reduce", "in_network", n, 4000)
        assert (sent_bytes(tasks, n) == 4000).all()
        message = tasks.kind == MESSAGE
        assert (tasks.target[message] - 100 == (tasks.chip[message] - 100 + 1) % n).all()
    tasks, *_ = run("all_reduce", "in_network", 16, 4000, levels_for(16, 4, 16))
    across = (tasks.kind == MESSAGE) & ((tasks.chip - 100) // 4 != (tasks.target - 100) // 4)
    assert (np.bincount(tasks.chip[across] - 100, tasks.size_bytes[across], minlength=16) == 1000).all()


@pytest.mark.parametrize(("op", "algorithm"), list(c.ALGORITHMS))
@pytest.mark.parametrize(("node", "rack"), [(3, 6), (4, 8), (5, 10)])
def test_what_a_rank_sends_or_adds_has_come_to_it(op, algorithm, node, rack):
    """Each task follows what ended on its own chip alone, and each rank is done by tasks that end on its own.

    Where switches add up, a rank gets the sum once all have sent, so that it follows one of its own among others.
    """
    tasks, _, after, before = run(op, algorithm, 10, 4000, levels_for(10, node, rack))
    ends = np.where(tasks.kind == MESSAGE, tasks.target, tasks.chip)
    for t in range(len(before), len(tasks)):
        own = tasks.before[tasks.before_start[t] : tasks.before_start[t + 1]]
        here = ends[own] == tasks.chip[t]
        assert here.any() if algorithm == "in_network" else here.all()
    for rank, done in enumerate(after):
        assert set(ends[done].tolist()) == {100 + rank}


@pytest.mark.parametrize(("op", "algorithm"), [pair for pair in c.ALGORITHMS if pair[1] in ("direct", "ring", "tree")])
def test_a_rank_is_done_when_what_it_gets_is_there_or_was_before(op, algorithm):
    """Its finishing tasks end on its chip; one whose share of two bytes is nothing has only what it had."""
    n, size = 4, 2
    _, _, expected, before = run(op, algorithm, n, size)
    builder, chips = TaskBuilder(9e8), [100 + r for r in range(n)]
    own = [[builder.compute(chip, 0, 1, 1, [])] for chip in chips]
    after = c.add_collective(builder, op, chips, size, own, UNIT, algorithm=algorithm)
    tasks = builder.build()
    assert own == before
    assert after == expected
    assert any(done != mine for done, mine in zip(after, own, strict=True))
    for chip, done in zip(chips, after, strict=True):
        assert {int(tasks.target[t] if tasks.kind[t] == MESSAGE else tasks.chip[t]) for t in done} == {chip}
