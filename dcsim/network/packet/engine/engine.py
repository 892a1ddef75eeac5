"""The packet engine: tasks and a fabric go in, one simulated iteration at a time comes out.

    engine = Engine(fabric, figures, tasks_or_flows, software, seed=1)
    for replication in range(100):
        iteration = engine.iteration(replication)

Iterations follow each other on the same network: queues and cross traffic carry over unless `fresh` is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dcsim.errors import FabricError
from dcsim.fabric.graph import Fabric
from dcsim.network.packet.engine import setup
from dcsim.network.packet.engine.breakdown import PARTS, critical_path
from dcsim.network.packet.engine.breakdown_kernel import collect
from dcsim.network.packet.engine.loop_kernel import CUT_OFF, FINISHED, STUCK, run_iteration
from dcsim.network.packet.engine.progress_kernel import reset_tasks
from dcsim.network.packet.engine.rules import Fault, PacketRules, Software
from dcsim.network.packet.engine.state import COUNTED, FAULT_PLACE, RELEASE_PLACE, SAMPLE_PLACE
from dcsim.network.packet.engine.traffic import Flows
from dcsim.network.packet.engine.wheel_kernel import add, empty
from dcsim.network.tasks import MESSAGE, Tasks

JITTER_STREAM, ROUTING_STREAM = 1, 2


@dataclass(frozen=True, slots=True)
class LinkUse:
    """What each link did during one iteration; arrays over links."""

    bytes: Any  # sent, headers included
    packets: Any
    busy_ps: Any
    peak_queue_bytes: Any  # longest queue met by a packet
    drops: Any
    dropped_bytes: Any
    marks: Any
    pauses: Any
    ack_bytes: Any  # of acknowledgements, not in `bytes`
    retries: Any  # packets that the link itself sent again


@dataclass(frozen=True, slots=True)
class SimulatedIteration:
    """One iteration's times, in ps from its start; arrays over tasks. A message's parts are those of its packet
    that arrived last: columns PARTS of `parts_ps`, summing to `last_ps - start_ps`; a computing task's is what it holds
    of the critical path.

    `start_ps` of a message is when its data was ready (before software), `critical_ps` splits `finish_ps`
    along the critical path, one number for each of PARTS.
    """

    finish_ps: int
    start_ps: Any
    first_ps: Any
    last_ps: Any
    parts_ps: Any  # int64[task, part]
    critical_ps: Any  # int64[part]
    links: LinkUse
    packet_hops: int
    packets: int
    resent: int

    @property
    def breakdown_s(self) -> dict[str, float]:
        """The critical path's parts in seconds; they sum to the finish time."""
        return {name: int(value) / 1e12 for name, value in zip(PARTS, self.critical_ps, strict=True)}


