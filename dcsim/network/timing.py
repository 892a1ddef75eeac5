"""What a network says of one iteration."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class IterationTime:
    """One shape's time: `latency_ps` from the start of the first stage to the sampled token back there,
    `occupancy_ps` of the busiest stage, `energy_j` of all chips above their waiting draw.

    `breakdown_s` says where the latency went, by part (see `tasks.PARTS`); its values sum to the latency.
    """

    latency_ps: int
    occupancy_ps: int
    energy_j: float
    breakdown_s: dict[str, float] = field(default_factory=dict)
