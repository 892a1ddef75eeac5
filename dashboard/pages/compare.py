"""Compare: the same chips, LLM and load on several networks; who wins, by what, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update

from dashboard.compared import NOTHING, Compared, skeleton, title_of
from dashboard.parts import code_line, field, figure_card, heading, message
from dashboard.points import COMPUTED, PRECOMPUTED
from dashboard.runs import RunFolder, store
from dashboard.state import Control, connect_state, notices_view, number, one_of, read_state, remember, some_of, whole
from dcsim import library
from dcsim.network.timing import MEANING, PARTS
from dcsim.study import side_by_side
from dcsim.study.side_by_side import CAPACITY, ITERATION, LIBRARIES, MAPPINGS, NETWORKS, OBJECTIVES, SERVED, SIZES
from dcsim.units import format_time

TITLE = "Compare"
FAIRNESS = ("equal_bandwidth", "equal_radix", "equal_cost", "pcie")
FIRST = ["scheduled", "infiniband-ndr", "roce-400g", "ethernet-100g"]
LLMS = library.names("workloads/llms")

CONTROLS = (
    Control("chips", 512, whole(64, 1500)),
    Control("llm", "llama-2-70b", one_of(LLMS)),
    Control("batch", 1, whole(1, 64)),
    Control("context", 2048, whole(1, 131_072)),
    Control("rate", 5, number(1, 100)),
    Control("networks", FIRST, some_of(NETWORKS)),
    Control("library", "posted", one_of(LIBRARIES)),
    Control("fairness", "equal_bandwidth", one_of(FAIRNESS)),
    Control("objective", "capacity", one_of(OBJECTIVES)),
    Control("mapping", "own", one_of(MAPPINGS)),
    Control("prices", "buy", one_of(("buy", "build"))),
)
NAMES = [control.name for control in CONTROLS]
COMPUTE_MEANING = "matrix products, attention, norms and the host's own work"


def layout(**query: Any) -> html.Div:
    """The controls at what the address says, and room for the answer."""
    values, notices = read_state(CONTROLS, query)
    head = heading("Packets or none", "The same chips, LLM and load on a scheduled network and on packet networks.")
    return html.Div(
        [
            head,
            notices_view(notices),
            _controls(values),
            html.Div(id="compare-status", className="status", role="status"),
            html.Div(skeleton(), id="compare-answer"),
            html.Section(
                [
                    html.Div(id="compare-tiles", className="tiles"),
                    _feel(),
                    html.Div(id="compare-cards", className="cards"),
                    html.Div(id="compare-table"),
                    html.Div(
                        [
                            html.Button("Simulate the capacity", id="compare-capacity", type="button", className="primary"),
                            html.Span(
                                "The largest load inside the SLO, with prompts, queues and bursts: minutes for each network."
                            ),
                        ],
                        className="row centred below",
                    ),
                ],
                id="compare-body",
                hidden=True,
            ),
            dmc.Drawer(id="compare-how", title="How this was computed", position="right", size="lg", padding="md"),
            dcc.Store(id="compare-lanes"),
            dcc.Store(id="compare-known"),
            dcc.Store(id="compare-job"),
            dcc.Interval(id="compare-tick", interval=700, disabled=True),
            remember("compare", CONTROLS),
        ]
    )


def _cards() -> list[html.Figure]:
    """The figures' cards; what they show follows."""
    words = {"compute": COMPUTE_MEANING, **MEANING}
    explained = html.Dl([html.Div([html.Dt(part), html.Dd(words[part])]) for part in PARTS], className="parts")
    nothing = {"data": [], "layout": {"height": 360}}
    return [
        figure_card(
            "compare-waterfall",
            "Where a token's time goes",
            "Parts of one iteration along its critical path; they sum to its time. Click a bar for how it was computed.",
            nothing | {"layout": {"height": 140 + 46 * len(FIRST)}},
            wide=True,
            below=explained,
        ),
        figure_card(
            "compare-speed",
            "Speed over size",
            "Tokens a second one user sees, at the sizes kept ready and the one asked for, which is dotted. No point: the LLM "
            "does not fit there, or the size is not computed yet.",
            nothing,
        ),
        figure_card(
            "compare-cost",
            "Cost over size",
            "USD per million tokens at this load: all that is owned and paid over its life.",
            nothing,
        ),
    ]


def _controls(values: dict[str, Any]) -> html.Section:
    return html.Section([*_question(values), *_terms(values)], className="controls", **{"aria-label": "What is compared"})


