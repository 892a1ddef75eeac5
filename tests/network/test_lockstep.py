"""Iterations in lock step: what is added up is what packets take, and any mixture costs what its parts do."""

import numpy as np
import pytest

from dcsim.llm.program import Shape
from dcsim.network.lockstep import Chunk, Interpolated, grid
from dcsim.network.timing import BREAKDOWN
from dcsim.spec.load import load
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
    assert seconds(times.read(3072, 4096)) > 5 * seconds(times.read(0, 1024))


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
