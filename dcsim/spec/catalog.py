"""What a spec names: entries of the catalog put in the places of sections, each over the entry it is based on.

A section may be a name, or a mapping whose `base` is one and whose other keys override parts of that entry.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcsim import library
from dcsim.errors import Problem, SpecError, shown
from dcsim.reading import Unreadable, read_json, reading
from dcsim.spec.chip import LpuChip
from dcsim.spec.document import Document, Path_, parse_document, part_of, read_document

# Sections that may be named, and where their entries live; a section comes after the one that holds it.
REFERENCES: dict[Path_, str] = {
    ("chip",): "topologies/chips",
    ("chip", "operators"): "topologies/operators",
    ("node",): "topologies/nodes",
    ("host",): "topologies/hosts",
    ("network",): "topologies/networks",
    ("network", "software"): "topologies/software",
    ("network", "jitter"): "topologies/jitter",
    ("network", "prices"): "topologies/prices",
    ("network", "transport"): "topologies/transports",
    ("network", "cables"): "topologies/cables",
    ("power",): "topologies/power",
    ("serving", "engine"): "topologies/engines",
    ("llm",): "workloads/llms",
    ("workload",): "workloads",
}
LIBRARY: Path_ = ("network", "software")
KERNELS: Path_ = ("chip", "operators")
ENGINE: Path_ = ("serving", "engine")
# The entry that a section is where nothing names one; what not every kind of network has, by the kind that has it.
DEFAULTS: dict[Path_, str] = {("network", "prices"): "chiplet-cloud", ("power",): "hall"}
SAID: tuple[Path_, ...] = (("power",),)  # of which results say that nobody named it
DEFAULTS_OF: dict[str, dict[Path_, str]] = {
    "packet": {("network", "transport"): "rdma", ("network", "cables"): "usual"},
}
# Keys that take another section's where their own says nothing: what a chip is stands in the chip's file.
INHERITED: dict[Path_, Path_] = {
    ("fabric", "local_ports"): ("chip", "local_ports"),
    ("fabric", "global_ports"): ("chip", "global_ports"),
}
WORKLOAD: Path_ = ("workload",)
TABLES = (".csv", ".jsonl", ".parquet")  # endings of request tables, which are workloads themselves
NOTHING: dict[Path_, str] = {("network", "jitter"): "off", ("chip", "operators"): "none"}  # names that stand for no entry
# What entries were once called, or are where nothing says for which generation of chips.
ALIASES = {"topologies/software": {"none": "ideal", "custom-all-reduce": "serving-hopper", "posted-writes": "posted"}}
SERVING = "serving-"  # libraries of serving engines, an entry for each generation of chips
FAMILIES = {"custom-all-reduce": SERVING}  # libraries whose entries are called otherwise


def put_name(document: Document, path: Path_, name: str, where: str) -> None:
    """Let `name` stand for the section at `path`; a section above that is a name itself is so no longer."""
    for end in range(1, len(path)):
        above = part_of(document.data, path[:end])
        if isinstance(above, str):
            document.set(path[:end], {"base": above})
        document.places.setdefault(path[:end], where)
    document.put(path, name, where)


def expand(document: Document, path: Path_) -> list[str]:
    """Replace a named section by its entry; a mapping with `base` overrides parts of one. Returns files read."""
    value = part_of(document.data, path)
    if base_of(value) is None and isinstance(part_of(document.data, path[:-1]), dict):
        value = _over_default(value, _default(document, path))
    if value is not None and value == NOTHING.get(path):
        document.set(path, None)
        return []
    base = base_of(value)
    if base is None:
        return []
    if path == WORKLOAD and _is_table(base):
        document.put(
            path, {"kind": "replay", "name": Path(base).name.partition(".")[0], "trace": {"file": base}}, document.place(path)
        )
        return []
    files: list[str] = []
    base = _engines_own(document, base) if path == KERNELS else _generations_own(document, base) if path == LIBRARY else base
    entry = entry_of(base, REFERENCES[path], document.place((*path, "base")), files)
    if isinstance(value, dict):
        own, depth = Document(value), len(path)
        own.places = {p[depth:]: w for p, w in document.places.items() if p[:depth] == path}
        own.figures = {p[depth:]: f for p, f in document.figures.items() if p[:depth] == path}
        _overlay(entry, own, path)
    document.graft(entry, path)
    return files


def _engines_own(document: Document, name: str) -> str:
    """The kernels of the serving engine that is named, where a chip's own entry names another engine's of its generation."""
    engine = base_of(part_of(document.data, ENGINE))
    said_by_chip = Path(document.place(KERNELS).partition(":")[0]).parent.name == Path(REFERENCES[("chip",)]).name
    if engine is None or not said_by_chip:
        return name
    generations = [name.removesuffix(f"-{known}") for known in library.names(REFERENCES[ENGINE]) if name.endswith(f"-{known}")]
    own = f"{generations[0]}-{engine}" if generations else name
    return own if own in library.names(REFERENCES[KERNELS]) else name


def _generations_own(document: Document, name: str) -> str:
    """A library's entry for the chip's generation, where there is one: `nccl` on a chip of `serving-ampere` is `nccl-ampere`."""
    stated = part_of(document.data, ("chip", "software"))
    if not isinstance(stated, str) or not stated.startswith(SERVING):
        return name
    own = FAMILIES.get(name, f"{name}-") + stated.removeprefix(SERVING)
    return own if own in library.names(REFERENCES[LIBRARY]) else name


def _default(document: Document, path: Path_) -> str | None:
    """The entry that a section is where nothing names one: a packet network's library is that of its chips."""
    kind = part_of(document.data, ("network", "kind"))
    if path == LIBRARY and kind == "packet":
        stated = part_of(document.data, ("chip", "software"))
        return stated if isinstance(stated, str) else str(LpuChip.model_fields["software"].default)
    return DEFAULTS.get(path) or DEFAULTS_OF.get(str(kind), {}).get(path)


