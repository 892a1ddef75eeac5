"""One run: what ran, its main metrics, and its figures."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, html

from dashboard import run_form, run_links
from dashboard.parts import field, figure_card, heading, meaning, message, saved_as, text
from dashboard.runs import RunFolder, Stranger, store
from dashboard.state import Control, any_text, connect_state, notices_view, read_state, remember
from dashboard.words import number, percent, value_text
from dcsim.economics.cost import run_cost
from dcsim.errors import DcsimError
from dcsim.results import pictures as figures
from dcsim.results.metrics import LIMIT_MEANING, METRICS
from dcsim.results.pictures_over_time import limits_over_time, mark_faults, phases, racks, shares
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


CONTROLS = (Control("run", "", any_text), Control("beside", "", any_text))


def layout(**query: Any) -> html.Div:
    """What is at work, a form for more, and the run that the address names, or the newest."""
    values, notices = read_state(CONTROLS, query)
    runs, strangers = store().all()
    names = [run.folder.name for run in runs]
    for name in ("run", "beside"):
        if values[name] and values[name] not in names:
            notices.append(f"{values[name]}: no such run in this folder.")
            values[name] = ""
    options = [{"label": label, "value": run.folder.name} for run, label in zip(runs, _labels(runs), strict=True)]
    chosen = values["run"] or (names[0] if names else None)
    pick = dmc.Select(id="run-run", value=chosen, data=options, searchable=True, allowDeselect=False)
    beside = dmc.Select(
        id="run-beside",
        value=values["beside"],
        data=[{"label": "none", "value": ""}, *options],
        searchable=True,
        allowDeselect=False,
    )
    pickers = html.Section(
        [
            html.Div(field("Run", pick), className="half"),
            html.Div(field("Beside it", beside, "a second run, to compare"), className="half"),
        ],
        className="controls",
        hidden=not runs,
        **{"aria-label": "Which runs"},
    )
    return html.Div(
        [
            heading("Runs", "What was served, how fast, with how much power, and what limited it."),
            notices_view(notices),
            run_form.form(),
            html.Div(id="run-jobs"),
            pickers,
            html.Div(html.P("Reading the run", className="sentence waiting"), id="run-view")
            if runs
            else message("No run here yet", "Start one above, or with: dcsim run topologies/8rack.yaml"),
            *_strangers(strangers),
            remember("run", CONTROLS),
        ]
    )


def connect(app: Dash, own: RunFolder) -> None:
    """Show the runs that are picked."""
    connect_state(app, "run", CONTROLS)
    run_form.connect(app)
    run_links.connect(app)

    @app.callback(Output("run-view", "children"), Input("run-run", "value"), Input("run-beside", "value"))
    def show(name: str | None, beside: str | None) -> html.Div:
        try:
            run = store().open(name)
            if not beside:
                return view(run)
            other = store().open(beside)
            both = html.Div([view(run), view(other, "beside")], className="two")
            return html.Div([_side_by_side(run, other), both])
        except DcsimError as error:
            return message("This run cannot be shown", str(error), kind="error")


def _side_by_side(a: Run, b: Run) -> html.Section:
    """What differs between two runs, in what was asked and in what came of it."""
    asked = [
        html.Tr([html.Th(key, scope="row"), html.Td(text(one)), html.Td(text(other))])
        for key, one, other in differences(a.spec, b.spec)
    ]
    came = [
        html.Tr([html.Th(m.name, scope="row"), html.Td(_shown(a, m.name)), html.Td(_shown(b, m.name))])
        for m in METRICS
        if a.summary.get(m.name) != b.summary.get(m.name)
    ]
    head = html.Thead(
        html.Tr([html.Th("", scope="col"), html.Th(a.folder.name, scope="col"), html.Th(b.folder.name, scope="col")])
    )
    none = html.Tr(html.Td("nothing", colSpan=3))
    return html.Section(
        [
            html.H2("What differs"),
            html.Div(
                html.Table(
                    [
                        head,
                        html.Tbody([html.Tr(html.Th("asked", colSpan=3), className="section"), *(asked or [none])]),
                        html.Tbody([html.Tr(html.Th("came of it", colSpan=3), className="section"), *(came or [none])]),
                    ],
                    className="numbers",
                ),
                className="scroll",
                tabIndex=0,
            ),
        ],
        className="card",
        id="run-differences",
    )


def _shown(run: Run, metric: str) -> str:
    return value_text(metric, run.summary.get(metric))


def differences(a: Any, b: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Dotted keys whose values differ, with both values; what is on one side only is None on the other."""
    if not isinstance(a, dict) or not isinstance(b, dict):
        return [] if a == b else [(path, a, b)]
    found = []
    for key in sorted({*a, *b}, key=str):
        found += differences(a.get(key), b.get(key), f"{path}.{key}" if path else str(key))
    return found


