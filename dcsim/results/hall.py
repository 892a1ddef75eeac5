"""Pictures of where chips stand: a hall of racks, a rack of nodes, a node of chips and its links, coloured by what they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dcsim.results.pictures import AXIS, INK, look

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Even steps of lightness, told apart by colour-blind readers. Source: cividis (Nuñez et al., PLOS ONE 2018), thinned.
SCALE = ["#00224e", "#2a3f6d", "#575d6d", "#7d7c78", "#a59c74", "#d2c060", "#fee838"]
CHIPS_MAX = 3000  # drawn one by one; above, a node is one square
RACKS_A_ROW = 12
WIDTHS = 4  # of links, by their use
ALIKE = 0.02  # values that differ by no more of the largest have one colour


def places(chips: Mapping[str, Sequence[int]]) -> tuple[list[float], list[float]]:
    """Where each chip is drawn: racks in rows, nodes of a rack above each other, chips of a node side by side."""
    node, rack = np.asarray(chips["node"]), np.asarray(chips["rack"])
    nodes, first = np.unique(node, return_index=True)
    in_node = np.arange(len(node)) - first[np.searchsorted(nodes, node)]
    racks = np.unique(rack)
    of_rack = np.searchsorted(racks, rack)
    place = np.zeros(len(node), np.int64)
    for number in range(len(racks)):
        own = np.flatnonzero(of_rack == number)
        place[own] = np.searchsorted(np.unique(node[own]), node[own])
    wide = int(in_node.max(initial=0)) + 1
    high = int(place.max(initial=0)) + 1
    x = in_node + (of_rack % RACKS_A_ROW) * (wide + 1.6)
    y = -(place + (of_rack // RACKS_A_ROW) * (high + 2.2))
    return x.tolist(), y.tolist()


def hall(
    chips: Mapping[str, Sequence[Any]],
    values: Sequence[float],
    title: str,
    unit: str,
    *,
    links: Sequence[tuple[int, int, float]] = (),
    span: tuple[float, float] | None = None,
) -> Figure:
    """Chips at their places, coloured by `values` (None: no colour); spares are hollow.

    `links` joins pairs of chips drawn, the wider the more of an iteration they are in use. Colours go from the least to the
    largest value, or over `span`; where that is next to nothing they go from 0, so that they tell no difference that is none.
    """
    from plotly.graph_objects import Figure

    x, y = map(np.asarray, places(chips))
    shown = np.asarray([float("nan") if value is None else value for value in values], float)
    node, active = np.asarray(chips["node"]), np.asarray(chips["active"], bool)
    names = np.asarray(chips["chip"])
    data: list[dict[str, Any]] = []
    if len(names) > CHIPS_MAX:
        nodes, first = np.unique(node, return_index=True)
        group = np.searchsorted(nodes, node)
        count = np.bincount(group)
        shown = np.bincount(group, np.nan_to_num(shown)) / count
        x, y = np.bincount(group, x) / count, y[first]
        active, words = active[first], [f"node {number}, {size} chips" for number, size in zip(nodes, count, strict=True)]
        names, size = names[first], 9
    else:
        words = [f"chip {chip}, node {place}" for chip, place in zip(names, node, strict=True)]
        size = 26 if len(names) <= 16 else 15 if len(names) <= 100 else 11 if len(names) <= 600 else 7
    if links:
        at = {int(chip): i for i, chip in enumerate(names)}
        ends = [(at[a], at[b], use) for a, b, use in links if a in at and b in at]
        busiest = max((use for _, _, use in ends), default=0.0) or 1.0
        for step in range(WIDTHS):
            own = [(a, b) for a, b, use in ends if min(WIDTHS - 1, int(WIDTHS * use / busiest)) == step]
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": [value for a, b in own for value in (x[a], (x[a] + x[b]) / 2, x[b], None)],
                    "y": [value for a, b in own for value in (y[a], (y[a] + y[b]) / 2 - 0.12 * abs(x[a] - x[b]), y[b], None)],
                    "line": {"color": "rgba(128,136,148,0.6)", "width": 0.8 + 1.4 * step, "shape": "spline"},
                    "hoverinfo": "skip",
                    "showlegend": False,
                }
            )
    marker: dict[str, Any] = {
        **_scale(shown, span),
        "symbol": "square",
        "size": size,
        "color": shown if np.isfinite(shown).any() else INK,
        "colorscale": [[i / (len(SCALE) - 1), colour] for i, colour in enumerate(SCALE)],
        "colorbar": {
            "title": {"text": f"{title} ({unit})" if unit else title, "side": "right"},
            "thickness": 12,
            "outlinewidth": 0,
            **({"tickformat": ".3~p"} if unit.startswith("share") else {}),
        },
        "opacity": [1.0 if on else 0.25 for on in active],
        "line": {"width": 0},
    }
    data.append(
        {
            "type": "scattergl",
            "mode": "markers",
            "x": x.tolist(),
            "y": y.tolist(),
            "marker": marker,
            "text": words,
            "customdata": [int(name) for name in names],
            "hovertemplate": "%{text}: %{marker.color:,.4~g}<extra></extra>",
            "showlegend": False,
        }
    )
    rows = len(np.unique(y))
    layout = {
        **look(legend=False, height=int(min(900, max(300, 130 + 16 * rows)))),
        "hovermode": "closest",
        "dragmode": "pan",
        "margin": {"l": 16, "r": 16, "t": 20, "b": 16},
        "xaxis": {**AXIS, "visible": False},
        "yaxis": {**AXIS, "visible": False},
        "font": {"size": 12, "color": INK},
    }
    return Figure(data, layout)


def _scale(values: Any, span: tuple[float, float] | None) -> dict[str, float]:
    """The values that the first and the last colour stand for; none without a value."""
    if span is None:
        if not np.isfinite(values).any():
            return {}
        span = float(np.nanmin(values)), float(np.nanmax(values))
    low, high = span
    return {"cmin": 0.0 if high - low <= ALIKE * abs(high) else low, "cmax": high or 1.0}
