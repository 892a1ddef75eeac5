"""What an interconnect does to users: its share of the slowest requests' times, and what holding the SLO takes.

Both ask the service zoom's questions of each candidate. The network's share of a percentile is what it loses to an
ideal network, whose adapters, switches and bytes take no time (cables do, and packets wait until they are full, which
a schedule's vectors need not: no base is above the fastest candidate with its mapping). Headroom is how many times the chips,
cables and watts a candidate needs to give users the first candidate's tokens per second inside the SLO on time per
token, from one replica's best steady state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dcsim.llm.mapping import Mapping
from dcsim.llm.program import Shape
from dcsim.network.packet.ideal import ideal_of
from dcsim.spec.load import Resolved, load
from dcsim.spec.topology import Topology
from dcsim.study.candidate import Timed, iterations_of
from dcsim.study.machine import Machine
from dcsim.study.serve import ENGINE_KEYS, programs_of, serve_on

SHARED = ("ttft_s_p99", "tpot_s_p99")  # what is split into the network's share and the rest
IDEAL_BASE = "infiniband-ndr"  # only what is not made ideal is read of it


def users(
    done: Sequence[Timed],
    topology: str,
    llm: str | None,
    settings: Sequence[str],
    duration: str,
    seed: int,
    progress: Callable[[str], None] | None = None,
) -> tuple[list[dict[str, Any]], Resolved]:
    """Serve `duration` of the topology's workload on each candidate: p99 of TTFT and TPOT and the network's share.

    Returns a row for each candidate, and the spec whose workload was served.
    """
    resolved = ideal_base(topology, llm, [*settings, f"workload.duration={duration}"])
    base = resolved.spec
    machines, served = [], []
    for timed in done:
        if progress:
            progress(f"serving {timed.interconnect} {timed.software or ''}".strip())
        machines.append(timed.machine.on(timed.spec.model_copy(update={"workload": base.workload})))
        served.append(_served(machines[-1], machines[-1].spec, seed))
    ideals: dict[Mapping, dict[str, Any]] = {}
    for timed in done:
        alike = [own for own, other in zip(served, done, strict=True) if other.machine.mapping == timed.machine.mapping]
        if timed.machine.mapping not in ideals:
            ideal = _served(timed.machine.on(ideal_of(base)), base, seed)
            ideals[timed.machine.mapping] = {metric: _least(one[metric] for one in (ideal, *alike)) for metric in SHARED}
    rows = [
        {
            "interconnect": timed.interconnect,
            "software": timed.software,
            **_shares(own, ideals[timed.machine.mapping]),
            **{key: own[key] for key in ENGINE_KEYS},
            **holding(machine),
        }
        for timed, machine, own in zip(done, machines, served, strict=True)
    ]
    return _headroom(rows), resolved


def _least(values: Iterable[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def ideal_base(topology: str, llm: str | None, settings: Sequence[str]) -> Resolved:
    """The topology on the network that is then made ideal."""
    own = [*without_network(settings), "network.software=ideal", "network.jitter=off"]
    return load(topology, llm=llm, network=IDEAL_BASE, settings=own)


def for_packets(setting: str) -> bool:
    """Whether a setting is of a packet network; what things cost is every network's."""
    return setting.startswith("network.") and not setting.startswith("network.prices")


def without_network(settings: Sequence[str]) -> list[str]:
    """The settings that are not of a packet network, which belong to every candidate."""
    return [setting for setting in settings if not for_packets(setting)]


def ideal_time_s(base: Topology, machine: Machine, shape: Shape) -> float:
    """One iteration of `shape` with `machine`'s mapping on the ideal network."""
    return float(iterations_of(on_ideal(base, machine), shape, 1).latency_ps[0]) * 1e-12


def on_ideal(base: Topology, machine: Machine) -> Machine:
    """The machine on the ideal network."""
    return machine.on(ideal_of(base))


def _served(machine: Machine, spec: Topology, seed: int) -> dict[str, Any]:
    _, summary, meta = serve_on(machine, programs_of(machine, machine.times), spec, seed)
    return summary | {key: meta[key] for key in ENGINE_KEYS}


def _shares(summary: dict[str, Any], ideal: dict[str, Any]) -> dict[str, Any]:
    """p99 and the share of it that the ideal network would save; None where nothing finished."""
    found: dict[str, Any] = {}
    for metric in SHARED:
        value, bound = summary[metric], ideal[metric]
        found[metric] = value
        found[f"network_{metric.replace('_s_', '_')}_fraction"] = 1 - bound / value if value and bound is not None else None
    return found


def holding(machine: Machine) -> dict[str, Any]:
    """The most tokens per second and chip of one replica whose users still get each token inside the SLO; 0: none."""
    from dcsim.study.frontier import loads

    spec = machine.spec
    inside = [load for load in loads(machine, context=timed_context(spec)) if load.interval_s <= spec.slo.tpot_s]
    best = max(inside, key=lambda load: load.tokens_per_s, default=None)
    chips = machine.mapping.chips_used
    return {
        "tokens_per_s_per_chip_in_slo": best.tokens_per_s_per_chip if best else 0.0,
        "cables_per_chip": machine.site.bill.cables / machine.fabric.chip_count,
        "w_per_chip": best.power_w / chips if best else 0.0,
    }


def timed_context(spec: Topology) -> int:
    """Context at which the SLO is held: half of what the LLM can have, as for choosing a mapping."""
    return max(1, spec.llm.context_max // 2)


def _headroom(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Chips, cables and watts for the first row's tokens per second, as multiples of the first's; None: no number does."""
    first = rows[0]["tokens_per_s_per_chip_in_slo"]
    for row in rows:
        own = row["tokens_per_s_per_chip_in_slo"]
        chips = first / own if own and first else None
        row["headroom_chips"] = chips
        for name in ("cables", "w"):
            base = rows[0][f"{name}_per_chip"]
            row[f"headroom_{name}"] = chips * row[f"{name}_per_chip"] / base if chips and base else None
    return rows
