"""One iteration spelled out for a picture: what one stage's chips do and when, compiled and on packets, and again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.llm.program import Shape
from dcsim.network.tasks import COMPUTE, PARTS, Tasks
from dcsim.network.timing import Spans
from dcsim.spec.load import load
from dcsim.study.iteration import shape_of
from dcsim.study.machine import Machine, build

KINDS = ("matrix", "attention", "vector", "host", "send", "receive", "forward")
RUNS = 12  # iterations laid over each other
FOLLOWED = 60  # of the stage's operations in these
IN_FLIGHT = 6  # micro-batches shown of the steady state


@dataclass(frozen=True, slots=True)
class Pictured:
    """What is pictured: a topology with a compiled network, and the packet network beside it."""

    topology: str = "64chip"
    network: str = "infiniband-ndr"
    library: str = "posted"
    jitter: str = "host"
    stage: int = 0
    context: int = 2048


def pictured(asked: Pictured, progress: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Bars of one stage on both networks, the ends of its operations in RUNS iterations of each, and micro-batches in flight.

    Times are in microseconds from the beginning of the iteration. Raises SpecError for a topology without a schedule.
    """
    say = progress or (lambda _: None)
    say("compiling")
    machine = build(load(asked.topology).spec)
    shape = shape_of(1, asked.context, 0, machine.spec.llm)
    machine.require_context(shape)
    stages = machine.mapping.stage_chips
    stage = min(asked.stage, len(stages) - 1)
    chips = list(stages[stage])
    compiled = machine.network.schedule(shape)
    hz = machine.spec.chip.clock_hz
    spans = Spans(compiled.tasks, compiled.schedule.start / hz, compiled.schedule.last_out / hz)
    lanes = _operations(spans, chips)
    lanes += _bursts(machine, compiled, chips, hz)
    say("simulating packets")
    settings = [f"network.software={asked.library}", f"network.jitter={asked.jitter}"]
    packets = machine.on(load(asked.topology, network=asked.network, settings=settings).spec)
    drawn = [_with_seed(packets, seed).network.spans(shape) for seed in range(1, RUNS + 1)]
    say("micro-batches in flight")
    followed = _followed(spans, chips)
    return {
        "llm": machine.spec.llm.name,
        "stages": len(stages),
        "stage": stage,
        "chips": chips,
        "clock_hz": hz,
        "cycles": compiled.schedule.makespan_cycles,
        "vectors": int(compiled.schedule.vectors.sum()),
        "scheduled_us": 1e6 * compiled.schedule.makespan_cycles / hz,
        "packet_us": [1e6 * float(one.last_s.max()) for one in drawn],
        "scheduled": _columns(lanes),
        "packet": _columns(_operations(drawn[0], chips) + _messages(drawn[0], chips)),
        # A schedule is the same each time: it is what the chips carry out, not what they happen to do.
        "scheduled_runs": [_ends(spans, followed)] * RUNS,
        "packet_runs": [_ends(one, _followed(one, chips)) for one in drawn],
        "in_flight": _in_flight(machine, shape, chips, hz),
    }


Bar = tuple[int, str, float, float, str, bool]  # chip, kind, begin and end in us, what it is, whether it is critical


def _with_seed(machine: Machine, seed: int) -> Machine:
    """The same machine, whose network draws otherwise."""
    return machine if seed == machine.seed else replace(machine, seed=seed).on(machine.spec)


def _operations(spans: Spans, chips: list[int]) -> list[Bar]:
    tasks, critical = spans.tasks, critical_path(spans)
    chosen = np.flatnonzero((tasks.kind == COMPUTE) & np.isin(tasks.chip, chips))
    return [
        (
            int(tasks.chip[task]),
            PARTS[tasks.part[task]],
            1e6 * float(spans.start_s[task]),
            1e6 * float(spans.last_s[task]),
            f"{PARTS[tasks.part[task]]} on chip {tasks.chip[task]}",
            bool(critical[task]),
        )
        for task in chosen
    ]


