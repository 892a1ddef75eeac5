"""From a packet network's spec to what the engine wants: link figures, software costs, jitter, faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dcsim.errors import FabricError
from dcsim.fabric.graph import Fabric
from dcsim.network.packet.engine.rate_kernel import KINDS
from dcsim.network.packet.engine.rules import Fault, LinkFigures, PacketRules, Pull, RateControl, Software, Window
from dcsim.network.packet.switches import on_island
from dcsim.network.tasks import MESSAGE, NO_CALL, SEND, Tasks
from dcsim.spec.host import IslandSpec
from dcsim.spec.network import LinkFault, PacketNetwork
from dcsim.spec.software import JitterSpec, PatternCost, PlaceCosts, SoftwareSpec
from dcsim.spec.transport import TransportSpec

JITTER_POINTS = 4096  # table from which delays are drawn


@dataclass(frozen=True, slots=True)
class Sums:
    """Data a port carries each way while its switches make sums, inside islands and between nodes; None: they make none."""

    island_bytes_per_s: float | None = None
    network_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Layers:
    """The three layers of one network, each of which can be switched off alone, and what its switches sum.

    `chosen` remembers the ways of collectives that were found to be quickest.
    """

    figures: PacketRules
    software: SoftwareSpec
    jitter_s: tuple[float, ...]
    sums: Sums = Sums()
    chosen: dict[Any, Any] = field(default_factory=dict, compare=False)


def layers_of(network: PacketNetwork, fabric: Fabric, island: IslandSpec | None = None) -> Layers:
    """Wire and switches, library software, host jitter; `island` is what nodes have of their own."""
    jitter = jitter_table(network.jitter) if network.jitter else ()
    return Layers(figures_of(network, fabric, island), network.software, jitter, sums_of(network, island))


def sums_of(network: PacketNetwork, island: IslandSpec | None = None) -> Sums:
    """Which switches make sums, and how fast."""
    own = network.sum_bandwidth_bytes_per_s
    if network.layout == "own":
        return Sums()
    if network.layout == "island":
        return Sums(own, own)
    return Sums(island.sum_bandwidth_bytes_per_s if island else None, own)


def figures_of(network: PacketNetwork, fabric: Fabric, island: IslandSpec | None = None) -> PacketRules:
    """The engine's figures for `fabric`. Raises FabricError where it has islands of which nothing is known."""
    ecn = network.ecn
    return PacketRules(
        {name: _link_figures(network, island, name) for name in fabric.link_classes},
        cable_s_per_m=network.cables.metre_s,
        mtu_bytes=round(network.mtu_bytes),
        header_bytes=round(network.header_bytes),
        adapter_s=network.adapter_s,
        adapter_messages_per_s=network.adapter_messages_per_s,
        switch_s=network.switch_s,
        cut_through=network.cut_through,
        routing=network.routing,
        flow_control=network.flow_control,
        buffer_bytes=round(network.buffer_bytes),
        pause_gap_bytes=(network.pause_gap_packets or 0) * round(network.mtu_bytes + network.header_bytes),
        mark_low_bytes=ecn.low_bytes if ecn else None,
        mark_high_bytes=ecn.high_bytes if ecn else 0.0,
        mark_fraction=ecn.fraction if ecn else 0.01,
        headroom_bytes=None if network.headroom_bytes is None else round(network.headroom_bytes),
        rate_control=rate_control_of(network.transport) if ecn else None,
        window=window_of(network.transport),
        pull=pull_of(network.transport),
        error_rate=network.error_rate,
        link_retry=bool(network.error_rate and network.link_retry),
        retransmit_timeout_s=network.transport.retransmit_timeout_s,
        go_back=network.flow_control == "drop" and network.recovery == "go_back",
        ack_bytes=round(network.ack_bytes),
        ack_packets=network.ack_packets if network.ack_bytes else 1,
        ugal_bias_packets=network.ugal_bias_packets or 0,
        cross_packet_bytes=round(network.mtu_bytes),
        cross_burst_s=network.cross_burst_s,
    )


def rate_control_of(transport: TransportSpec) -> RateControl | None:
    """How senders heed marks, if they do: by the rule whose section the transport has."""
    for kind in KINDS:
        section = getattr(transport, kind)
        if section is not None:
            names = [name for name in type(section).model_fields if name != "notice_gap_s"]
            figures = tuple(float(getattr(section, name)) * (1e12 if name.endswith("_s") else 1) for name in names)
            return RateControl(kind, section.notice_gap_s, figures)
    return None


def window_of(transport: TransportSpec) -> Window | None:
    """The window that senders keep to, if they do."""
    own = transport.window
    return Window(own.first_packets, own.cut_fraction, own.probe_round_trips, own.reorder_packets) if own else None


def pull_of(transport: TransportSpec) -> Pull | None:
    """How receivers pull, if they do."""
    own = transport.pull
    return Pull(own.first_packets, round(own.header_bytes)) if own else None


