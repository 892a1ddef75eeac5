"""Measured jobs as text for a terminal, as a picture, and as docs/MEASURED.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Row = Mapping[str, Any]

_GROUPS = {"system": "chip", "llm": "LLM", "library": "library", "degree": "degrees"}
_MOST_SHOWN = 40  # rows in a terminal


def table(result: Mapping[str, Any]) -> str:
    """Errors in all and by group, then the jobs."""
    lines = [_line("all", result), ""]
    for key, label in _GROUPS.items():
        lines += [_line(f"{label} {name}", part) for name, part in result["by"][key].items()] + [""]
    lines += [f"{'simulated / measured':<22}{'TPOT':>8}{'TTFT':>8}  job"]
    shown = result["rows"][:_MOST_SHOWN]
    lines += [_job(row) for row in shown]
    if len(result["rows"]) > len(shown):
        lines.append(f"and {len(result['rows']) - len(shown)} more: --json lists all")
    return "\n".join(lines)


def calibrated(result: Mapping[str, Any]) -> str:
    """The figures found for each library, and the errors on jobs left out before and after."""
    lines = []
    for name, found in result["engines"].items():
        lines += [f"{name}: step {found['step_s'] * 1e3:.3g} ms, sequence {found['sequence_s'] * 1e6:.3g} us a layer"]
        lines += [f"  fitted to {found['fitted']} jobs; mean |ln(simulated/measured)| of the {found['left_out']} left out:"]
        for when in ("before", "after"):
            part = found[when]
            errors = f"TPOT {_number(part['tpot_ln_error_mean'])}, TTFT {_number(part['ttft_ln_error_mean'])}"
            lines += [f"  {when:<7} {errors}"]
        lines += [f"  in a run: --set serving.engine.step='{found['step_s'] * 1e3:.3g} ms'"]
        lines += [f"            --set serving.engine.sequence='{found['sequence_s'] * 1e6:.3g} us'"]
    return "\n".join(lines)


def _line(name: str, part: Mapping[str, Any]) -> str:
    near = part["tpot_within_1.25_fraction"]
    return (
        f"{name:<44} {part['count']:>4} jobs, {_percent(part['answered_fraction'])} run; mean |ln(simulated/measured)|: "
        f"TPOT {_number(part['tpot_ln_error_mean'])}, TTFT {_number(part['ttft_ln_error_mean'])}; "
        f"TPOT within 1.25: {_percent(near)}"
    )


def _job(row: Row) -> str:
    head = f"{'':<22}{_number(row['tpot_ratio']):>8}{_number(row['ttft_ratio']):>8}  {row['id']}"
    return head + (f": {row['reason']}" if row["reason"] else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def scatter(rows: Sequence[Row]) -> Figure:
    """Simulated over measured TPOT and TTFT, one point a job, by system and LLM; the dashed line is equality."""
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 2, subplot_titles=["time per output token", "time to first token"], horizontal_spacing=0.1)
    names = list(dict.fromkeys((row["system"], row["llm"]) for row in rows if row["simulated"]))
    for column, quantity in enumerate(("tpot_s", "ttft_s"), 1):
        points = [row for row in rows if row["simulated"] and row["measured"].get(quantity)]
        for number, (system, llm) in enumerate(names):
            own = [row for row in points if (row["system"], row["llm"]) == (system, llm)]
            figure.add_scatter(
                x=[row["measured"][quantity] for row in own],
                y=[row["simulated"][quantity] for row in own],
                mode="markers",
                marker={"size": 5, "symbol": number % 8},
                name=f"{llm} on {system}",
                legendgroup=f"{number}",
                showlegend=column == 1,
                text=[row["id"] for row in own],
                hovertemplate="%{text}<br>measured %{x:.4~s}s, simulated %{y:.4~s}s",
                row=1,
                col=column,
            )
        if points:
            ends = [pick(row[side][quantity] for row in points for side in ("measured", "simulated")) for pick in (min, max)]
            figure.add_scatter(
                x=ends, y=ends, mode="lines", line={"dash": "dash", "color": "#808894"}, showlegend=False, row=1, col=column
            )
        figure.update_xaxes(type="log", title="measured (s)", row=1, col=column)
        figure.update_yaxes(type="log", title="simulated (s)", row=1, col=column)
    figure.update_layout(height=460, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", legend={"orientation": "h"})
    return figure


# What is no blind prediction.
SEEN = (
    "The errors above were in sight while this was built. No figure was moved for them, but four choices were made after",
    "they were seen: the engine's time for a sequence goes with the LLM's layers; TensorRT-LLM is taken to hold room to the",
    "end of an answer; of the kernels timed for 4-bit weights the faster kind counts; and drafts are accepted with 0.62,",
    "which the gaps between streamed chunks of the jobs with multi-token prediction give. Those are no blind predictions;",
    "other chips, LLMs and libraries are.",
)

# Why the chip that is worst is so, and why an earlier version of the page had less.
UNTIMED = """\
No kernel of MI300X was timed: products, experts and attention are taken as Hopper's under the same library, slower by what
large products reach. What its iterations lack is about the same at any number in flight, as launches or slower kernels would
be. It is not the all-reduces: those are as eight MI355X were timed (`topologies/software/serving-cdna.yaml`). An error of 0.28
stood here while they were NCCL's, several times as long, which hid it."""
FEW, MANY = 8, 32  # in flight

