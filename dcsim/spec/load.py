"""From files and overrides to one frozen spec, or every error at once.

Precedence, lowest first: catalog entries (chips, nodes, hosts, networks, LLMs, workloads), the topology file,
`--llm` / `--workload` / `--interconnect`, `--set key=value`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dcsim import library
from dcsim.errors import Problem, SpecError
from dcsim.spec.document import Document, Figure, Path_, parse_document, parse_scalar, read_document, section_types
from dcsim.spec.section import Section
from dcsim.spec.topology import Topology

# Sections that may be named, and where their entries live.
REFERENCES = {
    "chip": "topologies/chips",
    "node": "topologies/nodes",
    "host": "topologies/hosts",
    "network": "topologies/networks",
    "power": "topologies/power",
    "llm": "workloads/llms",
    "workload": "workloads",
}
_COMMAND_LINE = "--set"


@dataclass(frozen=True, slots=True)
class Resolved:
    """A checked spec with its provenance: what each figure rests on and which keys were given where."""

    spec: Topology
    figures: dict[Path_, Figure]
    places: dict[Path_, str]
    files: tuple[str, ...] = field(default=())

    def unread(self) -> list[str]:
        """Keys given in the topology file or by `--set` that nothing has read so far, as `place: key`."""
        given = {p: w for p, w in self.places.items() if p and w.startswith((_COMMAND_LINE, self.files[0] + ":"))}
        return sorted(f"{where}: {'.'.join(path)}" for path, where in given.items() if not _was_read(self.spec, path))


def load(
    topology: str | Path,
    *,
    llm: str | None = None,
    workload: str | None = None,
    network: str | None = None,
    settings: list[str] | tuple[str, ...] = (),
) -> Resolved:
    """Read a topology, put in place what it names, apply overrides and check everything.

    `settings` holds `dotted.key=value` texts. Raises SpecError with all problems found.
    """
    path = library.find(str(topology), "topologies")
    document = read_document(path)
    problems: list[Problem] = []
    for key, option, name in (
        ("llm", "--llm", llm),
        ("workload", "--workload", workload),
        ("network", "--interconnect", network),
    ):
        if name is not None:
            document.data[key] = name
            document.places[(key,)] = option
    files = [str(path)]
    for key, folder in REFERENCES.items():
        try:
            files += _expand(document, key, folder)
        except SpecError as error:
            problems += error.problems
    for setting in settings:
        problems += _apply(document, setting)
    spec = _validate(document, problems)
    return Resolved(spec, document.figures, document.places, tuple(files))


def _expand(document: Document, key: str, folder: str) -> list[str]:
    """Replace a named section by its entry; a mapping with `base` overrides parts of one. Returns files read."""
    value = document.data.get(key)
    base = _base(value)
    if base is None:
        return []
    files: list[str] = []
    entry = _entry(base, folder, document.place((key, "base")), files)
    if isinstance(value, dict):
        own = Document(value)
        own.places = {p[1:]: w for p, w in document.places.items() if p[:1] == (key,)}
        own.figures = {p[1:]: f for p, f in document.figures.items() if p[:1] == (key,)}
        _overlay(entry, own)
    document.graft(entry, (key,))
    return files


def _base(value: Any) -> str | None:
    """The catalog entry a section names, by itself or as its `base`."""
    name = value.get("base") if isinstance(value, dict) else value
    return name if isinstance(name, str) else None


def _entry(name: str, folder: str, where: str, files: list[str]) -> Document:
    """The catalog entry `name`, over the entry it names as its own `base`; `files` collects what was read."""
    path = library.find(name, folder, where)
    if str(path) in files:
        raise SpecError(Problem(where, f"'{name}' is its own base", "name another entry"))
    files.append(str(path))
    entry = _read_entry(path)
    base = entry.data.get("base")
    if not isinstance(base, str):
        return entry
    below = _entry(base, folder, entry.place(("base",)), files)
    _overlay(below, entry)
    return below


def _overlay(below: Document, above: Document) -> None:
    """Set every leaf of `above`, except `base`, in `below`."""
    own = {key: value for key, value in above.data.items() if key != "base"}
    for leaf, value in _leaves(own, ()) if own else ():
        below.set(leaf, value)
        below.figures.pop(leaf, None)
    below.places.update(above.places)
    below.figures.update(above.figures)


def _read_entry(path: Path) -> Document:
    """A catalog file; a Hugging Face config.json becomes an LLM section."""
    if path.suffix != ".json":
        return read_document(path)
    import json

    from dcsim.spec.huggingface import llm_from_config

    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(Problem(str(path), f"cannot be read as JSON: {error}")) from error
    entry = parse_document("{}", str(path))
    entry.data = llm_from_config(config, str(path))
    return entry


def _leaves(node: Any, path: Path_) -> list[tuple[Path_, Any]]:
    if isinstance(node, dict) and node:
        return [leaf for key, value in node.items() for leaf in _leaves(value, (*path, key))]
    return [(path, node)]


def _from_top(document: Document, path: Path_) -> Path_:
    """A path may start at an inner section whose name only one section has: `clock.drift` is `network.clock.drift`."""
    if path[0] in {field.alias or name for name, field in Topology.model_fields.items()}:
        return path
    holders = [key for key, value in document.data.items() if isinstance(value, dict) and isinstance(value.get(path[0]), dict)]
    return (holders[0], *path) if len(holders) == 1 else path


def _apply(document: Document, setting: str) -> list[Problem]:
    key, equals, text = setting.partition("=")
    path = _from_top(document, tuple(key.strip().split(".")))
    where = f"{_COMMAND_LINE} {setting}"
    if not equals or not all(path):
        return [Problem(where, "not of the form dotted.key=value", "for example --set mapping.tp=16")]
    try:
        value = parse_scalar(text)
    except Exception as error:
        return [Problem(where, f"the value is not YAML: {str(error).splitlines()[0]}")]
    if len(path) == 1 and path[0] in REFERENCES and isinstance(value, str):
        document.data[path[0]] = value
        document.places[path] = where
        try:
            _expand(document, path[0], REFERENCES[path[0]])
        except SpecError as error:
            return error.problems
        return []
    if path[1:] == ("base",) and path[0] in REFERENCES:
        return [Problem(where, "sections keep their base", f"name another entry with --set {path[0]}={text}")]
    if isinstance(value, dict) or (len(path) == 1 and path[0] in REFERENCES):
        return [Problem(where, f"'{key}' is a section; set one of its keys", f"for example --set {key}.KEY=VALUE")]
    for end in range(1, len(path)):
        document.places.setdefault(path[:end], where)
    document.set(path, value if not hasattr(value, "lc") else list(value))
    document.places[path] = where
    document.figures.pop(path, None)
    return []


def _validate(document: Document, problems: list[Problem]) -> Topology:
    try:
        spec = Topology.model_validate(document.data)
    except ValidationError as error:
        # A section that still names its entry could not be read, which has been told already.
        unread = {key for key in REFERENCES if _base(document.data.get(key)) is not None}
        items = [item for item in error.errors(include_url=False) if not unread.intersection(item["loc"][:1])]
        problems += _merged([_problem(document, item) for item in items])
    if problems:
        raise SpecError(sorted(dict.fromkeys(problems), key=lambda p: _order(p.where)))
    return spec


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


def _problem(document: Document, item: Any) -> Problem:
    """A pydantic error in the words of the file."""
    path, classes = _walk(document, item["loc"])
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
        return Problem(where, f"{label}.kind: unknown kind '{ctx['tag']}'", f"one of {ctx['expected_tags']}")
    if kind == "value_error":
        return Problem(where, f"{label}: {message}" if label else message)
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return Problem(where, f"{label}: needs keys of its own, got {item['input']!r}")
    return Problem(where, f"{label}: {message[0].lower()}{message[1:]}, got {item['input']!r}")


def _walk(document: Document, location: tuple[Any, ...]) -> tuple[Path_, list[Any]]:
    """The file's path for a pydantic location (which also names union branches), and the classes of its parent."""
    path: list[str] = []
    data: Any = document.data
    classes: list[Any] = [Topology]
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


def _was_read(spec: Section, path: Path_) -> bool:
    """True unless a field on `path` was never read."""
    node: Any = spec
    for key in path:
        if not isinstance(node, Section):
            return True
        name = next((n for n, f in type(node).model_fields.items() if (f.alias or n) == key), None)
        if name is None:
            return True
        if name not in ("name", "description", "source") and name not in node.fields_read():
            return False
        node = node.__dict__[name]
    return True
