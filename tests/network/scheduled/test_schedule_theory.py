"""The compiler against closed forms: path latency, exchanges, all-reduces, bisection."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from schedule_cases import (
    CLOCK_HZ,
    END,
    FIGURES,
    FORWARD,
    HOP,
    REDUCE,
    SLOT,
    all_to_all,
    direct_all_reduce,
    island,
    line,
    one_message,
    ring,
    ring_all_reduce,
)

from dcsim.errors import FabricError
from dcsim.fabric.graph import from_cables
from dcsim.network.scheduled.bound import find_bound
from dcsim.network.scheduled.proof import prove
from dcsim.network.scheduled.rules import figures_of
from dcsim.network.scheduled.schedule import compile_schedule
from dcsim.network.tasks import VECTOR, TaskBuilder
from dcsim.spec.network import Clock, ScheduledNetwork
from dcsim.spec.price import TcoPrices, read_prices

CLOCK = Clock(
    drift="100 ppm",
    exchange_cycles=256,
    jitter_cycles=3,
    jitter_max_cycles=11,
    slack_cycles=24,
    late_rate=1e-15,
    deskew_cycles=20_000,
    deskew="layer",
)


def network(bandwidth: str = "12.5 GB/s") -> ScheduledNetwork:
    return ScheduledNetwork(
        kind="scheduled",
        vector="320 B",
        vector_wire="328 B",
        bandwidth=bandwidth,
        link_cycles=217,
        end_cycles=669,
        forward_cycles=60,
        reduce_cycles=118,
        buffer_vectors=64,
        error_rate=1e-18,
        detours_max=6,
        clock=CLOCK,
        link_energy="64 pJ",
        prices=read_prices("chiplet-cloud", TcoPrices)[0],
    )


def test_slot_is_the_wire_time_in_whole_cycles() -> None:
    """328 B at 12.5 GB/s and 900 MHz are 23.6 cycles: 24; twice the bandwidth 11.8: 12; at 328 B a cycle exactly 1."""
    assert figures_of(network(), CLOCK_HZ, 24).slot_cycles == 24
    assert figures_of(network("25 GB/s"), CLOCK_HZ, 24).slot_cycles == 12
    assert figures_of(network("295.2 GB/s"), CLOCK_HZ, 24).slot_cycles == 1
    ends = figures_of(network(), CLOCK_HZ, 24)
    assert ends.send_cycles + ends.receive_cycles == 669


@pytest.mark.parametrize("hops", [1, 2, 3, 7])
@pytest.mark.parametrize("vectors", [1, 5, 100])
@pytest.mark.parametrize("slack", [0, 24])
def test_path_latency(hops: int, vectors: int, slack: int) -> None:
    """On a line of chips: E + h (L + slack) + (h - 1) F + (n - 1) slots."""
    figures = replace(FIGURES, slack_cycles=slack)
    tasks, fabric = one_message(320 * vectors, 0, hops), line(hops + 1)
    expected = END + hops * (HOP + slack) + (hops - 1) * FORWARD + (vectors - 1) * SLOT
    schedule = compile_schedule(tasks, fabric, figures)
    assert schedule.makespan_cycles == expected == find_bound(schedule, tasks, fabric, figures).cycles
    assert schedule.vector_hops == hops * vectors


@pytest.mark.parametrize("vectors", [1, 8, 100])
def test_direct_all_reduce(vectors: int) -> None:
    """2 (E + L) + R + 2 (n - 1) slots; 1890 cycles = 2.1 us for one vector each, the published figure."""
    schedule = compile_schedule(direct_all_reduce(8, 8 * 320 * vectors), island(8), FIGURES)
    assert schedule.makespan_cycles == 2 * (END + HOP) + REDUCE + 2 * (vectors - 1) * SLOT
    if vectors == 1:
        assert schedule.makespan_cycles == 1890


@pytest.mark.parametrize("vectors", [1, 20])
def test_ring_all_reduce(vectors: int) -> None:
    """On a cabled ring 2 (p - 1) steps of E + L + (n - 1) slots and (p - 1) sums; gathered vectors stream on."""
    figures, chips = replace(FIGURES, detours_max=0), 8
    schedule = compile_schedule(ring_all_reduce(chips, chips * 320 * vectors), ring(chips), figures)
    latency = 2 * (chips - 1) * (END + HOP) + (chips - 1) * REDUCE
    # A sum needs all its input (chips - 1 runs); the gather forwards vectors as they come, so it pays one run more.
    assert schedule.makespan_cycles == latency + chips * (vectors - 1) * SLOT


@pytest.mark.parametrize("vectors", [1, 3, 50])
def test_all_to_all_reaches_its_bound(vectors: int) -> None:
    """In an island every pair has its own link, so the (N - 1) S / B bound over N - 1 links is n slots."""
    schedule = compile_schedule(all_to_all(8, 320 * vectors), island(8), FIGURES)
    assert schedule.makespan_cycles == END + HOP + (vectors - 1) * SLOT
    assert (schedule.link_cycles(56) == vectors * SLOT).all()


def test_all_to_all_through_a_cut_respects_the_bisection() -> None:
    """Two islands of 4 on one cable: 16 vectors each way must pass it, one a slot, at least."""
    cables = [(a + 4 * i, b + 4 * i, "local", 1.0) for i in range(2) for a in range(4) for b in range(a)]
    fabric = from_cables("pair", 8, [*cables, (3, 7, "global", 2.0)])
    schedule = compile_schedule(all_to_all(8, 320), fabric, FIGURES)
    prove(schedule, all_to_all(8, 320), fabric, FIGURES)
    bridge = np.flatnonzero(fabric.link_class == 1)
    assert (schedule.link_cycles(fabric.link_count)[bridge] == 16 * SLOT).all()
    assert schedule.makespan_cycles >= 15 * SLOT + END + HOP
    assert schedule.makespan_cycles <= 1.15 * find_bound(schedule, all_to_all(8, 320), fabric, FIGURES).cycles


def test_twice_the_bandwidth_halves_the_serialisation() -> None:
    tasks, fabric = direct_all_reduce(8, 8 * 320 * 100), island(8)
    slow = compile_schedule(tasks, fabric, figures_of(network(), CLOCK_HZ, 24)).makespan_cycles
    fast = compile_schedule(tasks, fabric, figures_of(network("25 GB/s"), CLOCK_HZ, 24)).makespan_cycles
    still = 2 * (END + HOP + 24) + REDUCE
    assert slow - still == 2 * (fast - still) == 2 * 99 * 24


def test_spreading_pays_from_the_break_even_on() -> None:
    """A second hop costs L + F = 277 cycles = 11.5 slots: 12 vectors go direct, 13 do not all."""
    for vectors, paths in ((11, 1), (12, 1), (14, 3), (100, 7)):
        schedule = compile_schedule(one_message(320 * vectors), island(8), FIGURES)
        first_links = set(schedule.burst_link[schedule.burst_offset[:-1]].tolist())
        assert len(first_links) == paths, vectors
    spread = compile_schedule(one_message(320 * 700), island(8), FIGURES).makespan_cycles
    direct = compile_schedule(one_message(320 * 700), island(8), replace(FIGURES, detours_max=0)).makespan_cycles
    # Seven ways, six of them 277 cycles late: T with T / slot + 6 (T - 277) / slot = 700.
    assert spread - (END + HOP) == pytest.approx((700 * SLOT + 6 * 277) / 7, rel=0.02)
    assert direct == END + HOP + 699 * SLOT


def test_parallel_links_share_a_message_without_detours() -> None:
    fabric = from_cables("double", 2, [(0, 1, "global", 1.0), (0, 1, "global", 1.0)])
    schedule = compile_schedule(one_message(320 * 10), fabric, replace(FIGURES, detours_max=0))
    assert schedule.makespan_cycles == END + HOP + 4 * SLOT


def test_vectors_stream_behind_a_slow_producer() -> None:
    """An operation that yields 11 vectors 100 cycles apart: the message ends one path after the last."""
    build = TaskBuilder(CLOCK_HZ)
    producer = build.compute(0, VECTOR, 500, 1500, [])
    build.message(0, 1, 320 * 11, [producer])
    tasks = build.build()
    schedule = compile_schedule(tasks, island(2), FIGURES)
    assert schedule.stride.tolist() == [100]
    assert (schedule.first_out[1], schedule.last_out[1]) == (500 + END + HOP, 1500 + END + HOP)


def test_two_slow_streams_share_a_link() -> None:
    """Two messages of one producer, 100 cycles between vectors, interleave: the second is a slot behind."""
    build = TaskBuilder(CLOCK_HZ)
    producer = build.compute(0, VECTOR, 500, 1500, [])
    for _ in range(2):
        build.message(0, 1, 320 * 11, [producer])
    tasks, fabric = build.build(), island(2)
    schedule = compile_schedule(tasks, fabric, FIGURES)
    prove(schedule, tasks, fabric, FIGURES)
    assert schedule.makespan_cycles == 1500 + END + HOP + SLOT


def test_lead_rows_start_an_operation_early() -> None:
    """It starts at first + (last - first) lead / rows of its input, and ends first_cycles after the input."""
    build = TaskBuilder(CLOCK_HZ)
    message = build.message(0, 1, 320 * 11, [])
    build.compute(1, VECTOR, 30, 50, [message], rows=10, lead_rows=5)
    schedule = compile_schedule(build.build(), island(2), FIGURES)
    first, last = END + HOP, END + HOP + 240
    assert schedule.start[1] == first + 120
    assert schedule.last_out[1] == last + 30


def test_empty_and_local_programs() -> None:
    assert compile_schedule(TaskBuilder(CLOCK_HZ).build(), island(2), FIGURES).makespan_cycles == 0
    build = TaskBuilder(CLOCK_HZ)
    here = build.compute(0, VECTOR, 10, 20, [])
    build.message(0, 0, 3200, [here])
    lone = from_cables("one", 1, [])
    schedule = compile_schedule(build.build(), lone, FIGURES)
    assert schedule.makespan_cycles == 20
    assert prove(schedule, build.build(), lone, FIGURES).slack_cycles_min == -1


def test_no_way_is_an_error() -> None:
    apart = from_cables("apart", 4, [(0, 1, "local", 1.0), (2, 3, "local", 1.0)])
    with pytest.raises(FabricError, match="no path from chip 0 to chip 2"):
        compile_schedule(one_message(320, 0, 2), apart, FIGURES)


def test_same_input_same_bytes() -> None:
    tasks, fabric = all_to_all(8, 320 * 30), island(8)
    one, two = (compile_schedule(tasks, fabric, FIGURES) for _ in range(2))
    assert one.burst_start.tobytes() == two.burst_start.tobytes()
    assert one.burst_link.tobytes() == two.burst_link.tobytes()


def test_larger_buffers_never_needed_without_forwarding_waits() -> None:
    """With no transit buffer at all every forwarded vector leaves on time, and the proof agrees."""
    figures, fabric, tasks = replace(FIGURES, buffer_vectors=0), ring(6), all_to_all(6, 320 * 4)
    schedule = compile_schedule(tasks, fabric, figures)
    prove(schedule, tasks, fabric, figures)
    inner = np.setdiff1d(np.arange(len(schedule.burst_link)), schedule.burst_offset[:-1])
    waits = schedule.burst_start[inner] - schedule.burst_start[inner - 1] - HOP - FORWARD
    assert len(inner)
    assert (waits == 0).all()
