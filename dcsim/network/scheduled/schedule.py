"""The compiled schedule: which vector is on which link in which cycle, as bursts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import FabricError
from dcsim.fabric.graph import Fabric
from dcsim.network.scheduled.figures import Figures
from dcsim.network.tasks import MESSAGE, Tasks

Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Struct of arrays over tasks, flows and bursts. Cycles count from the program's epoch.

    A flow carries vectors `first_vector + j * vector_step` (j < vectors) of one message over one path; its
    bursts `burst_offset[f]:burst_offset[f + 1]` are the links of the path in order. Vector j of the flow is on
    link `burst_link[b]` from `burst_start[b] + j * stride` for one slot.
    """

    start: Int64  # [task] an operation starts; a message's first vector is ready
    first_out: Int64  # [task] first output vector, or a line no arrival of the message is behind
    last_out: Int64  # [task] last output vector, or last arrival
    flow_task: Int32  # [flow] the message
    first_vector: Int32  # [flow]
    vector_step: Int32  # [flow]
    vectors: Int32  # [flow] how many
    stride: Int64  # [flow] cycles between vectors
    burst_offset: Int64  # [flow + 1]
    burst_link: Int32  # [burst]
    burst_start: Int64  # [burst] cycle in which the first vector leaves
    slot_cycles: int
    critical_cycles: int  # longest chain of tasks, each message alone on the paths it was given
    busiest_link_cycles: int  # most link time on one link, and the ends any vector on it has to pass

    @property
    def makespan_cycles(self) -> int:
        """Epoch to the last output of any task."""
        return int(self.last_out.max(initial=0))

    @property
    def bound_cycles(self) -> int:
        """No schedule on these paths ends sooner: the critical path or the busiest link."""
        return max(self.critical_cycles, self.busiest_link_cycles)

    @property
    def hops(self) -> Int64:
        """[flow] links of each flow's path."""
        return np.diff(self.burst_offset)

    @property
    def vector_hops(self) -> int:
        """Link slots used: every vector counts once on every link."""
        return int(np.dot(self.vectors.astype(np.int64), self.hops))

    def link_cycles(self, link_count: int) -> Int64:
        """[link] cycles in which each link carries a vector."""
        weights = np.repeat(self.vectors, self.hops)
        return np.bincount(self.burst_link, weights, link_count).astype(np.int64) * self.slot_cycles

    def report(self) -> dict[str, float]:
        """Size and quality in a few numbers; `bound_ratio` is makespan over bound."""
        makespan, bound = self.makespan_cycles, self.bound_cycles
        busy = self.link_cycles(int(self.burst_link.max(initial=-1)) + 1)
        return {
            "makespan_cycles": makespan,
            "bound_cycles": bound,
            "bound_ratio": makespan / bound if bound else 1.0,
            "critical_cycles": self.critical_cycles,
            "busiest_link_cycles": self.busiest_link_cycles,
            "tasks": len(self.start),
            "bursts": len(self.burst_link),
            "vector_hops": self.vector_hops,
            "link_use_fraction_max": float(busy.max(initial=0)) / makespan if makespan else 0.0,
        }