def _strangers(strangers: list[Stranger]) -> list[html.Details]:
    """What lies beside the runs and is none, which harms nobody."""
    if not strangers:
        return []
    lines = [html.Li([html.Code(stranger.name), f" {stranger.reason}"]) for stranger in strangers]
    return [html.Details([html.Summary(f"{len(strangers)} folders here hold no run"), html.Ul(lines)], className="all")]


def view(run: Run, name: str = "run") -> html.Div:
    """Everything about one run; `name` begins the ids of its figures."""
    return html.Div(
        [
            _heading(run),
            html.Section([_tile(run.summary, *tile) for tile in TILES], className="tiles"),
            html.Section(_cards(run, name), className="cards"),
            *_classes(run),
            _cost(run),
            saved_as([("Report (HTML)", f"/report/run/{run.folder.name}.html")]),
            _all_metrics(run),
        ]
    )


def _labels(runs: list[Run]) -> list[str]:
    """A line for each run that says what tells it from the others; its name last."""
    columns = [
        [text(run.spec["name"]) for run in runs],
        [text(run.meta["llm"]) for run in runs],
        [text(run.meta["interconnect"]) for run in runs],
        [f"{number(run.summary['requests_in'])} requests" for run in runs],
        [f"seed {text(run.summary['seed'])}" for run in runs],
        [datetime.fromtimestamp((run.folder / "meta.json").stat().st_mtime).strftime("%d %b %H:%M") for run in runs],
    ]
    telling = [column for column in columns if len(set(column)) > 1] or columns[:3]
    return [" · ".join([*parts, run.folder.name]) for run, parts in zip(runs, zip(*telling, strict=True), strict=True)]


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


def _cards(run: Run, name: str) -> list[Any]:
    """The figures: how long requests took, what they did and waited for, and what racks and links did."""
    return [*_latency(run, name), *_over_time(run, name), *_of_racks(run, name), run_links.place(run, name)]


def _latency(run: Run, name: str) -> list[html.Div]:
    """The figure twice: panels beside each other where there is room, and one below the other."""
    meta, met = run.meta, percent(run.summary["slo_met_fraction"])
    slo = f"TTFT {format_time(meta['slo_ttft_s'])} and TPOT {format_time(meta['slo_tpot_s'])}"
    words = f"Share of requests, or of gaps, that took that long or longer. {met} met {slo}."
    found = []
    for which, columns, seen in (("latency", 2, "only-wide"), ("latency-narrow", 1, "only-narrow")):
        figure = figures.latency(run.requests, run.gaps, meta["slo_ttft_s"], meta["slo_tpot_s"], columns)
        found.append(html.Div(figure_card(f"{name}-{which}", "Latency", words, figure), className=seen))
    return found


def _over_time(run: Run, name: str) -> list[html.Figure]:
    """What requests did and waited for over the run, and what limited it in all."""
    requests, (faults, failed), span_s = run.requests, _failures(run), run.summary["elapsed_s"]
    if run.has_table("limits_over_time"):
        shared = limits_over_time(run.table("limits_over_time"), span_s, run.meta.get("token_fractions"))
        binds = "Of the requests' time, the share spent on or waiting for each thing; a token's own way as a lone sequence's."
    else:
        shared = shares(requests, span_s)
        binds = (
            "Of the requests' time, the share of each phase. What stretches a phase was kept as a sum alone: the compiled copy "
            "served, or an older dcsim. --engine simpy keeps it over time."
        )
    return [
        figure_card(
            f"{name}-load",
            "Load",
            f"Requests in the system, arrivals and output tokens, as means over equal intervals.{failed}",
            mark_faults(figures.load(requests, span_s), faults, span_s),
        ),
        figure_card(
            f"{name}-phases",
            "What requests do and wait for, over time",
            f"Requests in the system by what they are at; red is waiting.{failed}",
            mark_faults(phases(requests, span_s), faults, span_s),
        ),
        figure_card(
            f"{name}-limits",
            "What limits",
            "What the requests' time was spent on or waiting for, of the whole run.",
            figures.limits(run.limits, LIMIT_MEANING),
        ),
        figure_card(f"{name}-shares", "What limits, over time", f"{binds}{failed}", mark_faults(shared, faults, span_s)),
    ]


