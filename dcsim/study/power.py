"""Where the power goes at a steady load, level by level, and how fast a rack's draw swings when chips work in lock step.

One iteration says what every chip does at every moment; micro-batches follow one another at equal distances, so the
draw repeats each round divided by their number. Averages do not see these swings: supplies and breakers do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.llm.program import Shape
from dcsim.network.scheduled.iteration import compile_shape
from dcsim.network.tasks import ATTENTION, COMPUTE, MATRIX, VECTOR, Tasks
from dcsim.power.chain import installed_chips, levels, network_power_w, optical_ends, plant_w, rack_count
from dcsim.study.machine import Machine

SWING_S = 1e-6  # swings shorter than this are fed by a board's own capacitors (assumed)


@dataclass(frozen=True, slots=True)
class Work:
    """One iteration of the first replica: what each chip does when, and how long all of it takes."""

    tasks: Tasks
    start_s: NDArray[np.float64]  # [task]
    last_s: NDArray[np.float64]
    latency_s: float
    occupancy_s: float
    link_j: float


def power(machine: Machine, shape: Shape) -> dict[str, Any]:
    """The site's draw idle, with one micro-batch alone and with as many as keep all stages busy.

    By part, by level, with a rack's swings. All replicas carry the same load; hosts count as busy under load.
    """
    work = _work(machine, shape)
    room = machine.mapping.memory.kv_tokens_max // shape.context // shape.batch
    full = max(1, min(room, int(work.latency_s / work.occupancy_s)))
    loads = [_load(machine, work, name, count) for name, count in (("idle", 0), ("alone", 1), ("full", full))]
    return {
        "topology": machine.spec.name,
        "llm": machine.spec.llm.name,
        **machine.spec.network.terms,
        "batch": shape.batch,
        "context": shape.context,
        "micro_batches_full": full,
        "iteration_s": work.latency_s,
        "loads": loads,
    }


def _work(machine: Machine, shape: Shape) -> Work:
    spec, time = machine.spec, machine.time(shape)
    if spec.network.kind == "scheduled":
        compiled = compile_shape(spec, machine.places, machine.mapping, shape)
        tasks, hz = compiled.tasks, spec.chip.clock_hz
        start, last = compiled.schedule.start / hz, compiled.schedule.last_out / hz
    else:
        from dcsim.network.packet.iteration import packet_spans

        tasks, start, last = packet_spans(spec, machine.fabric, machine.mapping, shape, machine.seed)
    link_j = time.energy_j - sum(_states_j(machine, tasks).values())
    return Work(tasks, start, last, time.latency_ps * 1e-12, time.occupancy_ps * 1e-12, link_j)


def _states_j(machine: Machine, tasks: Tasks) -> dict[str, float]:
    """Energy above waiting of one iteration, by the state of the chips."""
    power = machine.spec.chip.power
    seconds = np.bincount(tasks.part, tasks.last_cycles, 8) / tasks.clock_hz
    return {
        "matrix": float(seconds[MATRIX] * (power.matrix_w - power.wait_w)),
        "vector": float((seconds[VECTOR] + seconds[ATTENTION]) * (power.vector_w - power.wait_w)),
    }


def _load(machine: Machine, work: Work, name: str, count: int) -> dict[str, Any]:
    """The site under `count` micro-batches in flight in every replica."""
    spec, fabric, mapping = machine.spec, machine.fabric, machine.mapping
    racks = rack_count(fabric)
    installed = installed_chips(fabric, racks)
    used = np.zeros(racks, np.int64)
    for replica in mapping.replica_chips:
        np.add.at(used, fabric.rack_of[[chip for stage in replica for chip in stage]], 1)
    round_s = max(work.latency_s, count * work.occupancy_s)
    rate = count * mapping.replicas / round_s
    states = {state: energy * rate for state, energy in {**_states_j(machine, work.tasks), "link": work.link_j}.items()}
    host_w = spec.host.busy_w if count else spec.host.idle_w
    nodes = -(-installed // spec.node.chips)
    chips_w = (installed - used * bool(count)) * spec.chip.power.idle_w + used * bool(count) * spec.chip.power.wait_w
    parts = plant_w(spec, fabric, racks) + nodes * host_w + chips_w + used / max(1, used.sum()) * sum(states.values())
    chain = levels(spec, racks)
    meters = {level.name: level.meter_w(parts) for level in chain}
    rack_w, site_w = float(meters["rack"].sum()), float(meters["site"].sum())
    by_part = {
        "chips idle": float((installed - used * bool(count)).sum() * spec.chip.power.idle_w),
        "chips waiting": float(used.sum() * bool(count) * spec.chip.power.wait_w),
        **{f"chips {state}": watts for state, watts in states.items()},
        "hosts": float(nodes.sum() * host_w),
        "fans": float(nodes.sum() * spec.node.fan_w),
        "switches and adapters": network_power_w(spec, fabric),
        "optics": float(optical_ends(fabric, racks).sum() * spec.power.optic_w),
        "supply loss": rack_w - float(parts.sum()),
        "PDU and UPS loss": float(meters["hall"].sum()) - rack_w,
        "cooling": site_w - float(meters["hall"].sum()),
    }
    return {
        "load": name,
        "micro_batches": count,
        "power_w": site_w,
        "parts_w": by_part,
        "levels": [
            {
                "level": level.name,
                "count": len(meters[level.name]),
                "power_w_max": float(meters[level.name].max()),
                "cap_w": level.cap_w,
            }
            for level in chain
        ],
        **(swings(machine, work, count, round_s) if count else {}),
    }


def swings(machine: Machine, work: Work, count: int, round_s: float) -> dict[str, float]:
    """How the wall power of the first replica's hungriest rack moves within one period, caps and capacitors apart.

    `rack_rise_w_per_s` is the steepest change over `SWING_S`; `rack_start_w` the step when its chips go from idle into a
    program. The energy of links is spread evenly and left out.
    """
    spec, fabric, tasks = machine.spec, machine.fabric, work.tasks
    power = spec.chip.power
    above = np.zeros(8)
    above[MATRIX], above[ATTENTION], above[VECTOR] = (
        watts - power.wait_w for watts in (power.matrix_w, power.vector_w, power.vector_w)
    )
    busy = (tasks.kind == COMPUTE) & (above[tasks.part] != 0) & (tasks.last_cycles > 0)
    seconds = tasks.last_cycles[busy] / tasks.clock_hz  # at work; the rest of its span it waits for input
    end = work.last_s[busy]
    racks, period = fabric.rack_of[tasks.chip[busy]], round_s / count
    bins = max(1, int(np.ceil(period / SWING_S)))
    drawn = np.zeros((rack_count(fabric), bins))
    _spread(drawn, racks, end - seconds, end, above[tasks.part[busy]], period)
    watts = drawn / spec.node.supply_efficiency
    hungriest = watts[int(watts.max(axis=1).argmax())]
    chips = np.bincount(fabric.rack_of[[chip for stage in machine.mapping.replica_chips[0] for chip in stage]])
    steps = np.abs(np.diff(np.append(hungriest, hungriest[0])))
    return {
        "rack_swing_w": float(hungriest.max() - hungriest.min()),
        "rack_rise_w_per_s": float(steps.max() / (period / bins)),
        "rack_start_w": float(chips.max() * (power.wait_w - power.idle_w) / spec.node.supply_efficiency),
        "period_s": period,
    }


def _spread(
    drawn: NDArray[np.float64],
    racks: NDArray[np.int64],
    start_s: NDArray[np.float64],
    end_s: NDArray[np.float64],
    watts: NDArray[np.float64],
    period_s: float,
) -> None:
    """Add spans of power to [rack, bin] means over one period, into which all of them are folded."""
    bins = drawn.shape[1]
    cumulative = np.zeros((drawn.shape[0], bins + 1))  # change of slope and of level at each bin, integrated below
    change = np.zeros_like(cumulative)
    for moment, sign in ((start_s, 1.0), (end_s, -1.0)):
        place = np.mod(moment, period_s) / period_s * bins
        index = np.minimum(place.astype(np.int64), bins - 1)
        np.add.at(cumulative, (racks, index), sign * watts * (index + 1 - place))
        np.add.at(change, (racks, index + 1), sign * watts)
    drawn += cumulative[:, :bins] + np.cumsum(change, axis=1)[:, :bins]
    # Spans that wrap around are on from the start of the period: as often as they cross its border.
    wraps = np.floor(end_s / period_s) - np.floor(start_s / period_s)
    np.add.at(drawn, (racks,), (wraps * watts)[:, None])
