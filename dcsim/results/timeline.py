"""Pictures of one iteration: what chips and links do and when, compiled and on packets at the same scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dcsim.results.pictures import AXIS, BLUE, GREEN, INK, ORANGE, PURPLE, SKY, VERMILION, look

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = {
    "matrix": BLUE,
    "attention": PURPLE,
    "vector": SKY,
    "host": "#666666",
    "send": ORANGE,
    "receive": GREEN,
    "forward": VERMILION,
}
MICRO_BATCHES = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY)
# Where on a chip's row a kind stands, and how high it is: operations above, links below.
ROWS = {"send": (0.30, 0.17), "forward": (0.30, 0.17), "receive": (0.47, 0.17)}
OPERATIONS = (-0.06, 0.52)
HEIGHT_A_CHIP = 34


def timeline(found: Mapping[str, Any], network: str, until_us: float | None = None) -> Figure:
    """The compiled iteration above, the same program on packets below, on one time axis.

    `found` is what `study.pictured` gives, of which `until_us` (default: the stage's first 60 us) are in sight at first. What
    is on the critical path is lit, and a dotted line stands where the compiled stage has ended.
    """
    from plotly.graph_objects import Figure

    chips = found["chips"]
    data = [*_bars(found["scheduled"], chips, "y", True), *_bars(found["packet"], chips, "y2", False)]
    begin, done = _stage(found["scheduled"])
    end = until_us or begin + 60.0
    last = max(_stage(found["packet"])[1], done)
    waits = [_waits(found[name], len(chips), axis) for name, axis in (("scheduled", "y"), ("packet", "y2"))]
    ticks = {"tickvals": [*range(len(chips))], "ticktext": [f"chip {chip}" for chip in chips], "range": [len(chips) - 0.3, -0.6]}
    height = 210 + 2 * HEIGHT_A_CHIP * len(chips)
    layout = {
        **look(legend=True, height=height),
        "barmode": "overlay",
        "hovermode": "closest",
        "dragmode": "pan",
        "margin": {"l": 70, "r": 20, "t": 70, "b": 40},
        "legend": {"orientation": "h", "y": 1.06, "yanchor": "bottom", "x": 0, "itemsizing": "constant", "font": {"size": 12}},
        "xaxis": {
            **AXIS,
            "title": {"text": "time (us)", "font": {"size": 13}},
            "range": [begin, end],
            "anchor": "y2",
            "rangeslider": {"visible": True, "thickness": 0.05, "range": [begin, last]},
        },
        "yaxis": {**AXIS, **ticks, "domain": [0.56, 1.0], "showgrid": False, "fixedrange": True},
        "yaxis2": {**AXIS, **ticks, "domain": [0.0, 0.44], "showgrid": False, "fixedrange": True},
        "shapes": [_done(done)],
        "annotations": [_title("scheduled: every vector in its cycle", 1.0), _title(f"the same on {network}", 0.44)],
    }
    return Figure([*waits, *data], layout)


def _stage(columns: Mapping[str, Any]) -> tuple[float, float]:
    """When the stage's first operation begins and its last one ends."""
    rows = zip(columns["kind"], columns["begin_us"], columns["end_us"], strict=True)
    times = [(begin, end) for kind, begin, end in rows if kind not in ROWS] or [(0.0, 1.0)]
    return min(begin for begin, _ in times), max(end for _, end in times)


def _waits(columns: Mapping[str, Any], chips: int, axis: str) -> dict[str, Any]:
    """What lies behind the operations of each chip while the stage is at work: where it shows, the chip waits."""
    begin, end = _stage(columns)
    offset, height = OPERATIONS
    return {
        "type": "bar",
        "orientation": "h",
        "name": "wait",
        "legendgroup": "wait",
        "showlegend": axis == "y",
        "yaxis": axis,
        "y": [chip + offset for chip in range(chips)],
        "width": height,
        "base": [begin] * chips,
        "x": [end - begin] * chips,
        "marker": {"color": "rgba(128, 136, 148, 0.20)", "line": {"width": 0}},
        "hoverinfo": "skip",
    }


def _done(at_us: float) -> dict[str, Any]:
    """A line across both networks where the compiled stage has ended."""
    dotted = {"color": INK, "width": 1.4, "dash": "dot"}
    return {"type": "line", "x0": at_us, "x1": at_us, "yref": "paper", "y0": 0, "y1": 1, "line": dotted}


def _title(words: str, y: float) -> dict[str, Any]:
    place = {"x": 0, "xanchor": "left", "xref": "paper", "y": y, "yref": "paper", "yanchor": "bottom"}
    return {"text": words, "showarrow": False, "font": {"size": 14, "color": INK}, **place}


def _bars(columns: Mapping[str, Any], chips: list[int], axis: str, legend: bool) -> list[dict[str, Any]]:
    """A trace for each kind, lit and unlit, so that a legend entry hides a kind on both networks."""
    place = {chip: i for i, chip in enumerate(chips)}
    rows = list(zip(*(columns[name] for name in ("chip", "kind", "begin_us", "end_us", "words", "critical")), strict=True))
    found = []
    for kind, colour in COLOURS.items():
        offset, height = ROWS.get(kind, OPERATIONS)
        for lit in (False, True):
            own = [row for row in rows if row[1] == kind and row[5] == lit]
            if not own:
                continue
            found.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": kind if lit or not any(row[1] == kind and row[5] for row in rows) else f"{kind}, not critical",
                    "legendgroup": kind,
                    "showlegend": legend and (lit or not any(row[1] == kind and row[5] for row in rows)),
                    "yaxis": axis,
                    "y": [place[row[0]] + offset for row in own],
                    "width": height,
                    "base": [row[2] for row in own],
                    "x": [row[3] - row[2] for row in own],
                    "marker": {"color": colour, "opacity": 1.0 if lit else 0.38, "line": {"width": 0}},
                    "customdata": [(row[2], row[3], row[4]) for row in own],
                    "hovertemplate": "%{customdata[2]}<br>%{customdata[0]:,.3f} to %{customdata[1]:,.3f} us<extra></extra>",
                }
            )
    return found


