"""The files in which compiled functions wait for the next process.

A file's name says what it was made of (see `made_of`), so that one that does not fit is not found; those of an earlier
make go when a new one is written. A file is read only if it is whole.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from dcsim.errors import OutputError
from dcsim.writing import one_at_a_time, whole_file

_DIGEST_BYTES = 32


def places() -> Iterator[Path]:
    """Folders for this checkout's compiled functions, the nearest first: all are read, the first that takes a file gets it.

    Beside the package, which may be read-only; the user's cache, of whom there may be none at home; a private folder
    among temporary files.
    """
    package = Path(__file__).resolve().parents[1]
    own = hashlib.sha256(str(package).encode()).hexdigest()[:16]
    if os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(os.environ["NUMBA_CACHE_DIR"]) / f"dcsim-{own}"
        return
    yield package / "__pycache__" / "kernels"
    if os.environ.get("XDG_CACHE_HOME"):
        yield Path(os.environ["XDG_CACHE_HOME"]) / "dcsim" / own
    else:
        with suppress(RuntimeError):  # nobody's home
            yield Path.home() / ".cache" / "dcsim" / own
    user = os.getuid() if hasattr(os, "getuid") else "user"
    yield Path(tempfile.gettempdir()) / f"dcsim-{user}-{own}"


def read(function: str, made: str, kind: str) -> bytes | None:
    """What was kept of a function of that make, for that kind of arguments; or None."""
    name = _file_name(function, made, kind)
    for place in places():
        try:
            content = (place / name).read_bytes() if _is_ours(place) else b""
        except OSError:
            continue
        if content[:_DIGEST_BYTES] == hashlib.sha256(content[_DIGEST_BYTES:]).digest():
            return content[_DIGEST_BYTES:]
    return None


def write(function: str, made: str, kind: str, content: bytes) -> bool:
    """Keep `content` where that is possible, in place of what was kept of other makes of the function."""
    for place in places():
        with suppress(OSError, OutputError):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_ours(place):
                with whole_file(place / _file_name(function, made, kind), told=False) as file:
                    file.write_bytes(hashlib.sha256(content).digest() + content)
                for path in place.glob(_file_name(function, "*", "*")):
                    if f"-{made}-" not in path.name:
                        path.unlink(missing_ok=True)
                return True
    return False


def turn(function: str) -> AbstractContextManager[None]:
    """The turn to make something for `function`: others that want one wait until it is over."""
    for place in places():
        with suppress(OSError):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_ours(place) and os.access(place, os.W_OK):
                return one_at_a_time(place / f"{function}.turn")
    return nullcontext()


def _file_name(function: str, made: str, kind: str) -> str:
    return f"{function}-{made}-{kind}.{sys.implementation.cache_tag}"


def _is_ours(place: Path) -> bool:
    """Whether nobody else can have put a file there; where all may write, somebody could have been first."""
    if not hasattr(os, "getuid") or not place.is_relative_to(tempfile.gettempdir()):
        return True
    info = place.lstat()
    return info.st_uid == os.getuid() and not info.st_mode & 0o022


def clear() -> None:
    """Remove what this checkout kept, wherever it is."""
    import shutil

    for place in places():
        shutil.rmtree(place, ignore_errors=True)
