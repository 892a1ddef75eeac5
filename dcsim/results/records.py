"""The rows of a run and its folder: what each column means, written whole or not at all.

spec.json      the resolved spec        meta.json      versions, seed, what was read
summary.json   the metrics              *.parquet      the tables below
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import RunStoreError
from dcsim.reading import JSON_MAX, Unreadable, reason_of
from dcsim.reading import read_json as read_content
from dcsim.writing import whole_folder

Table = Mapping[str, NDArray[Any]]  # column name -> values

_BLOCK_ROWS = 65_536
STORE_VERSION = 1  # of what a run's folder holds, `schema_version` in its summary; a later one is not read
KEPT = ("requests", "power", "gaps", "limits")  # tables that every run has

FINISHED, REJECTED, FAILED, IN_FLIGHT = "finished", "rejected", "failed", "in_flight"
# How the reason of a request begins that asks for more context than the LLM has, which no cluster changes.
BEYOND_LLM = "context beyond the LLM's own"
STATUSES = (FINISHED, REJECTED, FAILED, IN_FLIGHT)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    dtype: str
    meaning: str


TABLES: dict[str, tuple[Column, ...]] = {
    "requests": (
        Column("request", "int64", "index in order of arrival"),
        Column("arrival_s", "float64", "when it reached its host server"),
        Column("klass", "str", "traffic class"),
        Column("prompt_tokens", "int64", "tokens in"),
        Column("output_tokens", "int64", "tokens asked for"),
        Column("tokens_out", "int64", "tokens given by the end of the run"),
        Column("status", "str", "finished, rejected, failed or in_flight"),
        Column("reason", "str", "why it was rejected or failed"),
        Column("reused_tokens", "int64", "prompt tokens found in KV instead of read"),
        Column("replays", "int64", "times a fault made it start again, and iterations of it run again for bit errors"),
        Column("host", "int64", "host server it came in by; -1 for none"),
        Column("replica", "int64", "replica that served it; -1 for none"),
        Column("ready_s", "float64", "tokenised and on the chips' side of the bus"),
        Column("admitted_s", "float64", "given KV room, prefill may begin"),
        Column("first_token_s", "float64", "first output token sent to the user"),
        Column("finished_s", "float64", "last output token sent to the user"),
        Column("ttft_s", "float64", "first_token_s - arrival_s"),
        Column("tpot_s", "float64", "(finished_s - first_token_s) / (output_tokens - 1); missing for one token"),
        Column("e2e_s", "float64", "finished_s - arrival_s"),
    ),
    "power": (
        Column("time_s", "float64", "end of the interval"),
        Column("rack", "int64", "rack"),
        Column("interval_s", "float64", "length of the interval"),
        Column("power_w", "float64", "mean draw of the rack at the wall over the interval"),
    ),
    "gaps": (
        Column("gap_s", "float64", "time between two successive tokens of one request"),
        Column("count", "int64", "how often it occurred"),
    ),
    "classes": (
        Column("klass", "str", "traffic class"),
        Column("metric", "str", "name of the metric, as in the summary, over the requests of this class alone"),
        Column("value", "float64", "its value; missing without data"),
    ),
    "faults": (
        Column("time_s", "float64", "when the part failed"),
        Column("part", "str", "chip, node, host or link"),
        Column("index", "int64", "which one"),
        Column("replica", "int64", "replica it stopped; -1 for none"),
        Column("down_s", "float64", "how long its work stood still"),
        Column("requests_hit", "int64", "requests whose work was lost"),
    ),
    "rounds": (
        Column("replica", "int64", "which replica"),
        Column("start_s", "float64", "when the first round began"),
        Column("end_s", "float64", "when the last one ended"),
        Column("rounds", "int64", "rounds in a row that did the same"),
        Column("decoding", "int64", "sequences that got a token in each"),
        Column("chunks", "int64", "prompts read in each"),
        Column("iterations", "int64", "micro-batches in each"),
    ),
    "kv_links": (
        Column("link", "int64", "directed link of the fabric that carried KV between separate pools"),
        Column("source", "int64", "vertex it leaves: a chip, or a switch from the number of chips on"),
        Column("target", "int64", "vertex it enters"),
        Column("link_class", "str", "local, global, adapter, ..."),
        Column("carried_bytes", "int64", "KV sent over it"),
        Column("held_s", "float64", "time copies held it, up to free_s"),
        Column("free_s", "float64", "when the last of them has left it"),
    ),
    "limits": (
        Column("resource", "str", "what the time was spent on or waiting for"),
        Column("request_s", "float64", "sum over requests of that time"),
    ),
    "limits_over_time": (
        Column("time_s", "float64", "end of the interval, as in the power table"),
        Column("interval_s", "float64", "length of the interval"),
        Column("resource", "str", "what the time was spent on or waiting for"),
        Column("request_s", "float64", "sum over requests of that time within the interval; over all intervals, that in limits"),
    ),
    "programs": (
        Column("time_s", "float64", "end of the interval, as in the power table"),
        Column("interval_s", "float64", "length of the interval"),
        Column("replica", "int64", "which replica"),
        Column("new_tokens", "int64", "1: a token for each sequence; more: a chunk of a prompt, or drafts to check"),
        Column("batch", "int64", "sequences the program is compiled for"),
        Column("context", "int64", "tokens of context it is compiled for"),
        Column("iterations", "float64", "times it was carried out within the interval, spread evenly over a stretch of rounds"),
    ),
}


class TableWriter:
    """Takes a table's rows block by block and keeps them in memory, or in a Parquet file, one row group a block."""

    def __init__(self, name: str, path: Path | None = None) -> None:
        self._name, self._path = name, path
        self._blocks: list[Table] = []
        self._file: Any = None

    def write(self, block: Table) -> None:
        """Append rows; the block has every column of the table."""
        if self._path is None:
            self._blocks.append(block)
            return
        import pyarrow.parquet as pq

        rows = _arrow(self._name, block)
        if self._file is None:
            self._file = pq.ParquetWriter(self._path, rows.schema, compression="zstd")
        self._file.write_table(rows)

    def close(self) -> Table:
        """All rows written; those in a file are read one column at a time, when asked for."""
        if self._path is not None:
            self._file.close()
            return StoredTable(self._name, self._path)
        names = [column.name for column in TABLES[self._name]]
        return {name: np.concatenate([block[name] for block in self._blocks]) for name in names}


