"""Numbers as people read them."""

from __future__ import annotations

from typing import Any

from dcsim.results.metrics import UNIT
from dcsim.units import format_power, format_time


def value_text(metric: str, value: Any) -> str:
    """The value of a metric with its unit; a dash where the run has none."""
    if value is None:
        return "–"
    if isinstance(value, str) or metric in ("seed", "schema_version"):
        return str(value)
    if metric.endswith("_fraction"):
        return percent(value)
    unit = UNIT[metric]
    if unit == "s":
        return format_time(value)
    if unit == "W":
        return format_power(value)
    return f"{number(value)} {unit}" if unit and unit != "requests" else number(value)


def number(value: float) -> str:
    """Four significant digits, thousands apart."""
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"


def percent(fraction: float | None) -> str:
    """A fraction as a percentage with three significant digits."""
    return "–" if fraction is None else f"{100 * fraction:.3g} %"
