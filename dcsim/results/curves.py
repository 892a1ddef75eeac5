"""Pictures of a comparison: speed and cost over the size of the cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dcsim.results.pictures import AXIS, BLUE, GREEN, INK, ORANGE, PURPLE, SKY, VERMILION, look, nothing_here

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# In the order in which networks are told; marks tell them apart without colour.
COLOURS = (BLUE, VERMILION, ORANGE, GREEN, PURPLE, SKY, "#A6761D", "#666666")
MARKS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross", "hexagon")
TICKS = (64, 128, 264, 512, 1024, 1500)


def over_size(
    lines: Mapping[str, Sequence[tuple[int, float | None]]],
    title: str,
    unit: str,
    here: int | None = None,
    order: Sequence[str] = (),
) -> Figure:
    """A number over chips, a line a network; `here` marks the size that is looked at.

    `lines` holds (chips, value) by network, None where it cannot be; `order` gives networks their colours (default: as told).
    """
    from plotly.graph_objects import Figure

    known = list(order or lines)
    data = []
    for name, points in lines.items():
        place = known.index(name) % len(COLOURS)
        shown = [(chips, value) for chips, value in points if value is not None]
        data.append(
            {
                "type": "scatter",
                "x": [chips for chips, _ in shown],
                "y": [value for _, value in shown],
                "name": name,
                "mode": "lines+markers",
                "line": {"color": COLOURS[place], "width": 2.2},
                "marker": {"symbol": MARKS[place], "size": 8},
                "hovertemplate": f"%{{y:,.4~g}} {unit}<extra>{name}, %{{x:,}} chips</extra>",
            }
        )
    dotted = {"color": INK, "width": 1.2, "dash": "dot"}
    mark = {"type": "line", "x0": here, "x1": here, "yref": "paper", "y0": 0, "y1": 1, "line": dotted}
    sizes = {"type": "log", "tickvals": [*TICKS], "ticktext": [f"{size:,}" for size in TICKS], "range": [1.77, 3.21]}
    layout = {
        **look(legend=True, height=360),
        "xaxis": {**AXIS, "title": {"text": "chips", "font": {"size": 13}}, **sizes},
        "yaxis": {**AXIS, "title": {"text": f"{title} ({unit})", "font": {"size": 13}}, "rangemode": "tozero"},
        "shapes": [mark] if here is not None else [],
        "annotations": [] if any(lines.values()) else [nothing_here("nothing known yet")],
    }
    return Figure(data, layout)