def _question(values: dict[str, Any]) -> list[html.Div]:
    """What is served on how many chips: LLM, networks, and the load."""

    def slider(name: str, least: int, most: int, marks: list[dict[str, Any]], label: str, **more: Any) -> Any:
        scale = {"min": least, "max": most, "marks": marks, "updatemode": "mouseup", "className": "slider"}
        return dmc.Slider(id=f"compare-{name}", value=values[name], thumbLabel=label, **scale, **more)

    sizes = [{"value": size, "label": f"{size:,}"} for size in SIZES]
    chips = slider("chips", 64, 1500, sizes, "chips", step=4, labelAlwaysOn=False)
    batch = slider("batch", 1, 64, _marks(1, 8, 16, 32, 64), "batch")
    rate = slider("rate", 1, 100, _marks(1, 20, 50, 100), "requests a second")
    contexts = _sizes(values["context"])
    return [
        html.Div(field("Chips", chips, "how many chips the cluster has; racks keep their spare nodes beside"), className="span"),
        field("LLM", _select("llm", values["llm"], LLMS, "LLM", searchable=True), "which LLM is served, in 8-bit weights"),
        field(
            "Networks",
            dmc.MultiSelect(id="compare-networks", value=values["networks"], data=list(NETWORKS), **_named("networks")),
            "what joins the chips",
        ),
        field("Batch", batch, "sequences that one iteration advances by a token"),
        field(
            "Context",
            _select("context", str(values["context"]), contexts, "context"),
            "tokens of context of each sequence of the iteration, the new one included",
        ),
        field("Load, requests/s", rate, "real chat requests that arrive each second, for the tails, power and cost below"),
    ]


def _terms(values: dict[str, Any]) -> list[html.Div]:
    """On which terms networks are compared: libraries, mappings, prices, and what packets get for a chip's cables."""
    fairness = [{"value": name, "label": name.replace("_", " ")} for name in FAIRNESS]
    return [
        field(
            "Library",
            _segments("library", values, LIBRARIES),
            "what a message on a packet network goes through: nothing; verbs; posted, where the chip's own program writes "
            "and small sums take one step; or NCCL, for which these chips lack the kernels",
        ),
        field(
            "Objective",
            _select("objective", values["objective"], OBJECTIVES, "objective"),
            "what mappings are searched for: the largest rate inside the SLO, the shortest iteration, the most tokens a "
            "second, or the fewest USD a token",
        ),
        field(
            "Mapping",
            _segments("mapping", values, MAPPINGS),
            "own: each network has its own best, as in `dcsim compare`; same: all have the scheduled network's",
        ),
        field(
            "Prices",
            _segments("prices", values, ("buy", "build")),
            "chips at a customer's price, or at what they cost their maker",
        ),
        field(
            "Fairness",
            _select("fairness", values["fairness"], fairness, "fairness"),
            "what packet networks get for a chip's cables: the same bandwidth, as many ports, what costs as much, or one bus",
        ),
    ]


def _select(name: str, value: str, data: Sequence[Any], label: str, **more: Any) -> Any:
    return dmc.Select(id=f"compare-{name}", value=value, data=list(data), allowDeselect=False, **_named(label), **more)


def _named(name: str) -> dict[str, Any]:
    return {"comboboxProps": {"withinPortal": True}, "attributes": {"input": {"aria-label": name}}}


def _marks(*values: int) -> list[dict[str, Any]]:
    return [{"value": value, "label": str(value)} for value in values]


def _sizes(chosen: int) -> list[dict[str, str]]:
    sizes = sorted({512, 1024, 2048, 4096, 8192, 32_768, 131_072, chosen})
    return [{"value": str(size), "label": f"{size:,} tokens"} for size in sizes]


def _segments(name: str, values: dict[str, Any], choices: Sequence[str]) -> Any:
    return dmc.SegmentedControl(id=f"compare-{name}", value=values[name], data=list(choices), size="sm", fullWidth=True)


def _feel() -> html.Section:
    play = html.Button("Play", id="compare-play", type="button", className="primary")
    words = "Placeholder text at each network's simulated pace: its time to first token, then gaps drawn from its run."
    return html.Section(
        [
            html.Div([html.Div([html.H2("Feel it"), html.P(words)]), play], className="card-head"),
            html.Div(id="compare-feel", className="lanes"),
        ],
        className="card feel",
    )


