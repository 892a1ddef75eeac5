"""Pictures of a cluster: its racks and chips, and how busy its links are. Tables as `study.layout` gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dcsim.results.pictures import BLUE, GRID, ORANGE, SKY, dress

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

RACKS_A_ROW = 16
_GAP = 1.2  # between racks, in chips


def topology(chips: Any) -> Figure:
    """Every chip as a square, nodes from the bottom of their rack up; its shade is the share of an iteration it computes."""
    from plotly.graph_objects import Figure as Picture

    rack, node = np.maximum(np.asarray(chips["rack"]), 0), np.asarray(chips["node"])
    busy, replica, stage = (np.asarray(chips[name]) for name in ("busy_fraction", "replica", "stage"))
    place = _rank_within(node)
    height = _rank_of_group(node, rack)
    wide, tall = int(place.max(initial=0)) + 1, int(height.max(initial=0)) + 1
    x = (rack % RACKS_A_ROW) * (wide + _GAP) + place
    y = -(rack // RACKS_A_ROW) * (tall + _GAP) + height
    words = [
        f"chip {chip}, node {one_node}, rack {one_rack}<br>" + (f"replica {r}, stage {s}" if r >= 0 else "in no replica")
        for chip, one_node, one_rack, r, s in zip(range(len(x)), node, rack, replica, stage, strict=True)
    ]
    figure = Picture()
    figure.add_scattergl(
        x=x,
        y=y,
        mode="markers",
        marker={
            "symbol": "square",
            "size": 7,
            "color": np.where(replica >= 0, busy, np.nan),
            "colorscale": [[0, SKY], [1, BLUE]],
            "colorbar": {"title": "busy", "tickformat": ".0%"},
            "line": {"width": 0.5, "color": GRID},
        },
        customdata=words,
        hovertemplate="%{customdata}<br>computes %{marker.color:.2%} of an iteration<extra></extra>",
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x")
    return dress(figure, legend=False, empty=not len(x), height=420)


def links(rows: Any) -> Figure:
    """How busy the links of each class are in one iteration: the mean, and the busiest."""
    from plotly.graph_objects import Figure as Picture

    classes, busy = np.asarray(rows["link_class"]), np.asarray(rows["busy_fraction"], float)
    names = sorted(set(classes.tolist()))
    figure = Picture()
    for label, colour, of in (("mean", SKY, np.mean), ("busiest", ORANGE, np.max)):
        values = [float(of(busy[classes == name])) for name in names]
        figure.add_bar(x=names, y=values, name=label, marker={"color": colour}, hovertemplate=f"{label} %{{y:.3%}}")
    figure.update_xaxes(title="class of link")
    figure.update_yaxes(title="share of an iteration in use", tickformat=".2%", rangemode="tozero")
    return dress(figure, legend=True, empty=not names, height=320)


def _rank_within(group: Any) -> Any:
    """[i] how many before i are of its group."""
    order = np.argsort(group, kind="stable")
    ordered = np.asarray(group)[order]
    starts = np.searchsorted(ordered, ordered, side="left")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - starts
    return rank


def _rank_of_group(group: Any, above: Any) -> Any:
    """[i] the place of i's group among those within the same `above`, in order of their numbers."""
    pairs = np.unique(np.column_stack([above, group]), axis=0)
    rank = dict(zip(map(tuple, pairs.tolist()), _rank_within(pairs[:, 0]).tolist(), strict=True))
    return np.array([rank[pair] for pair in zip(np.asarray(above).tolist(), np.asarray(group).tolist(), strict=True)])
