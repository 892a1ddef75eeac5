"""Work spread over processes, which end with this one: after Ctrl-C, an error, and even if it is killed.

Each worker is a fresh process with one pipe to this one, takes one piece of work at a time and sends back what came of it. The
standard library's pools wait for work that runs when they are interrupted, leave processes behind when they are killed, and
know nothing more when a worker is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from dcsim.interrupt import undisturbed

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Lost:
    """What is known of a piece of work whose worker died."""

    reason: str


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_cores() -> int:
    """Cores that work of this process may be spread over: one where it is itself one of several that share them."""
    from multiprocessing import current_process

    return 1 if current_process().daemon else cores()


def spread(function: Callable[[Item], Result], items: Sequence[Item], jobs: int) -> Iterator[tuple[int, Result | Lost]]:
    """`function(item)` of every item, by `jobs` processes: (index, result) in the order in which they are done.

    The function and the items must be such that can be sent to a process. Raises what the function raises; an item whose worker
    dies is `Lost`, and another worker goes on.
    """
    left = iter(enumerate(items))
    with Workers(function, jobs) as pool:
        while True:
            while pool.has_room and (following := next(left, None)) is not None:
                pool.give(*following)
            if not pool.busy:
                return
            found = pool.take()
            if (following := next(left, None)) is not None:  # before whoever asked goes on with what came
                pool.give(*following)
            yield found


class Workers:
    """Up to `jobs` processes that do what they are given, one piece at a time each; started when they are first needed."""

    def __init__(self, function: Callable[[Any], Any], jobs: int) -> None:
        self._function, self._jobs = function, jobs
        self._busy: dict[Any, _Worker] = {}
        self._idle: list[_Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def busy(self) -> int:
        """How many pieces of work are being done."""
        return len(self._busy)

    @property
    def has_room(self) -> bool:
        """Whether another piece would be begun at once."""
        return len(self._busy) < self._jobs

    def knows(self, kin: object) -> bool:
        """Whether an idle process did its last piece of that kin."""
        return any(worker.kin == kin for worker in self._idle)

    def give(self, index: int, item: Any, kin: object = None) -> None:
        """Begin a piece of work: by the process that last did a piece of the same kin, if it is idle, then by a new one."""
        worker = next((one for one in self._idle if one.kin == kin), None)
        if worker is not None:
            self._idle.remove(worker)
        elif len(self._busy) + len(self._idle) < self._jobs:
            worker = _Worker(self._function)
        else:
            worker = self._idle.pop(0)
        worker.kin = kin
        self._busy[worker.pipe] = worker
        worker.give(index, item)

    def take(self) -> tuple[int, Any]:
        """Wait for the next piece that is done: its index, and what came of it or `Lost`. Raises what the function raised."""
        from multiprocessing.connection import wait

        worker = self._busy.pop(wait(list(self._busy))[0])
        try:
            index, result = worker.take()
        except BaseException:
            worker.end()
            raise
        if isinstance(result, Lost):
            worker.end()
        else:
            self._idle.append(worker)
        return index, result

    def end(self) -> None:
        """End all of them, whatever they are doing."""
        for worker in (*self._busy.values(), *self._idle):
            worker.end()
        self._busy.clear()
        self._idle.clear()


class _Worker:
    """One process and what it is doing."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        from multiprocessing import get_context

        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, function), daemon=True)
        self._index = -1
        self.kin: object = None
        with undisturbed(), _interrupts_held(), _main_hidden(function):
            self._process.start()
        theirs.close()

    def give(self, index: int, item: Any) -> None:
        """Let it work on an item."""
        self._index = index
        with contextlib.suppress(OSError):  # it has died, which `take` tells
            self.pipe.send(item)

    def take(self) -> tuple[int, Any]:
        """The item's index and what came of it. Raises what its function raised."""
        try:
            result, error = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join(1)
            return self._index, Lost(_why(self._process.exitcode))
        if error is not None:
            raise error
        return self._index, result

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _why(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        hint = ", as the system does where memory runs out" if -code == signal.SIGKILL else ""
        return f"its process was killed ({name}{hint})"
    return f"its process ended by itself (exit code {code})"


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started within the block never see Ctrl-C, which the terminal sends to all of them: this one ends them."""
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # starts a process of its own, once, after which signals are held no longer
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _main_hidden(function: Callable[..., Any]) -> Iterator[None]:
    """Processes started within the block do not run the user's script again, unless the function is of it.

    So a script that asks the library needs no `if __name__ == "__main__"`.
    """
    main = sys.modules.get("__main__")
    if getattr(function, "__module__", type(function).__module__) == "__main__":
        yield
        return
    before = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    for name in before:
        setattr(main, name, None)
    if "__file__" in before:
        del main.__file__  # type: ignore[union-attr]  # it has one, so it is a module
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(main, name, value)


def _work(pipe: Any, function: Callable[[Any], Any]) -> None:
    """A worker's life: it ends when its parent does, and when nothing more comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            item = pipe.recv()
            try:
                answer: tuple[Any, Exception | None] = function(item), None
            except Exception as error:
                answer = None, error
            pipe.send(answer)


def _end_with_parent() -> None:
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
