"""The compiled schedule: which vector is on which link in which cycle, as bursts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import FabricError
from dcsim.fabric.graph import Fabric
from dcsim.network.scheduled.rules import ScheduleRules
from dcsim.network.tasks import MESSAGE, Tasks

LATER_PART = 16  # results that begin sooner may end later by no more than this part of the program
NO_RUNS = np.zeros((0, 4), np.int64)
IN_STEP_PART = 32  # what streams in step may be later, for the room they leave

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

    @property
    def makespan_cycles(self) -> int:
        """Epoch to the last output of any task."""
        return int(self.last_out.max(initial=0))

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
        """Size and use in a few numbers."""
        makespan = self.makespan_cycles
        busy = self.link_cycles(int(self.burst_link.max(initial=-1)) + 1)
        return {
            "makespan_cycles": makespan,
            "tasks": len(self.start),
            "bursts": len(self.burst_link),
            "vector_hops": self.vector_hops,
            "link_use_fraction_max": float(busy.max(initial=0)) / makespan if makespan else 0.0,
        }


@dataclass(frozen=True, slots=True)
class Before:
    """What was placed before a program, in cycles of its epoch.

    A predecessor p below 0 stands for outputs `given[given_start[-1 - p]:given_start[-p]]` (first and last cycle of
    each). `runs` [run, 4] are vectors already on links: link, start, how many, stride; `others` those of other
    micro-batches.
    """

    given_start: Int64
    given: Int64  # [output, 2]
    runs: Int64
    others: Int64


def nothing_before() -> Before:
    """A program that begins with idle links."""
    return Before(np.zeros(1, np.int64), np.zeros((0, 2), np.int64), NO_RUNS, NO_RUNS)


def message_vectors(tasks: Tasks, figures: ScheduleRules) -> Int32:
    """[task] vectors of each message, 0 for compute (see ScheduleRules.vectors)."""
    vectors = np.maximum(1, -(-tasks.size_bytes // figures.vector_bytes))
    return np.where(tasks.kind == MESSAGE, vectors, 0).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Tasks on a fabric, made ready to be compiled after whatever comes before."""

    fabric: Fabric
    figures: ScheduleRules
    table: Int64  # [task, 8] columns of compile_kernel.Program
    before_start: Int64
    before: Int32
    column: Int32  # [vertex] and
    distance: NDArray[np.int8]  # [vertex, column] as paths_kernel.distances_to gives them
    offset: Int64  # [task + 1] and
    after: Int32  # the tasks that wait for each task
    order: Int64  # tasks, those with most work behind them first
    rank: Int64  # [task] place in that order
    most_hops: int
    bursts: int  # on minimal paths
    long: bool  # whether some message takes a link for longer than one more hop costs


def prepare(tasks: Tasks, fabric: Fabric, figures: ScheduleRules) -> Prepared:
    """All of a compilation that does not depend on what was before. Raises FabricError when a message cannot reach its target."""
    from dcsim.network.scheduled import compile_kernel as kernel

    vectors, count = message_vectors(tasks, figures), len(tasks)
    column, distance, hops = _distances(tasks, fabric, vectors)
    table = np.zeros((count, 8), np.int64)
    table[:, 0], table[:, 1], table[:, 2] = tasks.chip, tasks.target, vectors
    table[:, 3], table[:, 4] = tasks.first_cycles, tasks.last_cycles
    table[:, 5], table[:, 6] = tasks.rows, tasks.lead_rows
    offset, after = kernel.successors(tasks.before_start, tasks.before)
    path_cycles = np.array([figures.path_cycles(h) for h in range(int(hops.max(initial=0)) + 1)], np.int64)
    remaining = kernel.remaining_cycles(table, column, distance, path_cycles, figures.slot_cycles, offset, after)
    order = np.argsort(-remaining, kind="stable")
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    long = int(vectors.max(initial=0)) * figures.slot_cycles > figures.hop_cycles + figures.forward_cycles
    return Prepared(
        fabric,
        figures,
        table,
        tasks.before_start,
        tasks.before,
        column,
        distance,
        offset,
        after,
        order,
        rank,
        int(hops.max(initial=0)),
        int(hops.sum(dtype=np.int64)),
        long,
    )


def compile_schedule(tasks: Tasks, fabric: Fabric, figures: ScheduleRules) -> Schedule:
    """Give every vector of `tasks` its links and cycles: see `solve`."""
    return solve(prepare(tasks, fabric, figures), nothing_before())


def solve(problem: Prepared, before: Before) -> Schedule:
    """Give every vector its links and cycles: no conflict, dependencies kept, transit buffers kept.

    The task that can start first is placed first; of equals the one with most work behind it. Minimal paths are
    compiled first, vectors leaving as they become ready. Where a message takes a link for longer than one more hop
    would cost, more is tried: other paces (see `_paces`), and, where detours could relieve the busiest link, to spread
    vectors over them as they arrive soonest, kept if that is shorter. Same input, same bytes.
    """
    figures, chosen = problem.figures, AS_READY
    best = as_ready = _place(problem, before, 0, chosen)
    if not problem.long:
        return best
    tried = {pace: _place(problem, before, 0, pace) for pace in _paces(problem, before, as_ready)}
    in_time = {
        pace: schedule
        for pace, schedule in tried.items()
        if (schedule.makespan_cycles - as_ready.makespan_cycles) * LATER_PART <= as_ready.makespan_cycles
    }
    lateness = {pace: _lateness(problem, schedule) for pace, schedule in ({AS_READY: as_ready} | in_time).items()}
    least = min(lateness.values())
    in_step = [pace for pace, late in lateness.items() if pace.in_step and (late - least) * IN_STEP_PART <= late]
    chosen = min(in_step or lateness, key=lambda pace: lateness[pace])
    best = in_time.get(chosen, as_ready)
    if figures.detours_max and _detours_relieve(best, problem.fabric):
        spread = _place(problem, before, figures.detours_max, chosen)
        if spread.makespan_cycles < best.makespan_cycles:
            best = spread
    return best


