"""From a resolved spec to a run's tables and summary: the story of one run, room by room."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from dcsim import metrics
from dcsim.cluster.programs import Programs
from dcsim.cluster.service import Placement, serve
from dcsim.fabric.build import build_fabric
from dcsim.fabric.graph import Fabric
from dcsim.llm.mapping import Mapping, candidates, lay
from dcsim.llm.program import Shape
from dcsim.network.iteration import TIMES
from dcsim.records import Table
from dcsim.spec.load import Resolved
from dcsim.spec.topology import Topology
from dcsim.workload.generate import make_requests


@dataclass(frozen=True, slots=True)
class Machine:
    """A built cluster: its fabric and how the LLM is laid over it."""

    spec: Topology
    fabric: Fabric
    mapping: Mapping

    def time(self, shape: Shape) -> Any:
        """Time of one iteration of `shape` on the spec's network."""
        return TIMES[self.spec.network.kind](self.spec, self.fabric, self.mapping, shape)


def build(spec: Topology) -> Machine:
    """Build the fabric and lay the LLM over its active chips.

    Where degrees are `auto`, the candidate with the shortest decode iteration at batch 1 and half the LLM's context
    is taken; ties go to the fewest shards. Raises CapacityError if nothing fits.
    """
    fabric = build_fabric(spec.fabric)
    nodes = active_nodes(fabric)
    chips = sum(len(node) for node in nodes)
    machines = [
        Machine(spec, fabric, lay(spec.llm, spec.chip, spec.mapping, tp, pp, nodes))
        for tp, pp in candidates(spec.llm, spec.chip, spec.mapping, chips)
    ]
    if len(machines) == 1:
        return machines[0]
    probe = Shape(1, max(1, spec.llm.context_max // 2))
    return min(machines, key=lambda machine: machine.time(probe).latency_ps)


def active_nodes(fabric: Fabric) -> list[list[int]]:
    """The active chips of each node that has any, in order."""
    nodes: dict[int, list[int]] = {}
    for chip in range(fabric.chip_count):
        if fabric.chip_active[chip]:
            nodes.setdefault(int(fabric.node_of[chip]), []).append(chip)
    return list(nodes.values())


def serve_scenario(
    resolved: Resolved, seed: int, progress: Any = None
) -> tuple[dict[str, Table], dict[str, Any], dict[str, Any]]:
    """Run the service zoom; returns the tables, the summary without digest, and what a reader needs to know of it."""
    spec = resolved.spec
    machine = build(spec)
    mapping = machine.mapping
    requests = make_requests(spec.workload, seed)
    programs = Programs(spec.serving, machine.time)
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
