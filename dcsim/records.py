"""The rows of a run and its folder: what each column means, written whole or not at all.

    spec.json      the resolved spec        meta.json      versions, seed, what was read
    summary.json   the metrics              *.parquet      the tables below
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import RunStoreError

Table = dict[str, NDArray[Any]]

FINISHED, REJECTED, FAILED, IN_FLIGHT = "finished", "rejected", "failed", "in_flight"
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
        Column("host", "int64", "host server it came in by"),
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
    "limits": (
        Column("resource", "str", "what the time was spent on or waiting for"),
        Column("request_s", "float64", "sum over requests of that time"),
    ),
}


def digest(tables: Mapping[str, Table], summary: Mapping[str, Any]) -> str:
    """SHA-256 (first 16 hex digits) of the request rows and the summary, independent of process and hash seed."""
    sha = hashlib.sha256()
    for column in TABLES["requests"]:
        values = tables["requests"][column.name]
        data = "\x1f".join(values.tolist()).encode() if column.dtype == "str" else np.ascontiguousarray(values).tobytes()
        sha.update(column.name.encode() + b"\0" + data)
    sha.update(json.dumps(dict(summary), sort_keys=True).encode())
    return sha.hexdigest()[:16]


def check_writable(folder: Path) -> None:
    """Fail now rather than after the run: RunStoreError if `folder` cannot become a run folder."""
    if folder.exists() and not folder.is_dir():
        raise RunStoreError(f"{folder}: is a file; a run needs a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "meta.json").is_file():
        raise RunStoreError(f"{folder}: holds other files; name an empty or new folder")
    parent = folder.resolve().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise RunStoreError(f"{folder}: cannot be written: {error.strerror or error}") from error


def write_run(
    folder: Path, tables: Mapping[str, Table], summary: Mapping[str, Any], spec: Mapping[str, Any], meta: Mapping[str, Any]
) -> None:
    """Write a run folder beside its place, then move it there in one step. An older run of that name is replaced."""
    check_writable(folder)
    folder = folder.resolve()
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, table in tables.items():
            _write_parquet(work / f"{name}.parquet", name, table)
        for name, content in (("spec", spec), ("summary", summary), ("meta", meta)):
            (work / f"{name}.json").write_text(json.dumps(dict(content), indent=2, sort_keys=name != "summary") + "\n")
        work.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            os.replace(folder, old / "run")
            os.replace(work, folder)
            shutil.rmtree(old)
        else:
            os.replace(work, folder)
    except OSError as error:
        raise RunStoreError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_parquet(path: Path, name: str, table: Table) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = [pa.array(table[c.name].tolist() if c.dtype == "str" else table[c.name]) for c in TABLES[name]]
    pq.write_table(pa.table(arrays, names=[c.name for c in TABLES[name]]), path, compression="zstd")


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """One of the run's JSON files: `summary`, `spec` or `meta`."""
    try:
        content: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    except (OSError, ValueError) as error:
        raise RunStoreError(f"{folder}: not a readable run folder ({name}.json: {error})") from error
    return content


def read_table(folder: Path, name: str) -> Any:
    """One of the run's tables as a pandas DataFrame."""
    import pandas as pd

    try:
        return pd.read_parquet(folder / f"{name}.parquet")
    except (OSError, ValueError) as error:
        raise RunStoreError(f"{folder}: {name}.parquet cannot be read: {error}") from error


class Run:
    """A finished run: its summary and tables, in memory or read from its folder when asked for.

    `requests`, `power`, `gaps` and `limits` are pandas DataFrames with the columns of `TABLES`.
    """

    def __init__(
        self, folder: Path, summary: dict[str, Any], spec: dict[str, Any], meta: dict[str, Any],
        tables: Mapping[str, Table] | None = None,
    ) -> None:
        self.folder, self.summary, self.spec, self.meta = folder, summary, spec, meta
        self._tables = tables

    def table(self, name: str) -> Any:
        """The table called `name` as a DataFrame."""
        if self._tables is None:
            return read_table(self.folder, name)
        import pandas as pd

        return pd.DataFrame(self._tables[name])

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
    """Open a saved run; RunStoreError if the folder does not hold one."""
    path = Path(folder)
    return Run(path, *(read_json(path, name) for name in ("summary", "spec", "meta")))


def last_run(runs: Path) -> Path:
    """The newest run folder in `runs`."""
    folders = [p.parent for p in runs.glob("*/meta.json")]
    if not folders:
        raise RunStoreError(f"{runs}: no run here yet; make one with `dcsim run topologies/8rack.yaml`")
    return max(folders, key=lambda p: ((p / "meta.json").stat().st_mtime_ns, p.name))
