"""Pictures of a run, drawn from its rows alone, so that notebook and dashboard show the same.

Functions take tables of `dcsim.results.records` (DataFrames, or dicts of arrays). `latency`, `load`, `power` and
`limits` return a `plotly.graph_objects.Figure`, the others the numbers it shows. Backgrounds are transparent
and lines mid-tone, to be read on light and dark pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dcsim.results.metrics import site_power_w
from dcsim.results.records import FAILED, FINISHED, IN_FLIGHT, REJECTED
from dcsim.units import format_time

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Array = NDArray[Any]

# Colours told apart by colour-blind readers. Source: Okabe and Ito, "Color Universal Design" (2008), less its
# yellow and black, which vanish on light and dark pages.
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
INK, GRID = "#808894", "rgba(128, 136, 148, 0.22)"

MILESTONES = ("ready_s", "admitted_s", "first_token_s")
POINTS_MAX = 600  # points of one distribution: about one a pixel
INTERVALS_MAX = 240  # intervals of time: few enough that a noisy line stays a line
BANDS_MAX = 16  # layers of the power figure that an eye still tells apart


def latency(
    requests: Any, gaps: Any, slo_ttft_s: float | None = None, slo_tpot_s: float | None = None, columns: int = 2
) -> Figure:
    """How slow the slowest are: the share of requests (TTFT, TPOT, E2E) or gaps (ITL) that took t or longer.

    Finished requests only, as in the summary. Both axes are logarithmic; a dashed line marks an SLO.
    """
    from plotly.subplots import make_subplots

    done = np.asarray(requests["status"]) == FINISHED
    panels = [
        ("time to first token", _finite(requests["ttft_s"], done), None, slo_ttft_s, BLUE),
        ("time per output token", _finite(requests["tpot_s"], done), None, slo_tpot_s, GREEN),
        ("gap between tokens", np.asarray(gaps["gap_s"]), np.asarray(gaps["count"]), None, PURPLE),
        ("arrival to last token", _finite(requests["e2e_s"], done), None, None, VERMILION),
    ]
    titles = [panel[0] for panel in panels]
    rows = len(panels) // columns
    figure = make_subplots(rows, columns, subplot_titles=titles, horizontal_spacing=0.11, vertical_spacing=0.34 / rows)
    for i, (name, values, counts, slo_s, colour) in enumerate(panels):
        place = {"row": i // columns + 1, "col": i % columns + 1}
        x, share = ccdf(values, counts)
        keep = _thin(share)
        hover = "%{y:.3~%} took %{x:.4~s}s or longer"
        line = {"color": colour, "width": 2.2, "shape": "vh"}
        figure.add_scatter(x=x[keep], y=share[keep], name=name, line=line, mode="lines", hovertemplate=hover, **place)
        if slo_s is not None and len(share):
            figure.add_scatter(
                x=[slo_s, slo_s],
                y=[1.0, share[-1]],
                name="SLO",
                mode="lines+text",
                text=["SLO", ""],
                textposition="bottom left",
                textfont={"color": INK},
                hovertemplate="SLO %{x:.4~s}s",
                line={"color": INK, "dash": "dash", "width": 1.5},
                **place,
            )
        figure.update_xaxes(_log_time_axis(np.append(x, slo_s or [])), **place)
    figure.update_yaxes(type="log", tickformat="~%", dtick=1)
    figure.update_yaxes(title="share at least that slow", col=1)
    figure.update_layout(hovermode="closest")
    return dress(figure, legend=False, empty=not done.any(), height=260 * rows)


def ccdf(values: Array, counts: Array | None = None) -> tuple[Array, Array]:
    """Distinct values in order and the share of all counts at or above each: P(X >= x), never zero."""
    x, group = np.unique(values, return_inverse=True)
    weight = np.bincount(group, weights=counts, minlength=len(x)).astype(float)
    above = np.cumsum(weight[::-1])[::-1]
    return x, above / above[0] if len(x) else above


def load(requests: Any, elapsed_s: float) -> Figure:
    """What the cluster carried over time: requests in the system, arrivals and output tokens a second.

    Each is a mean over short equal intervals. Tokens after the first are spread evenly from first to last, as
    a row keeps only those two times.
    """
    from plotly.subplots import make_subplots

    edges = np.linspace(0.0, max(elapsed_s, 1e-12), INTERVALS_MAX + 1)
    width_s = edges[1]
    curves = [
        ("requests in system", in_system(requests, edges, elapsed_s) / width_s, BLUE),
        ("arrivals/s", np.histogram(requests["arrival_s"], edges)[0] / width_s, ORANGE),
        ("output tokens/s", output_tokens(requests, edges, elapsed_s) / width_s, GREEN),
    ]
    scale, unit = clock(elapsed_s)
    figure = make_subplots(3, 1, shared_xaxes=True, vertical_spacing=0.06)
    for row, (name, values, colour) in enumerate(curves, 1):
        line = {"color": colour, "width": 1.8, "shape": "vh"}
        figure.add_scatter(
            x=edges / scale,
            y=held_to(values),
            name=name,
            line=line,
            mode="lines",
            fill="tozeroy",
            fillcolor=_faint(colour),
            hovertemplate="%{y:,.4~g}",
            row=row,
            col=1,
        )
        figure.update_yaxes(title=name, rangemode="tozero", row=row, col=1)
    figure.update_xaxes(title=f"time ({unit})", row=3, col=1)
    figure.update_layout(hovermode="x unified")
    return dress(figure, legend=False, empty=not len(requests["status"]), height=520)


def in_system(requests: Any, edges: Array, elapsed_s: float) -> Array:
    """Request-seconds spent in the system between successive edges; over their width, requests at once.

    A request in flight stays until `elapsed_s`; one rejected or failed, until the last time its row knows.
    """
    arrival = np.asarray(requests["arrival_s"], float)
    return amount_between(edges, arrival, left_s(requests, elapsed_s), np.ones(len(arrival)))


def left_s(requests: Any, elapsed_s: float) -> Array:
    """When each request left the system, as `in_system` counts it."""
    status = np.asarray(requests["status"])
    seen = np.fmax.reduce([np.asarray(requests[c], float) for c in ("arrival_s", *MILESTONES)])
    gone = np.where(np.isin(status, (REJECTED, FAILED)), seen, np.asarray(requests["finished_s"], float))
    return np.where(status == IN_FLIGHT, elapsed_s, gone)


def output_tokens(requests: Any, edges: Array, elapsed_s: float) -> Array:
    """Output tokens given between successive edges; sums to `tokens_out` where the edges span the run."""
    tokens = np.asarray(requests["tokens_out"])
    given = tokens > 0
    first = np.asarray(requests["first_token_s"], float)[given]
    last = np.asarray(requests["finished_s"], float)[given]
    last = np.where(np.isnan(last), elapsed_s, last)
    later = tokens[given] - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(last > first, later / (last - first), 0.0)
    at_first = np.where(last > first, 1, 1 + later)
    return np.histogram(first, edges, weights=at_first)[0] + amount_between(edges, first, last, rate)


def power(power: Any, pue: float) -> Figure:
    """Power at the wall over time, racks stacked, and the site's (racks times PUE) as a line above them.

    The area under the line is the run's energy: samples finer than a screen shows are averaged, not skipped,
    and a faint line then keeps the site's largest sample of each interval.
    """
    from plotly.colors import sample_colorscale
    from plotly.graph_objects import Figure

    edges, racks_w = rack_power(power)
    racks = len(racks_w)
    per_band = -(-racks // BANDS_MAX) if racks else 1
    starts = range(0, racks, per_band)
    shades = [0.25 + 0.6 * i / max(len(starts) - 1, 1) for i in range(len(starts))]
    colours = sample_colorscale("Cividis", shades)
    scale, unit = clock(edges[-1])
    x = edges / scale
    figure = Figure()
    for first, colour in zip(starts, colours, strict=True):
        last = min(first + per_band, racks) - 1
        name = f"rack {first}" if first == last else f"racks {first} to {last}"
        band_w = racks_w[first : last + 1].sum(axis=0)
        figure.add_scatter(
            x=x,
            y=held_to(band_w),
            name=name,
            stackgroup="racks",
            mode="lines",
            line={"width": 0, "color": colour, "shape": "vh"},
            hovertemplate="%{y:.4~s}W",
            fillcolor=colour.replace("rgb", "rgba").replace(")", ", 0.7)"),
        )
    times, _, site_w = site_power_w(power, pue)
    lines = [(f"site (PUE {pue:.3g})", racks_w.sum(axis=0) * pue, 1.0)] if racks else []
    if len(times) > len(edges) - 1:
        lines.insert(0, ("site, largest sample", _largest(edges, times, site_w), 0.35))
    for name, watts, opacity in lines:
        figure.add_scatter(
            x=x,
            y=held_to(watts),
            name=name,
            mode="lines",
            opacity=opacity,
            hovertemplate="%{y:.4~s}W",
            line={"color": VERMILION, "width": 1.5, "shape": "vh"},
        )
    figure.update_xaxes(title=f"time ({unit})")
    figure.update_yaxes(title="power", ticksuffix="W", exponentformat="SI", rangemode="tozero")
    figure.update_layout(hovermode="x unified")
    return dress(figure, legend=True, empty=not racks, height=420)


def rack_power(power: Any) -> tuple[Array, Array]:
    """Edges of time and the mean power [rack, interval] between them.

    The intervals are the samples' own, or `INTERVALS_MAX` equal ones where there are more.
    """
    end = np.asarray(power["time_s"], float)
    if not len(end):
        return np.zeros(2), np.zeros((0, 1))
    start = end - np.asarray(power["interval_s"], float)
    watts, rack = np.asarray(power["power_w"], float), np.asarray(power["rack"])
    edges = np.concatenate([[start.min()], np.unique(end)])
    if len(edges) > INTERVALS_MAX + 1:
        edges = np.linspace(edges[0], edges[-1], INTERVALS_MAX + 1)
    of = [rack == r for r in range(int(rack.max()) + 1)]
    joules = np.array([amount_between(edges, start[rows], end[rows], watts[rows]) for rows in of])
    return edges, joules / np.diff(edges)


def _largest(edges: Array, times: Array, values: Array) -> Array:
    """The largest of the values whose time lies in each interval (open below, closed above); 0 where none does."""
    largest = np.zeros(len(edges) - 1)
    np.maximum.at(largest, np.clip(np.searchsorted(edges, times) - 1, 0, len(largest) - 1), values)
    return largest


def limits(limits: Any, meaning: Mapping[str, str] | None = None) -> Figure:
    """Where the requests' time went: one bar a resource, as a share of all, the largest on top.

    `meaning` gives a sentence per resource, shown on hover.
    """
    from plotly.graph_objects import Figure

    resource, spent = np.asarray(limits["resource"]), np.asarray(limits["request_s"], float)
    total = spent.sum()
    order = np.argsort(spent, kind="stable")
    share = spent[order] / total if total > 0 else spent[order]
    names = [str(name) for name in resource[order]]
    hover = [(meaning or {}).get(name, name) for name in names]
    top = len(names) - 1
    figure = Figure()
    figure.add_bar(
        x=share,
        y=[name.replace("_", " ") for name in names],
        orientation="h",
        customdata=hover,
        marker={"color": [VERMILION if i == top else SKY for i in range(len(names))], "line": {"width": 0}},
        text=[f"{value:.1%}" for value in share],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{customdata}<br>%{x:.2%} of the requests' time<extra></extra>",
    )
    figure.update_xaxes(title="share of the requests' time", tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(showgrid=False, ticksuffix="  ")
    figure.update_layout(hovermode="closest", bargap=0.35)
    return dress(figure, legend=False, empty=not total > 0, height=420)


def amount_between(edges: Array, start: Array, end: Array, rate: Array) -> Array:
    """Integral between successive edges of the sum of `rate`, each running from its `start` to its `end`.

    Up to t a source gives rate x (t - start), and takes back rate x (t - end) once ended, so that two sorted
    running sums serve all edges: O((n + edges) log n).
    """
    return np.diff(_ramps(edges, start, rate) - _ramps(edges, end, rate))


def _ramps(t: Array, start: Array, rate: Array) -> Array:
    """Sum of rate x (t - start) over the sources started by t."""
    order = np.argsort(start, kind="stable")
    begun = np.searchsorted(start[order], t, side="right")
    rates = np.concatenate([[0.0], np.cumsum(rate[order])])
    offsets = np.concatenate([[0.0], np.cumsum((rate * start)[order])])
    return np.asarray(t * rates[begun] - offsets[begun])


WATERFALL_COLOURS = {
    "compute": INK,
    "software": VERMILION,
    "jitter": PURPLE,
    "switch": BLUE,
    "wire": SKY,
    "serialisation": GREEN,
    "queueing": ORANGE,
    "slowest": "#A6761D",
    "other": "#B8B8B8",
}


def arrivals(rate_over_time: Mapping[str, Any]) -> Figure:
    """Requests per second over time (`rate_over_time` of `dcsim workload --json`)."""
    from plotly.graph_objects import Figure as Picture

    interval_s, counts = rate_over_time["interval_s"], rate_over_time["requests"]
    figure = Picture()
    figure.add_scatter(
        x=[i * interval_s / 60 for i in range(len(counts) + 1)],
        y=[count / interval_s for count in [*counts, *counts[-1:]]],
        mode="lines",
        line={"shape": "hv"},
        hovertemplate="%{y:.3g} requests/s",
    )
    figure.update_xaxes(title="time (minutes)")
    figure.update_yaxes(title="arrivals/s", rangemode="tozero")
    return dress(figure, legend=False, empty=not counts, height=280)


def waterfall(candidates: Any) -> Figure:
    """Where one iteration's time goes on each interconnect: a bar a candidate (rows of `dcsim compare --json`).

    Parts are along the critical path and sum to the mean; whiskers are the 99th percentile.
    """
    from plotly.graph_objects import Figure as Picture

    names = [_candidate(row) for row in candidates][::-1]
    rows = list(candidates)[::-1]
    figure = Picture()
    for part, colour in WATERFALL_COLOURS.items():
        values = [1e6 * row["waterfall_s"][part] for row in rows]
        if any(values):
            figure.add_bar(
                y=names,
                x=values,
                name=part,
                orientation="h",
                marker={"color": colour, "line": {"width": 0}},
                hovertemplate=f"{part} %{{x:,.1f}} us",
            )
    tail = [1e6 * (row["iteration_s_p99"] - row["iteration_s_mean"]) for row in rows]
    figure.add_scatter(
        y=names,
        x=[1e6 * row["iteration_s_mean"] for row in rows],
        mode="markers",
        showlegend=False,
        marker={"color": INK, "size": 1},
        hoverinfo="skip",
        error_x={"type": "data", "symmetric": False, "array": tail, "arrayminus": [0.0] * len(tail), "color": INK},
    )
    figure.update_layout(barmode="stack", bargap=0.35)
    figure.update_xaxes(title="one iteration (us)")
    figure = dress(figure, legend=True, empty=not rows, height=140 + 46 * len(rows))
    return figure.update_layout(legend_traceorder="normal")  # as the parts stand, from the left


def scale(rows: Any) -> Figure:
    """Tokens per second and user over the number of chips, a line a candidate (rows of `dcsim scale --json`)."""
    from plotly.graph_objects import Figure as Picture

    lines: dict[str, list[Any]] = {}
    for row in rows:
        lines.setdefault(_candidate(row), []).append(row)
    figure = Picture()
    for i, (name, points) in enumerate(lines.items()):
        figure.add_scatter(
            x=[row["chips"] for row in points],
            y=[row["tokens_per_s_per_user"] for row in points],
            name=name,
            mode="lines+markers",
            line={"color": (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE)[i % 6], "width": 2.2},
            text=[row["llm"] for row in points],
            hovertemplate="%{text}: %{y:,.4~g} tokens/s/user on %{x} chips",
        )
    sizes = sorted({row["chips"] for row in rows})
    figure.update_xaxes(type="log", title="chips", tickvals=sizes, ticktext=[f"{size:,}" for size in sizes])
    figure.update_yaxes(type="log", title="tokens/s/user")
    return dress(figure, legend=True, empty=not lines, height=440)


def latency_at_load(rows: Any) -> Figure:
    """How long flows take, and how much of what is offered arrives, over the load (rows of `dcsim traffic --load --json`)."""
    from plotly.subplots import make_subplots

    loads = [row["load_fraction"] for row in rows]
    figure = make_subplots(1, 2, horizontal_spacing=0.12)
    for name, key, colour in (("p50", "flow_s_p50", BLUE), ("p99", "flow_s_p99", ORANGE), ("p99.9", "flow_s_p999", VERMILION)):
        times = [row[key] for row in rows]
        figure.add_scatter(
            x=loads,
            y=times,
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2.2},
            hovertemplate="%{y:.4~s}s at %{x:.0%}",
            row=1,
            col=1,
        )
    shares = [row["load_fraction"] * row["accepted_bytes_per_s"] / row["offered_bytes_per_s"] for row in rows]
    for name, values, dash, colour in (("offered", loads, "dot", INK), ("accepted", shares, "solid", GREEN)):
        figure.add_scatter(
            x=loads, y=values, name=name, mode="lines+markers", line={"color": colour, "width": 2, "dash": dash}, row=1, col=2
        )
    every = np.array([row[key] for row in rows for key in ("flow_s_p50", "flow_s_p99", "flow_s_p999")])
    figure.update_yaxes(title="a flow takes", **_log_time_axis(every), row=1, col=1)
    figure.update_yaxes(title="accepted load", tickformat=".0%", rangemode="tozero", row=1, col=2)
    figure.update_xaxes(title="offered load", tickformat=".0%")
    return dress(figure, legend=True, empty=not loads, height=420)


QUEUES_SHOWN = 6


def queues(queue: Any) -> Figure:
    """What was queued at the links with the longest queues over time (`queues.csv` of `dcsim traffic --out`)."""
    from plotly.graph_objects import Figure as Picture

    figure = Picture()
    link, time_s, size = (np.asarray(queue[name]) for name in ("link", "time_s", "queue_bytes"))
    names, place = np.unique(link, return_inverse=True)
    longest = np.zeros(len(names))
    np.maximum.at(longest, place, size)
    times = np.unique(time_s)
    for i, one in enumerate(np.argsort(-longest, kind="stable")[:QUEUES_SHOWN]):
        here = np.flatnonzero(place == one)
        heights = np.zeros(len(times))
        heights[np.searchsorted(times, time_s[here])] = size[here]
        ends = f"{queue['from'].iloc[here[0]]} to {queue['to'].iloc[here[0]]}"
        figure.add_scatter(
            x=times,
            y=heights,
            name=f"link {names[one]}, {ends}",
            mode="lines",
            line={"color": (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE)[i % 6], "width": 1.8},
            hovertemplate="%{y:.4~s}B at %{x:.4~s}s",
        )
    figure.update_xaxes(title="time (s)", tickformat="~s")
    figure.update_yaxes(title="queued (B)", tickformat="~s", rangemode="tozero")
    return dress(figure, legend=True, empty=not len(names), height=440)


def tornado(explanation: Mapping[str, Any], bars_max: int = 20) -> Figure:
    """How far an answer moves with each figure it rests on (`study.explain.as_json`): the widest bars on top."""
    from plotly.graph_objects import Figure

    metric, middle = explanation["metric"], explanation["answer"][explanation["metric"]]
    rows = [row for row in explanation["figures"] if row["low"] and row["high"] and row["low"][metric] != row["high"][metric]]
    shown = rows[:bars_max][::-1]
    names = [row["key"] for row in shown]
    figure = Figure()
    for end, colour, label in (("low", SKY, "figure 10 % lower"), ("high", VERMILION, "figure 10 % higher")):
        figure.add_bar(
            x=[row[end][metric] / middle - 1 for row in shown],
            y=names,
            orientation="h",
            name=label,
            marker={"color": colour, "line": {"width": 0}},
            customdata=[f"{row['value']} ({row['kind']})" for row in shown],
            hovertemplate="%{y} = %{customdata}<br>%{x:+.2%}<extra></extra>",
        )
    figure.update_xaxes(title=f"change of {metric.rpartition('_')[0].replace('_', ' ')}", tickformat="+.1%")
    figure.update_yaxes(showgrid=False, ticksuffix="  ")
    figure.update_layout(hovermode="closest", bargap=0.3, barmode="overlay")
    return dress(figure, legend=True, empty=not rows, height=120 + 24 * len(shown))


def frontier(systems: Mapping[str, Any]) -> Figure:
    """Tokens per second and chip against tokens per second and user: one line a system (`study.plan`'s `frontier`)."""
    from plotly.graph_objects import Figure

    figure = Figure()
    colours = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
    for i, (name, loads) in enumerate(systems.items()):
        figure.add_scatter(
            x=[load["tokens_per_s_per_user"] for load in loads],
            y=[load["tokens_per_s_per_chip"] for load in loads],
            name=name,
            mode="lines+markers",
            line={"color": colours[i % len(colours)], "width": 2},
            customdata=[[load["concurrency"], load["energy_j_per_token"]] for load in loads],
            hovertemplate="%{x:.4~s} tokens/s per user, %{y:.4~s} per chip<br>%{customdata[0]} sequences, %{customdata[1]:.3~s}J",
        )
    figure.update_xaxes(title="tokens/s per user", type="log")
    figure.update_yaxes(title="tokens/s per chip", type="log")
    return dress(figure, legend=True, empty=not any(systems.values()), height=460)


def _candidate(row: Any) -> str:
    """An interconnect with its library, as legends call it."""
    return f"{row['interconnect']} {row['software']}" if row["software"] else str(row["interconnect"])


def _finite(column: Any, chosen: Array) -> Array:
    values: Array = np.asarray(column, float)[chosen]
    return np.extract(np.isfinite(values), values)


def _thin(share: Array) -> Array:
    """Indices of about `POINTS_MAX` points that follow a falling curve in its bulk and in its log tail."""
    if len(share) <= POINTS_MAX:
        return np.arange(len(share), dtype=np.int64)
    half = POINTS_MAX // 2
    levels = np.concatenate([np.linspace(1.0, share[-1], half), np.geomspace(1.0, share[-1], half)])
    picked = np.minimum(np.searchsorted(-share, -levels), len(share) - 1)
    return np.unique(np.concatenate([[0], picked, [len(share) - 1]]))


def held_to(values: Array) -> Array:
    """Values of intervals as heights at their edges, for lines that step up before they run (`vh`)."""
    return np.concatenate([values[:1], values])


def clock(span_s: float) -> tuple[float, str]:
    """Seconds per unit, and the unit, in which people read a span of time."""
    for scale, unit in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if span_s >= 3 * scale:
            return scale, unit
    return 1.0, "s"


def _log_time_axis(values_s: Array) -> dict[str, Any]:
    """A logarithmic axis around the positive `values_s`, with up to four round ticks such as 20 ms."""
    values_s = values_s[values_s > 0]
    if not len(values_s):
        return {"type": "log"}
    low, high = float(values_s.min()) / 1.08, float(values_s.max()) * 1.08
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    step = 10.0 ** np.floor(np.log10((high - low) / 2))
    even = [np.arange(np.ceil(low / s), np.floor(high / s) + 1) * s for s in (step, 2 * step, 5 * step)]
    round_ = [np.outer(decades, of).ravel() for of in ((1, 2, 5), (1, 3), (1,))]
    round_ += [decades[::2], decades[::3]]
    shown = [t[(t >= low) & (t <= high)] for t in (round_ if high / low > 4 else even)]
    room = 0.22 * np.log10(high / low)  # what a label takes of the axis
    fitting = (t for t in shown if 2 <= len(t) <= 4 and np.diff(np.log10(t)).min() > room)
    ticks = next(fitting, np.unique(shown[0][[0, -1]]))
    return {
        "type": "log",
        "range": [np.log10(low), np.log10(high)],
        "tickangle": 0,
        "tickvals": ticks,
        "ticktext": [format_time(t) for t in ticks],
    }


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.14)"


