"""Plan: how much of each system a rate of requests takes within its SLOs, what that costs and draws, and why not less."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, html

from dashboard.background import Answered, connect_answer, layout_of
from dashboard.choices import OWN, contents, one, options, settings_text, some, text_that
from dashboard.jobs import BackgroundJob
from dashboard.parts import (
    code_line,
    column,
    done_here,
    facts,
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
from dashboard.state import Control, one_of, whole
from dcsim import library
from dcsim.results.metrics import LIMIT_MEANING
from dcsim.results.pictures_of_sweeps import worth
from dcsim.units import MONEY, POWER, TIME, format_power, format_time, parse_quantity

TITLE = "Plan"
LEAST = ("cost", "power", "racks")
PRESETS = library.names("workloads/slos")
TARGETS = ("ttft_p99", "tpot_p99")


def _rate(words: str) -> None:
    from dcsim.study.scenario import rate_of

    for part in filter(None, words.split("..")):
        rate_of(part)


def _others(words: str) -> None:
    from dcsim.study.sizing.slo import read_target

    for target in filter(None, map(str.strip, words.split(","))):
        read_target(target)


def _quantity(dimension: str, example: str) -> Any:
    return text_that(lambda words: parse_quantity(words, dimension), f"a quantity such as {example}")


CONTROLS = (
    Control("systems", ["8rack"], some("topology")),
    Control("rate", "50/s", text_that(_rate, "a rate such as 50/s, or one that grows, 50/s..200/s")),
    Control("minimise", "cost", one_of(LEAST)),
    Control("ttft_p99", "1 s", _quantity(TIME, "1 s")),
    Control("tpot_p99", "10 ms", _quantity(TIME, "10 ms")),
    Control("slo", "", one_of(("", *PRESETS))),
    Control("targets", "", text_that(_others, "targets such as itl_p99=50ms, e2e_p50=30s")),
    Control("llm", "", one("llm")),
    Control("workload", "", one("workload")),
    Control("networks", [], some("interconnect")),
    Control("max_power", "", _quantity(POWER, "300 kW")),
    Control("max_cost", "", _quantity(MONEY, "5 MUSD")),
    Control("spare", "", text_that(lambda words: None, "units such as 1rack")),
    Control("peak", "", _quantity(TIME, "1 h")),
    Control("sensitivity", "no", one_of(("no", "yes"))),
    Control("seed", 1, whole(0, 2**31)),
    Control("settings", "", settings_text),
)
WORDS = (
    "The smallest size of each system that meets every target jointly, simulated with prompts, queues and bursts; what that "
    "costs and draws, what gives way first beyond it, and why nothing smaller does."
)


def layout(**query: Any) -> html.Div:
    """The form at what the address says, and room for the plan."""
    return layout_of("plan", CONTROLS, query, heading("What to build", WORDS), _form, done_here("plan", "Plans made here"))


def _form(values: dict[str, Any]) -> html.Section:
    start = html.Button("Plan", id="plan-start", type="button", className="primary")
    return html.Section(
        [
            html.Div(_wanted(values), className="controls form-fields"),
            more_fields(
                "LLM, workload, networks, limits and other targets", [*_traffic(values), *_terms(values)], CONTROLS[5:], values
            ),
            html.Div(start, className="row"),
        ],
        className="card form",
        **{"aria-label": "What is asked"},
    )


def _wanted(values: dict[str, Any]) -> list[Any]:
    """Systems, the rate they must hold, and the targets."""
    systems = "what may be built, in any size; none: every one that can hold the LLM"
    ttft = "99 % of requests have their first token in this time, queueing included"
    tpot = "99 % of requests have at most this time per token after the first"
    return [
        html.Div(
            field("Systems", _several("systems", values, "topology", "every one that can hold the LLM"), systems),
            className="half",
        ),
        field("Rate", _words("rate", values, "50/s"), "requests in a second, on average; or growth, such as 50/s..200/s"),
        field("Least of", _segments("minimise", values, LEAST), "what is least of the systems that hold"),
        field("TTFT p99 within", _words("ttft_p99", values, "no target"), ttft),
        field("TPOT p99 within", _words("tpot_p99", values, "no target"), tpot),
    ]


def _traffic(values: dict[str, Any]) -> list[Any]:
    """What is served, and its other targets."""
    presets = select("plan-slo", values["slo"], ["", *PRESETS], {"": "none"})
    llm = select("plan-llm", values["llm"], options("llm", own=OWN))
    workload = select("plan-workload", values["workload"], options("workload", own=OWN))
    targets = "ttft, tpot, itl or e2e at p50, p90 or p99, with commas between"
    peak = "of a workload with a day's curve: its busiest stretch of this length has to hold"
    return [
        field("SLO preset", presets, "targets of a kind; those beside it go before"),
        field("Other targets", _words("targets", values, "itl_p99=50ms"), targets),
        field("LLM", llm, "which LLM is served"),
        field("Workload", workload, "which requests arrive, and when"),
        field("Busiest stretch", _words("peak", values, "1 h"), peak),
    ]


def _terms(values: dict[str, Any]) -> list[Any]:
    """What may be built of, the limits, and how it is looked for."""
    seed = dmc.NumberInput(id="plan-seed", value=values["seed"], min=0, max=2**31, allowDecimal=False)
    settings = dmc.Textarea(
        id="plan-settings",
        value=values["settings"],
        placeholder="serving.chunk_tokens=64",
        debounce=400,
        autosize=True,
        minRows=1,
    )
    sensitivity = "how large it would be with each of the most uncertain figures at its two ends; takes longer"
    return [
        field("Networks", _several("networks", values, "interconnect", "each system's own"), "what may join the chips"),
        field("Spare", _words("spare", values, "none"), "bought beside what must hold: 1rack, 2node, 8chip"),
        field("Power at most", _words("max_power", values, "any"), "at the site's meter, such as 300 kW"),
        field("Cost at most", _words("max_cost", values, "any"), "of what is bought, such as 5 MUSD"),
        field("Sensitivity", _segments("sensitivity", values, ("no", "yes")), sensitivity),
        field("Seed", seed, "of every random stream"),
        field("Settings, one a line", settings, "as --set takes them: key=value, with unit"),
    ]


def _words(name: str, values: dict[str, Any], placeholder: str) -> Any:
    return dmc.TextInput(id=f"plan-{name}", value=values[name], placeholder=placeholder, debounce=400)


def _segments(name: str, values: dict[str, Any], choices: Iterable[str]) -> Any:
    return dmc.SegmentedControl(id=f"plan-{name}", value=values[name], data=list(choices), size="sm", fullWidth=True)


def _several(name: str, values: dict[str, Any], part: str, otherwise: str) -> Any:
    """A choice of several entries; `otherwise` says what none means."""
    return dmc.MultiSelect(
        id=f"plan-{name}",
        value=values[name],
        data=options(part),
        searchable=True,
        placeholder="" if values[name] else otherwise,
        attributes={"input": {"aria-label": name}},
    )


def ask(values: dict[str, Any]) -> dict[str, Any]:
    """What the form asks for, as plain data."""
    presets = [values["slo"]] if values["slo"] else []
    others = [target.strip() for target in values["targets"].split(",") if target.strip()]
    return {
        "topologies": values["systems"],
        "rate": values["rate"] or "50/s",
        "slo": [*presets, *(f"{name}={values[name]}" for name in TARGETS if values[name]), *others],
        "interconnects": values["networks"],
        "settings": [line.strip() for line in values["settings"].splitlines() if line.strip()],
        **{name: values[name] for name in ("llm", "workload", "max_power", "max_cost", "spare", "peak", "minimise", "seed")},
        "sensitivity": values["sensitivity"] == "yes",
        "contents": contents([*values["systems"], *values["networks"], values["llm"], values["workload"]]),
    }


def connect(app: Dash, own: RunFolder) -> None:
    """Plan when asked; what is kept is shown at once."""
    connect_answer(app, ANSWER)


def _so_far(job: BackgroundJob, values: dict[str, Any]) -> Any:
    """The candidates that were looked at last, the newest first."""
    if not job.live:
        return ""
    rows = [
        html.Tr(
            [
                html.Th(f"{text(row['topology'])} on {text(row['interconnect'])}", scope="row"),
                html.Td(_size(row)),
                html.Td("holds" if row["holds"] else "does not hold", className="" if row["holds"] else "problem"),
                html.Td(_first_line(row["reason"])),
            ]
        )
        for row in reversed(job.live)
    ]
    return html.Section(
        [
            html.H2("Looked at so far"),
            html.Div(html.Table(html.Tbody(rows), className="numbers"), className="scroll", tabIndex=0),
        ],
        className="card",
        id="plan-so-far",
    )


def draw(found: dict[str, Any] | None, values: dict[str, Any]) -> Any:
    """The answer in a sentence and figures, what each system takes, what was looked at, and how to get the same."""
    if found is None:
        return message("Not planned yet", "Say what must hold, and press Plan. It takes from seconds to some minutes.")
    name = ANSWER.name(values)
    answer, systems, candidates = found["answer"], found["answers"], found["candidates"]
    simulated = [row for row in candidates if row["seeds"]]
    cost, power, speed = (
        ("usd_per_h", "USD an hour"),
        ("power_w", "W at the site's meter"),
        ("tokens_per_s_per_user_p50", "tokens/s a user (p50)"),
    )
    words = "All that was simulated; the line joins systems that no other beats in cost, power and speed at once."
    return [
        html.P(sentence(found), className="sentence", id="plan-sentence"),
        *([_answer_facts(answer)] if answer else []),
        *_growth(found),
        _why(systems, candidates),
        *_moved(found),
        html.Div(
            [
                figure_card("plan-cost-speed", "Cost and speed", words, worth(simulated, found["front"], cost, speed)),
                figure_card("plan-power-speed", "Power and speed", words, worth(simulated, found["front"], power, speed)),
                figure_card("plan-cost-power", "Cost and power", words, worth(simulated, found["front"], cost, power)),
                _rests_on(found),
            ],
            className="cards",
        ),
        _table(
            "plan-candidates", "Candidates", "All that was looked at, with the reason where it does not hold.", candidates, found
        ),
        *(
            [
                _table(
                    "plan-systems-table",
                    "The smallest of each system",
                    "Those that hold, each in its smallest size.",
                    systems,
                    found,
                )
            ]
            if len(systems) > 1
            else []
        ),
        html.Section(
            [
                html.H2("The same from a terminal"),
                code_line(found["command"]),
                saved_as([("Report (HTML)", f"/report/plan/{name}.html"), ("JSON", f"/answer/plan/{name}.json")]),
            ],
            className="card below",
        ),
    ]


def sentence(found: Mapping[str, Any]) -> str:
    """What to build, or that nothing holds."""
    targets = " and ".join(f"{name.replace('_', ' ').upper()} {format_time(limit)}" for name, limit in found["slo"].items())
    asked = f"{found['rate_per_s']:.4g} requests/s within {targets.replace(' P', ' p')}"
    answer = found["answer"]
    if answer is None:
        return f"Nothing that was asked for holds {asked}."
    more = f", {answer['spare_units']} of them spare" if answer["spare_units"] else ""
    total = answer["units"] + answer["spare_units"]
    cost = answer["usd_per_mtoken"]
    money = f"{answer['capital_usd'] / 1e6:,.4g} M USD" + (f", {cost:,.4g} USD per million tokens" if cost else "")
    return (
        f"For {asked} build {answer['topology']} of {_counted(total, answer['unit'])}{more}: "
        f"{_counted(answer['chips'], 'chip')}, {format_power(answer['power_w'], 4)}, {money}."
    )


def _answer_facts(answer: Mapping[str, Any]) -> html.Dl:
    usual = [
        ("racks", f"{answer['racks']:,}"),
        ("chips", f"{answer['chips']:,}"),
        ("mapping", f"tp {answer['tp']}, pp {answer['pp']}, replicas {answer['replicas']}"),
        ("network", text(answer["interconnect"])),
        ("power, most", format_power(answer["power_w_max"], 4)),
        ("USD an hour", f"{answer['usd_per_h']:,.4g}"),
        (
            "tokens/s a user",
            "–" if answer["tokens_per_s_per_user_p50"] is None else f"{answer['tokens_per_s_per_user_p50']:,.4g}",
        ),
        ("seeds", f"{answer['seeds']}"),
    ]
    first = str(answer["binding"])
    return facts([*usual, ("breaks first", f"{first.replace('_', ' ')}: {LIMIT_MEANING.get(first, '')}".rstrip(": "))])


def _growth(found: Mapping[str, Any]) -> list[Any]:
    """What each rate takes, where it grows."""
    if "growth" not in found:
        return []
    head = html.Tr([html.Th(name, scope="col") for name in ("requests/s", "build", "racks", "chips", "power", "M USD")])
    rows = []
    for step in found["growth"]:
        one_of_it = step["answer"]
        cells = ["nothing holds", "", "", "", ""]
        if one_of_it is not None:
            cells = [
                f"{one_of_it['topology']} of {_size(one_of_it)}",
                f"{one_of_it['racks']:,}",
                f"{one_of_it['chips']:,}",
                format_power(one_of_it["power_w"], 4),
                f"{one_of_it['capital_usd'] / 1e6:,.4g}",
            ]
        rows.append(html.Tr([html.Th(f"{step['rate_per_s']:.4g}", scope="row"), *map(html.Td, cells)]))
    table = html.Table([html.Thead(head), html.Tbody(rows)], className="numbers")
    return [html.Section([html.H2("As the rate grows"), html.Div(table, className="scroll", tabIndex=0)], className="card")]


def _moved(found: Mapping[str, Any]) -> list[Any]:
    """How large the answer would be with each uncertain figure at its two ends, where that was asked."""
    rows = found.get("sensitivity") or []
    if not rows:
        return []

    def end(row: Mapping[str, Any], name: str) -> str:
        there = row[name]
        size = "nothing holds" if there["units"] is None else _counted(there["units"], str(found["answer"]["unit"]))
        return f"{there['value']}: {size}"

    head = html.Tr([html.Th(name, scope="col") for name in ("figure", "kind", "at its low end", "at its high end")])
    body = [
        html.Tr(
            [
                html.Th(text(row["key"]), scope="row"),
                html.Td(text(row["kind"])),
                html.Td(end(row, "low")),
                html.Td(end(row, "high")),
            ]
        )
        for row in rows
    ]
    table = html.Div(html.Table([html.Thead(head), html.Tbody(body)], className="numbers"), className="scroll", tabIndex=0)
    return [html.Section([html.H2("With uncertain figures at their ends"), table], className="card below", id="plan-moved")]


def _why(systems: Sequence[Mapping[str, Any]], candidates: Sequence[Mapping[str, Any]]) -> html.Section:
    """For each system, what is wrong with the next smaller size."""
    lines = [
        html.Li([html.Strong(f"{text(row['topology'])} on {text(row['interconnect'])}: "), why_not_smaller(row, candidates)])
        for row in systems
    ]
    held = {(row["topology"], row["interconnect"]) for row in systems}
    others = dict.fromkeys((row["topology"], row["interconnect"]) for row in candidates)
    for system in others:
        if system not in held:
            last = [row for row in candidates if (row["topology"], row["interconnect"]) == system][-1]
            lines.append(
                html.Li(
                    [
                        html.Strong(f"{text(system[0])} on {text(system[1])}: "),
                        f"no size holds; {_size(last)}: {_first_line(last['reason'])}",
                    ]
                )
            )
    return html.Section([html.H2("Why not smaller"), html.Ul(lines)], className="card below", id="plan-why")


def why_not_smaller(row: Mapping[str, Any], candidates: Sequence[Mapping[str, Any]]) -> str:
    """What happens in the largest size below one that holds: the reason of its best layout."""
    same = ("topology", "interconnect")
    below = [c for c in candidates if all(c[name] == row[name] for name in same) and c["units"] < row["units"] and not c["holds"]]
    if not below:
        return f"{_size(row)} is the smallest there is." if row["units"] == 1 else f"{_size(row)}; an estimate refuses all below."
    near = [c for c in below if c["units"] == max(c["units"] for c in below)]
    best = next((c for c in near if c["seeds"]), near[0])
    how = "simulated" if best["seeds"] else "by an estimate"
    return f"{_size(row)} hold; {_size(best)} do not ({how}): {_first_line(best['reason'])}."


def _rests_on(found: Mapping[str, Any]) -> html.Section:
    skipped = [html.Li(f"{text(one['topology'])} is left out: {_first_line(one['reason'])}") for one in found["skipped"]]
    counted = f"{found['simulations']:,} simulations for this plan, {found['simulations_kept']:,} taken from before."
    return html.Section(
        [
            html.H2("What it rests on"),
            html.P(counted),
            html.Ul([*(html.Li(f"Assumes: {line}.") for line in found["assumes"]), *skipped]),
        ],
        className="card",
    )


def _table(name: str, title: str, words: str, rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> html.Section:
    shown = [{key: value for key, value in row.items() if not isinstance(value, (dict, list))} for row in rows]
    for line, row in zip(shown, rows, strict=True):
        line["holds"] = "yes" if row["holds"] else "no"
        line["by"] = f"{row['seeds']} seed{'s' if row['seeds'] > 1 else ''}" if row["seeds"] else "estimate"
        line["reason"] = _first_line(row["reason"])
        line["settings"] = ", ".join(f"{key} {value}" for key, value in row["settings"].items())
    targets = [(metric.replace("_p", "_s_p"), f"{metric.replace('_', ' ')}, s") for metric in found["slo"]]
    columns = [
        column("topology", "system", shown),
        column("interconnect", "network", shown),
        column("units", "units", shown, width=90),
        column("unit", "unit", shown, width=90),
        column("holds", "holds", shown, width=90),
        column("reason", "why not", shown, width=420, tooltipField="reason"),
        column("by", "by", shown, width=100),
        *(column(metric, title, shown) for metric, title in targets),
        *(
            column(key, title, shown)
            for key, title in (
                ("racks", "racks"),
                ("chips", "chips"),
                ("replicas", "replicas"),
                ("tp", "tp"),
                ("pp", "pp"),
                ("chunk_tokens", "chunk, tokens"),
                ("power_w", "power, W"),
                ("power_w_max", "power max, W"),
                ("capital_usd", "capital, USD"),
                ("usd_per_h", "USD/h"),
                ("usd_per_mtoken", "USD/M tokens"),
                ("tokens_per_s_per_user_p50", "tokens/s a user"),
                ("limited_by", "limited by"),
                ("settings", "settings"),
            )
        ),
    ]
    return rows_table(name, title, words, shown, columns)


def _size(row: Mapping[str, Any]) -> str:
    return _counted(row["units"], str(row["unit"]))


def _counted(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def _first_line(reason: Any) -> str:
    return text(reason).partition("\n")[0].rstrip(".")


ANSWER = Answered(
    page="plan",
    controls=CONTROLS,
    ask=ask,
    title=lambda values: f"{', '.join(values['systems']) or 'the best of the library'} for {values['rate']}",
    draw=draw,
    doing="Planning",
    begins="start",
    so_far=_so_far,
)
