"""Asking the processor for memory before it is read."""

from __future__ import annotations

from typing import Any

import numba
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def _fetch(typing_context: Any, array: Any, index: Any, skip: Any) -> Any:
    """Ask for the cache line `skip` bytes into array[index], to be written and kept; nothing else happens."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        tools: Any = cgutils  # and, by its name `ir`, llvmlite's code builder; neither carries types
        view = context.make_array(signature.args[0])(context, builder, values[0])
        byte, number = tools.ir.IntType(8).as_pointer(), tools.ir.IntType(32)
        place = tools.pointer_add(builder, view.data, builder.add(builder.mul(values[1], view.itemsize), values[2]), byte)
        kind = tools.ir.FunctionType(tools.ir.VoidType(), [byte, number, number, number])
        prefetch = tools.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_write, keep, data = (number(x) for x in (1, 3, 1))
        builder.call(prefetch, [place, to_write, keep, data])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), build


def _nothing(array: Any, index: int, skip: int) -> None:
    """Where kernels run as plain Python."""


settings: Any = numba.config
fetch: Any = _nothing if settings.DISABLE_JIT else intrinsic(_fetch)
