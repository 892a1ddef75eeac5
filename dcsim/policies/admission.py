"""Who of those that wait is admitted next. A function added to ADMISSION can be named by `serving.admission`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar


class Waits(Protocol):
    """What an admission policy sees of a request."""

    priority: int  # higher is served first


R = TypeVar("R", bound=Waits)


class Waiting(Generic[R]):
    """Requests that wait: higher priority first, within one priority in the order they came."""

    def __init__(self, priorities: Iterable[int]) -> None:
        self._queues = {priority: deque[R]() for priority in sorted(set(priorities), reverse=True)}
        self._in_turn = list(self._queues.values())
        self.count = 0

    def __iter__(self) -> Iterator[R]:
        return (request for queue in self._in_turn for request in queue)

    def append(self, request: R) -> None:
        """The request waits behind all of its priority."""
        self._queues[request.priority].append(request)
        self.count += 1

    def put_back(self, request: R) -> None:
        """The request waits before all of its priority: it was admitted once already."""
        self._queues[request.priority].appendleft(request)
        self.count += 1

    def remove(self, request: R) -> None:
        """Take a request out, wherever it stands."""
        queue = self._queues[request.priority]
        if queue[0] is request:
            queue.popleft()
        else:
            queue.remove(request)
        self.count -= 1


def in_turn(waiting: Waiting[R], fits: Callable[[R], bool]) -> R | None:
    """The first, if it fits; one that does not fit blocks the rest."""
    first = next(iter(waiting), None)
    return first if first is not None and fits(first) else None


def first_fit(waiting: Waiting[R], fits: Callable[[R], bool]) -> R | None:
    """The first that fits: short requests pass a long one that finds no room."""
    return next(filter(fits, waiting), None)


ADMISSION: dict[str, Callable[[Waiting[Any], Callable[[Any], bool]], Any]] = {"in_turn": in_turn, "first_fit": first_fit}
