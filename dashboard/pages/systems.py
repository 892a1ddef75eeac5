"""Systems: the same LLMs on several systems; what a million tokens cost and draw against the speed of one user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, html

from dashboard.background import Answered, connect_answer, layout_of
from dashboard.choices import OWN, contents, options, settings_text, some, text_that
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
)
from dashboard.runs import RunFolder
from dashboard.state import Control, whole
from dcsim.results.pictures_of_systems import cost_against_speed
from dcsim.results.systems import SPEEDS, cheapest_at, error_text, laid_out, name_of, rows_of
from dcsim.study.systems import LLMS, TOKENS, USERS, load_of

TITLE = "Systems"


def _several(text: str) -> list[str]:
    names = some("topology")(text)
    if len(names) < 2:
        raise ValueError("two topologies or more")
    return names


CONTROLS = (
    Control("systems", ["8rack", "h100_sxm", "b200_sxm"], _several),
    Control("llms", LLMS[:1], some("llm")),
    Control("networks", [], some("interconnect")),
    Control("prompt", TOKENS, whole(1, 1_048_576)),
    Control("output", TOKENS, whole(2, 1_048_576)),
    Control(
        "users", ",".join(map(str, USERS)), text_that(lambda words: load_of(TOKENS, TOKENS, words), "numbers such as 1,4,16")
    ),
    Control("seed", 1, whole(0, 2**31)),
    Control("settings", "", settings_text),
)
WORDS = (
    "Each LLM is served on each system, more and more users at once, each of whom asks, reads the whole answer and asks again. "
    "Minutes for each system and LLM."
)
CELL = "Fewest USD per million output tokens at which a user still sees so many tokens/s, and the MJ per million of that load."
ERROR = (
    "mean |ln(simulated / measured)| of the time per output token, and over how many measured jobs; -: nothing measured is "
    "known, so that nothing checks the row"
)


def layout(**query: Any) -> html.Div:
    """The form at what the address says, and room for the answer."""
    return layout_of(
        "systems", CONTROLS, query, heading("Which system, at which speed", WORDS), _form, done_here("systems", "Asked here")
    )


def _form(values: dict[str, Any]) -> html.Section:
    def several(name: str, part: str, label: str, placeholder: str = "") -> Any:
        named = {"attributes": {"input": {"aria-label": label}}}
        return dmc.MultiSelect(
            id=f"systems-{name}", value=values[name], data=options(part), searchable=True, placeholder=placeholder, **named
        )

    def count(name: str, least: int) -> Any:
        return dmc.NumberInput(id=f"systems-{name}", value=values[name], min=least, max=1_048_576, allowDecimal=False)

    fields = [
        html.Div(
            field("Systems", several("systems", "topology", "systems"), "topologies, two or more; each under its own network"),
            className="half",
        ),
        html.Div(
            field("LLMs", several("llms", "llm", "LLMs", ", ".join(LLMS)), "which LLMs are served; stored as their files say"),
            className="half",
        ),
    ]
    settings = dmc.Textarea(
        id="systems-settings", value=values["settings"], debounce=400, autosize=True, minRows=2, placeholder="key=value"
    )
    users = dmc.TextInput(id="systems-users", value=values["users"], debounce=400)
    more = [
        html.Div(
            field(
                "Networks",
                several("networks", "interconnect", "networks", OWN),
                "for topologies whose own network is scheduled: they are served on each of these instead",
            ),
            className="half",
        ),
        field("Users", users, "of one replica, in turn"),
        field("Prompt, tokens", count("prompt", 1), "of the longest prompt"),
        field("Answer, tokens", count("output", 2), "of the longest answer"),
        field(
            "Seed", dmc.NumberInput(id="systems-seed", value=values["seed"], min=0, allowDecimal=False), "of all that is drawn"
        ),
        html.Div(field("Settings, one a line", settings, "for all systems, as --set takes them"), className="half"),
    ]
    start = html.Button("Compare", id="systems-start", type="button", className="primary")
    return html.Section(
        [
            html.Div(fields, className="controls form-fields"),
            more_fields("networks, users, lengths and settings", more, CONTROLS[2:], values),
            html.Div(start, className="row"),
        ],
        className="card form",
        **{"aria-label": "What is asked"},
    )


def ask(values: dict[str, Any]) -> dict[str, Any]:
    """What the form asks for, as plain data."""
    return {
        **{name: values[name] for name in ("prompt", "output", "users", "seed")},
        "topologies": values["systems"],
        "llms": values["llms"] or list(LLMS),
        "interconnects": values["networks"],
        "settings": [line.strip() for line in values["settings"].splitlines() if line.strip()],
        "contents": contents([*values["systems"], *values["llms"], *values["networks"]]),
    }


def connect(app: Dash, own: RunFolder) -> None:
    """Serve when asked; what is kept is shown at once."""
    connect_answer(app, ANSWER)


def draw(found: dict[str, Any] | None, values: dict[str, Any]) -> Any:
    """For each LLM who is fastest and who is cheapest, cost and energy against speed, and every load."""
    if found is None:
        return message("Not asked yet", "Say which systems and LLMs, and press Compare.")
    name = ANSWER.name(values)
    refused = [
        html.P(f"{head['llm']}: {name_of(head)} cannot serve it: {head['reason']}", className="left-out")
        for head in found["systems"]
        if head["reason"]
    ]
    words = (
        f"Prompts of {found['prompt_tokens']:,} tokens and answers of {found['output_tokens']:,}, lengths from 0.8 to 1 of it. "
        "A line joins the loads that no other of that system beats."
    )
    cards = [
        figure_card(f"systems-figure-{i}", llm, words, cost_against_speed(_of(found, llm)), wide=True)
        for i, llm in enumerate(found["llms"])
    ]
    return [
        html.P([sentence(_of(found, llm)) + " " for llm in found["llms"]], className="sentence", id="systems-sentence"),
        *refused,
        *(_at_speeds(_of(found, llm)) for llm in found["llms"]),
        html.Section(cards, className="cards"),
        _loads(found),
        html.Section(
            [
                html.H2("How to read it"),
                html.Ul([html.Li(line) for line in _how_to_read(found)]),
                html.H2("The same from a terminal"),
                code_line(found["command"]),
                saved_as([("JSON", f"/answer/systems/{name}.json")]),
            ],
            className="card below",
        ),
    ]


def _how_to_read(found: Mapping[str, Any]) -> list[str]:
    unused = [f"No effect on this answer: {', '.join(found['unused_keys'])}."] if found["unused_keys"] else []
    return [f"Error: {ERROR}.", *(f"Assumed: {words}." for words in found["assumes"]), *unused]


def _of(found: Mapping[str, Any], llm: str) -> dict[str, Any]:
    """The answer for one LLM."""
    own = {key: [one for one in found[key] if one["llm"] == llm] for key in ("systems", "rows")}
    return {**found, **own, "llms": [llm]}


def sentence(found: Mapping[str, Any]) -> str:
    """Who serves a user of one LLM fastest, and who the cheapest token."""
    (llm,) = found["llms"]
    rows = [(name_of(head), row) for head in found["systems"] for row in rows_of(found, head)]
    if not rows:
        return f"No system here serves {llm}."
    fast_name, fast = max(rows, key=lambda one: float(one[1]["tokens_per_s_per_user"]))
    cheap_name, cheap = min(rows, key=lambda one: float(one[1]["usd_per_mtoken"]))
    return (
        f"A user of {llm} is served fastest on {fast_name}: {fast['tokens_per_s_per_user']:,.3g} tokens/s at "
        f"{fast['usd_per_mtoken']:,.3g} USD per million tokens. A token is cheapest on {cheap_name}: "
        f"{cheap['usd_per_mtoken']:,.3g} USD per million at {cheap['tokens_per_s_per_user']:,.3g} tokens/s."
    )


def _at_speeds(found: Mapping[str, Any]) -> html.Section:
    """What each system asks for a user's speed, and what is known of its error."""
    titles = ("stored as", "chips", *(f"{speed} tokens/s" for speed in SPEEDS), "fastest", "error")
    head = html.Thead(html.Tr([html.Th("", scope="col"), *(html.Th(title, scope="col") for title in titles)]))
    lines = []
    for one in found["systems"]:
        rows = rows_of(found, one)
        if rows:
            fastest = f"{rows[0]['tokens_per_s_per_user']:,.0f} tokens/s ({laid_out(rows[0])})"
            cells = [one["weights"], f"{rows[0]['chips']:,}", *(_cell(rows, speed) for speed in SPEEDS), fastest, error_text(one)]
            lines.append(html.Tr([html.Th(name_of(one), scope="row"), *map(html.Td, cells)]))
    table = html.Table([head, html.Tbody(lines)], className="numbers")
    (llm,) = found["llms"]
    scroll = html.Div(table, className="scroll", tabIndex=0, role="region", **{"aria-label": f"{llm} at speeds"})
    return html.Section([html.H2(f"{llm} at a user's speed"), html.P(CELL), scroll], className="card below")


