"""From a resolved spec to a run's tables and summary: the story of one run, room by room."""

from __future__ import annotations

from functools import partial
from typing import Any

from dcsim import metrics
from dcsim.cluster.programs import Programs
from dcsim.cluster.service import Placement, serve
from dcsim.records import Table
from dcsim.spec.load import Resolved
from dcsim.spec.topology import Topology
from dcsim.study.machine import Machine, build
from dcsim.workload.generate import make_requests

Served = tuple[dict[str, Table], dict[str, Any], dict[str, Any]]  # tables, summary without digest, meta


def serve_scenario(resolved: Resolved, seed: int, progress: Any = None) -> Served:
    """Build the machine of a spec and run the service zoom on it."""
    spec = resolved.spec
    machine = build(spec)
    return serve_on(machine, Programs(spec.serving, machine.times), spec, seed, progress)


def serve_on(machine: Machine, programs: Programs, spec: Topology, seed: int, progress: Any = None) -> Served:
    """Serve the spec's workload on a machine already built, with the shapes already timed in `programs`."""
    mapping = machine.mapping
    requests = make_requests(spec.workload, seed)
    chips = tuple(tuple(chip for stage in replica for chip in stage) for replica in mapping.replica_chips)
    report = partial(_report, progress, len(requests)) if progress else None
    result = serve(spec, machine.fabric, Placement(chips, mapping.memory.kv_tokens_max), programs, requests, progress=report)
    summary = metrics.summarise(
        result.tables, slo_ttft_s=spec.slo.ttft_s, slo_tpot_s=spec.slo.tpot_s, pue=spec.power.pue,
        elapsed_s=result.elapsed_s, concurrency_mean=result.concurrency_mean, seed=seed,
    )
    return result.tables, summary, _meta(machine, programs)


def _report(progress: Any, total: int, done: int) -> None:
    progress(done, total)


def _meta(machine: Machine, programs: Programs) -> dict[str, Any]:
    spec, mapping = machine.spec, machine.mapping
    return {
        "llm": spec.llm.name, "interconnect": spec.network.name, "tp": mapping.tp, "pp": mapping.pp,
        "replicas": mapping.replicas, "chips_used": mapping.tp * mapping.pp * mapping.replicas,
        "chips_active": int(machine.fabric.chip_active.sum()), "kv_tokens": mapping.memory.kv_tokens_max,
        "slo_ttft_s": spec.slo.ttft_s, "slo_tpot_s": spec.slo.tpot_s, "shapes_timed": programs.shapes_timed,
    }
