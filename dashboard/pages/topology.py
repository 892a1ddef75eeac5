"""Topology: where chips stand and what they do, from the hall to a rack to a node to a chip."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
import numpy as np
from dash import Dash, Input, Output, State, dcc, html, no_update

from dashboard.background import Answered, connect_answer, layout_of
from dashboard.choices import OWN
from dashboard.parts import facts, field, figure_card, heading, select, text
from dashboard.runs import RunFolder, store
from dashboard.state import Control, address_of, any_text, one_of, read_state, whole
from dcsim import library
from dcsim.errors import DcsimError
from dcsim.results.hall import hall
from dcsim.units import format_bytes, format_power, format_time

TITLE = "Topology"
TOPOLOGIES = library.names("topologies")
COLOURS = {
    "stage": ("pipeline stage", "", "which stage of the pipeline the chip holds"),
    "use": ("use", "share of an iteration", "how much of one iteration the chip computes"),
    "links": (
        "busiest link",
        "share of an iteration",
        "how much of one iteration the busiest link that leaves the chip is in use",
    ),
    "queue": (
        "queue",
        "bytes",
        "the longest queue of one iteration before a link from or to the chip; none where all is scheduled",
    ),
    "kv": ("KV", "bytes", "what the chip keeps of one sequence of 2,048 tokens"),
    "power": ("rack's power", "W", "what the chip's rack drew in the run that is picked, at the time of the slider"),
}

CONTROLS = (
    Control("topology", "8rack", one_of(TOPOLOGIES)),
    Control("network", "", one_of(("", *library.names("topologies/networks")))),
    Control("batch", 1, whole(1, 256)),
    Control("colour", "stage", one_of(list(COLOURS))),
    Control("rack", "", any_text),
    Control("node", "", any_text),
    Control("run", "", any_text),
    Control("time", 50, whole(0, 100)),
)


def layout(**query: Any) -> html.Div:
    """The controls at what the address says, and room for the hall."""
    return layout_of(
        "topology",
        CONTROLS,
        query,
        heading("Topology", "Where chips stand and what they do in one iteration. Click a chip for its figures and its node."),
        _controls,
        [html.Div(id="topology-chip")],
    )


def _controls(values: dict[str, Any]) -> html.Section:
    runs, _ = store().all()
    names = [{"value": "", "label": "none"}] + [
        {"value": run.folder.name, "label": f"{text(run.spec['name'])} · {run.folder.name}"} for run in runs
    ]
    colours = [{"value": name, "label": title} for name, (title, _, _) in COLOURS.items()]
    words = "; ".join(f"{title}: {meaning}" for title, _, meaning in COLOURS.values())
    return html.Section(
        [
            field(
                "Cluster",
                dmc.Select(
                    id="topology-topology", value=values["topology"], data=TOPOLOGIES, searchable=True, allowDeselect=False
                ),
                "which of the library's clusters",
            ),
            field(
                "Network",
                select(
                    "topology-network", values["network"], [{"value": "", "label": OWN}, *library.names("topologies/networks")]
                ),
                "what joins the chips; queues are those of packets",
            ),
            field(
                "Batch",
                dmc.NumberInput(id="topology-batch", value=values["batch"], min=1, max=256, allowDecimal=False),
                "sequences that the iteration advances by a token",
            ),
            field("Colour", dmc.Select(id="topology-colour", value=values["colour"], data=colours, allowDeselect=False), words),
            field(
                "Rack",
                dmc.TextInput(id="topology-rack", value=values["rack"], placeholder="all", debounce=400),
                "number of a rack to look into",
            ),
            field(
                "Node",
                dmc.TextInput(id="topology-node", value=values["node"], placeholder="all", debounce=400),
                "number of a node to look into",
            ),
            field(
                "Run",
                dmc.Select(id="topology-run", value=values["run"], data=names, allowDeselect=False),
                "a run of this cluster, for its power over time",
            ),
            html.Div(
                field(
                    "Time of the run, %",
                    dmc.Slider(
                        id="topology-time",
                        value=values["time"],
                        min=0,
                        max=100,
                        updatemode="drag",
                        thumbLabel="time of the run",
                        className="slider",
                    ),
                    "when in the run, from its beginning to its end",
                ),
                className="span",
                id="topology-when",
                hidden=not values["run"],
            ),
        ],
        className="controls",
        **{"aria-label": "What is shown"},
    )


def connect(app: Dash, own: RunFolder) -> None:
    """Draw what is asked for; a cluster that is not known is built in the background."""
    connect_answer(app, ANSWER)

    @app.callback(Output("topology-when", "hidden"), Input("topology-run", "value"))
    def show_time(run: str | None) -> bool:
        return not run

    @app.callback(
        Output("topology-chip", "children"),
        Input("topology-hall", "clickData"),
        State("topology-topology", "value"),
        State("topology-network", "value"),
        State("topology-batch", "value"),
        prevent_initial_call=True,
    )
    def click(clicked: Any, topology: str, network: str | None, batch: int) -> Any:
        asked = {"topology": topology, "network": network or "", "batch": batch}
        found = ANSWER.find(asked)
        if not clicked or found is None or "customdata" not in clicked["points"][0]:
            return no_update
        return _chip(found, int(clicked["points"][0]["customdata"]), asked)


def _view(found: dict[str, Any] | None, values: dict[str, Any]) -> Any:
    if found is None:
        return ""
    chips = found["chips"]
    chosen, where, notice = _chosen(chips, values)
    values_of, notes, span = _values(found, values)
    title, unit, words = COLOURS[values["colour"]]
    own = {name: [column[i] for i in chosen] for name, column in chips.items()}
    links = found["links_of"].get(str(own["node"][0]), []) if values["node"] and chosen else []
    figure = hall(own, [values_of[i] for i in chosen], title, unit, links=[tuple(pair) for pair in links], span=span)
    summary = facts(
        [
            ("LLM", found["llm"]),
            ("mapping", f"tp {found['tp']}, pp {found['pp']}, replicas {found['replicas']}"),
            ("chips", f"{len(chips['chip']):,}, {sum(chips['active']):,} active"),
            ("racks", f"{len(set(chips['rack'])):,}"),
            ("links", f"{found['links']:,} one way"),
            ("network", found["network"]),
            ("one iteration", format_time(found["iteration_s"])),
        ]
    )
    notes = [html.P(note, className="left-out") for note in (*notes, *notice)]
    caption = f"{where}. Colour: {words}. Pale squares are spares. Drag to move; click a chip."
    return [summary, _way(found, values), *notes, figure_card("topology-hall", values["topology"], caption, figure, wide=True)]


def _chosen(chips: dict[str, list[Any]], values: dict[str, Any]) -> tuple[list[int], str, list[str]]:
    """Indexes of the chips in sight, what that is, and what of it cannot be."""
    everything = list(range(len(chips["chip"])))
    for part in ("node", "rack"):
        wanted = values[part].strip()
        if not wanted:
            continue
        known = {str(number) for number in chips[part]}
        if wanted in known:
            return [i for i in everything if str(chips[part][i]) == wanted], f"{part} {wanted}", []
        return everything, "All of it", [f"{part}: '{wanted}' is none of this cluster's {len(known)}; all are shown."]
    return everything, "All of it", []


def _values(found: dict[str, Any], values: dict[str, Any]) -> tuple[list[float | None], list[str], tuple[float, float] | None]:
    """What colours each chip, what to say of it, and what the colours span where that is more than what is seen.

    Those of a run's power span all of the run, so that they change as the slider moves.
    """
    chips = found["chips"]
    if values["colour"] != "power":
        column: list[float | None] = chips[values["colour"]]
        return column, [], None
    nothing: list[float | None] = [None] * len(chips["chip"])
    if not values["run"]:
        return nothing, ["Pick a run of this cluster to see its power."], None
    try:
        power = store().open(values["run"]).power
    except DcsimError as error:
        return nothing, [str(error)], None
    times = np.unique(np.asarray(power["time_s"]))
    at = times[min(len(times) - 1, int(values["time"] / 100 * len(times)))] if len(times) else 0.0
    now = np.asarray(power["time_s"]) == at
    watts = dict(zip(np.asarray(power["rack"])[now].tolist(), np.asarray(power["power_w"])[now].tolist(), strict=True))
    missing = (
        [] if set(watts) >= set(chips["rack"]) else ["This run is of other racks: those it has no power of are without colour."]
    )
    total = format_power(sum(watts.values()), 4)
    drawn = np.asarray(power["power_w"], float)
    span = (float(drawn.min()), float(drawn.max())) if len(drawn) else None
    notes = [f"At {format_time(float(at))} of the run its racks drew {total}.", *missing]
    return [watts.get(rack) for rack in chips["rack"]], notes, span


def _address(found: dict[str, Any], **more: Any) -> str:
    """The link to a part of the hall."""
    values = read_state(CONTROLS, {})[0] | {"topology": found["topology"]} | more
    return address_of("/topology", CONTROLS, values)


def _way(found: dict[str, Any], values: dict[str, Any]) -> html.Nav:
    """The way from the hall to what is looked at, each step a link."""
    shared = {name: values[name] for name in ("network", "batch", "colour", "run", "time")}
    chips, node, rack = found["chips"], values["node"].strip(), values["rack"].strip()
    if node in map(str, chips["node"]):
        rack = str(chips["rack"][list(map(str, chips["node"])).index(node)])
    steps: list[Any] = [dcc.Link("hall", href=_address(found, **shared))]
    steps += [" › ", dcc.Link(f"rack {rack}", href=_address(found, rack=rack, **shared))] if rack else []
    steps += [" › ", dcc.Link(f"node {node}", href=_address(found, node=node, **shared))] if node else []
    return html.Nav(steps, className="way", **{"aria-label": "What is looked at"})


def _chip(found: dict[str, Any], chip: int, asked: dict[str, Any]) -> Any:
    """The figures of one chip."""
    chips = found["chips"]
    if not 0 <= chip < len(chips["chip"]):
        return no_update
    own = {name: column[chip] for name, column in chips.items()}
    look_into = dcc.Link(f"look into node {own['node']}", href=_address(found, **asked, node=str(own["node"])))
    rack = dcc.Link(f"look into rack {own['rack']}", href=_address(found, **asked, rack=str(own["rack"])))
    stage = "none, a spare" if own["stage"] is None else f"{own['stage']}"
    return html.Section(
        [
            html.H2(f"Chip {chip}"),
            facts(
                [
                    ("node", own["node"]),
                    ("rack", own["rack"]),
                    ("stage", stage),
                    ("computes", "–" if own["use"] is None else f"{100 * own['use']:.3g} % of an iteration"),
                    ("busiest link", "–" if own["links"] is None else f"{100 * own['links']:.3g} % of an iteration"),
                    ("longest queue", "–" if own["queue"] is None else format_bytes(own["queue"])),
                    ("KV of 2,048 tokens", "–" if own["kv"] is None else format_bytes(own["kv"])),
                ]
            ),
            html.P([look_into, " · ", rack]),
        ],
        className="card",
    )


ANSWER = Answered(
    page="topology",
    controls=CONTROLS,
    ask=lambda values: {"topology": values["topology"], "network": values["network"], "batch": values["batch"]},
    title=lambda values: f"topology {values['topology']} {values['network']}".strip(),
    draw=_view,
    doing="Building the cluster",
)
