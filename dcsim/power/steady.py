"""The draw of a steady load: micro-batches that follow one another through replicas, and hosts that hand their tokens on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.power.hosts import token_pj
from dcsim.power.site import Draw, Site


def steady(
    site: Site, chips_in: NDArray[np.int64], work_j: Mapping[str, float], micro_batches_per_s: float, tokens_per_s: float
) -> Draw:
    """What is drawn while every replica of `chips_in` [replica, rack] goes through so many micro-batches a second.

    `work_j` is what one of them adds to the waiting of a replica's chips, by state; a replica hands on `tokens_per_s`.
    """
    replicas = len(chips_in)
    work_w = {state: np.full(replicas, joules * micro_batches_per_s) for state, joules in work_j.items()}
    spread = chips_in / np.maximum(chips_in.sum(axis=1, keepdims=True), 1)
    hosts_w = spread.sum(axis=0) * tokens_per_s * token_pj(site.spec.host) * 1e-12
    return site.draw(chips_in, work_w, hosts_w)


def with_spares(running_w: float, idle_w: float) -> float:
    """What clusters draw with units beside them that stand idle, in case one of theirs fails."""
    return running_w + idle_w


@dataclass(frozen=True, slots=True)
class Meters:
    """What the meters of several clusters read together."""

    power_w: float  # of their sites
    it_power_w: float  # of all racks
    rack_power_w: float  # of the rack that draws most


def together(clusters: Sequence[tuple[int, Draw]]) -> Meters:
    """The meters of so many clusters of each draw."""
    there = [(count, draw) for count, draw in clusters if count]
    return Meters(
        sum(count * draw.power_w for count, draw in there),
        sum(count * draw.it_power_w for count, draw in there),
        max((draw.rack_power_w for _, draw in there), default=0.0),
    )
