"""Turns columns of cells into numbers and gathers the broken ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import WorkloadError
from dcsim.spec.workload import TraceColumns

ROWS_NAMED = 10
_TOKENS_MAX = 2**31 - 1
_NS = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0}
_EMPTY_NS = np.iinfo(np.int64).min  # numpy's "not a time"


class BadRows:
    """The broken rows of a file found so far. Rows count from 1, the header left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[tuple[int, str]] = []

    def add(self, row: int, what: str) -> None:
        """Note a problem in data row `row` (counted from 0); past ROWS_NAMED of them, stop reading."""
        self.problems.append((row + 1, what))
        if len(self.problems) >= ROWS_NAMED:
            self.raise_any()

    def raise_any(self) -> None:
        """Raise WorkloadError if there is any."""
        if self.problems:
            lines = [f"{self.path}: row {row}: {what}" for row, what in sorted(self.problems)]
            raise WorkloadError("\n".join(lines))


def tokens_of(cells: list[Any], column: str, least: int, first_row: int, bad: BadRows) -> NDArray[np.int32]:
    """Whole numbers of at least `least`. Broken cells are noted in `bad` and become 0."""
    values = _numbers(cells)
    with np.errstate(invalid="ignore"):
        wrong = ~((values >= least) & (values <= _TOKENS_MAX) & (values == np.floor(values)))
    for i in np.flatnonzero(wrong):
        what = f"column '{column}': {cells[i]!r} is not a whole number of at least {least}"
        bad.add(first_row + int(i), what)
    return np.where(wrong, 0, values).astype(np.int32)


def arrivals_of(cells: list[Any], columns: TraceColumns, first_row: int, bad: BadRows) -> NDArray[np.int64]:
    """Arrival times in ns from any fixed origin. Broken cells are noted in `bad` and become 0."""
    if columns.arrival_unit == "date":
        (values, wrong), kind = _dates(cells), "date with time, like 2023-11-16 18:15:46.68"
    else:
        (values, wrong), kind = _times(cells, _NS[columns.arrival_unit]), "number"
    for i in np.flatnonzero(wrong):
        bad.add(first_row + int(i), f"column '{columns.arrival}': {cells[i]!r} is not a {kind}")
    return np.where(wrong, 0, values)


def require_order(arrival_ns: NDArray[np.int64], before_ns: int | None, column: str, first_row: int, bad: BadRows) -> int:
    """Note rows that arrive before the row above them, which for the first is at `before_ns`; returns the last row's time."""
    above = np.concatenate([[arrival_ns[0] if before_ns is None else before_ns], arrival_ns[:-1]])
    for i in np.flatnonzero(arrival_ns < above):
        what = f"column '{column}': {(above[i] - arrival_ns[i]) / 1e9:g} s before the row above"
        bad.add(first_row + int(i), f"{what}; sort the file, or `unsorted: sort`")
    return int(arrival_ns[-1])


def _times(cells: list[Any], factor: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    values = np.rint(_numbers(cells) * factor)
    wrong = ~(np.abs(values) < 2.0**62)
    return np.where(wrong, 0, values).astype(np.int64), wrong


def _dates(cells: list[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Written dates to ns since 1970. A UTC offset (`+02:00`, `Z`) is taken off; without one it is UTC."""
    try:
        values = _naive(cells)
    except (ValueError, TypeError, AttributeError, IndexError):
        values = np.array([_date(cell) for cell in cells], np.int64)
    return values, values == _EMPTY_NS


def _naive(cells: list[Any]) -> NDArray[np.int64]:
    """All cells at once, if all are UTC's; else ValueError."""
    if isinstance(cells[0], str) and cells[0].endswith("+00:00"):
        cells = [cell.removesuffix("+00:00") for cell in cells]
    if any(":" not in cell or cell[-1] == "Z" or cell[-6] in "+-" for cell in cells):
        raise ValueError("a cell needs a closer look")
    return np.array(cells, "datetime64[ns]").astype(np.int64)


def _date(cell: Any) -> int:
    """ns since 1970, or _EMPTY_NS if `cell` is not a date with time."""
    text, offset_min = str(cell).strip().removesuffix("Z"), 0
    try:
        if len(text) > 6 and text[-6] in "+-" and text[-3] == ":":
            sign = -1 if text[-6] == "-" else 1
            offset_min, text = sign * (60 * int(text[-5:-3]) + int(text[-2:])), text[:-6]
        if ":" not in text:
            return int(_EMPTY_NS)
        return int(np.datetime64(text.strip(), "ns").astype(np.int64)) - offset_min * 60 * 10**9
    except ValueError:
        return int(_EMPTY_NS)


def _numbers(cells: list[Any]) -> NDArray[np.float64]:
    """All cells as numbers; NaN where a cell is none."""
    if bool not in set(map(type, cells)):
        try:
            return np.array(cells, np.float64)
        except (ValueError, TypeError):
            pass
    return np.array([_number(cell) for cell in cells], np.float64)


def _number(cell: Any) -> float:
    """`cell` as a number; NaN if it is none."""
    if isinstance(cell, bool):
        return np.nan
    try:
        return float(cell)
    except (ValueError, TypeError):
        return np.nan
