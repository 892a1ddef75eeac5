"""A folder of runs: each whole or not there, named by what it simulates, and never run twice.

A run's name is a hash of its resolved spec, its seed and the files of the installed package, so that an edit of either is
another run. Whatever else stands in the folder is named and left alone.
"""

from __future__ import annotations

import hashlib
import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from dcsim import library
from dcsim.errors import Problem, RunStoreError, SpecError
from dcsim.results import records
from dcsim.spec.document import part_of
from dcsim.units import UNITS, parse_quantity
from dcsim.writing import remove_folder

RUNS = Path("runs")
OURS = {"validate", "sweeps", "plans"}  # folders that stand beside runs and are none
NAMES = ("topology", "llm", "workload", "interconnect")


@cache
def fingerprint() -> str:
    """Twelve hex digits of the names and bytes of the package's own files, the library of topologies left out."""
    sha, root = hashlib.sha256(), library.package()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if name.parts[0] != "_library":
            sha.update(f"{name.as_posix()}\0".encode() + path.read_bytes())
    return sha.hexdigest()[:12]


def run_hash(spec: Mapping[str, Any], seed: int, zoom: str = "service") -> str:
    """Twelve hex digits that name a run: what it simulates, files named included, with which seed, how closely, by which code."""
    return hash_of([spec, files_in(spec), seed, *([zoom] if zoom != "service" else [])])


