"""Schedule: one iteration, cycle by cycle, as it is compiled, and the same program on packets at the same scale."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, html

from dashboard.background import Answered, connect_answer, layout_of
from dashboard.parts import field, figure_card, heading
from dashboard.runs import RunFolder
from dashboard.state import Control, one_of, whole
from dcsim.results.timeline import again, in_flight, timeline
from dcsim.study.pictured import RUNS, Pictured
from dcsim.study.side_by_side import LIBRARIES
from dcsim.units import format_time

TITLE = "Schedule"
TOPOLOGIES = ("node", "64chip", "264chip", "8rack")
NETWORKS = ("infiniband-hdr", "infiniband-ndr", "roce-400g", "ethernet-100g")
LAST_STAGE = 511

CONTROLS = (
    Control("topology", "64chip", one_of(TOPOLOGIES)),
    Control("network", "infiniband-ndr", one_of(NETWORKS)),
    Control("library", "posted", one_of(LIBRARIES)),
    Control("jitter", "host", one_of(("host", "off"))),
    Control("stage", 0, whole(0, LAST_STAGE)),
)
WORDS = (
    "A compiler has given every vector its link and its cycle before the program begins, and all chips share one notion of "
    "time: nothing asks, nothing waits its turn, and the next iteration is the last one again, to the cycle. On packets the same "
    "program finds its way as it goes."
)


def layout(**query: Any) -> html.Div:
    """The controls at what the address says, and room for the pictures."""
    return layout_of("schedule", CONTROLS, query, heading("What deterministic means", WORDS), _controls)


def _controls(values: dict[str, Any]) -> html.Section:
    def select(name: str, data: Any) -> Any:
        return dmc.Select(id=f"schedule-{name}", value=values[name], data=list(data), allowDeselect=False)

    def segments(name: str, data: Any) -> Any:
        return dmc.SegmentedControl(id=f"schedule-{name}", value=values[name], data=list(data), size="sm", fullWidth=True)

    stage = dmc.NumberInput(
        id="schedule-stage", value=values["stage"], min=0, max=LAST_STAGE, allowDecimal=False, clampBehavior="strict"
    )
    return html.Section(
        [
            field("Cluster", select("topology", TOPOLOGIES), "a topology of the library and the LLM it serves"),
            field("Packets on", select("network", NETWORKS), "the network on which the same program runs below"),
            field("Library", segments("library", LIBRARIES), "what a message on it goes through"),
            field(
                "Host jitter", segments("jitter", ("host", "off")), "delays of hosts, as the library's entry 'host' draws them"
            ),
            field("Stage", stage, "which pipeline stage's chips are shown, from 0"),
        ],
        className="controls",
        **{"aria-label": "What is shown"},
    )


def connect(app: Dash, own: RunFolder) -> None:
    """Draw what is asked for; what is not kept is computed in the background."""
    connect_answer(app, ANSWER)


def _view(found: dict[str, Any] | None, values: dict[str, Any]) -> Any:
    if found is None:
        return ""
    network = f"{values['network']} {values['library']}"
    packets = [1e-6 * value for value in found["packet_us"]]
    scheduled = 1e-6 * found["scheduled_us"]
    sentence = [
        f"{found['llm']}: all {found['vectors']:,} vectors have their cycle. {RUNS} iterations end in cycle ",
        html.Strong(f"{found['cycles']:,}"),
        f" ({format_time(scheduled)}) each time; on {network} they take ",
        html.Strong(f"{format_time(min(packets))} to {format_time(max(packets))}"),
        ".",
    ]
    cards = [
        figure_card(
            "schedule-timeline",
            "The same scale",
            "Operations above, links below, for each chip of the stage; the bright bars are on the path that decides the end. "
            "The dotted line: where the compiled stage has ended. Drag to move; the slider below zooms.",
            timeline(found, network),
            wide=True,
        ),
        figure_card(
            "schedule-again",
            f"{RUNS} iterations over each other",
            f"When the first operations of chip {found['chips'][0]} end. Upright: the same every time, which lets all chips "
            "agree without asking.",
            again(found, network),
            wide=found["in_flight"] is None,
        ),
    ]
    if found["in_flight"] is not None:
        steady = found["in_flight"]
        interval = f"{steady['interval_cycles']:,} cycles, {format_time(1e-6 * steady['interval_us'])}"
        cards.append(
            figure_card(
                "schedule-flight",
                "Steady state",
                f"A micro-batch every {interval}: no two of them ever want a link at once.",
                in_flight(found),
            )
        )
    return [html.P(sentence, className="sentence", id="schedule-sentence"), html.Div(cards, className="cards")]


ANSWER = Answered(
    page="schedule",
    controls=CONTROLS,
    ask=lambda values: asdict(Pictured(**values)),
    title=lambda values: f"schedule of {values['topology']}",
    draw=_view,
    doing="Compiling the program",
)
