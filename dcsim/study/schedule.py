"""One compiled program: schedule, proof, replay on drifting clocks, the slack it needs, and what bit errors cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.llm.program import Shape
from dcsim.network.scheduled.bit_errors import error_cost
from dcsim.network.scheduled.bound import find_bound
from dcsim.network.scheduled.clocks import drifting_clocks, slack_needed_cycles
from dcsim.network.scheduled.iteration import Compiled, link_energy_j, scheduled_network
from dcsim.network.scheduled.proof import prove
from dcsim.network.scheduled.replay import replay
from dcsim.network.scheduled.rules import Figures, figures_of
from dcsim.network.work import work_j
from dcsim.spec.network import Clock
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
    spec, fabric, network = machine.spec, machine.fabric, scheduled_network(machine.spec)
    figures = figures_of(network, spec.chip.clock_hz)
    begin("compiling")
    began = perf_counter()
    compiled = machine.network.schedule(shape)
    compile_s, began = perf_counter() - began, perf_counter()
    begin(f"proving {len(compiled.piece_starts):,} pieces, {len(compiled.tasks.kind):,} tasks")
    proof = prove(compiled.schedule, compiled.tasks, fabric, figures)
    prove_s, began = perf_counter() - began, perf_counter()
    begin("replaying on perfect clocks")
    perfect = replay(compiled.schedule, compiled.tasks, fabric, figures)
    replay_s = perf_counter() - began
    points = deskew_points(compiled, network.clock)
    clocks = drifting_clocks(fabric, network.clock, seed, points, compiled.schedule)
    begin("replaying on drifting clocks")
    drifting = replay(compiled.schedule, compiled.tasks, fabric, figures, clocks)
    if trace is not None:
        from dcsim.network.scheduled.timeline import write_timeline

        write_timeline(trace, compiled.schedule, compiled.tasks, fabric)
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
        "slack_cycles_min": slack_needed_cycles(compiled.schedule, fabric, clocks, figures.link_cycles),
        "deskew_points": len(points),
        "processes": perfect.processes,
        "compile_s": compile_s,
        "prove_s": prove_s,
        "replay_s": replay_s,
        **_errors(machine, compiled, figures),
    }


def deskew_points(compiled: Compiled, clock: Clock) -> NDArray[np.int64]:
    """Program cycles at which all chips absorb drift: where each stage begins; or each block, and every `deskew_cycles`
    within a longer one; none for "iteration".
    """
    starts = np.array([compiled.schedule.start[t] for t in compiled.piece_starts if t < len(compiled.schedule.start)], np.int64)
    if clock.deskew == "iteration":
        starts = starts[:0]
    elif clock.deskew == "stage":
        counts = np.cumsum([0, *(len(stage.blocks) for stage in compiled.program.stages)])[:-1]
        starts = starts[counts[counts < len(starts)]]
    else:
        ends = np.append(starts[1:], compiled.schedule.makespan_cycles)
        starts = np.concatenate([np.arange(s, max(e, s + 1), clock.deskew_cycles) for s, e in zip(starts, ends, strict=True)])
    return np.unique(starts[starts > 0])


def _errors(machine: Machine, compiled: Compiled, figures: Figures) -> dict[str, float]:
    """What uncorrectable bit errors cost this replica in a day of back-to-back iterations."""
    spec, mapping, network = machine.spec, machine.mapping, scheduled_network(machine.spec)
    seconds = compiled.schedule.makespan_cycles / figures.clock_hz
    waiting_j = mapping.tp * mapping.pp * spec.chip.power.wait_w * seconds
    energy = work_j(compiled.tasks, spec.chip.power) + link_energy_j(compiled.schedule.vector_hops, spec) + waiting_j
    cost = error_cost(network.error_rate, compiled.schedule.vector_hops, network.vector_wire_bytes, seconds, energy)
    return {f"error_{name}": value for name, value in asdict(cost).items()}


def smallest_safe_slack(machine: Machine, shape: Shape, seed: int = 1) -> int:
    """The least slack with which this machine's clocks and jitter never make a vector late, for a program compiled with it.

    More slack lengthens the program, and with it the drift between deskew points, so each slack is judged by its own
    program: up until one is enough, then down while the next is enough too.
    """
    slack = 0
    while (needed := _slack_needed(machine, shape, seed, slack)) > slack:
        slack = needed
    while slack and _slack_needed(machine, shape, seed, slack - 1) < slack:
        slack -= 1
    return slack


def _slack_needed(machine: Machine, shape: Shape, seed: int, slack: int) -> int:
    """Slack that the drawn clocks need in a program compiled with `slack`."""
    network = scheduled_network(machine.spec)
    clock = network.clock.model_copy(update={"slack_cycles": slack})
    spec = machine.spec.model_copy(update={"network": network.model_copy(update={"clock": clock})})
    compiled = machine.on(spec).network.schedule(shape)
    clocks = drifting_clocks(machine.fabric, clock, seed, deskew_points(compiled, clock), compiled.schedule)
    return slack_needed_cycles(compiled.schedule, machine.fabric, clocks, network.link_cycles)
