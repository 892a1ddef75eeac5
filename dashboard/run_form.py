"""The form that starts a run, with its fields made from the spec, and what is at work."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update

from dashboard import uploads
from dashboard.choices import OWN, folder, options
from dashboard.jobs import BackgroundJob
from dashboard.parts import field, select, text
from dashboard.runs import store
from dcsim.results.pictures_over_time import under_way
from dcsim.units import format_time

FIELDS = ("topology", "llm", "workload", "interconnect", "duration", "rate", "seed", "settings")
PARTS = FIELDS[:4]  # chosen among the library's entries and files that were brought
TOLD = ("duration", "rate", "workload", "llm")  # fields that a problem is told at, the first that its place names


def form() -> html.Details:
    """Everything a run is made of."""
    start = html.Button("Start", id="run-form-start", type="button", className="primary")
    return html.Details(
        [
            html.Summary("Start a run"),
            html.Div([*_scenario(), *_files_and_keys()], className="controls form-fields"),
            html.Div([start, html.Div(id="run-form-said", role="status")], className="row"),
            dcc.Interval(id="run-tick", interval=800, disabled=False, max_intervals=-1),
            dcc.Store(id="run-form-seen", data=[]),
        ],
        className="card form",
        open=False,
        id="run-form",
    )


def _scenario() -> list[html.Div]:
    """What is served on what, and how much of it."""

    def words(name: str, value: str, placeholder: str) -> Any:
        return dmc.TextInput(id=f"run-form-{name}", value=value, placeholder=placeholder)

    seed = dmc.NumberInput(id="run-form-seed", value=1, min=0, max=2**31, allowDecimal=False)
    first = {"topology": "64chip"}
    topology, llm, workload, network = (select(f"run-form-{part}", first.get(part, ""), _offered(part)) for part in PARTS)
    return [
        field("Topology", topology, "chips, nodes, racks and what joins them"),
        field("LLM", llm, "an entry, a file, or a Hugging Face config.json"),
        field("Workload", workload, "which requests arrive, and when"),
        field("Network", network, "what joins the chips"),
        field(
            "Duration",
            words("duration", "1 min", "all of it"),
            "serve only requests that arrive before this time, such as '10 min'",
        ),
        field("Rate", words("rate", "", "the workload's own"), "requests in a second, such as '20/s'"),
        field("Seed", seed, "of every random stream"),
    ]


def _offered(part: str) -> list[dict[str, str]]:
    """What a part of the scenario may be; a topology is always named."""
    return options(part, own=None if part == "topology" else OWN)


def _files_and_keys() -> list[html.Div]:
    """Files that are brought, and settings by their keys."""
    upload = dcc.Upload(
        "Topology, workload, trace or config.json, up to 4 MiB",
        id="run-form-upload",
        multiple=True,
        max_size=uploads.SIZE_MAX,
        className="upload",
    )
    keys = dmc.Select(id="run-form-key", data=keys_of(), searchable=True, placeholder="look a key up", limit=60, clearable=True)
    settings = dcc.Textarea(id="run-form-settings", value="", placeholder="serving.chunk_tokens=64")
    known = field("Keys", keys, "every key of a topology with its meaning; picked, it is put below")
    return [
        field("Files of your own", upload, "kept in this folder; read in a process with limits"),
        html.Div([known, html.P("", id="run-form-help")], className="half"),
        html.Div(field("Settings, one a line", settings, "as --set takes them: key=value, with unit"), className="half"),
    ]


def keys_of(topology: str = "8rack") -> list[dict[str, str]]:
    """Every dotted key of a topology, with its meaning as its label."""
    from dcsim.spec.load import load

    return [{"value": key, "label": key} for key, _ in _walk(load(topology).spec, "")]


def _walk(section: Any, above: str) -> list[tuple[str, str]]:
    found = []
    for name, about in type(section).model_fields.items():
        value, key = section.__dict__[name], f"{above}{about.alias or name}"
        if hasattr(type(value), "model_fields"):
            found += _walk(value, f"{key}.")
        elif about.description and not isinstance(value, tuple):
            found.append((key, about.description))
    return found


def connect(app: Dash) -> None:
    """Take files, check and start runs, and say what is at work."""
    _connect_keys(app)
    _connect_upload(app)
    _connect_start(app)
    _connect_jobs(app)
    _connect_again(app)


def _connect_keys(app: Dash) -> None:
    """A key that is picked is put among the settings, with its meaning beside."""

    @app.callback(
        Output("run-form-settings", "value"),
        Output("run-form-help", "children"),
        Input("run-form-key", "value"),
        State("run-form-settings", "value"),
        prevent_initial_call=True,
    )
    def pick(key: str | None, settings: str) -> Any:
        from dcsim.spec.load import load

        if not key:
            return no_update, ""
        about = dict(_walk(load("8rack").spec, "")).get(key, "")
        return "\n".join([*filter(None, [settings]), f"{key}="]), about


def _connect_upload(app: Dash) -> None:
    """Files that are brought are kept, and offered where they can be used."""

    @app.callback(
        Output("run-form-said", "children", allow_duplicate=True),
        *(Output(f"run-form-{part}", "data") for part in PARTS),
        Input("run-form-upload", "contents"),
        State("run-form-upload", "filename"),
        prevent_initial_call=True,
    )
    def upload(contents: list[str] | None, names: list[str] | None) -> Any:
        said, taken = [], []
        for content, name in zip(contents or [], names or [], strict=True):
            try:
                taken.append(uploads.keep(folder(), str(name), str(content)))
            except (uploads.UploadError, OSError) as error:
                said.append(html.P(str(error), className="problem"))
        if taken:
            said.append(html.P(f"taken: {', '.join(taken)}"))
        return (said, *map(_offered, PARTS))


def _connect_start(app: Dash) -> None:
    """What the form asks for is checked; a run is begun, or each problem told at its field."""

    @app.callback(
        Output("run-form-said", "children"),
        *(Output(f"run-form-{name}", "error") for name in TOLD),
        Input("run-form-start", "n_clicks"),
        *(State(f"run-form-{name}", "value") for name in FIELDS),
        prevent_initial_call=True,
    )
    def start(clicks: int | None, *values: Any) -> Any:
        if not clicks:
            return (no_update,) * (1 + len(TOLD))
        ask = dict(zip(FIELDS, values, strict=True))
        ask |= {"seed": int(ask["seed"] or 0), "settings": str(ask["settings"] or "").splitlines()}
        here = store()
        problems = uploads.check(here.folder, ask)
        if problems:
            at = _by_field(problems)
            return [html.P(_in_words(problem), className="problem") for problem in problems], *(at.get(name) for name in TOLD)
        title = f"{ask['topology']}, {ask['workload'] or 'its workload'}, {ask['duration'] or 'all of it'}, seed {ask['seed']}"
        here.jobs.submit("run", ask, title)
        return [html.P("Started.")], *(None for _ in TOLD)


def _in_words(problem: dict[str, str]) -> str:
    """Where, what, and how to mend it."""
    where, mend = problem["where"], problem["mend"]
    return " ".join(filter(None, [f"{where}:" if where else "", problem["what"], f"({mend})" if mend else ""]))


def _connect_jobs(app: Dash) -> None:
    """Runs at work, looked at now and then, with what cancels and removes them."""

    @app.callback(
        Output("run-jobs", "children"),
        Output("run-form-seen", "data"),
        Input("run-tick", "n_intervals"),
        Input({"job": "cancel", "name": ALL}, "n_clicks"),
        Input({"job": "remove", "name": ALL}, "n_clicks"),
        State("run-form-seen", "data"),
    )
    def watch(_: int | None, cancels: Any, removes: Any, seen: list[str]) -> Any:
        here = store()
        if isinstance(ctx.triggered_id, dict) and any([*cancels, *removes]):
            act = here.jobs.cancel if ctx.triggered_id["job"] == "cancel" else here.jobs.remove
            act(ctx.triggered_id["name"])
        here.jobs.wake()
        jobs = [job for job in here.jobs.all() if job.kind == "run"][:8]
        signs = [f"{job.name} {job.state} {job.done} {job.note}" for job in jobs]
        if signs == seen and ctx.triggered_id == "run-tick":
            return no_update, no_update
        return _jobs(jobs), signs


def _connect_again(app: Dash) -> None:
    """The form as it was when a run was started from it, to change something and start again."""

    @app.callback(
        *(Output(f"run-form-{name}", "value", allow_duplicate=True) for name in FIELDS),
        Output("run-form", "open"),
        Input({"job": "again", "name": ALL}, "n_clicks"),
        prevent_initial_call=True,
    )
    def again(clicks: Any) -> Any:
        job = store().jobs.find(ctx.triggered_id["name"]) if any(clicks) else None
        if job is None or job.kind != "run":
            return (no_update,) * (1 + len(FIELDS))
        settings = "\n".join(map(text, job.ask.get("settings") or []))
        return *(job.ask.get(name) if name != "settings" else settings for name in FIELDS), True


def _by_field(problems: list[dict[str, str]]) -> dict[str, str]:
    """The first problem of each field that one belongs to."""
    found: dict[str, str] = {}
    for problem in problems:
        place = f"{problem['where']} {problem['what'].partition(':')[0]}"
        name = next((name for name in TOLD if name in place), None)
        if name:
            found.setdefault(name, problem["what"])
    return found


def _jobs(jobs: list[BackgroundJob]) -> Any:
    if not jobs:
        return ""
    return html.Section(
        [html.H2("At work"), *map(_job, jobs)], className="card", style={"marginTop": 14}, **{"aria-label": "At work"}
    )


def _job(job: BackgroundJob) -> html.Div:
    if job.state == "done":
        what: Any = dcc.Link("open", href=f"/run?run={text(job.result.get('run'))}", refresh=True)
    elif job.over:
        what = html.Span(job.note or "cancelled", className="problem" if job.state == "failed" else "")
    else:
        words, share = _so_far(job)
        what = html.Div(
            [dmc.Progress(value=max(3, share), animated=True, striped=True, **{"aria-label": "progress"}), html.Span(words)]
        )
    action, label = ("remove", "Remove") if job.over else ("cancel", "Cancel")
    button = html.Button(
        label, type="button", className="save", id={"job": action, "name": job.name}, **{"aria-label": f"{label} {job.title}"}
    )
    badge = html.Span(job.state, className=f"badge {'good' if job.state == 'done' else 'bad' if job.state == 'failed' else ''}")
    live = _live(job) if not job.over and len(job.live) > 2 else None
    change = html.Button(
        "Change",
        type="button",
        className="save",
        id={"job": "again", "name": job.name},
        **{"aria-label": f"Fill the form with {job.title}, to run it again with changes"},
    )
    return html.Div(
        [badge, html.Div([html.Div(job.title), what], className="grow"), change, button, *([live] if live else [])],
        className="job",
    )


def _so_far(job: BackgroundJob) -> tuple[str, float]:
    """How far a run is, in words and in percent: by its time where that is known to end, else by requests."""
    span_s = job.live[-1].get("span_s") if job.live else None
    if span_s:
        time_s = min(job.live[-1]["time_s"], span_s)
        return f"{job.done:,} requests served, {format_time(time_s)} of {format_time(span_s)}", 100 * time_s / span_s
    if job.total > job.done:
        return f"{job.done:,} of {job.total:,} requests", 100 * job.done / job.total
    return f"{job.done:,} requests served" if job.done else job.note or "waits for a free worker", 0.0


def _live(job: BackgroundJob) -> html.Div:
    """Load, batch and the racks' power, as the run goes."""
    cards = [
        html.Figure(
            [
                html.Figcaption(title),
                dcc.Graph(figure=figure, config={"displayModeBar": False}, style={"width": "100%", "height": 170}),
            ]
        )
        for title, figure in under_way(job.live)
    ]
    return html.Div(cards, className="live")
