"""Pieces compiled once and set down again: sound as a whole, equal to compiling each anew, and never behind it."""

from __future__ import annotations

import numpy as np
import pytest
from by_rule import load
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schedule_cases import CLOCK_HZ, FIGURES, island, line

from dcsim.errors import FabricError
from dcsim.fabric.dragonfly import lpu_dragonfly
from dcsim.fabric.graph import Fabric, from_cables, subgraph
from dcsim.kernels.jit import entry
from dcsim.llm.blocks import Block, Collective, Operation
from dcsim.llm.program import Program, Shape, Stage
from dcsim.network.collectives import add_collective
from dcsim.network.lower import Piece, join, pieces_of
from dcsim.network.patterns.ranks import VectorUnit
from dcsim.network.scheduled.bound import find_bound
from dcsim.network.scheduled.compose import Composition, compose
from dcsim.network.scheduled.links_kernel import earliest, make_links, occupy
from dcsim.network.scheduled.places import Kept, Places, message_pairs
from dcsim.network.scheduled.proof import prove
from dcsim.network.scheduled.replay import replay
from dcsim.network.scheduled.schedule import Schedule, compile_schedule
from dcsim.network.tasks import TaskBuilder, Tasks
from dcsim.study.machine import build

UNIT = VectorUnit(320, 118)


def exchange(builder: TaskBuilder, step: Collective, ranks, before):
    return add_collective(builder, step.op, ranks, step.size_bytes, before, UNIT, (), "direct")


def block(ranks: int, rows: int, cycles: int = 40, end: str = "all_reduce") -> Block:
    product = Operation("product", "matrix", (1200,) * ranks, (1200 + cycles * (rows - 1),) * ranks, rows, rows)
    streamed = Operation("scale", "vector", (60,) * ranks, (60 + rows,) * ranks, rows, min(1, rows))
    return Block("block", (product, streamed, Collective(end, end, rows * ranks * 640, rows)))


def program(stages: list[tuple[int, ...]], layers: int, rows: int, cycles: int = 40) -> Program:
    ranks = len(stages[0])
    gather = Block("gather", (Collective("gather", "all_gather", rows * ranks * 640, rows),))
    middle, last = block(ranks, rows, cycles), block(ranks, rows, cycles, "reduce_scatter")
    made = []
    for i, chips in enumerate(stages):
        blocks = ((gather,) if i and ranks > 1 else ()) + (middle,) * layers + ((last,) if i < len(stages) - 1 else ())
        made.append(Stage(chips, blocks, rows * ranks * 640 if i < len(stages) - 1 else 0))
    return Program(CLOCK_HZ, tuple(made), 4)


def composed(program: Program, fabric: Fabric) -> tuple[Composition, Schedule, Tasks, list[Piece]]:
    pieces = pieces_of(program, exchange)
    whole = compose(pieces, Places(fabric), FIGURES)
    return whole, whole.flatten(), join(pieces, CLOCK_HZ), pieces


def same(a: Schedule, b: Schedule) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in Schedule.__slots__)


def nodes(count: int) -> list[tuple[int, ...]]:
    return [tuple(range(8 * n, 8 * n + 8)) for n in range(count)]


@pytest.mark.parametrize("rows", [1, 7, 200])
def test_composed_pieces_are_proved_replayed_and_equal_to_compiling_each(rows: int) -> None:
    fabric, asked = lpu_dragonfly(1), program(nodes(6), 3, rows)
    whole, schedule, tasks, pieces = composed(asked, fabric)
    proof = prove(schedule, tasks, fabric, FIGURES)
    assert proof.vector_hops == whole.vector_hops == schedule.vector_hops
    assert whole.kinds < len(pieces)
    assert replay(schedule, tasks, fabric, FIGURES).cycles == schedule.makespan_cycles == whole.makespan_cycles
    assert same(schedule, compose(pieces, Places(fabric), FIGURES, reuse=False).flatten())


