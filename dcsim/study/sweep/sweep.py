"""A sweep: its points checked, those done before taken from the journal, the others done, each kept as it ends."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dcsim.errors import Problem, SpecError
from dcsim.spec.unused import Keys
from dcsim.study.sweep.case import Case, Done, Task, known_metrics
from dcsim.study.sweep.design import Design
from dcsim.study.sweep.executors import by
from dcsim.study.sweep.journal import Journal

Ranges = Sequence[tuple[str, Sequence[str]]]


def sweep(
    case: Case,
    ranges: Ranges | Design,
    jobs: int = 1,
    done: Callable[[int, int], None] | None = None,
    kept: dict[int, dict[str, Any]] | None = None,
    keys_found: list[Keys] | None = None,
    *,
    replications: int = 1,
    metrics: Sequence[str] = (),
    journal: Journal | None = None,
    executor: str | None = None,
) -> list[dict[str, Any]]:
    """One row for every point and replication: its settings, then its metrics, or `error`: why it has none.

    `ranges` is a grid, the last range fastest, or any other design. Every point, and every name of `metrics`, is checked before
    the first is done; SpecError with what is wrong. Replication i of every point has the seed `case.seed + i`: points are
    compared under the same random numbers. Rows do not depend on `jobs`, `executor` or what the `journal` had.
    `kept` takes each row, by its place, as soon as it is there. `keys_found` takes the keys given to each point, from which
    `spec.unused` tells those without effect.
    """
    design = ranges if isinstance(ranges, Design) else _grid_of(ranges)
    points = design.settings()
    require_metrics(metrics, case.run)
    tasks: list[Task] = [(point, case.seed + i) for point in points for i in range(replications)]
    names = names_of(case, points, replications)
    before = journal.read() if journal else {}
    rows = {} if kept is None else kept

    def take(place: int, found: Done) -> None:
        seeded = {**found.row, "seed": tasks[place][1]} if replications > 1 and "error" in found.row else found.row
        rows[place] = seeded
        if keys_found is not None and found.keys is not None:
            keys_found.append(found.keys)
        if done:
            done(len(rows), len(tasks))

    left = []
    for place in range(len(tasks)):
        found = before.get(names[place])
        if found is None:
            left.append(place)
        else:
            take(place, replace(found, row={**tasks[place][0], **found.row}))
    for i, found in by(executor, case, [tasks[place] for place in left], jobs):
        place = left[i]
        if journal and not found.lost:
            journal.append(names[place], found)
        take(place, found)
    return [rows[place] for place in range(len(tasks))]


def _grid_of(ranges: Ranges) -> Design:
    keys = [key for key, _ in ranges]
    if len(set(keys)) < len(keys):
        raise SpecError(Problem("--set-range", "a key is given twice", "list its values in one"))
    return Design("grid", dict(ranges))


def names_of(case: Case, points: Sequence[Mapping[str, str]], replications: int) -> list[str]:
    """Read every point's spec, and name what comes of it with each seed.

    SpecError with each problem found, once: a value that is wrong is so at many points.
    """
    problems: dict[Problem, None] = {}
    names = []
    for point in points:
        try:
            scenario = case.load(dict(point))
            names += [case.name_of(scenario, case.seed + i) for i in range(replications)]
        except SpecError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise SpecError(list(problems))
    return names


def require_metrics(names: Sequence[str], run: bool) -> None:
    """SpecError for a metric that no row will have."""
    known = known_metrics(run)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            mend = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(known))}"
            raise SpecError(Problem("--metric", f"unknown metric '{name}'", mend))


def pick(rows: Sequence[dict[str, Any]], keys: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Rows reduced to the swept keys, the metrics asked for, and errors. SpecError for a metric no row has."""
    known = {name for row in rows for name in row}
    for name in metrics:
        if name not in known and any("error" not in row for row in rows):
            raise SpecError(Problem("--metric", f"unknown metric '{name}'", f"known: {', '.join(sorted(known - set(keys)))}"))
    wanted = [*keys, *metrics, "error"]
    return [{name: row[name] for name in wanted if name in row} for row in rows]


def means(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[dict[str, Any]]:
    """One row a point: the mean of each metric that is a number over its replications, with the half-width of its 95 % interval.

    `replications` counts those with a result; `error` is that of the first without.
    """
    from dcsim.results.metrics import confidence

    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in keys), []).append(row)
    found = []
    for point, group in groups.items():
        good = [row for row in group if "error" not in row]
        line: dict[str, Any] = {**dict(zip(keys, point, strict=True)), "replications": len(good)}
        for name in dict.fromkeys(name for row in good for name in row if name not in keys and name != "seed"):
            values = [row.get(name) for row in good]
            numbers = [float(value) for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
            if len(numbers) == len(values):
                line[name], half = confidence(numbers) if len(numbers) > 1 else (numbers[0], None)
                line[f"{name}_half_width"] = half
            elif all(value == values[0] for value in values):
                line[name] = values[0]
        failed = next((row["error"] for row in group if "error" in row), None)
        found.append(line if failed is None else {**line, "error": failed})
    return found
