"""A packet network in place: its iterations, collectives and copies are simulated packet by packet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import Problem, SpecError
from dcsim.fabric.graph import Fabric
from dcsim.llm.mapping import Mapping
from dcsim.llm.program import Shape
from dcsim.network.bill import NetworkBill
from dcsim.network.lockstep import LockStep
from dcsim.network.packet.bill import packet_bill
from dcsim.network.packet.collective import packet_collective, packet_collective_parts
from dcsim.network.packet.engine.setup import link_bandwidths
from dcsim.network.packet.iteration import (
    PACKETS_MAX,
    Attached,
    disturbed,
    packet_link_busy_s,
    packet_link_queue_bytes,
    packet_spans,
    run_packets,
)
from dcsim.network.packet.rules_of import layers_of
from dcsim.network.packet.switches import attach, bonded
from dcsim.network.packet.wires import packet_wires
from dcsim.network.timing import Exchanged, Iterations, IterationTime, Spans
from dcsim.network.wires import Wires
from dcsim.spec.network import PacketNetwork
from dcsim.spec.price import TcoPrices
from dcsim.spec.topology import Topology

FEW = 4  # iterations that tell two mappings apart; one where nothing disturbs them
FEW_PACKETS = 300_000  # of those together, but one iteration at least: the more packets, the less one differs from the next
ALIKE = 1e-3  # share of an iteration


@dataclass(frozen=True)
class SimulatedNetwork:
    """See `network.Network`. `attached` holds the figures of one adapter's link, `lanes` the ports that stands for."""

    spec: Topology
    bare: Fabric
    fabric: Fabric
    attached: PacketNetwork
    lanes: float
    mapping: Mapping | None = None
    seed: int = 1

    @classmethod
    def make(cls, spec: Topology, bare: Fabric, mapping: Mapping | None = None, seed: int = 1) -> SimulatedNetwork:
        """The network of `spec` with its adapters and switches in place. Raises FabricError where they cannot join the chips."""
        own = packet_section(spec)
        attached, fabric = attach(own, bare)
        return cls(spec, bare, fabric, attached, 1.0 if attached is own else bonded(own, attached), mapping, seed)

    def laid(self, mapping: Mapping) -> SimulatedNetwork:
        """The same network under an LLM laid over its chips."""
        return replace(self, mapping=mapping)

    def times(self, shape: Shape, *, parts: bool = False) -> tuple[IterationTime, ...]:
        """Times of successive iterations, from which a service draws: `network.replications`, or fewer.

        No more than PACKETS_MAX packets in all, but one iteration at least: the more packets it has, the less it differs
        from the next. Where nothing disturbs the network, a block of `serving.draw_block`, or a single iteration if the
        second takes as long as the first but for ALIKE: idle networks of all kinds repeat themselves to a few in 10,000.
        """
        if disturbed(self.attached):
            return self.iterations(shape, packets_max=PACKETS_MAX).times()
        count = min(self.attached.replications, self.spec.serving.draw_block)
        times = self.iterations(shape, min(count, 2), packets_max=PACKETS_MAX).times()
        if abs(times[0].latency_ps - times[-1].latency_ps) <= ALIKE * times[0].latency_ps:
            return times[:1]
        return self.iterations(shape, count, packets_max=PACKETS_MAX).times()

    def time(self, shape: Shape, *, parts: bool = False, few: bool = False) -> IterationTime:
        """The mean of `times`, or of the first FEW iterations of those."""
        if few:
            times = self.iterations(
                shape, min(self.attached.replications, FEW if disturbed(self.attached) else 1), packets_max=FEW_PACKETS
            ).times()
        else:
            times = self.times(shape)
        count = len(times)
        return IterationTime(
            round(sum(time.latency_ps for time in times) / count),
            round(sum(time.occupancy_ps for time in times) / count),
            sum(time.work_j for time in times) / count,
            {part: sum(time.breakdown_s[part] for time in times) / count for part in times[0].breakdown_s},
        )

    def iterations(self, shape: Shape, count: int = 0, *, packets_max: int = 0) -> Iterations:
        """`count` successive iterations of the first replica; 0: `network.replications`. See `run_packets`."""
        return run_packets(self._in_place, self._mapping, shape, count, self.seed, packets_max)

    def spans(self, shape: Shape) -> Spans:
        """The tasks of one iteration on an idle network, and when each begins and ends."""
        return packet_spans(self._in_place, self._mapping, shape, self.seed)

    def link_busy_s(self, shape: Shape) -> NDArray[np.float64]:
        """[link] time taken by its packets, headers included, in one iteration on an idle network."""
        return packet_link_busy_s(self._in_place, self._mapping, shape, self.seed)

    def link_queue_bytes(self, shape: Shape) -> NDArray[np.int64]:
        """[link] the longest queue met in one iteration on an idle network."""
        return packet_link_queue_bytes(self._in_place, self._mapping, shape, self.seed)

    def schedule(self, shape: Shape) -> NoReturn:
        """There is none."""
        raise SpecError(f"network '{self.spec.network.name}' moves packets: there is no schedule to compile")

    def in_flight(self, shape: Shape) -> NoReturn:
        """There is no schedule."""
        self.schedule(shape)

    def times_in_flight(self) -> None:
        """Packets wait for each other: nothing has to be proved."""

    def collective(
        self, op: str, size_bytes: int, chips: Sequence[int], algorithm: str = "auto", protocol: str = "auto"
    ) -> Exchanged:
        """One collective, `network.replications` times on an otherwise idle network."""
        return packet_collective(self._in_place, op, size_bytes, chips, algorithm, protocol, self.seed)

    def lockstep(self) -> LockStep:
        """Iterations of whatever tokens there are; collectives are simulated alone on the network."""
        stages = self._mapping.stage_chips
        # A message to the next stage goes between chips of the same shard; all else stays among a stage's.
        chips = {"send": (stages[0][0], stages[1][0])} if len(stages) > 1 else {}
        place = self._in_place
        return LockStep(
            self.spec,
            self._mapping,
            lambda op, size_bytes, count: packet_collective_parts(
                place, op, size_bytes, chips.get(op, stages[0][:count]), self.seed
            ),
        )

    def recompile_s(self, programs: int) -> float:
        """Packets find their way by themselves."""
        return 0.0

    def wires(self) -> Wires:
        """What each link takes to carry whole packets."""
        return packet_wires(self._in_place)

    def link_payload_bytes_per_s(self) -> NDArray[np.float64]:
        """[link] payload one way: packets less their headers."""
        network, figures = self.attached, self._in_place.layers.figures
        share = network.mtu_bytes / (network.mtu_bytes + network.header_bytes)
        return np.asarray(link_bandwidths(self.fabric, figures) * share)

    def bill(self, prices: TcoPrices | None = None) -> NetworkBill:
        """Its adapters, switch ports and cables; what one link stands for counts as so many ports."""
        return packet_bill(self.attached, self.fabric, self.lanes, prices or self.attached.prices, self.spec.power.copper_m)

    def conditions(self) -> dict[str, str | None]:
        """Under what conditions it is compared."""
        network, jitter = self.attached, self.attached.jitter
        return {
            "fairness": network.fairness,
            "jitter": jitter.name if jitter else "off",
            "jitter_description": jitter.description if jitter else "",
        }

    @cached_property
    def _in_place(self) -> Attached:
        layers = layers_of(self.attached, self.fabric, self.spec.node.island)
        return Attached(self.spec, self.attached, self.fabric, layers)

    @property
    def _mapping(self) -> Mapping:
        assert self.mapping is not None, "no LLM is laid over this network"
        return self.mapping


def packet_section(spec: Topology) -> PacketNetwork:
    """The spec's network if it moves packets; SpecError if it is compiled."""
    if not isinstance(spec.network, PacketNetwork):
        what = f"network '{spec.network.name}' moves no packets"
        mend = "name one that does, for example --interconnect infiniband-ndr"
        raise SpecError(Problem("network", what, mend))
    return spec.network
