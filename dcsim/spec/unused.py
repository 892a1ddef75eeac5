"""Which of the keys a person gave had no effect on an answer.

Given are the keys of the topology file, of entries that are not the library's own, and of the command line. A key had
no effect if nothing read it, in any of the specs that an answer rests on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dcsim import library
from dcsim.spec.document import Path_
from dcsim.spec.load import Resolved
from dcsim.spec.section import was_read

Unused = dict[str, str]  # dotted key -> where it was given: `file:line:column`, or an option with its value


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys given to one spec: those that nothing has read so far with their places, and those that something has."""

    unread: dict[Path_, str]
    read: frozenset[Path_]


def keys_of(resolved: Resolved, *, topology: bool = True) -> Keys:
    """The keys given to `resolved`; `topology=False` leaves out those of the topology file, where nobody named it."""
    files = [file for i, file in enumerate(resolved.files) if (topology if i == 0 else not _shipped(file))]
    given = {path: where for path, where in resolved.places.items() if path and _is_given(where, files)}
    read = frozenset(path for path in given if was_read(resolved.spec, path))
    return Keys({path: where for path, where in given.items() if path not in read}, read)


def unused_of(found: Iterable[Keys], ranges: Iterable[str] = ()) -> Unused:
    """Keys that no answer of those found together used; of a section that none used at all, the section alone.

    `ranges` are the texts `key=value,value` of keys that went through several values.
    """
    found = list(found)
    read = frozenset[Path_]().union(*(keys.read for keys in found))
    unread = {path: where for keys in found for path, where in keys.unread.items() if path not in read}
    told = {".".join(path): where for path, where in sorted(unread.items()) if not _told_by_another(path, where, unread)}
    swept = {text.partition("=")[0].strip(): f"--set-range {text}" for text in ranges}
    return {key: swept.get(key, where) for key, where in told.items()}


def unused(*resolved: Resolved, topology: bool = True) -> Unused:
    """Keys given to these specs, which one answer rests on, that had no effect on it; `topology` as for `keys_of`."""
    return unused_of(keys_of(one, topology=topology) for one in resolved)


def unused_in_all(answers: Iterable[Unused], settings: Iterable[str]) -> Unused:
    """Keys that had no effect on any of several answers, of what was set those of `settings` alone."""
    first, *others = [*answers] or [Unused()]
    typed = {f"--set {setting}" for setting in settings}
    return {
        key: where
        for key, where in first.items()
        if all(key in other for other in others) and (not where.startswith("--set") or where in typed)
    }


def _shipped(file: str) -> bool:
    """Whether a file is the library's own."""
    return Path(file).resolve().is_relative_to(library.root())


def _is_given(where: str, files: list[str]) -> bool:
    return where.startswith(("--", *(f"{file}:" for file in files)))


def _told_by_another(path: Path_, where: str, unread: dict[Path_, str]) -> bool:
    """In a file, the section above tells it; on the command line, the whole key does."""
    if where.startswith("--"):
        return any(other[: len(path)] == path and len(other) > len(path) and unread[other] == where for other in unread)
    return any(path[:end] in unread for end in range(1, len(path)))
