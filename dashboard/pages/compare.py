"""Compare: the same chips, LLM and load on several networks; who wins, by what, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update

from dashboard.parts import code_line, field, figure_card, heading, meaning, message
from dashboard.points import COMPUTED, PRECOMPUTED, STALE, Point
from dashboard.runs import Store, store
from dashboard.state import Control, connect_state, notices_view, number, one_of, read_state, remember, some_of, whole
from dcsim import library
from dcsim.network.timing import MEANING, PARTS
from dcsim.results.curves import COLOURS, over_size
from dcsim.results.pictures import waterfall
from dcsim.study import side_by_side
from dcsim.study.side_by_side import ITERATION, LIBRARIES, NETWORKS, SERVED, SIZES, Piece, Question
from dcsim.study.verdict import sentence, verdict
from dcsim.units import format_power, format_time

TITLE = "Compare"
FAIRNESS = ("equal_bandwidth", "equal_radix", "equal_cost", "pcie")
FIRST = ["scheduled", "infiniband-ndr", "roce-400g", "ethernet-100g"]
LLMS = library.names("workloads/llms")
TOKENS_PLAYED = 400

CONTROLS = (
    Control("chips", 512, whole(64, 1500)),
    Control("llm", "llama-2-70b", one_of(LLMS)),
    Control("batch", 1, whole(1, 64)),
    Control("context", 2048, whole(1, 131_072)),
    Control("rate", 5, number(1, 100)),
    Control("networks", FIRST, some_of(NETWORKS)),
    Control("library", "verbs", one_of(LIBRARIES)),
    Control("fairness", "equal_bandwidth", one_of(FAIRNESS)),
    Control("mapping", "same", one_of(("same", "best"))),
    Control("prices", "buy", one_of(("buy", "build"))),
)
NAMES = [control.name for control in CONTROLS]
# Tiles, three figures, whether all of it is hidden, table, lanes, what they play.
NOTHING: tuple[Any, ...] = ([], no_update, no_update, no_update, True, [], [], [])
COMPUTE_MEANING = "matrix products, attention, norms and the host's own work"


def layout(**query: Any) -> html.Div:
    """The controls at what the address says, and room for the answer."""
    values, notices = read_state(CONTROLS, query)
    head = heading("Packets or none", "The same chips, LLM, mapping and load on a scheduled network and on packet networks.")
    return html.Div(
        [
            head,
            notices_view(notices),
            _controls(values),
            html.Div(id="compare-status", className="status", role="status"),
            html.Div(_skeleton(), id="compare-answer"),
            html.Section(
                [
                    html.Div(id="compare-tiles", className="tiles"),
                    _feel(),
                    html.Div(_cards(), className="cards"),
                    html.Div(id="compare-table"),
                ],
                id="compare-body",
                hidden=True,
            ),
            dmc.Drawer(id="compare-how", title="How this was computed", position="right", size="lg", padding="md"),
            dcc.Store(id="compare-lanes"),
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
            "Tokens a second one user sees, at the sizes kept ready and the one asked for, which is dotted.",
            nothing,
        ),
        figure_card(
            "compare-cost",
            "Cost over size",
            "USD per million tokens at this load: all that is owned and paid over its life.",
            nothing,
        ),
    ]


def _skeleton() -> html.P:
    return html.P("Looking the answer up", className="sentence waiting")


def _controls(values: dict[str, Any]) -> html.Section:
    marks = [{"value": size, "label": f"{size:,}"} for size in SIZES]
    chips = dmc.Slider(
        id="compare-chips",
        value=values["chips"],
        min=64,
        max=1500,
        step=4,
        marks=marks,
        updatemode="mouseup",
        thumbLabel="chips",
        labelAlwaysOn=False,
        className="slider",
    )
    batch = dmc.Slider(
        id="compare-batch",
        value=values["batch"],
        min=1,
        max=64,
        marks=_marks(1, 8, 16, 32, 64),
        updatemode="mouseup",
        thumbLabel="batch",
        className="slider",
    )
    rate = dmc.Slider(
        id="compare-rate",
        value=values["rate"],
        min=1,
        max=100,
        marks=_marks(1, 5, 20, 50, 100),
        updatemode="mouseup",
        thumbLabel="requests a second",
        className="slider",
    )
    context = dmc.Select(
        id="compare-context",
        value=str(values["context"]),
        data=_sizes(values["context"]),
        allowDeselect=False,
        **_named("context"),
    )
    llm = dmc.Select(id="compare-llm", value=values["llm"], data=LLMS, searchable=True, allowDeselect=False, **_named("LLM"))
    networks = dmc.MultiSelect(id="compare-networks", value=values["networks"], data=list(NETWORKS), **_named("networks"))
    return html.Section(
        [
            html.Div(
                field("Chips", chips, "how many chips the cluster has; racks keep their spare nodes beside"), className="span"
            ),
            field("LLM", llm, "which LLM is served, in 8-bit weights"),
            field("Networks", networks, "what joins the chips"),
            field("Batch", batch, "sequences that one iteration advances by a token"),
            field("Context", context, "tokens of context of each sequence of the iteration, the new one included"),
            field("Load, requests/s", rate, "real chat requests that arrive each second, for the tails, power and cost below"),
            field(
                "Library",
                _segments("library", values, LIBRARIES),
                "what a message on a packet network goes through: nothing, verbs, or NCCL",
            ),
            field(
                "Mapping",
                _segments("mapping", values, ("same", "best")),
                "same: all have the scheduled network's best; best: each its own",
            ),
            field(
                "Prices",
                _segments("prices", values, ("buy", "build")),
                "chips at a customer's price, or at what they cost their maker",
            ),
            field(
                "Fairness",
                dmc.Select(
                    id="compare-fairness",
                    value=values["fairness"],
                    data=[{"value": f, "label": f.replace("_", " ")} for f in FAIRNESS],
                    allowDeselect=False,
                    **_named("fairness"),
                ),
                "what packet networks get for a chip's cables: the same bandwidth, as many ports, what costs as much, or one bus",
            ),
        ],
        className="controls",
        **{"aria-label": "What is compared"},
    )


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


def connect(app: Dash, own: Store) -> None:
    """Let the answer follow the controls; what is not kept is computed in the background."""
    connect_state(app, "compare", CONTROLS)
    app.clientside_callback(
        ClientsideFunction("dcsim", "play"),
        Output("compare-play", "title"),
        Input("compare-play", "n_clicks"),
        State("compare-lanes", "data"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output("compare-answer", "children"),
        Output("compare-tiles", "children"),
        Output("compare-waterfall", "figure"),
        Output("compare-speed", "figure"),
        Output("compare-cost", "figure"),
        Output("compare-body", "hidden"),
        Output("compare-table", "children"),
        Output("compare-feel", "children"),
        Output("compare-lanes", "data"),
        Output("compare-status", "children"),
        Output("compare-job", "data"),
        Output("compare-tick", "disabled"),
        [Input(f"compare-{name}", "value") for name in NAMES],
        Input("compare-tick", "n_intervals"),
        State("compare-job", "data"),
    )
    def show(*args: Any) -> Any:
        values, notices = read_state(CONTROLS, {name: _text(value) for name, value in zip(NAMES, args, strict=False)})
        last = args[-1] or {}
        here = store()
        asked = Asked(values, here)
        if ctx.triggered_id == "compare-tick" and last:
            return (*_while_computing(here, asked, last),)
        if last:
            here.jobs.cancel(last.get("job"))
        job = None
        missing = here.points.missing(asked.pieces)
        if missing and not notices:
            title = f"compare {values['chips']} chips, {values['llm']}"
            job = here.jobs.submit("points", {"pieces": [piece.as_json() for piece in missing]}, title)
        status = notices_view(notices) if notices else _status(here, asked, job)
        return (*asked.view(), status, {"job": job, "kept": asked.kept} if job else None, job is None)

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

    @app.callback(
        Output("compare-how", "opened"),
        Output("compare-how", "children"),
        Input("compare-waterfall", "clickData"),
        Input({"how": "network", "name": ALL}, "n_clicks"),
        [State(f"compare-{name}", "value") for name in NAMES],
        prevent_initial_call=True,
    )
    def explain(clicked: Any, buttons: Any, *args: Any) -> Any:
        values, _ = read_state(CONTROLS, {name: _text(value) for name, value in zip(NAMES, args, strict=True)})
        if isinstance(ctx.triggered_id, dict):
            if not any(buttons):
                return no_update, no_update
            network = ctx.triggered_id["name"]
        else:
            network = str(clicked["points"][0]["y"]).partition(" ")[0] if clicked else ""
        if network not in NETWORKS:
            return no_update, no_update
        return True, _how(Asked(values, store()), network)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


class Asked:
    """One question as the page asks it, and what is kept of its answer."""

    def __init__(self, values: dict[str, Any], here: Store) -> None:
        self.values, self._here = values, here
        shared = ("chips", "llm", "batch", "context", "rate", "fairness", "mapping")
        self.question = Question(**{name: values[name] for name in shared} | {"rate": float(values["rate"])})
        self.networks = [network for network in NETWORKS if network in values["networks"]]
        self.library = values["library"]
        self.pieces = side_by_side.pieces(self.question, tuple(self.networks), self.library)
        self.points: dict[Piece, Point | None] = {piece: here.points.find(piece) for piece in self.pieces}

    @property
    def kept(self) -> int:
        """Pieces of which an answer is kept."""
        return sum(point is not None for point in self.points.values())

    def piece(self, kind: str, network: str) -> Piece:
        """The piece of one network."""
        return next(piece for piece in self.pieces if piece.kind == kind and piece.network == network)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each network that can be built: its iteration and, where there is one, its served load."""
        found = []
        for network in self.networks:
            point = self.points[self.piece(ITERATION, network)]
            rows = point.answer.get("rows", []) if point else []
            row = next((row for row in rows if row["software"] in (None, self.library)), None)
            if row is None:
                continue
            served = self.points[self.piece(SERVED, network)]
            answer = served.answer if served and "summary" in served.answer else None
            stale = STALE in (point.origin, served.origin if served else "") if point else False
            cost = answer["usd_per_mtoken"][self.values["prices"]] if answer else None
            found.append({**row, "served": answer, "usd_per_mtoken": cost, "stale": stale})
        return found

    def reasons(self) -> dict[str, str]:
        """Why a network is left out, by its name."""
        found = {}
        for network in self.networks:
            for kind in (ITERATION, SERVED):
                point = self.points[self.piece(kind, network)]
                if point and "reason" in point.answer:
                    found.setdefault(network, point.answer["reason"])
        return found

    def view(self) -> tuple[Any, ...]:
        """The answer, and what NOTHING lists."""
        rows, reasons = self.rows(), self.reasons()
        judged = verdict(rows)
        if judged is None:
            if reasons:
                words = [html.P(f"{network}: {reason}") for network, reason in reasons.items()]
                return message("No network here can serve that", words), *NOTHING
            return _skeleton(), *NOTHING
        answer = html.P(sentence(judged, self.question.chips, self.question.llm), className="sentence", id="compare-sentence")
        left_out = [html.P(f"{network} is left out: {reason}", className="left-out") for network, reason in reasons.items()]
        lanes = [self._lane(i, row) for i, row in enumerate(rows)]
        played = [
            {
                "ttft": (row["served"] or {}).get("ttft_s_quantiles", []),
                "gaps": (row["served"] or {}).get("gap_s_quantiles", []),
                "tokens": TOKENS_PLAYED,
            }
            for row in rows
        ]
        tiles = [self._tile(row, row is judged.fastest, row is judged.cheapest) for row in rows]
        return html.Div([answer, *left_out]), tiles, *self._figures(rows), False, self._table(rows), lanes, played

    def _lane(self, i: int, row: dict[str, Any]) -> html.Div:
        bar = html.Div([html.Span(_title(row)), html.Span("", id=f"feel-count-{i}", className="count")], className="lane-head")
        style = {"borderTopColor": _colour(row["interconnect"])}
        return html.Div(
            [bar, html.P("", id=f"feel-text-{i}", className="lane-text", **{"aria-live": "off"})], className="lane", style=style
        )

    def _tile(self, row: dict[str, Any], fastest: bool, cheapest: bool) -> html.Div:
        marks = [word for word, holds in (("fastest", fastest), ("cheapest", cheapest)) if holds]
        served = row["served"]
        small = [
            ("USD per million tokens", _usd(row["usd_per_mtoken"])),
            ("TTFT p99", _time(served, "ttft_s_p99")),
            ("TPOT p99", _time(served, "tpot_s_p99")),
        ]
        small.append(("power", format_power(served["summary"]["power_w_mean"], 3) if served else "–"))
        how = html.Button(
            "how?",
            type="button",
            className="save",
            id={"how": "network", "name": row["interconnect"]},
            **{"aria-label": f"How {_title(row)} was computed"},
        )
        badges = [html.Span(mark, className="badge win") for mark in marks]
        badges += [html.Span("stale", className="badge")] if row["stale"] else []
        return html.Div(
            [
                html.Div([html.Span(_title(row), className="tile-name"), *badges, how], className="tile-head"),
                html.Div(
                    [html.Span(f"{row['tokens_per_s_per_user']:,.4g}", className="big"), " tokens/s a user"], className="large"
                ),
                html.Dl([html.Div([html.Dt(name), html.Dd(value)]) for name, value in small], className="pairs"),
            ],
            className="tile stale" if row["stale"] else "tile",
            style={"borderTopColor": _colour(row["interconnect"])},
            **{"data-network": row["interconnect"]},
        )

    def _figures(self, rows: list[dict[str, Any]]) -> list[Any]:
        """The waterfall, speed and cost over size."""
        speed, cost = self._over_sizes()
        here = self.question.chips
        return [
            waterfall(rows),
            over_size(speed, "speed", "tokens/s a user", here, NETWORKS),
            over_size(cost, "cost", "USD per million tokens", here, NETWORKS),
        ]

    def _over_sizes(self) -> tuple[dict[str, list[tuple[int, float | None]]], dict[str, list[tuple[int, float | None]]]]:
        """Speed and cost by network at the sizes kept ready and at the one asked for, as far as they are known."""
        speed: dict[str, list[tuple[int, float | None]]] = {network: [] for network in self.networks}
        cost: dict[str, list[tuple[int, float | None]]] = {network: [] for network in self.networks}
        for chips in sorted({*SIZES, self.question.chips}):
            there = Asked(self.values | {"chips": chips}, self._here)
            for row in there.rows():
                speed[row["interconnect"]].append((chips, row["tokens_per_s_per_user"]))
                cost[row["interconnect"]].append((chips, row["usd_per_mtoken"]))
        return speed, cost

    def _table(self, rows: list[dict[str, Any]]) -> html.Div:
        prices = self.values["prices"]
        head = html.Tr([html.Th("", scope="col"), *(html.Th(_title(row), scope="col") for row in rows)])
        body = []
        for section, lines in LINES:
            body.append(html.Tr(html.Th(section, colSpan=len(rows) + 1, scope="colgroup"), className="section"))
            for name, words, read in lines:
                cells = [html.Td(read(row, prices)) for row in rows]
                body.append(html.Tr([html.Th([name, " ", meaning(words, name)], scope="row"), *cells]))
        table = html.Table([html.Thead(head), html.Tbody(body)], className="numbers")
        return html.Div(table, className="scroll card", tabIndex=0, role="region", **{"aria-label": "All numbers"})


