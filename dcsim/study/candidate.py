"""One interconnect of a comparison: its times, where they go, and the plant it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.fabric.graph import Fabric
from dcsim.llm.program import Shape
from dcsim.network.iteration import compile_shape, compiled_time
from dcsim.network.packet_fabric import attach, bonded
from dcsim.network.packet_iteration import run_packets
from dcsim.network.scheduled.figures import figures_of
from dcsim.spec.network import PacketNetwork
from dcsim.spec.topology import Topology
from dcsim.study.machine import Machine
from dcsim.study.waterfall import packet_waterfall, scheduled_waterfall


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


def time_candidate(
    interconnect: str, software: str | None, spec: Topology, machine: Machine, shape: Shape, seed: int
) -> Timed:
    """Time one candidate with `machine`'s mapping on its own network."""
    mapping = machine.mapping
    if isinstance(spec.network, PacketNetwork):
        run = run_packets(spec, machine.fabric, mapping, shape, seed=seed)
        return Timed(
            interconnect, software, spec, machine, run.latency_ps * 1e-12, float(run.occupancy_ps.mean()) * 1e-12,
            float(run.energy_j.mean()), packet_waterfall(run), run.packets, run.drops, run.pauses,
        )
    compiled = compile_shape(spec, machine.fabric, mapping, shape)
    time = compiled_time(spec, machine.fabric, compiled)
    waterfall = scheduled_waterfall(compiled, figures_of(spec.network, spec.chip.clock_hz))
    return Timed(
        interconnect, None, spec, machine, np.array([time.latency_ps * 1e-12]), time.occupancy_ps * 1e-12, time.energy_j,
        waterfall, None, 0, 0,
    )


def plant(timed: Timed) -> dict[str, Any]:
    """What joins the chips: adapters, switch ports, cables, their power, and the bandwidth a chip has."""
    network, fabric = timed.spec.network, timed.machine.fabric
    if not isinstance(network, PacketNetwork):
        return {"adapters": 0, "switch_ports": 0, "cables": fabric.link_count // 2, "network_w": 0.0,
                "chip_bytes_per_s": _ports(fabric) * network.bandwidth_bytes_per_s}
    attached, fabric = attach(network, fabric)
    lanes = bonded(network, attached)
    adapters = lanes * int(np.sum((fabric.link_source < fabric.chip_count) & (fabric.link_target >= fabric.chip_count)))
    ports = lanes * int(np.sum(fabric.link_source >= fabric.chip_count))
    return {
        "adapters": adapters, "switch_ports": ports, "cables": lanes * (fabric.link_count // 2),
        "network_w": adapters * network.adapter_power_w + ports * network.switch_power_w,
        "chip_bytes_per_s": _ports(fabric) * attached.bandwidth_bytes_per_s,
    }


def _ports(fabric: Fabric) -> int:
    return int(np.diff(fabric.first_link)[: fabric.chip_count].max(initial=0))
