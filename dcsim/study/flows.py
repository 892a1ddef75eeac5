"""Flows that start by themselves: those of a file, or drawn at a given load with sizes of a given distribution."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import WorkloadError
from dcsim.network.packet.engine.traffic import Flows, next_group, permutation
from dcsim.reading import Unreadable, open_text, reading
from dcsim.spec.flow_sizes import FlowSizes

COLUMNS = ("source", "destination", "bytes", "start")
SIZE_MOST, START_MOST_S = 1 << 50, 1e5
ROWS_MOST = 10_000_000
SEED_STREAM = 15

Numbers = NDArray[np.float64]


def read_flows(path: Path, chips: int) -> Flows:
    """The flows of a CSV file with columns `source`, `destination` (chips, from 0), `bytes` and `start` (s from the beginning).

    Columns may stand in any order, others are not read; a file that ends in .gz or .zst is unpacked. Raises WorkloadError that
    names the line for what is no flow among `chips` chips.
    """
    with reading(path, WorkloadError), open_text(path) as text:
        rows = [*_rows(csv.reader(text), chips)]
    if not rows:
        raise WorkloadError(f"{path}: holds no flows")
    source, target, size, start = (np.array(column) for column in zip(*rows, strict=True))
    return Flows(source.astype(np.int64), target.astype(np.int64), size.astype(np.int64), start.astype(np.float64))


def _rows(lines: Any, chips: int) -> Iterator[tuple[int, int, int, float]]:
    header = [name.strip().lower() for name in next(lines, [])]
    for name in COLUMNS:
        if name not in header:
            near = difflib.get_close_matches(name, header, n=1)
            mend = f"is it '{near[0]}'?" if near else f"it needs {', '.join(COLUMNS)}"
            raise Unreadable(f"line 1: no column '{name}'; {mend}")
    places = [header.index(name) for name in COLUMNS]
    for count, cells in enumerate(lines):
        if not cells:
            continue
        if count >= ROWS_MOST:
            raise Unreadable(f"more than {ROWS_MOST:,} flows; cut the file into several")
        try:
            yield _flow([cells[place] for place in places], chips)
        except IndexError:
            raise Unreadable(f"line {lines.line_num}: {len(cells)} cells, the header names {len(header)}") from None
        except ValueError as error:
            raise Unreadable(f"line {lines.line_num}: {error}") from None


def _flow(cells: list[str], chips: int) -> tuple[int, int, int, float]:
    source, target, size = (_whole(name, cell) for name, cell in zip(COLUMNS[:3], cells[:3], strict=True))
    for name, chip in (("source", source), ("destination", target)):
        if not 0 <= chip < chips:
            raise ValueError(f"{name} {chip} is no chip; there are {chips:,}, from 0")
    if source == target:
        raise ValueError(f"chip {source} sends to itself")
    if not 1 <= size <= SIZE_MOST:
        raise ValueError(f"{size} bytes are no size to send; at least 1, at most {SIZE_MOST:,}")
    try:
        start_s = float(cells[3])
    except ValueError:
        raise ValueError(f"start '{cells[3]}' is no number; it counts seconds, without a unit: 0.000005") from None
    if not 0 <= start_s <= START_MOST_S:
        raise ValueError(f"start {cells[3]} is no time from 0 to {START_MOST_S:g} s")
    return source, target, size, start_s


def _whole(name: str, cell: str) -> int:
    try:
        return int(cell)
    except ValueError:
        unit = ": it counts bytes, without a unit" if name == "bytes" else ""
        raise ValueError(f"{name} '{cell}' is no whole number{unit}") from None


def sizes_drawn(sizes: FlowSizes | int, uniform: Numbers) -> NDArray[np.int64]:
    """Sizes in bytes at quantiles from 0 to 1; all the same for a number."""
    if isinstance(sizes, int):
        return np.full(len(uniform), sizes, np.int64)
    return np.maximum(1, np.rint(np.interp(uniform, sizes.shares, sizes.sizes_bytes))).astype(np.int64)


def mean_size(sizes: FlowSizes | int) -> float:
    """Bytes of a flow in the mean."""
    return float(sizes) if isinstance(sizes, int) else sizes.mean_bytes


def poisson(
    pattern: str, groups: NDArray[Any], line_bytes_per_s: float, load: float, duration_s: float, sizes: FlowSizes | int, seed: int
) -> Flows:
    """Flows that start at random, independently at each chip, for `duration_s`.

    `load` is the data offered to a chip's own cables as a share of what they carry: those of each sender, or for `incast` those
    of the one receiver. `groups` is [chip] its group, for `adversarial`. A seed draws the same flows at
    every load, closer together or further apart, and more or fewer of them.
    """
    chips = len(groups)
    starts, sized, placed = (np.random.default_rng([seed, SEED_STREAM, i]) for i in range(3))
    total_per_s = load * line_bytes_per_s / mean_size(sizes) * (1 if pattern == "incast" else chips)
    count = max(1, round(total_per_s * duration_s))
    start_s = np.cumsum(starts.exponential(1.0, count)) / total_per_s
    places = placed.random((count, 2))  # who sends, and to whom
    senders = np.arange(pattern == "incast", chips)
    source = senders[(places[:, 0] * len(senders)).astype(np.int64)]
    return Flows(source, _targets(pattern, groups, source, places[:, 1], seed), sizes_drawn(sizes, sized.random(count)), start_s)


def _targets(pattern: str, groups: NDArray[Any], source: NDArray[np.int64], draw: Numbers, seed: int) -> NDArray[np.int64]:
    chips = len(groups)
    if pattern == "incast":
        return np.zeros(len(source), np.int64)
    if pattern == "perm":
        return np.asarray(permutation(chips, 1, seed).target[source])
    if pattern == "adversarial":
        return np.asarray(next_group(groups, source, draw))
    return np.asarray((source + 1 + (draw * (chips - 1)).astype(np.int64)) % chips)
