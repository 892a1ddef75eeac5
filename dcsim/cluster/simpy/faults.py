"""Parts that fail, spares that take over: each failure is a process that interrupts what it stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import simpy

from dcsim.cluster.rows import fault_rows
from dcsim.cluster.simpy.environment import Environment, Process
from dcsim.cluster.simpy.outage import Outage
from dcsim.errors import CapacityError
from dcsim.fabric.graph import Fabric
from dcsim.results.records import Table
from dcsim.spec.faults import FaultsSpec
from dcsim.units import to_ps
from dcsim.workload.streams import stream


@dataclass(slots=True)
class Faults:
    """Strikes parts at given times and at random; a failed node is replaced by its rack's spare while there is one.

    Without a spare the node itself must be repaired first. Either way its weights are loaded again (`reload_ps`); for a spare all
    programs are compiled again meanwhile (`recompile_ps`).
    A link between two switches stops nothing here: whether routes around it are slower is a matter of the network.
    `replicas` and `hosts` are the processes of the parts, which are interrupted with an `Outage`.
    """

    env: Environment
    spec: FaultsSpec
    fabric: Fabric
    replica_chips: tuple[tuple[int, ...], ...]
    reload_ps: int
    recompile_ps: int
    replicas: Sequence[simpy.Process]
    hosts: Sequence[simpy.Process]
    _spares: list[int] = field(init=False)  # by rack
    _rows: list[tuple[int, str, int, int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        fabric, chips = self.fabric, np.arange(self.fabric.chip_count)
        idle = np.unique(np.stack([fabric.rack_of[chips], fabric.node_of[chips]])[:, ~fabric.chip_active], axis=1)
        self._spares = np.bincount(idle[0], minlength=int(fabric.rack_of.max()) + 1).tolist()

    def start(self, seed: int) -> None:
        """Begin all failures, planned and random; CapacityError where a planned one names a part that is not there."""
        counts = {part: count for part, count, _ in self._parts()}
        for event in self.spec.events:
            if event.index >= counts[event.part]:
                there = counts[event.part]
                raise CapacityError(f"faults.events: no {event.part} {event.index}, there are {there}", event.index + 1, there)
            self.env.process(self._planned(to_ps(event.at_s), event.part, event.index))
        for part, count, mtbf_s in self._parts():
            if mtbf_s:
                self.env.process(self._at_random(part, count, mtbf_s, stream(seed, f"faults.{part}")))

    def table(self) -> Table:
        """One row a failure and replica it stopped."""
        return fault_rows(self._rows)

    def _parts(self) -> list[tuple[str, int, float]]:
        """(part, how many there are, mean time between failures of one)."""
        spec, fabric = self.spec, self.fabric
        nodes = int(fabric.node_of.max()) + 1
        return [
            ("chip", fabric.chip_count, spec.chip_mtbf_s),
            ("node", nodes, spec.node_mtbf_s),
            ("host", len(self.hosts), spec.host_mtbf_s),
            ("link", fabric.link_count, spec.link_mtbf_s),
        ]

    def _planned(self, at_ps: int, part: str, index: int) -> Process:
        yield self.env.timeout(at_ps)
        yield from self._strike(part, index)

    def _at_random(self, part: str, count: int, mtbf_s: float, random: np.random.Generator) -> Process:
        while True:
            yield self.env.timeout(max(1, to_ps(float(random.exponential(mtbf_s / count)))))
            yield from self._strike(part, int(random.integers(count)))

    def _strike(self, part: str, index: int) -> Process:
        """The part fails now: interrupt what it stops, and note what that cost once all have heard of it."""
        now = self.env.now
        if part == "host":
            stopped, down = {-1: self.hosts[index]}, to_ps(self.spec.repair_s)
        else:
            node = self._node(part, index)
            stopped = {replica: self.replicas[replica] for replica in self._replicas_of(node)}
            down = self._replace(node) if node >= 0 else 0
        outages = {replica: Outage(now + down, f"fault of {part} {index}") for replica in stopped}
        for replica, process in stopped.items():
            process.interrupt(outages[replica])
        yield self.env.timeout(0)
        self._rows += [(now, part, index, replica, down, outage.hit) for replica, outage in outages.items()]
        if not stopped:
            self._rows.append((now, part, index, -1, 0, 0))

    def _node(self, part: str, index: int) -> int:
        """The node a failure takes out; -1 for none."""
        fabric = self.fabric
        if part == "node":
            return index
        if part == "chip":
            return int(fabric.node_of[index])
        ends = (int(fabric.link_source[index]), int(fabric.link_target[index]))
        return next((int(fabric.node_of[end]) for end in ends if end < fabric.chip_count), -1)

    def _replicas_of(self, node: int) -> list[int]:
        chips = set(np.flatnonzero(self.fabric.node_of[: self.fabric.chip_count] == node).tolist())
        return [i for i, of_replica in enumerate(self.replica_chips) if chips.intersection(of_replica)]

    def _replace(self, node: int) -> int:
        """Use up a spare of the node's rack until the node is repaired; returns how long its work stands still."""
        fabric, spec = self.fabric, self.spec
        chip = int(np.flatnonzero(fabric.node_of == node)[0])
        rack, repair = int(fabric.rack_of[chip]), to_ps(spec.repair_s)
        wait = repair + self.reload_ps
        if self._spares[rack]:
            self._spares[rack] -= 1
            self.env.process(self._repair(rack, repair))
            wait = to_ps(spec.detect_s) + max(self.reload_ps, self.recompile_ps)
        return wait

    def _repair(self, rack: int, repair_ps: int) -> Process:
        """A failed node is repaired, and is its rack's spare from then on."""
        yield self.env.timeout(repair_ps)
        self._spares[rack] += 1
