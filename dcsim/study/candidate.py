"""One interconnect of a comparison: a machine with it in place, and successive iterations on that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from dcsim.llm.program import Shape
from dcsim.network.timing import Iterations
from dcsim.spec.topology import Topology
from dcsim.study.machine import Machine


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
    return Timed(interconnect, software, machine, machine.network.iterations(shape, packets_max=packets_max))