def _messages(spans: Spans, chips: list[int]) -> list[Bar]:
    """Messages from when their first bytes are ready until the last have arrived, at both ends."""
    tasks, critical = spans.tasks, critical_path(spans)
    found: list[Bar] = []
    for task in np.flatnonzero(tasks.kind != COMPUTE):
        source, target = int(tasks.chip[task]), int(tasks.target[task])
        times = 1e6 * float(spans.start_s[task]), 1e6 * float(spans.last_s[task])
        words = f"{tasks.size_bytes[task]:,} bytes from chip {source} to chip {target}"
        found += [(source, "send", *times, words, bool(critical[task]))] if source in chips else []
        found += [(target, "receive", *times, words, bool(critical[task]))] if target in chips else []
    return found


def _bursts(machine: Machine, compiled: Any, chips: list[int], hz: float) -> list[Bar]:
    """Vectors on links that leave or enter the chips, from the slot of the first to that of the last."""
    schedule, tasks, fabric = compiled.schedule, compiled.tasks, machine.fabric
    spans = Spans(tasks, schedule.start / hz, schedule.last_out / hz)
    critical = critical_path(spans)
    flow = np.repeat(np.arange(len(schedule.flow_task)), schedule.hops)
    end = schedule.burst_start + ((schedule.vectors - 1) * schedule.stride)[flow] + schedule.slot_cycles
    found: list[Bar] = []
    for burst, link in enumerate(schedule.burst_link):
        leaves, enters = int(fabric.link_source[link]), int(fabric.link_target[link])
        if leaves not in chips and enters not in chips:
            continue
        task = int(schedule.flow_task[flow[burst]])
        first, last = int(schedule.burst_start[burst]), int(end[burst])
        words = f"{schedule.vectors[flow[burst]]} vectors from chip {tasks.chip[task]} to {tasks.target[task]}, cycle {first:,}"
        times = 1e6 * first / hz, 1e6 * last / hz
        if leaves in chips:
            found.append((leaves, "send" if leaves == tasks.chip[task] else "forward", *times, words, bool(critical[task])))
        if enters in chips and enters == tasks.target[task]:
            found.append((enters, "receive", *times, words, bool(critical[task])))
    return found


def critical_path(spans: Spans) -> NDArray[np.bool_]:
    """[task] whether it is on the chain that decides the end: from the last task back, each time to what came last before it."""
    tasks: Tasks = spans.tasks
    on = np.zeros(len(tasks), bool)
    task = int(np.argmax(spans.last_s))
    while True:
        on[task] = True
        before = tasks.before[tasks.before_start[task] : tasks.before_start[task + 1]]
        if not len(before):
            return on
        task = int(before[np.argmax(spans.last_s[before])])


def _followed(spans: Spans, chips: list[int]) -> NDArray[np.intp]:
    """The first operations of the stage's first chip."""
    return np.flatnonzero((spans.tasks.kind == COMPUTE) & (spans.tasks.chip == chips[0]))[:FOLLOWED]


def _ends(spans: Spans, tasks: NDArray[np.intp]) -> list[float]:
    return [round(1e6 * float(value), 4) for value in spans.last_s[tasks]]


def _in_flight(machine: Machine, shape: Shape, chips: list[int], hz: float) -> dict[str, Any] | None:
    """What the stage's chips do of each micro-batch of the steady state; None where none was found."""
    found = machine.network.in_flight(shape)
    if found is None:
        return None
    spans = Spans(found.tasks, found.schedule.start / hz, found.schedule.last_out / hz)
    return {
        "interval_us": 1e6 * found.interval_cycles / hz,
        "interval_cycles": found.interval_cycles,
        "micro_batches": IN_FLIGHT,
        "bars": _columns(_operations(spans, chips)),
    }


def _columns(bars: list[Bar]) -> dict[str, list[Any]]:
    """Bars column by column, in order of time."""
    ordered = sorted(bars, key=lambda bar: (bar[2], bar[0], bar[1]))
    names = ("chip", "kind", "begin_us", "end_us", "words", "critical")
    columns: dict[str, list[Any]] = {name: [bar[i] for bar in ordered] for i, name in enumerate(names)}
    return columns | {name: [round(float(value), 4) for value in columns[name]] for name in ("begin_us", "end_us")}
