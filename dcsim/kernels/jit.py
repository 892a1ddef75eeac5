"""How functions are compiled: `entry` for those that Python calls, `part` and `leaf` for those that kernels call.

Compiling takes longest where the same is compiled often. numba makes machine code of every function with all that it calls,
and again for every kind of integer and every constant that it is handed; here of entries alone, and parts are compiled for
one kind of integer. Entries are kept on disk (`kept`).

Compiled code counts the uses of every array that it is handed, two atomic operations an array and call, which takes half to
two thirds of the time of loops that call small functions. Only functions that make arrays need it, and say so.

Entries let go of the interpreter's lock while they run, so that Ctrl-C is heeded meanwhile (`interrupt`).
"""

from __future__ import annotations

import hashlib
import inspect
import os
import pickle
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from typing import Any, TypeVar, overload

import llvmlite
import numba
import numpy as np
from numba.core import types
from numba.core.caching import NullCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, CompileResult, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.registry import CPUDispatcher
from numba.core.serialize import dumps
from numba.core.typed_passes import NativeLowering

from dcsim.kernels import kept, progress
from dcsim.kernels.made_of import fingerprint, functions_of

settings: Any = numba.config  # neither this
kinds: Any = types  # nor this carries all its types

Function = TypeVar("Function", bound=Callable[..., Any])


@overload
def entry(function: Function) -> Function: ...
@overload
def entry(*, makes_arrays: bool) -> Callable[[Function], Function]: ...
def entry(function: Any = None, *, makes_arrays: bool = False) -> Any:
    """A function that Python calls, compiled at its first call with arguments of such types; kernels may call it too."""
    return _decorated(_Entry, {"nogil": True}, function, makes_arrays)


@overload
def part(function: Function) -> Function: ...
@overload
def part(*, makes_arrays: bool) -> Callable[[Function], Function]: ...
def part(function: Any = None, *, makes_arrays: bool = False) -> Any:
    """A function that only kernels call."""
    return _decorated(_Part, {}, function, makes_arrays)


@overload
def leaf(function: Function) -> Function: ...
@overload
def leaf(*, makes_arrays: bool) -> Callable[[Function], Function]: ...
def leaf(function: Any = None, *, makes_arrays: bool = False) -> Any:
    """A part whose code is put in place of every call of it."""
    return _decorated(_Part, {"forceinline": True}, function, makes_arrays)


def _decorated(kind: Any, options: dict[str, Any], function: Any, makes_arrays: bool) -> Any:
    if function is None:
        return lambda f: _decorated(kind, options, f, makes_arrays)
    if settings.DISABLE_JIT:
        return np.errstate(over="ignore")(function)  # 64 bits go round, as in compiled code
    return kind(function, {"nopython": True, "boundscheck": None, "_nrt": makes_arrays, **options})


class _Kernel(CPUDispatcher):
    """A compiled function. What kernels hand over is widened: one make does for int32, int64 and constants."""

    __qualname__: str  # numba gives it the names of its Python

    def get_call_template(self, args: Any, kws: Any) -> Any:
        return super().get_call_template(tuple(map(_wide, args)), {name: _wide(kind) for name, kind in kws.items()})


class _Entry(_Kernel):
    def __init__(self, function: Any, options: dict[str, Any]) -> None:
        # Without the interpreter's lock, so that a signal is heeded meanwhile (see dcsim.interrupt).
        super().__init__(function, targetoptions={"no_cfunc_wrapper": True, "nogil": True, **options})
        self._cache = _Files(self)

    def compile(self, sig: Any) -> Any:
        with progress.compiling(self.name, lambda: functions_of(self)), ExitStack() as turn:
            self._cache.turn = turn
            return super().compile(sig)

    @property
    def name(self) -> str:
        return f"{self.__module__}.{self.__qualname__}"


class _Part(_Kernel):
    def __init__(self, function: Any, options: dict[str, Any]) -> None:
        options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **options}
        super().__init__(function, targetoptions=options, pipeline_class=_PartCompiler)
        self._cache = _NoFiles()

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"{self.__qualname__} is a part, which only kernels call; make it an entry to call it from Python")


def _wide(kind: Any) -> Any:
    kind = kinds.unliteral(kind)
    return kinds.int64 if isinstance(kind, kinds.Integer) and kind.signed else kind


class _PartCompiler(CompilerBase):
    """numba's steps for a function, but for the last: see `_PartLowering`."""

    def define_pipelines(self) -> list[Any]:
        steps = DefaultPassBuilder.define_nopython_pipeline(self.state)
        steps.passes = [(_PartLowering if step is NativeLowering else step, name) for step, name in steps.passes]
        steps.finalize()
        return [steps]


@register_pass(mutates_CFG=True, analysis_only=False)
class _PartLowering(NativeLowering):
    """Translates a function and makes no machine code of it."""

    _name = "part_lowering"

    def run_pass(self, state: Any) -> bool:
        state.library = _PartCode(state.targetctx.codegen(), state.func_id.func_qualname)
        return bool(super().run_pass(state))


class _PartCode(JITCodeLibrary):
    """A part's code and that of the parts it calls, for other functions to take in; it is never run by itself."""

    def _optimize_final_module(self) -> None:
        """A function is optimised by itself when it is added, and with what it calls in the entry that takes all in."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> Any:
        return self  # asked only to `set_env`

    def set_env(self, env_name: str, env: Any) -> None:
        """There is no code yet that could look at it."""


class _NoFiles(NullCache):
    """Keeps nothing of a part; being asked for it tells that its compilation begins."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        progress.step()
        return None


class _Files(NullCache):
    """An entry's machine code in files, one for each of the types it was compiled for.

    Of several processes that want the same one compiles, and the others wait for what it finds.
    """

    def __init__(self, entry: _Entry) -> None:
        self._entry = entry
        self.turn = ExitStack()  # ends with the compilation under way

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        key = self._key(sig, target_context.codegen())
        content = kept.read(*key)
        if content is None:
            self.turn.enter_context(kept.turn(self._entry.name))
            content = kept.read(*key)
        if content is not None:
            return CompileResult._rebuild(target_context, *pickle.loads(content))
        progress.step()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if not data.library.has_dynamic_globals:  # addresses that mean nothing in another process
            kept.write(*self._key(sig, data.codegen), dumps(data._reduce()))

    def _key(self, sig: Any, codegen: Any) -> tuple[str, str, str]:
        """Which function, what it is made of, and for which arguments and processor."""
        settings = sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_") and "CACHE" not in item[0])
        return self._entry.name, _digest(fingerprint(self._entry), _recipe()), _digest(sig, codegen.magic_tuple(), settings)


@cache
def _recipe() -> str:
    """What else machine code follows from: this file and the versions of all that compiles."""
    return _digest(inspect.getsource(sys.modules[__name__]), sys.version, numba.__version__, llvmlite.__version__, np.__version__)


def _digest(*parts: Any) -> str:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:16]
