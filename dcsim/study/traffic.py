"""Traffic patterns by themselves on a packet network: how long they take, and how fast the engine simulates them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import SpecError
from dcsim.fabric.build import build_fabric
from dcsim.fabric.graph import Fabric
from dcsim.fabric.switched import fat_tree
from dcsim.network.packet.background import pattern_load
from dcsim.network.packet.engine import traffic as patterns
from dcsim.network.packet.engine.breakdown import PARTS
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.engine.routing import vertex_groups
from dcsim.network.packet.engine.rules import PacketRules
from dcsim.network.packet.engine.setup import link_bandwidths
from dcsim.network.packet.network import packet_section
from dcsim.network.packet.rules_of import faults_of, figures_of
from dcsim.network.packet.switches import attach
from dcsim.spec.flow_sizes import FlowSizes
from dcsim.spec.host import IslandSpec
from dcsim.spec.load import Resolved, load, load_entry
from dcsim.spec.network import PacketNetwork
from dcsim.spec.topology import Topology
from dcsim.spec.unused import unused
from dcsim.study.flows import mean_size, poisson, read_flows

# Where no topology is named: only this one's network is read, and that is replaced by
ANY_TOPOLOGY, INTERCONNECT, ENDPOINTS = "node", "infiniband-hdr", 1024
PACKETS_A_LOAD = 1_000_000
WARM_FRACTION = 0.2  # flows that start in the first fifth find the network emptier than it will be
LOOKS = 256
QUANTILES = {"50": 0.5, "99": 0.99, "999": 0.999}


@dataclass(frozen=True, slots=True)
class FlowsAsked:
    """What flows are wanted: a pattern at once (each `size_bytes`), the same at `loads`, or those of a file.

    At a load (above 1 the network is overrun) flows start at random for `duration_s` (default: until `PACKETS_A_LOAD` packets are
    sent at the highest load), with sizes of the distribution `sizes` (an entry of workloads/flows, or a file) if it is named.
    """

    pattern: str = "perm"
    endpoints: int | None = None
    size_bytes: int = 256 * 1024
    loads: tuple[float, ...] = ()
    sizes: str | None = None
    duration_s: float | None = None
    file: Path | None = None


def traffic(
    topology: str | None,
    interconnect: str | None,
    asked: FlowsAsked,
    seed: int = 1,
    settings: tuple[str, ...] = (),
    *,
    tables: bool = False,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Send flows over an idle packet network and time them: `rows`, one for each load (or one), with all that happened.

    The network is the topology's own, faults included, unless `interconnect` names another; default: all its chips.
    Without a topology `ENDPOINTS` chips hang on a three-tier fat tree of the smallest even radix, and the network is
    `INTERCONNECT`. `packet_hops` counts data packets on directed links. What one row holds stands beside `rows` as well where
    there is only one. With `tables` the answer holds DataFrames: `flow_table` (each flow, its time, and how many times what it
    would take alone) and `queue_table` (each link's queue over time, zeros left out).

    Raises SpecError for an unknown pattern or too few chips, WorkloadError for a file that holds no flows of these chips.
    """
    if asked.pattern not in PATTERNS:
        raise SpecError(f"--pattern: '{asked.pattern}' is not known; use {', '.join(PATTERNS)}")
    resolved = _resolved(topology, interconnect, settings)
    network, fabric, island = _network(topology, resolved.spec, asked.endpoints)
    endpoints = asked.endpoints or (fabric.chip_count if topology else ENDPOINTS)
    figures = figures_of(network, fabric, island)
    scene = _Scene(network, fabric, figures, seed, tables)
    rows, parts, wall_s = [], [], 0.0
    for share, flows in _works(asked, scene, endpoints):
        if progress and asked.loads:
            progress(f"load {share:g}: {len(flows.source):,} flows")
        row, took_s, found = _send(scene, flows, share)
        wall_s += took_s
        rows.append(row)
        parts.append(found)
    answer = {
        "pattern": asked.pattern if asked.file is None else "file",
        "interconnect": network.name,
        "fabric": fabric.kind,
        "endpoints": endpoints,
        "size_bytes": asked.size_bytes if asked.file is None and asked.sizes is None else None,
        "sizes": asked.sizes,
        **(rows[0] if len(rows) == 1 else {}),
        "rows": rows,
        "wall_s": wall_s,
        "packet_hops_per_wall_s": sum(row["packet_hops"] for row in rows) / wall_s,
        "seed": seed,
        "unused_keys": unused(resolved, topology=topology is not None),
    }
    return answer | (_joined(parts) if tables else {})


