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
    Array,
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
    edges, spent_s = _spent(requests, elapsed_s)
    figure = _stacked(edges, spent_s / edges[1], elapsed_s, "%{y:,.4~g}")
    figure.update_yaxes(title="requests", rangemode="tozero")
    return dress(figure, legend=True, empty=not len(requests["status"]), height=420)


def shares(requests: Any, elapsed_s: float) -> Figure:
    """Of the time of requests in the system, the share that goes to each phase, over time: what binds when.

    Each is over a short interval; nothing is drawn where nobody is in the system.
    """
    edges, spent_s = _spent(requests, elapsed_s)
    together = spent_s.sum(axis=0)
    figure = _stacked(edges, spent_s / np.where(together > 0, together, 1.0), elapsed_s, "%{y:.1%}")
    figure.update_yaxes(title="share of requests' time", tickformat=".0%", range=[0, 1])
    return dress(figure, legend=True, empty=not len(requests["status"]), height=420)


def _spent(requests: Any, elapsed_s: float) -> tuple[Array, Array]:
    """Edges of equal intervals of time, and the request-seconds [phase, interval] of each phase between them."""
    edges = np.linspace(0.0, max(elapsed_s, 1e-12), INTERVALS_MAX + 1)
    times = [np.asarray(requests[name], float) for name in ("arrival_s", *MILESTONES)]
    end = left_s(requests, elapsed_s)
    spent_s = []
    for place, start in enumerate(times):
        later = np.fmin.reduce([*times[place + 1 :], end])
        began = ~np.isnan(start)
        spent_s.append(amount_between(edges, start[began], np.maximum(start, later)[began], np.ones(int(began.sum()))))
    return edges, np.array(spent_s)


def _stacked(edges: Array, amounts: Array, elapsed_s: float, hover: str) -> Figure:
    """A layer for each phase, of its amount in each interval."""
    from plotly.graph_objects import Figure as Picture

    scale, unit = clock(elapsed_s)
    figure = Picture()
    for (name, colour), amount in zip(PHASES, amounts, strict=True):
        figure.add_scatter(
            x=edges / scale,
            y=held_to(amount),
            name=name,
            stackgroup="requests",
            mode="lines",
            line={"width": 0, "color": colour, "shape": "vh"},
            hovertemplate=hover,
        )
    figure.update_xaxes(title=f"time ({unit})")
    figure.update_layout(hovermode="x unified")
    return figure


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
    """The figure, whose time is that of `clock(span_s)`, with a line at each failure; a mark on its foot says what failed.

    The time is shaded that the failed part's work stood still.
    """
    times = np.asarray(faults["time_s"], float)
    if not len(times):
        return figure
    scale, _ = clock(span_s)
    ends = np.minimum(times + np.asarray(faults["down_s"], float), span_s)
    whole = {"yref": "paper", "y0": 0, "y1": 1}
    for time, end in zip(times[:FAULTS_MAX] / scale, ends[:FAULTS_MAX] / scale, strict=True):
        line = {"color": VERMILION, "width": 1, "dash": "dot"}
        figure.add_shape({"type": "line", "x0": time, "x1": time, "line": line, **whole})
        if end > time:
            shade = {"fillcolor": VERMILION, "opacity": 0.12, "line": {"width": 0}}
            figure.add_shape({"type": "rect", "x0": time, "x1": end, **shade, **whole})
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
