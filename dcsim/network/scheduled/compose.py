"""Equal blocks compiled once: copies of a proved schedule at other times and on other chips, proved by windows.

A block begins with its chips deskewed at one epoch and ends with its links quiet. Copies of proved blocks make a
proved whole if (1) each copy's chips and links are joined as the block's were, (2) a copy starts no sooner than
the copies it needs have ended, (3) on every link the copies' windows do not overlap. A window runs from the
first cycle a vector may wait for the link to the end of the last on it, so neither slots nor buffers are shared.
Inside a window the block's own proof holds; between windows nothing happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import ScheduleError
from dcsim.fabric.graph import Fabric
from dcsim.network.scheduled.figures import Figures
from dcsim.network.scheduled.schedule import Schedule
from dcsim.network.tasks import Tasks

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Block:
    """A compiled and proved schedule on the fabric it was compiled for."""

    schedule: Schedule
    tasks: Tasks
    fabric: Fabric


@dataclass(frozen=True, slots=True)
class Copy:
    """A block at a place and time: `chips` and `links` [block's index] give the whole fabric's index."""

    block: Block
    offset_cycles: int
    chips: Int32
    links: Int32
    after: tuple[int, ...] = ()  # copies (by position) whose results it needs

    @property
    def end_cycles(self) -> int:
        """When its last output is there."""
        return self.offset_cycles + self.block.schedule.makespan_cycles


@dataclass(frozen=True, slots=True)
class Composed:
    """A checked composition. `window_*` list when which link belongs to a copy."""

    copies: tuple[Copy, ...]
    makespan_cycles: int
    vector_hops: int
    window_link: Int32
    window_begin: Int64
    window_end: Int64


def same_place(block: Block) -> tuple[Int32, Int32]:
    """Chips and links of a copy where the block was compiled."""
    return np.arange(block.fabric.vertex_count, dtype=np.int32), np.arange(block.fabric.link_count, dtype=np.int32)


def links_between(block: Fabric, fabric: Fabric, chips: Int32) -> Int32:
    """The fabric's link for each link of the block, its vertices at `chips`; -1 where there is none.

    Of parallel links the k-th of the block is the k-th of the fabric.
    """
    found = np.full(block.link_count, -1, np.int32)
    for source in range(block.vertex_count):
        at = int(chips[source])
        candidates = np.arange(fabric.first_link[at], fabric.first_link[at + 1])
        for link in range(block.first_link[source], block.first_link[source + 1]):
            ways = candidates[fabric.link_target[candidates] == chips[block.link_target[link]]]
            first = np.searchsorted(block.link_target[block.first_link[source] : link + 1], block.link_target[link])
            copy = link - block.first_link[source] - int(first)
            if copy < len(ways):
                found[link] = ways[copy]
    return found


def compose(copies: Sequence[Copy], fabric: Fabric, figures: Figures) -> Composed:
    """Check the three conditions and return the whole; ScheduleError names the link and cycle that break one."""
    windows: dict[int, tuple[Int32, Int64, Int64]] = {}
    links, begins, ends = [], [], []
    for position, copy in enumerate(copies):
        _check_order(copies, position)
        if id(copy.block) not in windows:
            windows[id(copy.block)] = link_windows(copy.block.schedule, figures)
        link, begin, end = windows[id(copy.block)]
        _check_place(copy, link, fabric)
        links.append(copy.links[link])
        begins.append(begin + copy.offset_cycles)
        ends.append(end + copy.offset_cycles)
    empty = np.zeros(0, np.int64)
    window_link = np.concatenate([*links, empty]).astype(np.int32)
    begin, end = np.concatenate([*begins, empty]), np.concatenate([*ends, empty])
    order = np.lexsort((begin, window_link))
    window_link, begin, end = window_link[order], begin[order], end[order]
    clash = (window_link[1:] == window_link[:-1]) & (begin[1:] < end[:-1])
    _raise_overlap(clash, window_link[1:], begin[1:])
    return Composed(tuple(copies), max((c.end_cycles for c in copies), default=0),
                    sum(c.block.schedule.vector_hops for c in copies), window_link, begin, end)


def link_windows(schedule: Schedule, figures: Figures) -> tuple[Int32, Int64, Int64]:
    """Links a schedule uses, and each one's window [begin, end)."""
    flow = np.repeat(np.arange(len(schedule.flow_task)), schedule.hops)
    end = schedule.burst_start + ((schedule.vectors - 1) * schedule.stride)[flow] + figures.slot_cycles
    begin = schedule.burst_start.copy()
    later = np.ones(len(begin), np.bool_)
    later[schedule.burst_offset[:-1]] = False
    onward = np.flatnonzero(later)
    begin[onward] = schedule.burst_start[onward - 1] + figures.hop_cycles + figures.forward_cycles
    links, place = np.unique(schedule.burst_link, return_inverse=True)
    first = np.full(len(links), np.iinfo(np.int64).max)
    last = np.zeros(len(links), np.int64)
    np.minimum.at(first, place, begin)
    np.maximum.at(last, place, end)
    return links.astype(np.int32), first, last


def _check_order(copies: Sequence[Copy], position: int) -> None:
    copy = copies[position]
    for other in copy.after:
        if copies[other].end_cycles > copy.offset_cycles:
            raise ScheduleError(f"copy {position} starts in cycle {copy.offset_cycles}, copy {other} it needs ends in "
                                f"cycle {copies[other].end_cycles}", "dependency", -1, copy.offset_cycles)


def _check_place(copy: Copy, links: Int32, fabric: Fabric) -> None:
    """The block's links, renamed, join the block's chips, renamed; no two become one."""
    there = copy.links[links]
    wrong = there < 0
    wrong |= fabric.link_source[there] != copy.chips[copy.block.fabric.link_source[links]]
    wrong |= fabric.link_target[there] != copy.chips[copy.block.fabric.link_target[links]]
    if wrong.any():
        raise ScheduleError(f"no link in place of the block's link {links[wrong][0]}", "wrong_link",
                            int(links[wrong][0]), copy.offset_cycles)
    if len(np.unique(copy.chips)) != len(copy.chips) or len(np.unique(there)) != len(there):
        raise ScheduleError("two chips or links of a block at one place", "wrong_link", -1, copy.offset_cycles)


def _raise_overlap(clash: NDArray[np.bool_], link: Int32, begin: Int64) -> None:
    if clash.any():
        at = int(np.flatnonzero(clash)[0])
        raise ScheduleError(f"two copies use link {link[at]} in cycle {begin[at]}", "overlap", int(link[at]),
                            int(begin[at]))


def check_interval(composed: Composed, interval_cycles: int) -> None:
    """Whether the whole may start again every `interval_cycles`: per link, windows modulo it do not overlap.

    Raises ScheduleError with the fault "overlap" where they do.
    """
    late = _interval_clash(composed, interval_cycles)
    if late is not None:
        window = late[0]
        raise ScheduleError(f"a start every {interval_cycles} cycles: link {composed.window_link[window]} is used "
                            f"twice", "overlap", int(composed.window_link[window]), int(composed.window_begin[window]))


def interval_cycles(composed: Composed) -> int:
    """An interval at which the whole may start again without sharing a link slot.

    The smallest if no link has two windows; else the first found going up from the busiest link's time.
    """
    length = composed.window_end - composed.window_begin
    if not len(length):
        return 1
    interval = int(np.bincount(composed.window_link, length).max())
    while (clash := _interval_clash(composed, interval)) is not None:
        interval += clash[1]
    return interval


def _interval_clash(composed: Composed, interval: int) -> tuple[int, int] | None:
    """A window that overlaps another modulo `interval`, and by how many cycles; None if there is none."""
    length = composed.window_end - composed.window_begin
    if len(length) and length.max() > interval:
        return int(length.argmax()), int(length.max()) - interval
    begin = composed.window_begin % interval
    order = np.lexsort((begin, composed.window_link))
    link, begin, end = composed.window_link[order], begin[order], (begin + length)[order]
    same = link[1:] == link[:-1]
    over = np.where(same, end[:-1] - begin[1:], 0)
    first = np.searchsorted(link, link)  # a link's last window against its first, one interval later
    is_last = np.append(~same, True)[: len(link)]
    around = np.where(is_last & (first < np.arange(len(link))), end - begin[first] - interval, 0)
    worst = np.maximum(np.append(over, 0)[: len(link)], around)
    if len(worst) == 0 or worst.max() <= 0:
        return None
    at = int(worst.argmax())
    return int(order[at]), int(worst[worst > 0].min())


def flatten(composed: Composed) -> tuple[Schedule, Tasks]:
    """The whole as one schedule and one program, for the checker or a replay; copies keep no tie but time."""
    parts: list[tuple[Schedule, Tasks, Copy]] = [(c.block.schedule, c.block.tasks, c) for c in composed.copies]
    task_at = np.cumsum([0] + [len(t) for _, t, _ in parts])
    before_at = np.cumsum([0] + [len(t.before) for _, t, _ in parts])
    burst_at = np.cumsum([0] + [len(s.burst_link) for s, _, _ in parts])

    def join(arrays: list[NDArray[np.int64]] | list[NDArray[np.int32]]) -> NDArray[np.int64]:
        return np.concatenate([np.asarray(a, np.int64) for a in arrays])

    zero = np.zeros(1, np.int64)
    schedule = Schedule(
        start=join([s.start + c.offset_cycles for s, _, c in parts]),
        first_out=join([s.first_out + c.offset_cycles for s, _, c in parts]),
        last_out=join([s.last_out + c.offset_cycles for s, _, c in parts]),
        flow_task=join([s.flow_task + at for (s, _, _), at in zip(parts, task_at, strict=False)]).astype(np.int32),
        first_vector=join([s.first_vector for s, _, _ in parts]).astype(np.int32),
        vector_step=join([s.vector_step for s, _, _ in parts]).astype(np.int32),
        vectors=join([s.vectors for s, _, _ in parts]).astype(np.int32),
        stride=join([s.stride for s, _, _ in parts]),
        burst_offset=join([zero] + [s.burst_offset[1:] + at for (s, _, _), at in zip(parts, burst_at, strict=False)]),
        burst_link=join([c.links[s.burst_link] for s, _, c in parts]).astype(np.int32),
        burst_start=join([s.burst_start + c.offset_cycles for s, _, c in parts]),
        slot_cycles=parts[0][0].slot_cycles, critical_cycles=max(s.critical_cycles for s, _, _ in parts),
        busiest_link_cycles=max(s.busiest_link_cycles for s, _, _ in parts),
    )
    copied = ("kind", "part", "call", "size_bytes", "first_cycles", "last_cycles", "rows", "lead_rows")
    columns = {name: np.concatenate([getattr(t, name) for _, t, _ in parts]) for name in copied}
    return schedule, Tasks(
        clock_hz=parts[0][1].clock_hz, **columns,
        chip=join([c.chips[t.chip] for _, t, c in parts]).astype(np.int32),
        target=join([np.where(t.target < 0, -1, c.chips[t.target]) for _, t, c in parts]).astype(np.int32),
        before_start=join([zero] + [t.before_start[1:] + at for (_, t, _), at in zip(parts, before_at, strict=False)]),
        before=join([t.before + at for (_, t, _), at in zip(parts, task_at, strict=False)]).astype(np.int32),
    )
