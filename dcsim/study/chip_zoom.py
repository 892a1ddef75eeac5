"""Chip zoom: what chips and links do for each program, how long a run would take, what it shows, and its timeline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dcsim.cluster.setup import FOLLOWED
from dcsim.cluster.simpy.chips import Carried, ChipProgram, Chips
from dcsim.errors import Problem, SpecError
from dcsim.fabric.graph import Fabric
from dcsim.llm.program import Shape
from dcsim.network.scheduled.clocks import TICKS, drifting_clocks
from dcsim.network.scheduled.iteration import CompiledIteration, InFlight, scheduled_network
from dcsim.network.scheduled.overlap import Usage, shared_chips, shared_slots
from dcsim.network.scheduled.replay import NO_MARGIN, Orders
from dcsim.network.scheduled.timeline import LINKS, bar, bars, group, outline, track, tracks, write_events
from dcsim.results.records import Table
from dcsim.study.machine import Machine
from dcsim.units import PS_PER_S, format_time
from dcsim.workload.closed import ClosedLoop
from dcsim.workload.requests import Requests

HOSTS, RACKS, ROUNDS, REQUESTS = range(LINKS + 1, LINKS + 5)  # groups of tracks beside chips and links
_STAYS = (
    ("host", "arrival_s", "ready_s"),
    ("queue", "ready_s", "admitted_s"),
    ("prefill", "admitted_s", "first_token_s"),
    ("decode", "first_token_s", "finished_s"),
)
Program = tuple[Shape, bool]  # and whether it is in flight with others of its kind
LONGEST_S = 300.0  # a run that would take longer is refused
INSTRUCTION_S = 6e-6  # to carry out one operation or burst (measured: 5 to 7 us)


def check(machine: Machine, traffic: Iterable[Requests] | ClosedLoop) -> None:
    """Refuse, with a SpecError, what chip zoom does not show, and what is far too long to be counted out.

    Each token but a request's first takes part in an iteration, and at most the largest compiled batch of them in one.
    """
    spec = machine.spec
    try:
        scheduled_network(spec)
    except SpecError as error:
        raise SpecError(Problem("--zoom chips", str(error), "use --zoom service")) from None
    if round(spec.chip.clock_hz) % 1000:
        raise SpecError(Problem("--zoom chips", f"needs a chip clock of whole kHz, not {spec.chip.clock_hz:g} Hz"))
    if isinstance(traffic, ClosedLoop):
        return
    drafts = spec.serving.speculation.draft_tokens if spec.serving.speculation else 0
    together = max(machine.batches) * (1 + drafts) * machine.mapping.replicas
    tokens, iteration_s = 0, _iteration_s(machine)
    for block in traffic:
        served = block.prompt_tokens.astype(np.int64) + block.output_tokens <= spec.llm.context_max
        tokens += int((block.output_tokens[served] - 1).sum())
        _check_time(tokens // together, iteration_s, "more than ")


def chips_of(machine: Machine, rounds: Table, seed: int, progress: Any = None) -> Chips:
    """The chips and links of the replica that is followed, for one run; the service zoom's `rounds` say how many iterations
    that takes.

    `progress(done, in all)` hears of each. Raises SpecError if they would take more than `LONGEST_S`.
    """
    spec = machine.spec
    followed = rounds["replica"] == FOLLOWED
    iterations = int((rounds["rounds"] * rounds["iterations"])[followed].sum())
    _check_time(iterations, _iteration_s(machine))
    done = 0

    def program(shape: Shape, in_flight: bool) -> ChipProgram:
        found = machine.network.in_flight(shape) if in_flight else machine.network.schedule(shape)
        assert found is not None, "the service zoom had it proved"
        return _program(machine, found, seed)

    def on_iteration() -> None:
        nonlocal done
        done += 1
        progress(done, max(iterations, done))

    return Chips(spec.chip.clock_hz, program, on_iteration if progress else None)


def _iteration_s(machine: Machine) -> float:
    """How long it takes to carry out an iteration, judged by a lone sequence's."""
    lone = Shape(1, min(machine.spec.serving.context_buckets))
    compiled = machine.network.schedule(lone)
    return (len(compiled.tasks) + len(compiled.schedule.burst_link)) * INSTRUCTION_S


def _check_time(iterations: int, iteration_s: float, more: str = "") -> None:
    if iterations * iteration_s > LONGEST_S:
        what = (
            f"{more}{iterations:,} iterations would take {more or 'about '}{format_time(iterations * iteration_s)} here, "
            f"at most {format_time(LONGEST_S)} are allowed"
        )
        raise SpecError(Problem("--zoom chips", what, "give a shorter workload, such as --workload glimpse"))


def _program(machine: Machine, compiled: CompiledIteration | InFlight, seed: int) -> ChipProgram:
    network, fabric = scheduled_network(machine.spec), machine.fabric
    clocks = drifting_clocks(fabric, network.clock, seed, compiled.deskew, compiled.schedule)
    orders = Orders(compiled.schedule, compiled.tasks, fabric, compiled.figures, clocks)
    return ChipProgram(orders, compiled.schedule, compiled.tasks)


