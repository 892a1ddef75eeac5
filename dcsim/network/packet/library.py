"""How collectives become messages on a packet network: the pattern and protocol a library takes, and what its calls cost.

Of the ways it has, a library takes the one that is quickest in this very simulator: each is tried once, alone on the idle and
healthy network, unless a bound (`least_s`) says beforehand that it cannot win. Beyond TRIED_PACKETS two smaller sizes are
tried, and their line goes on. `mapping.all_reduce` names a pattern, of which the quickest protocol is taken.

A protocol costs bytes: a flag with every 4 bytes (LL) doubles what is sent. Sums that switches make are as quick as the switches
make them (`sum_bandwidth`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2

import numpy as np

from dcsim.errors import FabricError
from dcsim.fabric.graph import Fabric
from dcsim.llm.blocks import Collective
from dcsim.llm.mapping import Mapping
from dcsim.network.collectives import ALGORITHMS, MESSAGES_MAX, add_collective, messages_least
from dcsim.network.lower import Exchange
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.engine.rules import Software
from dcsim.network.packet.engine.setup import link_bandwidths
from dcsim.network.packet.rules_of import Layers, call_of, calls_of, islands_of, place_calls
from dcsim.network.packet.switches import is_mesh
from dcsim.network.patterns.ranks import Handles, VectorUnit
from dcsim.network.tasks import COLLECTIVE_FIRST, COLLECTIVE_STEP, LINK, SEND, VECTOR, TaskBuilder
from dcsim.spec.software import PatternCost

TRIED_PACKETS = 1 << 20  # of a collective that is tried; a second or two
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Way:
    """A pattern as it is spelled out, and the costs it is taken with."""

    algorithm: str
    cost: PatternCost

    @property
    def protocol(self) -> str:
        """Its protocol; empty where there is none to speak of."""
        return "" if self.cost.protocol == "plain" else self.cost.protocol


@dataclass(frozen=True, slots=True)
class Party:
    """The chips of a collective: their fabric and layers, and the node (island) that each is in, numbered from 0.

    `mesh`: each has a cable of its own to every other.
    """

    chips: tuple[int, ...]
    fabric: Fabric
    layers: Layers
    unit: VectorUnit
    nodes: tuple[int, ...]
    mesh: bool = False

    @classmethod
    def of(cls, chips: Sequence[int], fabric: Fabric, layers: Layers, unit: VectorUnit) -> Party:
        """The chips with their nodes."""
        return cls(tuple(chips), fabric, layers, unit, tuple(islands_of(fabric, chips)), is_mesh(fabric, chips))

    @property
    def node_count(self) -> int:
        """Nodes they lie in; a chip without an island is its own."""
        return len(set(self.nodes))

    @property
    def levels(self) -> list[Sequence[int]]:
        """The node and the rack of each."""
        return [self.nodes, [int(self.fabric.rack_of[chip]) for chip in self.chips]]

    @property
    def sum_bytes_per_s(self) -> float | None:
        """What a port carries while switches make sums among these chips; None: they make none."""
        sums = self.layers.sums
        return sums.island_bytes_per_s if self.node_count == 1 else sums.network_bytes_per_s


class CallBuilder(TaskBuilder):
    """Adds a way's messages to `inner`: with its own call kinds and the bytes of its protocol."""

    def __init__(self, inner: TaskBuilder, way: Way, party: Party, ranks: Sequence[int]) -> None:
        self.clock_hz = inner.clock_hz
        self._inner, self._first_call = inner, call_of(party.layers.software, way.cost)
        self._share = way.cost.payload_fraction
        self._sum_share = _sum_share(way, party)
        self._node = dict(zip(ranks, party.nodes, strict=True))
        self._one_node = party.node_count == 1

    def compute(
        self, chip: int, part: int, first_cycles: int, last_cycles: int, before: list[int], rows: int = 1, lead_rows: int = 1
    ) -> int:
        """As TaskBuilder."""
        return self._inner.compute(chip, part, first_cycles, last_cycles, before, rows, lead_rows)

    def message(self, source: int, target: int, size_bytes: int, before: list[int], part: int = LINK, call: int = SEND) -> int:
        """As TaskBuilder."""
        own = {COLLECTIVE_FIRST: self._first_call, COLLECTIVE_STEP: self._first_call + 1}
        summed = self._one_node or self._node[source] != self._node[target]
        sent = ceil(size_bytes / (self._share * (self._sum_share if summed else 1.0)))
        return self._inner.message(source, target, sent, before, part, own.get(call, call))


def _sum_share(way: Way, party: Party) -> float:
    """What a port carries while its switch makes sums, over what it carries else."""
    if way.algorithm != "in_network":
        return 1.0
    sums, port = party.sum_bytes_per_s, _port_bytes_per_s(party, inside=party.node_count == 1)
    return min(1.0, sums / port) if sums else 1.0


