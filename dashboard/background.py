"""Pages whose answer takes its time: what is kept is drawn at once, the rest is computed in the background, watched and stopped.

Such a page says what its controls ask for, and how an answer is drawn; all else is here, once for all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dash import Dash, Input, Output, State, ctx, dcc, html, no_update

from dashboard.jobs import FAILED, BackgroundJob
from dashboard.parts import message, working
from dashboard.runs import store
from dashboard.state import Control, address_of, connect_state, notices_view, read_state, remember

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """How a page comes by its answer. The ids of its parts, its kind of work (`worker.WORK`) and its address begin with `page`.

    `ask` turns the values of the controls into plain data, which names the answer; `draw` shows a kept answer, or None where
    there is none. With `begins` a button of that name begins the work, else a change of a control does. `so_far` shows what a
    job has found while it is under way.
    """

    page: str
    controls: Sequence[Control]
    ask: Callable[[Values], dict[str, Any]]
    title: Callable[[Values], str]
    draw: Callable[[dict[str, Any] | None, Values], Any]
    doing: str
    begins: str = ""
    so_far: Callable[[BackgroundJob, Values], Any] | None = None

    def name(self, values: Values) -> str:
        """Under which the answer is kept."""
        return name_of(self.page, self.ask(values))

    def find(self, values: Values) -> dict[str, Any] | None:
        """The kept answer; None if there is none of today's code."""
        return store().points.find_picture(self.name(values))

    def find_job(self, values: Values) -> BackgroundJob | None:
        """The job that computes the answer, whoever asked for it."""
        here = store()
        return here.jobs.find(here.jobs.name_of(self.page, self._work(values)))

    def begin(self, values: Values) -> BackgroundJob | None:
        """Have the answer computed, once, however often that is asked."""
        here = store()
        link = address_of(f"/{self.page}", self.controls, values)
        return here.jobs.find(here.jobs.submit(self.page, self._work(values), self.title(values), link))

    def _work(self, values: Values) -> dict[str, Any]:
        return {"name": self.name(values), "asked": self.ask(values)}


def name_of(kind: str, asked: dict[str, Any]) -> str:
    """The name of an answer: sixteen hex digits of what was asked."""
    return hashlib.sha256(json.dumps([kind, asked], sort_keys=True).encode()).hexdigest()[:16]


def layout_of(
    page: str,
    controls: Sequence[Control],
    query: dict[str, Any],
    head: html.Div,
    form: Callable[[Values], Any],
    below: Sequence[Any] = (),
) -> html.Div:
    """Such a page at what its address says: its controls, how far the work is, the answer, and what the browser remembers."""
    values, notices = read_state(controls, query)
    return html.Div(
        [
            head,
            notices_view(notices),
            form(values),
            html.Div(id=f"{page}-status", className="status", role="status"),
            html.Div(id=f"{page}-view"),
            dcc.Store(id=f"{page}-job"),
            dcc.Interval(id=f"{page}-tick", interval=700, disabled=True),
            remember(page, controls),
            *below,
        ]
    )


def connect_answer(app: Dash, own: Answered) -> None:
    """Have the view follow the controls, the work and its cancellation."""
    page = own.page
    connect_state(app, page, own.controls)
    begun = [Input(f"{page}-{own.begins}", "n_clicks")] if own.begins else []

    @app.callback(
        Output(f"{page}-view", "children"),
        Output(f"{page}-status", "children"),
        Output(f"{page}-job", "data"),
        Output(f"{page}-tick", "disabled"),
        [Input(f"{page}-{control.name}", control.prop) for control in own.controls],
        Input(f"{page}-tick", "n_intervals"),
        *begun,
        State(f"{page}-job", "data"),
    )
    def show(*args: Any) -> Any:
        values, notices = read_state(own.controls, _given(own.controls, args))
        if notices:
            return no_update, notices_view(notices), None, True
        ticks, last = ctx.triggered_id == f"{page}-tick", args[-1]
        found, job = own.find(values), own.find_job(values)
        under_way = job is not None and not job.over
        wanted = ctx.triggered_id == f"{page}-{own.begins}" if own.begins else found is None and not ticks
        if wanted and not under_way:
            if not own.begins:
                store().jobs.cancel(last)  # nobody looks at it any more
            job = own.begin(values)
            under_way = job is not None and not job.over
        if job is not None and under_way:
            store().jobs.wake()
            so_far = own.so_far(job, values) if own.so_far else own.draw(found, values) if own.begins and not ticks else no_update
            return so_far, working(page, job, own.doing), job.name, False
        failed = found is None and job is not None and job.state == FAILED
        if failed and not own.begins:
            return message("This cannot be shown", job.note, kind="error"), "", None, True
        status = message("This could not be computed", job.note, kind="error") if failed else ""
        return own.draw(found, values), status, None, True

    @app.callback(
        Output(f"{page}-tick", "disabled", allow_duplicate=True),
        Output(f"{page}-status", "children", allow_duplicate=True),
        Input(f"{page}-cancel", "n_clicks"),
        State(f"{page}-job", "data"),
        prevent_initial_call=True,
    )
    def cancel(clicks: int | None, last: str | None) -> Any:
        if not clicks:
            return no_update, no_update
        store().jobs.cancel(last)
        again = "Begin again to go on." if own.begins else "Change something to ask again."
        return True, html.Span(f"Cancelled. {again}", className="badge")


def _given(controls: Sequence[Control], args: Sequence[Any]) -> dict[str, str]:
    """The controls' values as an address would have them; one that was emptied has its default."""
    found = {}
    for control, value in zip(controls, args, strict=False):
        if value is not None:
            found[control.name] = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return found
