"""A replica's room for keys and values, in tokens.

A request holds room for all it will ever store from admission to its end, so a sequence once begun never stops for
want of room. What an ended turn of a session stored is kept while nobody needs the room; the session's next turn
finds it there and reads only the rest of its prompt. Room is made by dropping the turn that ended longest ago.
"""

from __future__ import annotations

from collections.abc import Callable

from dcsim.cluster.request import Request


class KvRoom:
    """`used` tokens held by requests and `kept_total` by ended turns never exceed `capacity` together."""

    def __init__(self, capacity: int, reuse: Callable[[], bool]) -> None:
        self.capacity, self._reuse = capacity, reuse  # asked only where a turn of a session ends
        self.used = 0
        self._held: dict[int, int] = {}  # request index -> tokens
        self.kept: dict[int, int] = {}  # session -> tokens, the one that ended longest ago first
        self.kept_total = 0

    def fits(self, tokens: int) -> bool:
        """Whether `tokens` can be had now, dropping kept turns if need be."""
        return self.used + tokens <= self.capacity

    def take(self, request: Request, tokens: int) -> None:
        """Hold `tokens` for the request, which must fit; its `read` starts at what its session left here."""
        reused = 0
        if request.session in self.kept:
            kept = self.kept.pop(request.session)
            self.kept_total -= kept
            reused = min(kept, request.prefix, request.prompt - 1)
        request.read = reused
        request.reused += reused
        self._held[request.index] = tokens
        self.used += tokens
        self._make_room()

    def give_back(self, request: Request, *, keep: bool = True) -> None:
        """The request's room is free again; an ended turn may stay while nobody needs the room."""
        self.used -= self._held.pop(request.index, 0)
        if keep and request.session >= 0 and self._reuse():
            # The last token was never an input, so its key and value were never made.
            stored = request.prompt + request.given - 1
            self.kept_total += stored - self.kept.pop(request.session, 0)
            self.kept[request.session] = stored
            self._make_room()

    def clear(self) -> None:
        """All contents are lost."""
        self.used = self.kept_total = 0
        self.kept.clear()
        self._held.clear()

    def _make_room(self) -> None:
        while self.used + self.kept_total > self.capacity:
            self.kept_total -= self.kept.pop(next(iter(self.kept)))