def _title(row: dict[str, Any]) -> str:
    return f"{row['interconnect']} {row['software'] or ''}".strip()


def _colour(network: str) -> str:
    return COLOURS[NETWORKS.index(network) % len(COLOURS)]


def _usd(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}"


def _time(served: dict[str, Any] | None, name: str) -> str:
    value = None if served is None else served["summary"].get(name, served.get(name))
    return "–" if value is None else format_time(value)


def _of(name: str, show: Any) -> Any:
    """Reads a number of the served load's summary."""

    def read(row: dict[str, Any], _: str) -> str:
        value = row["served"]["summary"].get(name) if row["served"] else None
        return "–" if value is None else show(value)

    return read


def _served_time(name: str) -> Any:
    return lambda row, _: _time(row["served"], name)


def _part(name: str) -> Any:
    return lambda row, _: f"{row['parts'][name]:,}"


def _tails(column: str) -> list[tuple[str, str, Any]]:
    label = column.removesuffix("_s").upper()
    words = {"TTFT": "time to first token, queueing included", "TPOT": "time per output token after the first"}[label]
    return [
        (
            f"{label} {name}",
            f"{words}: {of} of finished requests",
            _served_time(f"{column}_{name.replace('.', '')}"),
        )
        for name, of in (("p50", "median"), ("p90", "90 %"), ("p99", "99 %"), ("p99.9", "99.9 %"))
    ]