def _port_bytes_per_s(party: Party, *, inside: bool) -> float:
    """Data that a chip's port carries, into its island or into the network."""
    figures = party.layers.figures
    names = [name for name in figures.links if (name == "island") == inside] or list(figures.links)
    share = figures.mtu_bytes / (figures.mtu_bytes + figures.header_bytes)
    return share * max(figures.links[name].bandwidth_bytes_per_s for name in names)


def _out_bytes_per_s(party: Party) -> float:
    """What leaves the chip with the fastest links, on all of them at once."""
    fabric = party.fabric
    speeds = np.concatenate([[0.0], np.cumsum(link_bandwidths(fabric, party.layers.figures))])
    chips = np.asarray(party.chips)
    return float((speeds[fabric.first_link[chips + 1]] - speeds[fabric.first_link[chips]]).max())


def packet_exchange(mapping: Mapping, fabric: Fabric, layers: Layers, unit: VectorUnit) -> Exchange:
    """The Exchange of a library among the chips of a mapping's first stage of each width; `mapping.all_reduce` overrules it."""
    asked = mapping.spec.all_reduce
    among = {width: Party.of(chips, fabric, layers, unit) for width, chips in mapping.stage_of_width.items()}

    def exchange(builder: TaskBuilder, step: Collective, ranks: Sequence[int], before: Handles) -> Handles:
        party = among[len(ranks)]
        pattern = asked if (step.op, asked) in ALGORITHMS else AUTO
        return exchanged(builder, step, ranks, before, party, choose_way(step, party, builder.clock_hz, pattern))

    return exchange


def exchanged(builder: TaskBuilder, step: Collective, ranks: Sequence[int], before: Handles, party: Party, way: Way) -> Handles:
    """Add a collective to `builder`, whose chips are `ranks`, in the way chosen."""
    calls = CallBuilder(builder, way, party, ranks)
    after = add_collective(calls, step.op, ranks, step.size_bytes, before, party.unit, party.levels, way.algorithm, party.mesh)
    own_cycles = round(_own_s(step, len(ranks), way.cost) * builder.clock_hz)
    if not own_cycles:
        return after
    return [[builder.compute(chip, VECTOR, own_cycles, own_cycles, tasks)] for chip, tasks in zip(ranks, after, strict=True)]


def _own_s(step: Collective, ranks: int, cost: PatternCost) -> float:
    """How long a rank's own share holds its kernel, which sends nothing meanwhile."""
    speed = cost.own_bandwidth_bytes_per_s
    return step.size_bytes / ranks / speed if speed else 0.0


def choose_way(step: Collective, party: Party, clock_hz: float, pattern: str = AUTO, protocol: str = AUTO) -> Way:
    """The quickest of the library's ways for one collective, or of those by `pattern` and `protocol`.

    Raises FabricError where there is no such pattern of the operation, or the library does not have the protocol.
    """
    ways = ways_of(step, party, pattern, protocol)
    if len(ways) == 1:
        return ways[0]
    key = step.op, step.size_bytes, party.chips, pattern, protocol, clock_hz, party.unit
    if key not in party.layers.chosen:
        party.layers.chosen[key] = _quickest(step, party, clock_hz, ways)
    found: Way = party.layers.chosen[key]
    return found


def ways_of(step: Collective, party: Party, pattern: str = AUTO, protocol: str = AUTO) -> list[Way]:
    """The library's ways for one collective; a pattern that it does not have is taken with the costs of its usual one."""
    if pattern != AUTO and (step.op, pattern) not in ALGORITHMS:
        raise FabricError(
            f"no collective '{step.op}' by '{pattern}'; there is {', '.join(k for op, k in ALGORITHMS if op == step.op)}"
        )
    software = party.layers.software
    place = software.island if party.node_count == 1 else software.network
    known = {cost.protocol for cost in place.patterns}
    if protocol != AUTO and protocol not in known:
        raise FabricError(f"library '{software.name}' has no protocol '{protocol}' here; it has {', '.join(sorted(known))}")
    costs = [cost for cost in place.patterns if protocol in (AUTO, cost.protocol)]
    ways = [Way(name, cost) for cost in costs if _used(cost, step, party) for name in _spelled(step.op, cost.pattern, party)]
    if pattern != AUTO:
        ways = [way for way in ways if pattern in (way.algorithm, way.cost.pattern)]
    if ways:
        return [way for way in ways if _messages(step, way, party) <= MESSAGES_MAX] or ways
    if pattern == "in_network" and not party.sum_bytes_per_s:
        raise FabricError("no switch among these chips makes sums: give sum_bandwidth, of the network or of node.island")
    usual = (
        next((cost for cost in costs if cost.pattern in ("direct", "two_shot")), costs[0])
        if pattern == "hierarchical"
        else costs[0]
    )
    return [Way("direct" if pattern == AUTO else pattern, usual)]


