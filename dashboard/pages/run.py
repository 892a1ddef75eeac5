"""One run: what ran, its main metrics, and its figures."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, html

from dashboard.parts import field, figure_card, heading, meaning, message, text
from dashboard.runs import RunFolder, Stranger, store
from dashboard.state import Control, any_text, connect_state, notices_view, read_state, remember
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


CONTROLS = (Control("run", "", any_text),)


def layout(**query: Any) -> html.Div:
    """The picker, set to the run that the address names or to the newest, and room for the run."""
    values, notices = read_state(CONTROLS, query)
    runs, strangers = store().all()
    names = [run.folder.name for run in runs]
    chosen = values["run"]
    if chosen and chosen not in names:
        notices.append(f"{chosen}: no such run in this folder; the newest is shown instead.")
    if chosen not in names:
        chosen = names[0] if names else None
    options = [{"label": label, "value": run.folder.name} for run, label in zip(runs, _labels(runs), strict=True)]
    picker = dmc.Select(id="run-run", value=chosen, data=options, searchable=True, allowDeselect=False, className="picker")
    return html.Div(
        [
            heading("Runs", "What was served, how fast, with how much power, and what limited it."),
            notices_view(notices),
            html.Div(field("Run", picker), hidden=not runs),
            html.Div(id="run-view") if runs else message("No run here yet", "Make one with: dcsim run topologies/8rack.yaml"),
            *_strangers(strangers),
            remember("run", CONTROLS),
        ]
    )


def connect(app: Dash, own: RunFolder) -> None:
    """Show the run that is picked."""
    connect_state(app, "run", CONTROLS)

    @app.callback(Output("run-view", "children"), Input("run-run", "value"))
    def show(name: str | None) -> html.Div:
        try:
            return view(store().open(name))
        except DcsimError as error:
            return message("This run cannot be shown", str(error), kind="error")


def _strangers(strangers: list[Stranger]) -> list[html.Details]:
    """What lies beside the runs and is none, which harms nobody."""
    if not strangers:
        return []
    lines = [html.Li([html.Code(stranger.name), f" {stranger.reason}"]) for stranger in strangers]
    return [html.Details([html.Summary(f"{len(strangers)} folders here hold no run"), html.Ul(lines)], className="all")]


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


def _labels(runs: list[Run]) -> list[str]:
    """A line for each run that says what it shares with none or few of the others."""
    columns = [
        [text(run.spec["name"]) for run in runs],
        [text(run.meta["llm"]) for run in runs],
        [text(run.meta["interconnect"]) for run in runs],
        [f"{number(run.summary['requests_in'])} requests" for run in runs],
        [f"seed {text(run.summary['seed'])}" for run in runs],
        [datetime.fromtimestamp((run.folder / "meta.json").stat().st_mtime).strftime("%d %b %H:%M") for run in runs],
        [run.folder.name for run in runs],
    ]
    return [" · ".join(parts) for parts in zip(*columns, strict=True)]


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
            html.H2(text(run.spec["name"])),
            html.P(text(run.description)),
            html.Dl([html.Div([html.Dt(name), html.Dd(str(value))]) for name, value in facts], className="facts"),
        ],
        className="heading",
    )


def _tile(summary: dict[str, Any], label: str, main: str, small: tuple[str, ...]) -> html.Div:
    """One metric large, its companions small, their meanings behind a question mark."""
    below = [html.Span([f"{_qualifier(name)} ", _value(summary, name)]) for name in small]
    words = "; ".join(f"{name}: {MEANING[name]}" for name in (main, *small))
    return html.Div(
        [
            html.Div([label, meaning(words, label)], className="label"),
            html.Div(_value(summary, main), className="large"),
            html.Div(below, className="small"),
        ],
        className="tile",
    )


def _value(summary: dict[str, Any], name: str) -> html.Span:
    """The number and, smaller, its unit."""
    words = value_text(name, summary[name])
    mark: dict[str, Any] = {"data-metric": name}
    if isinstance(summary[name], str):
        return html.Span(words.replace("_", " "), className="value", **mark)
    amount, _, unit = words.partition(" ")
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
        figure_card(
            "run-latency",
            "Latency",
            f"Share of requests, or of gaps, that took that long or longer. {met} met {slo}.",
            figures.latency(requests, run.gaps, meta["slo_ttft_s"], meta["slo_tpot_s"]),
        ),
        figure_card(
            "run-load",
            "Load",
            "Requests in the system, arrivals and output tokens, as means over equal intervals.",
            figures.load(requests, summary["elapsed_s"]),
        ),
        figure_card(
            "run-power",
            "Power",
            "At the wall, racks stacked; the area under the site's line is the run's energy.",
            figures.power(run.power, run.spec["power"]["pue"]),
        ),
        figure_card(
            "run-limits",
            "What limits",
            "What the requests' time was spent on or waiting for.",
            figures.limits(run.limits, LIMIT_MEANING),
        ),
    ]


def _all_metrics(run: Run) -> html.Details:
    cells = [(html.Code(m.name), value_text(m.name, run.summary.get(m.name)), m.meaning) for m in METRICS]
    rows = [html.Tr([html.Td(cell) for cell in row]) for row in cells]
    head = html.Thead(html.Tr([html.Th("metric"), html.Th("value"), html.Th("meaning")]))
    unused = run.meta.get("unused_keys", [])
    note = [html.P(f"Keys that had no effect in this run: {', '.join(map(text, unused))}")] if unused else []
    table = html.Div(html.Table([head, html.Tbody(rows)], className="numbers"), className="scroll", tabIndex=0)
    return html.Details([html.Summary("All metrics"), table, *note], className="all")
