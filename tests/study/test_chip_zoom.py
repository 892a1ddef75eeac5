"""Chip zoom: chips and links carry out every round, and what users see is the service zoom's to the tick."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import simpy
from by_rule import RULE

import dcsim
from dcsim.cli.tables import _chips as chips_rows
from dcsim.cluster.programs import MicroBatches, Round
from dcsim.cluster.simpy.chips import ChipProgram, Chips
from dcsim.cluster.simpy.pace import Steady
from dcsim.errors import ScheduleError, SpecError
from dcsim.llm.program import Shape
from dcsim.network.scheduled.timeline import CHIPS, LINKS
from dcsim.study import chip_zoom
from dcsim.study.machine import build

# Bert-Large on eight chips: an iteration takes a few milliseconds here; 64chip's takes a tenth of a second.
FEW = ("workload.requests=3",)


WHOLE = ("mapping.tp=1", "mapping.pp=8")


def node(*settings: str, degrees: tuple[str, ...] = WHOLE) -> dcsim.Scenario:
    return dcsim.load("node", workload="glimpse", set=(*degrees, *settings))


def both(*settings: str, degrees: tuple[str, ...] = WHOLE) -> tuple[dcsim.Run, dcsim.Run]:
    case = node(*settings, degrees=degrees)
    return case.run(rounds=True), case.run(zoom="chips")


@cache
def glimpse() -> tuple[dcsim.Run, dcsim.Run]:
    return both()


def test_every_row_is_the_service_zooms_to_the_tick() -> None:
    service, chips = glimpse()
    for table in ("requests", "gaps", "limits", "power", "classes"):
        for name, column in service.table(table).items():
            np.testing.assert_array_equal(column, chips.table(table)[name], err_msg=f"{table}.{name}")
    assert service.summary["digest"] == chips.summary["digest"]


def test_every_iteration_of_every_round_is_carried_out_by_processes() -> None:
    service, chips = glimpse()
    rounds = service.table("rounds")
    assert chips.meta["iterations_carried_out"] == (rounds["rounds"] * rounds["iterations"]).sum() > 100
    assert chips.meta["engine"] == "simpy"
    assert chips.meta["engine_processes"] > 8 * chips.meta["iterations_carried_out"]  # each chip of each iteration
    assert chips.meta["margin_cycles_min"] > 0


@pytest.mark.parametrize(
    "settings",
    [
        ("faults.events=[{at: 7 ms, part: chip, index: 3}]", "faults.repair=3 ms", "faults.detect=100 us"),
        ("faults.events=[{at: 7 ms, part: host, index: 0}]", "faults.repair=3 ms", "faults.in_flight=fail"),
        ("power.rack_cap=1.7 kW",),
        ("serving.batching=prefill_first", "serving.sequences_max=2"),
        ("serving.speculation.draft_tokens=3", "serving.speculation.acceptance=0.6", "serving.speculation.draft_token=50 us"),
        ("workload.arrivals.rate.mean=5000 requests/s", "serving.batch_buckets=[1, 2, 4]"),
        ("chip.program_switch=300 us",),
        ("network.error_rate=1e-8",),
    ],
)
def test_faults_caps_and_policies_leave_them_equal(settings: tuple[str, ...]) -> None:
    service, chips = both("workload.requests=6", *settings)
    assert service.summary["digest"] == chips.summary["digest"]
    for name in ("start_s", "end_s"):
        assert set(chips.table("rounds")[name].tolist()) >= set(service.table("rounds")[name].tolist())


def test_of_several_replicas_the_first_is_followed_and_the_run_says_so() -> None:
    service, chips = both("workload.requests=6", degrees=("mapping.tp=2", "mapping.pp=2", "mapping.replicas=2"))
    assert service.summary["digest"] == chips.summary["digest"]
    rounds = service.table("rounds")
    first = rounds["replica"] == 0
    assert chips.meta["iterations_carried_out"] == (rounds["rounds"] * rounds["iterations"])[first].sum() > 0
    assert not first.all()
    assert chips.meta["replica_followed"] == 0
    assert "of replica 0 of 2 alone" in dict(chips_rows(chips.meta))["chips"]


def test_an_iteration_with_a_bit_error_is_carried_out_again() -> None:
    clean, marked = both(*FEW)[1], both(*FEW, "network.error_rate=1e-8")[1]
    assert marked.summary["requests_replayed"] > 0
    assert marked.meta["iterations_carried_out"] > clean.meta["iterations_carried_out"]


def test_a_lone_requests_times_follow_from_its_iterations_alone() -> None:
    """Nothing but when chips finished: the first token is the first iteration's end, the others come one an iteration."""
    case = node("workload.requests=1")
    machine = build(case.spec)
    chips = chip_zoom.chips_of(machine, dict.fromkeys(("replica", "rounds", "iterations"), np.zeros(0, np.int64)), 1)
    tables = served(machine, chips)
    row = {name: column[0] for name, column in tables["requests"].items()}
    ends_s = [each.start_ps * 1e-12 + cycles(chips, each.shape) / case.spec.chip.clock_hz for each in chips.carried]
    assert len(ends_s) == row["output_tokens"] > 8
    reply_s = case.spec.host.bus_s + case.spec.host.detokenise_token_s
    assert row["ttft_s"] == pytest.approx(ends_s[0] + reply_s - row["arrival_s"], abs=2e-12)
    assert row["tpot_s"] == pytest.approx(np.diff(ends_s).mean(), abs=2e-12)


