"""What any network says: of one iteration, of several in a row, of one collective, of each task of a program."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.network.tasks import Tasks

# Where an iteration's time goes, in the same parts on every network. Parts come from the critical path of each iteration,
# so they sum to its time.
MEANING = {
    "matrix": "matrix products on chips",
    "attention": "attention on chips",
    "vector": "norms, activations and sums on chips",
    "host": "the host's own work in an iteration",
    "software": "library calls",
    "jitter": "the host's delays",
    "switch": "adapters, switches, a chip's own link interfaces, forwarding and slack",
    "wire": "cables",
    "serialisation": "bytes being clocked out",
    "queueing": "waiting for others' bytes",
    "slowest": "waiting for the slowest of several messages beyond their mean",
    "other": "what could not be attributed",
}
BREAKDOWN = tuple(MEANING)
COMPUTE = ("matrix", "attention", "vector", "host")
# The same with all that no network changes in one, for comparisons of networks.
PARTS = ("compute", *(part for part in BREAKDOWN if part not in COMPUTE))


def waterfall(breakdown_s: dict[str, float]) -> dict[str, float]:
    """Seconds by PARTS of seconds by BREAKDOWN."""
    return {"compute": sum(breakdown_s[part] for part in COMPUTE)} | {part: breakdown_s[part] for part in PARTS[1:]}


@dataclass(frozen=True, slots=True)
class IterationTime:
    """One shape's time: `latency_ps` from the start of the first stage to the sampled token back there,
    `occupancy_ps` of the busiest stage, `work_j` of all chips and links above the chips' waiting draw.

    `breakdown_s` says where the latency went, by BREAKDOWN, and sums to it; empty where nobody asked. `hazard` is minus the
    logarithm of the chance that no vector has a bit error which error correction cannot mend; 0 where the network resends.
    """

    latency_ps: int
    occupancy_ps: int
    work_j: float
    breakdown_s: dict[str, float] = field(default_factory=dict)
    hazard: float = 0.0


@dataclass(frozen=True, slots=True)
class InFlightTime:
    """Micro-batches of one shape that follow one another, one every `interval_ps`, each from its first stage to the sampled
    token back there in `latency_ps`.
    """

    interval_ps: int
    latency_ps: int


@dataclass(frozen=True, slots=True)
class Iterations:
    """Successive iterations of one shape; arrays over them. One stands for all where they are alike.

    `packets` of one iteration is None where none are sent. `background_fraction` is what else is offered to the busiest link.
    """

    latency_ps: NDArray[np.int64]
    occupancy_ps: NDArray[np.int64]
    work_j: NDArray[np.float64]
    breakdown_ps: NDArray[np.float64]  # [iteration, BREAKDOWN]; rows sum to latency_ps
    packets: int | None = None
    drops: int = 0
    pauses: int = 0
    background_fraction: float = 0.0
    hazard: float = 0.0  # of one iteration, see `IterationTime`

    def times(self) -> tuple[IterationTime, ...]:
        """Each by itself, in order: neighbours share queues and cross traffic."""
        rows = zip(self.latency_ps, self.occupancy_ps, self.work_j, self.breakdown_ps, strict=True)
        return tuple(
            IterationTime(int(latency), int(occupancy), float(work), _seconds(parts), self.hazard)
            for latency, occupancy, work, parts in rows
        )

    def mean(self) -> IterationTime:
        """Their mean."""
        return IterationTime(
            round(float(self.latency_ps.mean())),
            round(float(self.occupancy_ps.mean())),
            float(self.work_j.mean()),
            _seconds(self.breakdown_ps.mean(axis=0)),
            self.hazard,
        )


def _seconds(parts_ps: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(BREAKDOWN, (parts_ps * 1e-12).tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What one collective took, alone on the network. `times_s` holds one value a repetition; one stands for all where
    they are alike. `counts` are what this kind of network counts besides: cycles and vector-hops, or packets.
    """

    algorithm: str
    times_s: tuple[float, ...]
    messages: int
    counts: dict[str, int]
    protocol: str = ""  # of a library; empty where there is none to speak of


@dataclass(frozen=True, slots=True)
class Spans:
    """The tasks of one iteration alone, and when each starts and ends."""

    tasks: Tasks
    start_s: NDArray[Any]  # float64[task]
    last_s: NDArray[Any]
