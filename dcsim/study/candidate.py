"""One interconnect of a comparison: a machine with it in place, and successive iterations on that.

Iterations that were simulated before are kept in the user's cache: the same question is answered without simulating again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import DcsimError
from dcsim.kernels import kept
from dcsim.llm.program import Shape
from dcsim.network.timing import Iterations
from dcsim.spec.topology import Topology
from dcsim.study.machine import Machine
from dcsim.study.store import fingerprint, question_hash
from dcsim.workers import free_cores, spread

Question = tuple[Machine, Shape, int, int]  # see `iterations_of`: how many iterations, and of how many packets at most


@dataclass(frozen=True, slots=True)
class Timed:
    """One candidate with its iterations."""

    interconnect: str
    software: str | None  # the library; None where there is none to have
    machine: Machine
    iterations: Iterations

    @property
    def spec(self) -> Topology:
        """The topology with this interconnect."""
        return self.machine.spec

    @property
    def latency_s(self) -> NDArray[Any]:
        """[iteration] how long each took, float64."""
        return self.iterations.latency_ps * 1e-12


def time_candidate(interconnect: str, software: str | None, machine: Machine, shape: Shape, packets_max: int = 0) -> Timed:
    """Time one candidate; fewer iterations than its network says where they have too many packets."""
    return Timed(interconnect, software, machine, iterations_of(machine, shape, packets_max=packets_max))


def time_all(questions: Iterable[Question], progress: Callable[[str], None]) -> None:
    """Simulate several at once, a process for each core, so that `iterations_of` takes what was kept; errors are left to it.

    `progress` hears how far that is.
    """
    named = {_name(*question): question for question in questions}
    lacking = [question for name, question in named.items() if kept.read("iterations", fingerprint(), name) is None]
    if len(lacking) > 1 and free_cores() > 1:
        for done, _ in enumerate(spread(_keep, lacking, free_cores()), 1):
            progress(f"{done} of {len(lacking)} candidates timed")


def _keep(question: Question) -> None:
    machine, shape, count, packets_max = question
    with suppress(DcsimError):  # whoever asks for the iterations hears of it
        iterations_of(machine, shape, count, packets_max=packets_max)


def iterations_of(machine: Machine, shape: Shape, count: int = 0, *, packets_max: int = 0) -> Iterations:
    """As `Machine.network.iterations`; what that read of the spec counts as read whether it was simulated now or before."""
    name = _name(machine, shape, count, packets_max)
    content = kept.read("iterations", fingerprint(), name)
    if content is not None:
        return _unpacked(content, machine.spec)
    iterations = machine.network.iterations(shape, count, packets_max=packets_max)
    kept.write("iterations", fingerprint(), name, _packed(iterations, machine.spec))
    return iterations


def _name(machine: Machine, shape: Shape, count: int, packets_max: int) -> str:
    """A name for all that the iterations follow from."""
    said, mapping = machine.spec.model_copy(deep=True).saved(), machine.mapping
    laid = mapping.replica_chips, mapping.stages, mapping.head_apart, mapping.host_embedding
    return question_hash(said, laid, asdict(shape), count, packets_max, machine.seed)


def _packed(iterations: Iterations, spec: Topology) -> bytes:
    values = asdict(iterations)
    arrays: dict[str, Any] = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    plain = {name: value for name, value in values.items() if name not in arrays}
    file = io.BytesIO()
    np.savez(file, plain=np.array(json.dumps([plain, spec.reads()])), **arrays)
    return file.getvalue()


def _unpacked(content: bytes, spec: Topology) -> Iterations:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        plain, reads = json.loads(str(arrays["plain"]))
        spec.take_as_read(reads)
        return Iterations(**plain, **{name: arrays[name] for name in arrays.files if name != "plain"})
