"""Programs spelled out as tasks: same work, right order, right chips."""

import numpy as np

from dcsim.llm.blocks import Block, Collective, Operation
from dcsim.llm.program import Program, Stage
from dcsim.network.lower import lower, pieces_of
from dcsim.network.tasks import COMPUTE, HOP, LINK, MATRIX, MESSAGE, TaskBuilder, Tasks


def direct(builder: TaskBuilder, step: Collective, ranks, before):
    """Everyone to everyone: reduce slices, then gather them."""
    size = -(-step.size_bytes // len(ranks))
    if step.op != "all_gather":
        arrived = [list(b) for b in before]
        for source in ranks:
            for target in ranks:
                if source != target:
                    arrived[target].append(builder.message(source, target, size, before[source], LINK))
        before = [[builder.compute(r, 2, 10, 10, arrived[r], step.rows, step.rows)] for r in ranks]
    if step.op == "reduce_scatter":
        return before
    arrived = [list(b) for b in before]
    for source in ranks:
        for target in ranks:
            if source != target:
                arrived[target].append(builder.message(source, target, size, before[source], LINK))
    return arrived


def operation(name: str, cycles: int, tp: int, rows: int = 1, lead: int = 1, part: str = "matrix") -> Operation:
    return Operation(name, part, (cycles,) * tp, (cycles * rows,) * tp, rows, lead)


def finish(tasks: Tasks, link_cycles: int = 100) -> int:
    """The timing rule of `tasks`, read literally, on links without contention."""
    first, last = np.zeros(len(tasks), int), np.zeros(len(tasks), int)
    for t in range(len(tasks)):
        before = tasks.before[tasks.before_start[t] : tasks.before_start[t + 1]]
        rows, lead, mine = int(tasks.rows[t]), int(tasks.lead_rows[t]), int(tasks.first_cycles[t])
        start = max((int(first[p] + (last[p] - first[p]) * lead // rows) for p in before), default=0)
        if tasks.kind[t] == MESSAGE:
            first[t], last[t] = start + link_cycles, max(int(last[p]) for p in before) + link_cycles
        else:
            first[t] = start + mine
            last[t] = max([start + int(tasks.last_cycles[t]), *(int(last[p]) + mine for p in before)])
    return int(last.max())


def two_stages(tp: int = 4, layers: int = 3) -> Program:
    block = Block("b", (operation("a", 7, tp), operation("b", 5, tp), Collective("all_reduce", "all_reduce", 320, 1)))
    last = Block("c", (operation("a", 7, tp), Collective("reduce_scatter", "reduce_scatter", 320, 1)))
    gather = Block("g", (Collective("all_gather", "all_gather", 320, 1),))
    chips = tuple(range(10, 10 + tp)), tuple(range(20, 20 + tp))
    return Program(
        1e9,
        (Stage(chips[0], (block,) * layers + (last,), 320), Stage(chips[1], (gather, *(block,) * layers), 0)),
        4,
    )


def test_order_chips_and_counts() -> None:
    tp, layers = 4, 3
    tasks = lower(two_stages(tp, layers), direct)
    own = np.repeat(np.arange(len(tasks)), np.diff(tasks.before_start))
    assert (tasks.before < own).all()
    assert tasks.before.min() >= 0
    assert set(tasks.chip.tolist()) == set(range(10, 14)) | set(range(20, 24))
    hops = np.flatnonzero(tasks.part == HOP)
    pairs = list(
        zip(
            tasks.chip[hops].tolist(),
            tasks.target[hops].tolist(),
            tasks.size_bytes[hops].tolist(),
            strict=True,
        )
    )
    assert pairs == [(10 + r, 20 + r, 80) for r in range(4)] + [(20 + r, 10 + r, 4) for r in range(4)]
    inside = (tasks.kind == MESSAGE) & (tasks.part == LINK)
    assert inside.sum() == (2 * layers * 2 + 1 + 1) * tp * (tp - 1)
    assert (tasks.chip[inside] // 10 == tasks.target[inside] // 10).all()
    assert (tasks.target[tasks.kind == COMPUTE] == -1).all()


def test_time_is_the_sum_along_the_chain() -> None:
    """One row: per layer 7 + 5 + two messages and a reduction; a hop, a gathering and the way back."""
    per_layer = 7 + 5 + 100 + 10 + 100
    end_of_stage = 7 + 100 + 10
    assert finish(lower(two_stages(), direct)) == 6 * per_layer + end_of_stage + 100 + 100 + 100


def test_tiling_equals_spelling_out_every_block() -> None:
    program = two_stages()
    apart = Program(
        program.clock_hz,
        tuple(Stage(s.chips, tuple(Block(b.kind, b.steps) for b in s.blocks), s.send_bytes) for s in program.stages),
        4,
    )
    a, b = lower(program, direct), lower(apart, direct)
    for name in Tasks.__slots__:
        assert np.array_equal(getattr(a, name), getattr(b, name)), name


def test_one_chip_sends_nothing() -> None:
    program = Program(1e9, (Stage((3,), (Block("b", (operation("a", 9, 1),)),) * 2, 0),), 4)
    tasks = lower(program, direct)
    assert tasks.kind.tolist() == [COMPUTE, COMPUTE]
    assert finish(tasks) == 18


def test_an_empty_block_passes_on_what_came_before() -> None:
    full, empty = Block("b", (operation("a", 9, 2),)), Block("e", ())
    program = Program(1e9, (Stage((0, 1), (full, empty, full), 0),), 0)
    assert finish(lower(program, direct)) == 18


def test_streaming_never_gives_the_matrix_unit_twice() -> None:
    """100 rows through two products of 50 cycles a row on one unit: overlap would finish in little over 5000."""
    steps = (
        operation("up", 50, 1, 100, 20),
        operation("act", 1, 1, 100, 1, "vector"),
        operation("down", 50, 1, 100, 20),
    )
    once = lower(Program(1e9, (Stage((0,), (Block("b", steps),), 0),), 0), direct)
    assert finish(once) >= 10_000
    blocks = Program(1e9, (Stage((0,), (Block("b", steps),) * 2, 0),), 0)
    assert finish(lower(blocks, direct)) >= 20_000
    assert set(once.part.tolist()) >= {MATRIX}


def test_equal_blocks_and_hops_share_their_template() -> None:
    pieces = pieces_of(two_stages(4, 3), direct)
    assert [piece.targets != piece.chips for piece in pieces] == [False] * 3 + [True] + [False] * 3 + [True]
    assert len({id(piece.template) for piece in pieces}) == 4  # block, last block, gathering, block and way back
    assert pieces[3].chips == pieces[0].chips
    assert pieces[3].targets == pieces[3].chips + pieces[4].chips
    assert pieces[-1].targets == pieces[-1].chips + pieces[0].chips


def test_loading_the_catalog_entry_whole() -> None:
    """An 8-chip iteration of a shipped LLM on a shipped chip lowers to tasks on its chips alone."""
    from dcsim.llm.mapping import lay
    from dcsim.llm.program import Shape, build_program
    from dcsim.spec.load import load

    spec = load("8rack", llm="bert-large").spec
    mapping = lay(spec.llm, spec.chip, spec.mapping, 2, 4, [list(range(8))])
    tasks = lower(build_program(spec.llm, mapping, spec.chip, Shape(1, 384, 384)), direct)
    assert set(tasks.chip.tolist()) == set(range(8))
    assert tasks.rows.max() == 384


def test_a_stage_of_another_width_gets_every_byte_once():
    """Slices of 1/n go on as slices of 1/m; what stays on a chip of both stages is no message, and nothing else is missing."""
    size = 24_000
    for chips, after in (((0, 1), tuple(range(10, 18))), (tuple(range(8)), (20, 21, 22)), ((0, 1), (0, 1, 2, 3)), ((4,), (4,))):
        n, m = len(chips), len(after)
        block = Block("b", (operation("a", 7, n),))
        onward = Block("c", (operation("a", 7, m),))
        program = Program(1e9, (Stage(chips, (block,), size), Stage(after, (onward,), 0)), 4)
        tasks = lower(program, direct)
        hops = np.flatnonzero((tasks.kind == MESSAGE) & (tasks.part == HOP))
        forward = [t for t in hops if tasks.size_bytes[t] > 4]
        byte_of = np.zeros(size, int)  # how often each byte gets where it belongs
        for q, chip in enumerate(after):
            sources = {int(tasks.chip[t]): int(tasks.size_bytes[t]) for t in forward if tasks.target[t] == chip}
            for r, source in enumerate(chips):
                low, high = max(r * size // n, q * size // m), min((r + 1) * size // n, (q + 1) * size // m)
                if high > low:
                    assert sources.get(source, 0) == (0 if source == chip else high - low)
                    byte_of[low:high] += 1
        assert (byte_of == 1).all()
        assert not (tasks.chip[hops] == tasks.target[hops]).any()
        back = [t for t in hops if tasks.size_bytes[t] == 4]
        assert {int(tasks.target[t]) for t in back} == set(chips) - {after[r % m] for r in range(n) if after[r % m] == chips[r]}
        assert finish(tasks) >= finish(lower(Program(1e9, (Stage(chips, (block,), 0),), 0), direct)) + 7
