"""One collective among the first active chips of a fabric, alone on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dcsim.errors import FabricError, SpecError
from dcsim.fabric.build import build_fabric
from dcsim.fabric.graph import Fabric
from dcsim.network.collectives import VectorUnit, add_collective, choose, levels_of
from dcsim.network.scheduled.iteration import scheduled_network
from dcsim.network.scheduled.proof import prove
from dcsim.network.scheduled.rules import figures_of, require_alike
from dcsim.network.scheduled.schedule import compile_schedule
from dcsim.network.tasks import TaskBuilder
from dcsim.spec.topology import Topology

# Bytes each rank must at least move, over the bytes of the collective: bus bandwidth = algorithm bandwidth x this.
BUS_FACTOR: dict[str, Callable[[int], float]] = {
    "all_reduce": lambda n: 2 * (n - 1) / n,
    "reduce_scatter": lambda n: (n - 1) / n,
    "all_gather": lambda n: (n - 1) / n,
    "all_to_all": lambda n: (n - 1) / n,
    "broadcast": lambda n: 1.0,
    "send": lambda n: 1.0,
}


def collective(spec: Topology, op: str, size_bytes: int, ranks: int, algorithm: str = "auto", seed: int = 1) -> dict[str, Any]:
    """Time `op` over `size_bytes` among `ranks` chips on an idle fabric; a schedule is proved.

    `send` is one message from the first of them to the last; on a packet network `time_s` is the mean over
    `network.replications`. Raises FabricError if there are too few chips or no such algorithm.
    """
    if op not in BUS_FACTOR:
        raise SpecError(f"unknown collective '{op}'; known: {', '.join(BUS_FACTOR)}")
    if size_bytes < 1:
        raise SpecError(f"--bytes: at least 1 B, not {size_bytes} B")
    fabric = build_fabric(spec.fabric)
    chips = [chip for chip in range(fabric.chip_count) if fabric.chip_active[chip]][:ranks]
    if len(chips) < ranks:
        raise FabricError(f"{ranks} ranks asked for, {len(chips)} chips are active")
    if spec.network.kind == "packet":
        result = _packets(spec, fabric, op, size_bytes, chips, algorithm, seed)
    else:
        result = _scheduled(spec, fabric, op, size_bytes, chips, algorithm)
    seconds = float(result["time_s"])
    rate = size_bytes / seconds if seconds else 0.0
    return {
        **spec.network.terms,
        "op": op,
        "ranks": ranks,
        "size_bytes": size_bytes,
        **result,
        "algorithm_bandwidth_bytes_per_s": rate,
        "bus_bandwidth_bytes_per_s": rate * BUS_FACTOR[op](ranks),
    }


def _packets(
    spec: Topology, fabric: Fabric, op: str, size_bytes: int, chips: list[int], algorithm: str, seed: int
) -> dict[str, Any]:
    import numpy as np

    from dcsim.network.packet.collective import packet_collective
    from dcsim.network.packet.iteration import packet_network

    done = packet_collective(spec, fabric, op, size_bytes, chips, algorithm, packet_network(spec).replications, seed)
    seconds = np.array(done.times_s)
    spread = {f"time_s_p{q}": float(np.percentile(seconds, q)) for q in (50, 99)}
    return {
        "algorithm": done.algorithm,
        "time_s": float(seconds.mean()),
        "time_s_min": float(seconds.min()),
        **spread,
        "time_s_p50_over_min": spread["time_s_p50"] - float(seconds.min()),
        "time_s_p99_over_min": spread["time_s_p99"] - float(seconds.min()),
        "time_s_mean_over_min": float(seconds.mean() - seconds.min()),
        "messages": done.messages,
        "packets": done.packets,
    }


def _scheduled(spec: Topology, fabric: Fabric, op: str, size_bytes: int, chips: list[int], algorithm: str) -> dict[str, Any]:
    require_alike(fabric)
    levels, network = levels_of(fabric, chips), scheduled_network(spec)
    builder = TaskBuilder(spec.chip.clock_hz)
    unit = VectorUnit(round(network.vector_bytes), network.reduce_cycles)
    if op == "send":
        if algorithm not in ("auto", "direct"):
            raise FabricError(f"a message is sent as it is: no algorithm '{algorithm}' for 'send'")
        builder.message(chips[0], chips[-1], size_bytes, [])
    else:
        add_collective(builder, op, chips, size_bytes, [[] for _ in chips], unit, levels, algorithm)
    tasks, figures = builder.build(), figures_of(network, spec.chip.clock_hz)
    compiled = compile_schedule(tasks, fabric, figures)
    prove(compiled, tasks, fabric, figures)
    return {
        "algorithm": "direct" if op == "send" else choose(op, len(chips), levels) if algorithm == "auto" else algorithm,
        "time_s": compiled.makespan_cycles / spec.chip.clock_hz,
        "cycles": compiled.makespan_cycles,
        "vector_hops": compiled.vector_hops,
        "messages": int((tasks.size_bytes > 0).sum()),
    }
