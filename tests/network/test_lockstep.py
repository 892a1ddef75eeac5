"""Iterations in lock step: what is added up is what packets take, and any mixture costs what its parts do."""

import numpy as np
import pytest
from by_rule import load

from dcsim.errors import SpecError
from dcsim.llm import architecture as arch
from dcsim.llm.kinds.routing import heaviest
from dcsim.llm.plan import Plan
from dcsim.llm.program import Operation, Shape
from dcsim.llm.sublayers import Layer
from dcsim.network.lockstep import Chunk, Interpolated, grid, visited_bytes
from dcsim.network.timing import BREAKDOWN
from dcsim.study.machine import build


def machine(*settings):
    return build(load("h100_sxm", llm="llama-3-8b", settings=[*settings, "mapping.pp=1"]).spec)


@pytest.fixture(scope="module")
def eight():
    return machine("mapping.tp=8")


def seconds(parts):
    return float(parts.sum())


@pytest.mark.parametrize(("batch", "context"), [(1, 1024), (16, 4096)])
def test_an_iteration_added_up_takes_what_it_takes_packet_by_packet(eight, batch, context):
    simulated = eight.network.time(Shape(batch, context)).latency_ps * 1e-12
    assert seconds(eight.network.lockstep().iteration(batch, context)) == pytest.approx(simulated, rel=0.01)


def test_a_prompt_added_up_takes_what_it_takes_packet_by_packet(eight):
    simulated = eight.network.time(Shape(1, 2048, 2048)).latency_ps * 1e-12
    added = seconds(eight.network.lockstep().iteration(0, 0, [Chunk(0, 2048)]))
    assert added == pytest.approx(simulated, rel=0.03)  # large exchanges reach some chips sooner, which then begin sooner


def test_on_one_chip_nothing_is_exchanged():
    parts = machine("mapping.tp=1").network.lockstep().iteration(4, 1000)
    used = {name for name, value in zip(BREAKDOWN, parts, strict=True) if value}
    assert used == {"matrix", "attention", "vector"}


def test_a_mixture_reads_the_weights_once(eight):
    times = eight.network.lockstep()
    answers, prompt = times.iteration(16, 2000), times.iteration(0, 0, [Chunk(0, 64)])
    both = seconds(times.iteration(16, 2000, [Chunk(0, 64)]))
    assert max(seconds(answers), seconds(prompt)) < both < seconds(answers) + 0.5 * seconds(prompt)


def test_chunks_of_a_prompt_look_at_all_before_them(eight):
    times = eight.network.lockstep()
    whole = times.read(0, 4096)
    assert seconds(times.read(0, 1024) + times.read(1024, 4096)) == pytest.approx(seconds(whole))
    assert seconds(times.read(3072, 4096)) > 4 * seconds(times.read(0, 1024))


def test_time_grows_with_every_token(eight):
    times = eight.network.lockstep()
    by_batch = [seconds(times.iteration(n, 1000)) for n in (1, 4, 16, 64, 256)]
    by_context = [seconds(times.iteration(16, context)) for context in (100, 1000, 4000, 8000)]
    assert by_batch == sorted(by_batch)
    assert by_context == sorted(by_context)


def test_a_line_is_exact_where_it_was_taken_and_straight_between():
    line = Interpolated(lambda n: np.array([float(n * n)]), grid(2, 100))
    assert grid(2, 20) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
    assert line(8)[0] == 64
    assert line(7)[0] == (36 + 64) / 2
    assert line(0.5)[0] == 1


def parallel(*settings, llm="gpt-oss-120b", tp=8):
    own = ["serving.engine=vllm", f"mapping.tp={tp}", "mapping.pp=1", "mapping.replicas=1"]
    return build(load("h200_sxm", llm=llm, settings=[*own, *settings]).spec)


def test_copies_of_attention_hold_its_weights_each_and_share_out_sequences():
    one, four = parallel(), parallel("mapping.attention_dp=4")
    attention = [block for block in arch.sublayers(one.spec.llm) if isinstance(block, Layer) and block.attends]
    weights = sum(sum(w.elements) for block in attention for w in block.weights(1))
    more = 8 * (four.mapping.memory.weight_bytes_max - one.mapping.memory.weight_bytes_max)
    assert more == pytest.approx(3 * 2 * weights, rel=0.02)  # three further copies in 16 bit
    times = four.network.lockstep()
    assert seconds(times.look(4, 4000)) == pytest.approx(
        seconds(parallel("mapping.attention_dp=4").network.lockstep().look(4, 4000))
    )
    assert seconds(times.iteration(32, 4000)) < seconds(times.iteration(64, 4000))