def connect(app: Dash, own: RunFolder) -> None:
    """Let the answer follow the controls; what is not kept is computed in the background."""
    connect_state(app, "compare", CONTROLS)
    app.clientside_callback(
        ClientsideFunction("dcsim", "play"),
        Output("compare-play", "title"),
        Input("compare-play", "n_clicks"),
        State("compare-lanes", "data"),
        prevent_initial_call=True,
    )
    _connect_answer(app)
    _connect_figures(app)
    _connect_cancel(app)
    _connect_explanation(app)


def _asked(args: Sequence[Any]) -> tuple[dict[str, Any], list[str]]:
    """What the controls say, their values coming first in `args`, and notices of those that cannot be."""
    return read_state(CONTROLS, {name: _text(value) for name, value in zip(NAMES, args, strict=False)})


def _connect_answer(app: Dash) -> None:
    """The sentence, the tiles and the table, as far as they are known, and the work on what is not."""

    @app.callback(
        Output("compare-answer", "children"),
        Output("compare-tiles", "children"),
        Output("compare-body", "hidden"),
        Output("compare-table", "children"),
        Output("compare-feel", "children"),
        Output("compare-lanes", "data"),
        Output("compare-status", "children"),
        Output("compare-job", "data"),
        Output("compare-tick", "disabled"),
        Output("compare-known", "data"),
        [Input(f"compare-{name}", "value") for name in NAMES],
        Input("compare-tick", "n_intervals"),
        Input("compare-capacity", "n_clicks"),
        State("compare-job", "data"),
    )
    def show(*args: Any) -> Any:
        values, notices = _asked(args)
        last = args[-1] or {}
        here = store()
        asked = Compared(values, here)
        # A look at the work may overtake the answer to a control that moved since: then the look answers it.
        if ctx.triggered_id == "compare-tick" and last.get("of") == values:
            return (*_while_computing(here, asked, last),)
        job = None if notices else _begun(here, asked, ctx.triggered_id == "compare-capacity")
        if last and last.get("job") != job:
            here.jobs.cancel(last.get("job"))  # nobody looks at it any more
        status = notices_view(notices) if notices else _status(here, asked, job)
        return (*asked.view(), status, _remembered(asked, job), job is None, no_update)


def _begun(here: RunFolder, asked: Compared, with_capacity: bool) -> str | None:
    """The job that computes what is not kept; None where all is."""
    missing = here.points.missing([*asked.cells, *(asked.capacity_cells if with_capacity else [])])
    if not missing:
        return None
    title = f"compare {asked.question.chips} chips, {asked.question.llm}"
    return here.jobs.submit("points", {"cells": [cell.as_json() for cell in missing]}, title)


def _connect_figures(app: Dash) -> None:
    """Room for the figures once there are numbers to read, and what they show."""

    @app.callback(
        Output("compare-cards", "children"),
        Input("compare-tiles", "children"),
        State("compare-cards", "children"),
        prevent_initial_call=True,
    )
    def make_room(tiles: Any, cards: Any) -> Any:
        # The library that draws is loaded once there are numbers to read, so that they need not wait for it.
        return _cards() if tiles and not cards else no_update

    @app.callback(
        Output("compare-waterfall", "figure"),
        Output("compare-speed", "figure"),
        Output("compare-cost", "figure"),
        [Input(f"compare-{name}", "value") for name in NAMES],
        Input("compare-known", "data"),
    )
    def draw(*args: Any) -> Any:
        return Compared(_asked(args)[0], store()).figures()


def _connect_cancel(app: Dash) -> None:
    @app.callback(
        Output("compare-tick", "disabled", allow_duplicate=True),
        Output("compare-status", "children", allow_duplicate=True),
        Input("compare-cancel", "n_clicks"),
        State("compare-job", "data"),
        prevent_initial_call=True,
    )
    def cancel(clicks: int | None, last: dict[str, Any] | None) -> Any:
        if not clicks or not last:
            return no_update, no_update
        store().jobs.cancel(last.get("job"))
        return True, html.Span("Cancelled. Move a control to ask again.", className="badge")


def _connect_explanation(app: Dash) -> None:
    """How a network's numbers came about: asked by the button of a tile, or by a bar of the figure, which is there later."""
    asked = [State(f"compare-{name}", "value") for name in NAMES]

    @app.callback(
        Output("compare-how", "opened"),
        Output("compare-how", "children"),
        Input({"how": "network", "name": ALL}, "n_clicks"),
        asked,
        prevent_initial_call=True,
    )
    def explain(buttons: Any, *args: Any) -> Any:
        pressed = isinstance(ctx.triggered_id, dict) and any(buttons)
        return _explained(ctx.triggered_id["name"] if pressed else "", args)

    @app.callback(
        Output("compare-how", "opened", allow_duplicate=True),
        Output("compare-how", "children", allow_duplicate=True),
        Input("compare-waterfall", "clickData"),
        asked,
        prevent_initial_call=True,
    )
    def explain_bar(clicked: Any, *args: Any) -> Any:
        return _explained(str(clicked["points"][0]["y"]).partition(" ")[0] if clicked else "", args)


