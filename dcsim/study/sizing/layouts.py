"""Ways to lay the LLM over one size of a system that may hold a rate of requests, the most promising first.

Each way is bounded by its chips' work alone, as if the network took no time. Where several may do, a few timed shapes say what
each promises (`study.search.promises`); who promises too little is left out, which is an estimate and not a bound. A promise is
about mean requests: long prompts wait less where there are more replicas, and a tight time per token may be kept only by the way
with the quickest token. So these come where one of those that promise most comes near the targets and misses them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import inf

from dcsim.economics.bill import bill, parts_of, total_usd
from dcsim.economics.cost import life_usd_per_h
from dcsim.errors import CapacityError, FabricError, SpecError
from dcsim.fabric.build import build_fabric
from dcsim.llm.mapping import Layout, choices, lay
from dcsim.network.network import make_network
from dcsim.spec.topology import Topology
from dcsim.study.estimate import WithoutNetwork
from dcsim.study.machine import Machine, active_nodes, with_chunk
from dcsim.study.search import DOUBT, NEAR, Choice, promises
from dcsim.study.sizing.bound import MARGIN, RateBound, Traffic, bound_of
from dcsim.study.sizing.sizes import NODES_A_REPLICA, GrowthPath, Settings

WAYS_MAX = 3  # of those that promise most


@dataclass(frozen=True, slots=True)
class Ways:
    """The settings of those worth simulating, the best first; where there are none, why, and whether more of the same is no help.

    `requests_per_s` bounds what one cluster of any of them can serve. `others` promise less and may do where those come near.
    `waiting` is what the cluster takes while nobody asks it anything: `usd_per_h`, `power_w`, `racks`; empty if nothing fits.
    """

    settings: tuple[Settings, ...]
    requests_per_s: float
    reason: str = ""
    hopeless: bool = False
    others: tuple[Settings, ...] = ()
    waiting: dict[str, float] = field(default_factory=dict)


def ways(spec: Topology, growth: GrowthPath, traffic: Traffic, rate_per_s: float, tpot_s: float | None) -> Ways:
    """Of a size of a system, whose cluster is to serve `rate_per_s` (0: nobody knows yet how much) within the SLO of its spec."""
    grows = growth.settings is not None
    if spec.mapping.rule != "auto" or spec.mapping.prefill is not None:  # the file says how
        return Ways(({},), inf)
    bounded: list[tuple[Named, RateBound]] = []
    waiting: dict[str, float] = {}
    try:
        for settings, machine in laid(spec, growth):
            bounded.append((settings, _bound(machine, traffic, tpot_s)))
            waiting = waiting or waits(machine)
    except CapacityError as error:
        return Ways((), 0.0, str(error), hopeless=not grows or error.needed == inf)
    except (FabricError, SpecError) as error:  # no such fabric, or more stages than blocks, or shards than heads
        return Ways((), 0.0, str(error), hopeless=not grows)
    return replace(_of_bounds(spec, growth, rate_per_s, bounded), waiting=waiting)


def _of_bounds(spec: Topology, growth: GrowthPath, rate_per_s: float, bounded: list[tuple[Named, RateBound]]) -> Ways:
    best = max((bound for _, bound in bounded), key=lambda bound: bound.requests_per_s)
    able = {name: bound for name, bound in bounded if bound.requests_per_s * MARGIN >= rate_per_s and not bound.hopeless}
    if not able:
        return Ways((), best.requests_per_s, best.reason, hopeless=all(bound.hopeless for _, bound in bounded))
    if growth.unit == "node":  # as many replicas as there are nodes for
        return Ways(
            tuple({**dict(name), "mapping.replicas": "auto"} for name in _roomier(able)), best.requests_per_s, best.reason
        )
    if len(able) == 1:
        return Ways(tuple(dict(name) for name in able), best.requests_per_s, best.reason)
    return _promising(spec, able, rate_per_s, best)


Named = tuple[tuple[str, str], ...]  # settings that can be looked up


def waits(machine: Machine) -> dict[str, float]:
    """What a cluster that nobody asks anything costs and draws, and the racks that its nodes fill: no less when it serves."""
    spec, parts, power_w = machine.spec, parts_of(machine.site), machine.site.draw().power_w
    usd_per_h, _ = life_usd_per_h(parts, spec, total_usd(bill(parts, spec, "buy")), power_w)
    filled = parts.nodes * spec.node.rack_units / spec.power.rack_units
    return {"usd_per_h": usd_per_h, "power_w": power_w, "racks": filled}


def laid(spec: Topology, growth: GrowthPath) -> Iterator[tuple[Named, Machine]]:
    """Each way with the machine it makes. Raises CapacityError where there is none."""
    network = make_network(spec, build_fabric(spec.fabric))
    nodes = active_nodes(network.fabric)
    chips, node_chips = sum(map(len, nodes)), max(map(len, nodes))
    fits, refused = 0, None
    for degrees in _of_nodes(growth, chips) or choices(spec.llm, spec.chip, spec.mapping, chips, node_chips):
        own = spec.mapping.model_copy(update={"replicas": degrees.replicas})
        try:
            mapping = lay(spec.llm, spec.chip, own, degrees.tp, degrees.pp, nodes)
        except CapacityError as error:
            refused = refused or error
            continue
        fits += 1
        yield _named(degrees), Machine(with_chunk(spec), network.laid(mapping), mapping)
    if not fits:
        raise refused or CapacityError("there are fewer nodes than one replica has", growth.node_chips, chips)


def _of_nodes(growth: GrowthPath, chips: int) -> list[Layout]:
    """Replicas of whole nodes behind switches, as many as there are nodes for."""
    if growth.unit != "node":
        return []
    groups = chips // growth.node_chips
    return [Layout(growth.node_chips, stages, groups // stages) for stages in NODES_A_REPLICA if stages <= groups]


def _named(degrees: Layout) -> Named:
    return tuple((f"mapping.{name}", str(value)) for name, value in degrees._asdict().items())


def _bound(machine: Machine, traffic: Traffic, tpot_s: float | None) -> RateBound:
    return bound_of(machine, traffic, tpot_s, WithoutNetwork(machine.spec, machine.mapping))


def _roomier(able: dict[Named, RateBound]) -> list[Named]:
    """Replicas of few nodes, and of more only where that raises the bound: they have more room, and a token has a longer way."""
    found: list[Named] = []
    most = 0.0
    for name, bound in able.items():
        if bound.requests_per_s > MARGIN * most:
            found.append(name)
            most = bound.requests_per_s
    return found


def _promising(spec: Topology, able: dict[Named, RateBound], rate_per_s: float, best: RateBound) -> Ways:
    """Those whose promise is near the best and near enough to the rate."""
    promised = [(choice, choice.value or 0.0) for choice in promises(spec)]
    most = max((value for _, value in promised), default=0.0)
    taken = [choice for choice, value in promised if value >= NEAR * most and value * DOUBT >= rate_per_s]
    first = [choice for choice in taken if _of(choice) in able][:WAYS_MAX]
    if not (first and most):
        return Ways((), best.requests_per_s, f"promises no more than {most:.3g} requests/s within the targets, in any layout")
    chunk = _chunk(first[0], spec)
    settings = tuple(dict(_of(choice)) | _chunk(choice, spec) for choice in first)
    others = tuple(dict(name) | chunk for name in _otherwise_best(able) if name not in {_of(choice) for choice in first})
    return Ways(settings, best.requests_per_s, best.reason, others=others)


def _otherwise_best(able: dict[Named, RateBound]) -> list[Named]:
    """The way with the quickest token and fewest stages, and that with the best bound of each number of replicas."""
    layouts = {name: Layout(*(int(value) for _, value in name)) for name in able}
    found = [min(able, key=lambda name: (able[name].lone_s, layouts[name].pp))]
    for replicas in sorted({layout.replicas for layout in layouts.values()}, reverse=True):
        alike = [name for name in able if layouts[name].replicas == replicas]
        found.append(max(alike, key=lambda name: able[name].requests_per_s))
    return list(dict.fromkeys(found))


def _of(choice: Choice) -> Named:
    return _named(Layout(choice.tp, choice.pp, choice.replicas))


def _chunk(choice: Choice, spec: Topology) -> Settings:
    return {"serving.chunk_tokens": str(choice.chunk_tokens)} if spec.serving.chunk_tokens == "auto" else {}
