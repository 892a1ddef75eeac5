"""Requests that wait for admission: higher priority first, within one priority first come first served."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from dcsim.cluster.request import Request


class Waiting:
    """One queue for each priority."""

    def __init__(self, priorities: Iterable[int]) -> None:
        self._queues = {priority: deque[Request]() for priority in sorted(set(priorities), reverse=True)}
        self._in_turn = list(self._queues.values())
        self.count = 0

    def __iter__(self) -> Iterator[Request]:
        return (request for queue in self._in_turn for request in queue)

    def append(self, request: Request) -> None:
        """The request waits behind all of its priority."""
        self._queues[request.priority].append(request)
        self.count += 1

    def head(self) -> Request:
        """The next in turn; there must be one."""
        return next(queue for queue in self._in_turn if queue)[0]

    def remove(self, request: Request) -> None:
        """Take a request out, wherever it stands."""
        queue = self._queues[request.priority]
        if queue[0] is request:
            queue.popleft()
        else:
            queue.remove(request)
        self.count -= 1