def _capacity(row: dict[str, Any], _: str) -> str:
    served = row["served"]
    if not served or served["requests_per_s_in_slo"] is None:
        return "–"
    return f"{served['requests_per_s_in_slo']:,.3g} requests/s" if served["requests_per_s_in_slo"] else "none"


LINES: list[tuple[str, list[tuple[str, str, Any]]]] = [
    (
        "One iteration",
        [
            (
                "Time",
                "from the start of the first stage to the sampled token back there",
                lambda row, _: format_time(row["iteration_s_mean"]),
            ),
            (
                "Tokens/s a user",
                "one token an iteration for each sequence",
                lambda row, _: f"{row['tokens_per_s_per_user']:,.4g}",
            ),
            ("Time p99", "99 % of successive iterations take no longer", lambda row, _: format_time(row["iteration_s_p99"])),
            ("Time p99.9", "99.9 % of successive iterations take no longer", lambda row, _: format_time(row["iteration_s_p999"])),
            ("Mapping", "tensor and pipeline degree", lambda row, _: f"tp {row['tp']}, pp {row['pp']}"),
        ],
    ),
    (
        "The load",
        [
            *_tails("ttft_s"),
            *_tails("tpot_s"),
            (
                "Limited by",
                "what most of the requests' time was spent on or waiting for",
                _of("limited_by", lambda name: name.replace("_", " ")),
            ),
            (
                "Capacity in the SLO",
                "most requests a second with every token inside the SLO, from one replica's best steady state; "
                "prompts are not counted: `dcsim capacity` simulates them",
                _capacity,
            ),
        ],
    ),
    (
        "What it takes",
        [
            ("Chips", "installed, spares included", _part("chips")),
            ("Racks", "that hold chips", _part("racks")),
            ("Switch racks", "that hold switches alone", _part("switch_racks")),
            ("Adapters", "chip ports into switches", _part("adapters")),
            ("Switch ports", "of switches outside nodes", _part("switch_ports")),
            ("Cables", "of the network, adapters' included", _part("cables")),
            (
                "Power",
                "at the site's meter, mean while the load is served",
                _of("power_w_mean", lambda watts: format_power(watts, 4)),
            ),
            (
                "Capital",
                "chips, hosts, racks and network, to get",
                lambda row, prices: f"{row['served']['capital_usd'][prices] / 1e6:,.4g} M USD" if row["served"] else "–",
            ),
            (
                "USD per million tokens",
                "everything owned and paid over its life, over the output tokens at this load",
                lambda row, _: _usd(row["usd_per_mtoken"]),
            ),
            (
                "J per token",
                "energy at the site's meter over output tokens, at this load",
                _of("energy_j_per_token", lambda joules: f"{joules:,.4g}"),
            ),
        ],
    ),
]


