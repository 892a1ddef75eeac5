"""One collective among the first active chips of a fabric, alone on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dcsim.errors import FabricError, SpecError
from dcsim.fabric.build import build_fabric
from dcsim.network.collectives import VectorUnit, add_collective, choose, levels_of
from dcsim.network.iteration import scheduled_network
from dcsim.network.scheduled.figures import figures_of
from dcsim.network.scheduled.proof import prove
from dcsim.network.scheduled.schedule import compile_schedule
from dcsim.network.tasks import TaskBuilder
from dcsim.spec.topology import Topology

# Bytes each rank must at least move, over the bytes of the collective: bus bandwidth = algorithm bandwidth x this.
BUS_FACTOR: dict[str, Callable[[int], float]] = {
    "all_reduce": lambda n: 2 * (n - 1) / n, "reduce_scatter": lambda n: (n - 1) / n, "all_gather": lambda n: (n - 1) / n,
    "all_to_all": lambda n: (n - 1) / n, "broadcast": lambda n: 1.0,
}


def collective(spec: Topology, op: str, size_bytes: int, ranks: int, algorithm: str = "auto") -> dict[str, Any]:
    """Time `op` over `size_bytes` among `ranks` chips on an idle fabric; the schedule is proved.

    Raises FabricError if there are too few chips or no such algorithm.
    """
    if op not in BUS_FACTOR:
        raise SpecError(f"unknown collective '{op}'; known: {', '.join(BUS_FACTOR)}")
    fabric, network = build_fabric(spec.fabric), scheduled_network(spec)
    chips = [chip for chip in range(fabric.chip_count) if fabric.chip_active[chip]][:ranks]
    if len(chips) < ranks:
        raise FabricError(f"{ranks} ranks asked for, {len(chips)} chips are active")
    levels = levels_of(fabric, chips)
    builder = TaskBuilder(spec.chip.clock_hz)
    unit = VectorUnit(round(network.vector_bytes), network.reduce_cycles)
    add_collective(builder, op, chips, size_bytes, [[] for _ in chips], unit, levels, algorithm)
    tasks, figures = builder.build(), figures_of(network, spec.chip.clock_hz)
    compiled = compile_schedule(tasks, fabric, figures)
    prove(compiled, tasks, fabric, figures)
    seconds = compiled.makespan_cycles / spec.chip.clock_hz
    rate = size_bytes / seconds if seconds else 0.0
    return {
        "op": op, "algorithm": choose(op, ranks, levels) if algorithm == "auto" else algorithm, "ranks": ranks,
        "size_bytes": size_bytes, "time_s": seconds, "cycles": compiled.makespan_cycles,
        "algorithm_bandwidth_bytes_per_s": rate, "bus_bandwidth_bytes_per_s": rate * BUS_FACTOR[op](ranks),
        "vector_hops": compiled.vector_hops, "messages": int((tasks.size_bytes > 0).sum()),
    }
