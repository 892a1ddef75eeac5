"""Reads request traces: CSV, JSONL and Parquet, plain or packed with gzip or zstd, into arrays.

Columns of the known formats, from the files' own publishers: Azure 2023 and 2024 (Azure/AzurePublicDataset;
written dates, in 2024 with a UTC offset), BurstGPT (HPMLL/BurstGPT; a response of 0 tokens is a failure),
Mooncake (kvcache-ai/Mooncake; whole milliseconds, with blocks of the prompt), Bailian (alibaba-edu/qwen-bailian-usagetraces-anon;
Mooncake's names, but seconds and chats of several turns) and Vidur (microsoft/vidur; seconds).
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim import library
from dcsim.errors import WorkloadError, shown
from dcsim.reading import Unreadable, open_text, parse_json, reading
from dcsim.spec.workload import TraceColumns, TraceSpec
from dcsim.workload.columns import told_by_name
from dcsim.workload.trace_values import BadRows, are_whole, arrivals_of, blocks_of, require_order, tokens_of

BLOCK_ROWS = 100_000  # rows held as text at once
_BLOCK_CHARS = 2**26
_LINE_MAX = 2**24  # characters; a longer line is no row of requests
_ROWS_MAX = 2**27  # whose arrays take 2 GB
_AZURE = {"arrival": "TIMESTAMP", "arrival_unit": "date", "prompt_tokens": "ContextTokens", "output_tokens": "GeneratedTokens"}
_LENGTHS = {"arrival": "timestamp", "prompt_tokens": "input_length", "output_tokens": "output_length"}
_FORMATS: dict[str, dict[str, str]] = {
    "azure-2023": _AZURE,
    "azure-2024": _AZURE,
    "burstgpt": {"arrival": "Timestamp", "prompt_tokens": "Request tokens", "output_tokens": "Response tokens", "failed": "drop"},
    "bailian": {**_LENGTHS, "arrival_unit": "s"},
    "mooncake": {**_LENGTHS, "arrival_unit": "ms"},
    "vidur": {"arrival": "arrived_at", "prompt_tokens": "num_prefill_tokens", "output_tokens": "num_decode_tokens"},
}
# Formats that share their columns and not their unit: what else a file has to have to be known as one of them.
_SIGNS = {"bailian": {"chat_id", "turn"}, "mooncake": {"hash_ids"}}
_WHOLE = {"mooncake"}  # formats whose arrivals are whole numbers
BLOCKS = "hash_ids"  # the column with the ids of a prompt's blocks, in Mooncake's and Bailian's files
UnitKnown = Callable[[list[Any]], bool]  # from the cells of a block's arrivals


@dataclass(frozen=True, slots=True)
class Trace:
    """Rows in order of arrival, counted from the start of the part used, which is `span_s` long."""

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    span_s: float
    dropped: int = 0  # failed requests left out
    blocks: NDArray[Any] | None = None  # of each prompt a tuple of block ids, where they were asked for

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
    raise WorkloadError(f"no trace file {shown(name)}; {mend}")


def read_trace(path: Path, spec: TraceSpec, *, with_blocks: bool = False) -> Trace:
    """Read the part of `path` that `spec` asks for. Where unsorted rows may be sorted they are moved whole, ties in order.

    `with_blocks` reads the ids of the prompts' blocks (`hash_ids`) too.
    Raises WorkloadError: for broken rows, naming up to ten at once (file, row, column, value); for a unit that cannot be told.
    """
    with reading(path, WorkloadError):
        return _read_trace(path, spec, with_blocks)


def _read_trace(path: Path, spec: TraceSpec, with_blocks: bool) -> Trace:
    bad = BadRows(path)
    blocks: list[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]] = []
    ids: list[NDArray[Any]] = []
    dropped = first_row = 0
    latest_ns = None
    for header, columns in _read_blocks(path):
        names, is_unit_known = _columns(path, header, spec, columns)
        cells = {name: columns[_index(path, header, name)] for name in _used(names)}
        arrival_ns = arrivals_of(cells[names.arrival], names, first_row, bad)
        if spec.unsorted == "error" and not bad.problems:  # a broken cell has no time
            latest_ns = require_order(arrival_ns, latest_ns, names.arrival, first_row, bad)
        prompt = tokens_of(cells[names.prompt_tokens], names.prompt_tokens, 1, first_row, bad)
        least = 0 if names.failed == "drop" else 1
        output = tokens_of(cells[names.output_tokens], names.output_tokens, least, first_row, bad)
        kept = output > 0
        if with_blocks:
            ids.append(blocks_of(columns[_index(path, header, BLOCKS)], BLOCKS, first_row, bad)[kept])
        if not is_unit_known(cells[names.arrival]):
            bad.raise_any()  # broken rows first: they may be why
            raise WorkloadError(f"{path}: {_question(names.arrival)}")
        dropped += len(kept) - int(kept.sum())
        first_row += len(kept)
        if first_row > _ROWS_MAX:
            raise WorkloadError(f"{path}: holds more than {_ROWS_MAX:,} requests; cut it into several")
        blocks.append((arrival_ns[kept], prompt[kept], output[kept]))
    bad.raise_any()
    if sum(len(block[0]) for block in blocks) == 0:
        raise WorkloadError(f"{path}: holds no requests")
    arrival, prompt, output = (np.concatenate([block[i] for block in blocks]) for i in range(3))
    return _part(path, spec, arrival, prompt, output, dropped, np.concatenate(ids) if ids else None)


def _part(
    path: Path,
    spec: TraceSpec,
    arrival_ns: NDArray[np.int64],
    prompt: NDArray[np.int32],
    output: NDArray[np.int32],
    dropped: int,
    blocks: NDArray[Any] | None,
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
    own = None if blocks is None else blocks[order][inside]
    return Trace(arrival_s, prompt, output, spec.window_s or float(arrival_s[-1] + gap_s), dropped, own)


def _columns(path: Path, header: list[str], spec: TraceSpec, cells: list[list[Any]]) -> tuple[TraceColumns, UnitKnown]:
    """The column names to use (the spec's map, the named format's, or those of the format that fits), and whether the unit
    of these arrivals is known.
    """
    known: UnitKnown = _surely
    if spec.format == "columns" and spec.columns is not None:
        names = spec.columns
    elif spec.format != "auto":
        names = TraceColumns.model_validate(_FORMATS[spec.format])
    else:
        names, known = _told_by(path, header, spec, cells)
    if spec.arrival_unit is not None:
        return names.model_copy(update={"arrival_unit": spec.arrival_unit}), _surely
    return names, known


def _told_by(path: Path, header: list[str], spec: TraceSpec, cells: list[list[Any]]) -> tuple[TraceColumns, UnitKnown]:
    """The columns of the format that the header fits, or those that its names tell; WorkloadError where neither does."""
    fitting = {}
    for name, columns in _FORMATS.items():
        names = TraceColumns.model_validate(columns)
        if set(_used(names)) <= set(header):
            fitting[name] = names
    if not fitting:
        try:
            return told_by_name(header, cells, spec.arrival_unit), _surely
        except WorkloadError as error:
            raise WorkloadError(f"{path}: {error}") from None
    signed = [name for name in fitting if _SIGNS.get(name, set()) <= set(header)]
    first = (signed or list(fitting))[0]
    if not signed:
        return fitting[first], _never
    return fitting[first], are_whole if first in _WHOLE else _surely


def _surely(_: list[Any]) -> bool:
    return True


def _never(_: list[Any]) -> bool:
    return False


def _question(column: str) -> str:
    return (
        f"which unit column {shown(column)} counts in cannot be told (Mooncake's files have whole milliseconds and blocks in "
        "`hash_ids`, Bailian's seconds, `chat_id` and `turn`); set workload.trace.arrival_unit to s, ms, us or ns"
    )


def _used(columns: TraceColumns) -> tuple[str, str, str]:
    return columns.arrival, columns.prompt_tokens, columns.output_tokens


def _index(path: Path, header: list[str], name: str) -> int:
    if header.count(name) == 1:
        return header.index(name)
    if name in header:
        raise WorkloadError(f"{path}: column {shown(name)} stands there {header.count(name)} times; rename all but one")
    near = difflib.get_close_matches(name, header, n=1)
    mend = f"did you mean {shown(near[0])}?" if near else f"it has {', '.join(map(shown, header))}"
    raise WorkloadError(f"{path}: no column {shown(name)}; {mend}")


def _read_blocks(path: Path) -> Iterator[tuple[list[str], list[list[Any]]]]:
    """Yield (header, columns) for every BLOCK_ROWS rows or fewer; a column is a list of cells."""
    ending = path.name.lower().removesuffix(".gz").removesuffix(".zst").rpartition(".")[2]
    readers = {"csv": _csv_blocks, "jsonl": _jsonl_blocks, "parquet": _parquet_blocks}
    if ending not in readers:
        raise WorkloadError(f"{path}: a trace is a .csv, .jsonl (either may end in .gz or .zst) or .parquet file")
    yield from readers[ending](path)


def _lines(file: Any) -> Iterator[str]:
    """The file's lines. A file without ends of lines, which would fill the memory as one, is refused."""
    while line := file.readline(_LINE_MAX):
        if len(line) == _LINE_MAX:
            raise Unreadable(f"a line of it is longer than {_LINE_MAX:,} characters")
        yield line


