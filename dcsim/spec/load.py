"""From files and overrides to one frozen spec, or every error at once.

Precedence, lowest first: catalog entries (chips, nodes, hosts, networks, libraries, prices, LLMs, workloads), the topology
file, `--llm` / `--workload` / `--interconnect`, `--set key=value`. What names an entry is put in place first, outer
sections before inner ones, then keys are set.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from dcsim import library
from dcsim.errors import Problem, SpecError
from dcsim.spec.catalog import DEFAULTS, LIBRARY, REFERENCES, SAID, base_of, entry_of, expand, give_name, inherit, put_name
from dcsim.spec.check import Entry, check
from dcsim.spec.document import Document, Figure, Path_, parse_scalar, part_of, read_document
from dcsim.spec.mapping import BYTES
from dcsim.spec.section import part_at
from dcsim.spec.topology import Topology

_COMMAND_LINE = "--set"


@dataclass(frozen=True, slots=True)
class Resolved:
    """A checked spec with its provenance: what each figure rests on and which keys were given where."""

    spec: Topology
    figures: dict[Path_, Figure]
    places: dict[Path_, str]
    files: tuple[str, ...] = field(default=())
    own_files: tuple[str, ...] = field(default=())  # of entries that are not the library's own, nor copies of such
    stands_for: dict[Path_, Path_] = field(default_factory=dict)  # keys that another section took: reading that reads them


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
    give_name(document, (), path)
    problems: list[Problem] = []
    for key, option, name in (
        ("llm", "--llm", llm),
        ("workload", "--workload", workload),
        ("network", "--interconnect", network),
    ):
        if name is not None:
            document.put((key,), name, option)
    keys = [setting for setting in settings if not _names_entry(setting)]
    for setting in sorted((setting for setting in settings if _names_entry(setting)), key=lambda text: len(_reference(text))):
        put_name(document, _reference(setting), parse_scalar(setting.partition("=")[2]), f"{_COMMAND_LINE} {setting}")
    files = [str(path)]
    assumed = [reference for reference in SAID if base_of(part_of(document.data, reference)) is None]
    for reference in REFERENCES:
        try:
            files += expand(document, reference)
        except SpecError as error:
            problems += error.problems
        give_name(document, reference, path)
    for reference in assumed:  # no longer so where an entry could not be put in place
        if isinstance(part_of(document.data, reference), dict):
            document.set((*reference, "name"), f"{DEFAULTS[reference]} (assumed)")
    named = LIBRARY in document.places
    for setting in keys:
        problems += _apply(document, setting)
    taken = inherit(document)
    _take_as_stored(document)
    _take_as_built(document)
    spec = check(document, problems, Topology)
    for note in spec.llm.assumed:
        _say_once(f"{spec.llm.source or 'llm'}: {note}")
    spec.forget_reads()
    if not named and part_at(spec, LIBRARY) is not None:
        taken[("chip", "software")] = LIBRARY
    own = tuple(file for file in files[1:] if not library.is_shipped(file))
    return Resolved(spec, document.figures, document.places, tuple(files), own, taken)


def load_entry(name: str, folder: str, section: type[Entry], where: str = "command line") -> tuple[Entry, dict[Path_, Figure]]:
    """One entry of the catalog by itself, and where its figures come from; SpecError with all problems."""
    entry, document, _ = read_entry(name, folder, section, where)
    return entry, document.figures


def read_entry(
    name: str, folder: str, section: type[Entry], where: str = "command line"
) -> tuple[Entry, Document, tuple[str, ...]]:
    """As `load_entry`, with all that is known of its keys, and the files that they stand in."""
    files: list[str] = []
    document = entry_of(name, folder, where, files)
    problems: list[Problem] = []
    entry = check(document, problems, section)
    entry.forget_reads()
    return entry, document, tuple(files)


def _take_as_stored(document: Document) -> None:
    """An LLM whose file stores weights in 8 bits or fewer is taken as it is stored, unless the command line says otherwise.

    Widening what was made narrow is of no use, and making a 16-bit LLM narrower is what a mapping is for.
    """
    llm, mapping = document.data.get("llm"), document.data.get("mapping", {})
    stored = llm.get("precision") if isinstance(llm, dict) else None
    names = [name for name in stored.values() if isinstance(name, str)] if isinstance(stored, dict) else []
    formats = [BYTES[name] for name in names if name in BYTES]
    if not isinstance(mapping, dict) or min(formats, default=2) > 1:
        return
    for key in ("weights", "activations"):
        told, where = mapping.get(key), document.place(("mapping", key))
        if where.startswith(_COMMAND_LINE) and told is not None:
            continue
        document.set(("mapping", key), "stored")
        if told not in (None, "stored"):
            _say_once(
                f"{where}: mapping.{key}: the LLM's own file says how it is stored; {told} only with --set mapping.{key}={told}"
            )


def _take_as_built(document: Document) -> None:
    """What the mapping rule `layer_per_stage` brings with it, unless it is given."""
    if part_of(document.data, ("mapping", "rule")) != "layer_per_stage":
        return
    for path, value in ((("mapping", "experts"), "all"), (("serving", "chunk_tokens"), 1)):
        if part_of(document.data, path) is None:
            document.set(path, value)


@cache
def _say_once(note: str) -> None:
    """Tell what was read otherwise than a reader may expect, on the log, which ends on stderr unless somebody takes it."""
    logging.getLogger("dcsim").warning(note)


def _reference(setting: str) -> Path_:
    """The section that a setting names an entry for, if its key is one; `prices` is `network.prices`; own keys come first."""
    path = tuple(setting.partition("=")[0].strip().split("."))
    if len(path) == 1 and path[0] in {field.alias or name for name, field in Topology.model_fields.items()}:
        return path if path in REFERENCES else ()
    inner = [reference for reference in REFERENCES if len(reference) > 1 and reference[1:] == path]
    return path if path in REFERENCES else inner[0] if len(inner) == 1 else ()


def _names_entry(setting: str) -> bool:
    """Whether a setting puts a named entry in a section's place."""
    if not _reference(setting):
        return False
    try:
        return isinstance(parse_scalar(setting.partition("=")[2]), str)
    except SpecError:  # not YAML, which is told where keys are set
        return False