def _link_figures(network: PacketNetwork, island: IslandSpec | None, link_class: str) -> LinkFigures:
    """Links of one class: the chips' own, the network's, or those of the nodes' islands."""
    if network.layout == "own":
        return LinkFigures(network.chip_port_bytes_per_s, network.cables.each_s)
    if link_class != "island" or network.layout == "island":
        return LinkFigures(network.bandwidth_bytes_per_s, network.cables.each_s)
    if island is None:
        raise FabricError(f"nodes have islands, on which network '{network.name}' is silent: give node.island")
    speed = island.bandwidth_bytes_per_s
    if island.packet_bytes is not None:
        # Packets are the network's here; they take as long as the island's own with the same payload.
        own = island.packet_bytes / (island.packet_bytes + island.header_bytes)
        speed *= own * (network.mtu_bytes + network.header_bytes) / network.mtu_bytes
    return LinkFigures(speed, adapter_s=island.adapter_s, switch_s=island.switch_s)


def keys_of(software: SoftwareSpec) -> list[tuple[str, str]]:
    """Pattern and protocol of every way a library has, in any place."""
    costs = (*software.network.patterns, *software.island.patterns)
    return list(dict.fromkeys(cost.key for cost in costs))


def call_count(software: SoftwareSpec) -> int:
    """Kinds of calls in one place: those of all tasks, then a first and a later message of each way. Islands' follow."""
    return SEND + 1 + 2 * len(keys_of(software))


def call_of(software: SoftwareSpec, cost: PatternCost) -> int:
    """The call kind of a first message in such a way; later ones have the next."""
    return SEND + 1 + 2 * keys_of(software).index(cost.key)


def software_of(layers: Layers) -> Software:
    """Delays by call kind, for network and islands, with the jitter of each message."""
    return Software(calls_of(layers.software), layers.jitter_s)


def calls_of(software: SoftwareSpec) -> tuple[float, ...]:
    """[call kind] delay across the network, then inside islands."""
    keys = keys_of(software)
    return (*_call_costs(software.network, keys), *_call_costs(software.island, keys))


def _call_costs(place: PlaceCosts, keys: list[tuple[str, str]]) -> list[float]:
    """[call kind] delay; a way the library does not have in this place costs what its usual one does."""
    usual = place.patterns[0]
    known = {cost.key: cost for cost in place.patterns}
    chosen = [known.get(key, usual) for key in keys]
    return [0.0, usual.first_s, usual.step_s, place.send_s, *(s for cost in chosen for s in (cost.first_s, cost.step_s))]


def place_calls(tasks: Tasks, fabric: Fabric, software: SoftwareSpec) -> Tasks:
    """`tasks` with the calls inside islands told apart from those across the network."""
    from dataclasses import replace

    call = tasks.call.copy()
    calls = np.flatnonzero((tasks.kind == MESSAGE) & (call != NO_CALL))
    inside = calls[on_island(fabric, tasks.chip[calls], tasks.target[calls])]
    call[inside] += call_count(software)
    return replace(tasks, call=call)


def islands_of(fabric: Fabric, chips: Sequence[int]) -> list[int]:
    """The node of each chip as packets see it, numbered as they come: its island; without one it is alone."""
    others, label = np.asarray(chips), np.full(len(chips), -1)
    for place in range(len(others)):
        if label[place] < 0:
            inside = on_island(fabric, others, np.full(len(others), others[place]))
            inside[place] = True
            label[inside] = label.max(initial=-1) + 1
    return [int(number) for number in label]


def jitter_table(jitter: JitterSpec) -> tuple[float, ...]:
    """JITTER_POINTS equally likely delays, s: the quantile function at the middle of each share."""
    shares = (np.arange(JITTER_POINTS) + 0.5) / JITTER_POINTS
    return tuple(np.interp(shares, jitter.shares, jitter.delays_s).tolist())


def faults_of(network: PacketNetwork, fabric: Fabric) -> tuple[Fault, ...]:
    """Faults by link. Raises FabricError for an adapter or a port that is not there."""
    return tuple(Fault(fault.at_s, _faulty_link(fault, fabric), fault.speed_fraction) for fault in network.faults)


def _faulty_link(fault: LinkFault, fabric: Fabric) -> int:
    if (fault.chip is None) == (fault.switch is None):
        raise FabricError("network.faults: each needs a chip (and adapter) or a switch (and port)")
    if fault.chip is not None:
        kind, index, count, part, number = "chip", fault.chip, fabric.chip_count, "adapter", fault.adapter
    else:
        kind, index, part, number = "switch", fault.switch or 0, "port", fault.port
        count = fabric.vertex_count - fabric.chip_count
    if index >= count:
        raise FabricError(f"network.faults: no {kind} {index}: there are {count}")
    vertex = index + (fabric.chip_count if kind == "switch" else 0)
    first, end = fabric.first_link[vertex], fabric.first_link[vertex + 1]
    if first + number >= end:
        raise FabricError(f"network.faults: {kind} {index} has no {part} {number}: there are {end - first}")
    return int(first + number)
