"""A short topology that runs: chip, nodes and network by name, the rest as a topology of the library with that chip has it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcsim import library
from dcsim.errors import CapacityError, Problem, SpecError
from dcsim.spec.catalog import base_of
from dcsim.spec.document import Document, read_document
from dcsim.spec.host import NodeSpec
from dcsim.spec.load import load, load_entry
from dcsim.study.machine import build
from dcsim.study.store import hash_of
from dcsim.writing import scratch_folder, write_text

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_SPINES_MAX = 32
_LEAF_PORTS = 32


@dataclass(frozen=True, slots=True)
class TopologyTemplate:
    """What is asked for; None: as the library's topology with that chip has it."""

    chip: str
    nodes: int
    network: str | None = None
    llm: str | None = None
    workload: str | None = None
    node: str | None = None
    host: str | None = None


def write_topology(path: Path, wanted: TopologyTemplate) -> dict[str, Any]:
    """Write the topology, once it is known to hold its LLM: SpecError or CapacityError with the reason if it does not.

    Returns what was chosen. Nothing that is there is overwritten.
    """
    if path.exists():
        raise SpecError(Problem(str(path), "is there already", "name a new file"))
    library.find(wanted.chip, "topologies/chips", "--chip")
    pattern, own = _pattern(wanted)
    sections = _sections(path, wanted, own)
    problem: CapacityError | SpecError | None = None
    for mapping in _mappings(sections["fabric"]):
        text = _text({**sections, "mapping": {**mapping, **_precision(own)}}, pattern)
        try:
            with scratch_folder(path.absolute().parent) as work:
                trial = work / path.name
                (work / path.name).write_text(text, encoding="utf-8")
                machine = build(load(trial).spec)
        except CapacityError as error:
            problem = error
            continue
        except SpecError as error:
            if "heads" not in str(error) and "stages" not in str(error) and "blocks" not in str(error):
                raise
            problem = error
            continue
        write_text(path, text)
        return {
            "made": [str(path)],
            "like": pattern,
            "chips": int(machine.site.chips.sum()),
            **machine.terms,
            "id": hash_of(text),
        }
    assert problem is not None
    raise problem


def _pattern(wanted: TopologyTemplate) -> tuple[str, dict[str, Any]]:
    """The library's topology to follow: of that chip, with that network if one has it, the most like a cluster."""
    found = []
    for name in library.names("topologies"):
        data = _with_figures(read_document(library.find(name, "topologies")))
        if base_of(data.get("chip")) == wanted.chip:
            same = base_of(data.get("network")) == wanted.network
            joined = "node_chips" in data.get("fabric", {})
            found.append(((not same, not joined and wanted.network is not None, name), name, data))
    if not found and not (wanted.node and wanted.host and wanted.network):
        what = f"no topology of the library has chip '{wanted.chip}', so that its node is not known"
        raise SpecError(Problem("--chip", what, "give --node, --host and --network as well"))
    if not found:
        return "", {}
    _, name, data = min(found, key=lambda one: one[0])
    return name, data


def _with_figures(document: Document) -> dict[str, Any]:
    """A file's data with each figure's kind and source beside its value, as it stands there."""
    for path, figure in document.figures.items():
        told = {"value": figure.value, "kind": figure.kind, "source": figure.source}
        document.set(path, told | ({"range": list(figure.range)} if figure.range else {}))
    return document.data


def _sections(path: Path, wanted: TopologyTemplate, own: dict[str, Any]) -> dict[str, Any]:
    """The file's keys in order, but for the mapping."""
    node = wanted.node or own["node"]
    network = wanted.network or own["network"]
    llm = wanted.llm or base_of(own.get("llm"))
    if llm is None:
        raise SpecError(Problem("--llm", "is not given", "for example --llm llama-3-8b, or a Hugging Face config.json"))
    if wanted.llm and library.is_file(Path(wanted.llm)):
        llm = str(Path(wanted.llm).resolve())
    workload = wanted.workload
    if workload and library.is_file(Path(workload)):
        workload = str(Path(workload).resolve())
    kept: dict[str, Any] = {key: own[key] for key in ("serving", "slo") if key in own}
    return {
        "name": path.stem,
        "chip": wanted.chip,
        "node": node,
        "host": wanted.host or own["host"],
        "network": network,
        "fabric": _fabric(wanted.nodes, _chips_of(node), own.get("fabric", {}), wanted.network is None),
        "llm": llm,
        "workload": workload or base_of(own.get("workload")) or "chat",
        **kept,
    }


def _chips_of(node: Any) -> int:
    return load_entry(str(base_of(node)), "topologies/nodes", NodeSpec, "--node")[0].chips


def _fabric(nodes: int, chips: int, own: dict[str, Any], same_network: bool) -> dict[str, Any]:
    """Nodes that forward for each other where the library has them so; a node alone; else nodes on rails of leaves and spines."""
    if own.get("kind") == "lpu_dragonfly":
        return {"kind": "lpu_dragonfly", "nodes": nodes}
    if nodes == 1 and same_network and own.get("kind") == "island":
        return dict(own)
    return {
        "kind": "leaf_spine",
        "endpoints": nodes * chips,
        "node_chips": chips,
        "rails": chips,
        "leaf_ports_down": _LEAF_PORTS,
        "spines": min(_SPINES_MAX, max(2, nodes)),
    }


def _mappings(fabric: dict[str, Any]) -> list[dict[str, Any]]:
    """Ways to lay the LLM, the best first; the first that fits is taken."""
    chips = fabric.get("node_chips") or (fabric.get("chips") if fabric["kind"] == "island" else None)
    if chips is None:
        return [{"tp": "auto", "pp": "auto"}]
    wide = [chips // 2**i for i in range(int(chips).bit_length())]
    return [{"tp": tp, "pp": pp, "replicas": "auto"} for pp in (1, 2, 4, 8) for tp in wide[:2]] + [{"tp": "auto", "pp": "auto"}]


def _precision(own: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in own.get("mapping", {}).items() if key in ("weights", "kv", "activations")}


def _text(sections: dict[str, Any], pattern: str) -> str:
    schema = library.root() / "schemas" / "topology.json"
    head = [f"# yaml-language-server: $schema={schema.as_uri()}"] if schema.is_file() else []
    head.append(f"# Made by dcsim init{f' after {pattern}' if pattern else ''}; `dcsim check` says what is wrong with an edit.")
    lines = []
    for key, value in sections.items():
        if isinstance(value, dict):
            lines.append(f"{key}:")
            lines += [f"  {name}: {_flow(inner)}" for name, inner in value.items()]
        else:
            lines.append(f"{key}: {_flow(value)}")
    return "\n".join([*head, *lines]) + "\n"


def _flow(value: Any) -> str:
    """A value on one line: plain words as they are, all else as JSON, which YAML is a superset of."""
    if not isinstance(value, str) or not _PLAIN.fullmatch(value) or value in ("true", "false", "null", "on", "off"):
        return json.dumps(value)
    return value
