"""What a notebook's cell shows: a card of a few lines, or a card over a table."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

from dcsim.units import format_power, format_time

if TYPE_CHECKING:
    import pandas as pd

ROWS_SHOWN = 12
_CARD = (
    '<div style="border:1px solid #8088944d;border-radius:8px;padding:8px 14px;display:inline-block;font-family:system-ui">'
    "<b>{title}</b><table>{rows}</table></div>"
)
_ROW = '<tr><td style="text-align:left;color:#808894">{name}</td><td style="text-align:left">{value}</td></tr>'

Facts = Iterable[tuple[str, str]]


def card(title: str, facts: Facts) -> str:
    """A title and a few facts, a line each."""
    rows = "".join(_ROW.format(name=escape(name), value=escape(value)) for name, value in facts)
    return _CARD.format(title=escape(title), rows=rows)


def card_and_table(title: str, facts: Facts, table: pd.DataFrame) -> str:
    """A card, and the first rows of a table below it."""
    more = len(table) - ROWS_SHOWN
    shown = table.head(ROWS_SHOWN).to_html(index=False, border=0, float_format=lambda value: f"{value:.5g}")
    return card(title, facts) + shown + (f"<i>and {more:,} more rows</i>" if more > 0 else "")


def seconds(value: float | None) -> str:
    """A time, or a dash where there is none."""
    return "–" if value is None else format_time(value)


def watts(value: float | None) -> str:
    """Power, or a dash where there is none."""
    return "–" if value is None else format_power(value)


def number(value: float | None, unit: str = "") -> str:
    """Four digits and a unit, or a dash where there is none."""
    return "–" if value is None else f"{value:,.4g} {unit}".strip()
