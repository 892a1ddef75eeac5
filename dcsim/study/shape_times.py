"""What a mapping's compiled programs take: kept in the user's cache, so that the next command need not compile them again.

A machine's first program is always compiled: what that reads of the spec is what all of them read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from typing import Any

from dcsim.kernels import kept
from dcsim.llm.mapping import Mapping
from dcsim.llm.program import Shape
from dcsim.network.network import Network
from dcsim.network.timing import InFlightTime, IterationTime
from dcsim.spec.topology import Topology
from dcsim.study.store import fingerprint, question_hash

# Sections that a compiled program follows from, beside the mapping's chips and the shape; and what of them only chose these.
SECTIONS = ("chip", "host", "fabric", "network", "llm", "mapping")
CHOSE = ("rule", "objective", "tp", "pp", "replicas")


Prove = Callable[[Shape], InFlightTime | None]


class ShapeTimes:
    """The times of a compiled network's shapes under a mapping, alone and in flight."""

    def __init__(self, network: Network, prove: Prove, spec: Topology, mapping: Mapping) -> None:
        self._network, self._prove, self._spec, self._mapping = network, prove, spec, mapping
        self._compiled = False  # whether any was, in this process

    def times(self, shape: Shape, *, parts: bool = False) -> tuple[IterationTime, ...]:
        """As `Network.times`."""
        name = _name("alone", shape)
        known = self._known.get(name) if self._compiled and not parts else None
        if known is not None:
            return (IterationTime(**known),)
        time = self._network.time(shape, parts=parts)
        self._compiled = True
        if name not in self._known:
            self._keep(name, asdict(time) | {"breakdown_s": {}})
        return (time,)

    def in_flight(self, shape: Shape) -> InFlightTime | None:
        """What is proved of micro-batches of `shape`; None where no interval was found."""
        name = _name("in_flight", shape)
        if name not in self._known:
            found = self._prove(shape)
            self._keep(name, asdict(found) if found else None)
        times = self._known[name]
        return InFlightTime(**times) if times else None

    @cached_property
    def _known(self) -> dict[str, Any]:
        return self._read()

    def _read(self) -> dict[str, Any]:
        content = kept.read("shapes", fingerprint(), self._made_of)
        known: dict[str, Any] = json.loads(content) if content else {}
        return known

    def _keep(self, name: str, answer: dict[str, Any] | None) -> None:
        """Keep an answer beside those of others; of two processes that do so at once one may have to find its own again."""
        self._known[name] = answer
        self._known.update(self._read() | self._known)
        kept.write("shapes", fingerprint(), self._made_of, json.dumps(self._known).encode())

    @cached_property
    def _made_of(self) -> str:
        """Names all that a program of any shape follows from; what is read of the spec for this does not count as read."""
        saved: dict[str, Any] = self._spec.model_copy(deep=True).saved()
        said = {name: saved[name] for name in SECTIONS}
        said["mapping"] = {key: value for key, value in said["mapping"].items() if key not in CHOSE}
        laid = self._mapping.stages, self._mapping.stage_chips, self._mapping.head_apart, self._mapping.host_embedding
        return question_hash(said, laid)


def _name(what: str, shape: Shape) -> str:
    return f"{what} {shape.batch} {shape.context} {shape.new_tokens}"
