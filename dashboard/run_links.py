"""The links of a run over time: computed in the background when they are first looked at, as links of each program have to be."""

from __future__ import annotations

from typing import Any

from dash import MATCH, Dash, Input, Output, State, dcc, html, no_update

from dashboard.background import name_of
from dashboard.jobs import DONE
from dashboard.parts import figure_card
from dashboard.runs import store
from dcsim.errors import DcsimError
from dcsim.results.pictures_over_time import links_over_time
from dcsim.results.records import Run

TITLE = "Links, over time"
WORDS = (
    "Share of time in use, by class of links: the busiest link, and the mean of those in use. From the programs that ran and what"
    " links do in one iteration of each; KV between replicas is not among it."
)


def place(run: Run, name: str) -> html.Div:
    """Where the figure comes to stand; `name` begins its id. It asks for itself until it is there."""
    about = {"folder": run.folder.name, "name": name}
    return html.Div(
        [
            html.Div(_card_of("looking for what links did"), id={"run-links": name}),
            dcc.Store(id={"run-links-of": name}, data=about),
            dcc.Interval(id={"run-links-tick": name}, interval=700),
        ]
    )


def connect(app: Dash) -> None:
    """Draw the figure as soon as its job is done."""

    @app.callback(
        Output({"run-links": MATCH}, "children"),
        Output({"run-links-tick": MATCH}, "disabled"),
        Input({"run-links-tick": MATCH}, "n_intervals"),
        State({"run-links-of": MATCH}, "data"),
    )
    def follow(_: int | None, about: dict[str, str]) -> Any:
        try:
            run = store().open(about["folder"])
        except DcsimError as error:
            return _card_of(str(error)), True
        return _seen(run, about["name"])


def _seen(run: Run, name: str) -> tuple[Any, bool]:
    """The figure, or why there is none (yet), and whether nothing more comes."""
    if not run.has_table("programs"):
        return _card_of(
            "The compiled copy served this run, or an older dcsim: --engine simpy keeps which programs ran when."
        ), True
    if run.table("programs").empty:
        return _card_of("No compiled program ran: a serving engine's iterations hold any mixture of tokens."), True
    here, asked = store(), {"run": run.folder.name, "digest": run.summary["digest"]}
    picture = name_of("run-links", asked)
    rows = here.points.find_picture(picture)
    if rows is not None:
        figure = links_over_time(rows, float(run.summary["elapsed_s"]))
        return figure_card(f"{name}-links", TITLE, WORDS, figure), True
    ask = {"name": picture, **asked}
    job = here.jobs.find(here.jobs.name_of("run-links", ask))
    if job is None or job.state == DONE:  # done by other code
        here.jobs.submit("run-links", ask, f"links of {run.folder.name}")
    elif job.over:
        return _card_of(f"This cannot be shown: {job.note or job.state}"), True
    else:
        here.jobs.wake()
    return no_update, False


def _card_of(words: str) -> html.Section:
    return html.Section([html.H2(TITLE), html.P(words, className="waiting")], className="card")
