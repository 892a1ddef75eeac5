"""A grid over settings: every combination timed (one iteration) or run (its workload), as one row each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from dcsim.errors import CapacityError, FabricError, Problem, SpecError
from dcsim.spec.unused import Keys, keys_of

# Metrics shown where none is asked for.
SHOWN = {
    "iteration": ["tp", "pp", "iteration_s", "tokens_per_s_per_user", "tokens_per_s", "energy_j"],
    "run": ["ttft_s_p99", "tpot_s_p99", "output_tokens_per_s", "goodput_requests_per_s", "energy_j_per_token", "limited_by"],
}


Point = tuple[dict[str, Any], Keys | None]  # a row, and the keys given to it; none of what could not be built


@dataclass(frozen=True, slots=True)
class Case:
    """What to do at each point: the topology, fixed settings, and a shape to time, or `run` to serve the workload."""

    topology: str
    settings: tuple[str, ...] = ()
    interconnect: str | None = None
    llm: str | None = None
    batch: int = 1
    context: int | None = None
    prefill: int = 0
    run: bool = False
    seed: int = 1


def parse_range(text: str) -> tuple[str, list[str]]:
    """`mapping.tp=1,2,4` as key and values; SpecError for any other form."""
    key, equals, values = text.partition("=")
    found = [value.strip() for value in values.split(",") if value.strip()]
    if not equals or not key.strip() or not found:
        raise SpecError(Problem(f"--set-range {text}", "not of the form key=value,value", "for example mapping.tp=1,2,4"))
    return key.strip(), found


def sweep(
    case: Case,
    ranges: Sequence[tuple[str, Sequence[str]]],
    jobs: int = 1,
    done: Callable[[int, int], None] | None = None,
    kept: dict[int, dict[str, Any]] | None = None,
    keys_found: list[Keys] | None = None,
) -> list[dict[str, Any]]:
    """One row for every combination, the last range fastest: its settings, then its metrics, or why it cannot be.

    A combination that does not fit or cannot be built has `error` and no metrics, and so has one whose worker is killed or
    that runs out of memory. Rows do not depend on `jobs`; `kept` takes each, by its place, as soon as it is done.
    `keys_found` takes the keys given to each combination, from which `spec.unused` tells those without effect.
    """
    keys = [key for key, _ in ranges]
    if len(set(keys)) < len(keys):
        raise SpecError(Problem("--set-range", "a key is given twice", "list its values in one"))
    points = [dict(zip(keys, values, strict=True)) for values in itertools.product(*(values for _, values in ranges))]
    rows = {} if kept is None else kept
    for index, (row, found) in _rows(case, points, jobs):
        rows[index] = row
        if keys_found is not None and found is not None:
            keys_found.append(found)
        if done:
            done(len(rows), len(points))
    return [rows[index] for index in range(len(points))]


def _rows(case: Case, points: list[dict[str, str]], jobs: int) -> Iterator[tuple[int, Point]]:
    if jobs == 1 or len(points) < 2:
        yield from enumerate(map(partial(_point, case), points))
        return
    from dcsim.workers import Lost, spread

    for index, found in spread(partial(_point, case), points, jobs):
        yield index, ({**points[index], "error": found.reason}, None) if isinstance(found, Lost) else found


def _point(case: Case, point: dict[str, str]) -> Point:
    """One combination: settings and metrics, and the keys given to it; none of what could not be built."""
    from dcsim.study.scenario import load

    settings = [*case.settings, *(f"{key}={value}" for key, value in point.items())]
    try:
        scenario = load(case.topology, llm=case.llm, interconnect=case.interconnect, set=settings)
        metrics = _served(scenario, case.seed) if case.run else _iterate(case, scenario.spec)
    except (CapacityError, FabricError) as error:
        return {**point, "error": str(error)}, None
    except MemoryError as error:
        return {**point, "error": f"more memory needed than this machine has: {error or 'no details'}"}, None
    flat = {name: value for name, value in metrics.items() if not isinstance(value, (dict, list))}
    return {**point, **flat}, keys_of(scenario.resolved)


def _iterate(case: Case, spec: Any) -> dict[str, Any]:
    from dcsim.study import iteration as study
    from dcsim.study.machine import build

    machine = build(spec, case.seed)
    return study.iteration(machine, study.shape_of(case.batch, case.context, case.prefill, spec.llm))


def _served(scenario: Any, seed: int) -> dict[str, Any]:
    from dcsim.study.serve import ENGINE_KEYS

    run = scenario.run(seed)
    return {**run.summary, **{key: run.meta[key] for key in ENGINE_KEYS}}


def pick(rows: Sequence[dict[str, Any]], keys: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Rows reduced to the swept keys, the metrics asked for, and errors. SpecError for a metric no row has."""
    known = {name for row in rows for name in row}
    for name in metrics:
        if name not in known:
            raise SpecError(Problem("--metric", f"unknown metric '{name}'", f"known: {', '.join(sorted(known - set(keys)))}"))
    wanted = [*keys, *metrics, "error"]
    return [{name: row[name] for name in wanted if name in row} for row in rows]
