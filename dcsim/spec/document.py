"""One YAML (or JSON) file as plain data, with the line and column of every key.

A figure from the world may be written as a mapping of `value`, `kind`, `source` (and `range`): its value
takes the mapping's place, and its provenance is kept aside under the same dotted path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from dcsim.errors import Problem, SpecError, shown
from dcsim.reading import read_text, reading

Path_ = tuple[str, ...]  # a dotted path: ("chip", "power", "idle")
VALUES_MAX = 100_000  # of one file, anchors written out
DEPTH_MAX = 60  # keys one in another
_REMEMBERED = 128  # texts: more than a topology and all that it names
FIGURE_KINDS = ("spec", "measured", "derived", "calibrated", "assumed")
_FIGURE_KEYS = {"value", "kind", "source", "range", "note"}
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")  # halves of characters, and what ends a text in the system's calls


@dataclass(frozen=True, slots=True)
class Figure:
    """Where a figure comes from. `range` is given for assumed figures."""

    value: Any
    kind: str
    source: str
    range: tuple[Any, ...] = ()


@dataclass(slots=True)
class Document:
    """Plain data with, by dotted path, the place each key stands (`file:line:column`) and its figures."""

    data: dict[str, Any] = field(default_factory=dict)
    places: dict[Path_, str] = field(default_factory=dict)
    figures: dict[Path_, Figure] = field(default_factory=dict)

    def copy(self) -> Document:
        """The same, whose data can be changed without changing this one's."""
        return Document(_copied(self.data), dict(self.places), dict(self.figures))

    def place(self, path: Path_) -> str:
        """The nearest known place at or above `path`."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return "spec"

    def graft(self, other: Document, path: Path_) -> None:
        """Put `other` in place of what stands at `path`."""
        self.put(path, other.data)
        self.places.update({path + p: where for p, where in other.places.items() if p})
        self.figures.update({path + p: figure for p, figure in other.figures.items()})

    def put(self, path: Path_, value: Any, where: str | None = None) -> None:
        """As `set`, and forget what was known of what stood there; `where` is the value's own place."""
        for known in (self.places, self.figures):
            for p in [p for p in known if p[: len(path)] == path and (len(p) > len(path) or known is self.figures)]:
                del known[p]
        if where is not None:
            self.places[path] = where
        self.set(path, value)

    def set(self, path: Path_, value: Any) -> None:
        """Set the value at `path`, creating mappings on the way; a number names a place in a list."""
        node: Any = self.data
        for key in path[:-1]:
            below = part_of(node, (key,))
            if not isinstance(below, (dict, list)):
                below = {}
                _put(node, key, below)
            node = below
        _put(node, path[-1], value)


def _copied(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _copied(value) for key, value in node.items()}
    return [_copied(value) for value in node] if isinstance(node, list) else node


def _put(node: Any, key: str, value: Any) -> None:
    """Set one key of a mapping or one place of a list; SpecError where the list has no such place."""
    if isinstance(node, list):
        if not key.isdecimal() or int(key) >= len(node):
            raise SpecError(Problem("", f"'{key}' is no place in a list of {len(node)}", "places count from 0"))
        node[int(key)] = value
    else:
        node[key] = value


def part_of(data: Any, path: Path_) -> Any:
    """What stands at `path` in plain data, places in a list as numbers; None where nothing does."""
    for key in path:
        if isinstance(data, dict):
            data = data.get(key)
        elif isinstance(data, list) and key.isdigit() and int(key) < len(data):
            data = data[int(key)]
        else:
            return None
    return data


def parse_scalar(text: str) -> Any:
    """The YAML value of a short text, as `--set key=value` gives it; what YAML takes for a date stays text.

    Raises SpecError for what is no YAML, or a value that no key can have.
    """
    raw = _load(text, "value")
    if not (raw is None or isinstance(raw, (bool, int, float, str, list, dict))):
        return text
    document = Document(places={(): "value"})
    plain = _Plain("value", document)
    # A mapping stays one, a figure's too: whoever sets it is told to set a key.
    value = {str(key): plain.of(part, (str(key),)) for key, part in raw.items()} if isinstance(raw, dict) else plain.of(raw, ())
    if plain.problems:
        raise SpecError(plain.problems)
    return value


def read_document(path: Path) -> Document:
    """Read a YAML file whose top level is a mapping; every problem found is in one SpecError."""
    with reading(path, SpecError):
        text = read_text(path)
    return parse_document(text, str(path))


def parse_document(text: str, name: str) -> Document:
    """As `read_document`, from text; `name` stands for the file in messages."""
    return _parsed(text, name).copy()


@lru_cache(maxsize=_REMEMBERED)
def _parsed(text: str, name: str) -> Document:
    """A text is parsed once in a process; an edited file is another text."""
    raw = _load(text, name)
    if not isinstance(raw, dict):
        raise SpecError(Problem(name, "not a spec: the top level must be a mapping of keys to values"))
    document = Document()
    document.places[()] = name
    plain = _Plain(name, document)
    data = plain.of(raw, ())
    if not isinstance(data, dict):
        raise SpecError(Problem(name, "not a spec: the top level is a single figure", "put it under its key"))
    if plain.problems:
        raise SpecError(plain.problems)
    document.data = data
    return document