def _explained(network: str, args: Sequence[Any]) -> Any:
    """The drawer with how a network's numbers came about; it stays closed where there is none."""
    if network not in NETWORKS:
        return no_update, no_update
    return True, _how(Compared(_asked(args)[0], store()), network)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _status(here: RunFolder, asked: Compared, job: str | None) -> html.Div:
    """Where the numbers are from; while they are computed: how far that is, and the way to stop it."""
    if job is None:
        origins = {point.origin for point in asked.points.values() if point}
        words = {PRECOMPUTED: "precomputed", COMPUTED: "computed exactly here"}
        shown = " and ".join(words[origin] for origin in (PRECOMPUTED, COMPUTED) if origin in origins)
        return html.Div([html.Span(shown, className="badge", id="compare-origin")])
    found = here.jobs.find(job)
    done, total, note = (found.done, found.total, found.note) if found else (0, 0, "")
    waits = "waits for a free worker" if found and found.state == "waiting" else note
    text = f"computing {done} of {total}: {note}" if total else f"computing: {waits}"
    return html.Div(
        [
            dmc.Progress(value=100 * done / total if total else 4, striped=True, animated=True, **{"aria-label": "progress"}),
            html.Div(
                [
                    html.Span(text, id="compare-progress"),
                    html.Button("Cancel", id="compare-cancel", type="button", className="save"),
                ],
                className="busy-line",
            ),
        ]
    )


def _remembered(asked: Compared, job: str | None) -> dict[str, Any] | None:
    """What the browser keeps while a job works: which, for what the controls said, and what was known of the answer."""
    return {"job": job, "of": asked.values, "kept": asked.kept} if job else None


def _while_computing(here: RunFolder, asked: Compared, last: dict[str, Any]) -> tuple[Any, ...]:
    """How far the background work is; what is new of the answer since the last look."""
    here.jobs.wake()
    job = here.jobs.find(last.get("job"))
    # What is known of the answer, by which the figures are drawn again.
    known = asked.kept if asked.kept != last.get("kept") else no_update
    same = (no_update,) * (1 + len(NOTHING))
    if job is not None and not job.over:
        view = same if known is no_update else asked.view()
        return (*view, _status(here, asked, job.name), _remembered(asked, job.name), False, known)
    if job is not None and job.state == "failed":
        return (*asked.view(), message("This could not be computed", job.note, kind="error"), None, True, known)
    if job is not None and job.state == "cancelled":
        return (*asked.view(), html.Span("Cancelled. Move a control to ask again.", className="badge"), None, True, known)
    return (*asked.view(), _status(here, asked, None), None, True, known)


def _how(asked: Compared, network: str) -> list[Any]:
    """How one network's numbers came about: the parts of its time, the commands that give it, its bill, its figures."""
    row = next((found for found in asked.rows() if found["interconnect"] == network), None)
    cells = [asked.cell(kind, network) for kind in (ITERATION, SERVED, CAPACITY)]
    content: list[Any] = [html.H3(title_of(row) if row else network)]
    content += [html.P("These commands give the same numbers:")]
    content += [code_line(command) for command in map(asked.command, cells) if command]
    if row:
        words = {"compute": COMPUTE_MEANING, **MEANING}
        parts = [(part, format_time(seconds), words[part]) for part, seconds in row["waterfall_s"].items()]
        content += [html.H3("One iteration"), _lines(parts)]
        if row["served"]:
            bill = row["served"]["bill"][asked.values["prices"]]
            costs = [(i["item"], f"{i['count']:,}", f"{i['usd']:,.0f} USD", f"{i['kind']}: {i['source']}") for i in bill]
            content += [html.H3("What it costs to get"), _lines(costs)]
    figures = [(figure["key"], figure["value"], figure["kind"], figure["source"]) for figure in side_by_side.figures_of(cells[1])]
    return [*content, html.H3("Figures from the world"), _lines(figures, "numbers sources")]


def _lines(rows: Sequence[tuple[Any, ...]], looks: str = "numbers") -> html.Table:
    """A table whose rows begin with what they are of."""
    shown = [html.Tr([html.Th(name, scope="row"), *map(html.Td, cells)]) for name, *cells in rows]
    return html.Table(html.Tbody(shown), className=looks)