@pytest.mark.parametrize("rows", [1, 60])
def test_pieces_kept_from_another_iteration_change_nothing(rows: int) -> None:
    """The second program differs in its blocks only, so gathers are those of the first."""
    fabric, laid = lpu_dragonfly(1), nodes(4)
    places = Places(fabric)
    compose(pieces_of(program(laid, 2, rows, 40), exchange), places, FIGURES)
    pieces = pieces_of(program(laid, 2, rows, 55), exchange)
    whole, fresh = compose(pieces, places, FIGURES), compose(pieces, Places(fabric), FIGURES)
    assert same(whole.flatten(), fresh.flatten())
    assert whole.kinds == fresh.kinds


def test_what_is_kept_is_bounded() -> None:
    kept = Kept(100)
    kept.put("a", 1, 60)
    kept.put("b", 2, 30)
    assert (kept.get("a"), kept.get("b")) == (1, 2)
    kept.put("c", 3, 20)
    assert (kept.get("a"), kept.get("c")) == (None, 3)
    kept.put("d", 4, 101)
    assert (kept.get("c"), kept.get("d")) == (3, None)


def test_equal_layers_are_compiled_once_whatever_their_number() -> None:
    few, many = (composed(program(nodes(2), layers, 50), lpu_dragonfly(1))[0] for layers in (4, 40))
    assert few.kinds == many.kinds
    assert len(many.placed) - len(few.placed) == 72


@pytest.mark.parametrize(("rows", "allowed"), [(1, 1.01), (60, 1.02), (400, 1.03)])
def test_nothing_is_lost_against_compiling_the_whole(rows: int, allowed: float) -> None:
    """Pieces one after another end no later than one list of all tasks, but for ties and for results begun sooner."""
    fabric = lpu_dragonfly(1)
    _, schedule, tasks, _ = composed(program(nodes(3), 2, rows), fabric)
    assert schedule.makespan_cycles <= allowed * compile_schedule(tasks, fabric, FIGURES).makespan_cycles


@pytest.mark.parametrize("cycles", [10, 40, 300])
def test_a_prompt_chunk_keeps_to_its_bound(cycles: int) -> None:
    """Links are shared by both halves of an exchange, and the bound knows it."""
    fabric = lpu_dragonfly(1)
    whole, schedule, tasks, _ = composed(program(nodes(3), 3, 300, cycles), fabric)
    bound = find_bound(schedule, tasks, fabric, FIGURES, whole.task_starts())
    assert bound.cycles <= schedule.makespan_cycles <= 1.15 * bound.cycles


@pytest.mark.parametrize(
    ("topology", "shape"),
    [
        ("8rack", Shape(1, 512, 512)),
        ("64chip", Shape(1, 512, 512)),
        ("1500chip", Shape(8, 2048)),
        ("1500chip", Shape(1, 128, 128)),
    ],
    ids=str,
)
def test_shipped_mappings_keep_to_their_bound(topology: str, shape: Shape) -> None:
    """Also where a stage spans two nodes, so that all its exchanges share the few cables between them."""
    machine = build(load(topology).spec)
    whole = machine.network.schedule(shape)
    prove(whole.schedule, whole.tasks, machine.fabric, whole.figures)
    bound = find_bound(whole.schedule, whole.tasks, machine.fabric, whole.figures, whole.piece_starts)
    assert bound.cycles <= whole.schedule.makespan_cycles <= 1.15 * bound.cycles


@entry
def _put(links, link, cycle, vectors, stride):  # type: ignore[no-untyped-def]
    start = earliest(links, link, cycle, vectors, stride)
    occupy(links, link, start, vectors, stride)
    return start


def test_streams_in_step_leave_room_for_a_faster_one() -> None:
    """Of a link with room for five vectors in 122 cycles two streams take one each; a stream of two in 122 still fits.

    One after another as soon as they can, the two lie so that no vector fits in both halves of the 122 cycles.
    """
    starts = {}
    for in_step in (True, False):
        links, found = make_links(1, 24, 3000, in_step), []  # room for all the pages of three streams
        for cycle, vectors, stride in ((0, 1000, 122), (26, 1000, 122), (50, 2000, 61)):
            found.append(_put(links, 0, cycle, vectors, stride))
        starts[in_step] = found
    assert starts[True][2] < 3 * 122
    assert starts[False][2] >= 999 * 122