def look(*, legend: bool, height: int) -> dict[str, Any]:
    """The common look of a layout, its axes apart."""
    family, clear = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "rgba(0,0,0,0)"
    return {
        "template": "none",
        "font": {"family": family, "size": 13, "color": INK},
        "height": height,
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "margin": {"l": 70, "r": 24, "t": 34, "b": 54},
        "showlegend": legend,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"size": 12}},
        "hoverlabel": {"font": {"family": family, "size": 12}},
        "modebar": {"bgcolor": clear, "color": INK, "activecolor": INK},
    }


# The common look of an axis.
AXIS: dict[str, Any] = {"gridcolor": GRID, "linecolor": GRID, "zeroline": False, "automargin": True}


def dress(figure: Figure, *, legend: bool, empty: bool, height: int) -> Figure:
    """The common look; says so where there is nothing to draw."""
    figure.update_layout(**look(legend=legend, height=height))
    figure.update_xaxes(title_font_size=13, title_standoff=8, **AXIS)
    figure.update_yaxes(title_font_size=13, title_standoff=8, **AXIS)
    figure.update_annotations(font={"size": 13, "color": INK})
    if empty:
        figure.add_annotation(**nothing_here())
    return figure


def nothing_here(words: str = "no data in this run") -> dict[str, Any]:
    """The note in the middle of a figure that has nothing to show."""
    place = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper"}
    return {"text": words, "showarrow": False, "font": {"size": 15, "color": INK}, **place}
