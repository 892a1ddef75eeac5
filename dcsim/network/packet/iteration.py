"""One iteration on a packet network: the same program, simulated many times in a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.fabric.graph import Fabric
from dcsim.llm.cost import summed_bytes_per_cycle
from dcsim.llm.mapping import Mapping
from dcsim.llm.program import Shape, program_of
from dcsim.network.lower import lower
from dcsim.network.packet.background import background_load
from dcsim.network.packet.engine.breakdown import PARTS
from dcsim.network.packet.engine.engine import Engine, SimulatedIteration
from dcsim.network.packet.library import packet_exchange
from dcsim.network.packet.rules_of import Layers, faults_of, place_calls, software_of
from dcsim.network.patterns.ranks import VectorUnit
from dcsim.network.tasks import COMPUTE, HOP, MESSAGE, Tasks
from dcsim.network.tasks import PARTS as TASK_PARTS
from dcsim.network.timing import BREAKDOWN, Iterations, Spans
from dcsim.network.work import work_j
from dcsim.spec.chip import Chip
from dcsim.spec.network import PacketNetwork
from dcsim.spec.topology import Topology

PACKETS_MAX = 2_000_000  # packets simulated per shape for the service zoom: a second or two
QUIET = 20  # iterations where nothing but drawn routes differs: two for each block that an interval is made of


@dataclass(frozen=True, slots=True)
class Attached:
    """A packet network in place: the topology, the figures of one adapter's link, the fabric with its switches, the layers."""

    spec: Topology
    network: PacketNetwork
    fabric: Fabric
    layers: Layers


def disturbed(network: PacketNetwork) -> bool:
    """Whether hosts, other traffic or faults make iterations differ."""
    other = network.background
    flows = network.load_fraction or other.micro_batches or other.kv_tokens_per_s or other.host_bytes_per_s
    return bool(network.jitter or flows or network.faults)