class Engine:
    """A network with its state; `iteration` runs the tasks once. Raises FabricError for what cannot be built.

    `cross_load` is [link] the share that cross traffic offers beyond that of the link's class. `sample_s` is how often
    queues are looked at (`queues`), in seconds; 0 is never. Looking changes nothing, but that each iteration then starts
    on an idle network.
    """

    def __init__(
        self,
        fabric: Fabric,
        figures: PacketRules,
        work: Tasks | Flows,
        software: Software | None = None,
        *,
        faults: tuple[Fault, ...] = (),
        seed: int = 0,
        cross_load: Any = None,
        sample_s: float = 0.0,
    ) -> None:
        tasks, release_s = (work.tasks(), work.release_s) if isinstance(work, Flows) else (work, None)
        _check(fabric, tasks)
        self.fabric, self.tasks, self.seed = fabric, tasks, seed
        self.software = software or Software()
        self._sample_ps = setup.ps(sample_s)
        self._state = setup.build_state(fabric, figures, tasks, release_s, faults, cross_load, sampled=self._sample_ps > 0)
        self._idle_links, self._idle_queues = self._state.links.copy(), self._state.queues.copy()
        self._release_ps = self._state.spans["release"].copy()
        self._messages = np.flatnonzero(tasks.kind == MESSAGE)
        self._start_over()

    def _start_over(self) -> None:
        """An idle network at time 0."""
        s = self._state
        s.links[:] = self._idle_links
        s.queues[:] = self._idle_queues
        s.pairs[:] = setup.make_pairs(len(s.pairs))
        s.windows[:] = setup.make_windows(len(s.windows), s.rules)
        s.pull_free[:], s.landed[:] = 0, 0
        empty(s.wheel)
        s.tally["epoch"] = 0
        self._began = self._base = 0
        for index, fault in enumerate(s.faults):
            add(s.wheel, int(fault["at_ps"]), len(s.links) + FAULT_PLACE, index)

    def iteration(self, replication: int = 0, *, fresh: bool = False) -> SimulatedIteration:
        """Run the tasks once from where the last iteration ended, or on an idle network if `fresh`.

        Raises FabricError when a message is cut off, or when the network locks up.
        """
        if fresh or self._sample_ps:
            self._start_over()
        jitter = self._prepare(replication)
        status = run_iteration(self._state)
        if status != FINISHED:
            raise FabricError(self._why(status))
        return self._report(jitter)

    def answered_ps(self) -> Any:
        """[task] when the sender of each message of the last iteration had its last acknowledgement, ps from its start.

        That is the way back later than its packets' arrival, cables, switches and adapters; 0 for other tasks.
        """
        packets, answered = self._state.packets, np.zeros(len(self.tasks), np.int64)
        np.maximum.at(answered, packets["message"], packets["tail"] + packets["wire"] + packets["switch"] - self._began)
        return answered

    def queues(self) -> tuple[Any, Any]:
        """(times in s from the start of the last iteration, [time, link] bytes queued at each link, what is being sent included).

        Times are `sample_s` apart, or twice, four times ... that where the iteration was long. Empty without `sample_s`.
        """
        tally, links = self._state.tally[0], self._state.links
        seen = self._state.samples[: int(tally["sampled"])]
        times_s = np.arange(len(seen)) * (int(tally["sample_ps"]) / 1e12)
        return times_s, np.rint(seen * 1000.0 / links["fs_per_byte"]).astype(np.int64)

    def delivered_bytes(self, begin_s: float, end_s: float) -> int:
        """Bytes of data (headers not counted) that arrived in the last iteration from `begin_s` until before `end_s`."""
        packets, header = self._state.packets, int(self._state.rules["header"][0])
        at_s = (packets["tail"] - self._began) / 1e12
        inside = (at_s >= begin_s) & (at_s < end_s)
        return int((packets["bytes"][inside].astype(np.int64) - header).sum())

    def _prepare(self, replication: int) -> Any:
        """Reset the tasks, draw the jitter and set the first event; returns the jitter of each task, ps."""
        s = self._state
        for name in ("hops", "resent", "root", "culprit"):
            s.tally[name] = 0
        for name in COUNTED:
            s.links[name] = 0
        s.rules["seed"] = _seed(self.seed, ROUTING_STREAM, replication)
        jitter = self._draw_jitter(replication)
        calls = np.array([setup.ps(x) for x in self.software.call_s], np.int64)
        delay = jitter.copy()
        delay[self._messages] += calls[self.tasks.call[self._messages]]
        reset_tasks(s, self._base, self._release_ps, delay)
        add(s.wheel, self._base, len(s.links) + RELEASE_PLACE, 0)
        if self._sample_ps:
            s.tally["sampled"], s.tally["sample_ps"] = 0, self._sample_ps
            add(s.wheel, self._base, len(s.links) + SAMPLE_PLACE, 0)
        return jitter

    def _draw_jitter(self, replication: int) -> Any:
        jitter = np.zeros(len(self.tasks), np.int64)
        if self.software.jitter_s:
            table = np.rint(np.array(self.software.jitter_s) * setup.PS).astype(np.int64)
            random = np.random.default_rng([self.seed, JITTER_STREAM, replication])
            jitter[self._messages] = table[random.integers(len(table), size=len(self._messages))]
        return jitter

    def _report(self, jitter: Any) -> SimulatedIteration:
        s, base, tally = self._state, self._base, self._state.tally[0]
        links = s.links
        times = np.empty((3, len(self.tasks)), np.int64)
        parts = np.zeros((len(self.tasks), len(PARTS)), np.int64)
        collect(s, base, jitter, times, parts)
        finish = base + int(times[2].max(initial=0))
        critical = critical_path(s, parts, base)
        peak = np.rint(links["peak_ps"] * 1000.0 / links["fs_per_byte"]).astype(np.int64)
        use = LinkUse(
            bytes=links["bytes"].copy(),
            packets=links["packets"].copy(),
            busy_ps=links["busy"].copy(),
            peak_queue_bytes=peak,
            drops=links["drops"].copy(),
            dropped_bytes=links["dropped_bytes"].copy(),
            marks=links["marks"].copy(),
            pauses=links["pauses"].astype(np.int64),
            ack_bytes=links["ack_bytes"].copy(),
            retries=links["retries"].astype(np.int64),
        )
        self._began, self._base = base, finish
        return SimulatedIteration(
            finish_ps=finish - base,
            start_ps=times[0],
            first_ps=times[1],
            last_ps=times[2],
            parts_ps=parts,
            critical_ps=critical,
            links=use,
            packet_hops=int(tally["hops"]),
            packets=len(s.packets),
            resent=int(tally["resent"]),
        )

    def _why(self, status: int) -> str:
        tally, tasks = self._state.tally[0], self._state.tasks
        if status == CUT_OFF:
            message = tasks[int(tally["culprit"])]
            return f"chip {message['source']} is cut off from chip {message['target']}: links on every way there are down"
        if status == STUCK:
            return f"the network is locked up with {int(tally['open'])} tasks not complete"
        return "a path needs more virtual channels than were laid out"


def _seed(*parts: int) -> int:
    """A well mixed non-negative number below 2**62 from a few small ones."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(2))


def _check(fabric: Fabric, tasks: Tasks) -> None:
    """Every message must have two different ends in the fabric."""
    message = tasks.kind == MESSAGE
    source, target = tasks.chip[message], tasks.target[message]
    bad = np.flatnonzero(
        (source == target) | (target < 0) | (target >= fabric.chip_count) | (source < 0) | (source >= fabric.chip_count)
    )
    if len(bad):
        raise FabricError(
            f"a message goes from chip {source[bad[0]]} to chip {target[bad[0]]}: "
            f"two different chips below {fabric.chip_count} are needed"
        )