def _load(text: str, name: str) -> Any:
    """ruamel's tree of a text. Raises SpecError with file, line and column for whatever it cannot take."""
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    from dcsim.spec.yaml import read

    with reading(name, SpecError):
        try:
            return read(text)
        except DuplicateKeyError as error:
            what = (error.problem or "").split(" with value")[0].removeprefix("found ")
            raise SpecError(Problem(_mark(name, error.problem_mark), what, "remove one of them")) from error
        except MarkedYAMLError as error:
            raise SpecError(Problem(_mark(name, error.problem_mark), f"not YAML: {error.problem}")) from error
        except YAMLError as error:
            raise SpecError(Problem(name, f"not YAML: {str(error).splitlines()[0]}")) from error


def _mark(name: str, mark: Any) -> str:
    return f"{name}:{mark.line + 1}:{mark.column + 1}" if mark is not None else name


class _Plain:
    """Turns ruamel's tree into dicts, lists and scalars, noting places, figures and problems on the way."""

    def __init__(self, name: str, document: Document) -> None:
        self.problems: list[Problem] = []
        self._name, self._document = name, document
        self._values = 0  # made so far: what stands once in the file may be named many times

    def of(self, raw: Any, path: Path_) -> Any:
        """The plain value of what stands at `path`."""
        self._values += 1
        if self._values > VALUES_MAX:
            raise SpecError(Problem(self._name, f"holds more than {VALUES_MAX:,} values, anchors written out"))
        if len(path) > DEPTH_MAX:
            raise SpecError(Problem(self._name, f"is nested more than {DEPTH_MAX} deep"))
        if isinstance(raw, dict):
            return self._mapping(raw, path)
        if isinstance(raw, list):
            return [self.of(item, (*path, str(i))) for i, item in enumerate(raw)]
        if raw is None or isinstance(raw, (bool, int, float)):
            return _number(raw)
        if isinstance(raw, str):
            return self._text(raw, path)
        self._wrong(path, "neither text nor a number", "write it in quotes")
        return None

    def _mapping(self, raw: dict[Any, Any], path: Path_) -> Any:
        result: dict[str, Any] = {}
        for key, value in raw.items():
            own = (*path, self._text(str(key), path))
            self._document.places[own] = self._place(raw, key)
            result[own[-1]] = self.of(value, own)
        return self._figure(result, path) if "value" in result else result

    def _place(self, raw: Any, key: Any) -> str:
        """Where a key stands; for one that comes from another mapping (`<<: *name`), where the mapping here does."""
        marks = getattr(raw, "lc", None)
        if marks is None:
            return self._name
        line, column = marks.key(key) if key in (marks.data or {}) else (marks.line or 0, marks.col or 0)
        return f"{self._name}:{line + 1}:{column + 1}"

    def _text(self, raw: str, path: Path_) -> str:
        text = str(raw)
        if _NO_TEXT.search(text):
            self._wrong(path, f"{shown(text)} is not text", "leave out what stands for no character")
        return text

    def _figure(self, mapping: dict[str, Any], path: Path_) -> Any:
        unknown = sorted(set(mapping) - _FIGURE_KEYS)
        if unknown:
            self._wrong(path, f"a figure cannot have {shown(unknown[0])}", "keys: value, kind, source, range, note")
        if mapping.get("kind") not in FIGURE_KINDS:
            self._wrong(path, f"figure kind {shown(mapping.get('kind'))} is not known", f"one of {', '.join(FIGURE_KINDS)}")
        if not mapping.get("source"):
            self._wrong(path, "a figure needs a source")
        span = mapping.get("range", [])
        if not isinstance(span, list) or len(span) not in (0, 2) or not all(map(_is_end, span)):
            self._wrong(path, f"a range of {shown(span)} is not two values", "for example range: [0.5, 2]")
            span = []
        for key in _FIGURE_KEYS:
            self._document.places.pop((*path, key), None)
        self._document.figures[path] = Figure(mapping["value"], str(mapping.get("kind")), str(mapping.get("source")), tuple(span))
        return mapping["value"]

    def _wrong(self, path: Path_, what: str, mend: str = "") -> None:
        label = ".".join(path)
        self.problems.append(Problem(self._document.place(path), f"{label}: {what}" if label else what, mend))


def _is_end(value: Any) -> bool:
    """Whether a value may be an end of a range: a finite number, or text for a number with its unit."""
    return isinstance(value, str) or (isinstance(value, (int, float)) and abs(value) < float("inf"))


def _number(raw: Any) -> Any:
    """ruamel keeps how a number was written; a spec needs only the number."""
    for kind in (bool, int, float):
        if isinstance(raw, kind):
            return kind(raw)
    return raw


def section_types(annotation: Any) -> list[Any]:
    """The classes an annotation may take, through Annotated, Union and Literal."""
    arguments = get_args(annotation)
    if not arguments:
        return [annotation]
    return [found for argument in arguments for found in section_types(argument)]
