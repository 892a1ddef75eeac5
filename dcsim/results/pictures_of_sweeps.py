"""Pictures of many runs: a metric along a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dcsim.results.pictures import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, dress

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE)


def along(rows: Sequence[Mapping[str, Any]], metric: str, key: str, others: Sequence[str]) -> Figure:
    """A metric along a key, a line for each combination of the other keys; points without a result are left out."""
    from plotly.graph_objects import Figure as Picture

    lines: dict[tuple[Any, ...], list[tuple[Any, float]]] = {}
    for row in rows:
        if isinstance(row.get(metric), (int, float)):
            lines.setdefault(tuple(row.get(other) for other in others), []).append((_place(row[key]), float(row[metric])))
    figure = Picture()
    for i, (values, points) in enumerate(lines.items()):
        if all(isinstance(x, float) for x, _ in points):
            points.sort()
        figure.add_scatter(
            x=[x for x, _ in points],
            y=[y for _, y in points],
            name=", ".join(f"{other} {value}" for other, value in zip(others, values, strict=True)),
            mode="lines+markers",
            line={"color": COLOURS[i % len(COLOURS)]},
        )
    figure.update_xaxes(title=key)
    figure.update_yaxes(title=metric, rangemode="tozero")
    return dress(figure, legend=bool(others), empty=not lines, height=380)


def _place(value: Any) -> Any:
    """A number where the value is one, its unit left out."""
    try:
        return float(str(value).split()[0])
    except (ValueError, IndexError):
        return str(value)
