"""Library software and host jitter: what a message costs before it reaches its adapter. Entries of topologies/."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from dcsim import library
from dcsim.errors import Problem, SpecError
from dcsim.spec.document import Document, read_document
from dcsim.spec.section import Fraction, Named, Section, Time

Entry = TypeVar("Entry", bound=Section)

SOFTWARE, JITTER = "topologies/software", "topologies/jitter"


class PatternCost(Section):
    """A collective of s steps pays `first` once, at its first message, and `step` before each later one."""

    pattern: Literal["direct", "ring", "tree"] = Field(description="Message pattern of a collective.")
    first_s: Time = Field(description="Before a rank's first message.")
    step_s: Time = Field(description="Before each message that waited for another of the same collective.")


class PlaceCosts(Section):
    """Costs of calls between chips of one place: across the network, or inside a node's island."""

    patterns: tuple[PatternCost, ...] = Field(min_length=1, description="Patterns the library has, the usual one first.")
    send_s: Time = Field(description="Before a message from one chip to another outside collectives.")


class SoftwareSpec(Named):
    """A communication library."""

    network: PlaceCosts = Field(description="Between chips that adapters and switches join.")
    island: PlaceCosts = Field(description="Between chips of one node's island.")


class JitterSpec(Named):
    """A distribution by its quantiles: delays are spread evenly between neighbouring points."""

    shares: tuple[Fraction, ...] = Field(min_length=2, description="Ascending shares of all messages, from 0 to 1.")
    delays_s: tuple[Time, ...] = Field(min_length=2, description="The delay that each share of messages does not exceed.")


def read_software(name: str) -> SoftwareSpec:
    """The library `name` (a path, or an entry of topologies/software). Raises SpecError."""
    return _read(name, SOFTWARE, SoftwareSpec)


def read_jitter(name: str) -> JitterSpec:
    """The distribution `name` (a path, or an entry of topologies/jitter). Raises SpecError."""
    entry = _read(name, JITTER, JitterSpec)
    ascending = all(a <= b for values in (entry.shares, entry.delays_s) for a, b in pairwise(values))
    if len(entry.shares) != len(entry.delays_s) or (entry.shares[0], entry.shares[-1]) != (0.0, 1.0) or not ascending:
        raise SpecError(f"jitter '{name}': needs as many ascending delays as shares, which go from 0 to 1")
    return entry


def entries_named(network: Any) -> dict[str, Document]:
    """What a packet network names and is no part of the spec: its library and its jitter, by key, as they were read."""
    named = {"software": (network.software, SOFTWARE), "jitter": (network.jitter, JITTER)} if network.kind == "packet" else {}
    return {
        key: read_document(library.find(name, folder, f"network.{key}")) for key, (name, folder) in named.items() if name != "off"
    }


def _read(name: str, folder: str, kind: type[Entry]) -> Entry:
    document = read_document(library.find(name, folder, f"network.{folder.rpartition('/')[2]}"))
    try:
        return kind.model_validate(document.data)
    except ValidationError as error:
        problems = [
            Problem(document.place(tuple(map(str, item["loc"]))), f"{'.'.join(map(str, item['loc']))}: {item['msg']}")
            for item in error.errors(include_url=False)
        ]
        raise SpecError(problems) from error
