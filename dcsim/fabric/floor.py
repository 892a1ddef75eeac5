"""Cable lengths from where racks stand: a grid of racks in rows, cables in trays above."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt


@dataclass(frozen=True, slots=True)
class Floor:
    """Lengths in m, all assumed (racks 0.6 m wide, rows 2.4 m apart, 2 m up to a tray and down again).

    `racks_per_row` 0 makes the floor about square.
    """

    node_cable_m: float = 0.5
    rack_cable_m: float = 2.0
    rack_width_m: float = 0.6
    row_pitch_m: float = 2.4
    tray_m: float = 4.0
    racks_per_row: int = 0

    def cable_m(self, rack_a: int, rack_b: int, racks: int) -> float:
        """Length of a cable between two of `racks` racks: along the row, across rows, up and down."""
        if rack_a == rack_b:
            return self.rack_cable_m
        row = self.row_length(racks)
        across = abs(rack_a // row - rack_b // row) * self.row_pitch_m
        return abs(rack_a % row - rack_b % row) * self.rack_width_m + across + self.tray_m

    def row_length(self, racks: int) -> int:
        """Racks in a row; rows and columns of a square floor differ by the pitches' ratio."""
        if self.racks_per_row:
            return self.racks_per_row
        ratio = self.row_pitch_m / self.rack_width_m if self.rack_width_m and self.row_pitch_m else 1.0
        return max(1, ceil(sqrt(racks * ratio)))
