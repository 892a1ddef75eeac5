"""What else crosses the links: a given pattern, the other replicas, KV copies between replicas, and hosts.

Each is a set of steady flows from chip to chip. A flow takes minimal routes, split equally where several are minimal;
what all flows put on a link is the share of it that the engine's cross traffic (Poisson packets, or bursts of
`cross_burst`) offers there. So the mean on every link is that of the pattern, while links draw their packets
independently and the flows themselves are not slowed down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import FabricError
from dcsim.fabric.graph import Fabric
from dcsim.llm.architecture import kv_bytes_per_token
from dcsim.llm.mapping import Mapping
from dcsim.network.packet.engine import traffic
from dcsim.network.packet.engine.routing import Routes, build_routes, vertex_groups
from dcsim.network.packet.engine.rules import PacketRules
from dcsim.network.packet.engine.setup import link_bandwidths
from dcsim.network.tasks import MESSAGE, Tasks
from dcsim.spec.mapping import BYTES
from dcsim.spec.network import Background, PacketNetwork
from dcsim.spec.topology import Topology

Array = NDArray[np.float64]
Demand = Iterable[tuple[int, NDArray[np.int64], Array]]  # (target, sources, bytes per second from each)


def pattern_load(network: PacketNetwork, fabric: Fabric, figures: PacketRules, seed: int) -> Array | None:
    """[link] share that cross traffic of `load_pattern` offers: `load_fraction` on the busiest link; None for nothing."""
    if not network.load_fraction:
        return None
    if network.load_pattern == "every_link":
        return np.full(fabric.link_count, network.load_fraction)
    load = link_shares(fabric, figures, _pattern(network.load_pattern, fabric, seed))
    return np.asarray(load * (network.load_fraction / load.max()))


def background_load(
    spec: Topology,
    network: PacketNetwork,
    fabric: Fabric,
    figures: PacketRules,
    mapping: Mapping,
    tasks: Tasks,
    alone_s: float,
    seed: int,
) -> Array | None:
    """[link] share offered by all that is not this replica's iteration; None for nothing.

    `tasks` and `alone_s` are the iteration and what it takes alone: the other replicas run the same. Raises FabricError
    where a link is offered more than it carries, or where there is no other replica.
    """
    own = network.background
    load = pattern_load(network, fabric, figures, seed)
    demand = [*_demands(spec, own, fabric, mapping, tasks, alone_s)]
    if not demand:
        return load
    routes = build_routes(fabric, [frozenset()])
    for flows in demand:
        more = link_shares(fabric, figures, flows, routes)
        load = more if load is None else load + more
    _check(fabric, load)
    return load


def _demands(spec: Topology, own: Background, fabric: Fabric, mapping: Mapping, tasks: Tasks, alone_s: float) -> Iterator[Demand]:
    if (own.micro_batches or own.kv_tokens_per_s) and mapping.replicas < 2:
        raise FabricError("network.background: there is one replica; mapping.replicas must be 2 at least, or auto")
    if own.micro_batches:
        yield replica_flows(mapping, tasks, own.micro_batches / alone_s)
    if own.kv_tokens_per_s:
        token_bytes = kv_bytes_per_token(spec.llm, BYTES[spec.mapping.kv])
        yield kv_flows(mapping, own.kv_tokens_per_s * token_bytes)
    if own.host_bytes_per_s:
        yield host_flows(fabric, own.host_bytes_per_s)


def _check(fabric: Fabric, load: Array | None) -> None:
    if load is not None and load.max() >= 1:
        link = int(load.argmax())
        ends = (fabric.link_source[link], fabric.link_target[link])
        a, b = (f"chip {v}" if v < fabric.chip_count else f"switch {v - fabric.chip_count}" for v in ends)
        raise FabricError(
            f"background traffic offers the link from {a} to {b} {load[link]:.2f} times what it carries; "
            "lower network.background or network.load_fraction"
        )


def link_shares(fabric: Fabric, figures: PacketRules, demand: Demand, routes: Routes | None = None) -> Array:
    """[link] share of its bandwidth that the flows take, headers included."""
    speed = link_bandwidths(fabric, figures)
    wire = (figures.mtu_bytes + figures.header_bytes) / figures.mtu_bytes
    return np.asarray(link_rates(fabric, routes or build_routes(fabric, [frozenset()]), demand) * wire / speed)


def link_rates(fabric: Fabric, routes: Routes, demand: Demand) -> Array:
    """[link] bytes per second of all flows."""
    rates = np.zeros(fabric.link_count)
    for target, sources, rate in demand:
        waiting = np.zeros(fabric.vertex_count)
        np.add.at(waiting, sources, rate)
        waiting[target] = 0.0
        _send(fabric, routes, target, waiting, rates)
    return rates


def _send(fabric: Fabric, routes: Routes, target: int, waiting: Array, rates: Array) -> None:
    """Carry what waits at each vertex to `target`, farthest first, adding to `rates`."""
    column = routes.column[target]
    place, distance = routes.set_of[0, :, column], routes.distance[0, :, column]
    inward = fabric.reverse[fabric.first_link[target] : fabric.first_link[target + 1]]
    while waiting.any():
        full = np.flatnonzero(waiting)
        here = full[distance[full] == distance[full].max()]
        amount = waiting[here]
        waiting[here] = 0.0
        home = place[here] == -1
        for vertex, rate in zip(here[home], amount[home], strict=True):
            last = inward[fabric.link_source[inward] == vertex]
            rates[last] += rate / max(1, len(last))
        here, amount = here[~home], amount[~home]
        count = routes.sets[place[here]]
        first = np.repeat(place[here] + 1 - np.concatenate([[0], np.cumsum(count)[:-1]]), count) if len(here) else count
        links = routes.sets[first + np.arange(len(first))]
        share = np.repeat(amount / count, count)
        np.add.at(rates, links, share)
        np.add.at(waiting, fabric.link_target[links], share)
        if fabric.chips_forward:
            waiting[target] = 0.0


def by_target(source: NDArray[np.int64], target: NDArray[np.int64], rate: Array) -> Demand:
    """Flows grouped by where they go."""
    order = np.argsort(target, kind="stable")
    ends, starts = np.unique(target[order], return_index=True)
    groups = zip(np.split(source[order], starts[1:]), np.split(rate[order], starts[1:]), strict=True)
    return [(int(end), sources, rates) for end, (sources, rates) in zip(ends, groups, strict=True)]


def replica_flows(mapping: Mapping, tasks: Tasks, iterations_per_s: float) -> Demand:
    """The first replica's messages, `iterations_per_s` times a second, on the chips of every other replica."""
    chips = _replica_chips(mapping)
    place = np.full(int(chips.max()) + 1, -1)
    place[chips[0]] = np.arange(chips.shape[1])
    message = np.flatnonzero(tasks.kind == MESSAGE)
    pairs = place[tasks.chip[message]] * chips.shape[1] + place[tasks.target[message]]
    found, which = np.unique(pairs, return_inverse=True)
    rate = np.bincount(which, tasks.size_bytes[message]) * iterations_per_s
    source, target = chips[1:, found // chips.shape[1]], chips[1:, found % chips.shape[1]]
    return by_target(source.ravel(), target.ravel(), np.tile(rate, len(chips) - 1))


def kv_flows(mapping: Mapping, bytes_per_s: float) -> Demand:
    """Every replica receives so much, evenly from the others, each chip its share from the chip of its own place."""
    chips = _replica_chips(mapping)
    replicas, count = chips.shape
    take, give = np.nonzero(~np.eye(replicas, dtype=np.bool_))
    source, target = chips[give].ravel(), chips[take].ravel()
    return by_target(source, target, np.full(len(source), bytes_per_s / count / (replicas - 1)))


def host_flows(fabric: Fabric, bytes_per_s: float) -> Demand:
    """Each node's host sends so much through its node's first active chip, evenly to those of the other nodes."""
    active = np.flatnonzero(fabric.chip_active)
    _, first = np.unique(fabric.node_of[active], return_index=True)
    doors = active[first]
    if len(doors) < 2:
        raise FabricError("network.background.host: there is one node only, and no other to send to")
    return _evenly(doors, bytes_per_s)


def _evenly(chips: NDArray[np.int64], bytes_per_s: float) -> Demand:
    """Each of `chips` sends `bytes_per_s`, evenly to all the others."""
    return ((int(chip), chips[chips != chip], np.full(len(chips) - 1, bytes_per_s / (len(chips) - 1))) for chip in chips)


def _replica_chips(mapping: Mapping) -> NDArray[np.int64]:
    """[replica, place] chips."""
    return np.array(mapping.chips, np.int64)


def _pattern(name: str, fabric: Fabric, seed: int) -> Demand:
    """One byte per second from each active chip, or to one of them, by a pattern's name."""
    chips = np.flatnonzero(fabric.chip_active)
    if len(chips) < 2:
        raise FabricError("network.load_pattern: there is one chip only")
    if name == "uniform":
        return _evenly(chips, 1.0)
    if name == "adversarial":
        groups = vertex_groups(fabric)[chips]
        groups = groups if len(np.unique(groups)) > 1 else fabric.node_of[chips]
        if len(np.unique(groups)) < 2:
            raise FabricError("network.load_pattern: adversarial needs groups, and all chips are in one")
        flows = traffic.adversarial(groups, 1, seed)
    elif name == "incast":
        flows = traffic.incast(len(chips), 1)
    else:
        flows = traffic.permutation(len(chips), 1, seed)
    return by_target(chips[flows.source], chips[flows.target], np.ones(len(flows.source)))
