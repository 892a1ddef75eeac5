"""Which of the keys a person gave had no effect on an answer.

Given are the keys of the topology file, of entries that are not the library's own, and of the command line. A key had
no effect if nothing read it, in any of the specs that an answer rests on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dcsim import library
from dcsim.spec.document import Document, Path_
from dcsim.spec.load import Resolved
from dcsim.spec.section import Section, was_read

Unused = dict[str, str]  # dotted key -> where it was given: `file:line:column`, or an option with its value


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys given to one spec: those that nothing has read so far with their places, and those that something has."""

    unread: dict[Path_, str]
    read: frozenset[Path_]


def keys_of(resolved: Resolved, *, topology: bool = True) -> Keys:
    """The keys given to `resolved`; `topology=False` leaves out those of the topology file, where nobody named it."""
    files = [*(resolved.files[:1] if topology else ()), *resolved.own_files]
    return _keys_of(resolved.spec, resolved.places, files, resolved.stands_for)


def unused_in_entry(entry: Section, document: Document, files: Iterable[str]) -> Unused:
    """Keys of an entry by itself, read from these files, that had no effect on an answer about it."""
    return unused_of([_keys_of(entry, document.places, [file for file in files if not library.is_shipped(file)], {})])


def _keys_of(spec: Section, places: dict[Path_, str], files: list[str], stands_for: dict[Path_, Path_]) -> Keys:
    given = {path: where for path, where in places.items() if path and _is_given(where, files)}
    read = frozenset(path for path in given if was_read(spec, stands_for.get(path, path)))
    unread: dict[Path_, str] = {}
    for path, where in given.items():
        if path not in read:
            unread.setdefault(path if where.startswith("--") else _section_of(spec, path), where)
    return Keys(unread, read)


def _section_of(spec: Section, path: Path_) -> Path_:
    """The outermost section on the way to `path` that nothing read, or `path` itself."""
    return next(path[:end] for end in range(1, len(path) + 1) if not was_read(spec, path[:end]))


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


def _is_given(where: str, files: list[str]) -> bool:
    return where.startswith(("--", *(f"{file}:" for file in files)))


def _told_by_another(path: Path_, where: str, unread: dict[Path_, str]) -> bool:
    """On the command line the whole key tells it, not the sections on its way."""
    longer = (other for other in unread if other[: len(path)] == path and len(other) > len(path))
    return where.startswith("--") and any(unread[other] == where for other in longer)
