"""The runs a dashboard may show: those in one folder, found by name, so that a page can ask for no other."""

from __future__ import annotations

from pathlib import Path

from dcsim.errors import RunStoreError
from dcsim.results import records


class Runs:
    """The runs beside `first`, read anew each time, as runs come and go while the page is open."""

    def __init__(self, first: Path) -> None:
        records.open_run(first)
        self.first = first.resolve()
        self.folder = self.first.parent

    def all(self) -> list[records.Run]:
        """Every run here, the newest first."""
        metas = sorted(self.folder.glob("*/meta.json"), key=lambda path: (-path.stat().st_mtime_ns, path.parent.name))
        runs = [_read(path.parent) for path in metas]
        return [run for run in runs if run is not None]

    def open(self, name: str) -> records.Run:
        """The run called `name`; RunStoreError if there is none of that name here."""
        here = {folder.name for folder in self.folder.iterdir()}
        run = _read(self.folder / name) if name in here else None
        if run is None:
            raise RunStoreError(f"{name}: no such run in {self.folder}")
        return run


def _read(folder: Path) -> records.Run | None:
    """The run in `folder`, or None if it cannot be opened or is not one that dcsim wrote."""
    try:
        run = records.open_run(folder)
    except RunStoreError:
        return None
    return run if "requests_in" in run.summary and "name" in run.spec else None