def _over_default(value: Any, default: str | None) -> Any:
    """A section's default where nothing stands for it, or keys of its own over that."""
    if default is None or not (value is None or isinstance(value, dict)):
        return value
    return {"base": default, **value} if value else default


def inherit(document: Document) -> dict[Path_, Path_]:
    """Fill in keys of `INHERITED`; returns which key stands for which other."""
    if part_of(document.data, ("fabric", "kind")) != "lpu_dragonfly":
        return {}
    taken = {}
    for path, other in INHERITED.items():
        value = part_of(document.data, other)
        if value is not None and part_of(document.data, path) is None:
            document.set(path, value)
            taken[other] = path
    return taken


def give_name(document: Document, path: Path_, file: Path) -> None:
    """Results call a section by its name; one written out in `file` without a name is that file's own."""
    section = part_of(document.data, path)
    if isinstance(section, dict):
        section.setdefault("name", f"{file.stem}'s own" if path else file.stem)


def base_of(value: Any) -> str | None:
    """The catalog entry a section names, by itself or as its `base`."""
    name = value.get("base") if isinstance(value, dict) else value
    return name if isinstance(name, str) else None


def entry_of(name: str, folder: str, where: str, files: list[str]) -> Document:
    """The catalog entry `name`, over the entry it names as its own `base`; `files` collects what was read."""
    path = _config_in(name, folder) or library.find(ALIASES.get(folder, {}).get(name, name), folder, where)
    if str(path) in files:
        raise SpecError(Problem(where, f"'{name}' is its own base", "name another entry"))
    files.append(str(path))
    entry = _read_entry(path)
    base = entry.data.get("base")
    if not isinstance(base, str):
        entry.data.setdefault("name", path.stem)
        return entry
    below = entry_of(base, folder, entry.place(("base",)), files)
    _overlay(below, entry, next(path for path, place in REFERENCES.items() if place == folder))
    return below


def _is_table(name: str) -> bool:
    """Whether a workload is named by its table of requests, packed or not."""
    return name.lower().removesuffix(".gz").removesuffix(".zst").endswith(TABLES)


def _config_in(name: str, folder: str) -> Path | None:
    """The config of an LLM whose folder is named, as a download from the Hugging Face hub leaves it."""
    config = Path(name).expanduser() / "config.json"
    return config if folder == REFERENCES[("llm",)] and library.is_file(config) else None


def _overlay(below: Document, above: Document, path: Path_) -> None:
    """Set every leaf of `above`, a section that stands at `path`, in `below`; a name that gets keys becomes their base."""
    own = {key: value for key, value in above.data.items() if key != "base"}
    for leaf, value in _leaves(own, ()) if own else ():
        for inner in (leaf[:end] for end in range(1, len(leaf)) if path + leaf[:end] in REFERENCES):
            name = part_of(below.data, inner)
            if isinstance(name, str):
                below.set(inner, {"base": name})
        below.put(leaf, value)
    below.places.update(above.places)
    below.figures.update(above.figures)


def _read_entry(path: Path) -> Document:
    """A catalog file; a Hugging Face config.json becomes an LLM section."""
    if path.suffix != ".json":
        return read_document(path)
    from dcsim.spec.huggingface import llm_from_config, quantisation_beside

    entry = parse_document("{}", str(path))
    with reading(path, SpecError):
        config = read_json(path)
        if not isinstance(config, dict):
            raise Unreadable(f"a configuration is a mapping of keys to values, not {shown(config)}")
        entry.data = llm_from_config(config, str(path), quantisation_beside(path))
    return entry


def _leaves(node: Any, path: Path_) -> list[tuple[Path_, Any]]:
    if isinstance(node, dict) and node:
        return [leaf for key, value in node.items() for leaf in _leaves(value, (*path, key))]
    return [(path, node)]