@dataclass(frozen=True, slots=True)
class Pace:
    """How streams leave: strides are `step` cycles times or divided by a whole number, and a stream takes `spread` or more."""

    step: int
    spread: int

    @property
    def in_step(self) -> bool:
        """Whether streams of one another's rhythm leave room for more such, and so for later pieces."""
        return self.step > 1 and not self.spread


AS_READY = Pace(1, 0)


def _paces(problem: Prepared, before: Before, as_ready: Schedule) -> list[Pace]:
    """Paces by which more streams may fit on a link than when each leaves as it becomes ready.

    In step with the streams that are there already, in step with the slowest of its own, or all spread over the time
    that the busiest link needs for them.
    """
    slot = problem.figures.slot_cycles
    runs = np.concatenate([before.runs, before.others])
    runs = runs[runs[:, 3] >= 2 * slot]
    strides, which = np.unique(runs[:, 3], return_inverse=True)
    steps = [int(strides[np.bincount(which, runs[:, 2]).argmax()])] if len(strides) else []
    steps.append(int(as_ready.stride.max(initial=0)))
    paces = [Pace(step, 0) for step in dict.fromkeys(steps) if step >= 2 * slot]
    busiest = int(as_ready.link_cycles(problem.fabric.link_count).max(initial=0))
    return [*paces, Pace(slot, busiest)] if busiest else paces


def _lateness(problem: Prepared, schedule: Schedule) -> int:
    """What paces are compared by: the program's end, and when the last of its results begins, to stream on."""
    results = np.diff(problem.offset) == 0
    return schedule.makespan_cycles + int(schedule.first_out[results].max(initial=0))


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


def _place(problem: Prepared, before: Before, detours_max: int, pace: Pace) -> Schedule:
    from dcsim.network.scheduled import compile_kernel as kernel
    from dcsim.network.scheduled.flows_kernel import Ways, make_flows
    from dcsim.network.scheduled.links_kernel import make_links, take_runs

    figures, fabric, count = problem.figures, problem.fabric, len(problem.table)
    slot = figures.slot_cycles
    ways = Ways(
        fabric.first_link,
        fabric.link_target,
        problem.column,
        problem.distance,
        figures.hop_cycles,
        figures.forward_cycles,
        figures.send_cycles,
        figures.receive_cycles,
        figures.buffer_vectors * slot,
        detours_max,
        problem.most_hops,
        pace.step,
        pace.spread,
    )
    program = kernel.Program(problem.table, problem.before_start, problem.before, before.given_start, before.given)
    times = kernel.Times(
        np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros((count, 4), np.int64)
    )
    links = make_links(fabric.link_count, slot, problem.bursts, pace.in_step)
    for runs, others in ((before.runs, False), (before.others, True)):
        if len(runs):
            links = take_runs(links, runs, others)
    room = problem.bursts + problem.bursts // 16  # some go a longer way; growing would copy it all
    out = kernel.place_all(
        program, ways, problem.order, problem.rank, problem.offset, problem.after, links, make_flows(64 + count, 64 + room), times
    )
    flows, bursts = out.used.tolist()
    runs, paces = out.runs[:flows], out.paces[:flows]
    return Schedule(
        start=times.start,
        first_out=times.first_out,
        last_out=times.last_out,
        flow_task=runs[:, 0].copy(),
        first_vector=runs[:, 1].copy(),
        vector_step=runs[:, 2].copy(),
        vectors=runs[:, 3].copy(),
        stride=paces[:, 0].copy(),
        burst_offset=np.concatenate([np.zeros(1, np.int64), paces[:, 1]]),
        burst_link=out.burst_link[:bursts],
        burst_start=out.burst_start[:bursts],
        slot_cycles=slot,
    )


def _distances(tasks: Tasks, fabric: Fabric, vectors: Int32) -> tuple[Int32, NDArray[np.int8], NDArray[np.int8]]:
    """Hops to every target of a message, and of each message that goes anywhere; FabricError when one cannot be reached."""
    from dcsim.network.scheduled.paths_kernel import distances_to

    away = (vectors > 0) & (tasks.chip != tasks.target)
    source, target = tasks.chip[vectors > 0], tasks.target[vectors > 0]
    row, distance = distances_to(fabric.first_link, fabric.link_target, source, target)
    hops = distance[tasks.chip[away], row[tasks.target[away]]]
    check_reached(tasks.chip[away], tasks.target[away], hops)
    return row, distance, hops


def check_reached(sources: Int32, targets: Int32, hops: NDArray[np.int8]) -> None:
    """Raise FabricError unless there is a way sources[i] -> targets[i], `hops[i]` links long, for every i."""
    from dcsim.network.scheduled.flows_kernel import HOPS_MAX

    if len(hops) and hops.max() >= HOPS_MAX:
        worst = int(hops.argmax())
        raise FabricError(f"no path from chip {sources[worst]} to chip {targets[worst]} within {HOPS_MAX} links")