def message_vectors(tasks: Tasks, figures: Figures) -> Int32:
    """[task] vectors of each message, 0 for compute (see Figures.vectors)."""
    vectors = np.maximum(1, -(-tasks.size_bytes // figures.vector_bytes))
    return np.where(tasks.kind == MESSAGE, vectors, 0).astype(np.int32)


def compile_schedule(tasks: Tasks, fabric: Fabric, figures: Figures) -> Schedule:
    """Give every vector of `tasks` its links and cycles: no conflict, dependencies kept, transit buffers kept.

    The task that can start first is placed first; of equals the one with most work behind it. Minimal paths are
    compiled first; where detours could relieve the busiest link, vectors are also spread over them as they arrive
    soonest, and the shorter schedule is returned. Same input, same bytes. Raises FabricError when a message
    cannot reach its target.
    """
    minimal = _compile(tasks, fabric, replace(figures, detours_max=0))
    if not figures.detours_max or not _detours_relieve(minimal, fabric):
        return minimal
    spread = _compile(tasks, fabric, figures)
    return spread if spread.makespan_cycles < minimal.makespan_cycles else minimal


def _detours_relieve(schedule: Schedule, fabric: Fabric) -> bool:
    """Whether some way over a third vertex is at most half as loaded as the busiest link."""
    load = schedule.link_cycles(fabric.link_count)
    if not load.any():
        return False
    busiest = int(load.argmax())
    source, target = int(fabric.link_source[busiest]), int(fabric.link_target[busiest])
    first, then = _lightest(fabric, load, source), _lightest(fabric, load[fabric.reverse], target)
    ways = [max(first[via], then[via]) for via in first if via in then and via != target]
    return bool(ways) and min(ways) <= load[busiest] // 2


def _lightest(fabric: Fabric, load: Int64, vertex: int) -> dict[int, int]:
    """Neighbour -> load of the least loaded link from `vertex` to it (with `load[reverse]`: from it to `vertex`)."""
    found: dict[int, int] = {}
    for link in range(int(fabric.first_link[vertex]), int(fabric.first_link[vertex + 1])):
        other = int(fabric.link_target[link])
        found[other] = min(found.get(other, int(load[link])), int(load[link]))
    return found


def _compile(tasks: Tasks, fabric: Fabric, figures: Figures) -> Schedule:
    from dcsim.network.scheduled import compile_kernel as kernel
    from dcsim.network.scheduled.flows_kernel import Ways, make_flows
    from dcsim.network.scheduled.links_kernel import LOAD, make_links

    vectors = message_vectors(tasks, figures)
    row, distance, hops = _distances(tasks, fabric, vectors)
    ways = Ways(fabric.first_link, fabric.link_target, row, distance, figures.hop_cycles, figures.forward_cycles,
                figures.send_cycles, figures.receive_cycles, figures.buffer_vectors * figures.slot_cycles,
                figures.detours_max)
    table = np.zeros((len(tasks), 8), np.int64)
    table[:, 0], table[:, 1], table[:, 2] = tasks.chip, tasks.target, vectors
    table[:, 3], table[:, 4] = tasks.first_cycles, tasks.last_cycles
    table[:, 5], table[:, 6] = tasks.rows, tasks.lead_rows
    program = kernel.Program(table, tasks.before_start, tasks.before)
    slot = figures.slot_cycles
    offset, after = kernel.successors(program)
    remaining = kernel.remaining_cycles(program, ways, slot, offset, after)
    order = np.argsort(-remaining, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    times = np.empty((len(tasks), 8), np.int64)
    out, links = kernel.place_all(program, ways, order, rank, offset, after,
                                  make_links(fabric.link_count, slot, hops), make_flows(64 + len(tasks), 64 + hops), times)
    flows, bursts = out.flows[: out.used[0]], out.bursts[: out.used[1]]
    load = int(links.state[:, LOAD].max(initial=0))
    return Schedule(
        start=times[:, 0].copy(), first_out=times[:, 1].copy(), last_out=times[:, 2].copy(),
        flow_task=flows[:, 0].astype(np.int32), first_vector=flows[:, 1].astype(np.int32),
        vector_step=flows[:, 2].astype(np.int32), vectors=flows[:, 3].astype(np.int32),
        stride=flows[:, 4].copy(), burst_offset=np.concatenate([np.zeros(1, np.int64), flows[:, 5]]),
        burst_link=bursts[:, 0].astype(np.int32), burst_start=bursts[:, 1].copy(), slot_cycles=slot,
        critical_cycles=int(kernel.critical_cycles(program, ways, times)),
        busiest_link_cycles=load - slot + figures.path_cycles(1) if load else 0,
    )


def _distances(tasks: Tasks, fabric: Fabric, vectors: Int32) -> tuple[Int32, NDArray[np.int8], int]:
    """Hops to every target of a message, and all messages' hops; raises FabricError when one cannot be reached."""
    from dcsim.network.scheduled.flows_kernel import HOPS_MAX
    from dcsim.network.scheduled.paths_kernel import distances_to

    away = (vectors > 0) & (tasks.chip != tasks.target)
    source, target = tasks.chip[vectors > 0], tasks.target[vectors > 0]
    row, distance = distances_to(fabric.first_link, fabric.link_target, source, target)
    hops = distance[row[tasks.target[away]], tasks.chip[away]]
    if len(hops) and hops.max() >= HOPS_MAX:
        message = int(np.flatnonzero(away)[int(hops.argmax())])
        raise FabricError(f"no path from chip {tasks.chip[message]} to chip {tasks.target[message]} "
                          f"for message {message} within {HOPS_MAX} links")
    return row, distance, int(hops.sum(dtype=np.int64))

