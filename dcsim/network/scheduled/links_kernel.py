"""Which cycles of each link are taken: blocks and combs, compiled.

A run of vectors back to back is a block. A run with room for others between its vectors is a comb: `teeth`
vectors, `period` cycles apart. Blocks of a link form a sorted list in which neighbours too close to let a
vector between them are one block, so a loaded link has few; combs form a plain list.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np
from numba import njit

BUMPS_MAX = 64  # tries to fit between others before going behind them all

Links = namedtuple("Links", [
    "slot",  # cycles of one vector
    "head", "cursor",  # [link] first block, block used last; -1: none
    "start", "end", "next", "previous",  # [block] cycles taken, neighbours
    "free_blocks", "used_blocks",  # [1] head of the list of blocks to use again, blocks ever used
    "comb_head", "comb_start", "comb_teeth", "comb_period", "comb_next", "used_combs",
    "tail",  # [link] end of everything on it
    "claim",  # [link] cycles that released but unplaced messages are about to take
    "load",  # [link] cycles taken
])


@njit(cache=True)
def make_links(link_count, capacity, slot):
    """Idle links with room for `capacity` blocks and as many combs."""
    none = np.full(link_count, -1, np.int32)
    return Links(
        slot, none, none.copy(),
        np.empty(capacity, np.int64), np.empty(capacity, np.int64),
        np.empty(capacity, np.int32), np.empty(capacity, np.int32),
        np.full(1, -1, np.int32), np.zeros(1, np.int32),
        none.copy(), np.empty(capacity, np.int64), np.empty(capacity, np.int64), np.empty(capacity, np.int64),
        np.empty(capacity, np.int32), np.zeros(1, np.int32),
        np.zeros(link_count, np.int64), np.zeros(link_count, np.int64), np.zeros(link_count, np.int64),
    )


@njit(cache=True)
def _grown(array, capacity):
    larger = np.empty(capacity, array.dtype)
    larger[: len(array)] = array
    return larger


@njit(cache=True)
def grow_links(links, room):
    """The same links, with at least `room` more blocks and combs free."""
    used = max(links.used_blocks[0], links.used_combs[0])
    if used + room <= len(links.start):
        return links
    size = 2 * len(links.start) + room
    return Links(
        links.slot, links.head, links.cursor,
        _grown(links.start, size), _grown(links.end, size), _grown(links.next, size), _grown(links.previous, size),
        links.free_blocks, links.used_blocks,
        links.comb_head, _grown(links.comb_start, size), _grown(links.comb_teeth, size),
        _grown(links.comb_period, size), _grown(links.comb_next, size), links.used_combs,
        links.tail, links.claim, links.load,
    )


@njit(cache=True)
def _seek(links, link, cycle):
    """The last block of `link` that starts at `cycle` or before, or -1."""
    block = links.cursor[link]
    while block >= 0 and links.start[block] > cycle:
        block = links.previous[block]
    after = links.head[link] if block < 0 else links.next[block]
    while after >= 0 and links.start[after] <= cycle:
        block = after
        after = links.next[block]
    if block >= 0:
        links.cursor[link] = block
    return block


@njit(cache=True)
def _after_blocks(links, link, cycle, width):
    """First cycle from `cycle` on at which `width` cycles are clear of blocks."""
    block = _seek(links, link, cycle)
    if block >= 0:
        cycle = max(cycle, links.end[block])
        after = links.next[block]
    else:
        after = links.head[link]
    while after >= 0 and links.start[after] < cycle + width:
        cycle = max(cycle, links.end[after])
        after = links.next[after]
    return cycle


@njit(cache=True)
def _shift_past_comb(cycle, teeth, period, width, comb_start, comb_teeth, comb_period, slot):
    """How far a run (`teeth` pieces of `width`) must move to end its first clash with a comb; 0: no clash."""
    comb_end = comb_start + (comb_teeth - 1) * comb_period + slot
    if cycle >= comb_end or cycle + (teeth - 1) * period + width <= comb_start:
        return 0
    for j in range(teeth):
        at = cycle + j * period
        i = max(0, (at - slot - comb_start) // comb_period + 1)  # first tooth that ends after `at`
        if i < comb_teeth and comb_start + i * comb_period < at + width:
            if width + slot > comb_period:
                return comb_end - cycle  # nothing fits between its teeth
            return comb_start + i * comb_period + slot - at
    return 0


@njit(cache=True)
def earliest(links, link, cycle, vectors, stride):
    """First cycle from `cycle` on at which `link` is clear for `vectors` vectors, `stride` apart."""
    teeth, period, width = _shape(vectors, stride, links.slot)
    for _ in range(BUMPS_MAX):
        begun = cycle
        for j in range(teeth):
            at = cycle + j * period
            cycle += _after_blocks(links, link, at, width) - at
        comb = links.comb_head[link]
        while comb >= 0:
            cycle += _shift_past_comb(cycle, teeth, period, width, links.comb_start[comb],
                                      links.comb_teeth[comb], links.comb_period[comb], links.slot)
            comb = links.comb_next[comb]
        if cycle == begun:
            return cycle
    return max(cycle, links.tail[link])


@njit(cache=True)
def _shape(vectors, stride, slot):
    """Pieces of a run: (how many, period, width); a run with no room between its vectors is one piece."""
    if vectors == 1 or stride < 2 * slot:
        return 1, 1, (vectors - 1) * stride + slot
    return vectors, stride, slot


@njit(cache=True)
def occupy(links, link, start, vectors, stride):
    """Take the cycles of a run; the caller has made room (`grow_links`) and asked `earliest`."""
    teeth, period, width = _shape(vectors, stride, links.slot)
    end = start + (teeth - 1) * period + width
    links.tail[link] = max(links.tail[link], end)
    links.load[link] += vectors * links.slot
    if teeth == 1:
        _insert_block(links, link, start, end)
        return
    comb = links.used_combs[0]
    links.used_combs[0] += 1
    links.comb_start[comb], links.comb_teeth[comb], links.comb_period[comb] = start, teeth, period
    links.comb_next[comb] = links.comb_head[link]
    links.comb_head[link] = comb


@njit(cache=True)
def _insert_block(links, link, start, end):
    """Add a block, joining neighbours that leave less than a slot between."""
    before = _seek(links, link, start)
    after = links.head[link] if before < 0 else links.next[before]
    joins_before = before >= 0 and start - links.end[before] < links.slot
    joins_after = after >= 0 and links.start[after] - end < links.slot
    if joins_before and joins_after:
        links.end[before] = links.end[after]
        far = links.next[after]
        links.next[before] = far
        if far >= 0:
            links.previous[far] = before
        links.next[after] = links.free_blocks[0]
        links.free_blocks[0] = after
        links.cursor[link] = before
    elif joins_before:
        links.end[before] = end
    elif joins_after:
        links.start[after] = start
        links.cursor[link] = after
    else:
        _new_block(links, link, before, after, start, end)


@njit(cache=True)
def _new_block(links, link, before, after, start, end):
    """Put a block between two others (-1: none there)."""
    block = links.free_blocks[0]
    if block >= 0:
        links.free_blocks[0] = links.next[block]
    else:
        block = links.used_blocks[0]
        links.used_blocks[0] += 1
    links.start[block], links.end[block] = start, end
    links.previous[block], links.next[block] = before, after
    if before >= 0:
        links.next[before] = block
    else:
        links.head[link] = block
    if after >= 0:
        links.previous[after] = block
    links.cursor[link] = block
