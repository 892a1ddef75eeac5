"""Pictures of many runs: a metric along a key, and what systems are worth beside each other."""

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


def worth(
    rows: Sequence[Mapping[str, Any]], front: Sequence[Mapping[str, Any]], x: tuple[str, str], y: tuple[str, str]
) -> Figure:
    """Candidates of a plan by two of their figures, each a column and its title: those that hold are full, those of the front
    have a line through them, the others are crosses."""
    from plotly.graph_objects import Figure as Picture

    figure = Picture()
    shown = [row for row in rows if all(isinstance(row.get(name), (int, float)) for name in (x[0], y[0]))]
    words = f"%{{customdata}}<br>{x[1]} %{{x:,.4~r}}<br>{y[1]} %{{y:,.4~r}}<extra></extra>"
    best = sorted((row[x[0]], row[y[0]]) for row in front if None not in (row.get(x[0]), row.get(y[0])))
    figure.add_scatter(
        x=[a for a, _ in best],
        y=[b for _, b in best],
        name="no other is better in all three",
        mode="lines",
        line={"color": BLUE, "width": 7},
        opacity=0.25,
        hoverinfo="skip",
    )
    for holds, name, mark, colour in ((True, "holds", "circle", GREEN), (False, "does not hold", "x", VERMILION)):
        own = [row for row in shown if row["holds"] is holds]
        figure.add_scatter(
            x=[row[x[0]] for row in own],
            y=[row[y[0]] for row in own],
            name=name,
            mode="markers",
            marker={"symbol": mark, "color": colour, "size": 9},
            customdata=[f"{row['topology']}, {row['units']:,} {row['unit']}s" for row in own],
            hovertemplate=words,
        )
    figure.update_xaxes(title=x[1], rangemode="tozero")
    figure.update_yaxes(title=y[1], rangemode="tozero")
    figure.update_layout(hovermode="closest")
    return dress(figure, legend=True, empty=not shown, height=360)


def _place(value: Any) -> Any:
    """A number where the value is one, its unit left out."""
    try:
        return float(str(value).split()[0])
    except (ValueError, IndexError):
        return str(value)