def test_the_bound_of_shared_links_adds_up_over_pieces() -> None:
    """Two chips, one cable: each all-reduce sends half there and half back twice, so every block needs that link time."""
    fabric, rows = island(2), 500
    whole, schedule, tasks, _ = composed(program([(0, 1)], 4, rows, 1), fabric)
    bound = find_bound(schedule, tasks, fabric, FIGURES, whole.task_starts())
    link = 2 * rows * 2 * FIGURES.slot_cycles  # both halves, 640 B a row: two vectors
    assert bound.cycles >= 4 * link > bound.critical_cycles
    assert schedule.makespan_cycles <= 1.15 * bound.cycles


def test_occupancy_is_the_longest_stage() -> None:
    whole, schedule, tasks, _ = composed(program(nodes(2), 2, 20), lpu_dragonfly(1))
    longest = 0
    for chip in range(16):
        work = (tasks.chip == chip) & (tasks.last_cycles > 0)
        longest = max(longest, int(schedule.last_out[work].max() - schedule.start[work].min()))
    assert whole.occupancy_cycles() == longest


def test_a_link_busier_than_any_chip_spaces_micro_batches() -> None:
    """Two chips that hardly work, 1,000 vectors from one to the other."""
    work = Block("work", (Operation("product", "matrix", (10,), (10,), 1, 1),))
    asked = Program(CLOCK_HZ, (Stage((0,), (work,), 320_000), Stage((1,), (work,), 0)), 0)
    whole, _, _, _ = composed(asked, line(2))
    assert whole.occupancy_cycles() == 1000 * FIGURES.slot_cycles


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(2, 5), st.integers(1, 3), st.integers(1, 60), st.integers(1, 90), st.integers(0, 10_000))
def test_random_stages_on_random_fabrics_are_sound(ranks: int, stages: int, rows: int, cycles: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    chips = random.permutation(12)
    ring = [(int(a), int(b), "local", 1.0) for a, b in zip(chips, np.roll(chips, 1), strict=True)]
    more = [(int(a), int(b), "local", 1.0) for a, b in random.integers(0, 12, (14, 2)) if a != b]
    fabric = from_cables("random", 12, ring + more)
    places = random.permutation(12)[: ranks * stages] if ranks * stages <= 12 else np.arange(ranks)
    laid = [tuple(places[i : i + ranks].tolist()) for i in range(0, len(places), ranks)]
    whole, schedule, tasks, pieces = composed(program(laid, 2, rows, cycles), fabric)
    prove(schedule, tasks, fabric, FIGURES)
    assert same(schedule, compose(pieces, Places(fabric), FIGURES, reuse=False).flatten())
    bound = find_bound(schedule, tasks, fabric, FIGURES, whole.task_starts())
    assert bound.cycles <= schedule.makespan_cycles


def test_a_place_holds_its_chips_and_all_shortest_ways() -> None:
    fabric = line(6)
    pieces = pieces_of(program([(0,), (4,)], 1, 1), exchange)
    last = pieces[1]
    assert last.targets == (0, 4)
    place = Places(fabric).of(last, message_pairs(last.template.tasks))
    assert sorted(place.vertices.tolist()) == [0, 1, 2, 3, 4]
    part, links = subgraph(fabric, place.vertices)
    assert np.array_equal(place.vertices[part.link_source], fabric.link_source[links])
    assert np.array_equal(place.vertices[part.link_target], fabric.link_target[links])
    assert np.array_equal(links[part.reverse], fabric.reverse[links])


def test_what_cannot_be_reached_is_refused() -> None:
    apart = from_cables("apart", 4, [(0, 1, "local", 1.0), (2, 3, "local", 1.0)])
    with pytest.raises(FabricError, match="no path from chip 1 to chip 2"):
        composed(program([(1,), (2,)], 1, 1), apart)


def test_nothing_composes_to_nothing() -> None:
    whole = compose([], Places(line(2)), FIGURES)
    assert (whole.makespan_cycles, whole.vector_hops, whole.occupancy_cycles(), len(whole.flatten().start)) == (0, 0, 0, 0)