def _of_racks(run: Run, name: str) -> list[html.Figure]:
    """What racks draw, together and each."""
    power, (faults, failed) = run.power, _failures(run)
    sampled_s = float(power["time_s"].max()) if len(power) else 0.0
    return [
        figure_card(
            f"{name}-power",
            "Power",
            f"At the wall, racks stacked; the area under the site's line is the run's energy.{failed}",
            mark_faults(figures.power(power, run.spec["power"]["pue"]), faults, sampled_s),
        ),
        figure_card(
            f"{name}-racks",
            "Racks",
            f"What each rack draws at the wall, over time.{failed}",
            mark_faults(racks(power), faults, sampled_s),
        ),
    ]


def _failures(run: Run) -> tuple[Any, str]:
    """The run's faults, and what a caption says of their marks."""
    faults = run.table("faults") if run.has_table("faults") else {"time_s": []}
    count = len(faults["time_s"])
    return faults, f" Dotted: {count:,} failures; shaded: a failed part's work stands still." if count else ""


def _classes(run: Run) -> list[Any]:
    """The metrics of each class of traffic, where there are several."""
    rows = run.table("classes") if run.has_table("classes") else {"klass": [], "metric": [], "value": []}
    found: dict[str, dict[str, float]] = {}
    for klass, metric, value in zip(rows["klass"], rows["metric"], rows["value"], strict=True):
        found.setdefault(text(metric), {})[text(klass)] = float(value)
    names = list(dict.fromkeys(map(text, rows["klass"])))
    if len(names) < 2:
        return []
    head = html.Tr([html.Th("", scope="col"), *(html.Th(name, scope="col") for name in names)])
    body = [
        html.Tr(
            [
                html.Th([metric, " ", *_meaning_of(metric)], scope="row"),
                *(html.Td(_known(metric, of.get(name))) for name in names),
            ]
        )
        for metric, of in found.items()
    ]
    table = html.Table([html.Thead(head), html.Tbody(body)], className="numbers")
    scroll = html.Div(table, className="scroll", tabIndex=0, role="region", **{"aria-label": "Classes"})
    return [html.Section([html.H2("Classes of traffic"), scroll], className="card below")]


def _meaning_of(metric: str) -> list[Any]:
    return [meaning(MEANING[metric], metric)] if metric in MEANING else []


def _known(metric: str, value: float | None) -> str:
    nothing = value is None or value != value
    return "–" if nothing else value_text(metric, value) if metric in MEANING else number(float(value or 0.0))


def _cost(run: Run) -> html.Section:
    """What the run's cluster costs to get and to own, at the prices of the run, or why that is not known."""
    try:
        found = run_cost(run)
    except DcsimError as error:
        return html.Section([html.H2("Cost"), html.P(f"Not known: {error}")], className="card below")
    titles = {"buy": "Chips at a customer's price", "build": "Chips at what they cost their maker"}
    head = html.Tr([html.Th("", scope="col"), *(html.Th(titles.get(basis, basis), scope="col") for basis in found["bases"])])
    lines = (
        ("Capital", "chips, hosts, racks and network, to get", "capital_usd", "USD"),
        ("An hour", "all that is owned and paid, over its life", "usd_per_h", "USD"),
        ("A million output tokens", "the same, over the output tokens at this load", "usd_per_mtoken", "USD"),
    )
    rows = [
        html.Tr(
            [
                html.Th([name, " ", meaning(words, name)], scope="row"),
                *(html.Td("–" if of[key] is None else f"{number(of[key])} {unit}") for of in found["bases"].values()),
            ]
        )
        for name, words, key, unit in lines
    ]
    return html.Section(
        [
            html.H2("Cost"),
            html.P(f"At the prices of {text(found['prices'])}, as dcsim cost says."),
            html.Div(html.Table([html.Thead(head), html.Tbody(rows)], className="numbers"), className="scroll", tabIndex=0),
        ],
        className="card below",
    )


def _all_metrics(run: Run) -> html.Details:
    cells = [(html.Code(m.name), value_text(m.name, run.summary.get(m.name)), m.meaning) for m in METRICS]
    rows = [html.Tr([html.Td(cell) for cell in row]) for row in cells]
    head = html.Thead(html.Tr([html.Th("metric"), html.Th("value"), html.Th("meaning")]))
    unused = run.meta.get("unused_keys", [])
    note = [html.P(f"Keys that had no effect in this run: {', '.join(map(text, unused))}")] if unused else []
    table = html.Div(html.Table([head, html.Tbody(rows)], className="numbers"), className="scroll", tabIndex=0)
    return html.Details([html.Summary("All metrics"), table, *note], className="all")
