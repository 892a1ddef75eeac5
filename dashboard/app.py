"""The dashboard: a bar with the pages, and the page asked for. Everything is served from one machine, from one folder."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import dash
import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, dcc, html
from flask import Flask

from dashboard.downloads import offer
from dashboard.guard import LOOPBACK_NAMES, guard
from dashboard.pages import claims as claims_page
from dashboard.pages import compare as compare_page
from dashboard.pages import plan as plan_page
from dashboard.pages import run as run_page
from dashboard.pages import schedule as schedule_page
from dashboard.pages import sweep as sweep_page
from dashboard.pages import systems as systems_page
from dashboard.pages import topology as topology_page
from dashboard.parts import message
from dashboard.runs import RunFolder
from dcsim import __version__

# Address of each page and the module that draws it; the first is the front page.
PAGES: dict[str, ModuleType] = {
    "/": compare_page,
    "/run": run_page,
    "/topology": topology_page,
    "/schedule": schedule_page,
    "/plan": plan_page,
    "/sweep": sweep_page,
    "/systems": systems_page,
    "/claims": claims_page,
}
UPLOAD_MAX = 8 << 20  # bytes of one request


def make_app(store: Path, *, names: Iterable[str] = LOOPBACK_NAMES, token: str | None = None) -> Dash:
    """A web application on the run folders in `store`, which may be empty, or not exist yet.

    It answers to the host `names` alone; with a `token`, to those who bring it.
    """
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # not a line for every file served
    own = RunFolder(store)
    app = Dash(
        __name__,
        server=_server(names, token),
        title="dcsim",
        update_title="",
        assets_folder=str(Path(__file__).parent / "assets"),
        use_pages=True,
        pages_folder="",
        serve_locally=True,
        compress=True,
        add_log_handler=False,
        suppress_callback_exceptions=True,
        index_string=_INDEX,
    )
    # Dash's registry of pages is one for the process: pages ask the app they are served by for its store.
    app.server.config["DCSIM_STORE"] = own
    dash.page_registry.clear()
    for order, (address, page) in enumerate(PAGES.items()):
        dash.register_page(
            page.__name__, path=address, name=page.TITLE, title=f"{page.TITLE} - dcsim", order=order, layout=page.layout
        )
        page.connect(app, own)
    dash.register_page("not_found_404", path="/404", layout=_not_found)
    app.layout = _frame
    app.clientside_callback(
        ClientsideFunction("dcsim", "copy_link"), Output("copy-link", "children"), Input("copy-link", "n_clicks")
    )
    offer(app.server, own)
    own.jobs.wake()
    return app


def _server(names: Iterable[str], token: str | None) -> Flask:
    """What serves the pages: guarded, its answers compressed, those that never change once."""
    server = Flask(__name__)
    server.config["MAX_CONTENT_LENGTH"] = UPLOAD_MAX
    server.config["COMPRESS_CACHE_BACKEND"] = _Kept
    server.config["COMPRESS_CACHE_KEY"] = lambda asked: asked.full_path
    server.config["COMPRESS_MIMETYPES"] = [
        "text/html",
        "text/css",
        "application/json",
        "application/javascript",
        "text/javascript",
    ]
    server.config["COMPRESS_ALGORITHM"] = ["gzip"]
    guard(server, names, token)
    return server


class _Kept(dict[str, Any]):
    """Compressed files of libraries, which are many and large and never change; nothing else."""

    def set(self, key: str, value: Any) -> None:
        """Keep a file of a library."""
        if key.startswith("/_dash-component-suites/"):
            self[key] = value


def _frame() -> Any:
    links = [dcc.Link(page.TITLE, href=address, className="page-link") for address, page in PAGES.items()]
    brand = dcc.Link([html.Span("dc", className="mark"), "sim"], href="/", className="brand")
    right = html.Div(
        [
            html.Button("Copy link", id="copy-link", type="button", className="save"),
            dmc.ColorSchemeToggle(
                lightIcon="☀", darkIcon="☾", variant="default", size="md", **{"aria-label": "Switch between light and dark"}
            ),
        ],
        className="bar-right",
    )
    return dmc.MantineProvider(
        [
            html.A("Skip to content", href="#page", className="skip"),
            html.Header([brand, html.Nav(links, **{"aria-label": "Pages"}), right], className="bar"),
            html.Main(dash.page_container, id="page", tabIndex=-1),
            html.Footer(f"dcsim {__version__}: every number is simulated on this machine", className="foot"),
        ],
        defaultColorScheme="auto",
        theme={"primaryColor": "blue", "fontFamily": "inherit"},
    )


def _not_found(**_: Any) -> html.Div:
    return message("No such page", ["There is no page of this address. ", dcc.Link("Compare networks", href="/")], kind="error")


# The colours of light and dark are known before anything is drawn, so that no page flashes white at night.
_INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
{%metas%}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{%title%}</title>
{%favicon%}
{%css%}
<script>
(function () {
  var kept = null;
  try { kept = localStorage.getItem("mantine-color-scheme-value"); } catch (e) {}
  var dark = kept === "dark" || ((!kept || kept === "auto") && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.setAttribute("data-mantine-color-scheme", dark ? "dark" : "light");
})();
</script>
</head>
<body>
{%app_entry%}
<footer>
{%config%}
{%scripts%}
{%renderer%}
</footer>
</body>
</html>
"""