def _from_top(document: Document, path: Path_) -> Path_:
    """A path may start at an inner section whose name only one section has: `clock.drift` is `network.clock.drift`."""
    if path[0] in {field.alias or name for name, field in Topology.model_fields.items()}:
        return path
    holders = [key for key, value in document.data.items() if isinstance(value, dict) and isinstance(value.get(path[0]), dict)]
    return (holders[0], *path) if len(holders) == 1 else path


def _apply(document: Document, setting: str) -> list[Problem]:
    """Set one key, whose sections are all in place."""
    key, equals, text = setting.partition("=")
    path = _from_top(document, tuple(key.strip().split(".")))
    where = f"{_COMMAND_LINE} {setting}"
    if not equals or not all(path):
        return [Problem(where, "not of the form dotted.key=value", "for example --set mapping.tp=16")]
    try:
        value = parse_scalar(text)
    except SpecError as error:
        return [Problem(where, f"the value is not YAML: {problem.what.removeprefix('not YAML: ')}") for problem in error.problems]
    if path[-1] == "base" and path[:-1] in REFERENCES:
        return [Problem(where, "sections keep their base", f"name another entry with --set {'.'.join(path[:-1])}={text}")]
    if isinstance(value, dict) or path in REFERENCES:
        return [Problem(where, f"'{key}' is a section; set one of its keys", f"for example --set {key}.KEY=VALUE")]
    for end in range(1, len(path)):
        document.places.setdefault(path[:end], where)
    try:
        document.put(path, value, where)
    except SpecError as error:
        return [Problem(where, problem.what, problem.mend) for problem in error.problems]
    return []
