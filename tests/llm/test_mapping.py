"""Stages, memory and placement."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsim.errors import CapacityError, SpecError
from dcsim.llm import architecture as arch
from dcsim.llm.mapping import candidates, fewest_chips, lay, place
from dcsim.llm.precision import shard_bytes
from dcsim.llm.program import Shape, build_program
from dcsim.llm.stages import _bottleneck, limit_bytes
from dcsim.spec.mapping import MappingSpec

FITTING = [
    ("llama-2-70b", 512),
    ("llama-3-8b", 64),
    ("falcon-180b", 1500),
    ("mixtral-8x7b", 512),
    ("bert-large", 4),
]


@pytest.mark.parametrize(("name", "chips"), FITTING)
def test_stages_cover_each_block_once_and_memory_holds(catalog, name: str, chips: int) -> None:
    llm, chip, spec = catalog.llm(name), catalog.lpu(), MappingSpec()
    blocks = arch.sublayers(llm)
    for tp, pp in candidates(llm, chip, spec, chips):
        mapping = lay(llm, chip, spec, tp, pp, catalog.nodes(chips))
        assert list(itertools.chain(*mapping.stages)) == list(range(len(blocks)))
        used = list(itertools.chain(*mapping.stage_chips))
        assert len(set(used)) == len(used) == tp * pp <= chips
        fullest, tokens = 0, mapping.memory.kv_tokens_max
        tight = False
        for stage in mapping.stages:
            weights = np.sum([shard_bytes(llm, spec, blocks[i].weights(tp)) for i in stage], axis=0)
            kv = np.array([2 * sum(s.elements[r] for i in stage for s in blocks[i].stored(tp)) for r in range(tp)])
            fullest = max(fullest, int(weights.max()))
            if llm.layers:
                assert (weights + tokens * kv).max() <= limit_bytes(chip)
                tight |= bool((weights + (tokens + 1) * kv).max() > limit_bytes(chip))
        assert mapping.memory.weight_bytes_max == fullest <= limit_bytes(chip)
        assert tight or not llm.layers


def test_fp16_70b_is_refused_with_the_fewest_chips(catalog) -> None:
    llm, chip, spec = catalog.llm("llama-2-70b"), catalog.lpu(), MappingSpec(weights="fp16")
    with pytest.raises(CapacityError, match=r"fewest chips that would do are \d+ .*651 if") as caught:
        candidates(llm, chip, spec, 512)
    assert caught.value.needed == pytest.approx(2 * 68.977e9, rel=1e-4)
    assert caught.value.available == 512 * limit_bytes(chip)
    fewest, tp, pp = fewest_chips(llm, chip, spec)
    assert tp * pp == fewest >= 651
    assert candidates(llm, chip, spec, fewest)
    with pytest.raises(CapacityError):
        candidates(llm, chip, spec, fewest - 1)
    assert lay(llm, chip, spec, tp, pp, catalog.nodes(fewest)).memory.kv_tokens_max >= 1
    with pytest.raises(CapacityError, match=f"the fewest chips that would do are {fewest}") as caught:
        lay(llm, chip, spec, tp, pp - 1, catalog.nodes(fewest))
    assert caught.value.available == tp * (pp - 1) * limit_bytes(chip)


@pytest.mark.parametrize(
    "change",
    [
        {"d_model": 10**12, "d_ff": 10**12},
        {"heads": 1024, "kv_heads": 1024, "d_head": 10**9},
        {"layers": 2000},
        {"context_max": 10**12},
        {"vocab": 10**14},
    ],
)
def test_an_llm_of_an_absurd_size_is_refused_without_trying_every_mapping(catalog, change: dict) -> None:
    """In the memory and time that any LLM takes: no list is as long as a figure of the LLM."""
    llm, chip, spec = catalog.llm("llama-2-70b", **change), catalog.lpu(), MappingSpec()
    tracemalloc.start()
    try:
        with pytest.raises(CapacityError, match=r"fewest chips that would do are \d+|no number of chips would do"):
            candidates(llm, chip, spec, 64)
        assert tracemalloc.get_traced_memory()[1] < 300e6
    finally:
        tracemalloc.stop()


def test_more_shards_than_heads_are_refused_before_anything_is_cut(catalog) -> None:
    with pytest.raises(SpecError, match="exceeds the 64 query heads"):
        candidates(catalog.llm("llama-2-70b"), catalog.lpu(), MappingSpec(tp=10**15), 64)


def test_twice_the_memory_needs_half_the_chips(catalog) -> None:
    llm = catalog.llm("llama-2-70b")
    one, _, _ = fewest_chips(llm, catalog.lpu(), MappingSpec())
    two, _, _ = fewest_chips(llm, catalog.lpu(memory_bytes=2 * catalog.lpu().memory_bytes), MappingSpec())
    assert two == pytest.approx(one / 2, rel=0.2)


def test_wider_kv_leaves_half_the_tokens(catalog) -> None:
    llm, chip = catalog.llm("llama-2-70b"), catalog.lpu()
    tokens = [lay(llm, chip, MappingSpec(kv=kv), 8, 64, catalog.nodes(512)).memory.kv_tokens_max for kv in ("int8", "fp16")]
    assert tokens[0] == pytest.approx(2 * tokens[1], rel=0.15)


def test_names_decide_nothing(catalog) -> None:
    spec, nodes = MappingSpec(), catalog.nodes(64)
    llm, chip = catalog.llm("llama-3-8b"), catalog.lpu()
    labels = {"name": "x", "description": "y", "source": "z"}
    other, other_chip = llm.model_copy(update=labels), chip.model_copy(update=labels)
    mapping = lay(llm, chip, spec, 8, 8, nodes)
    assert mapping == lay(other, other_chip, spec, 8, 8, nodes)
    shape = Shape(2, 700)
    assert build_program(llm, mapping, chip, shape) == build_program(other, mapping, other_chip, shape)


def test_too_many_stages_shards_or_chips(catalog) -> None:
    llm, chip, spec = catalog.llm("bert-large"), catalog.lpu(), MappingSpec()
    with pytest.raises(SpecError, match="exceeds the 49 blocks"):
        lay(llm, chip, spec, 1, 50, catalog.nodes(64))
    with pytest.raises(SpecError, match="exceeds the 16 query heads"):
        lay(llm, chip, spec, 17, 1, catalog.nodes(64))
    with pytest.raises(CapacityError, match="8 chips"):
        lay(llm, chip, spec, 8, 1, catalog.nodes(7))


def test_replicas_share_no_chip(catalog) -> None:
    llm, chip = catalog.llm("llama-3-8b"), catalog.lpu()
    mapping = lay(llm, chip, MappingSpec(replicas="auto"), 8, 8, catalog.nodes(200))
    chips = [chip for copy in mapping.replica_chips for stage in copy for chip in stage]
    assert mapping.replicas == 3
    assert len(set(chips)) == len(chips) == 192


def test_one_chip(catalog) -> None:
    text = catalog.llm("bert-large").encoders["text"]
    llm, chip = catalog.llm("bert-large", encoders={"text": text.model_copy(update={"layers": 4})}), catalog.lpu()
    assert candidates(llm, chip, MappingSpec(), 1) == [(1, 1)]
    assert lay(llm, chip, MappingSpec(), 1, 1, [[5]]).stage_chips == ((5,),)


def test_place_keeps_stages_within_nodes() -> None:
    nodes = [list(range(i, i + 8)) for i in range(0, 32, 8)]
    assert place(nodes, 8, 4) == [tuple(node) for node in nodes]
    assert place(nodes, 3, 8) == [(a, a + 1, a + 2) for node in nodes for a in (node[0], node[3])]
    assert place(nodes, 16, 2) == [tuple(range(16)), tuple(range(16, 32))]
    assert place(nodes, 3, 10) == [tuple(range(i, i + 3)) for i in range(0, 30, 3)]  # only without gaps


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=9), st.data())
def test_bottleneck_is_the_best_of_all_cuts(costs: list[int], data: st.DataObject) -> None:
    count = len(costs)
    parts = data.draw(st.integers(1, count))
    sums = np.array([[sum(costs[i : j + 1]) for j in range(count)] for i in range(count)], float)
    best = min(
        max(sum(costs[a:b]) for a, b in itertools.pairwise([0, *cuts, count]))
        for cuts in itertools.combinations(range(1, count), parts - 1)
    )
    cost, ends = _bottleneck(sums, parts)
    assert cost == best
    assert max(sum(costs[a:b]) for a, b in itertools.pairwise([0, *ends])) == best
    assert len(ends) == parts
    assert ends[-1] == count


def test_copies_of_attention_share_the_heads_each_for_itself(catalog):
    """Of 64 heads 64 shards hold one each; twice as many chips need two copies of attention, which 256 do not get by with."""
    llm, chip = catalog.llm("llama-2-70b"), catalog.lpu()
    for tp, copies in ((64, 1), (128, 2)):
        assert candidates(llm, chip, MappingSpec(tp=tp, attention_dp=copies), 512) == [(tp, 512 // tp)]
    for tp, copies in ((128, 1), (256, 2)):
        with pytest.raises(SpecError, match=r"mapping\.tp of 128 exceeds the 64 query heads"):
            candidates(llm, chip, MappingSpec(tp=tp, attention_dp=copies), 512)
