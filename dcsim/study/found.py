"""Searches that were made before: kept in the user's cache, so that the next command takes the same answer without searching."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from dcsim.errors import DcsimError
from dcsim.kernels import kept
from dcsim.spec.topology import Topology
from dcsim.study.machine import objective_of
from dcsim.study.search import Choice, MappingFound, search
from dcsim.study.searching import tell
from dcsim.study.store import fingerprint, question_hash
from dcsim.workers import free_cores, spread


def find(spec: Topology) -> MappingFound:
    """As `search`; what it read of the spec counts as read whether it was made now or before."""
    own = spec.model_copy(deep=True)
    name = _name(own)
    content = kept.read("mapping", fingerprint(), name)
    if content is None:
        own.forget_reads()
        where = f"{own.name} with {own.llm.name}, {own.network.name}"
        tell(f"searching the mapping for {objective_of(own)}, kept for the next time: {where}", begins=True)
        found = search(own, tell)
        tell("")
        content = json.dumps([asdict(found), _of_the_search(own.reads())]).encode()
        kept.write("mapping", fingerprint(), name, content)
    told, reads = json.loads(content)
    spec.take_as_read(reads)
    second = told.pop("runner_up")
    return MappingFound(
        **{
            **told,
            "winner": Choice(**told["winner"]),
            "runner_up": Choice(**second) if second else None,
            "cliffs": tuple(told["cliffs"]),
        }
    )


def find_all(specs: Iterable[Topology]) -> None:
    """Search for several at once, a process for each core, so that `find` takes what was kept; errors are left to it."""
    named = {_name(spec.model_copy(deep=True)): spec for spec in specs}
    lacking = {name: spec for name, spec in named.items() if kept.read("mapping", fingerprint(), name) is None}
    if len(lacking) < 2 or free_cores() < 2:
        return
    what = ", ".join(sorted({f"{spec.name} with {spec.llm.name}, {spec.network.name}" for spec in lacking.values()}))
    tell(f"searching {len(lacking)} mappings, kept for the next time: {what}", begins=True)
    for done, _ in enumerate(spread(_keep, list(lacking.values()), free_cores()), 1):
        tell(f"{done} of {len(lacking)} mappings found")
    tell("")


def _keep(spec: Topology) -> None:
    with suppress(DcsimError):  # whoever asks for the mapping hears of it
        find(spec)


# What a search puts in place of what the spec says.
REPLACED = ("engine", "faults")
REPLACED_KEYS = (("workload", "rate_scale"), ("power", "sample_s"))


def _of_the_search(reads: dict[str, Any]) -> dict[str, Any]:
    """What was read, without what the search had replaced."""
    top = [name for name in reads[""] if name not in REPLACED]
    kept_parts = {name: part for name, part in reads.items() if name not in REPLACED}
    for section, key in REPLACED_KEYS:
        part = reads.get(section, {})
        kept_parts[section] = part | {"": [name for name in part.get("", ()) if name != key]}
    return kept_parts | {"": top}


def _name(spec: Topology) -> str:
    """A name for all of the spec that a search may depend on."""
    said: dict[str, Any] = spec.saved()
    for key in ("name", "description", *REPLACED):
        said.pop(key, None)
    said["workload"].pop("rate_scale", None)
    return question_hash(said, sorted(spec.model_fields_set & {"workload", "slo"}))