def _status(here: Store, asked: Asked, job: str | None) -> html.Div:
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


def _while_computing(here: Store, asked: Asked, last: dict[str, Any]) -> tuple[Any, ...]:
    """How far the background work is; what is new of the answer since the last look."""
    here.jobs.wake()
    job = here.jobs.find(last.get("job"))
    same = (no_update,) * (1 + len(NOTHING))
    if job is not None and not job.over:
        view = asked.view() if asked.kept != last.get("kept") else same
        return (*view, _status(here, asked, job.name), {"job": job.name, "kept": asked.kept}, False)
    if job is not None and job.state == "failed":
        return (*asked.view(), message("This could not be computed", job.note, kind="error"), None, True)
    if job is not None and job.state == "cancelled":
        return (*asked.view(), html.Span("Cancelled. Move a control to ask again.", className="badge"), None, True)
    return (*asked.view(), _status(here, asked, None), None, True)


def _how(asked: Asked, network: str) -> list[Any]:
    """How one network's numbers came about: the parts of its time, the commands that give it, its bill, its figures."""
    row = next((found for found in asked.rows() if found["interconnect"] == network), None)
    pieces = [asked.piece(kind, network) for kind in (ITERATION, SERVED)]
    content: list[Any] = [html.H3(_title(row) if row else network)]
    content += [html.P("These commands give the same numbers:")]
    own = next((found for found in asked.rows() if found["interconnect"] == side_by_side.OWN), row)
    degrees = (own["tp"], own["pp"]) if own else None
    content += [code_line(side_by_side.command(piece, degrees)) for piece in pieces]
    if row:
        parts = [
            html.Tr(
                [
                    html.Th(part, scope="row"),
                    html.Td(format_time(seconds)),
                    html.Td({"compute": COMPUTE_MEANING, **MEANING}[part]),
                ]
            )
            for part, seconds in row["waterfall_s"].items()
        ]
        content += [html.H3("One iteration"), html.Table(html.Tbody(parts), className="numbers")]
        if row["served"]:
            lines = row["served"]["bill"][asked.values["prices"]]
            bill = [
                html.Tr(
                    [
                        html.Th(line["item"], scope="row"),
                        html.Td(f"{line['count']:,}"),
                        html.Td(f"{line['usd']:,.0f} USD"),
                        html.Td(f"{line['kind']}: {line['source']}"),
                    ]
                )
                for line in lines
            ]
            content += [html.H3("What it costs to get"), html.Table(html.Tbody(bill), className="numbers")]
    figures = side_by_side.figures_of(pieces[1])
    lines = [
        html.Tr(
            [html.Th(figure["key"], scope="row"), html.Td(figure["value"]), html.Td(figure["kind"]), html.Td(figure["source"])]
        )
        for figure in figures
    ]
    content += [html.H3("Figures from the world"), html.Table(html.Tbody(lines), className="numbers sources")]
    return content
