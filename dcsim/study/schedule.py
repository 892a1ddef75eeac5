"""One compiled program: schedule, proof, replay on drifting clocks, the slack it needs, and what bit errors cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from dcsim.llm.program import Shape
from dcsim.network.scheduled.bit_errors import error_cost
from dcsim.network.scheduled.bound import find_bound
from dcsim.network.scheduled.clocks import drifting_clocks, slack_needed_cycles
from dcsim.network.scheduled.iteration import CompiledIteration, link_energy_j, scheduled_network
from dcsim.network.scheduled.proof import prove, prove_repeated
from dcsim.network.scheduled.replay import replay
from dcsim.network.scheduled.rules import ScheduleRules
from dcsim.network.work import work_j
from dcsim.study.machine import Machine


def schedule(
    machine: Machine, shape: Shape, seed: int = 1, trace: Path | None = None, progress: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Compile, prove and replay one iteration of `shape`; one flat object of what was found.

    The replay runs twice: with perfect clocks, where it must end in the cycle the compiler said, and with drawn
    clocks and jitter. `progress` hears what is begun. Raises ScheduleError where a rule is broken or a vector comes too late
    for the slack.
    """
    begin = progress or (lambda _: None)
    machine.require_context(shape)
    fabric, network = machine.fabric, scheduled_network(machine.spec)
    begin("compiling")
    began = perf_counter()
    compiled = machine.network.schedule(shape)
    figures = compiled.figures
    compile_s, began = perf_counter() - began, perf_counter()
    begin(f"proving {len(compiled.piece_starts):,} pieces, {len(compiled.tasks.kind):,} tasks")
    proof = prove(compiled.schedule, compiled.tasks, fabric, figures)
    prove_s, began = perf_counter() - began, perf_counter()
    begin("replaying on perfect clocks")
    perfect = replay(compiled.schedule, compiled.tasks, fabric, figures)
    replay_s = perf_counter() - began
    clocks = drifting_clocks(fabric, network.clock, seed, compiled.deskew, compiled.schedule)
    begin("replaying on drifting clocks")
    drifting = replay(compiled.schedule, compiled.tasks, fabric, figures, clocks)
    if trace is not None:
        from dcsim.network.scheduled.timeline import write_timeline

        write_timeline(trace, compiled.schedule, compiled.tasks, fabric)
    begin("compiling micro-batches in flight")
    in_flight = _in_flight(machine, shape)
    begin("finding the bound")
    bound = find_bound(compiled.schedule, compiled.tasks, fabric, figures, compiled.piece_starts)
    return {
        **machine.terms,
        "batch": shape.batch,
        "context": shape.context,
        "new_tokens": shape.new_tokens,
        **compiled.schedule.report(),
        "bound_cycles": bound.cycles,
        "bound_ratio": compiled.schedule.makespan_cycles / max(1, bound.cycles),
        "critical_cycles": bound.critical_cycles,
        "busiest_link_cycles": bound.busiest_link_cycles,
        "pieces": len(compiled.piece_starts),
        "pieces_compiled": compiled.pieces_compiled,
        "replay_cycles": perfect.cycles,
        "replay_drifting_cycles": drifting.cycles,
        "conflicts": proof.conflicts,
        "slack_cycles": figures.slack_cycles,
        "slack_cycles_needed": compiled.slack_needed,
        "receive_vectors": figures.receive_vectors,
        "early_cycles_max": drifting.early_cycles_max,
        "slack_cycles_min": slack_needed_cycles(compiled.schedule, fabric, clocks, figures.link_cycles),
        **in_flight,
        "deskew_points": len(compiled.deskew),
        "processes": perfect.processes,
        "compile_s": compile_s,
        "prove_s": prove_s,
        "replay_s": replay_s,
        **_errors(machine, compiled, figures),
    }


def _in_flight(machine: Machine, shape: Shape) -> dict[str, float | None]:
    """The interval of micro-batches in flight, proved by laying the schedule over itself; None where none was found.

    The bound is the longest that a chip or a link is held for one alone; the makespan is that of one among the others.
    """
    found = machine.network.in_flight(shape)
    shared: dict[str, float | None] = {"chips_of_two_stages": len(machine.mapping.shared_chips)}
    keys = ("interval_cycles", "interval_bound_cycles", "interval_ratio", "in_flight_makespan_cycles")
    if found is None:
        return dict.fromkeys(keys) | shared
    prove(found.schedule, found.tasks, machine.fabric, found.figures)
    prove_repeated(found.schedule, found.tasks, machine.fabric, found.interval_cycles)
    ratio = found.interval_cycles / max(1, found.bound_cycles)
    values = found.interval_cycles, found.bound_cycles, ratio, found.schedule.makespan_cycles
    return dict(zip(keys, values, strict=True)) | shared


def _errors(machine: Machine, compiled: CompiledIteration, figures: ScheduleRules) -> dict[str, float]:
    """What uncorrectable bit errors cost this replica in a day of back-to-back iterations."""
    spec, mapping, network = machine.spec, machine.mapping, scheduled_network(machine.spec)
    seconds = compiled.schedule.makespan_cycles / figures.clock_hz
    waiting_j = mapping.chips_used * spec.chip.power.wait_w * seconds
    energy = work_j(compiled.tasks, spec.chip.power) + link_energy_j(compiled.schedule.vector_hops, spec) + waiting_j
    cost = error_cost(network.error_rate, compiled.schedule.vector_hops, network.vector_wire_bytes, seconds, energy)
    return {f"error_{name}": value for name, value in asdict(cost).items()}
