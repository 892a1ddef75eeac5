"""Where shards and stages go, counted by hand, and cuts against trying all."""

from dataclasses import replace
from itertools import combinations, pairwise
from math import ceil
from types import SimpleNamespace

import numpy as np
import pytest

from dcsim.errors import CapacityError, SpecError
from dcsim.llm import mapping, stages
from dcsim.llm.mapping import Layout, candidates, choices, fewest_chips, lay, limit_bytes, place
from dcsim.spec.mapping import MappingSpec

PAIR = [[*range(8)], [*range(8, 16)]]


@pytest.mark.parametrize(
    ("tp", "stages", "expected"),
    [
        (3, 4, [(0, 1, 2), (3, 4, 5), (8, 9, 10), (11, 12, 13)]),  # none across nodes
        (3, 5, [(0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11), (12, 13, 14)]),  # unless they would not suffice
        (8, 2, [tuple(range(8)), tuple(range(8, 16))]),
        (4, 3, [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11)]),
        (12, 1, [tuple(range(12))]),
        (16, 1, [tuple(range(16))]),
    ],
)
def test_a_stage_stays_within_a_node_where_it_can(tp: int, stages: int, expected: list) -> None:
    assert place(PAIR, tp, stages) == expected


def test_a_wide_stage_starts_at_a_nodes_first_chip() -> None:
    nodes = [[*range(i, i + 8)] for i in range(0, 48, 8)]
    assert place(nodes, 12, 3) == [tuple(range(0, 12)), tuple(range(16, 28)), tuple(range(32, 44))]
    assert place(nodes, 16, 2) == [tuple(range(0, 16)), tuple(range(16, 32))]
    assert place(nodes, 12, 4) == [tuple(range(12 * i, 12 * i + 12)) for i in range(4)]


def test_no_more_stages_than_have_all_their_chips() -> None:
    assert place(PAIR, 3, 99) == [(0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11), (12, 13, 14)]
    assert place(PAIR, 16, 99) == [tuple(range(16))]
    assert place(PAIR, 17, 99) == []


