"""What a process may read while it works on files from elsewhere: the store, the library and what Python itself needs."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcsim import library

# Of the system, and nothing a person keeps there.
SYSTEM = ("/usr", "/lib", "/lib64", "/proc", "/sys", "/dev", "/etc/localtime", "/etc/ld.so.cache")

_allowed: tuple[str, ...] | None = None
_hooked = False


@contextlib.contextmanager
def fence(store: Path) -> Iterator[None]:
    """Within the block, opening any other file fails as if this process might not read it, whoever asks and by whatever name."""
    global _allowed, _hooked
    if not _hooked:
        sys.addaudithook(_watch)
        _hooked = True
    own = [store, library.root(), library.package(), Path(sys.prefix), Path(sys.base_prefix), Path.home() / ".cache" / "dcsim"]
    own += [Path(value) for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME") if (value := os.environ.get(name))]
    own += list(Path(tempfile.gettempdir()).glob("dcsim-*"))
    own += [Path(entry) for entry in sys.path if entry and "site-packages" in entry]
    _allowed = (*map(os.path.realpath, own), *SYSTEM)
    try:
        yield
    finally:
        _allowed = None


def _watch(event: str, details: tuple[Any, ...]) -> None:
    if event != "open" or _allowed is None or not isinstance(details[0], (str, bytes, os.PathLike)):
        return
    path = os.path.realpath(os.fsdecode(details[0]))
    if not any(path == root or path.startswith(root + os.sep) for root in _allowed):
        raise PermissionError(13, "outside of what this process may read", os.fsdecode(details[0]))