@dataclass(frozen=True, slots=True)
class _Scene:
    """The network that flows are sent over."""

    network: PacketNetwork
    fabric: Fabric
    figures: PacketRules
    seed: int
    tables: bool

    def line_bytes_per_s(self) -> NDArray[np.float64]:
        """[chip] what its cables carry out together."""
        speeds = link_bandwidths(self.fabric, self.figures)
        return np.asarray(np.add.reduceat(speeds, self.fabric.first_link[: self.fabric.chip_count]))


def _works(asked: FlowsAsked, scene: _Scene, endpoints: int) -> Iterator[tuple[float | None, patterns.Flows]]:
    """(load, flows) of each simulation; a load of None for flows that are as they are."""
    if asked.file is not None:
        yield None, read_flows(asked.file, scene.fabric.chip_count)
    elif not asked.loads:
        yield None, PATTERNS[asked.pattern](scene.fabric, endpoints, asked.size_bytes, scene.seed)
    else:
        sizes = load_entry(asked.sizes, "workloads/flows", FlowSizes)[0] if asked.sizes else asked.size_bytes
        line, groups = float(scene.line_bytes_per_s()[:endpoints].min()), _groups(scene.fabric, endpoints, asked.pattern)
        duration_s = asked.duration_s or _duration_s(asked, line, endpoints, sizes, scene.figures.mtu_bytes)
        for share in asked.loads:
            yield share, poisson(asked.pattern, groups, line, share, duration_s, sizes, scene.seed)


def _duration_s(asked: FlowsAsked, line_bytes_per_s: float, endpoints: int, sizes: FlowSizes | int, mtu_bytes: int) -> float:
    """How long flows start, so that `PACKETS_A_LOAD` packets are sent at the highest load."""
    receivers = 1 if asked.pattern == "incast" else endpoints
    packets_a_flow = max(1.0, mean_size(sizes) / mtu_bytes)
    flows_per_s = max(asked.loads) * line_bytes_per_s * receivers / mean_size(sizes)
    return PACKETS_A_LOAD / (packets_a_flow * flows_per_s)


def _send(scene: _Scene, flows: patterns.Flows, share: float | None) -> tuple[dict[str, Any], float, Any]:
    """One simulation: its row, the seconds that it took, and its tables if they are wanted."""
    fabric, figures, ends_s = scene.fabric, scene.figures, float(np.max(flows.release_s))
    _warm_up(fabric, figures, flows)
    engine = Engine(
        fabric,
        figures,
        flows,
        faults=faults_of(scene.network, fabric),
        seed=scene.seed,
        cross_load=pattern_load(scene.network, fabric, figures, scene.seed),
        sample_s=_look_s(scene, flows) if scene.tables else 0.0,
    )
    began = time.perf_counter()
    done = engine.iteration()
    wall_s = time.perf_counter() - began
    flow_s = (done.last_ps - np.rint(np.asarray(flows.release_s) * 1e12)) * 1e-12
    alone_s = flow_s - done.parts_ps[:, PARTS.index("queueing")] * 1e-12  # of its last packet; behind its own is no queueing
    slowdown = flow_s / alone_s
    answered_s = engine.answered_ps() * 1e-12 - np.asarray(flows.release_s)
    counted = np.asarray(flows.release_s) >= (WARM_FRACTION * ends_s if share is not None else 0.0)
    row: dict[str, Any] = {}
    if share is not None:
        window_s = ends_s * (1.0 - WARM_FRACTION)
        row = {
            "load_fraction": share,
            "offered_bytes_per_s": float(np.asarray(flows.size_bytes)[counted].sum()) / window_s,
            "accepted_bytes_per_s": engine.delivered_bytes(WARM_FRACTION * ends_s, ends_s) / window_s,
        }
    links = done.links
    row |= {
        "flows": len(flow_s),
        "finish_s": done.finish_ps * 1e-12,
        "packets": done.packets,
        "packet_hops": done.packet_hops,
        "flow_s_mean": float(flow_s[counted].mean()),
        **{f"flow_s_p{name}": float(np.quantile(flow_s[counted], q)) for name, q in QUANTILES.items()},
        **{f"answered_s_p{name}": float(np.quantile(answered_s[counted], q)) for name, q in QUANTILES.items()},
        "slowdown_mean": float(slowdown[counted].mean()),
        **{f"slowdown_p{name}": float(np.quantile(slowdown[counted], q)) for name, q in QUANTILES.items()},
        "drops": int(links.drops.sum()),
        "resent": done.resent,
        "pauses": int(links.pauses.sum()),
        "marks": int(links.marks.sum()),
        "peak_queue_bytes": int(links.peak_queue_bytes.max(initial=0)),
        "link_use_fraction_max": float(links.busy_ps.max(initial=0) / max(1, done.finish_ps)),
    }
    return row, wall_s, _tables(scene, flows, share, flow_s, answered_s, slowdown, engine) if scene.tables else None