# What choices changed: mean |ln(simulated / measured)| of TPOT and TTFT over `served_gpu.csv`, in the order they were made; the
# later ones over eight jobs of each LLM, system, library and precision.
CHOICES = (
    ("iterations of whatever tokens there are; rooflines; NCCL's all-reduces", "0.284", "0.866"),
    (
        "kernels by kind (`topologies/operators`), all-reduces as serving engines launch them",
        "0.278*",
        "0.575*",
    ),
    ("8-bit inputs of MXFP4 weights where the chip multiplies 4-bit numbers; the engine's own time", "0.186*", "0.445*"),
    ("room that grows with preemption, or is held to the end; copies of attention with budgets of their own", "0.17", "0.41"),
)

INTRODUCTION = """\
# Measured jobs

Generated by `python -m validation.measured docs FOLDER` from tables that are not shipped. A job is run as its client ran it: a
fixed number of requests in flight, ten times as many in all, lengths as stated. A ratio is simulated over measured; an error is
the mean of |ln(ratio)|, so that 0.10 is a factor of 1.1 either way.

Check your own cluster with the same command: `dcsim validate --measured results.json --figure scatter.html`, where `results.json`
is what `vllm bench serve --save-result --max-concurrency N --metadata system=h200_sxm tp=8 precision=fp8` leaves, or a table in
the layout of InferenceMAX's results. `--calibrate` fits the engine's own time (a step, a sequence) to every second job and
reports the error on the others. Beside that one figure rests on served jobs, the share of drafts that is accepted (below).

The engine's own time is fixed on jobs of `inferencemax.csv`: gpt-oss-120b on H200 for vLLM, DeepSeek-R1 on H200 for SGLang. These
are no predictions and stand apart below.

## What is taken for granted of every job
"""

# Jobs that a figure was fixed on: (system, library).
FIXED_ON = (("h200", "vllm"), ("h200", "sglang"))


