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
from dcsim.network.tasks import COMPUTE, Tasks
from dcsim.network.timing import IterationTime
from dcsim.network.work import above_waiting_w, states_j
from dcsim.power.chain import power_terms
from dcsim.power.steady import steady
from dcsim.study.idle import idle_chips
from dcsim.study.machine import Machine


@dataclass(frozen=True, slots=True)
class SteadyIteration:
    """One iteration of the first replica: what each chip does when, and how long all of it takes."""

    tasks: Tasks
    start_s: NDArray[np.float64]  # [task]
    last_s: NDArray[np.float64]
    latency_s: float
    occupancy_s: float
    states_j: dict[str, float]  # above waiting, by the state of the chips
    tokens: int  # each sequence's next
    time: IterationTime


def power(machine: Machine, shape: Shape) -> dict[str, Any]:
    """The site's draw idle, with one micro-batch alone and with as many as keep all stages busy.

    By part, by level, with a rack's swings. All replicas carry the same load; hosts hand its tokens on.
    """
    work = _work(machine, shape)
    room = machine.mapping.memory.room.sequences_max(shape.context) // shape.batch
    full = min(room, machine.full(shape, work.time)) if room > 1 else 1
    loads = [_load(machine, shape, work, name, count) for name, count in (("idle", 0), ("alone", 1), ("full", full))]
    return {
        **machine.terms,
        "batch": shape.batch,
        "context": shape.context,
        "micro_batches_full": full,
        "iteration_s": work.latency_s,
        **power_terms(machine.spec),
        **idle_chips(machine),
        "loads": loads,
    }


def _work(machine: Machine, shape: Shape) -> SteadyIteration:
    time, spans = machine.time(shape), machine.network.spans(shape)
    states = states_j(spans.tasks, machine.spec.chip.power)
    states["link"] = max(0.0, time.work_j - sum(states.values()))
    latency_s, occupancy_s = time.latency_ps * 1e-12, time.occupancy_ps * 1e-12
    return SteadyIteration(spans.tasks, spans.start_s, spans.last_s, latency_s, occupancy_s, states, shape.batch, time)


def _load(machine: Machine, shape: Shape, work: SteadyIteration, name: str, count: int) -> dict[str, Any]:
    """The site under `count` micro-batches in flight in every replica."""
    site = machine.site
    round_s = machine.round_ps(shape, count, work.time) * 1e-12
    chips_in = site.chips_in(machine.replica_chips)
    drawn = steady(site, chips_in if count else chips_in[:0], work.states_j, count / round_s, count * work.tokens / round_s)
    meters = drawn.meters_w()
    return {
        "load": name,
        "micro_batches": count,
        "round_s": round_s,
        "power_w": drawn.power_w,
        "it_power_w": drawn.it_power_w,
        "rack_power_w": drawn.rack_power_w,
        "parts_w": drawn.spent_w(),
        "levels": [
            {
                "level": level.name,
                "count": len(meters[level.name]),
                "power_w_max": float(meters[level.name].max()),
                "cap_w": level.cap_w,
            }
            for level in drawn.levels
        ],
        **(swings(machine, work, count, round_s) if count else {}),
    }


def swings(machine: Machine, work: SteadyIteration, count: int, round_s: float) -> dict[str, float]:
    """How the wall power of the first replica's hungriest rack moves within one period, caps and capacitors apart.

    `rack_rise_w_per_s` is the steepest change over `power.swing`; `rack_start_w` the step when its chips go from idle into a
    program. The energy of links is spread evenly and left out.
    """
    spec, site, tasks = machine.spec, machine.site, work.tasks
    power = spec.chip.power
    above = above_waiting_w(power)
    busy = (tasks.kind == COMPUTE) & (above[tasks.part] != 0) & (tasks.last_cycles > 0)
    seconds = tasks.last_cycles[busy] / tasks.clock_hz  # at work; the rest of its span it waits for input
    end = work.last_s[busy]
    racks, period = site.rack_of[tasks.chip[busy]], round_s / count
    bins = max(1, int(np.ceil(period / spec.power.swing_s)))
    drawn = np.zeros((site.racks, bins))
    _spread(drawn, racks, end - seconds, end, above[tasks.part[busy]], period)
    watts = drawn / spec.node.supply_efficiency
    hungriest = watts[int(watts.max(axis=1).argmax())]
    chips = site.chips_in(machine.replica_chips[:1])
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