def _look_s(scene: _Scene, flows: patterns.Flows) -> float:
    """How often queues are looked at: 256 times while flows start or while the busiest sender sends."""
    line = scene.line_bytes_per_s()
    out = np.bincount(flows.source, np.asarray(flows.size_bytes, np.float64), len(line)) / line
    return max(1e-9, float(np.max(flows.release_s)), float(out.max())) / LOOKS


def _tables(
    scene: _Scene, flows: patterns.Flows, share: float | None, flow_s: Any, answered_s: Any, slowdown: Any, engine: Engine
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Columns of the flow table and of the queue table."""
    first = {} if share is None else {"load_fraction": np.full(len(flow_s), share)}
    flow = first | {
        "source": np.asarray(flows.source),
        "destination": np.asarray(flows.target),
        "bytes": np.asarray(flows.size_bytes),
        "start": np.asarray(flows.release_s),
        "flow_s": flow_s,
        "answered_s": answered_s,
        "slowdown": slowdown,
    }
    times_s, queued = engine.queues()
    at, link = np.nonzero(queued)
    queue = ({} if share is None else {"load_fraction": np.full(len(at), share)}) | {
        "time_s": times_s[at],
        "link": link,
        "from": scene.fabric.link_source[link],
        "to": scene.fabric.link_target[link],
        "queue_bytes": queued[at, link],
    }
    return flow, queue


def _joined(parts: list[Any]) -> dict[str, Any]:
    import pandas as pd

    names = ("flow_table", "queue_table")
    return {name: pd.concat([pd.DataFrame(part[i]) for part in parts], ignore_index=True) for i, name in enumerate(names)}


def _groups(fabric: Fabric, endpoints: int, pattern: str) -> NDArray[Any]:
    """[chip] its group, pod or node; one number for all where that does not matter."""
    if pattern != "adversarial":
        return np.zeros(endpoints, np.int64)
    groups = vertex_groups(fabric)[:endpoints]
    groups = groups if len(np.unique(groups)) > 1 else fabric.node_of[:endpoints]
    if len(np.unique(groups)) < 2:
        raise SpecError("--pattern adversarial: the chips are all in one group")
    return np.asarray(groups)


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


PATTERNS: dict[str, Callable[[Fabric, int, int, int], patterns.Flows]] = {
    "perm": lambda fabric, endpoints, size_bytes, seed: patterns.permutation(endpoints, size_bytes, seed),
    "uniform": lambda fabric, endpoints, size_bytes, seed: patterns.uniform(endpoints, size_bytes, seed),
    "adversarial": lambda fabric, endpoints, size_bytes, seed: patterns.adversarial(
        _groups(fabric, endpoints, "adversarial"), size_bytes, seed
    ),
    "incast": lambda fabric, endpoints, size_bytes, seed: patterns.incast(endpoints, size_bytes),
    "all_to_all": lambda fabric, endpoints, size_bytes, seed: patterns.all_to_all(endpoints, size_bytes),
}
