"""Gaps between one token of a request and the next, counted for all sequences of a replica at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dcsim.cluster.request import Request
from dcsim.cluster.simpy.pace import Drawn, Steady


class TokenGaps:
    """`count(gap_ps, times)` takes the gaps. A sequence is late when its last token was not made just now."""

    def __init__(self, count: Callable[[int, int], None]) -> None:
        self._count = count
        self._late: dict[int, int] = {}  # request -> when its last token was made

    def join(self, request: Request, now: int) -> None:
        """The request decodes from now on; its last token may be older."""
        if request.token_ps != now:
            self._late[request.index] = request.token_ps

    def leave(self, request: Request) -> None:
        """The request decodes no more."""
        self._late.pop(request.index, None)

    def last_token_ps(self, request: Request, since: int) -> int:
        """When a decoding request's last token was made, the rounds under way having begun at `since`."""
        return self._late.get(request.index, since)

    def stand_still(self, requests: Iterable[Request], since: int) -> None:
        """Rounds that began at `since` gave these requests nothing."""
        for request in requests:
            self._late.setdefault(request.index, since)

    def rounds(self, pace: Steady | Drawn, rounds: int, decoding: int, since: int) -> None:
        """Each of `decoding` sequences got a token in each of the rounds that began at `since`."""
        first = pace.span_ps(1)
        if decoding > len(self._late):
            self._count(first, decoding - len(self._late))
        for made in self._late.values():
            self._count(since + first - made, 1)
        self._late.clear()
        if rounds == 1:
            return
        counted = 1  # the first round
        for _, length, times in pace.parts(rounds):
            if times > counted:
                self._count(length, decoding * (times - counted))
            counted = 0

    def clear(self) -> None:
        """Nothing is decoded any more."""
        self._late.clear()
