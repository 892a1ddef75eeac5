"""Which replica a request goes to."""

from __future__ import annotations

from collections.abc import Callable

from dcsim.cluster.request import Request

_DOWN = 1 << 40  # added to the load of a replica that stands still: it is chosen only when all do


class Router:
    """Chooses among `count` replicas by their loads (requests there and not finished); ties go to the first."""

    def __init__(self, kind: str, count: int) -> None:
        self.loads = [0] * count
        self._turn = -1
        self._choose: Callable[[Request], int] = {
            "round_robin": self._round_robin,
            "least_loaded": self._least_loaded,
            "session": self._session,
        }[kind]

    def choose(self, request: Request) -> int:
        """Index of the replica for the request."""
        return self._choose(request)

    def change(self, replica: int, by: int) -> None:
        """The replica's load changes."""
        self.loads[replica] += by

    def set_down(self, replica: int, down: bool) -> None:
        """The replica stands still, or works again."""
        self.loads[replica] += _DOWN if down else -_DOWN

    def _least_loaded(self, request: Request) -> int:
        return self.loads.index(min(self.loads))

    def _round_robin(self, request: Request) -> int:
        self._turn = (self._turn + 1) % len(self.loads)
        return self._up(self._turn)

    def _session(self, request: Request) -> int:
        """The same for all turns of a session; least loaded for requests without."""
        return self._up(request.session % len(self.loads)) if request.session >= 0 else self._least_loaded(request)

    def _up(self, first: int) -> int:
        """The first replica from `first` on that works; `first` if none does."""
        count = len(self.loads)
        return next(((first + i) % count for i in range(count) if self.loads[(first + i) % count] < _DOWN), first)
