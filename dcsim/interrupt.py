"""Ctrl-C that never lands inside a compiled kernel.

A kernel that hands over its results calls small Python functions (of numba, or generated ones such as a named
tuple's constructor) and crashes the process if KeyboardInterrupt comes up in one of them. There the interrupt
waits and tries again a moment later. One that is lost, as in a callback of the garbage collector, comes again too.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_RETRY_S = 0.005
_AGAIN_S = 1.0  # longer than it takes to leave the block


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
