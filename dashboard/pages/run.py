"""One run: what ran, its main metrics, and its figures."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from dash import Dash, Input, Output, dcc, html

from dashboard.runs import Runs
from dashboard.words import number, percent, value_text
from dcsim.errors import DcsimError
from dcsim.results import pictures as figures
from dcsim.results.metrics import LIMIT_MEANING, METRICS
from dcsim.results.records import Run
from dcsim.units import format_power, format_time

TITLE = "Run"

# Label of each tile, the metric it shows large, and those it shows small below.
TILES = (
    ("Speed per user", "tokens_per_s_per_user_p50", ()),
    ("Time to first token", "ttft_s_p50", ("ttft_s_p90", "ttft_s_p99")),
    ("Time per output token", "tpot_s_p50", ("tpot_s_p90", "tpot_s_p99")),
    ("Gap between tokens", "itl_s_p50", ("itl_s_p90", "itl_s_p99")),
    ("Arrival to last token", "e2e_s_p50", ("e2e_s_p99",)),
    ("Throughput", "output_tokens_per_s", ()),
    ("Goodput", "goodput_requests_per_s", ("slo_met_fraction",)),
    ("Requests at once", "concurrency_mean", ()),
    ("Site power", "power_w_mean", ("power_w_max",)),
    ("Energy per token", "energy_j_per_token", ()),
    ("Limited by", "limited_by", ("limited_by_fraction",)),
    ("Finished", "requests_finished", ("requests_rejected", "requests_failed", "requests_in_flight")),
)
MEANING = {metric.name: metric.meaning for metric in METRICS}
GRAPH: Any = {"displaylogo": False, "responsive": True, "modeBarButtons": [["toImage", "resetScale2d"]]}


def layout(runs: Runs) -> html.Div:
    """The picker, set to the run the dashboard was opened on, and room for the run."""
    options = [{"label": _label(run), "value": run.folder.name} for run in runs.all()]
    picker = dcc.Dropdown(options, runs.first.name, id="run", clearable=False, className="picker")
    return html.Div(
        [
            html.Div([html.Label("Run", htmlFor="run"), picker], className="choose"),
            dcc.Loading(html.Div(id="run-view"), delay_show=400, type="dot"),
        ]
    )


def connect(app: Dash, runs: Runs) -> None:
    """Show the run that is picked."""

    @app.callback(Output("run-view", "children"), Input("run", "value"))
    def show(name: str) -> html.Div:
        try:
            return view(runs.open(name))
        except DcsimError as error:
            return html.Div(str(error), className="message")


def view(run: Run) -> html.Div:
    """Everything about one run."""
    return html.Div(
        [
            _heading(run),
            html.Section([_tile(run.summary, *tile) for tile in TILES], className="tiles"),
            html.Section(_cards(run), className="cards"),
            _all_metrics(run),
        ]
    )


def _label(run: Run) -> str:
    """A line that tells runs apart in the picker."""
    when = datetime.fromtimestamp((run.folder / "meta.json").stat().st_mtime)
    meta, requests = run.meta, number(run.summary["requests_in"])
    return (
        f"{run.spec['name']} · {meta['llm']} · {meta['interconnect']} · {requests} requests · "
        f"seed {run.summary['seed']} · {when:%d %b %H:%M} · {run.folder.name}"
    )


def _heading(run: Run) -> html.Div:
    meta, summary = run.meta, run.summary
    used = f"{number(meta['chips_used'])} of {number(meta['chips_active'])}"
    idle = f"{number(meta['idle_chips'])}: {format_power(meta['idle_power_w'], 3)}" if meta.get("idle_chips") else "none"
    served = f"{number(summary['requests_in'])} requests in {format_time(summary['elapsed_s'])}"
    facts = (
        ("LLM", meta["llm"]),
        ("chips", used),
        ("idle chips", idle),
        ("mapping", f"tp {meta['tp']}, pp {meta['pp']}, replicas {meta['replicas']}"),
        ("interconnect", meta["interconnect"]),
        ("served", served),
        ("seed", summary["seed"]),
        ("digest", summary["digest"]),
    )
    return html.Div(
        [
            html.H1(run.spec["name"]),
            html.P(run.description),
            html.Dl([html.Div([html.Dt(name), html.Dd(str(text))]) for name, text in facts], className="facts"),
        ],
        className="heading",
    )


def _tile(summary: dict[str, Any], label: str, main: str, small: tuple[str, ...]) -> html.Div:
    """One metric large, its companions small, their meanings on hover or focus."""
    below = [html.Span([f"{_qualifier(name)} ", _value(summary, name)]) for name in small]
    words = [html.Div([html.Code(name), f" {MEANING[name]}"]) for name in (main, *small)]
    return html.Div(
        [
            html.Div(label, className="label"),
            html.Div(_value(summary, main), className="large"),
            html.Div(below, className="small"),
            html.Div(words, className="meaning", role="tooltip"),
        ],
        className="tile",
        tabIndex=0,
    )


def _value(summary: dict[str, Any], name: str) -> html.Span:
    """The number and, smaller, its unit."""
    text = value_text(name, summary[name])
    mark: dict[str, Any] = {"data-metric": name}
    if isinstance(summary[name], str):
        return html.Span(text.replace("_", " "), className="value", **mark)
    amount, _, unit = text.partition(" ")
    return html.Span([amount, html.Span(f" {unit}", className="unit")], className="value", **mark)


def _qualifier(name: str) -> str:
    """What a small number is, beside the large one: its percentile, or what remains of its name."""
    short = {"slo_met_fraction": "met the SLO:", "limited_by_fraction": "share of time:"}
    word = name.removeprefix("requests_").removeprefix("power_w_").split("_s_")[-1]
    return short.get(name) or word.replace("_", " ")


def _cards(run: Run) -> list[html.Figure]:
    meta, summary, requests = run.meta, run.summary, run.requests
    met = percent(summary["slo_met_fraction"])
    slo = f"TTFT {format_time(meta['slo_ttft_s'])} and TPOT {format_time(meta['slo_tpot_s'])}"
    return [
        _card(
            "Latency",
            f"Share of requests, or of gaps, that took that long or longer. {met} met {slo}.",
            figures.latency(requests, run.gaps, meta["slo_ttft_s"], meta["slo_tpot_s"]),
        ),
        _card(
            "Load",
            "Requests in the system, arrivals and output tokens, as means over equal intervals.",
            figures.load(requests, summary["elapsed_s"]),
        ),
        _card(
            "Power",
            "At the wall, racks stacked; the area under the site's line is the run's energy.",
            figures.power(run.power, run.spec["power"]["pue"]),
        ),
        _card("What limits", "What the requests' time was spent on or waiting for.", figures.limits(run.limits, LIMIT_MEANING)),
    ]


def _card(title: str, words: str, figure: Any) -> html.Figure:
    graph = dcc.Graph(figure=figure, config=GRAPH, style={"height": figure.layout.height})
    return html.Figure([html.Figcaption([html.H2(title), html.P(words)]), graph], className="card")


def _all_metrics(run: Run) -> html.Details:
    cells = [(html.Code(m.name), value_text(m.name, run.summary[m.name]), m.meaning) for m in METRICS]
    rows = [html.Tr([html.Td(cell) for cell in row]) for row in cells]
    head = html.Thead(html.Tr([html.Th("metric"), html.Th("value"), html.Th("meaning")]))
    unused = run.meta.get("unused_keys", [])
    note = [html.P(f"Keys that had no effect in this run: {', '.join(unused)}")] if unused else []
    table = html.Table([head, html.Tbody(rows)])
    return html.Details([html.Summary("All metrics"), table, *note], className="all")
