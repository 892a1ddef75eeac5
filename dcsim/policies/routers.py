"""Which replica a request goes to. A function added to ROUTERS can be named by `serving.router`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

_DOWN = 1 << 40  # added to the load of a replica that stands still: it is chosen only when all do


class Asks(Protocol):
    """What a router sees of a request."""

    session: int  # conversation; -1: none
    prompt: int  # tokens


class Router:
    """Chooses among `count` replicas by `kind`. `loads` are requests at each and not finished; one that is down looks full.

    `found` says how many leading tokens of a request's prompt a replica has in KV.
    """

    def __init__(self, kind: str, count: int, found: Callable[[int, Any], int] = lambda replica, request: 0) -> None:
        self._rule, self.found = ROUTERS[kind], found
        self.loads = [0] * count
        self.turn = -1  # the replica whose turn it was last

    def choose(self, request: Asks) -> int:
        """Index of the replica for the request."""
        return self._rule(self, request)

    def change(self, replica: int, by: int) -> None:
        """The replica's load changes."""
        self.loads[replica] += by

    def set_down(self, replica: int, down: bool) -> None:
        """The replica stands still, or works again."""
        self.loads[replica] += _DOWN if down else -_DOWN

    def up_from(self, first: int) -> int:
        """The first replica from `first` on that works; `first` if none does."""
        count = len(self.loads)
        return next(((first + i) % count for i in range(count) if self.loads[(first + i) % count] < _DOWN), first)


def least_loaded(router: Router, request: Asks) -> int:
    """The replica with the fewest requests; ties go to the first."""
    return router.loads.index(min(router.loads))


def round_robin(router: Router, request: Asks) -> int:
    """Each in turn."""
    router.turn = (router.turn + 1) % len(router.loads)
    return router.up_from(router.turn)


def prefix(router: Router, request: Asks) -> int:
    """The replica with the fewest tokens before it: what it would have to read of the prompt, and as much as the whole prompt for
    each request it has. So a long prefix outweighs waiting behind few others, and never behind many; ties go to the first.
    """
    loads = router.loads
    waits = [request.prompt * (1 + load) - router.found(replica, request) for replica, load in enumerate(loads)]
    return waits.index(min(waits))


def session(router: Router, request: Asks) -> int:
    """The same for all turns of a session; least loaded for requests without."""
    return router.up_from(request.session % len(router.loads)) if request.session >= 0 else least_loaded(router, request)


ROUTERS: dict[str, Callable[[Router, Asks], int]] = {
    "round_robin": round_robin,
    "least_loaded": least_loaded,
    "prefix": prefix,
    "session": session,
}
