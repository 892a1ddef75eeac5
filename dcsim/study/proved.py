"""Intervals of micro-batches in flight that were proved before: kept in the user's cache, so that the next run takes the same
without compiling them again.
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
from dcsim.network.timing import InFlightTime
from dcsim.spec.topology import Topology
from dcsim.study.store import fingerprint, question_hash

Prove = Callable[[Shape], InFlightTime | None]

# Sections that a compiled program follows from, beside the mapping's chips and the shape.
SECTIONS = ("chip", "fabric", "network", "llm", "mapping")


class ProvedIntervals:
    """The times that `prove` finds for shapes in flight under a mapping, each found once and kept."""

    def __init__(self, prove: Prove, spec: Topology, mapping: Mapping) -> None:
        self._prove, self._spec, self._mapping = prove, spec, mapping

    def __call__(self, shape: Shape) -> InFlightTime | None:
        """The times of `shape`; None where no interval was found."""
        name = question_hash(asdict(shape), self._made_of)
        content = kept.read("in_flight", fingerprint(), name)
        if content is None:
            found = self._prove(shape)
            content = json.dumps(found and asdict(found)).encode()
            kept.write("in_flight", fingerprint(), name, content)
        times = json.loads(content)
        return InFlightTime(**times) if times else None

    @cached_property
    def _made_of(self) -> str:
        """Names all that a program of any shape follows from; what is read of the spec for this does not count as read."""
        saved: dict[str, Any] = self._spec.model_copy(deep=True).saved()
        said = {name: saved[name] for name in SECTIONS}
        laid = self._mapping.stages, self._mapping.stage_chips, self._mapping.head_apart, self._mapping.host_embedding
        return question_hash(said, laid)