def test_a_replica_of_copies_takes_as_many_more_sequences_of_latent_vectors():
    one, eight = (
        build(load("gb200", llm="deepseek-r1", settings=[*ENGINE, f"mapping.attention_dp={n}", "mapping.ep=8"]).spec)
        for n in (1, 8)
    )
    free = [m.mapping.memory.limit_bytes - m.mapping.memory.weight_bytes_max for m in (one, eight)]
    more = eight.mapping.memory.room.sequences_max(4096) / one.mapping.memory.room.sequences_max(4096)
    assert more == pytest.approx(8 * free[1] / free[0], rel=0.01)


ENGINE = ("serving.engine=vllm", "mapping.tp=8", "mapping.pp=1", "mapping.replicas=1")


def test_stages_work_on_micro_batches_at_the_same_time():
    one, two = (
        build(load("h200_sxm", llm="llama-3.1-70b", settings=[*ENGINE[:1], "mapping.tp=4", f"mapping.pp={pp}", ENGINE[3]]).spec)
        for pp in (1, 2)
    )
    times = [m.network.lockstep() for m in (one, two)]
    alone = [seconds(t.iteration(1, 1000)) for t in times]
    assert alone[0] < alone[1] < 1.05 * alone[0]  # and a message
    assert seconds(times[1].iteration(64, 1000)) == pytest.approx(seconds(times[0].iteration(32, 1000)), rel=0.05)
    prompts = [Chunk(0, 1000), Chunk(0, 1000)]
    assert seconds(times[1].iteration(0, 0, prompts)) == pytest.approx(seconds(times[0].iteration(0, 0, prompts[:1])), rel=0.05)


def test_experts_spread_whole_over_chips_hold_as_much_and_meet_as_many_tokens():
    cut, spread = (parallel(f"mapping.ep={n}") for n in (1, 8))
    assert spread.mapping.memory.weight_bytes_max == pytest.approx(cut.mapping.memory.weight_bytes_max, rel=0.01)
    plans = [Plan(m.spec.llm, m.spec.chip, m.mapping.spec, 8, Shape(512, 2)) for m in (cut, spread)]
    routed = next(b for b in arch.sublayers(cut.spec.llm) if isinstance(b, Layer) and not b.attends)
    flop = [sum(max(s.flop) for s in routed.steps(plan, False) if isinstance(s, Operation) and s.name == "up") for plan in plans]
    assert flop[1] == pytest.approx(flop[0], rel=0.05)


def test_uneven_experts_are_no_sooner_done():
    even, zipf, told = (
        seconds(parallel("mapping.ep=8", f"mapping.expert_load={load}").network.lockstep().body(512))
        for load in ("balanced", "zipf", "[1, 1, 1, 1, 1, 1, 1, 9]")
    )
    assert even < zipf < told
    assert heaviest("balanced", 128, 8) == heaviest("zipf", 128, 1) == 1
    assert heaviest((1.0, 1.0, 1.0, 9.0), 128, 4) == pytest.approx(3)


@pytest.mark.parametrize("setting", ["mapping.ep=3", "mapping.attention_dp=3"])
def test_degrees_that_do_not_come_out_even_are_refused(setting):
    with pytest.raises(SpecError, match=setting.partition("=")[0]):
        parallel(setting).network.lockstep().iteration(8, 100)


def test_a_token_is_sent_once_to_each_group_that_holds_any_of_its_experts():
    machine = parallel("mapping.ep=8", "mapping.attention_dp=8")
    plan = Plan(machine.spec.llm, machine.spec.chip, machine.mapping.spec, 8, Shape(80, 2))
    routed = next(b for b in arch.sublayers(machine.spec.llm) if isinstance(b, Layer) and not b.attends)
    out, back = visited_bytes(plan, routed)
    groups = 8 * (1 - (7 / 8) ** 4)  # four experts a token
    assert back == round(10 * groups * 2880 * 2)
    assert out <= back


def test_copies_without_an_engine_are_refused():
    with pytest.raises(SpecError, match=r"mapping\.attention_dp"):
        machine("mapping.tp=8", "mapping.attention_dp=2").network.time(Shape(8, 100))
