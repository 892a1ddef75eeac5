"""What users give is read in one way: any encoding a byte-order mark names, packed or plain, and one clear error.

Whatever goes wrong while a user's file is read is the file's fault as far as the user is concerned: `reading` turns it into
one error that says where and what. `--debug` shows what lies beneath.
"""

from __future__ import annotations

import codecs
import errno
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dcsim.errors import DcsimError, shown

TEXT_MAX = 2**20  # bytes of a file that people write; a larger one is something else under its name
JSON_MAX = 2**28  # bytes of a graph
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)


class Unreadable(ValueError):
    """What is wrong with a file, in words fit for a message."""


@contextmanager
def reading(place: str | Path, kind: type[DcsimError]) -> Iterator[None]:
    """Within the block, whatever goes wrong becomes one error of `kind` that names `place` and the reason."""
    try:
        yield
    except (DcsimError, AssertionError, GeneratorExit):
        raise
    except Exception as error:
        raise kind(f"{place}: cannot be read: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """Why something cannot be read, in the user's words."""
    if isinstance(error, Unreadable):
        return str(error)
    if isinstance(error, _DAMAGED):
        return f"it is damaged or cut off ({error or type(error).__name__})"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.object[error.start]:#04x} at {error.start:,} is not {error.encoding}; save it as UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    if isinstance(error, ValueError) and "integer string conversion" in str(error):
        return "a number in it has more than 4300 digits"
    if isinstance(error, OSError):
        return (os.strerror(error.errno) if error.errno else str(error)) or type(error).__name__
    if isinstance(error, KeyError):
        return f"it has no {shown(error.args[0] if error.args else '')}"
    text = str(error)
    if isinstance(error, (SyntaxError, ValueError)) and text:  # of XML; of anything
        return text.splitlines()[0]
    return f"{type(error).__name__}: {shown(text)}"


def read_text(path: str | Path, most: int = TEXT_MAX) -> str:
    """All of a text file. Raises what `reading` explains."""
    with open(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise Unreadable(f"it is larger than {most // 2**20} MiB")
    return content.decode(encoding_of(content))


def read_json(path: str | Path, most: int = TEXT_MAX) -> Any:
    """What a JSON file holds. NaN and Infinity are no JSON. Raises what `reading` explains."""
    return parse_json(read_text(path, most))


def parse_json(text: str) -> Any:
    """As `read_json`, from text."""
    return json.loads(text, parse_constant=_no_number)


def _no_number(name: str) -> Any:
    raise Unreadable(f"{name} is no number in JSON")


def encoding_of(head: bytes) -> str:
    """The encoding that a byte-order mark names; UTF-8 without one."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")


def open_text(path: Path) -> io.TextIOWrapper:
    """A text file to read from its start, unpacked if its name ends in .gz or .zst. Raises what `reading` explains."""
    raw = io.BufferedReader(_unpacked(path))
    head = raw.peek(4)[:4]
    return io.TextIOWrapper(raw, encoding=encoding_of(head), newline="")


def _unpacked(path: Path) -> Any:
    name = path.name.lower()
    if name.endswith(".gz"):
        return gzip.open(path)
    if name.endswith(".zst"):
        return _Zstd(path)
    return path.open("rb", buffering=0)


class _Zstd(io.RawIOBase):
    """The bytes of a file packed with zstd, which Python 3.11 cannot unpack and Arrow can, all its frames."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        if path.stat().st_size == 0:
            raise EOFError("no data")
        self._damaged = pa.ArrowException
        self._file = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            part = self._file.read(len(buffer))
        except (self._damaged, OSError) as error:
            if isinstance(error, OSError) and error.errno not in (None, 0, errno.EIO):
                raise
            raise EOFError(str(error).split("\n")[0]) from error
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
