"""What a compiled function is made of: its code, the functions it calls and the values it names, wherever they stand.

An edit of a callee or of a constant in another file changes the fingerprint, an edit of a comment does not. Times of
files play no part, and what is described is what runs, not what lies on disk by now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

# What these hold is told by their version, which belongs to the key under which a function is kept.
VERSIONED = {"builtins", "llvmlite", "math", "numba", "numpy", "operator"}


def fingerprint(function: Any) -> str:
    """A digest of all that `function` (compiled or plain) is made of.

    Raises TypeError for a global that cannot be told apart by its value, so that nothing is left out in silence.
    """
    digest = hashlib.sha256()
    _Reader(digest.update).function(function)
    return digest.hexdigest()


def functions_of(function: Any) -> int:
    """Of how many functions `function` is made, itself included."""
    reader = _Reader(lambda _: None)
    reader.function(function)
    return len(reader.seen)


class _Reader:
    """Goes through functions and values, each function once, and hands on a text of each."""

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self._write = write
        self.seen: dict[FunctionType, int] = {}  # and their order, by which a function met again is named

    def _say(self, *words: object) -> None:
        self._write(("\x1f".join(map(str, words)) + "\x1e").encode())

    def function(self, function: Any) -> None:
        plain = function
        while hasattr(plain, "__wrapped__"):  # the compiled function's Python
            plain = plain.__wrapped__
        if plain in self.seen:
            self._say("again", self.seen[plain])
            return
        self.seen[plain] = len(self.seen)
        if plain.__closure__:
            raise TypeError(f"{plain.__qualname__}: kernels cannot be made inside functions, whose variables they would keep")
        self._say("function", plain.__module__, plain.__qualname__, sorted(getattr(function, "targetoptions", {}).items()))
        self.value(plain.__defaults__, plain.__qualname__)
        self._code(plain.__code__, plain.__globals__)

    def _code(self, code: CodeType, names: dict[str, Any]) -> None:
        self._say("code", code.co_code.hex(), code.co_varnames, code.co_names, code.co_freevars)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._code(constant, names)
            else:
                self.value(constant, code.co_name)
        for name in code.co_names:  # globals, and attributes of what they are
            if name in names:
                self._say("name", name)
                self._global(names[name], code)

    def _global(self, thing: Any, code: CodeType) -> None:
        if isinstance(thing, ModuleType) and not _versioned(thing.__name__):
            for name in code.co_names:
                if hasattr(thing, name):
                    self._say("attribute", thing.__name__, name)
                    self.value(getattr(thing, name), code.co_name)
        else:
            self.value(thing, code.co_name)

    def value(self, thing: Any, where: str) -> None:
        """A value that the code of `where` names."""
        if thing is None or isinstance(thing, (bool, int, float, complex, str, bytes)):
            self._say(type(thing).__name__, repr(thing))
        elif isinstance(thing, ModuleType) and _versioned(thing.__name__):
            self._say("module", thing.__name__)
        elif isinstance(thing, (type, BuiltinFunctionType)) and _versioned(thing.__module__):
            self._say("versioned", thing.__module__, thing.__qualname__)
        elif isinstance(thing, (tuple, frozenset)):
            items = thing if isinstance(thing, tuple) else sorted(thing, key=repr)
            self._say(type(thing).__qualname__, len(items))
            for item in items:
                self.value(item, where)
        elif isinstance(thing, type) and issubclass(thing, tuple):
            self._say("fields", thing.__module__, thing.__qualname__, getattr(thing, "_fields", ()))
        elif _versioned(type(thing).__module__) and hasattr(thing, "tobytes"):  # arrays and scalars of numpy
            self._say("array", repr(thing.dtype), thing.shape, thing.tobytes().hex())
        elif callable(thing) and (isinstance(thing, FunctionType) or hasattr(thing, "__wrapped__")):
            if _versioned(thing.__module__ or ""):
                self._say("versioned", thing.__module__, thing.__qualname__)
            else:
                self.function(thing)
        elif _versioned(type(thing).__module__) and type(thing).__module__ != "builtins":  # types of numba and numpy
            self._say("versioned value", repr(thing))
        else:
            raise TypeError(f"{where}: a kernel cannot name a {type(thing).__name__}, whose value it would keep: {thing!r:.80}")


def _versioned(module: str) -> bool:
    return module.partition(".")[0] in VERSIONED
