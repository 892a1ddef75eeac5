"""Who is told that a mapping is searched for, and how far that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, bool], None]
"""Called with what is searched for (True), then with how far that is (False), in the end with nothing more to say."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within the block `listener` hears what is searched for, and then how far that is; without one a search is silent."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(what: str, begins: bool = False) -> None:
    """Say it to whoever listens."""
    listener = _listener.get()
    if listener is not None:
        listener(what, begins)
