"""JSON Schemas of the files that people write, for their editors: what a key may hold and means, and how units stand."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from dcsim.spec.catalog import REFERENCES
from dcsim.spec.document import FIGURE_KINDS
from dcsim.spec.sweep import SweepSpec
from dcsim.spec.topology import Topology
from dcsim.spec.workload import WorkloadSpec

DRAFT = "https://json-schema.org/draft/2020-12/schema"
NAMED = {path[-1] for path in REFERENCES}  # sections that may be the name of an entry, or rest on one


def topology_schema() -> dict[str, Any]:
    """Of a topology file."""
    return _schema("A dcsim topology", TypeAdapter(Topology).json_schema(by_alias=True))


def workload_schema() -> dict[str, Any]:
    """Of a workload file."""
    return _schema("A dcsim workload", TypeAdapter(WorkloadSpec).json_schema(by_alias=True))


def sweep_schema() -> dict[str, Any]:
    """Of a sweep's file."""
    return {"$schema": DRAFT, **TypeAdapter(SweepSpec).json_schema(by_alias=True), "title": "A dcsim sweep"}


def _schema(title: str, tree: dict[str, Any]) -> dict[str, Any]:
    """As files are written: sections by name, or over one; figures with kind and source in a value's place.

    What is required is left to `dcsim check`: a section that rests on an entry needs only what differs.
    """
    for section in [tree, *tree.get("$defs", {}).values()]:
        section.pop("required", None)
        section.pop("discriminator", None)  # which an editor's schema does not know; the kinds themselves stay told apart
        for name, value in section.get("properties", {}).items():
            section["properties"][name] = _as_written(name, value)
        if "properties" in section:
            section["properties"].setdefault("base", {"type": "string", "description": "The entry that this rests on."})
    return {"$schema": DRAFT, **tree, "title": title}


def _as_written(name: str, value: dict[str, Any]) -> dict[str, Any]:
    value.pop("discriminator", None)
    told: dict[str, Any] = {key: value.pop(key) for key in ("title", "description", "default") if key in value}
    forms: list[dict[str, Any]] = [value]
    if name in NAMED or name == "trace":
        forms.append({"type": "string", "description": "The name of an entry in the library, or a file."})
    elif "$ref" not in value:
        forms.append(_figure(value))
    return {"anyOf": forms, **told}


def _figure(value: dict[str, Any]) -> dict[str, Any]:
    """A figure from the world: a value with what it rests on."""
    return {
        "type": "object",
        "properties": {
            "value": value,
            "kind": {"enum": list(FIGURE_KINDS)},
            "source": {"type": "string"},
            "range": {"type": "array"},
            "note": {"type": "string"},
        },
        "required": ["value", "kind", "source"],
        "additionalProperties": False,
    }


SCHEMAS = {"topology.json": topology_schema, "workload.json": workload_schema, "sweep.json": sweep_schema}
