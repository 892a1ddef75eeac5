"""The one interface of networks: made once for a topology and its fabric, then asked.

A network times iterations of a program, single collectives and copies, and says what it is built of. There are two kinds:
`scheduled.network` compiles a program into a schedule, `packet.network` simulates packets. Nobody else asks which one it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dcsim.fabric.graph import Fabric
from dcsim.llm.mapping import Mapping
from dcsim.llm.program import Shape
from dcsim.network.bill import NetworkBill
from dcsim.network.lockstep import LockStep
from dcsim.network.timing import Exchanged, InFlightTime, Iterations, IterationTime, Spans
from dcsim.network.wires import Wires
from dcsim.spec.price import TcoPrices
from dcsim.spec.topology import Topology

if TYPE_CHECKING:
    from dcsim.network.scheduled.iteration import CompiledIteration, InFlight


class Network(Protocol):
    """A network in place: `fabric` is the chips and all that joins them, `bare` the chips with their own cables.

    What needs a mapping (iterations, spans, schedules) asks the network `laid` with one.
    """

    @property
    def spec(self) -> Topology:
        """The topology it was made of."""

    @property
    def bare(self) -> Fabric:
        """The chips with the fabric's own cables."""

    @property
    def fabric(self) -> Fabric:
        """The chips with adapters and switches, where there are any."""

    def laid(self, mapping: Mapping) -> Network:
        """The same network under an LLM laid over its chips."""

    def times(self, shape: Shape, *, parts: bool = False) -> tuple[IterationTime, ...]:
        """Times of successive iterations of `shape`, from which a service draws; one where all are alike.

        Where their time goes is sure to be said only with `parts`, which takes longer.
        """

    def time(self, shape: Shape, *, parts: bool = False, few: bool = False) -> IterationTime:
        """Their mean; with `few` that of the first few, to tell which of two mappings is the faster one."""

    def iterations(self, shape: Shape, count: int = 0, *, packets_max: int = 0) -> Iterations:
        """`count` successive iterations (0: as many as the network says) with where their time goes.

        With `packets_max` no more than have so many packets in all, but one at least, and few where nothing disturbs them.
        One where all are alike.
        """

    def spans(self, shape: Shape) -> Spans:
        """The tasks of one iteration alone and when each begins and ends."""

    def link_busy_s(self, shape: Shape) -> NDArray[np.float64]:
        """[link] how long each directed link clocks out bytes in one iteration of the first replica, alone."""

    def link_queue_bytes(self, shape: Shape) -> NDArray[np.int64]:
        """[link] the longest queue that a packet meets before each link in that iteration; none where all is scheduled."""

    def schedule(self, shape: Shape) -> CompiledIteration:
        """The compiled schedule of one iteration. Raises SpecError where there is none."""

    def in_flight(self, shape: Shape) -> InFlight | None:
        """Micro-batches of `shape` at an interval, compiled so that none meet. Raises SpecError where there is no schedule."""

    def times_in_flight(self) -> Callable[[Shape], InFlightTime | None] | None:
        """What gives their times, after the proof that none meet (None for a shape: no interval was found). None where nothing
        has to be proved, as bytes wait for each other: there a micro-batch may follow as soon as chips are free.
        """

    def collective(
        self, op: str, size_bytes: int, chips: Sequence[int], algorithm: str = "auto", protocol: str = "auto"
    ) -> Exchanged:
        """One collective among `chips`, or one message (`send`) from the first to the last, alone on the network.

        Raises FabricError for an algorithm that the operation does not have, or a protocol that there is not.
        """

    def lockstep(self) -> LockStep:
        """Times iterations of whatever tokens there are, in lock step; SpecError where programs are compiled."""

    def recompile_s(self, programs: int) -> float:
        """How long it takes to compile so many programs again for chips that have moved; 0 where nothing is compiled."""

    def wires(self) -> Wires:
        """What each link takes to carry bulk data."""

    def link_payload_bytes_per_s(self) -> Any:
        """Payload one link carries one way: a number, or [link] where links differ."""

    def bill(self, prices: TcoPrices | None = None) -> NetworkBill:
        """What it is built of, at its own prices or at those given."""

    def conditions(self) -> dict[str, str | None]:
        """Under what it is compared: `fairness`, `jitter` and `jitter_description`; None where they mean nothing to it."""


def make_network(spec: Topology, fabric: Fabric, mapping: Mapping | None = None, seed: int = 1) -> Network:
    """The network that `spec` names, on chips with their own cables; its adapters and switches are put in place here, once.

    `seed` is that of what it draws, if it does. Raises FabricError where it cannot join the chips.
    """
    return _MAKERS[spec.network.kind](spec, fabric, mapping, seed)


def draws(spec: Topology) -> bool:
    """Whether the network that `spec` names draws anything, so that another seed gives other times."""
    return spec.network.kind != "scheduled"


def _scheduled(spec: Topology, fabric: Fabric, mapping: Mapping | None, _: int) -> Network:
    from dcsim.network.scheduled.network import CompiledNetwork

    return CompiledNetwork.make(spec, fabric, mapping)


def _packet(spec: Topology, fabric: Fabric, mapping: Mapping | None, seed: int) -> Network:
    from dcsim.network.packet.network import SimulatedNetwork

    return SimulatedNetwork.make(spec, fabric, mapping, seed)


_MAKERS: dict[str, Callable[[Topology, Fabric, Mapping | None, int], Network]] = {"scheduled": _scheduled, "packet": _packet}
