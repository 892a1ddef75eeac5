"""Whether plain data is a section, and what is wrong with it in the words of the file."""

from __future__ import annotations

import difflib
from typing import Any, TypeVar

from pydantic import ValidationError

from dcsim.errors import Problem, SpecError, shown
from dcsim.reading import reading
from dcsim.spec.catalog import REFERENCES, base_of
from dcsim.spec.document import Document, Path_, part_of, section_types
from dcsim.spec.section import Section
from dcsim.spec.topology import Topology

Entry = TypeVar("Entry", bound=Section)


def check(document: Document, problems: list[Problem], section: type[Entry]) -> Entry:
    """`document` as a section; SpecError with `problems` and all that is wrong in it."""
    spec, error = _validated(document, section)
    if error is not None:
        found = [_problem(document, section, item) for item in error.errors(include_url=False)]
        problems += _merged([problem for problem in found if problem])
    if problems or spec is None:
        raise SpecError(sorted(dict.fromkeys(problems), key=lambda p: _order(p.where)))
    return spec


def _validated(document: Document, section: type[Entry]) -> tuple[Entry | None, ValidationError | None]:
    """The section, or what is wrong with it; SpecError for a value that cannot even be looked at."""
    with reading(document.place(()), SpecError):
        try:
            return section.model_validate(document.data), None
        except ValidationError as error:
            return None, error


def _merged(problems: list[Problem]) -> list[Problem]:
    """Problems in order; what each type a key may have says of the same value becomes one problem."""
    groups: dict[tuple[str, str], list[str]] = {}
    for problem in problems:
        label, _, what = problem.what.partition(": input should be ")
        groups.setdefault((problem.where, label), []).append(what)
    merged = []
    for problem in problems:
        label, _, what = problem.what.partition(": input should be ")
        told = groups.pop((problem.where, label), [])
        if len(told) > 1 and what:
            wanted = " or ".join(text.rpartition(", got ")[0] for text in told)
            got = what.rpartition(", got ")[2]
            problem = Problem(problem.where, f"{label}: input should be {wanted}, got {got}")
        if told:
            merged.append(problem)
    return merged


def _order(where: str) -> tuple[str, int, int]:
    """Sort key: file, line, column."""
    file, *numbers = where.rsplit(":", 2)
    line, column = ([int(n) for n in numbers] + [0, 0])[:2] if all(n.isdigit() for n in numbers) else (0, 0)
    return file, line, column


def _problem(document: Document, section: type[Section], item: Any) -> Problem | None:
    """A pydantic error in the words of the file; none of a section whose entry could not be read, as has been told."""
    path, classes = _walk(document, section, item["loc"])
    if section is Topology and any(
        base_of(part_of(document.data, path[:end])) for end in range(1, 3) if path[:end] in REFERENCES
    ):
        return None
    where, label = document.place(path), ".".join(path)
    kind, message = item["type"], str(item["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        known = sorted({f.alias or n for c in classes for n, f in c.model_fields.items()})
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        return Problem(where, f"{label}: unknown key", f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}")
    if kind == "missing":
        return Problem(where, f"{label}: missing key")
    if kind == "union_tag_not_found":
        return Problem(where, f"{label}: needs a 'kind'", f"one of {item['ctx']['discriminator']}" if "ctx" not in item else "")
    if kind == "union_tag_invalid":
        ctx = item["ctx"]
        return Problem(where, f"{label}.kind: unknown kind {shown(ctx['tag'])}", f"one of {ctx['expected_tags']}")
    if kind == "value_error":
        return Problem(where, f"{label}: {message}" if label else message)
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return Problem(where, f"{label}: needs keys of its own, got {shown(item['input'])}")
    return Problem(where, f"{label}: {message[0].lower()}{message[1:]}, got {shown(item['input'])}")


def _still_named(document: Document, path: Path_) -> bool:
    """Whether a section on the way to `path` is still a name, not the entry it names."""
    above = [path[:end] for end in range(1, len(path) + 1) if path[:end] in REFERENCES]
    return any(base_of(part_of(document.data, section)) for section in above)


def _walk(document: Document, section: type[Section], location: tuple[Any, ...]) -> tuple[Path_, list[Any]]:
    """The file's path for a pydantic location (which also names union branches), and the classes of its parent."""
    path: list[str] = []
    data: Any = document.data
    classes: list[Any] = [section]
    for i, key in enumerate(location):
        present = (isinstance(data, dict) and key in data) or (isinstance(data, list) and isinstance(key, int))
        fields = [f for c in classes for n, f in c.model_fields.items() if (f.alias or n) == key]
        branches = [c for c in classes if _is_branch(c, key)]
        if branches and len(classes) > 1:  # a union's branch, though a key may have its name
            classes = branches
            continue
        if not present and not fields and (i < len(location) - 1 or branches or not isinstance(data, dict)):
            classes = branches or classes
            continue
        path.append(str(key))
        if i == len(location) - 1:
            break
        data = data[key] if present else None
        below = [c for f in fields for c in section_types(f.annotation)]
        classes = [c for c in below if isinstance(c, type) and issubclass(c, Section)] or classes
    return tuple(path), classes


def _is_branch(section: Any, tag: Any) -> bool:
    kind = section.model_fields.get("kind")
    return kind is not None and tag in section_types(kind.annotation)
