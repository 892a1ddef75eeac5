"""Who is told that kernels are being compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

Watcher = Callable[[str, int, int], None]
"""Called with an entry's full name, how many of the functions it is made of have been begun, and how many there are."""


@dataclass(slots=True)
class _Watch:
    tell: Watcher
    entry: str = ""  # the one being compiled
    total: Callable[[], int] = int
    begun: int = 0


_watch: ContextVar[_Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watched(tell: Watcher) -> Iterator[None]:
    """Within the block `tell` is called as functions are compiled; without one compiling is silent."""
    token = _watch.set(_Watch(tell))
    try:
        yield
    finally:
        _watch.reset(token)


@contextmanager
def compiling(entry: str, total: Callable[[], int]) -> Iterator[None]:
    """Within the block an entry made of `total()` functions may be compiled; within another it is one of that one's."""
    watch = _watch.get()
    if watch is None or watch.entry:
        yield
        return
    watch.entry, watch.total = entry, total
    try:
        yield
        if watch.begun:
            watch.tell(entry, total(), total())
    finally:
        watch.entry, watch.begun = "", 0


def step() -> None:
    """The compilation of one more function begins."""
    watch = _watch.get()
    if watch is not None and watch.entry:
        watch.begun += 1
        watch.tell(watch.entry, min(watch.begun, watch.total()), watch.total())