def served(machine, chips):
    from dcsim.cluster.programs import Programs
    from dcsim.study.serve import serve_on

    tables, _, _ = serve_on(machine, Programs(machine.spec.serving, machine.times), machine.spec, 1, chips=chips)
    return tables


def cycles(chips: Chips, shape: Shape) -> int:
    return chips.programs[shape, False].schedule.makespan_cycles


@cache
def one_program() -> tuple[Shape, ChipProgram, int, float]:
    spec = node().spec
    machine, shape = build(spec), Shape(1, 128)
    return (
        shape,
        chip_zoom._program(machine, machine.network.schedule(shape), 1),
        machine.time(shape).latency_ps,
        spec.chip.clock_hz,
    )


def begin(latency_ps: int, program: ChipProgram) -> Chips:
    shape, _, _, clock_hz = one_program()
    chips = Chips(clock_hz, lambda *_: program)
    chips.begin(Steady(Round(micro_batches=(MicroBatches(shape, 1, latency_ps, latency_ps),)), latency_ps, 0))
    chips.env.run()
    return chips


@pytest.mark.parametrize("wrong_ps", [-1, 1])
def test_a_round_that_is_a_tick_too_long_or_short_ends_the_run(wrong_ps: int) -> None:
    shape, program, latency_ps, _ = one_program()
    assert [each.shape for each in begin(latency_ps, program).carried] == [shape]
    with pytest.raises(ScheduleError, match="its round counts on"):
        begin(latency_ps + wrong_ps, program)


def test_a_burst_that_its_link_delivers_late_ends_the_run() -> None:
    """A stretch of link that takes a thousand cycles more than the compiler was told."""
    from dcsim.network.scheduled.clocks import perfect_clocks
    from dcsim.network.scheduled.replay import Orders

    _, program, latency_ps, _ = one_program()
    machine = build(node().spec)
    figures, clocks = machine.network.schedule(Shape(1, 384, 384)).figures, perfect_clocks(8)
    late = {int(program.schedule.burst_link[0]): 1000}
    orders = Orders(program.schedule, program.tasks, machine.fabric, figures, clocks, late)
    with pytest.raises(ScheduleError, match="vector late on link"):
        begin(latency_ps, replace(program, orders=orders))


def test_clocks_that_drift_more_get_more_slack_as_long_as_counters_can_follow() -> None:
    service, chips = both(*FEW, "network.clock.drift=1000 ppm")
    assert chips.meta["margin_cycles_min"] > 0
    assert service.summary["digest"] == chips.summary["digest"]
    with pytest.raises(SpecError, match="a counter moves one at each"):
        node(*FEW, "network.clock.drift=5000 ppm").run()


