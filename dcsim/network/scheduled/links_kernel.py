"""Which cycles of each link are taken, compiled: a bit for every cycle in which no vector may leave any more.

A vector that leaves in cycle t takes its slot, so none may leave less than a slot before or after. Bits lie in pages that a link
gets as it needs them, found by a hash of link and time. Streams with room between their vectors are besides noted as combs:
`teeth` vectors, `period` cycles apart, in whose rhythm others are put.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.kernels.jit import entry, leaf, part

Array = NDArray[Any]

BUMPS_MAX = 64  # tries to fit a run between others before going behind them all
COMBS_MAX = 16  # newest combs of a link that a run tries to keep step with
COMB_LEAST = 8  # fewer vectors are no rhythm
PAGE = 11  # a page has 2^PAGE cycles
PAGE_CYCLES = 1 << PAGE
PAGE_WORDS = PAGE_CYCLES // 64
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)

# Few arrays with named columns, and small functions inlined: compiled code counts references per array and call.
Links = namedtuple(
    "Links",
    [
        "slot",  # cycles of one vector
        "in_step",  # whether combs are put so that more of them fit, rather than as soon as can be
        "state",  # [link, 8] the columns below
        "keys",  # [place] link and time of the page there, or -1; open addressing, a power of two of places
        "pages",  # [place] its number
        "words",  # [page, word] a bit for every cycle
        "load",  # [page] cycles of it that other micro-batches take
        "combs",  # [comb, 4] start, teeth, period, next older comb of the link or -1
        "used",  # [3] pages and combs given out; end of everything
    ],
)
# A link's newest comb or -1; end of everything on it, and of what this micro-batch has on it; cycles that released but
# unplaced messages are about to take; no cycle before FIRST is free; time and number of the page last looked at.
COMB, TAIL, FREE, CLAIM, FIRST, LATEST, NUMBER = range(7)


def make_links(link_count: int, slot: int, bursts: int, in_step: bool) -> Links:
    """Idle links with room for about `bursts` bursts; large arrays come from numpy, which clears them as they are used."""
    state = np.zeros((link_count, 8), np.int64)
    state[:, COMB] = -1
    state[:, LATEST] = -1
    pages = 65 + bursts // 8
    places = 1 << (2 * pages).bit_length()
    keys = np.full(places, -1, np.int64)
    words, load = np.zeros((pages, PAGE_WORDS), np.uint64), np.zeros(pages, np.int32)
    combs = np.empty((64, 4), np.int64)
    return Links(slot, in_step, state, keys, np.empty(places, np.int32), words, load, combs, np.array([1, 0, 0]))


@part(makes_arrays=True)
def grown(table: Array, used: int, room: int) -> Array:
    """The table, or a copy at least twice as long if `room` more rows than `used` do not fit."""
    if used + room <= len(table):
        return table
    larger = np.zeros((2 * len(table) + room,) + table.shape[1:], table.dtype)  # noqa: RUF005 - numba knows no star here
    larger[:used] = table[:used]
    return larger


@leaf
def lacks_links(links: Links, bursts: int, pages: int) -> Any:
    """Whether `bursts` more bursts on `pages` more pages might not fit."""
    return links.used[0] + pages > len(links.words) or links.used[1] + bursts > len(links.combs)


@part(makes_arrays=True)
def grow_links(links: Links, bursts: int, pages: int) -> Links:
    """The same links with that much room."""
    words, load = grown(links.words, links.used[0], pages), grown(links.load, links.used[0], pages)
    combs = grown(links.combs, links.used[1], bursts)
    places = len(links.keys)
    while places < 2 * len(words):
        places *= 2
    keys, numbers = np.full(places, -1, np.int64), np.empty(places, np.int32)
    for old in range(len(links.keys)):
        if links.keys[old] >= 0:
            place = _place(keys, links.keys[old])
            keys[place], numbers[place] = links.keys[old], links.pages[old]
    return Links(links.slot, links.in_step, links.state, keys, numbers, words, load, combs, links.used)


@leaf
def _place(keys: Array, key: int) -> Any:
    """Where a key stands, or would."""
    mask, mixed = len(keys) - 1, (key >> 31) * 0x9E3779B1 + (key & 0x7FFFFFFF) * 0x85EBCA6B
    place = (mixed ^ mixed >> 15) & mask
    while keys[place] >= 0 and keys[place] != key:
        place = (place + 1) & mask
    return place


@leaf
def _page(links: Links, link: int, page: int) -> Any:
    """Number of a link's page of time, 0 while all its cycles are free."""
    if links.state[link, LATEST] != page:
        key = link << 31 | page
        place = _place(links.keys, key)
        links.state[link, LATEST] = page
        links.state[link, NUMBER] = links.pages[place] if links.keys[place] == key else 0
    return links.state[link, NUMBER]


