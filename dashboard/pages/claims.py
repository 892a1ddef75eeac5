"""Claims: what others published and measured, what is simulated for it here, and how far apart the two are."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import Dash, Input, Output, html, no_update

from dashboard.background import Answered, connect_answer, layout_of
from dashboard.parts import field, figure_card, heading
from dashboard.runs import RunFolder
from dashboard.state import Control, one_of
from dcsim.results.pictures import AXIS, BLUE, GREEN, INK, VERMILION, look, nothing_here
from validation import store as kept_rows
from validation.claims import Claim, read_claims
from validation.page import GROUPS, number, published
from validation.table import described

TITLE = "Claims"
VERDICTS = ("all", "reproduced", "depends on", "contradicted", "not run yet")
COLOURS = {"reproduced": GREEN, "depends on": BLUE, "contradicted": VERMILION}
MARKS = {"reproduced": "circle", "depends on": "diamond", "contradicted": "x"}

CONTROLS = (Control("verdict", "all", one_of(VERDICTS)), Control("group", "all", one_of(("all", *GROUPS))))
WORDS = (
    "Every row is something that was published or measured, with its source. It is simulated by the command beside it and judged "
    "by one rule for all."
)


def layout(**query: Any) -> html.Div:
    """The rows, those that were computed with their verdict."""
    return layout_of("claims", CONTROLS, query, heading("Claims", WORDS), _controls, [html.Div(id="claims-row")])


def _controls(values: dict[str, Any]) -> html.Section:
    groups = [{"value": "all", "label": "all sources"}] + [{"value": k, "label": title} for k, title in GROUPS.items()]
    run = html.Button("Simulate all rows", id="claims-start", type="button", className="primary")
    return html.Section(
        [
            field(
                "Verdict",
                dmc.Select(id="claims-verdict", value=values["verdict"], data=list(VERDICTS), allowDeselect=False),
            ),
            field("Source", dmc.Select(id="claims-group", value=values["group"], data=groups, allowDeselect=False)),
            html.Div(run, className="row"),
        ],
        className="controls",
        **{"aria-label": "Which rows"},
    )


def connect(app: Dash, own: RunFolder) -> None:
    """Show the rows chosen; simulate them when asked."""
    connect_answer(app, ANSWER)

    @app.callback(Output("claims-row", "children"), Input("claims-table", "selectedRows"), prevent_initial_call=True)
    def select(rows: list[dict[str, Any]] | None) -> Any:
        if not rows:
            return no_update
        row = rows[0]
        return html.Section(
            [html.H2(f"{row['id']}: {row['claim']}"), html.P(row["source"]), html.Code(row["command"]), html.P(row["missing"])],
            className="card",
        )


def rows_of(found: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Every row as text; with its verdict where it was simulated: `found` in the background, before, or by an earlier version."""
    here = {row["id"]: row for row in found["rows"]} if found else {}
    return [_line(claim, *_known(claim, here)) for claim in read_claims()]


def _known(claim: Claim, here: dict[str, dict[str, Any]]) -> tuple[dict[str, Any] | None, bool]:
    """What is known of a row, and whether the code of today says so."""
    row = here.get(claim.id) or kept_rows.read(claim, _version())
    if row is not None:
        return {**described(claim), **row}, True
    return kept_rows.kept(claim, _version()) or (None, True)


@cache
def _version() -> str:
    """Of the code that serves: it does not change under a server."""
    return kept_rows.version()


def _line(claim: Claim, row: dict[str, Any] | None, is_of_today: bool) -> dict[str, Any]:
    low, high = claim.published
    finite = [low if math.isfinite(low) else 0.0, high if math.isfinite(high) else None]
    own = {"published": low if claim.is_point else finite}
    verdict = row["verdict"].partition(":")[0] if row else "not run yet"
    return {
        "id": claim.id,
        "claim": claim.claim,
        "published": f"{published(own)} {claim.unit}".strip(),
        "simulated": number(row["simulated"]) if row else "",
        "ratio": round(row["ratio"], 3) if row and row["ratio"] is not None else None,
        "verdict": verdict,
        "of": "this version" if row and is_of_today else "an earlier one" if row else "",
        "kind": claim.kind,
        "source": claim.source,
        "command": claim.command,
        "missing": claim.missing,
    }


def _view(found: dict[str, Any] | None, values: dict[str, Any]) -> list[Any]:
    everything = rows_of(found)
    rows = [
        row for row in everything if values["verdict"] in ("all", row["verdict"]) and values["group"] in ("all", row["id"][0])
    ]
    counts = {verdict: sum(row["verdict"] == verdict for row in everything) for verdict in VERDICTS[1:]}
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    old = sum(row["of"] == "an earlier one" for row in everything)
    said += f"; {'all' if old == len(everything) else old} of them by an earlier version" if old else ""
    columns = [
        {"field": "id", "width": 80, "sort": None},
        {"field": "claim", "flex": 3, "minWidth": 240, "wrapText": True, "autoHeight": True},
        {"field": "published", "width": 140},
        {"field": "simulated", "width": 110},
        {"field": "ratio", "width": 90},
        {"field": "verdict", "width": 125},
        {"field": "of", "headerName": "Simulated by", "width": 130},
        {"field": "kind", "width": 115},
    ]
    table = dag.AgGrid(
        id="claims-table",
        rowData=rows,
        columnDefs=columns,
        defaultColDef={"sortable": True, "filter": True, "resizable": True},
        dashGridOptions={
            "rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True},
            "animateRows": False,
        },
        className="ag-theme-quartz grid",
        style={"height": 560},
    )
    return [
        html.P(f"{len(everything)} rows: {said}.", className="sentence", id="claims-sentence"),
        figure_card(
            "claims-ratios",
            "Simulated over published",
            "One dot a row of one value; on the line the two agree.",
            _ratios(rows),
            wide=True,
        ),
        html.Section(
            [html.H2("Rows"), html.P("Click a row for its source, the command that runs it again, and what it lacks."), table],
            className="card",
            style={"marginTop": 16},
        ),
    ]


def _ratios(rows: list[dict[str, Any]]) -> Any:
    """One dot a row, by verdict."""
    from plotly.graph_objects import Figure

    data = []
    for verdict, colour in COLOURS.items():
        own = [row for row in rows if row["verdict"] == verdict and row["ratio"]]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": verdict,
                "x": [row["id"] for row in own],
                "y": [row["ratio"] for row in own],
                "text": [row["claim"] for row in own],
                "marker": {"color": colour, "size": 9, "symbol": MARKS[verdict]},
                "hovertemplate": "%{x}: %{y:.3g}<br>%{text}<extra></extra>",
            }
        )
    ids = [row["id"] for row in rows]
    layout = {
        **look(legend=True, height=330),
        "hovermode": "closest",
        "xaxis": {**AXIS, "categoryorder": "array", "categoryarray": ids, "showticklabels": len(ids) <= 60},
        "yaxis": {**AXIS, "type": "log", "dtick": "D2", "title": {"text": "simulated / published", "font": {"size": 13}}},
        "shapes": [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": {"color": INK, "width": 1}}],
        "annotations": [] if any(row["ratio"] for row in rows) else [nothing_here("no row here was simulated yet")],
    }
    return Figure(data, layout)


ANSWER = Answered(
    page="claims",
    controls=CONTROLS,
    ask=lambda values: {},
    title=lambda values: "claims",
    draw=_view,
    doing="Simulating",
    begins="start",
)
