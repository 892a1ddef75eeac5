"""The dashboard: a bar with the pages, and the page asked for. Everything is served from this machine."""

from __future__ import annotations

import logging
from pathlib import Path
from types import ModuleType

from dash import Dash, Input, Output, dcc, html

from dashboard.pages import run as run_page
from dashboard.runs import Runs

# Address of each page and the module that draws it; the first is the front page.
PAGES: dict[str, ModuleType] = {"/": run_page}


def make_app(run_folder: Path) -> Dash:
    """A web application on `run_folder` and the runs beside it; RunStoreError if it holds no run."""
    runs = Runs(run_folder)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # not a line for every file served
    app = Dash(
        __name__,
        title="dcsim",
        update_title="",
        assets_folder=str(Path(__file__).parent / "assets"),
        use_pages=False,
        serve_locally=True,
        add_log_handler=False,
        suppress_callback_exceptions=True,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    app.layout = _frame
    for page in PAGES.values():
        page.connect(app, runs)

    @app.callback(Output("page", "children"), Input("address", "pathname"))
    def show(address: str) -> html.Div:
        page = PAGES.get(address)
        if page is None:
            return html.Div(f"There is no page {address} here.", className="message")
        content: html.Div = page.layout(runs)
        return content

    return app


def _frame() -> html.Div:
    links = [dcc.Link(page.TITLE, href=address) for address, page in PAGES.items()]
    brand = html.Span([html.Span("dc", className="mark"), "sim"], className="brand")
    return html.Div(
        [
            dcc.Location(id="address"),
            html.Header([brand, html.Nav(links)], className="bar"),
            html.Main(id="page"),
        ]
    )
