"""Blocks of prompts that stay in a replica's KV, shared by all requests whose prompts begin with them.

A block is known by an id that stands for the prompt up to its end, so that equal ids mean equal beginnings. A block is pinned
while a request that found it is served, and otherwise free: it stays while nobody needs its room, and the one used longest ago
goes first, of one request's the last before the first.
"""

from __future__ import annotations

from collections.abc import Sequence


class PrefixBlocks:
    """Counts blocks; what they take is `KvRoom`'s business."""

    def __init__(self) -> None:
        self._pinned: dict[int, int] = {}  # id -> requests that use it
        self._free: dict[int, None] = {}  # in the order they will go

    def __len__(self) -> int:
        return len(self._pinned) + len(self._free)

    @property
    def free(self) -> int:
        """Blocks that may go."""
        return len(self._free)

    def found(self, blocks: Sequence[int]) -> int:
        """How many of a prompt's first blocks are here."""
        for i, block in enumerate(blocks):
            if block not in self._pinned and block not in self._free:
                return i
        return len(blocks)

    def pin(self, blocks: Sequence[int]) -> int:
        """Blocks that are here are used by one more request; returns how many were free before."""
        were_free = 0
        for block in blocks:
            if block in self._free:
                del self._free[block]
                were_free += 1
            self._pinned[block] = self._pinned.get(block, 0) + 1
        return were_free

    def unpin(self, blocks: Sequence[int]) -> int:
        """A request uses them no more; returns how many are free now."""
        now_free = 0
        for block in reversed(blocks):
            self._pinned[block] -= 1
            if not self._pinned[block]:
                del self._pinned[block]
                self._free[block] = None
                now_free += 1
        return now_free

    def add(self, blocks: Sequence[int]) -> int:
        """Blocks that a request has read and left here, those that were here already used just now; returns how many are new."""
        new = 0
        for block in reversed(blocks):
            if block in self._pinned:
                continue
            if block in self._free:
                del self._free[block]
            else:
                new += 1
            self._free[block] = None
        return new

    def drop(self) -> None:
        """The free block that was used longest ago goes."""
        del self._free[next(iter(self._free))]

    def clear(self) -> None:
        """All contents are lost."""
        self._pinned.clear()
        self._free.clear()
