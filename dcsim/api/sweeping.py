"""Many scenarios in Python: a sweep over values of keys, and what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dcsim.api import html
from dcsim.api.notebook import progress_in_notebook
from dcsim.api.scenario import Scenario, as_scenario
from dcsim.study.in_python import speaks_python
from dcsim.study.store import opened
from dcsim.study.sweep import SHOWN, Case, Design
from dcsim.study.sweep import sweep as study
from dcsim.study.sweep.design import text_of, texts
from dcsim.study.sweep.journal import journal_of
from dcsim.study.sweep.sweep import means, pick

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from dcsim.study.scenario import Progress


@dataclass(frozen=True)
class SweepAnswer:
    """What a sweep found. `keys` are those that were swept, `metrics` those that were asked for."""

    found: Sequence[Mapping[str, Any]]
    keys: tuple[str, ...]
    metrics: tuple[str, ...]

    @property
    def rows(self) -> pd.DataFrame:
        """One row a point and seed: its keys, every metric, and `error` where it has none."""
        import pandas as pd

        return pd.DataFrame([dict(row) for row in self.found])

    @property
    def means(self) -> pd.DataFrame:
        """One row a point: means over its replications, with the half-widths of their 95 % intervals."""
        import pandas as pd

        return pd.DataFrame(means(self.found, self.keys))

    @property
    def failed(self) -> pd.DataFrame:
        """The rows without a result."""
        rows = self.rows
        return rows[rows["error"].notna()] if "error" in rows else rows.iloc[:0]

    def best(self, metric: str, *, most: bool = False) -> Mapping[str, Any]:
        """The row with the least of a metric, or the most. ValueError if no row has it."""
        good = [row for row in self.found if isinstance(row.get(metric), (int, float))]
        if not good:
            raise ValueError(f"no row has a number '{metric}'")
        return (max if most else min)(good, key=lambda row: float(row[metric]))

    def plot(self, metric: str, along: str | None = None) -> Figure:
        """A metric along a key (default: the first), a line for each combination of the others."""
        from dcsim.results.pictures_of_sweeps import along as draw

        return draw(self.found, metric, along or self.keys[0], [key for key in self.keys if key != (along or self.keys[0])])

    def _repr_html_(self) -> str:
        import pandas as pd

        shown = pd.DataFrame(pick([dict(row) for row in self.found], list(self.keys), list(self.metrics)))
        facts = [("points", f"{len(self.found):,}"), ("without a result", f"{len(self.failed):,}")]
        return html.card_and_table("sweep", facts, shown)


@speaks_python
def sweep(
    scenario: Scenario | str | Path,
    values: Mapping[str, Any] | None = None,
    *,
    design: Literal["grid", "zip", "list", "random", "latin"] = "grid",
    points: Sequence[Mapping[str, Any]] = (),
    samples: int = 0,
    replications: int = 1,
    seed: int = 1,
    zoom: Literal["run", "iteration"] = "run",
    metrics: Sequence[str] = (),
    batch: int = 1,
    context: int | None = None,
    workers: int = 1,
    executor: str | None = None,
    progress: Progress | None = None,
) -> SweepAnswer:
    """Serve the workload (or time one iteration) at every point of a design.

    `values` holds the values of each dotted key: `{"fabric.racks": [8, 12]}`; for `random` and `latin` also ranges,
    `{"slo.ttft": "1 s..10 s"}`, of which `samples` points are drawn. `llm`, `workload`, `interconnect` and `rate` are keys too.
    `points` lists the points of the design `list`. Replications have seeds from `seed` on, the same at each point.
    While a store is open each point is kept there as it ends, and the same sweep goes on where it was stopped. `workers` are
    processes here, `executor` a Dask cluster (`dask://host:8786`); rows do not depend on them.
    Everything is checked first: SpecError with what is wrong. What cannot be built is a row with `error`.
    """
    asked = as_scenario(scenario).asked
    case = Case(
        asked.topology,
        asked.settings,
        asked.interconnect,
        asked.llm,
        batch,
        context,
        0,
        zoom == "run",
        seed,
        asked.workload,
        asked.rate,
    )
    listed = [{key: text_of(value) for key, value in point.items()} for point in points]
    drawn = Design("list" if listed and design == "grid" else design, texts(values or {}), listed, samples, seed)
    store = opened()
    found = study(
        case,
        drawn,
        workers,
        progress or progress_in_notebook("points"),
        replications=replications,
        metrics=metrics,
        journal=journal_of(case, store.folder) if store else None,
        executor=executor,
    )
    keys = tuple(dict.fromkeys(key for point in drawn.settings() for key in point))
    return SweepAnswer(found, keys, tuple(metrics) or tuple(SHOWN[zoom]))