@leaf
def _new_page(links: Links, link: int, page: int) -> Any:
    """Give a link a page for a stretch of time."""
    key = link << 31 | page
    place, number = _place(links.keys, key), links.used[0]
    links.used[0] += 1
    links.keys[place], links.pages[place] = key, number
    links.state[link, LATEST], links.state[link, NUMBER] = page, number
    return number


@leaf
def _lowest(word: Any) -> Any:
    """Number of the lowest bit that is set."""
    bit = 0
    for width in (32, 16, 8, 4, 2, 1):
        if word & ((np.uint64(1) << np.uint64(width)) - np.uint64(1)) == np.uint64(0):
            word >>= np.uint64(width)
            bit += width
    return bit


@leaf
def _is_free(links: Links, link: int, cycle: int) -> Any:
    """Whether a vector may leave in `cycle`, which is before the link's TAIL."""
    page = _page(links, link, cycle >> PAGE)
    if page == 0:
        return True
    word = links.words[page, (cycle & (PAGE_CYCLES - 1)) >> 6]
    return word >> np.uint64(cycle & 63) & np.uint64(1) == np.uint64(0)


@part
def next_free(links: Links, link: int, cycle: int) -> Any:
    """First cycle from `cycle` on in which a vector may leave."""
    tail, first = links.state[link, TAIL], links.state[link, FIRST]
    at = max(cycle, first)
    while at < tail:
        page = _page(links, link, at >> PAGE)
        if page == 0:
            break
        free = ~links.words[page, (at & (PAGE_CYCLES - 1)) >> 6] >> np.uint64(at & 63)
        if free != np.uint64(0):
            at += _lowest(free)
            break
        at = (at | 63) + 1
    if cycle <= first:
        links.state[link, FIRST] = at
    return at


@leaf
def _first_clash(links: Links, link: int, start: int, vectors: int, stride: int) -> Any:
    """The first vector of a run that may not leave in its cycle, or -1."""
    tail, at = links.state[link, TAIL], start
    for j in range(vectors):
        if at >= tail:
            break
        if not _is_free(links, link, at):
            return j
        at += stride
    return -1


