"""The mapping rule `layer_per_stage`: what it lays where, what it counts, and what it refuses."""

import pytest
from by_rule import load

from dcsim.errors import CapacityError, SpecError
from dcsim.llm import architecture as arch
from dcsim.llm.layer_per_stage import lay_by_layer
from dcsim.llm.mapping import lay
from dcsim.llm.program import Shape, build_program, lookup_s
from dcsim.llm.stages import held_by, limit_bytes
from dcsim.spec.mapping import MappingSpec
from dcsim.study.machine import build
from dcsim.study.schedule import schedule

RULE = MappingSpec(rule="layer_per_stage")


def laid(catalog, llm, chips, **keys):
    spec = MappingSpec(rule="layer_per_stage", **keys)
    return lay_by_layer(catalog.llm(llm), catalog.lpu(), spec, catalog.nodes(chips))


@pytest.mark.parametrize(
    ("llm", "chips", "tp", "pp"),
    [("llama-3-8b", 64, 2, 32), ("llama-2-70b", 512, 8, 64), ("llama-2-70b", 648, 8, 80), ("falcon-180b", 1312, 16, 80)],
)
def test_a_stage_is_a_layer_or_as_few_blocks_as_there_are_chips_for(catalog, llm, chips, tp, pp):
    mapping = laid(catalog, llm, chips)
    assert (mapping.tp, mapping.pp) == (tp, pp)
    layers = arch.layer_blocks(catalog.llm(llm))
    if pp == len(layers):
        assert mapping.stages[:-1] == layers
    laid_out = [block for stage in mapping.stages for block in stage]
    assert laid_out == [block for layer in layers for block in layer] + [len(arch.sublayers(catalog.llm(llm))) - 1]


