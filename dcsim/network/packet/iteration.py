"""One iteration on a packet network: the same program, simulated many times in a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import SpecError
from dcsim.fabric.graph import Fabric
from dcsim.llm.cost import summed_bytes_per_cycle
from dcsim.llm.mapping import Mapping
from dcsim.llm.program import Shape, build_program
from dcsim.network.collectives import VectorUnit
from dcsim.network.lower import lower
from dcsim.network.packet.background import background_load
from dcsim.network.packet.engine.breakdown import PARTS
from dcsim.network.packet.engine.engine import Engine, Iteration
from dcsim.network.packet.library import packet_exchange
from dcsim.network.packet.rules_of import Layers, faults_of, layers_of, place_calls, software_of
from dcsim.network.packet.switches import attach
from dcsim.network.tasks import ATTENTION, COMPUTE, MATRIX, VECTOR, Tasks
from dcsim.network.timing import IterationTime
from dcsim.spec.chip import LpuChip, RooflineChip
from dcsim.spec.network import PacketNetwork
from dcsim.spec.topology import Topology

PACKETS_MAX = 2_000_000  # packets simulated per shape for the service zoom: a second or two
ALIKE = 1e-3  # share of an iteration


@dataclass(frozen=True, slots=True)
class PacketRun:
    """Successive iterations of one shape; arrays over replications."""

    latency_ps: NDArray[np.int64]
    occupancy_ps: NDArray[np.int64]
    energy_j: NDArray[np.float64]
    parts_ps: NDArray[np.int64]  # [replication, part] along the critical path; rows sum to latency_ps
    packets: int
    drops: int
    pauses: int
    background_fraction: float  # what else is offered to the busiest link

    def times(self) -> tuple[IterationTime, ...]:
        """One IterationTime a replication, in order: neighbours share queues and cross traffic."""
        seconds = self.parts_ps * 1e-12
        return tuple(
            IterationTime(int(latency), int(occupancy), float(energy), dict(zip(PARTS, parts.tolist(), strict=True)))
            for latency, occupancy, energy, parts in zip(self.latency_ps, self.occupancy_ps, self.energy_j, seconds, strict=True)
        )


def packet_times(spec: Topology, fabric: Fabric, mapping: Mapping, shape: Shape, seed: int = 1) -> tuple[IterationTime, ...]:
    """Times of successive iterations, from which the service zoom draws: `network.replications`, or fewer.

    No more than PACKETS_MAX packets in all, but one iteration at least: the more packets it has, the less it differs
    from the next. Where nothing disturbs the network, a block of `serving.draw_block`, or a single iteration if the
    second takes as long as the first but for ALIKE: idle networks of all kinds repeat themselves to a few in 10,000.
    """
    network = packet_network(spec)
    if disturbed(network):
        return run_packets(spec, fabric, mapping, shape, seed=seed, packets_max=PACKETS_MAX).times()
    count = min(network.replications, spec.serving.draw_block)
    times = run_packets(spec, fabric, mapping, shape, min(count, 2), seed, PACKETS_MAX).times()
    if abs(times[0].latency_ps - times[-1].latency_ps) <= ALIKE * times[0].latency_ps:
        return times[:1]
    return run_packets(spec, fabric, mapping, shape, count, seed, PACKETS_MAX).times()


def disturbed(network: PacketNetwork) -> bool:
    """Whether hosts, other traffic or faults make iterations differ."""
    other = network.background
    flows = network.load_fraction or other.micro_batches or other.kv_tokens_per_s or other.host_bytes_per_s
    return bool(network.jitter or flows or network.faults)


def packet_time(spec: Topology, fabric: Fabric, mapping: Mapping, shape: Shape, seed: int = 1) -> IterationTime:
    """The mean of `packet_times`."""
    times = packet_times(spec, fabric, mapping, shape, seed)
    count = len(times)
    parts = {name: sum(time.breakdown_s[name] for time in times) / count for name in PARTS}
    return IterationTime(
        round(sum(time.latency_ps for time in times) / count),
        round(sum(time.occupancy_ps for time in times) / count),
        sum(time.energy_j for time in times) / count,
        parts,
    )


def run_packets(
    spec: Topology,
    fabric: Fabric,
    mapping: Mapping,
    shape: Shape,
    replications: int = 0,
    seed: int = 1,
    packets_max: int = 0,
) -> PacketRun:
    """Simulate successive iterations of `shape` on the first replica's chips; 0 replications: as the network says."""
    network, joined = attach(packet_network(spec), fabric)
    layers = layers_of(network, joined, spec.node.island)
    tasks = packet_tasks(spec, joined, mapping, shape, network, layers)
    load = _load(spec, network, joined, layers, mapping, tasks, seed)
    engine = Engine(
        joined, layers.figures, tasks, software_of(layers), faults=faults_of(network, joined), seed=seed, cross_load=load
    )
    first = engine.iteration(0)
    count = replications or network.replications
    if packets_max:
        count = max(1, min(count, packets_max // max(1, first.packets)))
    done = [_kept(first, tasks, joined.chip_count)]
    done += [_kept(engine.iteration(i), tasks, joined.chip_count) for i in range(1, count)]
    latency, occupancy, parts, sent_bytes, drops, pauses = [np.array(column) for column in zip(*done, strict=True)]
    energy_j = work_energy_j(tasks, spec) + sent_bytes * network.energy_j
    return PacketRun(
        latency,
        occupancy,
        energy_j,
        parts,
        first.packets,
        int(drops.sum()),
        int(pauses.sum()),
        0.0 if load is None else float(load.max()),
    )


def _load(
    spec: Topology, network: PacketNetwork, fabric: Fabric, layers: Layers, mapping: Mapping, tasks: Tasks, seed: int
) -> NDArray[np.float64] | None:
    """[link] what everything else offers; the other replicas at the pace of this one alone."""
    alone_s = 0.0
    if network.background.micro_batches:
        alone_s = Engine(fabric, layers.figures, tasks, software_of(layers), seed=seed).iteration().finish_ps * 1e-12
    return background_load(spec, network, fabric, layers.figures, mapping, tasks, alone_s, seed)


def packet_spans(
    spec: Topology, fabric: Fabric, mapping: Mapping, shape: Shape, seed: int = 1
) -> tuple[Tasks, NDArray[np.float64], NDArray[np.float64]]:
    """The tasks of one iteration on an idle network, and when each starts and ends, in seconds."""
    network, joined = attach(packet_network(spec), fabric)
    layers = layers_of(network, joined, spec.node.island)
    tasks = packet_tasks(spec, joined, mapping, shape, network, layers)
    done = Engine(joined, layers.figures, tasks, software_of(layers), faults=faults_of(network, joined), seed=seed).iteration(0)
    return tasks, done.start_ps * 1e-12, done.last_ps * 1e-12


def _kept(iteration: Iteration, tasks: Tasks, chip_count: int) -> tuple[int, int, NDArray[np.int64], int, int, int]:
    """What is kept of one iteration: the rest is too much for many."""
    links = iteration.links
    occupancy = occupancy_ps(tasks, iteration.start_ps, iteration.last_ps, chip_count)
    return (
        iteration.finish_ps,
        occupancy,
        iteration.critical_ps,
        int(links.bytes.sum()),
        int(links.drops.sum()),
        int(links.pauses.sum()),
    )


def packet_network(spec: Topology) -> PacketNetwork:
    """The spec's network if it moves packets; SpecError if it is compiled."""
    if not isinstance(spec.network, PacketNetwork):
        raise SpecError(f"network '{spec.network.name}' moves no packets")
    return spec.network


def packet_tasks(spec: Topology, fabric: Fabric, mapping: Mapping, shape: Shape, network: PacketNetwork, layers: Layers) -> Tasks:
    """The program's tasks, collectives spelled out as the network's library does, calls told apart by place."""
    program = build_program(spec.llm, mapping, spec.chip, shape)
    return place_calls(lower(program, packet_exchange(mapping, fabric, layers, vector_unit(spec.chip, network))), fabric)


def vector_unit(chip: LpuChip | RooflineChip, network: PacketNetwork) -> VectorUnit:
    """What sums cost on a chip whose messages come over `network`."""
    rate = summed_bytes_per_cycle(chip) / network.vector_bytes
    return VectorUnit(round(network.vector_bytes), round(network.reduce_s * chip.clock_hz), rate)


def occupancy_ps(tasks: Tasks, start_ps: NDArray[np.int64], last_ps: NDArray[np.int64], chip_count: int) -> int:
    """Time between the first start and the last output of the chip that is busy longest."""
    compute = (tasks.kind == COMPUTE) & (tasks.last_cycles > 0)  # a task without length only joins others
    chips = tasks.chip[compute]
    begin = np.full(chip_count, np.iinfo(np.int64).max)
    end = np.zeros(chip_count, np.int64)
    np.minimum.at(begin, chips, start_ps[compute])
    np.maximum.at(end, chips, last_ps[compute])
    used = end > 0
    return int((end - begin)[used].max(initial=0))


def work_energy_j(tasks: Tasks, spec: Topology) -> float:
    """Energy of all operations above the waiting draw of the chips they run on."""
    power = spec.chip.power
    above_w = {MATRIX: power.matrix_w, ATTENTION: power.vector_w, VECTOR: power.vector_w}
    cycles = np.bincount(tasks.part, tasks.last_cycles, 8)
    return float(sum(cycles[part] * (watts - power.wait_w) for part, watts in above_w.items()) / tasks.clock_hz)
