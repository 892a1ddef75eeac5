"""Reads request traces: CSV, JSONL and Parquet, plain or gzip-compressed, into arrays.

Columns of the known formats, from the files' own publishers: Azure 2023 and 2024 (Azure/AzurePublicDataset;
written dates, in 2024 with a UTC offset), BurstGPT (HPMLL/BurstGPT; a response of 0 tokens is a failure),
Mooncake (kvcache-ai/Mooncake; milliseconds) and Vidur (microsoft/vidur; seconds).
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim import library
from dcsim.errors import WorkloadError
from dcsim.spec.workload import TraceColumns, TraceSpec
from dcsim.workload.trace_values import BadRows, arrivals_of, require_order, tokens_of

BLOCK_ROWS = 100_000  # rows held as text at once
_AZURE = {"arrival": "TIMESTAMP", "arrival_unit": "date", "prompt_tokens": "ContextTokens", "output_tokens": "GeneratedTokens"}
_FORMATS: dict[str, dict[str, str]] = {
    "azure-2023": _AZURE,
    "azure-2024": _AZURE,
    "burstgpt": {"arrival": "Timestamp", "prompt_tokens": "Request tokens", "output_tokens": "Response tokens", "failed": "drop"},
    "mooncake": {"arrival": "timestamp", "arrival_unit": "ms", "prompt_tokens": "input_length", "output_tokens": "output_length"},
    "vidur": {"arrival": "arrived_at", "prompt_tokens": "num_prefill_tokens", "output_tokens": "num_decode_tokens"},
}


@dataclass(frozen=True, slots=True)
class Trace:
    """Rows in order of arrival, counted from the start of the part used, which is `span_s` long."""

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    span_s: float
    dropped: int = 0  # failed requests left out

    def __len__(self) -> int:
        return len(self.arrival_s)


def find_trace(name: str) -> Path:
    """The file called `name`: an existing path wins, else a file of workloads/traces, endings optional."""
    path = Path(name).expanduser()
    if library.is_file(path):
        return path
    known = {own: file for own, file in library.files("workloads/traces").items() if file.suffix != ".md"}
    for own, file in known.items():
        if name in (own, own.split(".")[0]):
            return file
    names = list(known)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    mend = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"
    raise WorkloadError(f"no trace file '{name}'; {mend}")


def read_trace(path: Path, spec: TraceSpec) -> Trace:
    """Read the part of `path` that `spec` asks for. Where unsorted rows may be sorted they are moved whole, ties in order.

    Raises WorkloadError naming up to ten broken rows at once: file, row, column, value.
    """
    bad = BadRows(path)
    blocks: list[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]] = []
    dropped = first_row = 0
    latest_ns = None
    for header, columns in _read_blocks(path):
        names = _columns(path, header, spec)
        cells = {name: columns[_index(path, header, name)] for name in _used(names)}
        arrival_ns = arrivals_of(cells[names.arrival], names, first_row, bad)
        if spec.unsorted == "error" and not bad.problems:  # a broken cell has no time
            latest_ns = require_order(arrival_ns, latest_ns, names.arrival, first_row, bad)
        prompt = tokens_of(cells[names.prompt_tokens], names.prompt_tokens, 1, first_row, bad)
        least = 0 if names.failed == "drop" else 1
        output = tokens_of(cells[names.output_tokens], names.output_tokens, least, first_row, bad)
        kept = output > 0
        dropped += len(kept) - int(kept.sum())
        first_row += len(kept)
        blocks.append((arrival_ns[kept], prompt[kept], output[kept]))
    bad.raise_any()
    if sum(len(block[0]) for block in blocks) == 0:
        raise WorkloadError(f"{path}: holds no requests")
    arrival, prompt, output = (np.concatenate([block[i] for block in blocks]) for i in range(3))
    return _part(path, spec, arrival, prompt, output, dropped)


def _part(
    path: Path,
    spec: TraceSpec,
    arrival_ns: NDArray[np.int64],
    prompt: NDArray[np.int32],
    output: NDArray[np.int32],
    dropped: int,
) -> Trace:
    """Sort by arrival, count from the first row, cut to the asked window.

    Without a window the span is the time from the first row to the last and one mean gap more.
    """
    order = np.argsort(arrival_ns, kind="stable")
    since_s = (arrival_ns[order] - arrival_ns[order[0]]) / 1e9 - spec.start_s
    inside = since_s >= 0
    if spec.window_s:
        inside &= since_s < spec.window_s
    arrival_s, prompt, output = since_s[inside], prompt[order][inside], output[order][inside]
    if not len(arrival_s):
        raise WorkloadError(f"{path}: no requests between `start` and the end of `window`")
    gap_s = (arrival_s[-1] - arrival_s[0]) / max(len(arrival_s) - 1, 1)
    return Trace(arrival_s, prompt, output, spec.window_s or float(arrival_s[-1] + gap_s), dropped)


def _columns(path: Path, header: list[str], spec: TraceSpec) -> TraceColumns:
    """The column names to use: the spec's map, the named format's, or the first format that fits."""
    if spec.format == "columns" and spec.columns is not None:
        return spec.columns
    if spec.format != "auto":
        return TraceColumns.model_validate(_FORMATS[spec.format])
    for names in _FORMATS.values():
        columns = TraceColumns.model_validate(names)
        if set(_used(columns)) <= set(header):
            return columns
    raise WorkloadError(
        f"{path}: columns {', '.join(header)} are of no known format ({', '.join(_FORMATS)});"
        " give `format: columns` and a `columns` map"
    )


def _used(columns: TraceColumns) -> tuple[str, str, str]:
    return columns.arrival, columns.prompt_tokens, columns.output_tokens


def _index(path: Path, header: list[str], name: str) -> int:
    if name in header:
        return header.index(name)
    near = difflib.get_close_matches(name, header, n=1)
    mend = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(header)}"
    raise WorkloadError(f"{path}: no column '{name}'; {mend}")


def _read_blocks(path: Path) -> Iterator[tuple[list[str], list[list[Any]]]]:
    """Yield (header, columns) for every BLOCK_ROWS rows; a column is a list of cells."""
    ending = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    readers = {"csv": _csv_blocks, "jsonl": _jsonl_blocks, "parquet": _parquet_blocks}
    if ending not in readers:
        raise WorkloadError(f"{path}: a trace is a .csv, .jsonl (either may end in .gz) or .parquet file")
    try:
        yield from readers[ending](path)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise WorkloadError(f"{path}: cannot be read: {error}") from error


def _open(path: Path) -> io.TextIOBase:
    if path.name.lower().endswith(".gz"):
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _csv_blocks(path: Path) -> Iterator[tuple[list[str], list[list[Any]]]]:
    with _open(path) as file:
        rows = csv.reader(file)
        header = [name.strip() for name in next(rows, [])]
        first_row = 0
        while block := list(islice(rows, BLOCK_ROWS)):
            try:
                columns = [list(cells) for cells in zip(*block, strict=True)]
            except ValueError:
                columns = []
            if len(columns) != len(header):
                _raise_ragged(path, block, len(header), first_row)
            yield header, columns
            first_row += len(block)


def _raise_ragged(path: Path, block: list[list[str]], width: int, first_row: int) -> None:
    bad = BadRows(path)
    for i, row in enumerate(block):
        if len(row) != width:
            bad.add(first_row + i, f"{len(row)} cells instead of {width}: {','.join(row)[:60]!r}")
    bad.raise_any()


def _jsonl_blocks(path: Path) -> Iterator[tuple[list[str], list[list[Any]]]]:
    header: list[str] = []
    first_row = 0
    with _open(path) as file:
        while lines := list(islice(file, BLOCK_ROWS)):
            rows = _json_rows(path, lines, first_row)
            header = header or list(rows[0])
            yield header, [[row.get(name) for row in rows] for name in header]
            first_row += len(lines)


def _json_rows(path: Path, lines: list[str], first_row: int) -> list[dict[str, Any]]:
    bad = BadRows(path)
    rows = []
    for i, line in enumerate(lines):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if not isinstance(row, dict):
            bad.add(first_row + i, f"not a JSON object: {line.strip()[:60]!r}")
        else:
            rows.append(row)
    bad.raise_any()
    return rows


def _parquet_blocks(path: Path) -> Iterator[tuple[list[str], list[list[Any]]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BLOCK_ROWS):
                yield batch.schema.names, [_plain(column) for column in batch.columns]
    except pa.ArrowInvalid as error:
        raise WorkloadError(f"{path}: cannot be read: {error}") from error


def _plain(column: Any) -> list[Any]:
    """A Parquet column as a list; timestamps become written dates, as in the other files."""
    import pyarrow as pa

    return list((column.cast(pa.string()) if pa.types.is_timestamp(column.type) else column).to_pylist())
