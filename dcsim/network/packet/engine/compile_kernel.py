"""How the engine's functions are compiled.

The state is a tuple of arrays, so a call that is not inlined copies it, and with numba's reference counting touches
every array's counter. Nothing here allocates, hence no counting; `leaf` functions are inlined wherever they are
called, `part` functions are called, and only `entry` functions can be called from Python.
"""

from __future__ import annotations

from typing import Any

from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_UNCOUNTED: dict[str, Any] = {"cache": True, "_nrt": False}
_INNER: dict[str, Any] = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

entry: Any = njit(**_UNCOUNTED)
entry_leaf: Any = njit(forceinline=True, **_UNCOUNTED)
part: Any = njit(**_INNER)
leaf: Any = njit(forceinline=True, **_INNER)


tools: Any = cgutils  # numba's code builder and, by its name `ir`, llvmlite's; neither carries types


def _fetch(typing_context: Any, array: Any, index: Any, skip: Any) -> Any:
    """Ask the processor to bring the cache line `skip` bytes into array[index] into its cache; nothing else happens."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, values[0])
        byte, number = tools.ir.IntType(8).as_pointer(), tools.ir.IntType(32)
        place = tools.pointer_add(builder, view.data, builder.add(builder.mul(values[1], view.itemsize), values[2]), byte)
        kind = tools.ir.FunctionType(tools.ir.VoidType(), [byte, number, number, number])
        prefetch = tools.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_write, keep, data = (number(x) for x in (1, 3, 1))
        builder.call(prefetch, [place, to_write, keep, data])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), build


fetch: Any = intrinsic(_fetch)
