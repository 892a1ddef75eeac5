"""Cross traffic on single links, and the random draws it is made of.

A link's cross traffic is worked out when somebody asks for the link: up to then it makes no events.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dcsim.kernels.jit import leaf, part


@leaf
def mix(a: int, b: int, c: int) -> Any:
    """A well mixed non-negative integer of three (splitmix64's finalizer): a random draw that needs no state."""
    x = np.uint64(np.int64(a)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(b) * np.uint64(0xD1B54A32D192ED03) + np.uint64(c)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return np.int64(x >> np.uint64(2))


@leaf
def _uniform(rules: Any, links: Any, link: int) -> float:
    """The link's next draw in (0, 1) for cross traffic."""
    links[link].cross_count += 1
    draw = mix(rules[0].seed, link + (1 << 41), links[link].cross_count)
    return float((draw + 0.5) / 4611686018427387904.0)


@part
def advance_cross_traffic(rules: Any, links: Any, link: int, now: int) -> None:
    """Queue the cross traffic that reached the link up to `now`: Poisson packets, in bursts if burst_ps is set.

    In bursts the link's cross traffic is on or off for exponential spells; on, it offers the square root of
    its mean load, so that it is on for that same share of the time.
    """
    load, burst = links[link].background, rules[0].burst_ps
    on_load = math.sqrt(load) if burst > 0 else load
    one_ps = rules[0].cross_bytes * links[link].fs_per_byte // 1000
    gap = one_ps / on_load
    longest = int(400 * gap / (1.0 - on_load))
    if links[link].cross_count == 0:
        _begin_cross_traffic(rules, links, link, burst, on_load, gap)
    while links[link].cross_next <= now:
        if burst > 0 and links[link].cross_next >= abs(links[link].cross_turn):
            _turn(rules, links, link, burst, on_load)
            continue
        if now - links[link].cross_next > longest and burst == 0:
            links[link].cross_next = now - longest
        if burst > 0 and min(now, links[link].cross_turn) - links[link].cross_next > longest:
            links[link].cross_next = min(now, links[link].cross_turn) - longest
        links[link].free = max(links[link].free, links[link].cross_next) + one_ps
        links[link].cross_next += max(1, int(-math.log(_uniform(rules, links, link)) * gap))


@leaf
def _begin_cross_traffic(rules: Any, links: Any, link: int, burst: int, on_fraction: float, gap: float) -> None:
    """The link's first draws: on or off as in the long run, and the first arrival."""
    on = burst == 0 or _uniform(rules, links, link) < on_fraction
    links[link].cross_next = int(-math.log(_uniform(rules, links, link)) * gap)
    if burst > 0:
        spell = max(1, int(-math.log(_uniform(rules, links, link)) * burst * (1.0 if on else (1.0 - on_fraction) / on_fraction)))
        links[link].cross_turn = spell if on else -spell
        if not on:
            links[link].cross_next = spell


@leaf
def _turn(rules: Any, links: Any, link: int, burst: int, on_fraction: float) -> None:
    """Cross traffic turns off, or on again."""
    at = abs(links[link].cross_turn)
    spell = -math.log(_uniform(rules, links, link)) * burst
    if links[link].cross_turn > 0:
        off = max(1, int(spell * (1.0 - on_fraction) / on_fraction))
        links[link].cross_turn = -(at + off)
        links[link].cross_next = at + off
    else:
        links[link].cross_turn = at + max(1, int(spell))