def report(chips: Chips) -> dict[str, Any]:
    """What the chips did, for a run's meta."""
    carried = sorted(chips.carried, key=lambda c: c.start_ps)
    margins = [each.margin_ticks for each in carried if each.margin_ticks < NO_MARGIN]
    usage = {key: Usage(program.schedule, program.tasks) for key, program in chips.programs.items()}
    slots, held = _wanted_twice(carried, usage, chips.clock_hz)
    return {
        "replica_followed": FOLLOWED,
        "iterations_carried_out": len(carried),
        "programs_carried_out": len(chips.programs),
        "margin_cycles_min": min(margins) / TICKS if margins else None,
        "early_cycles_max": max((each.early_ticks for each in carried), default=0) / TICKS,
        "after_round_s_max": max((each.after_round_ps for each in carried), default=0) / PS_PER_S,
        "link_slots_used": sum(usage[each.program].slots for each in carried),
        "link_slots_wanted_twice": slots,
        "chips_wanted_twice": held,
    }


def _wanted_twice(carried: Sequence[Carried], usage: Mapping[Program, Usage], clock_hz: float) -> tuple[int, int]:
    """Over all pairs of iterations under way at once: link slots that both want, and chips."""

    @cache
    def shared(first: Program, second: Program, later_cycles: int) -> tuple[int, int]:
        pair = usage[first], usage[second], later_cycles
        return shared_slots(*pair), shared_chips(*pair)

    slots = chips = 0
    under_way: list[Carried] = []
    for each in carried:
        still = []
        for other in under_way:
            later_cycles = round((each.start_ps - other.start_ps) * clock_hz / PS_PER_S)
            if later_cycles < usage[other.program].makespan_cycles:
                still.append(other)
                more = shared(other.program, each.program, later_cycles)
                slots, chips = slots + more[0], chips + more[1]
        under_way = [*still, each]
    return slots, chips


def write_timeline(path: Path, tables: Mapping[str, Table], chips: Chips, fabric: Fabric) -> int:
    """Write what chips, links, hosts, racks and requests did (for ui.perfetto.dev); returns how many bars that are.

    The first iteration of each program is shown in full, later ones as one bar on each chip and link. Times are microseconds.
    """
    return write_events(path, [*_chips_and_links(chips, fabric), *_hosts_and_requests(tables), *_rounds(tables), *_racks(tables)])


def _chips_and_links(chips: Chips, fabric: Fabric) -> Iterator[dict[str, Any]]:
    programs = chips.programs.values()
    yield from tracks([p.schedule for p in programs], [p.tasks for p in programs], fabric)
    outlines = {key: outline(program.schedule, program.tasks) for key, program in chips.programs.items()}
    shown = set()
    for carried in sorted(chips.carried, key=lambda c: c.start_ps):
        shape, epoch_us = carried.shape, carried.start_ps / 1e6
        program = chips.programs[carried.program]
        if carried.program not in shown:
            shown.add(carried.program)
            yield from bars(program.schedule, program.tasks, epoch_us)
            continue
        us = 1e6 / program.tasks.clock_hz
        name = f"{shape.batch} x {shape.new_tokens} tokens, context {shape.context}"
        for kind, number, first, last in outlines[carried.program]:
            yield bar(kind, number, name, epoch_us + first * us, (last - first) * us, {})


def _hosts_and_requests(tables: Mapping[str, Table]) -> Iterator[dict[str, Any]]:
    """A line for each request with its stays one after another, and the same visits on the hosts."""
    requests = tables["requests"]
    yield group(HOSTS, "hosts")
    yield group(REQUESTS, "requests")
    names = ("request", "host", "arrival_s", "ready_s", "admitted_s", "first_token_s", "finished_s")
    columns = {name: requests[name].tolist() for name in names}
    for row, number in enumerate(columns["request"]):
        yield track(REQUESTS, number, f"request {number}")
        for name, start, end in _STAYS:
            start_us, length_us = columns[start][row] * 1e6, (columns[end][row] - columns[start][row]) * 1e6
            if length_us != length_us:  # it did not come to that
                continue
            yield bar(REQUESTS, number, name, start_us, length_us, {})
            if name == "host":  # visits to one server overlap, which bars on one track could not
                host = columns["host"][row]
                visit = {"pid": HOSTS, "tid": host, "cat": "visit", "id": number, "name": f"host {host}: request {number}"}
                yield {"ph": "b", "ts": round(start_us, 4), **visit}
                yield {"ph": "e", "ts": round(start_us + length_us, 4), **visit}


def _rounds(tables: Mapping[str, Table]) -> Iterator[dict[str, Any]]:
    rounds = tables["rounds"]
    followed = rounds["replica"] == FOLLOWED
    yield group(ROUNDS, "replica")
    yield track(ROUNDS, 0, "rounds")
    columns = (rounds[name][followed].tolist() for name in ("start_s", "end_s", "decoding", "chunks"))
    for start, end, decoding, chunks in zip(*columns, strict=True):
        yield bar(ROUNDS, 0, f"{decoding} decoding, {chunks} read", start * 1e6, (end - start) * 1e6, {})


def _racks(tables: Mapping[str, Table]) -> Iterator[dict[str, Any]]:
    """The power of each rack as a counter, at the beginning of each interval."""
    power = tables["power"]
    yield group(RACKS, "racks")
    columns = (power[name].tolist() for name in ("time_s", "interval_s", "rack", "power_w"))
    for end, interval, rack, watts in zip(*columns, strict=True):
        yield {"ph": "C", "pid": RACKS, "ts": round((end - interval) * 1e6, 4), "name": f"rack {rack} W", "args": {"W": watts}}
