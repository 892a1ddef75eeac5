"""A folder of runs in Python: open it, and `Scenario.run` reads and writes it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from dcsim.api import html
from dcsim.api import run as runs
from dcsim.api.run import ServedRun
from dcsim.study import store as kept
from dcsim.study.in_python import speaks_python

if TYPE_CHECKING:
    import pandas as pd


class RunStore:
    """Runs in a folder, open until `close` or the end of a `with` block.

    While it is, `Scenario.run` looks here first and keeps here what it runs. Nothing is made until a run is.
    """

    def __init__(self, folder: str | Path) -> None:
        self._store = kept.Store(Path(folder))
        kept.open_store(self._store)

    @property
    def folder(self) -> Path:
        """Where the runs are."""
        return self._store.folder

    @property
    def runs(self) -> pd.DataFrame:
        """One row a run, the newest first: its name, what ran, and its metrics."""
        import pandas as pd

        return pd.DataFrame([kept.row(run) for run in self._store.look()[0]])

    @property
    def skipped(self) -> pd.DataFrame:
        """What else stands in the folder: `name`, and the `reason` why it is no run."""
        import pandas as pd

        rows = [(one.name, one.reason) for one in self._store.look()[1]]
        return pd.DataFrame(rows, columns=["name", "reason"])

    @speaks_python
    def where(self, *conditions: str) -> list[ServedRun]:
        """The runs of which all conditions hold, such as `"fabric.racks>=8"` or `"ttft_s_p99<1 s"`, the newest first."""
        tests = [kept.condition(text, "where") for text in conditions]
        return [runs.of(run) for run in kept.chosen(self._store.look()[0], tests)]

    @speaks_python
    def open(self, name: str) -> ServedRun:
        """The run whose name begins with `name`; RunStoreError if there is none or more than one."""
        return runs.of(self._store.open(name))

    @speaks_python
    def remove(self, name: str) -> None:
        """Remove the run whose name begins with `name`."""
        self._store.remove(name)

    @speaks_python
    def compare(self, first: str, second: str) -> pd.DataFrame:
        """What differs between two runs: `part` (spec or result), `key`, `first`, `second`, `ratio`."""
        import pandas as pd

        found = kept.differences(self._store.open(first), self._store.open(second))
        rows = [("spec", row["key"], row["first"], row["second"], None) for row in found["spec"]]
        rows += [("result", row["metric"], row["first"], row["second"], row["ratio"]) for row in found["result"]]
        return pd.DataFrame(rows, columns=["part", "key", "first", "second", "ratio"])

    def close(self) -> None:
        """Runs are no longer looked for nor kept here."""
        kept.close_store(self._store)

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<dcsim store {self.folder}>"

    def _repr_html_(self) -> str:
        found, skipped = self._store.look()
        facts = [("runs", f"{len(found):,}"), ("skipped", f"{len(skipped):,}")]
        return html.card_and_table(f"runs in {self.folder}", facts, self.runs)


def store(folder: str | Path = kept.RUNS) -> RunStore:
    """Open a store of runs: `Scenario.run` gives back what it has and keeps what it has not, until it is closed."""
    return RunStore(folder)