def again(found: Mapping[str, Any], network: str) -> Figure:
    """The ends of a chip's operations in iterations one after another: upright lines where each time is like the last."""
    from plotly.graph_objects import Figure

    data = []
    for axis, name, colour in (("y", "scheduled_runs", BLUE), ("y2", "packet_runs", VERMILION)):
        runs = found[name]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "yaxis": axis,
                "x": [end for run in runs for end in run],
                "y": [i + 1 for i, run in enumerate(runs) for _ in run],
                "marker": {"symbol": "line-ns", "size": 11, "line": {"width": 1.6, "color": colour}},
                "name": name.partition("_")[0],
                "hovertemplate": "iteration %{y}: %{x:,.3f} us<extra></extra>",
            }
        )
    last = max((end for name in ("scheduled_runs", "packet_runs") for run in found[name] for end in run), default=1.0)
    rows = {
        "range": [0.2, len(found["packet_runs"]) + 0.8],
        "title": {"text": "iteration", "font": {"size": 13}},
        "showgrid": False,
        "fixedrange": True,
    }
    layout = {
        **look(legend=False, height=430),
        "hovermode": "closest",
        "margin": {"l": 60, "r": 20, "t": 36, "b": 50},
        "xaxis": {
            **AXIS,
            "title": {"text": "an operation ends (us)", "font": {"size": 13}},
            "range": [0, last * 1.01],
            "anchor": "y2",
        },
        "yaxis": {**AXIS, **rows, "domain": [0.57, 1.0]},
        "yaxis2": {**AXIS, **rows, "domain": [0.0, 0.43]},
        "annotations": [_title("scheduled", 1.0), _title(network, 0.43)],
    }
    return Figure(data, layout)


def in_flight(found: Mapping[str, Any]) -> Figure:
    """The stage's chips in the steady state: a micro-batch every interval, each in its own colour."""
    from plotly.graph_objects import Figure

    chips, steady = found["chips"], found["in_flight"]
    place = {chip: i for i, chip in enumerate(chips)}
    bars = steady["bars"]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": f"micro-batch {nth + 1}",
            "y": [place[chip] for chip in bars["chip"]],
            "width": 0.72,
            "base": [begin + nth * steady["interval_us"] for begin in bars["begin_us"]],
            "x": [end - begin for begin, end in zip(bars["begin_us"], bars["end_us"], strict=True)],
            "marker": {"color": MICRO_BATCHES[nth % len(MICRO_BATCHES)], "line": {"width": 0}},
            "hovertemplate": f"micro-batch {nth + 1}: %{{base:,.3f}} us<extra></extra>",
        }
        for nth in range(steady["micro_batches"])
    ]
    layout = {
        **look(legend=True, height=150 + 24 * len(chips)),
        "barmode": "overlay",
        "hovermode": "closest",
        "xaxis": {**AXIS, "title": {"text": "time (us)", "font": {"size": 13}}},
        "yaxis": {
            **AXIS,
            "tickvals": [*range(len(chips))],
            "ticktext": [f"chip {chip}" for chip in chips],
            "range": [len(chips) - 0.4, -0.6],
            "showgrid": False,
        },
    }
    return Figure(data, layout)