class StoredTable(Mapping[str, NDArray[Any]]):
    """A table in a Parquet file: each look at a column reads it anew, so memory holds what is in use."""

    def __init__(self, name: str, path: Path) -> None:
        self._path = path
        self._columns = {column.name: column for column in TABLES[name]}
        self._file: Any = None  # opened when first read

    def __getitem__(self, name: str) -> NDArray[Any]:
        parts = [block[name] for block in self.blocks((name,))]
        return np.concatenate(parts) if parts else np.empty(0, self._columns[name].dtype)

    def blocks(self, names: Sequence[str]) -> Iterator[Table]:
        """The columns called `names`, as many rows at a time as were written at once."""
        if self._file is None:
            import pyarrow.parquet as pq

            texts = [column.name for column in self._columns.values() if column.dtype == "str"]
            self._file = pq.ParquetFile(self._path, read_dictionary=texts)
        for group in range(self._file.num_row_groups):
            rows = self._file.read_row_group(group, columns=list(names))
            yield {name: self._values(name, rows.column(name).chunks) for name in names}

    def close(self) -> None:
        """Let the file go; the next look at a column opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _values(self, name: str, chunks: Any) -> NDArray[Any]:
        dtype = self._columns[name].dtype
        if dtype == "str":  # a few texts, many rows
            parts = [np.array([t.as_py() for t in c.dictionary], "U")[_numbers(c.indices, "int32")] for c in chunks]
        else:
            parts = [_numbers(chunk, dtype) for chunk in chunks]
        return np.concatenate(parts) if parts else np.empty(0, dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def blocks(table: Table, names: Sequence[str]) -> Iterator[Table]:
    """The columns called `names`, some rows at a time: what goes through a long table needs no memory for all of it."""
    if isinstance(table, StoredTable):
        yield from table.blocks(names)
        return
    for start in range(0, len(table[names[0]]), _BLOCK_ROWS):
        yield {name: table[name][start : start + _BLOCK_ROWS] for name in names}


def digest(tables: Mapping[str, Table], summary: Mapping[str, Any]) -> str:
    """SHA-256 (first 16 hex digits) of the request rows and the summary, independent of process and hash seed."""
    sha = hashlib.sha256()
    for column in TABLES["requests"]:
        sha.update(column.name.encode() + b"\0")
        for block in blocks(tables["requests"], (column.name,)):
            values = block[column.name]
            if column.dtype == "str":
                sha.update("".join(f"{text}\x1f" for text in values.tolist()).encode())
            else:
                sha.update(np.ascontiguousarray(values).data)
    sha.update(json.dumps(dict(summary), sort_keys=True).encode())
    return sha.hexdigest()[:16]


def check_writable(folder: Path) -> None:
    """Fail now rather than after the run: RunStoreError if `folder` cannot become a run folder. Makes nothing."""
    if folder.exists() and not folder.is_dir():
        raise RunStoreError(f"{folder}: is a file; a run needs a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "meta.json").is_file():
        raise RunStoreError(f"{folder}: holds other files; name an empty or new folder")
    if folder.is_dir() and (folder.samefile(Path.cwd()) or os.path.ismount(folder)):
        raise RunStoreError(f"{folder}: is in use as the current folder or a mount; name a folder inside it")
    parent = folder.resolve().parent
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise RunStoreError(f"{folder}: cannot be written: {error.strerror or error}") from error


def write_run(
    folder: Path, tables: Mapping[str, Table], summary: Mapping[str, Any], spec: Mapping[str, Any], meta: Mapping[str, Any]
) -> None:
    """Write a run folder, whole or not at all; an older run of that name is replaced. RunStoreError if it cannot be."""
    with new_run(folder) as work:
        fill(work, tables, summary, spec, meta)


@contextmanager
def new_run(folder: Path) -> Iterator[Path]:
    """A folder to `fill`, which becomes `folder` when the block ends well. RunStoreError where that is not possible.

    Whatever goes wrong, Ctrl-C included, an older run stays and nothing else is left behind.
    """
    check_writable(folder)
    with whole_folder(folder, RunStoreError) as work:
        yield work


def fill(
    work: Path, tables: Mapping[str, Table], summary: Mapping[str, Any], spec: Mapping[str, Any], meta: Mapping[str, Any]
) -> None:
    """Write all of a run into the folder `work`; a table that is in its file there already stays as it is."""
    for name, table in tables.items():
        if not isinstance(table, StoredTable):
            _write_parquet(work / f"{name}.parquet", name, table)
    for name, content in (("spec", spec), ("summary", summary), ("meta", meta)):
        (work / f"{name}.json").write_text(json.dumps(dict(content), indent=2, sort_keys=name != "summary") + "\n")


def _write_parquet(path: Path, name: str, table: Table) -> None:
    import pyarrow.parquet as pq

    pq.write_table(_arrow(name, table), path, compression="zstd")


def _arrow(name: str, table: Table) -> Any:
    """The table with its columns in order, as Arrow has it."""
    import pyarrow as pa

    arrays = []
    for column in TABLES[name]:
        values = table[column.name]
        if column.dtype == "str":
            arrays.append(_arrow_texts(values))
        else:
            numbers = np.ascontiguousarray(values, column.dtype)
            arrays.append(pa.Array.from_buffers(pa.type_for_alias(column.dtype), len(values), [None, pa.py_buffer(numbers)]))
    return pa.Table.from_arrays(arrays, names=[column.name for column in TABLES[name]])


def _arrow_texts(values: NDArray[Any]) -> Any:
    """Texts as Arrow has them. Made of buffers, as numbers are above: Arrow's own conversions load pandas, 0.3 s."""
    import pyarrow as pa

    texts = [text.encode() for text in values.tolist()]
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(texts), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(texts))])