def run_packets(
    place: Attached, mapping: Mapping, shape: Shape, count: int = 0, seed: int = 1, packets_max: int = 0
) -> Iterations:
    """Simulate successive iterations of `shape` on the first replica's chips; count 0: as many as the network says.

    With `packets_max` no more than have so many packets, nor than QUIET where hosts, other traffic and faults disturb nothing.
    """
    spec, network, fabric, layers = place.spec, place.network, place.fabric, place.layers
    tasks = packet_tasks(place, mapping, shape)
    load = _load(place, mapping, tasks, seed)
    engine = Engine(
        fabric, layers.figures, tasks, software_of(layers), faults=faults_of(network, fabric), seed=seed, cross_load=load
    )
    first = engine.iteration(0)
    count = count or network.replications
    if packets_max:
        enough = count if disturbed(network) else min(count, QUIET)
        count = max(1, min(enough, packets_max // max(1, first.packets)))
    apart = mapping.head_apart
    done = [_kept(first, tasks, fabric.chip_count, apart)]
    done += [_kept(engine.iteration(i), tasks, fabric.chip_count, apart) for i in range(1, count)]
    latency, occupancy, parts, sent_bytes, drops, pauses = [np.array(column) for column in zip(*done, strict=True)]
    return Iterations(
        latency,
        occupancy,
        work_j(tasks, spec.chip.power) + sent_bytes * network.energy_j,
        parts,
        first.packets,
        int(drops.sum()),
        int(pauses.sum()),
        0.0 if load is None else float(load.max()),
    )


def _load(place: Attached, mapping: Mapping, tasks: Tasks, seed: int) -> NDArray[np.float64] | None:
    """[link] what everything else offers; the other replicas at the pace of this one alone."""
    fabric, layers, alone_s = place.fabric, place.layers, 0.0
    if place.network.background.micro_batches:
        alone_s = Engine(fabric, layers.figures, tasks, software_of(layers), seed=seed).iteration().finish_ps * 1e-12
    return background_load(place.spec, place.network, fabric, layers.figures, mapping, tasks, alone_s, seed)


def packet_spans(place: Attached, mapping: Mapping, shape: Shape, seed: int = 1) -> Spans:
    """The tasks of one iteration on an idle network, and when each starts and ends, in seconds."""
    tasks, done = _alone(place, mapping, shape, seed)
    return Spans(tasks, done.start_ps * 1e-12, done.last_ps * 1e-12)


def packet_link_busy_s(place: Attached, mapping: Mapping, shape: Shape, seed: int = 1) -> NDArray[np.float64]:
    """[link] how long each link is busy in one iteration on an idle network, in seconds."""
    return np.asarray(_alone(place, mapping, shape, seed)[1].links.busy_ps * 1e-12)


def packet_link_queue_bytes(place: Attached, mapping: Mapping, shape: Shape, seed: int = 1) -> NDArray[np.int64]:
    """[link] the longest queue that a packet meets before each link in one iteration on an idle network."""
    return np.asarray(_alone(place, mapping, shape, seed)[1].links.peak_queue_bytes, np.int64)


def _alone(place: Attached, mapping: Mapping, shape: Shape, seed: int) -> tuple[Tasks, SimulatedIteration]:
    """The tasks of one iteration, and that iteration on an idle network."""
    tasks, layers = packet_tasks(place, mapping, shape), place.layers
    faults = faults_of(place.network, place.fabric)
    return tasks, Engine(place.fabric, layers.figures, tasks, software_of(layers), faults=faults, seed=seed).iteration(0)


def _kept(
    iteration: SimulatedIteration, tasks: Tasks, chip_count: int, head_apart: bool
) -> tuple[int, int, NDArray[np.float64], int, int, int]:
    """What is kept of one iteration: the rest is too much for many."""
    links = iteration.links
    occupancy = occupancy_ps(tasks, iteration.start_ps, iteration.last_ps, chip_count, head_apart=head_apart)
    return (
        iteration.finish_ps,
        occupancy,
        breakdown_ps(iteration, tasks),
        int(links.bytes.sum()),
        int(links.drops.sum()),
        int(links.pauses.sum()),
    )


def breakdown_ps(iteration: SimulatedIteration, tasks: Tasks) -> NDArray[np.float64]:
    """[BREAKDOWN] of the critical path; what came before the first task was let go counts as `other`."""
    named = dict(zip(PARTS, iteration.critical_ps.tolist(), strict=True))
    named["other"] += named.pop("release")
    computing = tasks.kind == COMPUTE
    held = np.bincount(tasks.part[computing], iteration.parts_ps[computing, PARTS.index("compute")], len(TASK_PARTS))
    named |= dict(zip(TASK_PARTS, held.tolist(), strict=True))
    return np.array([named[part] for part in BREAKDOWN], np.float64)


def packet_tasks(place: Attached, mapping: Mapping, shape: Shape) -> Tasks:
    """The program's tasks, collectives spelled out as the network's library does, calls told apart by place."""
    spec, fabric = place.spec, place.fabric
    program = program_of(spec, mapping, shape)
    exchange = packet_exchange(mapping, fabric, place.layers, vector_unit(spec.chip, place.network))
    return place_calls(lower(program, exchange), fabric, place.layers.software)


def vector_unit(chip: Chip, network: PacketNetwork) -> VectorUnit:
    """What sums cost on a chip whose messages come over `network`."""
    rate = summed_bytes_per_cycle(chip) / network.vector_bytes
    return VectorUnit(round(network.vector_bytes), round(network.reduce_s * chip.clock_hz), rate)


def occupancy_ps(
    tasks: Tasks, start_ps: NDArray[np.int64], last_ps: NDArray[np.int64], chip_count: int, *, head_apart: bool = False
) -> int:
    """Time between the first start and the last output of the chip that is busy longest.

    With the head apart a chip may be of two stages: it is held in each, and free between.
    """
    compute = np.flatnonzero((tasks.kind == COMPUTE) & (tasks.last_cycles > 0))  # a task without length only joins others
    hops = np.flatnonzero((tasks.kind == MESSAGE) & (tasks.part == HOP))
    stage = np.searchsorted(hops, compute) if head_apart else np.zeros(len(compute), np.int64)  # numbered by hops before it
    visits, which = np.unique(tasks.chip[compute] * np.int64(len(hops) + 1) + stage, return_inverse=True)
    begin = np.full(len(visits), np.iinfo(np.int64).max)
    end = np.zeros(len(visits), np.int64)
    np.minimum.at(begin, which, start_ps[compute])
    np.maximum.at(end, which, last_ps[compute])
    held = np.zeros(chip_count, np.int64)
    np.add.at(held, visits // (len(hops) + 1), end - begin)
    return int(held.max(initial=0))
