"""The same chips, LLM and traffic on several interconnects: how much slower, and which part of it is whose.

Each has the mapping that serves the scenario's objective best there (a packet network's libraries that of its own), and once more
the one with the lowest latency; where the mapping is given, all have that.

Every packet network is shown with no library, with each of `LIBRARIES` and with its own. Iterations of a packet
network follow each other, so their means are given with an interval from blocks of them, not from each by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.economics.bill import parts_of
from dcsim.errors import SpecError
from dcsim.llm.mapping import Mapping
from dcsim.llm.program import Shape
from dcsim.network.timing import waterfall
from dcsim.spec.chip import LpuChip
from dcsim.spec.document import Path_
from dcsim.spec.load import Resolved, load
from dcsim.spec.mapping import Objective
from dcsim.spec.price import TcoPrices
from dcsim.spec.section import LABELS
from dcsim.spec.topology import Topology
from dcsim.spec.unused import Keys, keys_of, unused_of
from dcsim.study.candidate import Timed, time_all, time_candidate
from dcsim.study.found import find_all
from dcsim.study.idle import idle_chips
from dcsim.study.machine import Machine, build, for_objective, is_searched, objective_of
from dcsim.study.users import for_packets, ideal_base, ideal_time_s, on_ideal, users, without_network

Wanted = tuple[str, str | None, Resolved]  # a network, a library (None: there is none to have) and the topology with both
LIBRARIES = ("ideal", "verbs")  # shown beside the one that a packet network has
GPU_LIBRARY = "nccl"  # shown too for chips without kernels: what it would cost them
PACKETS_MAX = 5_000_000  # of a candidate whose replications nobody asked for: a few seconds
BLOCKS = 10  # successive iterations are correlated; means of blocks of them much less
STUDENT_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # by degrees of freedom, from 1


def compare(
    topology: str,
    interconnects: Sequence[str],
    shape: Shape,
    *,
    llm: str | None = None,
    settings: Sequence[str] = (),
    packet_settings: Sequence[str] = (),
    seed: int = 1,
    same_mapping: bool | None = None,
    lowest_latency: bool = True,
    serve: str | None = None,
    packets_max: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Time `shape` on each interconnect, with the mapping of the first or each with its own (`same_mapping`).

    Where an objective of mappings is named each has its own best for that unless said otherwise, and with `lowest_latency` once
    more the one with the lowest latency. With `packets_max`, no candidate simulates more packets than that in all its
    replications, of all objectives together, but one iteration at least, and few where nothing disturbs its network.
    `packet_settings` and those of `settings` that start with `network.` apply to packet networks only. Returns the
    shape, the first mapping and `candidates`, one row for each objective, interconnect and library; rows are compared with the
    first of their objective.
    With `serve` (a time with unit) so much of the workload is served on each of the first objective, and `users` says what users
    see of it.
    """
    if not interconnects:
        raise SpecError("--interconnect: name at least one network")
    wanted = [
        (name, library, resolved)
        for name in interconnects
        for library, resolved in _with_libraries(topology, name, llm, settings, packet_settings)
    ]
    own = wanted[0][2].spec
    same_mapping = not is_searched(own) if same_mapping is None else same_mapping
    passes = _passes(own, not same_mapping)
    packets_max //= len(passes)  # before one is left out, so that the rows of the other are the same without it
    passes = passes if lowest_latency else passes[:1]
    find_all(spec for objective in passes for spec in _searched(wanted, objective, same_mapping))
    placed = [one for objective in passes for one in _machines(wanted, objective, same_mapping, seed)]
    base = [ideal_base(topology, llm, settings)]
    done = _timed(placed, base[0].spec, shape, packets_max, progress or (lambda _: None))
    per_pass = len(wanted)
    firsts = [done[i - i % per_pass] for i in range(len(done))]
    first = done[0]
    # Settings of packet networks are for those alone; what all are compared at stands in the first of them.
    stated = next((timed for timed in done if timed.software is not None), first)
    terms, prices = stated.machine.network.conditions(), stated.spec.network.prices
    ideal_s = _ideals(base[0].spec, done, shape)
    result = {
        "topology": topology,
        "llm": first.spec.llm.name,
        "batch": shape.batch,
        "context": shape.context,
        "new_tokens": shape.new_tokens,
        "tp": first.machine.mapping.tp,
        "pp": first.machine.mapping.pp,
        "chips_used": first.machine.mapping.chips_used,
        "mapping": "same" if same_mapping else "own",
        "objective": first.machine.chosen["objective"],
        **idle_chips(first.machine),
        "gpu_library": _gpu_library(done),
        "fairness": terms["fairness"],
        "prices": prices.name,
        "jitter": terms["jitter"],
        "jitter_description": terms["jitter_description"] or "",
        "seed": seed,
        "identical": [line for i in range(0, len(done), per_pass) for line in identical(done[i : i + per_pass])],
        "candidates": [
            row(timed, own, shape, prices, ideal_s[timed.machine.mapping]) for timed, own in zip(done, firsts, strict=True)
        ],
    }
    if serve is not None:
        result["users"], served = users(done[:per_pass], topology, llm, settings, serve, seed, progress)
        base.append(served)
    ignored = () if stated.software else tuple(filter(for_packets, (*settings, *packet_settings)))
    left_out = {_key(setting): f"--set {setting}" for setting in ignored}
    found = [keys_of(one) for one in (*(one for _, _, one in wanted), *base)]
    result["unused_keys"] = unused_of([*found, Keys(left_out, frozenset())])
    return result


