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
    PURPLE,
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
# Layers of what limits, from below: those of a token's own way first, then what makes it longer, then what is waited for.
CHIPS, NETWORK, HOSTS = "token's way: chips", "token's way: network", "token's way: software, host"
LAYERS = {
    CHIPS: BLUE,
    NETWORK: SKY,
    HOSTS: "#a6a6a6",
    "iteration_latency": BLUE,
    "program_switch": "#8c6bb1",
    "pipeline": GREEN,
    "prefill": ORANGE,
    "power_cap": "#4d4d4d",
    "host": "#b8a13a",
    "kv_transfer": "#1b9e9e",
    "batch": "#e8a0c0",
    "sequence_slots": PURPLE,
    "kv_memory": VERMILION,
    "fault": "#7f1d1d",
}
# Which of them a part of an iteration belongs to (`timing.MEANING`); all others are the network's.
WAY_OF_PARTS = {"matrix": CHIPS, "attention": CHIPS, "vector": CHIPS, "host": HOSTS, "software": HOSTS, "jitter": HOSTS}
LINES = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY)
FAULTS_MAX = 200  # lines that are drawn; all are marked


def phases(requests: Any, elapsed_s: float) -> Figure:
    """Requests in the system over time by what they do, stacked: where the waiting is, and when.

    Each is a mean over short equal intervals. One that never came further stays where it was until it left.
    """
    edges, spent_s = _spent(requests, elapsed_s)
    figure = _stacked(edges, _of_phases(spent_s / edges[1]), elapsed_s, "%{y:,.4~g}")
    figure.update_yaxes(title="requests", rangemode="tozero")
    return dress(figure, legend=True, empty=not len(requests["status"]), height=420)


def shares(requests: Any, elapsed_s: float) -> Figure:
    """Of the time of requests in the system, the share that goes to each phase, over time: what binds when.

    Each is over a short interval; nothing is drawn where nobody is in the system.
    """
    edges, spent_s = _spent(requests, elapsed_s)
    together = spent_s.sum(axis=0)
    figure = _stacked(edges, _of_phases(spent_s / np.where(together > 0, together, 1.0)), elapsed_s, "%{y:.1%}")
    figure.update_yaxes(title="share of requests' time", tickformat=".0%", range=[0, 1])
    return dress(figure, legend=True, empty=not len(requests["status"]), height=420)


def limits_over_time(rows: Any, elapsed_s: float, token_fractions: Mapping[str, float] | None = None) -> Figure:
    """Of the time of requests in the system, the share spent on or waiting for each thing, over time: what binds when.

    `rows` is the table of that name. The time of a token's own way is shared out over chips, network and software as a lone
    sequence's is (`token_fractions` of a run's meta), where that is known.
    """
    edges = np.linspace(0.0, max(elapsed_s, 1e-12), INTERVALS_MAX + 1)
    spent_s = {name: _in_intervals(edges, rows, "request_s", rows["resource"] == name) for name in sorted(set(rows["resource"]))}
    ways = {part: fraction for part, fraction in (token_fractions or {}).items() if fraction > 0}
    if ways and "iteration_latency" in spent_s:
        whole_s = spent_s.pop("iteration_latency")
        for part, fraction in ways.items():
            way = WAY_OF_PARTS.get(part, NETWORK)
            spent_s[way] = spent_s.get(way, 0.0) + fraction * whole_s
    together = sum(spent_s.values(), np.zeros(INTERVALS_MAX))
    layers = [
        (name.replace("_", " "), colour, spent_s[name] / np.where(together > 0, together, 1.0))
        for name, colour in LAYERS.items()
        if name in spent_s and spent_s[name].any()
    ]
    figure = _stacked(edges, layers, elapsed_s, "%{y:.1%}")
    figure.update_yaxes(title="share of requests' time", tickformat=".0%", range=[0, 1])
    return dress(figure, legend=True, empty=not together.any(), height=460)


def links_over_time(rows: Any, elapsed_s: float) -> Figure:
    """How busy each class of links is over time: its busiest link as a line, the mean of its links dotted.

    `rows` are those of `study.layout.link_use_over_time`; with several replicas the busiest replica's links are shown.
    """
    from plotly.graph_objects import Figure as Picture

    edges = np.linspace(0.0, max(elapsed_s, 1e-12), INTERVALS_MAX + 1)
    scale, unit = clock(elapsed_s)
    classes, replica = np.asarray(rows["link_class"]), np.asarray(rows["replica"])
    lengths_s = np.asarray(rows["interval_s"], float)
    figure = Picture()
    for place, name in enumerate(sorted(set(classes.tolist()))):
        for kind, dash in (("max", "solid"), ("mean", "dot")):
            busy_s = {"busy_s": np.asarray(rows[f"use_fraction_{kind}"], float) * lengths_s}
            own = ((classes == name) & (replica == one) for one in np.unique(replica))
            use = np.max([_in_intervals(edges, {**rows, **busy_s}, "busy_s", mine) for mine in own], axis=0) / edges[1]
            figure.add_scatter(
                x=edges / scale,
                y=held_to(use),
                name=f"{name}, {'busiest link' if kind == 'max' else 'mean of its links'}",
                mode="lines",
                line={"color": LINES[place % len(LINES)], "width": 1.8, "dash": dash, "shape": "vh"},
                hovertemplate="%{y:.2%}",
            )
    figure.update_xaxes(title=f"time ({unit})")
    figure.update_yaxes(title="share of time in use", tickformat=".3~p", rangemode="tozero")
    figure.update_layout(hovermode="x unified")
    return dress(figure, legend=True, empty=not len(classes), height=420)


def _in_intervals(edges: Array, rows: Any, amount: str, own: Any) -> Array:
    """[interval] what rows of a table over time say was spent between successive edges, each row's evenly over its own time."""
    own = np.asarray(own, bool)
    end = np.asarray(rows["time_s"], float)[own]
    length = np.maximum(np.asarray(rows["interval_s"], float)[own], 1e-12)
    return amount_between(edges, end - length, end, np.asarray(rows[amount], float)[own] / length)


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


def _of_phases(amounts: Array) -> list[tuple[str, str, Array]]:
    return [(name, colour, amount) for (name, colour), amount in zip(PHASES, amounts, strict=True)]


def _stacked(edges: Array, layers: Sequence[tuple[str, str, Array]], elapsed_s: float, hover: str) -> Figure:
    """Layers on each other: name, colour and amount in each interval."""
    from plotly.graph_objects import Figure as Picture

    scale, unit = clock(elapsed_s)
    figure = Picture()
    for name, colour, amount in layers:
        figure.add_scatter(
            x=edges / scale,
            y=held_to(amount),
            name=name,
            stackgroup="requests",
            fillcolor=colour,
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
