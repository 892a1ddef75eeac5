"""Sweep: the same question at many points; a metric along a key, the best, and every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, html

from dashboard.background import Answered, connect_answer, layout_of
from dashboard.choices import OWN, contents, one, options, settings_text, text_that
from dashboard.jobs import BackgroundJob
from dashboard.parts import (
    code_line,
    column,
    done_here,
    field,
    figure_card,
    heading,
    message,
    more_fields,
    rows_table,
    saved_as,
    select,
    text,
)
from dashboard.runs import RunFolder
from dashboard.state import Control, any_text, notices_view, one_of, whole
from dcsim.results.metrics import METRICS
from dcsim.results.pictures_of_sweeps import along
from dcsim.study.sweep import SHOWN, parse_range
from dcsim.study.sweep.case import known_metrics
from dcsim.study.sweep.design import DESIGNS, DRAWN
from dcsim.study.sweep.sweep import means

TITLE = "Sweep"
ZOOMS = ("iteration", "run")
KINDS = [kind for kind in DESIGNS if kind != "list"]
KNOWN = sorted(known_metrics(run=False) | known_metrics(run=True))
MEANING = {metric.name: metric.meaning for metric in METRICS}
POINTS_MAX = 2000  # of one sweep from a page, replications counted


def _ranges(words: str) -> dict[str, list[str]]:
    """Keys with their values, one key a line; a range has its commas within itself."""
    found = [parse_range(line) for line in words.splitlines() if line.strip()]
    if len(dict(found)) < len(found):
        raise ValueError("a key is given twice")
    return dict(found)


def _rate(words: str) -> None:
    from dcsim.study.scenario import rate_of

    rate_of(words)


CONTROLS = (
    Control("topology", "8rack", one("topology", empty=False)),
    Control("zoom", "iteration", one_of(ZOOMS)),
    Control("values", "fabric.racks=7,8,10\nmapping.tp=8,16", text_that(_ranges, "lines of key=value,value", length_max=4000)),
    Control("metric", "", one_of(("", *KNOWN))),
    Control("along", "", any_text),
    Control("design", "grid", one_of(KINDS)),
    Control("samples", 0, whole(0, POINTS_MAX)),
    Control("replications", 1, whole(1, 100)),
    Control("batch", 1, whole(1, 4096)),
    Control("context", 0, whole(0, 1_048_576)),
    Control("rate", "", text_that(_rate, "a rate such as 30/s")),
    Control("llm", "", one("llm")),
    Control("workload", "", one("workload")),
    Control("network", "", one("interconnect")),
    Control("seed", 1, whole(0, 2**31)),
    Control("settings", "", settings_text),
)
WORDS = (
    "The same question at many points: every combination of the values of some keys, or points drawn among them. Each point is "
    "kept as it is done; one that cannot be built is a row with the reason."
)


def layout(**query: Any) -> html.Div:
    """The form at what the address says, and room for the rows."""
    return layout_of("sweep", CONTROLS, query, heading("Many points", WORDS), _form, done_here("sweep", "Sweeps made here"))


def _form(values: dict[str, Any]) -> html.Section:
    def words(name: str, placeholder: str) -> Any:
        return dmc.TextInput(id=f"sweep-{name}", value=values[name], placeholder=placeholder, debounce=400)

    def count(name: str, least: int, most: int) -> Any:
        return dmc.NumberInput(id=f"sweep-{name}", value=values[name], min=least, max=most, allowDecimal=False)

    def lines(name: str, placeholder: str) -> Any:
        return dmc.Textarea(
            id=f"sweep-{name}", value=values[name], placeholder=placeholder, debounce=400, autosize=True, minRows=2, maxRows=9
        )

    zoom = dmc.SegmentedControl(id="sweep-zoom", value=values["zoom"], data=list(ZOOMS), size="sm", fullWidth=True)
    fields = [
        field(
            "Topology",
            select("sweep-topology", values["topology"], options("topology")),
            "chips, nodes, racks and what joins them",
        ),
        field("At each point", zoom, "iteration: time one iteration; run: serve the workload"),
        html.Div(
            field(
                "Values, one key a line",
                lines("values", "fabric.racks=4,6,8"),
                "key=value,value as --set-range takes them; for random and latin a range such as slo.ttft=1 s..10 s",
            ),
            className="half",
        ),
    ]
    more = [
        field(
            "Design",
            select("sweep-design", values["design"], KINDS),
            "grid: every combination; zip: side by side; random or latin: as many points as drawn",
        ),
        field("Points drawn", count("samples", 0, POINTS_MAX), f"of {' and '.join(DRAWN)} designs; 0 for the others"),
        field(
            "Seeds a point", count("replications", 1, 100), "replications: each point with as many seeds, the same at all points"
        ),
        field("Seed", count("seed", 0, 2**31), "the first of them"),
        field("Batch", count("batch", 1, 4096), "of an iteration: sequences that it advances"),
        field("Context", count("context", 0, 1_048_576), "of an iteration: tokens of context; 0 for the usual"),
        field("Rate", words("rate", "the workload's own"), "of a run: requests in a second, such as 30/s"),
        field(
            "Workload",
            select("sweep-workload", values["workload"], options("workload", own=OWN)),
            "of a run: which requests arrive",
        ),
        field("LLM", select("sweep-llm", values["llm"], options("llm", own=OWN)), "which LLM is served"),
        field("Network", select("sweep-network", values["network"], options("interconnect", own=OWN)), "what joins the chips"),
        html.Div(
            field(
                "Settings, one a line", lines("settings", "workload.duration=60 s"), "the same at all points, as --set takes them"
            ),
            className="half",
        ),
    ]
    shown = [
        field(
            "Metric shown",
            select("sweep-metric", values["metric"], ["", *KNOWN], {"": "the first"}),
            "what the figure shows and the best is told of",
        ),
        field("Along", words("along", "the first key"), "the key along which the figure goes"),
    ]
    start = html.Button("Sweep", id="sweep-start", type="button", className="primary")
    return html.Section(
        [
            html.Div([*fields, *shown], className="controls form-fields"),
            more_fields("design, seeds, shape, load, LLM and network", more, CONTROLS[5:], values),
            html.Div(start, className="row"),
        ],
        className="card form",
        **{"aria-label": "What is asked"},
    )


def ask(values: dict[str, Any]) -> dict[str, Any]:
    """What the form asks for, as plain data; how it is drawn is no part of it."""
    names = ("topology", "zoom", "design", "samples", "replications", "batch", "context", "rate", "llm", "workload", "seed")
    return {
        **{name: values[name] for name in names},
        "interconnect": values["network"],
        "values": _ranges(values["values"]),
        "settings": [line.strip() for line in values["settings"].splitlines() if line.strip()],
        "contents": contents([values["topology"], values["network"], values["llm"], values["workload"]]),
    }


def connect(app: Dash, own: RunFolder) -> None:
    """Sweep when asked; what is kept is shown at once."""
    connect_answer(app, ANSWER)


def _so_far(job: BackgroundJob, values: dict[str, Any]) -> Any:
    """The rows that were found last, the newest first."""
    if not job.live:
        return ""
    names = list(dict.fromkeys(name for row in job.live for name in row))
    head = html.Tr([html.Th(name, scope="col") for name in names])
    rows = [html.Tr([html.Td(_cell(row.get(name))) for name in names]) for row in reversed(job.live)]
    table = html.Table([html.Thead(head), html.Tbody(rows)], className="numbers")
    return html.Section(
        [html.H2("The last points"), html.Div(table, className="scroll", tabIndex=0)], className="card", id="sweep-so-far"
    )


def draw(found: dict[str, Any] | None, values: dict[str, Any]) -> Any:
    """The best in a sentence, a metric along a key, and every row."""
    if found is None:
        return message("Not swept yet", "Say which values to go through, and press Sweep.")
    rows, keys = found["rows"], found["keys"]
    metric = values["metric"] or SHOWN[values["zoom"]][2 if values["zoom"] == "iteration" else 0]
    key = values["along"] or keys[0]
    notices = [] if key in keys else [f"along: '{key}' was not swept; {keys[0]} is shown instead."]
    key = key if key in keys else keys[0]
    points = means(rows, keys) if values["replications"] > 1 else rows
    others = [other for other in keys if other != key]
    words = f"{metric}: {MEANING.get(metric, 'of one iteration')}. A line for each combination of the other keys."
    name = ANSWER.name(values)
    return [
        notices_view(notices),
        html.P(sentence(rows, points, keys, metric), className="sentence", id="sweep-sentence"),
        figure_card("sweep-figure", f"{metric} along {key}", words, along(points, metric, key, others), wide=True),
        _table(rows, keys, metric),
        html.Section(
            [
                html.H2("The same from a terminal"),
                code_line(found["command"]),
                saved_as([("Report (HTML)", f"/report/sweep/{name}.html"), ("JSON", f"/answer/sweep/{name}.json")]),
            ],
            className="card below",
        ),
    ]


def sentence(rows: Sequence[Mapping[str, Any]], points: Sequence[Mapping[str, Any]], keys: Sequence[str], metric: str) -> str:
    """How many points there are, and where the metric is least and most."""
    failed = sum("error" in row for row in rows)
    counted = f"{len(rows):,} rows, {failed:,} of them without a result" if failed else f"{len(rows):,} rows"
    good = [row for row in points if isinstance(row.get(metric), (int, float))]
    if not good:
        return f"{counted}. None has a number '{metric}'."
    ends = [pick(good, key=lambda row: float(row[metric])) for pick in (min, max)]
    told = [f"{_cell(row[metric])} at {', '.join(f'{key} {row.get(key)}' for key in keys)}" for row in ends]
    return f"{counted}. {metric} goes from {told[0]} to {told[1]}."


def _table(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], metric: str) -> html.Section:
    names = dict.fromkeys([*keys, "seed", metric, *(name for row in rows for name in row)])
    lines = [{name: _number(value) if name in keys else value for name, value in row.items()} for row in rows]
    here = [name for name in names if any(name in row for row in lines)]
    columns = [column(name, name, lines, **({"width": 330, "tooltipField": name} if name == "error" else {})) for name in here]
    return rows_table("sweep-rows", "Rows", "Every point with all of its figures, in SI units.", lines, columns)


def _number(value: Any) -> Any:
    """A swept value as a number where it is one, so that it sorts and filters as such."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _cell(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else text(value)


ANSWER = Answered(
    page="sweep",
    controls=CONTROLS,
    ask=ask,
    title=lambda values: f"{values['topology']}: {values['values'].replace(chr(10), '; ')}"[:120],
    draw=draw,
    doing="Sweeping",
    begins="start",
    so_far=_so_far,
)
