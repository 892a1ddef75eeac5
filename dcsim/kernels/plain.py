"""Kernels as plain Python, for tests (`NUMBA_DISABLE_JIT=1`): records then read and write by attribute as in compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np


class _Record(np.record):  # type: ignore[misc]  # final by numpy's types alone
    """A record of an array. A field goes before numpy's own attribute of that name (`flags`, `size`); whole numbers are Python's,
    whose sums do not end at 32 bits: compiled code widens them too."""

    def __getattribute__(self, name: str) -> Any:
        fields = np.void.__getattribute__(self, "dtype").fields
        if fields is None or name not in fields:
            return super().__getattribute__(name)
        value = np.void.__getattribute__(self, "getfield")(*fields[name][:2])
        return value if isinstance(value, np.ndarray) else value.item()

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


def readable(array: Any) -> Any:
    """An array as kernels read it: itself where they are compiled, else one whose records and whole numbers are as said above."""
    import numba

    settings: Any = numba.config
    if not settings.DISABLE_JIT:
        return array
    if array.dtype.names is None:
        return array.astype(np.int64) if array.dtype.kind == "i" else array
    return array.view(np.dtype((_Record, array.dtype)))