def document(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """docs/MEASURED.md of the answers about each table, by its name."""
    lines = [INTRODUCTION, *_choices()]
    for name, result in tables.items():
        picture = f"images/{name.removesuffix('.csv')}.svg"
        lines += ["", f"## {name}", "", f"![simulated over measured]({picture})", "", *_table(result)]
        lines += ["", *_lacking(result["rows"])]
    lines += ["", UNTIMED]
    lines += ["", "## Choices since the first comparison", "", "| choice | TPOT | TTFT |", "|---|---|---|"]
    lines += [f"| {what} | {tpot} | {ttft} |" for what, tpot, ttft in CHOICES]
    return "\n".join([*lines, "", "\\* over eight jobs of each LLM, system, library and precision.", "", *SEEN]) + "\n"


def _choices() -> list[str]:
    """The list at the head of `predict`."""
    from validation.measured import predict

    text = predict.__doc__ or ""
    return text[text.index("- ") :].strip().splitlines()


def _table(result: Mapping[str, Any]) -> list[str]:
    lines = ["| | jobs | run | TPOT | within 1.25 | TTFT |", "|---|---|---|---|---|---|", _row("all", result)]
    if "predictions" in result:
        lines += [_row("those that no figure was fixed on", result["predictions"])]
    for key, label in _GROUPS.items():
        lines += [_row(f"{label} {name}", part) for name, part in result["by"][key].items()]
    reasons = {row["reason"] for row in result["rows"] if row["reason"]}
    return lines + (["", "Not run: " + "; ".join(sorted(reasons))] if reasons else [])


def _lacking(rows: Sequence[Row]) -> list[str]:
    """What a token takes more than simulated, by chip: its mean in ms with few and with many in flight."""
    lines = [f"| TPOT, measured less simulated | up to {FEW} in flight | {MANY} and more |", "|---|---|---|"]
    for system in dict.fromkeys(row["system"] for row in rows):
        own = [row for row in rows if row["system"] == system and row["simulated"]]
        few = [row for row in own if row["concurrency"] <= FEW]
        many = [row for row in own if row["concurrency"] >= MANY]
        lines.append(f"| chip {system} | {_mean_lacking(few)} | {_mean_lacking(many)} |")
    return lines


def _mean_lacking(rows: Sequence[Row]) -> str:
    more = [1e3 * (row["measured"]["tpot_s"] - row["simulated"]["tpot_s"]) for row in rows if row["measured"].get("tpot_s")]
    return f"{sum(more) / len(more):.1f} ms" if more else "-"


def _row(name: str, part: Mapping[str, Any]) -> str:
    cells = (part["count"], _percent(part["answered_fraction"]), _number(part["tpot_ln_error_mean"]))
    near, ttft = _percent(part["tpot_within_1.25_fraction"]), _number(part["ttft_ln_error_mean"])
    return f"| {name} | {' | '.join(map(str, cells))} | {near} | {ttft} |"


def drawing(rows: Sequence[Row]) -> str:
    """The scatter plot as an SVG of its own, log by log, TPOT left and TTFT right; the line is equality."""
    width, margin = 360, 44
    colours = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#808894")
    names = list(dict.fromkeys(row["llm"] for row in rows if row["simulated"]))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * width} {width + 18 * len(names) + 10}" '
        'font-family="sans-serif" font-size="11" fill="#808894">'
    ]
    for panel, (quantity, title) in enumerate((("tpot_s", "time per output token"), ("ttft_s", "time to first token"))):
        pairs = [
            (row["measured"][quantity], row["simulated"][quantity], names.index(row["llm"]))
            for row in rows
            if row["simulated"] and row["measured"].get(quantity)
        ]
        if not pairs:
            continue
        ends = [math.log10(value) for pair in pairs for value in pair[:2]]
        low, high = math.floor(min(ends)), math.ceil(max(ends))
        scale = (width - 2 * margin) / max(1, high - low)
        left, bottom = panel * width + margin, width - margin

        def place(value: float, low: int = low, scale: float = scale) -> float:
            return (math.log10(value) - low) * scale

        parts.append(f'<text x="{left}" y="{margin - 16}">{title}: simulated over measured, s</text>')
        for power in range(low, high + 1):
            at = (power - low) * scale
            lines = f"M{left + at:.1f} {bottom}V{margin}M{left} {bottom - at:.1f}H{left + width - 2 * margin}"
            parts.append(f'<path d="{lines}" stroke="#808894" stroke-opacity="0.25"/>')
            parts.append(f'<text x="{left + at:.1f}" y="{bottom + 14}" text-anchor="middle">1e{power}</text>')
            parts.append(f'<text x="{left - 4}" y="{bottom - at + 4:.1f}" text-anchor="end">1e{power}</text>')
        parts.append(f'<path d="M{left} {bottom}L{left + width - 2 * margin} {margin}" stroke="#808894" stroke-dasharray="4 3"/>')
        parts += [
            f'<circle cx="{left + place(x):.1f}" cy="{bottom - place(y):.1f}" r="1.8" fill="{colours[n % len(colours)]}" '
            'fill-opacity="0.6"/>'
            for x, y, n in pairs
        ]
    for n, name in enumerate(names):
        y = width + 18 * n
        parts.append(f'<circle cx="{margin}" cy="{y - 4}" r="4" fill="{colours[n % len(colours)]}"/>')
        parts.append(f'<text x="{margin + 10}" y="{y}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