def _numbers(array: Any, dtype: str) -> NDArray[Any]:
    """The values of an Arrow array without missing ones."""
    return np.frombuffer(array.buffers()[1], dtype)[array.offset : array.offset + len(array)]


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """One of the run's JSON files: `summary`, `spec` or `meta`."""
    try:
        content = read_content(folder / f"{name}.json", JSON_MAX)
        if not isinstance(content, dict):
            raise Unreadable("not a mapping of keys to values")
    except (OSError, ValueError, RecursionError) as error:
        raise RunStoreError(f"{folder}: not a readable run folder ({name}.json: {reason_of(error)})") from error
    return content


def read_table(folder: Path, name: str) -> Any:
    """One of the run's tables as a pandas DataFrame."""
    import pandas as pd

    try:
        return pd.read_parquet(folder / f"{name}.parquet")
    except (OSError, ValueError) as error:  # pyarrow's errors are among these
        raise RunStoreError(f"{folder}: {name}.parquet cannot be read: {error}") from error


class Run:
    """A finished run: its summary and tables, in memory or read from its folder when asked for.

    `requests`, `power`, `gaps` and `limits` are pandas DataFrames with the columns of `TABLES`.
    """

    def __init__(
        self,
        folder: Path,
        summary: dict[str, Any],
        spec: dict[str, Any],
        meta: dict[str, Any],
        tables: Mapping[str, Table] | None = None,
    ) -> None:
        self.folder, self.summary, self.spec, self.meta = folder, summary, spec, meta
        self._tables = tables
        self.reused = False  # found in a store, not run

    @property
    def description(self) -> str:
        """What ran, in a sentence: a topology file's own words may be of another LLM, network or workload."""
        meta, library = self.meta, self.meta.get("software")
        chip, workload = (self.spec.get(key, {}).get("name") for key in ("chip", "workload"))
        network = meta["interconnect"] if library is None else f"{meta['interconnect']} with library {library}"
        serving = f" serving {workload}" if workload else ""
        return (
            f"{meta['llm']} on {meta['chips_used']:,} of {meta['chips_active']:,} {chip or ''} chips, {network},{serving}".strip(
                ","
            )
        )

    def table(self, name: str) -> Any:
        """The table called `name` as a DataFrame."""
        if self._tables is None:
            return read_table(self.folder, name)
        import pandas as pd

        return pd.DataFrame(dict(self._tables[name]))

    def has_table(self, name: str) -> bool:
        """Whether the run kept the table called `name`; some are kept only when asked for."""
        return name in self._tables if self._tables is not None else (self.folder / f"{name}.parquet").is_file()

    @property
    def requests(self) -> Any:
        """One row a request, in order of arrival."""
        return self.table("requests")

    @property
    def power(self) -> Any:
        """One row a rack and sampling interval."""
        return self.table("power")

    @property
    def gaps(self) -> Any:
        """How often each gap between tokens occurred."""
        return self.table("gaps")

    @property
    def limits(self) -> Any:
        """What the requests' time was spent on or waiting for."""
        return self.table("limits")

    def __repr__(self) -> str:
        done, total = self.summary["requests_finished"], self.summary["requests_in"]
        return f"<dcsim run {self.folder}: {done} of {total} requests finished>"


