"""Measured jobs as text for a terminal, as a picture, and as docs/MEASURED.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