def test_numbers_of_stages_that_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fewest, the most, whole layers a stage, and where one more copy of the LLM finds chips."""
    monkeypatch.setattr(mapping.arch, "layer_blocks", lambda layers: range(layers))
    whole, copies = {1, 2, 3, 4, 7}, {20, 10, 6, 5, 4, 3, 2, 1}  # of seven layers; of twenty groups of chips
    found = mapping._cuts(7, 2, 13, 20)  # type: ignore[arg-type]  # layers stand for an LLM
    assert found == sorted(n for n in whole | copies | {2, 13} if 2 <= n <= 13)
    assert mapping._cuts(7, 5, 30, 20) == [5, 6, 7, 10, 20, 30]  # type: ignore[arg-type]  # layers stand for an LLM
    assert mapping._cuts(1, 5, 5, 0) == [5]  # type: ignore[arg-type]  # layers stand for an LLM
    many = mapping._cuts(96, 1, 5000, 5000)  # type: ignore[arg-type]  # layers stand for an LLM
    assert len(many) == mapping.CUTS_MAX
    assert (many[0], many[-1]) == (1, 5000)


def test_nodes_of_different_sizes() -> None:
    nodes = [[0, 1], [2, 3, 4, 5], [6, 7, 8]]
    assert place(nodes, 4, 1) == [(2, 3, 4, 5)]
    assert place(nodes, 2, 4) == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert place(nodes, 3, 3) == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]


@pytest.mark.parametrize(
    ("heads", "node", "chips", "inside", "across"),
    [
        (64, 8, 512, [1, 2, 4, 8], [16, 24, 32, 40, 48, 56, 64]),
        (12, 8, 512, [1, 2, 3, 4, 6, 8], []),  # 8 is a power of two
        (12, 16, 512, [1, 2, 3, 4, 6, 8, 12], []),
        (40, 8, 24, [1, 2, 4, 5, 8], [16, 24]),
        (40, 4, 512, [1, 2, 4], [8, 12, 16, 20, 24, 28, 32, 36, 40]),
        (3, 8, 8, [1, 2, 3], []),
        (64, 7, 512, [1, 2, 4], [14, 21, 28, 35, 42, 49, 56, 63]),
        (40, 8, 23, [1, 2, 4, 5, 8], [16]),
    ],
)
def test_degrees_are_divisors_of_the_heads_and_powers_of_two_or_whole_nodes(
    monkeypatch: pytest.MonkeyPatch, heads: int, node: int, chips: int, inside: list[int], across: list[int]
) -> None:
    monkeypatch.setattr(mapping.arch, "degree_max", lambda _: heads)
    found = mapping._degrees(None, MappingSpec(), node, chips)  # type: ignore[arg-type]  # layers stand for an LLM
    assert (list(found[0]), list(found[1])) == (inside, across)
    assert mapping._degrees(None, MappingSpec(tp=5), node, chips) == ([5], [])  # type: ignore[arg-type]  # layers stand for an LLM


def fewest_by_trying(need: np.ndarray, limit: int) -> int:
    """Stages of the best cut among all."""
    count = len(need)
    for fewest in range(1, count + 1):
        for cuts in combinations(range(1, count), fewest - 1):
            ends = [0, *cuts, count]
            if all(need[a:b].sum(axis=0).max() <= limit for a, b in pairwise(ends)):
                return fewest
    return count + 1


@pytest.mark.parametrize("seed", range(40))
def test_stages_filled_in_turn_are_the_fewest(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    random = np.random.default_rng(seed)
    need = random.integers(1, 6, (7, 2))
    limit = int(random.integers(5, 12))
    held = SimpleNamespace(weights=need - 1, kept=lambda tokens: np.full((7, 2), tokens))
    monkeypatch.setattr(stages, "held_by", lambda *_: held)
    monkeypatch.setattr(stages, "limit_bytes", lambda _: limit)
    assert stages.fewest_stages(None, None, None, 2) == fewest_by_trying(need, limit)  # type: ignore[arg-type]  # layers stand for an LLM


def test_a_block_that_no_stage_holds_needs_more_stages_than_there_are_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    held = SimpleNamespace(weights=np.array([[1], [9], [1]]), kept=lambda tokens: np.zeros((3, 1), int))
    monkeypatch.setattr(stages, "held_by", lambda *_: held)
    for limit, fewest in ((8, 4), (9, 3), (10, 2), (11, 1)):
        monkeypatch.setattr(stages, "limit_bytes", lambda _, limit=limit: limit)
        assert stages.fewest_stages(None, None, None, 1) == fewest  # type: ignore[arg-type]  # layers stand for an LLM


def test_a_chip_holds_its_memory_less_the_reserve(catalog) -> None:
    chip = catalog.lpu(memory_bytes=1000, reserve_fraction=0.25)
    assert limit_bytes(chip) == 750


def test_replicas_are_as_many_as_asked_or_as_there_is_room_for(catalog) -> None:
    llm, chip = catalog.llm("bert-large"), catalog.lpu()
    for replicas, made in ((1, 1), (3, 3), ("auto", 3)):
        found = lay(llm, chip, MappingSpec(replicas=replicas), 1, 4, catalog.nodes(15))
        assert found.replicas == made
        assert found.replica_chips[0] == found.stage_chips == ((0,), (1,), (2,), (3,))
        flat = [chip for replica in found.replica_chips for stage in replica for chip in stage]
        assert flat == list(range(4 * made))
    with pytest.raises(CapacityError, match=r"mapping needs 16 chips \(4 x 4 stages x 1\), 15 are active") as refused:
        lay(llm, chip, MappingSpec(replicas=4), 1, 4, catalog.nodes(15))
    assert (refused.value.needed, refused.value.available) == (16, 15)
    with pytest.raises(CapacityError, match=r"mapping needs 16 chips \(1 x 4 stages x 4\), 15 are active"):
        lay(llm, chip, MappingSpec(replicas="auto"), 4, 4, catalog.nodes(15))
    for spec in (MappingSpec(), MappingSpec(replicas="auto")):
        alone = lay(llm, chip, spec, 1, 4, catalog.nodes(7))
        assert (alone.replicas, alone.chips_used, alone.head_apart, alone.host_embedding) == (1, 4, False, False)


def test_candidates_use_all_chips_offered_to_a_replica(catalog) -> None:
    llm, chip = catalog.llm("bert-large"), catalog.lpu()
    blocks = 49
    found = dict(candidates(llm, chip, MappingSpec(), 64))
    assert found == {tp: min(64 // tp, blocks) for tp in (1, 2, 4, 8)}
    assert dict(candidates(llm, chip, MappingSpec(replicas=2), 64)) == {tp: min(32 // tp, blocks) for tp in (1, 2, 4, 8)}
    assert dict(candidates(llm, chip, MappingSpec(chips_max=20), 64)) == {tp: 20 // tp for tp in (1, 2, 4, 8)}
    assert candidates(llm, chip, MappingSpec(tp=2, pp=7), 64) == [(2, 7)]


def test_the_fewest_chips_do_and_one_less_does_not(catalog) -> None:
    llm, chip = catalog.llm("bert-large"), catalog.lpu()
    fewest, tp, pp = fewest_chips(llm, chip, MappingSpec(weights="fp16"))
    assert fewest == tp * pp
    assert (tp, pp) in candidates(llm, chip, MappingSpec(weights="fp16"), fewest)
    with pytest.raises(CapacityError) as refused:
        candidates(llm, chip, MappingSpec(weights="fp16"), fewest - 1)
    assert refused.value.available == (fewest - 1) * limit_bytes(chip)
    bare = ceil(refused.value.needed / limit_bytes(chip))
    mend = f"the fewest chips that would do are {fewest} (tp {tp}, pp {pp}; {bare} if blocks could be cut freely)"
    assert mend in str(refused.value)


def test_shards_over_whole_nodes_are_tried_only_until_one_fits(catalog) -> None:
    """A block of Llama-2-70B fits no lone chip."""
    found = candidates(catalog.llm("llama-2-70b"), catalog.lpu(), MappingSpec(), 1024, node_chips=1)
    assert len(found) == 1
    assert found[0][0] > 1


@pytest.mark.parametrize(
    ("spec", "given", "offered"),
    [
        (MappingSpec(), 0, 512),
        (MappingSpec(replicas="auto"), 0, 512),
        (MappingSpec(replicas=3), 3, 512 // 3),
        (MappingSpec(chips_max=200), 0, 200),
        (MappingSpec(pp=20), 0, 512),
        (MappingSpec(pp=20, replicas=2), 2, 256),
    ],
)
def test_choices_are_all_widths_that_fit_from_the_fewest_stages_to_the_most(catalog, spec, given, offered) -> None:
    """Of 32 heads: the divisors in a node of eight chips, and of whole nodes the narrowest for two heads a shard and for one.

    Llama-3-8B fits no stages of one chip or two. Copies are as many as asked for, or as all chips hold.
    """
    llm, chip = catalog.llm("llama-3-8b"), catalog.lpu()
    found, blocks = choices(llm, chip, spec, 512), 66
    assert found == sorted(set(found))
    assert all(replicas == (given or 512 // (tp * pp)) for tp, pp, replicas in found)
    fewest = {tp: stages.fewest_stages(llm, chip, spec, tp) for tp in (4, 8, 16, 32)}
    assert all(stages.fewest_stages(llm, chip, spec, tp) > blocks for tp in (1, 2))
    for tp in (4, 8, 16, 32):
        of_width = [pp for width, pp, _ in found if width == tp]
        most = min(offered // tp, blocks)
        if spec.pp == "auto":
            assert (of_width[0], of_width[-1]) == (fewest[tp], most)
            assert 2 < len(of_width) <= mapping.CUTS_MAX
        else:
            assert of_width == [spec.pp] * (fewest[tp] <= spec.pp <= most)
    assert {tp for tp, *_ in found} == ({4, 8, 16, 32} if spec.pp == "auto" else {4, 8, 16} if given == 0 else {4, 8})
    layout = found[-1]
    laid = lay(llm, chip, spec.model_copy(update={"replicas": layout.replicas}), layout.tp, layout.pp, catalog.nodes(512))
    assert (laid.tp, laid.pp, laid.replicas) == layout


def test_degrees_that_are_given_are_the_only_choice_and_one_copy(catalog) -> None:
    llm, chip = catalog.llm("llama-3-8b"), catalog.lpu()
    assert choices(llm, chip, MappingSpec(tp=8, pp=16), 512) == [Layout(8, 16, 1)]
    assert choices(llm, chip, MappingSpec(tp=8, pp=16, replicas="auto"), 512) == [Layout(8, 16, 4)]
    assert {tp for tp, *_ in choices(llm, chip, MappingSpec(tp=8), 512)} == {8}
    assert candidates(llm, chip, MappingSpec(tp=8, pp=16), 8 * 16) == [(8, 16)]
    with pytest.raises(CapacityError):
        candidates(llm, chip, MappingSpec(tp=8, pp=16), 8 * 16 - 1)


def test_where_no_width_is_worth_it_what_fits_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "candidates", lambda *_: [(24, 2)])
    monkeypatch.setattr(mapping, "_degrees", lambda *_: ([], []))
    monkeypatch.setattr(mapping, "_worth", lambda *_: [])
    assert choices(None, None, MappingSpec(), 96) == [Layout(24, 2, 1)]  # type: ignore[arg-type]  # neither is looked at
    assert choices(None, None, MappingSpec(replicas=2), 96) == [Layout(24, 2, 2)]  # type: ignore[arg-type]  # here too


def test_a_group_whose_attention_is_in_copies_has_as_many_shards_for_each_head(catalog) -> None:
    """Sixteen heads: 32 chips as two copies of attention have one each, and 34 would have none."""
    llm, chip, spec = catalog.llm("bert-large"), catalog.lpu(), MappingSpec(attention_dp=2)
    assert lay(llm, chip, spec, 32, 1, catalog.nodes(40)).tp == 32
    assert (32, 1) in candidates(llm, chip, MappingSpec(tp=32, attention_dp=2), 32)
    for refused in (
        lambda: lay(llm, chip, spec, 34, 1, catalog.nodes(40)),
        lambda: candidates(llm, chip, MappingSpec(tp=34, attention_dp=2), 64),
    ):
        with pytest.raises(SpecError, match=r"mapping\.tp of 17 exceeds the 16 query heads"):
            refused()


def test_the_chips_of_a_replica_are_counted_once(catalog) -> None:
    """Though the head's may be those of layers, which are then the shared ones."""
    laid = lay(catalog.llm("bert-large"), catalog.lpu(), MappingSpec(replicas=2), 2, 3, catalog.nodes(16))
    assert (laid.chips_used, laid.shared_chips) == (6, frozenset())
    again = (*laid.stage_chips, laid.stage_chips[0])
    apart = replace(laid, replica_chips=(again, again), head_apart=True)
    assert (apart.chips_used, apart.shared_chips) == (6, frozenset(laid.stage_chips[0]))