@part
def _beside_comb(links: Links, link: int, cycle: int, vectors: int, period: int) -> Any:
    """Where a comb finds room in step with the one last put on the link, within its period from `cycle` on; or -1.

    Its period is halved until slots just fit, and the parts are tried in such an order that those still free
    make combs of as short a period as can be: the half first, then quarters.
    """
    comb, tries = links.state[link, COMB], 0
    while comb >= 0 and links.combs[comb, 0] + (links.combs[comb, 1] - 1) * links.combs[comb, 2] + links.slot <= cycle:
        comb, tries = links.combs[comb, 3], tries + 1
        if tries == COMBS_MAX:
            return -1
    if comb < 0 or max(links.combs[comb, 2], period) % min(links.combs[comb, 2], period) > 0:
        return -1
    start, parts = links.combs[comb, 0], 1
    while period >= 2 * parts * links.slot:
        parts *= 2
    part = 0
    for _ in range(parts):
        at = cycle + (start + part * period // parts - cycle) % period
        if _first_clash(links, link, at, vectors, period) < 0:
            return at
        bit = parts // 2  # the next part in order of the mirrored number
        while bit > 0 and part & bit:
            part ^= bit
            bit //= 2
        part |= bit
    return -1


@part
def _behind_combs(links: Links, link: int, cycle: int, vectors: int, period: int) -> Any:
    """Where a comb finds room in step once one of the link's newest combs is over, the soonest first; or -1."""
    while True:
        over, comb = -1, links.state[link, COMB]
        for _ in range(COMBS_MAX):
            if comb < 0:
                break
            end = links.combs[comb, 0] + (links.combs[comb, 1] - 1) * links.combs[comb, 2] + links.slot
            if end > cycle and (over < 0 or end < over):
                over = end
            comb = links.combs[comb, 3]
        if over < 0:
            return -1
        beside = _beside_comb(links, link, over, vectors, period)
        if beside >= 0:
            return beside
        cycle = over


@part
def earliest(links: Links, link: int, cycle: int, vectors: int, stride: int) -> Any:
    """First cycle from `cycle` on found at which `link` is clear for `vectors` vectors, `stride` apart."""
    if vectors == 1:
        return next_free(links, link, cycle)
    in_step = links.in_step and stride >= 2 * links.slot
    if in_step:
        beside = _beside_comb(links, link, cycle, vectors, stride)
        if beside >= 0:
            return beside
    for _ in range(BUMPS_MAX):
        j = _first_clash(links, link, cycle, vectors, stride)
        if j < 0:
            return cycle
        cycle = next_free(links, link, cycle + j * stride) - j * stride
    if in_step:
        beside = _behind_combs(links, link, cycle, vectors, stride)
        if beside >= 0:
            return beside
    return max(cycle, links.state[link, TAIL])


@part
def fitting(links: Links, link: int, start: int, vectors: int, stride: int) -> Any:
    """How many vectors of a run that starts in `start` may leave before the first that may not."""
    j = _first_clash(links, link, start, vectors, stride)
    return vectors if j < 0 else j


@part
def occupy(links: Links, link: int, start: int, vectors: int, stride: int) -> None:
    """Take the slots of a run where there is room; the caller has made room for it in `links` (`grow_links`)."""
    slot = links.slot
    end = start + (vectors - 1) * stride + slot
    links.state[link, TAIL] = max(links.state[link, TAIL], end)
    links.state[link, FREE] = max(links.state[link, FREE], end)
    links.used[2] = max(links.used[2], end)
    if stride < 2 * slot:
        _fill(links, link, start - slot + 1, end)
        return
    for j in range(max(0, -(start // stride)), vectors):
        at = start + j * stride
        _fill(links, link, at - slot + 1, at + slot)
    if vectors >= COMB_LEAST:
        comb = links.used[1]
        links.used[1] += 1
        links.combs[comb, 0], links.combs[comb, 1], links.combs[comb, 2] = start, vectors, stride
        links.combs[comb, 3] = links.state[link, COMB]
        links.state[link, COMB] = comb


@leaf
def _fill(links: Links, link: int, begin: int, end: int) -> None:
    """Let no vector leave in cycles begin..end - 1; those before 0 are over."""
    at = max(0, begin)
    while at < end:
        page = _page(links, link, at >> PAGE)
        if page == 0:
            page = _new_page(links, link, at >> PAGE)
        bits = min(end, (at | 63) + 1) - at
        links.words[page, (at & (PAGE_CYCLES - 1)) >> 6] |= (ALL >> np.uint64(64 - bits)) << np.uint64(at & 63)
        at += bits


@entry(makes_arrays=True)
def take_runs(links: Links, runs: Array, others: bool) -> Links:
    """The links with runs [run, 4] (link, start, vectors, stride) on them that were placed elsewhere.

    Those of other micro-batches count where ways are chosen by all their cycles, whenever they come.
    """
    for link, start, vectors, stride in runs:
        end = start + (vectors - 1) * stride + links.slot
        pages = (end - max(0, start) >> PAGE) + 3
        if lacks_links(links, 1, pages):
            links = grow_links(links, 1, pages)
        free = links.state[link, FREE]
        occupy(links, link, start, vectors, stride)
        if others:
            links.state[link, FREE] = free
            for j in range(max(0, -(start // stride)), vectors):
                links.load[_page(links, link, start + j * stride >> PAGE)] += links.slot
    return links


@leaf
def taken_by_others(links: Links, link: int, cycle: int, span: int) -> Any:
    """About how many cycles from `cycle` to `span` later other micro-batches take."""
    taken, page, last = 0, cycle >> PAGE, min(cycle + span, links.state[link, TAIL]) >> PAGE
    while page <= last:
        taken += links.load[_page(links, link, page)]
        page += 1
    return taken