def _machines(
    wanted: Sequence[Wanted], objective: Objective, same_mapping: bool, seed: int
) -> Iterator[tuple[str, str | None, Machine]]:
    """Each candidate with its mapping: found for it, or for its network with its own library, or for the first of all."""
    first: Machine | None = None
    for name, group in groupby(wanted, key=lambda one: one[0]):
        libraries = list(group)
        shared = first if same_mapping else None
        for _, software, resolved in libraries:
            if shared is None and _is_shared(objective):
                shared = build(for_objective(libraries[-1][2].spec, objective), seed)
            spec = for_objective(resolved.spec, objective)
            machine = shared.on(spec) if shared else build(spec, seed)
            first = first or machine
            shared = first if same_mapping else shared
            yield name, software, machine


def _timed(
    placed: Sequence[tuple[str, str | None, Machine]],
    base: Topology,
    shape: Shape,
    packets_max: int,
    progress: Callable[[str], None],
) -> list[Timed]:
    """Every candidate with its iterations; those on the ideal network, which they are measured against, run beside them."""
    for _, _, machine in placed:
        machine.require_context(shape)
    by_mapping = {machine.mapping: machine for _, _, machine in placed}
    ideals = [(on_ideal(base, machine), shape, 1, 0) for machine in by_mapping.values()]
    time_all([*((machine, shape, 0, packets_max) for _, _, machine in placed), *ideals], progress)
    done = []
    for name, software, machine in placed:
        progress(" ".join(filter(None, (name, software))))
        done.append(time_candidate(name, software, machine, shape, packets_max))
    return done


def _searched(wanted: Sequence[Wanted], objective: Objective, same_mapping: bool) -> Iterator[Topology]:
    """The specs that `_machines` searches mappings for."""
    for _, group in groupby(wanted, key=lambda one: one[0]):
        libraries = [for_objective(resolved.spec, objective) for _, _, resolved in group]
        asked = libraries[-1:] if _is_shared(objective) else libraries[:1] if same_mapping else libraries
        yield from filter(is_searched, asked)
        if same_mapping:
            return


def _is_shared(objective: Objective) -> bool:
    """Whether a network's libraries all have the mapping of its own one."""
    return objective not in ("auto", "latency")


def _passes(spec: Topology, lowest_latency: bool) -> list[Objective]:
    """The objectives that mappings are searched for, one after the other; one alone where there is nothing to search."""
    if not is_searched(spec):
        return ["auto"]
    passes: dict[Objective, None] = {objective_of(spec): None}
    return list(passes | {"latency": None} if lowest_latency else passes)


def _ideals(base: Topology, done: Sequence[Timed], shape: Shape) -> dict[Mapping, float]:
    """For each mapping the time of an iteration on a network that takes no time but for its cables.

    Packets wait until they are full even there. So the base is no more than what the operations and the cables on any
    candidate's critical path take: no network is faster than that.
    """
    found: dict[Mapping, float] = {}
    for timed in done:
        mapping = timed.machine.mapping
        if mapping not in found:
            found[mapping] = ideal_time_s(base, timed.machine, shape)
        parts_s = waterfall(timed.iterations.mean().breakdown_s)
        found[mapping] = min(found[mapping], parts_s["compute"] + parts_s["wire"])
    return found


def _key(setting: str) -> Path_:
    return tuple(setting.partition("=")[0].strip().split("."))


def _with_libraries(
    topology: str, name: str, llm: str | None, settings: Sequence[str], packet_settings: Sequence[str]
) -> list[tuple[str | None, Resolved]]:
    """One interconnect with each library it is shown with, its own last; None where packets and libraries are unknown."""

    def on(*own: str) -> Resolved:
        return load(topology, network=name, llm=llm, settings=own)

    bare = on(*without_network(settings))
    if bare.spec.network.terms["software"] is None:
        return [(None, bare)]
    own = on(*settings, *packet_settings)
    library = own.spec.network.terms["software"]
    others = [*(setting for setting in settings if not setting.startswith("network.software")), *packet_settings]
    asked = (*LIBRARIES, GPU_LIBRARY) if isinstance(own.spec.chip, LpuChip) else LIBRARIES
    shown = {other: on(*others, f"network.software={other}") for other in asked if other != library}
    return [*shown.items(), (library, own)]


