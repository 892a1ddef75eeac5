"""Ctrl-C, whatever the process is doing.

The command line ends on the spot (`ends_on_signals`). A signal's C handler, which runs even while the interpreter is inside
a compiled kernel, a compilation or an import, wakes a thread that stops the workers, says the last words, removes what is
half written and ends the process. Nothing unwinds, so nothing has to be safe to unwind; kernels release the interpreter's
lock so that the thread may run. Python's own way, an exception that comes up anywhere, crashes the process inside a kernel and
is lost inside an import.

In Python (`careful_interrupts`) the process goes on, so there it is an exception: KeyboardInterrupt, but never inside a kernel.
A kernel that hands over its results calls small Python functions (of numba, or generated ones such as a named tuple's
constructor) and crashes the process if the exception comes up in one of them. There the interrupt waits and tries again a moment
later. One that is lost, as in a callback of the garbage collector, comes again too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130  # exit code after Ctrl-C, as a shell has it
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_LAST_WORD = "interrupted; nothing was written"
_RETRY_S = 0.005
_AGAIN_S = 1.0  # longer than it takes to leave the block
_UNDISTURBED_S = 1.0  # how long a step that must not be cut in two may take
_PARKED_S = 5.0

_last_words: list[Callable[[], str]] = []  # each does what has to be done before the end, and tells what it did
_written: list[str] = []  # files and folders that this process has completed
_step = threading.Lock()  # held during steps that must not be cut in two


@contextmanager
def ends_on_signals() -> Iterator[None]:
    """Within the block Ctrl-C, and a request to end, end the process at once with one line: exit code 130 (128 + signal).

    Changes nothing where somebody else looks after these signals, where they are ignored, and off the main thread.
    """
    heeded = _heeded()
    if not heeded:
        yield
        return
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    guard = threading.Thread(target=_guard, args=(readable,), name="signals", daemon=True)
    guard.start()
    before = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, _park) for number in heeded}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(writable)
        guard.join()
        os.close(readable)


@contextmanager
def last_words(say: Callable[[], str]) -> Iterator[None]:
    """Within the block, a signal that ends the process calls `say` first: it may save what there is, and returns one line."""
    _last_words.append(say)
    try:
        yield
    finally:
        _last_words.remove(say)


def tell_written(path: str | os.PathLike[str]) -> None:
    """A file or folder is complete: whoever interrupts what comes after is told that it is there."""
    _written.append(os.fspath(path))


def last_word() -> str:
    """What an interrupted command says if nobody has more to say."""
    return f"interrupted; complete: {', '.join(_written[-3:])}" if _written else _LAST_WORD


@contextmanager
def undisturbed() -> Iterator[None]:
    """No signal ends the process within the block, which must be short."""
    with _step:
        yield


def _heeded() -> list[int]:
    if threading.current_thread() is not threading.main_thread():
        return []
    natural = (signal.SIG_DFL, signal.default_int_handler)
    return [number for number in _SIGNALS if signal.getsignal(number) in natural]


def _park(*_: object) -> None:
    """The main thread stands still, so that the guard finds things as they are."""
    threading.Event().wait(_PARKED_S)
    os._exit(INTERRUPTED)


def _guard(readable: int) -> None:
    """Wait for a signal's number, or for the end of the block, which closes the pipe."""
    numbers = os.read(readable, 1)
    if numbers:
        _end(numbers[0])


def _end(number: int) -> None:
    """End the process. Writes go past Python's buffers, whose locks the parked thread may hold."""
    _stop_workers()
    words = []
    for say in reversed(_last_words):
        with contextlib.suppress(Exception):
            words.append(say())
    _step.acquire(timeout=_UNDISTURBED_S)
    writing = sys.modules.get("dcsim.writing")
    if writing is not None:
        writing.drop_all()
    clear = "\r\x1b[2K\x1b[?25h" if os.isatty(2) else ""  # a progress bar's line goes, the cursor comes back
    with contextlib.suppress(OSError):
        os.write(2, f"{clear}{next(filter(None, words), last_word())}\n".encode(errors="replace"))
    os._exit(128 + number)


def _stop_workers() -> None:
    multiprocessing = sys.modules.get("multiprocessing.process")
    for child in multiprocessing.active_children() if multiprocessing else ():
        with contextlib.suppress(OSError, ValueError):
            child.kill()
            child.join(0.2)


@contextmanager
def careful_interrupts() -> Iterator[None]:
    """Within the block Ctrl-C raises KeyboardInterrupt, but only where Python code of our own runs.

    Changes nothing where somebody else looks after these signals, off the main thread, and on systems without timers.
    """
    if not _is_ours():
        yield
        return
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_ours() -> bool:
    return (
        hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    )


def _interrupt(_: int, frame: FrameType | None) -> None:
    file = frame.f_code.co_filename if frame else ""
    inside_kernel = "numba" in file or file == "<string>"
    signal.setitimer(signal.ITIMER_REAL, _RETRY_S if inside_kernel else _AGAIN_S)
    if not inside_kernel:
        raise KeyboardInterrupt
