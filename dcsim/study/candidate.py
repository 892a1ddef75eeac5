"""One interconnect of a comparison: its times, where they go, and the plant it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.llm.program import Shape
from dcsim.network.packet.iteration import run_packets
from dcsim.network.scheduled.iteration import compile_shape
from dcsim.network.scheduled.rules import figures_of
from dcsim.network.waterfall import packet_waterfall, scheduled_waterfall
from dcsim.spec.network import PacketNetwork
from dcsim.spec.topology import Topology
from dcsim.study.machine import Machine


@dataclass(frozen=True, slots=True)
class Timed:
    """One candidate with its times; `packets` is None where none are sent."""

    interconnect: str
    software: str | None
    spec: Topology
    machine: Machine  # with the chips' own cables
    latency_s: NDArray[Any]  # float64[replication], successive iterations
    occupancy_s: float
    energy_j: float
    waterfall_s: dict[str, float]
    packets: int | None
    drops: int
    pauses: int
    background_fraction: float = 0.0  # what else is offered to the busiest link


def time_candidate(
    interconnect: str,
    software: str | None,
    spec: Topology,
    machine: Machine,
    shape: Shape,
    seed: int,
    packets_max: int = 0,
) -> Timed:
    """Time one candidate with `machine`'s mapping on its own network; fewer replications where they have too many packets."""
    mapping = machine.mapping
    if isinstance(spec.network, PacketNetwork):
        run = run_packets(spec, machine.fabric, mapping, shape, seed=seed, packets_max=packets_max)
        return Timed(
            interconnect,
            software,
            spec,
            machine,
            run.latency_ps * 1e-12,
            float(run.occupancy_ps.mean()) * 1e-12,
            float(run.energy_j.mean()),
            packet_waterfall(run),
            run.packets,
            run.drops,
            run.pauses,
            run.background_fraction,
        )
    compiled = compile_shape(spec, machine.places, mapping, shape)
    time = compiled.time
    waterfall = scheduled_waterfall(compiled, figures_of(spec.network, spec.chip.clock_hz))
    return Timed(
        interconnect,
        None,
        spec,
        machine,
        np.array([time.latency_ps * 1e-12]),
        time.occupancy_ps * 1e-12,
        time.energy_j,
        waterfall,
        None,
        0,
        0,
    )