def _gpu_library(done: Sequence[Timed]) -> str | None:
    """The library shown that needs kernels which these chips do not have."""
    without = [timed.software for timed in done if isinstance(timed.spec.chip, LpuChip)]
    return GPU_LIBRARY if GPU_LIBRARY in without else None


def row(timed: Timed, first: Timed, shape: Shape, prices: TcoPrices, ideal_s: float) -> dict[str, Any]:
    """One candidate as flat numbers, with the gap to the first of its objective split into parts (they sum to it).

    `ideal_s` is the iteration's time on a network that takes no time but for its cables.
    """
    latency = timed.latency_s
    mean_s = float(latency.mean())
    p50, p99, p999 = (float(np.quantile(latency, q)) for q in (0.5, 0.99, 0.999))
    mapping, wait_w = timed.machine.mapping, timed.spec.chip.power.wait_w
    iterations, mean = timed.iterations, timed.iterations.mean()
    parts_s, first_s = waterfall(mean.breakdown_s), waterfall(first.iterations.mean().breakdown_s)
    bill = timed.machine.network.bill(prices)
    return {
        "interconnect": timed.interconnect,
        "software": timed.software,
        "iteration_s_mean": mean_s,
        "iteration_s_interval": half_width(latency),
        "iteration_s_p50": p50,
        "iteration_s_p99": p99,
        "iteration_s_p999": p999,
        "replications": len(latency),
        "correlation_next": correlation(latency),
        "tokens_per_s_per_user": shape.new_tokens / mean_s,
        "tokens_per_s": shape.rows / (float(iterations.occupancy_ps.mean()) * 1e-12),
        "slower_than_first_ratio": mean_s / float(first.latency_s.mean()),
        "network_p99_fraction": 1 - ideal_s / p99,
        "waterfall_s": parts_s,
        "gap_s": {part: seconds - first_s[part] for part, seconds in parts_s.items()},
        "tp": mapping.tp,
        "pp": mapping.pp,
        "replicas": mapping.replicas,
        "chips_used": mapping.chips_used,
        **timed.machine.chosen,
        "energy_j": mean.work_j + mapping.chips_used * wait_w * mean_s,
        "packets": iterations.packets,
        "drops": iterations.drops,
        "pauses": iterations.pauses,
        "background_fraction_max": iterations.background_fraction,
        "parts": asdict(parts_of(timed.machine.site)),
        "adapters": bill.adapters,
        "switch_ports": bill.switch_ports,
        "cables": bill.cables,
        "network_w": timed.machine.site.network_w,
        "network_usd": bill.network_usd,
        "ports_per_chip": bill.ports_per_chip,
        "chip_bytes_per_s": bill.chip_bytes_per_s,
    }


def half_width(values: NDArray[Any]) -> float:
    """Half the width of the 95 % interval of the mean, from means of up to BLOCKS equal blocks (Student's t)."""
    blocks = min(BLOCKS, len(values))
    if blocks < 2 or np.ptp(values) == 0:
        return 0.0
    size = len(values) // blocks
    means = values[: blocks * size].reshape(blocks, size).mean(axis=1)
    return float(STUDENT_975[blocks - 2] * means.std(ddof=1) / blocks**0.5)


def correlation(values: NDArray[Any]) -> float | None:
    """Correlation of each iteration with the next; None where they do not vary."""
    if len(values) < 3 or np.ptp(values) == 0:
        return None
    away = values - values.mean()
    return float((away[1:] * away[:-1]).sum() / (away**2).sum())


def identical(done: Sequence[Timed]) -> list[str]:
    """For each pair of candidates with equal times: the reason."""
    return [
        f"{_label(a)} and {_label(b)} take the same time: {why_identical(a, b)}"
        for i, a in enumerate(done)
        for b in done[i + 1 :]
        if len(a.latency_s) == len(b.latency_s) and np.array_equal(a.latency_s, b.latency_s)
    ]


def why_identical(a: Timed, b: Timed) -> str:
    """Why two candidates take the same time: nothing sent, the same figures, or only figures that time does not read."""
    if 0 in (a.iterations.packets, b.iterations.packets):
        return "the program sends nothing from chip to chip"
    mine, theirs = a.spec.network.model_dump(), b.spec.network.model_dump()
    differ = [key for key in mine if key not in LABELS and mine[key] != theirs.get(key)]
    if not differ:
        return "they are the same network"
    return f"they differ only in {', '.join(differ)}, on which this program's times do not depend"


def _label(timed: Timed) -> str:
    return f"{timed.interconnect} ({timed.software})" if timed.software else timed.interconnect
