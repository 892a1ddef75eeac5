"""Batches of programs: padded to sizes that are compiled, up to what memory holds on chips that compile none."""

from itertools import pairwise

import pytest
from by_rule import load

from dcsim.cluster.programs import COMPILED_BATCHES, Programs, any_batches, batches_of
from dcsim.network.timing import IterationTime
from dcsim.study.frontier import loads
from dcsim.study.machine import build


def ended_ps(round_):
    return round_.clean_ps


def programs(latency_us, occupancy_us):
    """Programs whose times follow from the batch alone."""
    serving = load("8rack").spec.serving
    return Programs(serving, lambda shape: IterationTime(latency_us(shape.batch) * 10**6, occupancy_us(shape.batch) * 10**6, 0.0))


@pytest.mark.parametrize("faster", [1, 2, 4, 8, 16, 32])
def test_a_larger_program_serves_a_smaller_batch_where_it_is_the_faster_one(faster):
    made = programs(lambda batch: 900 if batch == 2 * faster else 1000 + batch, lambda batch: 900)
    took = [ended_ps(made.decode(count, 0)) for count in range(faster, 2 * faster + 1)]
    assert took == [900 * 10**6] * (faster + 1)
    assert made.decode(faster, 0).micro_batches[0].shape.batch == 2 * faster


@pytest.mark.parametrize(("tp", "pp"), [(8, 8), (16, 4)])
@pytest.mark.parametrize("network", ["scheduled", "infiniband-ndr"])
def test_no_round_is_shorter_for_more_sequences(tp, pp, network):
    machine = build(load("64chip", network=network, settings=[f"mapping.tp={tp}", f"mapping.pp={pp}"]).spec)
    made = machine.programs(machine.time)
    took = [ended_ps(made.decode(count, 1)) for count in range(1, 65)]
    assert took == sorted(took)


def test_a_larger_program_is_timed_only_where_the_next_might_be_the_faster_one():
    made = programs(lambda batch: 1000 + batch, lambda batch: 10)
    made.decode(1, 0)
    assert made.shapes_timed == 2


def test_chips_with_compiled_programs_have_a_list_others_take_any_batch():
    lpu, gpu = load("8rack").spec, load("dgx-h100").spec
    assert batches_of(lpu.serving, lpu.chip) == COMPILED_BATCHES
    assert batches_of(gpu.serving, gpu.chip)[-1] == gpu.serving.sequences_max
    for topology in ("8rack", "dgx-h100"):
        named = load(topology, settings=["serving.batch_buckets=[4, 1]"]).spec
        assert batches_of(named.serving, named.chip) == (1, 4)


@pytest.mark.parametrize("most", [1, 2, 3, 5, 64, 100, 511, 512])
def test_sizes_of_any_batch_lie_at_most_a_half_apart_and_end_with_the_largest(most):
    sizes = any_batches(most)
    assert (sizes[0], sizes[-1]) == (1, most)
    assert all(a < b <= 2 * a if a < 2 else a < b <= 1.5 * a for a, b in pairwise(sizes))


def test_a_gpu_is_filled_up_to_its_memory_or_to_what_the_replica_lets_in():
    context = 2048
    for limit in (512, 100, 16):
        machine = build(load("dgx-h100", settings=[f"serving.sequences_max={limit}", "network.replications=1"]).spec)
        room = machine.mapping.memory.room.sequences_max(context)
        batches = machine.batches_held(context)
        assert batches[-1] == min(room, limit)
        assert batches[0] == 1
    found = loads(machine, context)
    assert max(load_.batch for load_ in found) == 16
