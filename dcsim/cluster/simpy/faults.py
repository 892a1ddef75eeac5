"""Parts that fail, spares that take over, and the work that is lost."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy

from dcsim.cluster.simpy.events import Environment, call_at
from dcsim.errors import CapacityError
from dcsim.fabric.graph import Fabric
from dcsim.results.records import Table
from dcsim.spec.faults import FaultsSpec
from dcsim.units import PS_PER_S, to_ps
from dcsim.workload.streams import stream

# Stops a replica or a host server until a time; returns how many requests lost work.
Stop = Callable[[int, int, str], int]


@dataclass(slots=True)
class Faults:
    """Strikes parts at given times and at random; a failed node is replaced by its rack's spare while there is one.

    Without a spare the node itself must be repaired first. Either way its weights are loaded again (`reload_ps`).
    A link between two switches stops nothing here: whether routes around it are slower is a matter of the network.
    """

    env: Environment
    spec: FaultsSpec
    fabric: Fabric
    replica_chips: tuple[tuple[int, ...], ...]
    host_count: int
    reload_ps: int
    stop_replica: Stop
    stop_host: Stop
    _spares: list[int]
    _rows: list[tuple[int, str, int, int, int, int]]

    @classmethod
    def start(
        cls,
        env: Environment,
        spec: FaultsSpec,
        fabric: Fabric,
        replica_chips: tuple[tuple[int, ...], ...],
        host_count: int,
        reload_ps: int,
        stop_replica: Stop,
        stop_host: Stop,
        seed: int,
    ) -> Faults:
        """Set all planned failures and begin the random ones."""
        chips = np.arange(fabric.chip_count)
        idle = np.unique(np.stack([fabric.rack_of[chips], fabric.node_of[chips]])[:, ~fabric.chip_active], axis=1)
        spares = np.bincount(idle[0], minlength=int(fabric.rack_of.max()) + 1).tolist()
        faults = cls(env, spec, fabric, replica_chips, host_count, reload_ps, stop_replica, stop_host, spares, [])
        counts = {part: count for part, count, _ in faults._at_random()}
        for event in spec.events:
            if event.index >= counts[event.part]:
                there = counts[event.part]
                raise CapacityError(f"faults.events: no {event.part} {event.index}, there are {there}", event.index + 1, there)
            faults._plan(to_ps(event.at_s), event.part, event.index)
        for part, count, mtbf_s in faults._at_random():
            if mtbf_s:
                env.process(faults._strike_at_random(part, count, mtbf_s, stream(seed, f"faults.{part}")))
        return faults

    def table(self) -> Table:
        """One row a failure and replica it stopped."""
        return fault_rows(self._rows)

    def _at_random(self) -> list[tuple[str, int, float]]:
        """(part, how many there are, mean time between failures of one)."""
        spec, fabric = self.spec, self.fabric
        nodes = int(fabric.node_of.max()) + 1
        return [
            ("chip", fabric.chip_count, spec.chip_mtbf_s),
            ("node", nodes, spec.node_mtbf_s),
            ("host", self.host_count, spec.host_mtbf_s),
            ("link", fabric.link_count, spec.link_mtbf_s),
        ]

    def _plan(self, at: int, part: str, index: int) -> None:
        call_at(self.env, at, lambda _: self._strike(part, index))

    def _strike_at_random(
        self, part: str, count: int, mtbf_s: float, random: np.random.Generator
    ) -> Generator[simpy.Event, Any, None]:
        while True:
            yield self.env.timeout(max(1, to_ps(float(random.exponential(mtbf_s / count)))))
            self._strike(part, int(random.integers(count)))

    def _strike(self, part: str, index: int) -> None:
        label = f"fault of {part} {index}"
        if part == "host":
            hit = self.stop_host(index, self.env.now + to_ps(self.spec.repair_s), label)
            self._rows.append((self.env.now, part, index, -1, to_ps(self.spec.repair_s), hit))
            return
        node = self._node(part, index)
        stopped = self._replicas_of(node)
        down = self._replace(node) if stopped or node >= 0 else 0
        for replica in stopped:
            hit = self.stop_replica(replica, self.env.now + down, label)
            self._rows.append((self.env.now, part, index, replica, down, hit))
        if not stopped:
            self._rows.append((self.env.now, part, index, -1, 0, 0))

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
        wait = repair
        if self._spares[rack]:
            self._spares[rack] -= 1
            call_at(self.env, self.env.now + repair, lambda _: self._return_spare(rack))
            wait = to_ps(spec.detect_s)
        return wait + self.reload_ps

    def _return_spare(self, rack: int) -> None:
        self._spares[rack] += 1


def fault_rows(rows: list[tuple[int, str, int, int, int, int]]) -> Table:
    """The table of failures from (ps, part, index, replica, ps stood still, requests hit)."""
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [[]] * 6
    return {
        "time_s": np.array(columns[0], float) / PS_PER_S,
        "part": np.array(columns[1], "U4"),
        "index": np.array(columns[2], np.int64),
        "replica": np.array(columns[3], np.int64),
        "down_s": np.array(columns[4], float) / PS_PER_S,
        "requests_hit": np.array(columns[5], np.int64),
    }
