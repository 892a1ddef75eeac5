"""From a resolved spec to a run's tables and summary: the story of one run, room by room."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from dcsim import metrics
from dcsim.cluster.programs import Programs
from dcsim.cluster.service import Placement, serve
from dcsim.llm.architecture import kv_bytes_per_token
from dcsim.records import Table, TableWriter
from dcsim.spec.load import Resolved
from dcsim.spec.mapping import BYTES
from dcsim.spec.network import NetworkSpec
from dcsim.spec.topology import Topology
from dcsim.study.machine import Machine, build
from dcsim.workload.closed import ClosedLoop, make_closed_loop
from dcsim.workload.generate import iterate_requests
from dcsim.workload.requests import Requests

_BLOCK = 65_536  # requests made, and rows written, at a time

Served = tuple[dict[str, Table], dict[str, Any], dict[str, Any]]  # tables, summary without digest, meta


def serve_scenario(resolved: Resolved, seed: int, progress: Any = None, rows: TableWriter | None = None) -> Served:
    """Build the machine of a spec and run the service zoom on it; `rows` takes the requests' rows (default: in memory)."""
    spec = resolved.spec
    machine = build(spec)
    return serve_on(machine, Programs(spec.serving, machine.times), spec, seed, progress, rows)


def serve_on(
    machine: Machine, programs: Programs, spec: Topology, seed: int, progress: Any = None, rows: TableWriter | None = None
) -> Served:
    """Serve the spec's workload on a machine already built, with the shapes already timed in `programs`."""
    traffic, total = _traffic(spec, seed)
    report = partial(_report, progress, total) if progress else None
    result = serve(
        spec, machine.fabric, _placement(machine, spec), programs, traffic, seed=seed, rows=rows, progress=report
    )
    result.tables["classes"] = metrics.class_table(
        result.tables["requests"], targets=_targets(spec), elapsed_s=result.elapsed_s, warmup_s=spec.serving.warmup_s
    )
    summary = metrics.summarise(
        result.tables, slo_ttft_s=spec.slo.ttft_s, slo_tpot_s=spec.slo.tpot_s, pue=spec.power.pue,
        elapsed_s=result.elapsed_s, concurrency_mean=result.concurrency_mean, seed=seed,
        warmup_s=spec.serving.warmup_s, availability_fraction=result.availability, targets=_targets(spec),
    )
    return result.tables, summary, _meta(machine, programs)


def _traffic(spec: Topology, seed: int) -> tuple[Iterator[Requests] | ClosedLoop, int]:
    """The workload's requests block by block, or its users; and how many requests to expect (0: unknown)."""
    if spec.workload.kind == "closed":
        loop = make_closed_loop(spec.workload, seed)
        return loop, loop.requests_max or loop.think_s.size
    return iterate_requests(spec.workload, seed, _BLOCK), spec.workload.requests


def _targets(spec: Topology) -> dict[str, tuple[float, float]]:
    """(TTFT, TPOT) targets of each class that has its own."""
    return {
        entry.name: (entry.ttft_s or spec.slo.ttft_s, entry.tpot_s or spec.slo.tpot_s)
        for entry in spec.workload.classes
    }


def _placement(machine: Machine, spec: Topology) -> Placement:
    """Where the replicas stand, and how long KV takes from one to another.

    Each chip sends what it stores to its counterpart, over one link, all at once.
    """
    mapping, network = machine.mapping, spec.network
    chips = tuple(tuple(chip for stage in replica for chip in stage) for replica in mapping.replica_chips)
    token_bytes = kv_bytes_per_token(spec.llm, BYTES[spec.mapping.kv])
    rate = _link_bytes_per_s(network) * len(chips[0])
    return Placement(
        chips, mapping.memory.kv_tokens_max, mapping.memory.weight_bytes_max, lambda tokens: tokens * token_bytes / rate
    )


def _link_bytes_per_s(network: NetworkSpec) -> float:
    """Payload bytes per second of one link."""
    raw = network.bandwidth_bytes_per_s
    if network.kind == "scheduled":
        return raw * network.vector_bytes / network.vector_wire_bytes
    return raw * network.mtu_bytes / (network.mtu_bytes + network.header_bytes)


def _report(progress: Any, total: int, done: int) -> None:
    progress(done, max(total, done))


def _meta(machine: Machine, programs: Programs) -> dict[str, Any]:
    spec, mapping = machine.spec, machine.mapping
    return {
        "llm": spec.llm.name, "interconnect": spec.network.name, "tp": mapping.tp, "pp": mapping.pp,
        "replicas": mapping.replicas, "chips_used": mapping.tp * mapping.pp * mapping.replicas,
        "chips_active": int(machine.fabric.chip_active.sum()), "kv_tokens": mapping.memory.kv_tokens_max,
        "slo_ttft_s": spec.slo.ttft_s, "slo_tpot_s": spec.slo.tpot_s, "shapes_timed": programs.shapes_timed,
    }
