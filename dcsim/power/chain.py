"""The path of power from the parts to the site's meter.

Racks stand on PDUs in order of their numbers, PDUs in halls. Each level's meter reads the levels below it and what is
lost between: supplies, PDUs, the hall's UPS; the site's reads racks times PUE, which holds all these and cooling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.spec.topology import Topology


@dataclass(frozen=True, slots=True)
class Level:
    """One level: which group of it each rack is in, and the share of the meter's power that reaches the parts."""

    name: str
    cap_w: float
    group_of: NDArray[np.int64]  # [rack]
    efficiency: float

    def meter_w(self, parts_w: NDArray[np.float64]) -> NDArray[np.float64]:
        """[group] reading of the meters for the parts' draw of each rack."""
        reading: NDArray[np.float64] = np.bincount(self.group_of, parts_w) / self.efficiency
        return reading


def levels(spec: Topology, racks: int) -> tuple[Level, ...]:
    """Rack, PDU, hall and site, from the chips up."""
    power, rack = spec.power, np.arange(racks)
    pdu = rack // power.racks_per_pdu
    supply = spec.node.supply_efficiency
    return (
        Level("rack", power.rack_cap_w, rack, supply),
        Level("pdu", power.pdu_cap_w, pdu, supply * power.pdu_efficiency),
        Level("hall", power.hall_cap_w, pdu // power.pdus_per_hall, supply * power.pdu_efficiency * power.ups_efficiency),
        Level("site", power.site_cap_w, np.zeros(racks, np.int64), supply / power.pue),
    )


def power_terms(spec: Topology) -> dict[str, Any]:
    """What site power rests on: the PUE, and the entry of topologies/power whose figure it is."""
    return {"pue": spec.power.pue, "power_entry": spec.power.name}