def test_half_the_chips_do_not_hold_a_layer_and_a_sequence(catalog):
    for name in ("llama-3-8b", "llama-2-70b", "falcon-180b", "gpt-oss-120b"):
        llm, chip = catalog.llm(name), catalog.lpu()
        mapping = laid(catalog, name, 10_440)
        for tp, holds in ((mapping.tp, True), (mapping.tp // 2, False)):
            if tp:
                held = held_by(llm, mapping.spec, tp)
                need = held.weights + held.kept(llm.context_max)
                heaviest = max(int(need[list(layer)].sum(axis=0).max()) for layer in arch.layer_blocks(llm))
                assert (heaviest <= limit_bytes(chip)) is holds


def test_no_chip_holds_more_than_it_may(catalog):
    """Weights chip by chip, head included, counted apart; a sequence of full context still fits."""
    for name, chips in (("llama-3-8b", 64), ("llama-2-70b", 512), ("llama-3-8b", 128)):
        llm, chip = catalog.llm(name), catalog.lpu()
        mapping = laid(catalog, name, chips)
        held = dict.fromkeys(range(chips), 0)
        for stage, on in zip(mapping.stages, mapping.stage_chips, strict=True):
            weights = held_by(llm, mapping.spec, len(on)).weights[list(stage)].sum(axis=0)
            for c, size in zip(on, weights, strict=True):
                held[c] += int(size)
        assert max(held.values()) == mapping.memory.weight_bytes_max <= limit_bytes(chip)
        free = dict(zip(mapping.chips[0], mapping.memory.room.free_bytes, strict=True))
        assert free == {c: limit_bytes(chip) - held[c] for c in mapping.chips[0]}
        assert mapping.memory.room.sequences_max(llm.context_max) >= 1


def test_the_head_has_chips_of_its_own_where_some_are_left(catalog):
    crowded, roomy = laid(catalog, "llama-3-8b", 64), laid(catalog, "llama-3-8b", 128)
    assert set(crowded.stage_chips[-1]) <= {c for stage in crowded.stage_chips[:-1] for c in stage}
    assert len(roomy.stage_chips[-1]) == 8
    assert not set(roomy.stage_chips[-1]) & {c for stage in roomy.stage_chips[:-1] for c in stage}
    assert len(crowded.chips[0]) == 64
    assert len(roomy.chips[0]) == 72
    assert roomy.memory.kv_tokens_max > crowded.memory.kv_tokens_max
    assert crowded.stage_chips[-1][-1] == 63  # of the last nodes


def test_schedules_of_both_are_proved_and_only_where_no_chip_is_of_two_stages_laid_over_themselves():
    rule = "mapping.rule=layer_per_stage"
    beside, apart = (
        schedule(build(load(t, settings=[rule, *more]).spec), Shape(1, 512))
        for t, more in (("64chip", []), ("64chip", ["fabric.nodes=10"]))
    )
    assert beside["conflicts"] == apart["conflicts"] == 0
    assert beside["interval_cycles"] is None
    assert apart["interval_ratio"] < 1.1


def test_replicas_share_no_chip(catalog):
    mapping = laid(catalog, "llama-3-8b", 264, replicas="auto")
    assert mapping.replicas == 4
    chips = [c for replica in mapping.chips for c in replica]
    assert len(chips) == len(set(chips)) <= 264
    assert {len(stage) for copy in mapping.replica_chips for stage in copy[:-1]} == {2}


def test_degrees_given_by_hand_stay(catalog):
    assert laid(catalog, "llama-3-8b", 64, tp=4).tp == 4
    mapping = laid(catalog, "llama-3-8b", 64, tp=4, pp=12)
    assert (mapping.tp, mapping.pp) == (4, 12)
    assert laid(catalog, "llama-3-8b", 512, chips_max=64).chips_used == 64


def test_what_does_not_fit_is_refused_with_numbers(catalog):
    with pytest.raises(CapacityError, match="chips"):
        laid(catalog, "llama-2-70b", 4)
    with pytest.raises(CapacityError, match="do not fit"):
        laid(catalog, "llama-2-70b", 256)
    with pytest.raises(CapacityError, match="mapping needs 128 chips"):
        laid(catalog, "llama-3-8b", 64, tp=4, pp=32)


def test_the_embedding_is_looked_up_by_hosts(catalog):
    """No stage holds it; each iteration waits for the bus and the row."""
    llm, chip, mapping = catalog.llm("llama-3-8b"), catalog.lpu(), laid(catalog, "llama-3-8b", 64)
    host, shape = load("64chip").spec.host, Shape(1, 512)
    assert lookup_s(host, llm, mapping, shape) == pytest.approx(host.bus_s + 8192 / host.bus_bandwidth_bytes_per_s)
    assert lookup_s(host, llm, lay(llm, chip, MappingSpec(), 8, 8, catalog.nodes(64)), shape) == 0
    program = build_program(llm, mapping, chip, shape, 2e-6)
    kinds = [block.kind for stage in program.stages for block in stage.blocks]
    assert "embedding" not in kinds
    assert kinds[-1] == "host"


def test_the_rule_brings_its_experts_and_chunks_unless_they_are_given():
    spec = load("8rack", llm="mixtral-8x7b", settings=["mapping.rule=layer_per_stage"]).spec
    assert (spec.mapping.experts, spec.serving.chunk_tokens) == ("all", 1)
    given = load("8rack", settings=["mapping.rule=layer_per_stage", "mapping.experts=routed", "serving.chunk_tokens=64"]).spec
    assert (given.mapping.experts, given.serving.chunk_tokens) == ("routed", 64)
    assert load("8rack").spec.serving.chunk_tokens == "auto"


def test_all_experts_take_longer_than_those_visited_and_no_shape_of_routing_changes_what_is_stored():
    def latency(experts):
        settings = ["mapping.tp=8", "mapping.pp=32", f"mapping.experts={experts}"]
        machine = build(load("8rack", llm="mixtral-8x7b", settings=settings).spec)
        return machine.time(Shape(1, 512)).latency_ps, machine.mapping.memory.weight_bytes_max

    found = {experts: latency(experts) for experts in ("auto", "routed", "all", "own_chips")}
    assert found["auto"] == found["routed"] < found["all"]
    # One whole expert on each of eight chips: as long as all eight cut over the eight, for the chip that is visited.
    assert found["own_chips"][0] == pytest.approx(found["all"][0], rel=0.05)
    assert len({weights for _, weights in found.values()}) == 1


def test_experts_on_their_own_chips_come_out_even():
    settings = ["mapping.tp=12", "mapping.pp=32", "mapping.experts=own_chips"]
    with pytest.raises(SpecError, match="8 experts do not come out even over 12 chips"):
        build(load("8rack", llm="mixtral-8x7b", settings=settings).spec).time(Shape(1, 512))


def test_a_chip_of_two_stages_is_held_in_both():
    """Where the head lies beside layers its time adds to theirs; on chips of its own it does not."""
    beside = build(load("64chip", settings=["mapping.rule=layer_per_stage"]).spec).time(Shape(1, 512))
    apart = build(load("64chip", settings=["mapping.rule=layer_per_stage", "fabric.nodes=16"]).spec).time(Shape(1, 512))
    assert beside.occupancy_ps > 1.2 * apart.occupancy_ps
    assert beside.occupancy_ps < beside.latency_ps / 10
