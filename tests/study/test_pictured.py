"""A pictured iteration is the one that is timed, and its critical path leads from the last task back to the first."""

import itertools

import numpy as np
import pytest

from dcsim.results.timeline import again, in_flight, timeline
from dcsim.spec.load import load
from dcsim.study.iteration import shape_of
from dcsim.study.machine import build
from dcsim.study.pictured import RUNS, Pictured, critical_path, pictured


@pytest.fixture(scope="module")
def found():
    return pictured(Pictured(stage=1))


def test_the_times_are_those_of_the_networks(found):
    machine = build(load("64chip").spec)
    shape = shape_of(1, 2048, 0, machine.spec.llm)
    assert found["scheduled_us"] == pytest.approx(1e-6 * machine.time(shape).latency_ps)
    settings = ["network.jitter=host"]  # and the library that such chips have
    packets = machine.on(load("64chip", network="infiniband-ndr", settings=settings).spec)
    assert found["packet_us"][0] == pytest.approx(1e-6 * packets.network.iterations(shape, 1).latency_ps[0])


def test_a_schedule_is_the_same_each_time_and_packets_are_not(found):
    assert len(found["scheduled_runs"]) == len(found["packet_runs"]) == RUNS
    assert len({tuple(run) for run in found["scheduled_runs"]}) == 1
    assert len({tuple(run) for run in found["packet_runs"]}) == RUNS


def test_no_two_vectors_of_a_link_and_no_two_operations_of_a_chip_overlap(found):
    bars = found["scheduled"]
    for chip in found["chips"]:
        rows = sorted(
            (begin, end)
            for at, kind, begin, end in zip(bars["chip"], bars["kind"], bars["begin_us"], bars["end_us"], strict=True)
            if at == chip and kind == "matrix"
        )
        assert rows
        assert all(before[1] <= after[0] + 1e-3 for before, after in itertools.pairwise(rows))


@pytest.mark.parametrize("network", ["scheduled", "infiniband-ndr"])
def test_the_critical_path_has_no_gap(network):
    machine = build(load("64chip").spec).on(load("64chip", network=network).spec)
    spans = machine.network.spans(shape_of(1, 512, 0, machine.spec.llm))
    on = np.flatnonzero(critical_path(spans))
    before = spans.tasks.before_start
    assert before[on[0] + 1] == before[on[0]], "it begins with a task that waits for nothing"
    assert spans.last_s[on[-1]] == spans.last_s.max()
    for task, following in itertools.pairwise(on):
        own = spans.tasks.before[before[following] : before[following + 1]]
        assert task in own
        assert spans.last_s[task] == spans.last_s[own].max()


def test_the_pictures_draw_what_was_found(found):
    shown = timeline(found, "packets")
    assert {trace.name for trace in shown.data} >= {"matrix", "attention", "vector", "send", "receive", "wait"}
    drawn = sum(len(trace.y) for trace in shown.data if trace.name != "wait")
    assert drawn == len(found["scheduled"]["chip"]) + len(found["packet"]["chip"])
    assert len(again(found, "packets").data) == 2
    assert len(in_flight(found).data) == found["in_flight"]["micro_batches"]
