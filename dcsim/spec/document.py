"""One YAML (or JSON) file as plain data, with the line and column of every key.

A figure from the world may be written as a mapping of `value`, `kind`, `source` (and `range`): its value
takes the mapping's place, and its provenance is kept aside under the same dotted path.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from dcsim.errors import Problem, SpecError

Path_ = tuple[str, ...]  # a dotted path: ("chip", "power", "idle")
FIGURE_KINDS = ("spec", "measured", "derived", "calibrated", "assumed")
_FIGURE_KEYS = {"value", "kind", "source", "range", "note"}


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


def _put(node: Any, key: str, value: Any) -> None:
    """Set one key of a mapping or one place of a list; SpecError where the list has no such place."""
    if isinstance(node, list):
        if not key.isdigit() or int(key) >= len(node):
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
    """The YAML value of a short text, as `--set key=value` gives it; what YAML takes for a date stays text."""
    value = _loader().load(text)
    return value if value is None or isinstance(value, (bool, int, float, str, list, dict)) else text


def read_document(path: Path) -> Document:
    """Read a YAML file whose top level is a mapping; every problem found is in one SpecError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(Problem(str(path), f"cannot be read: {error}")) from error
    return parse_document(text, str(path))


def parse_document(text: str, name: str) -> Document:
    """As `read_document`, from text; `name` stands for the file in messages."""
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        raw = _loader().load(text)
    except DuplicateKeyError as error:
        what = (error.problem or "").split(" with value")[0].removeprefix("found ")
        raise SpecError(Problem(_mark(name, error.problem_mark), what, "remove one of them")) from error
    except MarkedYAMLError as error:
        raise SpecError(Problem(_mark(name, error.problem_mark), f"not YAML: {error.problem}")) from error
    except YAMLError as error:
        raise SpecError(Problem(name, f"not YAML: {str(error).splitlines()[0]}")) from error
    if not isinstance(raw, dict):
        raise SpecError(Problem(name, "not a spec: the top level must be a mapping of keys to values"))
    document, problems = Document(), []  # type: Document, list[Problem]
    document.places[()] = name
    data = _plain(raw, (), name, document, problems)
    if not isinstance(data, dict):
        raise SpecError(Problem(name, "not a spec: the top level is a single figure", "put it under its key"))
    if problems:
        raise SpecError(problems)
    document.data = data
    return document


def _loader() -> Any:
    from ruamel.yaml import YAML

    loader = YAML(typ="rt")
    loader.allow_duplicate_keys = False
    return loader


def _mark(name: str, mark: Any) -> str:
    return f"{name}:{mark.line + 1}:{mark.column + 1}" if mark is not None else name


def _plain(raw: Any, path: Path_, name: str, document: Document, problems: list[Problem]) -> Any:
    """ruamel's tree as dicts, lists and scalars, noting places and figures on the way."""
    marks = getattr(raw, "lc", None)  # ruamel's mappings know where their keys stand
    if isinstance(raw, dict) and marks is not None:
        result: dict[str, Any] = {}
        for key, value in raw.items():
            line, column = marks.key(key)
            where = f"{name}:{line + 1}:{column + 1}"
            document.places[(*path, str(key))] = where
            result[str(key)] = _plain(value, (*path, str(key)), name, document, problems)
        return _figure(result, path, document, problems) if "value" in result else result
    if isinstance(raw, list):
        return [_plain(item, (*path, str(i)), name, document, problems) for i, item in enumerate(raw)]
    if raw is None or isinstance(raw, (bool, int, float, str)):
        return _scalar(raw)
    problems.append(Problem(document.place(path), f"{'.'.join(path)}: neither text nor a number", "write it in quotes"))
    return None


def _scalar(raw: Any) -> Any:
    """ruamel keeps how a number was written; a spec needs only the number."""
    for kind in (bool, int, float, str):
        if isinstance(raw, kind):
            return kind(raw)
    return raw


def _figure(mapping: dict[str, Any], path: Path_, document: Document, problems: list[Problem]) -> Any:
    where = document.place(path)
    unknown = sorted(set(mapping) - _FIGURE_KEYS)
    label = ".".join(path)
    if unknown:
        keys = "keys: value, kind, source, range, note"
        problems.append(Problem(where, f"{label}: a figure cannot have '{unknown[0]}'", keys))
    if mapping.get("kind") not in FIGURE_KINDS:
        kinds = f"one of {', '.join(FIGURE_KINDS)}"
        problems.append(Problem(where, f"{label}: figure kind {mapping.get('kind')!r} is not known", kinds))
    if not mapping.get("source"):
        problems.append(Problem(where, f"{label}: a figure needs a source"))
    for key in _FIGURE_KEYS:
        document.places.pop((*path, key), None)
    span = mapping.get("range", [])
    document.figures[path] = Figure(mapping["value"], str(mapping.get("kind")), str(mapping.get("source")), tuple(span))
    return mapping["value"]


def section_types(annotation: Any) -> list[Any]:
    """The classes an annotation may take, through Annotated, Union and Literal."""
    arguments = get_args(annotation)
    if not arguments:
        return [annotation]
    return [found for argument in arguments for found in section_types(argument)]
