"""The same chips, LLM, mapping and traffic on several interconnects: how much slower, and which part of it is whose.

Every packet network is shown with no library, with each of `LIBRARIES` and with its own. Iterations of a packet
network follow each other, so their means are given with an interval from blocks of them, not from each by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import SpecError
from dcsim.fabric.build import build_fabric
from dcsim.llm.program import Shape
from dcsim.network.plant import plant
from dcsim.spec.document import Path_
from dcsim.spec.load import Resolved, load
from dcsim.spec.network import PacketNetwork
from dcsim.spec.price import TcoPrices
from dcsim.spec.section import LABELS
from dcsim.spec.unused import Keys, keys_of, unused_of
from dcsim.study.candidate import Timed, time_candidate
from dcsim.study.machine import Machine, build
from dcsim.study.users import for_packets, ideal_base, ideal_time_s, users, without_network

LIBRARIES = ("ideal", "verbs")  # shown beside the one that a packet network has
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
    own_mapping: bool = False,
    serve: str | None = None,
    packets_max: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Time `shape` on each interconnect with the mapping of the first (or each with its own best).

    With `packets_max`, no candidate simulates more packets than that in all its replications, but one iteration at least.
    `packet_settings` and those of `settings` that start with `network.` apply to packet networks only. Returns the
    shape, the mapping and `candidates`, one row for each interconnect and library; rows are compared with the first.
    With `serve` (a time with unit) so much of the workload is served on each, and `users` says what users see of it.
    """
    if not interconnects:
        raise SpecError("--interconnect: name at least one network")
    wanted = [
        (name, library, resolved)
        for name in interconnects
        for library, resolved in _with_libraries(topology, name, llm, settings, packet_settings)
    ]
    machine: Machine | None = None
    done: list[Timed] = []
    for name, software, resolved in wanted:
        spec = resolved.spec
        if progress:
            progress(f"{name} {software or ''}".strip())
        machine = _bare(build(spec, seed)) if machine is None or own_mapping else machine
        machine.require_context(shape)
        done.append(time_candidate(name, software, spec, machine, shape, seed, packets_max))
    first = done[0]
    packet = [timed.spec.network for timed in done if isinstance(timed.spec.network, PacketNetwork)]
    prices = next((network.prices for network in packet), first.spec.network.prices)
    jitter = next((network.jitter for network in packet), None)
    base, machines = [ideal_base(topology, llm, settings)], {id(timed.machine): timed.machine for timed in done}
    ideal_s = {key: ideal_time_s(base[0].spec, one, shape) for key, one in machines.items()}
    result = {
        "topology": topology,
        "llm": first.spec.llm.name,
        "batch": shape.batch,
        "context": shape.context,
        "new_tokens": shape.new_tokens,
        "tp": first.machine.mapping.tp,
        "pp": first.machine.mapping.pp,
        "chips_used": first.machine.mapping.tp * first.machine.mapping.pp,
        "mapping": "own" if own_mapping else "same",
        "fairness": next((network.fairness for network in packet), None),
        "prices": prices.name,
        "jitter": (jitter.name if jitter else "off") if packet else None,
        "jitter_description": jitter.description if jitter else "",
        "seed": seed,
        "identical": identical(done),
        "candidates": [row(timed, first, shape, prices, ideal_s[id(timed.machine)]) for timed in done],
    }
    if serve is not None:
        result["users"], served = users(done, topology, llm, settings, serve, seed, progress)
        base.append(served)
    left_out = (
        {} if packet else {_key(setting): f"--set {setting}" for setting in (*settings, *packet_settings) if for_packets(setting)}
    )
    found = [keys_of(one) for one in (*(one for _, _, one in wanted), *base)]
    result["unused_keys"] = unused_of([*found, Keys(left_out, frozenset())])
    return result


def _key(setting: str) -> Path_:
    return tuple(setting.partition("=")[0].strip().split("."))


def _bare(machine: Machine) -> Machine:
    """The machine with its chips' own cables, so that each candidate gets the switches of its own network."""
    return replace(machine, fabric=build_fabric(machine.spec.fabric))


def _with_libraries(
    topology: str, name: str, llm: str | None, settings: Sequence[str], packet_settings: Sequence[str]
) -> list[tuple[str | None, Resolved]]:
    """One interconnect with each library it is shown with, its own last; None where packets and libraries are unknown."""

    def on(*own: str) -> Resolved:
        return load(topology, network=name, llm=llm, settings=own)

    bare = on(*without_network(settings))
    if not isinstance(bare.spec.network, PacketNetwork):
        return [(None, bare)]
    own = on(*settings, *packet_settings)
    library = own.spec.network.software.name
    others = [*(setting for setting in settings if not setting.startswith("network.software")), *packet_settings]
    shown = {other: on(*others, f"network.software={other}") for other in LIBRARIES if other != library}
    return [*shown.items(), (library, own)]


def row(timed: Timed, first: Timed, shape: Shape, prices: TcoPrices, ideal_s: float) -> dict[str, Any]:
    """One candidate as flat numbers, with the gap to the first split into parts (they sum to it).

    `ideal_s` is the iteration's time on a network that takes no time but for its cables.
    """
    latency = timed.latency_s
    mean_s = float(latency.mean())
    p50, p99, p999 = (float(np.quantile(latency, q)) for q in (0.5, 0.99, 0.999))
    mapping, wait_w = timed.machine.mapping, timed.spec.chip.power.wait_w
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
        "tokens_per_s": shape.rows / timed.occupancy_s,
        "slower_than_first_ratio": mean_s / float(first.latency_s.mean()),
        "network_p99_fraction": 1 - ideal_s / p99,
        "waterfall_s": timed.waterfall_s,
        "gap_s": {part: timed.waterfall_s[part] - first.waterfall_s[part] for part in timed.waterfall_s},
        "tp": mapping.tp,
        "pp": mapping.pp,
        "energy_j": timed.energy_j + mapping.tp * mapping.pp * wait_w * mean_s,
        "packets": timed.packets,
        "drops": timed.drops,
        "pauses": timed.pauses,
        "background_fraction_max": timed.background_fraction,
        **plant(timed.spec, timed.machine.fabric, prices),
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
    if 0 in (a.packets, b.packets):
        return "the program sends nothing from chip to chip"
    mine, theirs = a.spec.network.model_dump(), b.spec.network.model_dump()
    differ = [key for key in mine if key not in LABELS and mine[key] != theirs.get(key)]
    if not differ:
        return "they are the same network"
    return f"they differ only in {', '.join(differ)}, on which this program's times do not depend"


def _label(timed: Timed) -> str:
    return f"{timed.interconnect} ({timed.software})" if timed.software else timed.interconnect
