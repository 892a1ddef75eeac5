"""Pieces that all pages are made of: cards with figures, numbers with their meaning, and what stands where there is nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import dcc, html

from dashboard.jobs import BackgroundJob
from dashboard.runs import store
from dashboard.state import Control

GRAPH: Any = {"displaylogo": False, "responsive": True, "displayModeBar": False, "scrollZoom": False}


def text(value: Any) -> str:
    """A value from a file as text, whatever it is: an object never becomes a part of the page."""
    return value if isinstance(value, str) else "" if value is None else str(value)


def meaning(words: str, about: str) -> Any:
    """A question mark that says what a number means, to a mouse and to the keyboard."""
    mark = html.Button("?", type="button", className="what", **{"aria-label": f"{about}: {words}"})
    return dmc.Tooltip(
        mark,
        label=words,
        multiline=True,
        w=280,
        withArrow=True,
        events={"hover": True, "focus": True, "touch": True},
        boxWrapperProps={"style": {"display": "inline-block"}},  # beside the number, not below it
    )


def figure_card(name: str, title: str, words: Any, figure: Any, *, wide: bool = False, below: Any = None) -> html.Figure:
    """A figure with its title, what it shows, and buttons that save it; `name` is the figure's id."""
    height = figure["layout"].get("height", 320) if isinstance(figure, dict) else figure.layout.height
    graph = dcc.Graph(id=name, figure=figure, config=GRAPH, style={"height": height}, responsive=True)
    saves = [
        html.Button(
            kind, type="button", className="save", **{"data-save": kind.lower(), "data-figure": name, "aria-label": label}
        )
        for kind, label in ((k, f"Save '{title}' as {k}") for k in ("PNG", "SVG", "CSV"))
    ]
    head = html.Div([html.H2(title), html.Div(saves, className="saves")], className="card-head")
    children = [html.Figcaption([head, html.P(words)]), graph, *([below] if below is not None else [])]
    return html.Figure(children, className="card wide" if wide else "card")


def message(title: str, words: Any, *, kind: str = "empty") -> html.Div:
    """What stands in place of content: `kind` is empty, error or busy."""
    return html.Div([html.H2(title), html.P(words)], className=f"message {kind}", role="alert" if kind == "error" else "status")


def facts(pairs: Sequence[tuple[str, Any]]) -> html.Dl:
    """Names and values in a row."""
    return html.Dl([html.Div([html.Dt(name), html.Dd(value)]) for name, value in pairs], className="facts")


def code_line(command: str) -> html.Div:
    """A command line with a button that copies it."""
    return html.Div(
        [html.Code(command), html.Button("copy", type="button", className="save", **{"data-copy": command})], className="command"
    )


def working(page: str, job: BackgroundJob | None, title: str = "Computing") -> html.Div:
    """How far background work is, with the way to stop it; `page` begins the ids."""
    done, total = (job.done, job.total) if job else (0, 0)
    note = "waits for a free worker" if job is None or job.state == "waiting" else job.note
    words = f"{title}, {done} of {total}: {note}" if total else f"{title}: {note}"
    bar = dmc.Progress(value=100 * done / total if total else 4, striped=True, animated=True, **{"aria-label": "progress"})
    stop = html.Button("Cancel", id=f"{page}-cancel", type="button", className="save")
    return html.Div([bar, html.Div([html.Span(words, id=f"{page}-progress"), stop], className="busy-line")])


def field(label: str, control: Any, words: str = "") -> html.Div:
    """A control under its label, with what it means."""
    mark = [meaning(words, label)] if words else []
    return html.Div(
        [html.Div([html.Label(label, htmlFor=control.id), *mark], className="field-label"), control], className="field"
    )


def select(name: str, value: Any, data: Sequence[Any], labels: dict[str, str] | None = None) -> Any:
    """A choice of one, found by typing; `labels` are shown in place of some values."""
    shown = [entry if isinstance(entry, dict) else {"value": entry, "label": (labels or {}).get(entry, entry)} for entry in data]
    return dmc.Select(id=name, value=value, data=shown, searchable=True, allowDeselect=False)


def more_fields(title: str, fields: Sequence[Any], controls: Sequence[Control], values: dict[str, Any]) -> html.Details:
    """Fields that few need, folded away unless one of their controls is not at its default."""
    is_open = any(values[control.name] != control.default for control in controls)
    return html.Details([html.Summary(f"More: {title}"), html.Div(list(fields), className="controls form-fields")], open=is_open)


def done_here(kind: str, title: str) -> list[Any]:
    """Links to the latest work of a kind, under way or over."""
    jobs = [job for job in store().jobs.all() if job.kind == kind and job.link][:10]
    lines = [html.Li([html.Span(job.state, className="badge"), " ", dcc.Link(job.title, href=job.link)]) for job in jobs]
    return [html.Section([html.H2(title), html.Ul(lines, className="plain")], className="card below")] if jobs else []


def heading(title: str, words: Any) -> html.Div:
    """What a page is about."""
    return html.Div([html.H1(title), html.P(words)], className="heading")


def rows_table(
    name: str, title: str, words: Any, rows: Sequence[dict[str, Any]], columns: Sequence[dict[str, Any]]
) -> html.Section:
    """A card with a table that is sorted and filtered in the browser, and a button that saves what it shows as CSV."""
    grid = dag.AgGrid(
        id=name,
        rowData=list(rows),
        columnDefs=list(columns),
        defaultColDef={"sortable": True, "filter": True, "floatingFilter": True, "resizable": True},
        dashGridOptions={
            "rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True},
            "animateRows": False,
            "suppressFieldDotNotation": True,
        },
        className="ag-theme-quartz grid lines",
        style={"height": min(560, 110 + 43 * max(2, len(rows)))},
    )
    save = html.Button("CSV", type="button", className="save", **{"data-grid": name, "aria-label": f"Save '{title}' as CSV"})
    head = html.Div([html.H2(title), html.Div(save, className="saves")], className="card-head")
    return html.Section([head, html.P(words), grid], className="card below", **{"aria-label": title})


def column(field: str, title: str, rows: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A column of a table; numbers with four digits and a filter of their own."""
    numbers = all(isinstance(row.get(field), (int, float, type(None))) for row in rows)
    shown = {"function": "params.value == null ? '' : d3.format(',.4~r')(params.value)"}
    own = {"type": "numericColumn", "filter": "agNumberColumnFilter", "valueFormatter": shown} if numbers else {}
    return {"field": field, "headerName": title, "minWidth": 90, **own, **more}


def saved_as(links: Sequence[tuple[str, str]]) -> html.P:
    """Files that the server makes of what is seen: a word and an address each."""
    return html.P(
        [html.A(word, href=address, className="save", download=True) for word, address in links], className="saves below"
    )