def test_what_chips_do_is_made_once_for_each_shape() -> None:
    shape, program, latency_ps, clock_hz = one_program()
    made: list[Shape] = []

    def make(asked: Shape, in_flight: bool) -> ChipProgram:
        assert not in_flight
        made.append(asked)
        return program

    chips = Chips(clock_hz, make)
    batches = MicroBatches(shape, 3, latency_ps, latency_ps // 2)
    chips.begin(Steady(Round(micro_batches=(batches,)), 2 * latency_ps, 0))
    chips.finish()
    assert made == [shape]
    starts = [each.start_ps for each in chips.carried]
    assert starts == [0, latency_ps // 2, 2 * (latency_ps // 2)]
    assert [each.after_round_ps for each in chips.carried] == [
        0,
        0,
        0,
    ]  # the last at the end of the round, or a picosecond before


def test_stopped_chips_end_nothing_and_the_next_round_is_whole() -> None:
    shape, program, latency_ps, clock_hz = one_program()
    chips = Chips(clock_hz, lambda *_: program)
    pace = Steady(Round(micro_batches=(MicroBatches(shape, 2, latency_ps, latency_ps // 2),)), 2 * latency_ps, 0)
    chips.begin(pace)
    chips.env.run(until=chips.env.timeout(latency_ps // 4))  # the second has yet to enter
    chips.stop()
    chips.begin(pace)
    chips.finish()
    assert [each.start_ps for each in chips.carried] == [latency_ps // 4, latency_ps // 4 + latency_ps // 2]


def test_the_fine_clock_counts_picoseconds() -> None:
    chips = Chips(900e6, lambda *_: one_program()[1])
    assert isinstance(chips.env, simpy.Environment)
    seen: list[int] = []
    for delay in (3, 1, 2):
        chips.env.timeout(delay).callbacks.append(lambda _: seen.append(chips.env.now))
    chips.env.run()
    assert seen == [1, 2, 3]


@pytest.mark.parametrize(
    ("topology", "settings", "says"),
    [
        ("dgx-h100", (), "moves packets: there is no schedule to compile; use zoom='service'"),
        ("node", ("chip.clock=1000000001 Hz",), "whole kHz"),
        ("node", ("engine=compiled",), "the compiled copy does not know zoom='chips'"),
        (
            "node",
            (RULE, "workload.requests=2000000"),
            "iterations would take more than .* at most 300 s are allowed",
        ),
    ],
)
def test_what_it_cannot_show_is_refused(topology: str, settings: tuple[str, ...], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        dcsim.load(topology, workload="glimpse", set=settings).run(zoom="chips")


def test_a_long_run_of_few_requests_is_refused_with_the_time_it_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many iterations there are depends on who is served together, which only the service zoom tells."""
    iterations = glimpse()[1].meta["iterations_carried_out"]
    monkeypatch.setattr(chip_zoom, "LONGEST_S", 0.1)
    says = rf"zoom='chips': {iterations} iterations would take about [0-9.]+ ms here, at most 100 ms"
    with pytest.raises(SpecError, match=says):
        node().run(zoom="chips")


def test_progress_counts_iterations_to_their_number() -> None:
    told: list[tuple[int, int]] = []
    run = node(*FEW).run(zoom="chips", progress=lambda *pair: told.append(pair))
    count = run.meta["iterations_carried_out"]
    assert told == [(done, count) for done in range(1, count + 1)]


def test_the_timeline_shows_chips_links_hosts_racks_and_requests(tmp_path: Path) -> None:
    run = node(*FEW).run(out=tmp_path / "run", zoom="chips")
    path = tmp_path / "run" / "timeline.json.gz"
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    groups = {e["args"]["name"]: e["pid"] for e in events if e["name"] == "process_name"}
    assert set(groups) == {"chips", "links", "hosts", "racks", "replica", "requests"}
    bars = [e for e in events if e["ph"] == "X"]
    end_us = run.summary["elapsed_s"] * 1e6
    assert all(e["ts"] >= 0 and e["dur"] >= 0 and e["ts"] + e["dur"] <= end_us + 1e3 for e in bars)
    tracks = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    assert {(e["pid"], e["tid"]) for e in bars} <= tracks
    assert {e["tid"] for e in bars if e["pid"] == CHIPS} == set(range(8))
    assert any(e["pid"] == LINKS for e in bars)
    requests = run.table("requests")
    for row, number in enumerate(requests["request"].tolist()):  # its stays fill its time
        stays = [e for e in bars if e["pid"] == groups["requests"] and e["tid"] == number]
        assert [e["name"] for e in stays] == ["host", "queue", "prefill", "decode"]
        assert sum(e["dur"] for e in stays) == pytest.approx(requests["e2e_s"][row] * 1e6, abs=1e-3)
    visits = Counter(e["ph"] for e in events if e["pid"] == groups["hosts"] and "cat" in e)
    assert visits == {"b": 3, "e": 3}
    watts = [e["args"]["W"] for e in events if e["ph"] == "C"]
    assert watts == run.table("power")["power_w"].tolist()
    rounds = sum(e["pid"] == groups["replica"] for e in bars)
    assert rounds == len(run.table("rounds")["start_s"])
    again = node(*FEW).run(out=tmp_path / "again", zoom="chips")
    assert (tmp_path / "again" / "timeline.json.gz").read_bytes() == path.read_bytes()
    assert again.summary["digest"] == run.summary["digest"]


def test_a_service_run_has_no_timeline_and_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case = node(*FEW)
    service, chips = case.run(save=True), case.run(save=True, zoom="chips")
    assert service.folder != chips.folder
    assert (chips.folder / "timeline.json.gz").is_file()
    assert not (service.folder / "timeline.json.gz").exists()
