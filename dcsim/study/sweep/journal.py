"""What a sweep has found, a line a point, on the disk as soon as it is known: whatever ends the sweep, those are not lost."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcsim.errors import OutputError
from dcsim.spec.unused import Keys
from dcsim.study.sweep.case import Case, Done
from dcsim.writing import folders_for, telling

SWEEPS = "sweeps"  # beside the runs


def journal_of(case: Case, runs: Path) -> Journal:
    """The journal of a case, for this code: a sweep over other points of the same case goes on in it."""
    from dcsim.study.store import hash_of

    return Journal(runs / SWEEPS / f"{hash_of(case.plain())}.jsonl")


@dataclass(frozen=True, slots=True)
class Journal:
    """Lines of JSON, each whole or not counted. Several may append at once."""

    path: Path

    def read(self) -> dict[str, Done]:
        """What was found before, by `Case.name_of`; a line that is torn or no line of a journal is passed over."""
        found: dict[str, Done] = {}
        if not self.path.is_file():
            return found
        with telling(self.path):
            lines = self.path.read_bytes().splitlines()
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                said = json.loads(line)
                found[said["name"]] = Done(dict(said["row"]), _keys(said["keys"]))
        return found

    def append(self, name: str, done: Done) -> None:
        """Keep one point, on the disk when this returns. OutputError where it cannot be; what stood there before still does."""
        said = {"name": name, "row": done.row, "keys": _plain(done.keys)}
        line = (json.dumps(said, allow_nan=False, default=lambda value: value.item()) + "\n").encode()
        with telling(self.path, OutputError), folders_for(self.path.parent):
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                size = os.fstat(file).st_size
                if size and os.pread(file, 1, size - 1) != b"\n":
                    line = b"\n" + line  # whoever wrote last was stopped in the middle of a line
                if os.write(file, line) < len(line):
                    os.ftruncate(file, size)
                    raise OSError(28, "No space left on device")
                os.fsync(file)
            except OSError:
                if not os.fstat(file).st_size:
                    self.path.unlink(missing_ok=True)
                raise
            finally:
                os.close(file)


def _plain(keys: Keys | None) -> Any:
    if keys is None:
        return None
    return {"unread": [[list(path), where] for path, where in keys.unread.items()], "read": [list(path) for path in keys.read]}


def _keys(said: Any) -> Keys | None:
    if said is None:
        return None
    return Keys({tuple(path): where for path, where in said["unread"]}, frozenset(tuple(path) for path in said["read"]))
