"""Traffic patterns by themselves on a packet network: how long they take, and how fast the engine simulates them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dcsim.errors import SpecError
from dcsim.fabric.build import build_fabric
from dcsim.fabric.graph import Fabric
from dcsim.fabric.switched import fat_tree
from dcsim.network.packet.background import pattern_load
from dcsim.network.packet.engine import traffic as patterns
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.engine.routing import vertex_groups
from dcsim.network.packet.engine.rules import PacketRules
from dcsim.network.packet.network import packet_section
from dcsim.network.packet.rules_of import faults_of, figures_of
from dcsim.network.packet.switches import attach
from dcsim.spec.host import IslandSpec
from dcsim.spec.load import Resolved, load
from dcsim.spec.network import PacketNetwork
from dcsim.spec.topology import Topology
from dcsim.spec.unused import unused

# Where no topology is named: only this one's network is read, and that is replaced by
ANY_TOPOLOGY, INTERCONNECT, ENDPOINTS = "node", "infiniband-hdr", 1024


def traffic(
    topology: str | None,
    interconnect: str | None,
    pattern: str,
    endpoints: int | None,
    size_bytes: int,
    seed: int = 1,
    settings: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Send `size_bytes` along each flow of `pattern` among the first `endpoints` chips and time it on an idle network.

    The network is the topology's own, faults included, unless `interconnect` names another; default: all its chips.
    Without a topology `ENDPOINTS` chips hang on a three-tier fat tree of the smallest even radix, and the network is
    `INTERCONNECT`. `packet_hops` counts data packets on directed links. Raises SpecError for an unknown pattern or too few chips.
    """
    if pattern not in PATTERNS:
        raise SpecError(f"--pattern: '{pattern}' is not known; use {', '.join(PATTERNS)}")
    resolved = _resolved(topology, interconnect, settings)
    network, fabric, island = _network(topology, resolved.spec, endpoints)
    endpoints = endpoints or (fabric.chip_count if topology else ENDPOINTS)
    flows = PATTERNS[pattern](fabric, endpoints, size_bytes, seed)
    figures = figures_of(network, fabric, island)
    _warm_up(fabric, figures, flows)
    engine = Engine(
        fabric,
        figures,
        flows,
        faults=faults_of(network, fabric),
        seed=seed,
        cross_load=pattern_load(network, fabric, figures, seed),
    )
    began = time.perf_counter()
    done = engine.iteration()
    wall_s = time.perf_counter() - began
    flow_s = (done.last_ps - np.rint(np.asarray(flows.release_s) * 1e12)) * 1e-12
    links = done.links
    return {
        "pattern": pattern,
        "interconnect": network.name,
        "fabric": fabric.kind,
        "endpoints": endpoints,
        "size_bytes": size_bytes,
        "flows": len(flow_s),
        "finish_s": done.finish_ps * 1e-12,
        "packets": done.packets,
        "packet_hops": done.packet_hops,
        "wall_s": wall_s,
        "packet_hops_per_wall_s": done.packet_hops / wall_s,
        "flow_s_p50": float(np.quantile(flow_s, 0.5)),
        "flow_s_p99": float(np.quantile(flow_s, 0.99)),
        "drops": int(links.drops.sum()),
        "resent": done.resent,
        "pauses": int(links.pauses.sum()),
        "marks": int(links.marks.sum()),
        "peak_queue_bytes": int(links.peak_queue_bytes.max(initial=0)),
        "link_use_fraction_max": float(links.busy_ps.max(initial=0) / max(1, done.finish_ps)),
        "seed": seed,
        "unused_keys": unused(resolved, topology=topology is not None),
    }


def _resolved(topology: str | None, interconnect: str | None, settings: tuple[str, ...]) -> Resolved:
    if topology is None:
        return load(ANY_TOPOLOGY, network=interconnect or INTERCONNECT, settings=settings)
    return load(topology, network=interconnect, settings=settings)


def _network(topology: str | None, spec: Topology, endpoints: int | None) -> tuple[PacketNetwork, Fabric, IslandSpec | None]:
    """The packet network, the fabric it runs on and the nodes' own switches."""
    if endpoints is not None and endpoints < 2:
        raise SpecError("--endpoints: at least 2")
    section = packet_section(spec)
    if topology is None:
        count = endpoints or ENDPOINTS
        return section, fat_tree(count, three_tier_radix(count), 3), None
    network, fabric = attach(section, build_fabric(spec.fabric))
    if endpoints is not None and fabric.chip_count < endpoints:
        raise SpecError(f"--endpoints: {topology} has {fabric.chip_count} chips, not {endpoints}")
    return network, fabric, spec.node.island


def three_tier_radix(endpoints: int) -> int:
    """The smallest even radix r with r^3 / 4 >= endpoints (Al-Fares, Loukissas, Vahdat, SIGCOMM 2008)."""
    radix = 2
    while radix**3 // 4 < endpoints:
        radix += 2
    return radix


def _warm_up(fabric: Fabric, figures: PacketRules, flows: patterns.Flows) -> None:
    """Load compiled code with the first flow alone, so that the wall time is the simulation's."""
    one = patterns.Flows(flows.source[:1], flows.target[:1], flows.size_bytes[:1], flows.release_s[:1])
    Engine(fabric, figures, one).iteration()


def _adversarial(fabric: Fabric, endpoints: int, size_bytes: int, seed: int) -> patterns.Flows:
    """Each chip to a random chip of the next group, pod or node."""
    groups = vertex_groups(fabric)[:endpoints]
    groups = groups if len(np.unique(groups)) > 1 else fabric.node_of[:endpoints]
    if len(np.unique(groups)) < 2:
        raise SpecError("--pattern adversarial: the chips are all in one group")
    return patterns.adversarial(groups, size_bytes, seed)


PATTERNS: dict[str, Callable[[Fabric, int, int, int], patterns.Flows]] = {
    "perm": lambda fabric, endpoints, size_bytes, seed: patterns.permutation(endpoints, size_bytes, seed),
    "uniform": lambda fabric, endpoints, size_bytes, seed: patterns.uniform(endpoints, size_bytes, seed),
    "adversarial": _adversarial,
    "incast": lambda fabric, endpoints, size_bytes, seed: patterns.incast(endpoints, size_bytes),
    "all_to_all": lambda fabric, endpoints, size_bytes, seed: patterns.all_to_all(endpoints, size_bytes),
}
