"""Pictures of a run over its time: where its requests were, which racks drew what, when parts failed, and how it looks now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dcsim.results.pictures import (
    AXIS,
    BLUE,
    GREEN,
    INTERVALS_MAX,
    MILESTONES,
    ORANGE,
    SKY,
    VERMILION,
    amount_between,
    clock,
    dress,
    held_to,
    left_s,
    look,
    rack_power,
)
from dcsim.units import format_time

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# What a request does between two of its times, and its colour.
PHASES = (
    ("at the hosts", SKY),
    ("waits for a place or KV room", VERMILION),
    ("its prompt is read", ORANGE),
    ("its answer is made", BLUE),
)
FAULTS_MAX = 200  # lines that are drawn; all are marked


def phases(requests: Any, elapsed_s: float) -> Figure:
    """Requests in the system over time by what they do, stacked: where the waiting is, and when.

    Each is a mean over short equal intervals. One that never came further stays where it was until it left.
    """
    from plotly.graph_objects import Figure as Picture

    edges = np.linspace(0.0, max(elapsed_s, 1e-12), INTERVALS_MAX + 1)
    scale, unit = clock(elapsed_s)
    times = [np.asarray(requests[name], float) for name in ("arrival_s", *MILESTONES)]
    end = left_s(requests, elapsed_s)
    figure = Picture()
    for place, (name, colour) in enumerate(PHASES):
        start = times[place]
        later = np.fmin.reduce([*times[place + 1 :], end])
        began = ~np.isnan(start)
        stay = amount_between(edges, start[began], np.maximum(start, later)[began], np.ones(int(began.sum())))
        figure.add_scatter(
            x=edges / scale,
            y=held_to(stay / edges[1]),
            name=name,
            stackgroup="requests",
            mode="lines",
            line={"width": 0, "color": colour, "shape": "vh"},
            hovertemplate="%{y:,.4~g}",
        )
    figure.update_xaxes(title=f"time ({unit})")
    figure.update_yaxes(title="requests", rangemode="tozero")
    figure.update_layout(hovermode="x unified")
    return dress(figure, legend=True, empty=not len(requests["status"]), height=420)


def racks(power: Any) -> Figure:
    """What each rack draws at the wall over time, a line of colour a rack."""
    from plotly.graph_objects import Figure as Picture

    edges, racks_w = rack_power(power)
    scale, unit = clock(edges[-1])
    figure = Picture()
    figure.add_heatmap(
        x=edges / scale,
        y=[f"{rack}" for rack in range(len(racks_w))],
        z=racks_w,
        colorscale="Cividis",
        colorbar={"title": {"text": "W"}, "thickness": 12, "exponentformat": "SI"},
        hovertemplate=f"rack %{{y}}, %{{x:.4~g}} {unit}: %{{z:.4~s}}W<extra></extra>",
    )
    figure.update_xaxes(title=f"time ({unit})", showgrid=False)
    figure.update_yaxes(title="rack", type="category", showgrid=False)
    return dress(figure, legend=False, empty=not len(racks_w), height=420)


def mark_faults(figure: Figure, faults: Any, span_s: float) -> Figure:
    """The figure, whose time is that of `clock(span_s)`, with a line at each failure; a mark on its foot says what failed."""
    times = np.asarray(faults["time_s"], float)
    if not len(times):
        return figure
    scale, _ = clock(span_s)
    for time in times[:FAULTS_MAX] / scale:
        line = {"color": VERMILION, "width": 1, "dash": "dot"}
        figure.add_shape({"type": "line", "x0": time, "x1": time, "yref": "paper", "y0": 0, "y1": 1, "line": line})
    words = [
        f"{part} {index} fails; stands still {format_time(down)}, {hit} requests hit"
        for part, index, down, hit in zip(
            *(list(faults[name]) for name in ("part", "index", "down_s", "requests_hit")), strict=True
        )
    ]
    figure.add_scatter(
        x=times / scale,
        y=np.zeros(len(times)),
        name="faults",
        mode="markers",
        marker={"symbol": "triangle-up", "color": VERMILION, "size": 10},
        customdata=words,
        hovertemplate="%{customdata}",
        cliponaxis=False,
    )
    return figure


def under_way(looks: Sequence[Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """What a run looks like so far (`cluster.live.LiveState` as plain data, the latest last): titles and figures."""
    times = [at["time_s"] for at in looks]
    watts = list(looks[-1]["rack_w"])
    batch = [sum(at["decoding"]) for at in looks]
    return [
        ("Requests in the system", _small(times, [at["in_system"] for at in looks], "s of the run", BLUE)),
        ("Sequences in the batch", _small(times, batch, "s of the run", GREEN)),
        ("Power of each rack now, W", _small(list(range(len(watts))), watts, "rack", ORANGE, "bar")),
    ]


def _small(x: Sequence[float], y: Sequence[float], along: str, colour: str, kind: str = "scatter") -> dict[str, Any]:
    """A small figure of one line, or of bars."""
    marks = {"marker": {"color": colour}} if kind == "bar" else {"mode": "lines", "line": {"color": colour, "width": 1.8}}
    layout = {
        **look(legend=False, height=170),
        "margin": {"l": 46, "r": 10, "t": 8, "b": 36},
        "xaxis": {
            **AXIS,
            "title": {"text": along, "font": {"size": 12}},
            **({"dtick": 1} if len(x) < 12 and kind == "bar" else {}),
        },
        "yaxis": {**AXIS, "rangemode": "tozero"},
    }
    return {"data": [{"type": kind, "x": list(x), "y": list(y), **marks}], "layout": layout}