def _blocks(rows: Iterable[Any], size: Any) -> Iterator[list[Any]]:
    """Rows in lists of BLOCK_ROWS, or as many as have _BLOCK_CHARS; `size` gives a row's characters."""
    block: list[Any] = []
    chars = 0
    for row in rows:
        block.append(row)
        chars += size(row)
        if len(block) >= BLOCK_ROWS or chars >= _BLOCK_CHARS:
            yield block
            block, chars = [], 0
    if block:
        yield block


def _csv_blocks(path: Path) -> Iterator[tuple[list[str], list[list[Any]]]]:
    with open_text(path) as file:
        rows = csv.reader(_lines(file))
        header = [name.strip() for name in next(rows, [])]
        first_row = 0
        for block in _blocks(rows, lambda cells: sum(map(len, cells))):
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
            bad.add(first_row + i, f"{len(row)} cells instead of {width}: {shown(','.join(row)[:60])}")
    bad.raise_any()


def _jsonl_blocks(path: Path) -> Iterator[tuple[list[str], list[list[Any]]]]:
    header: list[str] = []
    first_row = 0
    with open_text(path) as file:
        for lines in _blocks((line for line in _lines(file) if not line.isspace()), len):
            rows = _json_rows(path, lines, first_row)
            header = header or list(rows[0])
            yield header, [[row.get(name) for row in rows] for name in header]
            first_row += len(lines)


def _json_rows(path: Path, lines: list[str], first_row: int) -> list[dict[str, Any]]:
    bad = BadRows(path)
    rows = []
    for i, line in enumerate(lines):
        try:
            row = parse_json(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            bad.add(first_row + i, f"not a JSON object: {shown(line.strip()[:60])}")
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
    except (pa.ArrowException, OSError) as error:
        raise Unreadable(str(error).splitlines()[0]) from error


def _plain(column: Any) -> list[Any]:
    """A Parquet column as a list; timestamps become written dates, as in the other files."""
    import pyarrow as pa

    return list((column.cast(pa.string()) if pa.types.is_timestamp(column.type) else column).to_pylist())
