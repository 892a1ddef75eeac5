"""Bulk messages over links that each carry one after another."""

from __future__ import annotations

from typing import Any

from dcsim.kernels.jit import entry


@entry
def send(
    first: Any,
    links: Any,
    sizes: Any,
    piece_bytes: int,
    piece_fs: Any,
    hop_ps: Any,
    ends_ps: int,
    now: int,
    free: Any,
    held: Any,
    carried: Any,
) -> int:
    """Send messages at once, message m of `sizes[m]` bytes over `links[first[m]:first[m + 1]]`; when all are there.

    A message holds a link from its head's coming, or the link's being free, until its tail has left. Messages take a
    link in the order they are sent in. `free`, `held` and `carried` [link] are brought up to date.
    """
    end = now
    for m in range(len(sizes)):
        size = sizes[m]
        if not size:
            continue
        pieces = -(-size // piece_bytes)
        head = tail = now
        for place in range(first[m], first[m + 1]):
            link = links[place]
            begin = max(head, free[link])
            leaves = max(begin + pieces * piece_fs[link] // 1000, tail)
            free[link] = leaves
            held[link] += leaves - begin
            carried[link] += size
            head, tail = begin + hop_ps[link], leaves + hop_ps[link]
        end = max(end, tail + ends_ps)
    return end