def _cell(rows: Sequence[Mapping[str, Any]], speed: float) -> str:
    best = cheapest_at(rows, speed)
    return "–" if best is None else f"{best['usd_per_mtoken']:,.3g} USD, {best['j_per_mtoken'] / 1e6:,.3g} MJ"


def _loads(found: Mapping[str, Any]) -> html.Section:
    lines = [
        {
            "llm": head["llm"],
            "system": name_of(head),
            "laid_out": laid_out(row),
            **{key: row[key] for key in ("users", "tokens_per_s_per_user", "tokens_per_s", "ttft_s", "usd_per_mtoken")},
            "mj_per_mtoken": row["j_per_mtoken"] / 1e6,
            "best": "yes" if row["best"] else "no",
        }
        for head in found["systems"]
        for row in rows_of(found, head)
    ]
    titles = {
        "llm": "LLM",
        "system": "system",
        "laid_out": "laid out",
        "users": "users",
        "tokens_per_s_per_user": "tokens/s a user",
        "tokens_per_s": "tokens/s",
        "ttft_s": "TTFT, s",
        "usd_per_mtoken": "USD per million",
        "mj_per_mtoken": "MJ per million",
        "best": "not beaten",
    }
    widths = {"system": {"width": 280}, "llm": {"width": 150}, "laid_out": {"width": 150}}
    columns = [column(name, title, lines, **widths.get(name, {"width": 130})) for name, title in titles.items()]
    words = "Each load that was served; not beaten: no other of that system is as fast for a user and cheaper."
    return rows_table("systems-rows", "Loads", words, lines, columns)


ANSWER = Answered(
    page="systems",
    controls=CONTROLS,
    ask=ask,
    title=lambda values: f"{', '.join(values['llms'] or LLMS)} on {', '.join(values['systems'])}"[:120],
    draw=draw,
    doing="Serving",
    begins="start",
)
