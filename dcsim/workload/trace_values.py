"""Turns columns of cells into numbers and gathers the broken ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import WorkloadError, shown
from dcsim.spec.workload import TraceColumns

ROWS_NAMED = 10
_TOKENS_MAX = 2**31 - 1
_NS = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0}
_DATE = re.compile(r"[+-]?\d{4,6}-\d\d?-\d\d?[T ]\d\d?:\d\d(:\d\d(\.\d*)?)?")  # without an offset
_SECONDS_MAX = 9_223_372_036  # whose nanoseconds fit 64 bits
_PLAIN = {int, float, str, type(None)}  # what a list of may become an array of numbers at once
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
    values = numbers_of(cells)
    with np.errstate(invalid="ignore"):
        wrong = ~((values >= least) & (values <= _TOKENS_MAX) & (values == np.floor(values)))
    for i in np.flatnonzero(wrong):
        what = f"column {shown(column)}: {shown(cells[i])} is not a whole number of at least {least}"
        bad.add(first_row + int(i), what)
    return np.where(wrong, 0, values).astype(np.int32)


def blocks_of(cells: list[Any], column: str, first_row: int, bad: BadRows) -> NDArray[Any]:
    """Of each row a tuple of whole numbers from a list of them. Broken cells are noted in `bad` and become empty."""
    found = np.empty(len(cells), object)
    for i, cell in enumerate(cells):
        fine = isinstance(cell, list) and all(type(one) is int for one in cell)
        if not fine:
            bad.add(first_row + i, f"column {shown(column)}: {shown(cell)} is not a list of whole numbers")
        found[i] = tuple(cell) if fine else ()
    return found


def arrivals_of(cells: list[Any], columns: TraceColumns, first_row: int, bad: BadRows) -> NDArray[np.int64]:
    """Arrival times in ns from any fixed origin. Broken cells are noted in `bad` and become 0."""
    unit = columns.arrival_unit
    values, wrong = _dates(cells) if unit == "date" else _times(cells, _NS[unit])
    for i in np.flatnonzero(wrong):
        bad.add(first_row + int(i), f"column {shown(columns.arrival)}: {shown(cells[i])} {_why_no_arrival(cells[i], unit)}")
    return np.where(wrong, 0, values)


def _why_no_arrival(cell: Any, unit: str) -> str:
    number = _number(cell)
    if unit == "date":
        other = "" if np.isnan(number) else "; `arrival_unit` sets the unit of numbers"
        return f"is not a date with time, like 2023-11-16 18:15:46.68{other}"
    if not np.isfinite(number):
        return "is not a number"
    return f"is out of range for {unit}, which may count 146 years; `arrival_unit` sets the unit"


def written_dates(cells: list[Any]) -> bool:
    """Whether the first of the cells that says anything is a written date with time."""
    first = next((cell for cell in cells if str(cell if cell is not None else "").strip()), None)
    return isinstance(first, str) and _date(first) != _EMPTY_NS


def are_whole(cells: list[Any]) -> bool:
    """Whether all the numbers are whole, as those of a file that counts milliseconds are."""
    values = numbers_of(cells)
    return not np.any(np.isfinite(values) & (values != np.floor(values)))


def require_order(arrival_ns: NDArray[np.int64], before_ns: int | None, column: str, first_row: int, bad: BadRows) -> int:
    """Note rows that arrive before the row above them, which for the first is at `before_ns`; returns the last row's time."""
    above = np.concatenate([[arrival_ns[0] if before_ns is None else before_ns], arrival_ns[:-1]])
    for i in np.flatnonzero(arrival_ns < above):
        what = f"column {shown(column)}: {(above[i] - arrival_ns[i]) / 1e9:g} s before the row above"
        bad.add(first_row + int(i), f"{what}; sort the file, or `unsorted: sort`")
    return int(arrival_ns[-1])


def _times(cells: list[Any], factor: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    with np.errstate(over="ignore"):  # what is too large is told
        values = np.rint(numbers_of(cells) * factor)
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
    if not all(map(_DATE.fullmatch, cells)):
        raise ValueError("a cell needs a closer look")
    return _ns(np.array(cells, "datetime64[s]"), np.array(cells, "datetime64[ns]"))


def _ns(seconds: Any, nanoseconds: Any) -> NDArray[np.int64]:
    """`nanoseconds` as whole numbers, _EMPTY_NS beyond the years 1678 to 2262, where numpy would wrap around."""
    far = np.abs(seconds.astype(np.int64)) >= _SECONDS_MAX
    return np.asarray(np.where(far, _EMPTY_NS, nanoseconds.astype(np.int64)))


def _date(cell: Any) -> int:
    """ns since 1970, or _EMPTY_NS if `cell` is not a date with time."""
    text, offset_min = str(cell).strip().removesuffix("Z"), 0
    try:
        if len(text) > 6 and text[-6] in "+-" and text[-3] == ":":
            sign = -1 if text[-6] == "-" else 1
            offset_min, text = sign * (60 * int(text[-5:-3]) + int(text[-2:])), text[:-6]
        if not _DATE.fullmatch(text.strip()):
            return int(_EMPTY_NS)
        ns = int(_ns(np.datetime64(text.strip(), "s"), np.datetime64(text.strip(), "ns")))
        return ns if ns == _EMPTY_NS else ns - offset_min * 60 * 10**9
    except ValueError:
        return int(_EMPTY_NS)


def numbers_of(cells: list[Any]) -> NDArray[np.float64]:
    """All cells as numbers; NaN where a cell is none."""
    if set(map(type, cells)) <= _PLAIN:
        try:
            return np.array(cells, np.float64)
        except (ValueError, TypeError, OverflowError):
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
    except OverflowError:
        return np.inf
