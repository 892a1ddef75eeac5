"""How compiled functions that make no arrays are compiled: without counting who uses an array.

Compiled code counts the uses of every array it is handed, two atomic operations an array and call, which took half to
two thirds of the time of loops that call small functions. Functions that make arrays must be compiled with the count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])
_OPTIONS: dict[str, Any] = {"cache": True, "_nrt": False}
_compile: Any = njit(**_OPTIONS)


def uncounted(function: Function) -> Function:
    """The compiled function; it must not make arrays."""
    compiled: Function = _compile(function)
    return compiled