def files_in(spec: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the files that a saved spec names and does not hold: traces, the graph of a fabric, tables of kernels."""
    from dcsim.workload.traces import find_trace

    found = {}
    for key, value in _flat(spec).items():
        *_, above, last = ("", *key.split("."))
        if isinstance(value, str) and last == "file" and above == "trace":
            found[key] = _digest(find_trace(value))
        elif isinstance(value, str) and key == "fabric.path":
            found[key] = _digest(Path(value))
        elif isinstance(value, str) and value and last == "tables" and above == "operators":
            tables = sorted(Path(value).rglob("*.parquet"))
            found |= {f"{key}:{path.relative_to(value).as_posix()}": _digest(path) for path in tables}
    return found


def _digest(path: Path) -> str:
    """Of a file's bytes; nothing of one that is not there, which whoever reads it tells."""
    try:
        state = path.stat()
    except OSError:
        return ""
    return _digest_of(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=256)
def _digest_of(path: Path, *_: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def question_hash(said: Mapping[str, Any], *also: Any) -> str:
    """32 hex digits that name a question in the user's cache: parts of a saved spec, files that they name by what is in them, and
    whatever else an answer follows from.
    """
    text = json.dumps([said, files_in(said), *also], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def hash_of(what: Any) -> str:
    """Twelve hex digits of plain data and the package's files."""
    text = json.dumps([what, fingerprint()], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in a folder of runs that is none of them."""

    name: str
    reason: str


@dataclass(slots=True)
class Store:
    """The runs in `folder`, read anew each time: others may write there too."""

    folder: Path = RUNS
    reused: set[str] = field(default_factory=set)  # names of runs that were asked for again

    def find(self, name: str, tables: Sequence[str] = ()) -> records.Run | None:
        """The run called `name` if it is whole, readable and has these tables besides."""
        folder = self.folder / name
        if not folder.is_dir() or records.why_no_run(folder):
            return None
        run = records.open_run(folder)
        if any(not run.has_table(table) for table in tables):
            return None
        self.reused.add(name)
        run.reused = True
        return run

    def look(self) -> tuple[list[records.Run], list[Skipped]]:
        """Every run, the newest first, and whatever else stands there."""
        runs, skipped = [], []
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            if path.name.startswith(".") or path.name in OURS:
                continue
            reason = records.why_no_run(path)
            if reason:
                skipped.append(Skipped(path.name, reason))
            else:
                runs.append(records.open_run(path))
        return sorted(runs, key=lambda run: (run.folder / "meta.json").stat().st_mtime_ns, reverse=True), skipped

    def open(self, name: str) -> records.Run:
        """The run whose name begins with `name`; RunStoreError if there is none or more than one."""
        runs, _ = self.look()
        found = [run for run in runs if run.folder.name == name] or [run for run in runs if run.folder.name.startswith(name)]
        if not name or len(found) != 1:
            what = f"{len(found)} runs begin with '{name}'" if found else f"no run '{name}'"
            raise RunStoreError(f"{self.folder}: {what}; `dcsim runs` lists them")
        return found[0]

    def remove(self, name: str) -> str:
        """Remove the run whose name begins with `name`; returns its whole name."""
        run = self.open(name)
        remove_folder(run.folder, RunStoreError)
        return run.folder.name


# A notebook opens a store in one cell and runs in others, so which one is open is the process's, as its current folder is.
_open: list[Store] = []


def open_store(store: Store) -> None:
    """From now on `Scenario.run` reads and writes this store."""
    _open.append(store)


def close_store(store: Store) -> None:
    """No longer; one opened before it is open again."""
    if store in _open:
        _open.remove(store)


def opened() -> Store | None:
    """The store opened last that is open still."""
    return _open[-1] if _open else None


def row(run: records.Run) -> dict[str, Any]:
    """A run in a line: its name, what ran, and its metrics."""
    meta = run.meta
    what = {
        "topology": run.spec["name"],
        "llm": meta.get("llm"),
        "workload": run.spec.get("workload", {}).get("name"),
        "interconnect": meta.get("interconnect"),
        "replicas": meta.get("replicas"),
    }
    return {"run": run.folder.name, **what, **run.summary}


def value_of(run: records.Run, key: str) -> Any:
    """A metric, what ran, or the value of a dotted key of the spec, in base units. SpecError for what no run could have."""
    line = row(run)
    if key in line:
        return line[key]
    if key in run.meta and not isinstance(run.meta[key], (dict, list)):
        return run.meta[key]
    return part_of(run.spec, tuple(key.split(".")))


_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION = re.compile(r"\s*([A-Za-z_][\w.-]*)\s*(!=|<=|>=|=|<|>)\s*(.+?)\s*")


@dataclass(frozen=True, slots=True)
class Condition:
    """A test of one key or metric of a run."""

    key: str
    sign: str
    value: Any

    def holds(self, run: records.Run) -> bool:
        """Whether it is so; never where the run has no such value, or one that cannot be compared."""
        found = value_of(run, self.key)
        if found is None or isinstance(found, (dict, list)):
            return False
        if isinstance(found, (int, float)) != isinstance(self.value, (int, float)):
            return self.sign == "!="
        both = (found, self.value) if not isinstance(found, str) else (found.lower(), str(self.value).lower())
        return _TESTS[self.sign](*both)


def condition(text: str, option: str = "--where") -> Condition:
    """`fabric.racks>=8`, `ttft_s_p99<1 s`, `llm=llama-2-70b`: values may have units. SpecError for any other form."""
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise SpecError(Problem(f"{option} {text}", "not of the form key=value", f"for example {option} 'fabric.racks>=8'"))
    return Condition(match[1], match[2], _plain(match[3]))


def _plain(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        pass
    for dimension in UNITS:
        try:
            return parse_quantity(text, dimension)
        except ValueError:
            continue
    return text


def chosen(runs: Sequence[records.Run], conditions: Sequence[Condition]) -> list[records.Run]:
    """The runs of which all conditions hold. SpecError for a key that none of the runs has."""
    for one in conditions:
        if runs and all(value_of(run, one.key) is None for run in runs):
            raise SpecError(Problem("--where", f"no run has a key or metric '{one.key}'", "such as fabric.racks or ttft_s_p99"))
    return [run for run in runs if all(one.holds(run) for one in conditions)]


def differences(first: records.Run, second: records.Run) -> dict[str, Any]:
    """What differs between two runs: keys of their specs, and metrics with the second over the first."""
    keys = [_flat(run.spec) for run in (first, second)]
    spec = [
        {"key": key, "first": keys[0].get(key), "second": keys[1].get(key)}
        for key in sorted({*keys[0], *keys[1]})
        if keys[0].get(key) != keys[1].get(key)
    ]
    metrics = []
    for name in dict.fromkeys([*first.summary, *second.summary]):
        one, other = first.summary.get(name), second.summary.get(name)
        if one != other:
            numbers = isinstance(one, (int, float)) and isinstance(other, (int, float)) and name != "seed"
            ratio = float(other) / float(one) if numbers and one and other is not None else None
            metrics.append({"metric": name, "first": one, "second": other, "ratio": ratio})
    return {"first": first.folder.name, "second": second.folder.name, "spec": spec, "result": metrics}


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(tree, dict):
        return {key: value for name, part in tree.items() for key, value in _flat(part, f"{prefix}{name}.").items()}
    return {prefix.removesuffix("."): tree}


def wide_rows(runs: Sequence[records.Run]) -> list[dict[str, Any]]:
    """Runs with every key of their specs that is a value, for tables of other tools."""
    return [
        {**row(run), **{key: value for key, value in _flat(run.spec).items() if not isinstance(value, (list, dict))}}
        for run in runs
    ]
