"""Which cycles of each link are taken: blocks and combs, compiled.

A run of vectors back to back is a block. A run with room for others between its vectors is a comb: `teeth`
vectors, `period` cycles apart. Blocks of a link are a sorted array in which neighbours too close to let a
vector between them are one block, so a loaded link has few; combs form a plain list.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.kernels.jit import entry, leaf, part

Array = NDArray[Any]

BUMPS_MAX = 64  # tries to fit between others before going behind them all
FIRST_ROOM = 4  # blocks a link gets room for at its first use

# Few arrays with named columns, and small functions inlined: compiled code counts references per array and call.
Links = namedtuple(
    "Links",
    [
        "slot",  # cycles of one vector
        "in_step",  # whether combs are put so that more of them fit, rather than as soon as can be
        "state",  # [link, 8] the columns below
        "blocks",  # [pool, 2] start and end of blocks, a link's own in one sorted piece
        "combs",  # [comb, 4] start, teeth, period, next older comb of the link or -1
        "used",  # [3] pool entries and combs given out; largest room of a link
    ],
)
# Where a link's blocks stand in the pool, how many there are, how many fit; its newest comb or -1; end of
# everything on it; cycles that released but unplaced messages are about to take; free entries before BEGIN.
BEGIN, COUNT, ROOM, COMB, TAIL, CLAIM, FRONT = range(7)


def make_links(link_count: int, slot: int, bursts: int, in_step: bool) -> Links:
    """Idle links with room for about `bursts` bursts; large arrays come from numpy, which asks for huge pages."""
    state = np.zeros((link_count, 8), np.int64)
    state[:, COMB] = -1
    blocks = np.empty((64 + bursts, 2), np.int64)
    return Links(slot, in_step, state, blocks, np.empty((64, 4), np.int64), np.array([0, 0, FIRST_ROOM]))


@part(makes_arrays=True)
def grown(table: Array, used: int, room: int) -> Array:
    """The table, or a copy at least twice as long if `room` more rows than `used` do not fit."""
    if used + room <= len(table):
        return table
    larger = np.empty((2 * len(table) + room,) + table.shape[1:], table.dtype)  # noqa: RUF005 - numba knows no star here
    larger[:used] = table[:used]
    return larger


@leaf
def lacks_links(links: Links, bursts: int) -> Any:
    """Whether `bursts` more bursts might not fit."""
    return links.used[0] + bursts * 2 * links.used[2] > len(links.blocks) or links.used[1] + bursts > len(links.combs)


@part(makes_arrays=True)
def grow_links(links: Links, bursts: int) -> Links:
    """The same links with room for `bursts` more bursts, wherever they go."""
    room = bursts * 2 * links.used[2]
    return Links(
        links.slot,
        links.in_step,
        links.state,
        grown(links.blocks, links.used[0], room),
        grown(links.combs, links.used[1], bursts),
        links.used,
    )


@leaf
def _blocks_before(links: Links, link: int, cycle: int) -> Any:
    """Pool index behind the last block of `link` that starts at `cycle` or before."""
    begin = links.state[link, BEGIN]
    end = begin + links.state[link, COUNT]
    if begin == end or cycle >= links.state[link, TAIL]:
        return end
    if links.blocks[begin, 0] > cycle:
        return begin
    if begin + 1 == end or links.blocks[begin + 1, 0] > cycle:
        return begin + 1
    if links.blocks[end - 1, 0] <= cycle:
        return end
    # Blocks are spread evenly enough to guess the place: fewer far reads than a binary search.
    first, last = links.blocks[begin, 0], links.blocks[end - 1, 0]
    at = begin + (cycle - first) * (end - 1 - begin) // (last - first)
    while links.blocks[at, 0] > cycle:
        at -= 1
    while links.blocks[at + 1, 0] <= cycle:
        at += 1
    return at + 1


@leaf
def _after_blocks(links: Links, link: int, cycle: int, width: int) -> tuple[int, int]:
    """First cycle from `cycle` on at which `width` cycles are clear of blocks, and the pool index of the block behind."""
    at = _blocks_before(links, link, cycle)
    if at > links.state[link, BEGIN]:
        cycle = max(cycle, links.blocks[at - 1, 1])
    end = links.state[link, BEGIN] + links.state[link, COUNT]
    while at < end and links.blocks[at, 0] < cycle + width:
        cycle = max(cycle, links.blocks[at, 1])
        at += 1
    return cycle, at


@part
def _shift_past_comb(
    cycle: int,
    teeth: int,
    period: int,
    width: int,
    comb_start: int,
    comb_teeth: int,
    comb_period: int,
    slot: int,
) -> Any:
    """How far a run (`teeth` pieces of `width`) must move to end its first clash with a comb; 0: no clash."""
    comb_end = comb_start + (comb_teeth - 1) * comb_period + slot
    if cycle >= comb_end or cycle + (teeth - 1) * period + width <= comb_start:
        return 0
    # Pieces that end before the comb begins cannot clash; of equal periods the first two that can tell for all.
    first = max(0, (comb_start - cycle - width) // period)
    last = min(teeth, (comb_end - cycle) // period + 1)
    if period % comb_period == 0:
        last = min(last, first + 3)
    elif comb_period % period == 0:
        last = min(last, first + comb_period // period + 2)
    for j in range(first, last):
        at = cycle + j * period
        i = max(0, (at - slot - comb_start) // comb_period + 1)  # first tooth that ends after `at`
        if i < comb_teeth and comb_start + i * comb_period < at + width:
            if width + slot > comb_period:
                return comb_end - cycle  # nothing fits between its teeth
            return comb_start + i * comb_period + slot - at
    return 0


@part
def _clear(links: Links, link: int, cycle: int, teeth: int, period: int) -> Any:
    """Whether a comb may start at `cycle`."""
    comb = links.state[link, COMB]
    while comb >= 0:
        if (
            _shift_past_comb(
                cycle, teeth, period, links.slot, links.combs[comb, 0], links.combs[comb, 1], links.combs[comb, 2], links.slot
            )
            > 0
        ):
            return False
        comb = links.combs[comb, 3]
    if links.state[link, COUNT] > 0:
        blocks_end = links.blocks[links.state[link, BEGIN] + links.state[link, COUNT] - 1, 1]
        for j in range(min(teeth, max(0, (blocks_end - cycle) // period + 1))):
            at = cycle + j * period
            if _after_blocks(links, link, at, links.slot)[0] > at:
                return False
    return True


@part
def _beside_comb(links: Links, link: int, cycle: int, teeth: int, period: int) -> Any:
    """Where a comb finds room in step with the one last put on the link, within its period from `cycle` on; or -1.

    Its period is halved until slots just fit, and the parts are tried in such an order that those still free
    make combs of as short a period as can be: the half first, then quarters.
    """
    comb = links.state[link, COMB]
    while comb >= 0 and links.combs[comb, 0] + (links.combs[comb, 1] - 1) * links.combs[comb, 2] + links.slot <= cycle:
        comb = links.combs[comb, 3]
    if comb < 0 or max(links.combs[comb, 2], period) % min(links.combs[comb, 2], period) > 0:
        return -1
    start, parts = links.combs[comb, 0], 1
    while period >= 2 * parts * links.slot:
        parts *= 2
    part = 0
    for _ in range(parts):
        at = cycle + (start + part * period // parts - cycle) % period
        if _clear(links, link, at, teeth, period):
            return at
        bit = parts // 2  # the next part in order of the mirrored number
        while bit > 0 and part & bit:
            part ^= bit
            bit //= 2
        part |= bit
    return -1


@part
def _behind_combs(links: Links, link: int, cycle: int, teeth: int, period: int) -> Any:
    """Where a comb finds room in step once one of those on the link is over, the soonest first; or -1."""
    while True:
        over, comb = -1, links.state[link, COMB]
        while comb >= 0:
            end = links.combs[comb, 0] + (links.combs[comb, 1] - 1) * links.combs[comb, 2] + links.slot
            if end > cycle and (over < 0 or end < over):
                over = end
            comb = links.combs[comb, 3]
        if over < 0:
            return -1
        beside = _beside_comb(links, link, over, teeth, period)
        if beside >= 0:
            return beside
        cycle = over


@leaf
def earliest(links: Links, link: int, cycle: int, vectors: int, stride: int) -> tuple[int, int]:
    """First cycle from `cycle` on at which `link` is clear for `vectors` vectors, `stride` apart.

    Beside it where `occupy` is to put them, as long as nothing else is put on the link; -1 if that is not known.
    """
    teeth, period, width = _shape(vectors, stride, links.slot)
    if teeth == 1 and links.state[link, COMB] < 0:
        return _after_blocks(links, link, cycle, width)
    if teeth > 1 and links.in_step:
        beside = _beside_comb(links, link, cycle, teeth, period)
        if beside >= 0:
            return beside, -1
    for _ in range(BUMPS_MAX):
        begun = cycle
        end = links.state[link, BEGIN] + links.state[link, COUNT]
        blocks_end = links.blocks[end - 1, 1] if links.state[link, COUNT] > 0 else cycle
        for j in range(min(teeth, max(0, (blocks_end - cycle) // period + 1))):
            at = cycle + j * period
            cycle += _after_blocks(links, link, at, width)[0] - at
        comb = links.state[link, COMB]
        while comb >= 0:
            cycle += _shift_past_comb(
                cycle, teeth, period, width, links.combs[comb, 0], links.combs[comb, 1], links.combs[comb, 2], links.slot
            )
            comb = links.combs[comb, 3]
        if cycle == begun:
            return cycle, -1
    if teeth > 1 and links.in_step:
        beside = _behind_combs(links, link, cycle, teeth, period)
        if beside >= 0:
            return beside, -1
    return max(cycle, links.state[link, TAIL]), -1


@leaf
def _shape(vectors: int, stride: int, slot: int) -> tuple[int, int, int]:
    """Pieces of a run: (how many, period, width); a run with no room between its vectors is one piece."""
    if vectors == 1 or stride < 2 * slot:
        return 1, 1, (vectors - 1) * stride + slot
    return vectors, stride, slot


@leaf
def occupy(links: Links, link: int, start: int, vectors: int, stride: int, place: int) -> None:
    """Take the cycles of a run; the caller has made room (`grow_links`) and asked `earliest`, which gave the place."""
    teeth, period, width = _shape(vectors, stride, links.slot)
    end = start + (teeth - 1) * period + width
    links.state[link, TAIL] = max(links.state[link, TAIL], end)
    if teeth == 1:
        _insert_block(links, link, start, end, _blocks_before(links, link, start) if place < 0 else place)
        return
    comb = links.used[1]
    links.used[1] += 1
    links.combs[comb, 0], links.combs[comb, 1], links.combs[comb, 2] = start, teeth, period
    links.combs[comb, 3] = links.state[link, COMB]
    links.state[link, COMB] = comb


@leaf
def _insert_block(links: Links, link: int, start: int, end: int, at: int) -> None:
    """Add a block before that at pool index `at`, joining neighbours that leave less than a slot between.

    The shorter side moves: where all want the earliest room of a link, blocks come and go at its front.
    """
    begin, count = links.state[link, BEGIN], links.state[link, COUNT]
    last = begin + count
    joins_before = at > begin and start - links.blocks[at - 1, 1] < links.slot
    joins_after = at < last and links.blocks[at, 0] - end < links.slot
    if joins_before and joins_after:
        if 2 * (at - begin) < count:
            links.blocks[at, 0] = links.blocks[at - 1, 0]
            for i in range(at - 1, begin, -1):
                links.blocks[i, 0], links.blocks[i, 1] = links.blocks[i - 1, 0], links.blocks[i - 1, 1]
            _move_begin(links, link, 1)
        else:
            links.blocks[at - 1, 1] = links.blocks[at, 1]
            for i in range(at, last - 1):
                links.blocks[i, 0], links.blocks[i, 1] = links.blocks[i + 1, 0], links.blocks[i + 1, 1]
        links.state[link, COUNT] -= 1
    elif joins_before:
        links.blocks[at - 1, 1] = end
    elif joins_after:
        links.blocks[at, 0] = start
    else:
        if links.state[link, FRONT] > 0 and 2 * (at - begin) < count:
            for i in range(begin, at):
                links.blocks[i - 1, 0], links.blocks[i - 1, 1] = links.blocks[i, 0], links.blocks[i, 1]
            at -= 1
            _move_begin(links, link, -1)
        else:
            if count == links.state[link, ROOM]:
                at += _move_to_larger(links, link)
            for i in range(links.state[link, BEGIN] + count, at, -1):
                links.blocks[i, 0], links.blocks[i, 1] = links.blocks[i - 1, 0], links.blocks[i - 1, 1]
        links.blocks[at, 0], links.blocks[at, 1] = start, end
        links.state[link, COUNT] += 1


@leaf
def _move_begin(links: Links, link: int, by: int) -> None:
    links.state[link, BEGIN] += by
    links.state[link, FRONT] += by
    links.state[link, ROOM] -= by


@part
def _move_to_larger(links: Links, link: int) -> Any:
    """Give a link twice the room, its own freed in front or at the pool's end; returns how far its blocks moved."""
    count, begin, front = links.state[link, COUNT], links.state[link, BEGIN], links.state[link, FRONT]
    if front >= max(FIRST_ROOM, count):
        new, room = begin - front, count + front
    else:
        new, room = links.used[0], max(FIRST_ROOM, 2 * count)
        links.used[0] += room
        links.used[2] = max(links.used[2], room)
    for i in range(count):
        links.blocks[new + i, 0], links.blocks[new + i, 1] = links.blocks[begin + i, 0], links.blocks[begin + i, 1]
    links.state[link, BEGIN], links.state[link, ROOM], links.state[link, FRONT] = new, room, 0
    return new - begin


@entry(makes_arrays=True)
def take_runs(links: Links, runs: Array) -> Links:
    """The links with runs [run, 4] (link, start, vectors, stride) on them that were placed elsewhere."""
    for link, start, vectors, stride in runs:
        if lacks_links(links, 1):
            links = grow_links(links, 1)
        occupy(links, link, start, vectors, stride, -1)
    return links
