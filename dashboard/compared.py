"""What a comparison shows of its answer: rows, tiles, figures and the table of all numbers."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from dash import dcc, html

from dashboard.parts import meaning, message
from dashboard.points import STALE, KeptAnswer
from dashboard.runs import RunFolder
from dcsim.results.curves import COLOURS, over_size
from dcsim.results.pictures import waterfall
from dcsim.study import side_by_side
from dcsim.study.side_by_side import CAPACITY, ITERATION, LLMS, NETWORKS, SERVED, SIZES, Cell, Question
from dcsim.study.verdict import sentence, verdict
from dcsim.units import format_power, format_time

TOKENS_PLAYED = 400
# Tiles, whether all of it is hidden, table, lanes, what they play.
NOTHING: tuple[Any, ...] = ([], True, [], [], [])


def skeleton() -> html.P:
    """What stands in place of an answer that is looked up."""
    return html.P("Looking the answer up", className="sentence waiting")


class Compared:
    """One question as the page asks it, and what is kept of its answer."""

    def __init__(self, values: dict[str, Any], here: RunFolder) -> None:
        self.values, self._here = values, here
        shared = ("chips", "llm", "batch", "context", "rate", "fairness", "objective", "mapping")
        self.question = Question(**{name: values[name] for name in shared} | {"rate": float(values["rate"])})
        self.networks = [network for network in NETWORKS if network in values["networks"]]
        self.library = values["library"]
        self.cells = side_by_side.cells(self.question, tuple(self.networks), self.library)
        self.capacity_cells = side_by_side.capacity_cells(self.question, tuple(self.networks), self.library)
        self.points: dict[Cell, KeptAnswer | None] = {
            cell: here.points.find(cell) for cell in (*self.cells, *self.capacity_cells)
        }

    @property
    def kept(self) -> int:
        """Pieces of which an answer is kept."""
        return sum(point is not None for point in self.points.values())

    def cell(self, kind: str, network: str) -> Cell:
        """The cell of one network."""
        return next(cell for cell in self.points if cell.kind == kind and cell.network == network)

    def command(self, cell: Cell) -> str | None:
        """The command line that gives a cell's numbers; None where its mapping is not known before it is computed."""
        point = self.points[cell]
        if cell.kind != ITERATION and point is None:
            return None
        return side_by_side.command(cell, point.answer.get("settings") if point else None)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each network that can be built: its iteration and, where there is one, its served load."""
        found = []
        for network in self.networks:
            point = self.points[self.cell(ITERATION, network)]
            rows = point.answer.get("rows", []) if point else []
            row = next((row for row in rows if row["software"] in (None, self.library)), None)
            if row is None:
                continue
            served = self.points[self.cell(SERVED, network)]
            answer = served.answer if served and "summary" in served.answer else None
            stale = STALE in (point.origin, served.origin if served else "") if point else False
            cost = answer["usd_per_mtoken"][self.values["prices"]] if answer else None
            capacity = self.points[self.cell(CAPACITY, network)]
            most = capacity.answer if capacity and capacity.origin != STALE else None
            found.append({**row, "served": answer, "capacity": most, "usd_per_mtoken": cost, "stale": stale})
        return found

    def reasons(self) -> dict[str, str]:
        """Why a network is left out, by its name."""
        found = {}
        for network in self.networks:
            for kind in (ITERATION, SERVED):
                point = self.points[self.cell(kind, network)]
                if point and "reason" in point.answer:
                    found.setdefault(network, point.answer["reason"])
        return found

    def view(self) -> tuple[Any, ...]:
        """The answer, and what NOTHING lists."""
        rows, reasons = self.rows(), self.reasons()
        judged = verdict(rows)
        if judged is None:
            if reasons:
                return message("No network here can serve that", [*_why(reasons), *self._instead()]), *NOTHING
            return skeleton(), *NOTHING
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
        return html.Div([answer, *left_out]), tiles, False, self._table(rows), lanes, played

    def _instead(self) -> list[html.P]:
        """Links to what is known to be served: the same LLM on the next larger size, and another on this one."""
        asked = self.question
        larger = [self.values | {"chips": chips} for chips in SIZES if chips > asked.chips]
        others = [self.values | {"llm": llm} for llm in LLMS if llm != asked.llm]
        known = [next((one for one in some if Compared(one, self._here).rows()), None) for some in (larger, others)]
        links = [dcc.Link(f"{one['llm']} on {one['chips']:,} chips", href=_link(one)) for one in known if one is not None]
        return [html.P(["What can be served: ", *(part for link in links for part in (link, " "))])] if links else []

    def _lane(self, i: int, row: dict[str, Any]) -> html.Div:
        bar = html.Div([html.Span(title_of(row)), html.Span("", id=f"feel-count-{i}", className="count")], className="lane-head")
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
        small.append(("Power", format_power(served["summary"]["power_w_mean"], 3) if served else "–"))
        how = html.Button(
            "how?",
            type="button",
            className="save",
            id={"how": "network", "name": row["interconnect"]},
            **{"aria-label": f"How {title_of(row)} was computed"},
        )
        badges = [html.Span(mark, className="badge win") for mark in marks]
        badges += [html.Span("stale", className="badge")] if row["stale"] else []
        return html.Div(
            [
                html.Div([html.Span(title_of(row), className="tile-name"), *badges], className="tile-head"),
                html.Div(
                    [
                        html.Span(f"{row['tokens_per_s_per_user']:,.4g}", className="big"),
                        " tokens/s a user ",
                        meaning(WORDS["Tokens/s a user"], "Tokens/s a user"),
                    ],
                    className="large",
                ),
                html.Dl(
                    [html.Div([html.Dt([name, " ", meaning(WORDS[name], name)]), html.Dd(value)]) for name, value in small],
                    className="pairs",
                ),
                html.Div(how, className="tile-foot"),
            ],
            className="tile stale" if row["stale"] else "tile",
            style={"borderTopColor": _colour(row["interconnect"])},
            **{"data-network": row["interconnect"]},
        )

    def figures(self) -> list[Any]:
        """The waterfall, speed and cost over size."""
        rows, (speed, cost) = self.rows(), self._over_sizes()
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
            there = Compared(self.values | {"chips": chips}, self._here)
            for row in there.rows():
                speed[row["interconnect"]].append((chips, row["tokens_per_s_per_user"]))
                cost[row["interconnect"]].append((chips, row["usd_per_mtoken"]))
        return speed, cost

    def _table(self, rows: list[dict[str, Any]]) -> html.Div:
        prices = self.values["prices"]
        head = html.Tr([html.Th("", scope="col"), *(html.Th(title_of(row), scope="col") for row in rows)])
        body = []
        for section, lines in LINES:
            body.append(html.Tr(html.Th(section, colSpan=len(rows) + 1, scope="colgroup"), className="section"))
            for name, words, read in lines:
                cells = [html.Td(read(row, prices)) for row in rows]
                body.append(html.Tr([html.Th([name, " ", meaning(words, name)], scope="row"), *cells]))
        table = html.Table([html.Thead(head), html.Tbody(body)], className="numbers")
        return html.Div(table, className="scroll card", tabIndex=0, role="region", **{"aria-label": "All numbers"})


def _link(values: dict[str, Any]) -> str:
    """The address of the comparison with these values."""
    told = {name: ",".join(value) if isinstance(value, list) else value for name, value in values.items()}
    return f"/?{urlencode(told, safe=',')}"


def _why(reasons: dict[str, str]) -> list[html.P]:
    """Each reason once, with the networks that it is of."""
    networks: dict[str, list[str]] = {}
    for network, reason in reasons.items():
        networks.setdefault(reason, []).append(network)
    return [html.P(f"{', '.join(names)}: {reason}") for reason, names in networks.items()]


def title_of(row: dict[str, Any]) -> str:
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
    served, simulated = row["served"], row["capacity"]
    if simulated is not None:
        if "reason" in simulated:
            return "none (simulated)"
        return f"{simulated['capacity_requests_per_s']:,.3g} requests/s (simulated)"
    if not served or served["requests_per_s_in_slo"] is None:
        return "–"
    rate = served["requests_per_s_in_slo"]
    return f"{rate:,.3g} requests/s (estimate)" if rate else "none (estimate)"


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
            (
                "Mapping",
                "tensor and pipeline degree, and how many copies of the LLM",
                lambda row, _: f"tp {row['tp']}, pp {row['pp']}, replicas {row.get('replicas', 1)}",
            ),
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
                "most requests a second inside the SLO. Simulated: of the whole workload with its prompts, queues and bursts, as "
                "`dcsim capacity` finds it. Estimate: from one replica's best steady state, without prompts",
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

WORDS = {name: words for _, lines in LINES for name, words, _ in lines}  # what each number means