def _messages(step: Collective, way: Way, party: Party) -> int:
    """How many messages a way has at least."""
    vectors = -(-step.size_bytes // party.unit.vector_bytes)
    return messages_least(step.op, way.algorithm, len(party.chips), vectors, party.node_count)


def _used(cost: PatternCost, step: Collective, party: Party) -> bool:
    """Whether the library takes this pattern for the operation, at the size, on these switches."""
    if cost.operations and step.op not in cost.operations:
        return False
    if cost.pattern == "in_network" and not party.sum_bytes_per_s:
        return False
    if cost.message_max_bytes is None:
        return True
    whole = cost.pattern in ("one_shot", "tree", "pipeline", "in_network")
    return step.size_bytes / (1 if whole else len(party.chips)) <= cost.message_max_bytes


def _spelled(op: str, pattern: str, party: Party) -> list[str]:
    """The algorithms that a library's pattern may be: a direct exchange among several nodes goes level by level, too."""
    names = [pattern] if (op, pattern) in ALGORITHMS else []
    if pattern in ("direct", "two_shot") and 1 < party.node_count < len(party.chips) and (op, "hierarchical") in ALGORITHMS:
        names.append("hierarchical")
    return names


def _quickest(step: Collective, party: Party, clock_hz: float, ways: list[Way]) -> Way:
    """Tried in the order of their bounds; ties go to the first."""
    bounds = [least_s(step, party, way) for way in ways]
    best, best_s = ways[0], float("inf")
    for i in sorted(range(len(ways)), key=bounds.__getitem__):
        if bounds[i] >= best_s:
            break
        time_s = _tried_s(step, party, clock_hz, ways[i])
        if time_s < best_s:
            best, best_s = ways[i], time_s
    return best


def _tried_s(step: Collective, party: Party, clock_hz: float, way: Way) -> float:
    """How long it takes, simulated; where that is more than TRIED_PACKETS, along the line of two sizes that are less."""
    ranks, size = len(party.chips), step.size_bytes
    sent = steps_and_bytes(step.op, way.algorithm, ranks, size, party.node_count)[2] * ranks / way.cost.payload_fraction
    share = TRIED_PACKETS * party.layers.figures.mtu_bytes / sent
    if share >= 1:
        return _alone_s(step.op, size, party, clock_hz, way)
    whole, half = max(2, int(size * share)), max(1, int(size * share) // 2)
    whole_s, half_s = (_alone_s(step.op, tried, party, clock_hz, way) for tried in (whole, half))
    return whole_s + (whole_s - half_s) * (size - whole) / (whole - half)


def _alone_s(op: str, size_bytes: int, party: Party, clock_hz: float, way: Way) -> float:
    """How long a collective takes in this way on the idle network, without jitter."""
    builder = TaskBuilder(clock_hz)
    exchanged(builder, Collective(op, op, size_bytes), party.chips, [[] for _ in party.chips], party, way)
    software = party.layers.software
    tasks = place_calls(builder.build(), party.fabric, software)
    return Engine(party.fabric, party.layers.figures, tasks, Software(calls_of(software))).iteration().finish_ps * 1e-12


def least_s(step: Collective, party: Party, way: Way) -> float:
    """No less than this takes a collective in this way: its calls one after another, or its bytes through the busiest port."""
    ranks, nodes = len(party.chips), party.node_count
    steps, across, sent_bytes = steps_and_bytes(step.op, way.algorithm, ranks, step.size_bytes, nodes)
    software = party.layers.software
    near = next((cost for cost in software.island.patterns if cost.key == way.cost.key), software.island.patterns[0])
    first_s = min(near.first_s, way.cost.first_s)
    calls_s = first_s + max(0, steps - across - 1) * near.step_s + max(0, across - (steps == across)) * way.cost.step_s
    share = way.cost.payload_fraction * _sum_share(way, party)
    own_s = _own_s(step, ranks, way.cost)
    return own_s + max(calls_s, first_s + sent_bytes / (share * _out_bytes_per_s(party)))


def steps_and_bytes(op: str, pattern: str, ranks: int, size_bytes: int, nodes: int = 1) -> tuple[int, int, float]:
    """(steps one after another, those of them between nodes, bytes the busiest chip sends in all).

    Rings and direct exchanges after Thakur, Rabenseifner, Gropp, IJHPCA 2005; trees are chains in nodes and binary beyond.
    """
    halves = 2 if op == "all_reduce" else 1
    scattered = size_bytes * (ranks - 1) / ranks
    several = nodes > 1
    if pattern == "ring":
        return halves * (ranks - 1), halves * (nodes - 1), halves * scattered
    if pattern == "tree":
        if op == "broadcast":
            levels = ceil(log2(ranks)) if ranks > 1 else 0
            return levels, 0, size_bytes
        levels = ceil(log2(nodes)) if several else 0
        return 2 * (levels + -(-ranks // nodes) - 1), 2 * levels, 2 * size_bytes * (ranks - 1) / ranks
    if pattern == "pipeline":
        return ranks - 1, nodes - 1, size_bytes
    if pattern == "one_shot" or (op, pattern) == ("broadcast", "direct"):
        return 1, int(several), (ranks - 1) * size_bytes
    if pattern == "in_network":
        return 1, int(several), size_bytes
    return halves, halves * several, halves * scattered
