"""How the engine's functions are compiled.

The state is a tuple of arrays, so a call that is not inlined copies it, and with numba's reference counting touches
every array's counter. Nothing here allocates, hence no counting; `leaf` functions are inlined wherever they are
called, `part` functions are called, and only `entry` functions can be called from Python.
"""

from __future__ import annotations

from typing import Any

from numba import njit

_UNCOUNTED: dict[str, Any] = {"cache": True, "_nrt": False}
_INNER: dict[str, Any] = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

entry: Any = njit(**_UNCOUNTED)
entry_leaf: Any = njit(forceinline=True, **_UNCOUNTED)
part: Any = njit(**_INNER)
leaf: Any = njit(forceinline=True, **_INNER)