def open_run(folder: str | Path) -> Run:
    """Open a saved run; RunStoreError if the folder does not hold one, or one that a later dcsim wrote."""
    path = Path(folder)
    summary, spec, meta = (read_json(path, name) for name in ("summary", "spec", "meta"))
    version = summary.get("schema_version", STORE_VERSION)
    if not isinstance(version, int) or version > STORE_VERSION:
        raise RunStoreError(f"{path}: was written by a later dcsim (schema_version {version}, this one knows {STORE_VERSION})")
    return Run(path, summary, spec, meta)


def why_no_run(folder: Path) -> str:
    """Why what stands in a folder of runs is not one of them, in a few words; nothing for a run."""
    if not folder.is_dir():
        return "a file, not a run"
    if not (folder / "meta.json").is_file():
        return "not a run of dcsim: it has no meta.json"
    try:
        run = open_run(folder)
    except RunStoreError as error:
        return str(error).removeprefix(f"{folder}: ")
    if "requests_in" not in run.summary or "name" not in run.spec:
        return "not a run of dcsim: its files say other things"
    missing = [name for name in KEPT if not run.has_table(name)]
    return f"broken: {missing[0]}.parquet is missing" if missing else ""


def last_run(runs: Path) -> Path:
    """The newest run folder in `runs`."""
    folders = sorted((p.parent for p in runs.glob("[!.]*/meta.json")), key=_age, reverse=True)
    newest = next((folder for folder in folders if not why_no_run(folder)), None)
    if newest is None:
        raise RunStoreError(f"{runs}: no run here yet; make one with `dcsim run topologies/8rack.yaml`")
    return newest


def _age(folder: Path) -> tuple[int, str]:
    return (folder / "meta.json").stat().st_mtime_ns, folder.name
