"""One collective among the first active chips of a fabric, alone on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dcsim.errors import FabricError, SpecError
from dcsim.fabric.build import build_fabric
from dcsim.network.network import make_network
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


def collective(
    spec: Topology, op: str, size_bytes: int, ranks: int, algorithm: str = "auto", protocol: str = "auto", seed: int = 1
) -> dict[str, Any]:
    """Time `op` over `size_bytes` among `ranks` chips on an idle fabric; a schedule is proved.

    `send` is one message from the first of them to the last; on a packet network `time_s` is the mean over
    `network.replications`. Raises FabricError if there are too few chips, no such algorithm or no such protocol.
    """
    if op not in BUS_FACTOR:
        raise SpecError(f"unknown collective '{op}'; known: {', '.join(BUS_FACTOR)}")
    if size_bytes < 1:
        raise SpecError(f"--bytes: at least 1 B, not {size_bytes} B")
    network = make_network(spec, build_fabric(spec.fabric), seed=seed)
    active = np.flatnonzero(network.fabric.chip_active)
    if len(active) < ranks:
        raise FabricError(f"{ranks} ranks asked for, {len(active)} chips are active")
    done = network.collective(op, size_bytes, active[:ranks].tolist(), algorithm, protocol)
    times_s = np.array(done.times_s)
    mean_s, least_s = float(times_s.mean()), float(times_s.min())
    p50_s, p99_s, p999_s = (float(np.percentile(times_s, q)) for q in (50, 99, 99.9))
    rate = size_bytes / mean_s if mean_s else 0.0
    return {
        **spec.network.terms,
        "op": op,
        "ranks": ranks,
        "size_bytes": size_bytes,
        "algorithm": done.algorithm,
        "protocol": done.protocol or None,
        "time_s": mean_s,
        "time_s_min": least_s,
        "time_s_p50": p50_s,
        "time_s_p99": p99_s,
        "time_s_p999": p999_s,
        "time_s_p50_over_min": p50_s - least_s,
        "time_s_p99_over_min": p99_s - least_s,
        "time_s_p999_over_min": p999_s - least_s,
        "time_s_mean_over_min": mean_s - least_s,
        "messages": done.messages,
        **done.counts,
        "algorithm_bandwidth_bytes_per_s": rate,
        "bus_bandwidth_bytes_per_s": rate * BUS_FACTOR[op](ranks),
    }
