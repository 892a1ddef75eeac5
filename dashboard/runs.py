"""The runs a dashboard may show: those in one folder, found by name, so that a page can ask for no other."""

from __future__ import annotations

from pathlib import Path

from dcsim import records
from dcsim.errors import RunStoreError


class Runs:
    """The runs beside `first`, read anew each time, as runs come and go while the page is open."""

    def __init__(self, first: Path) -> None:
        records.open_run(first)
        self.first = first.resolve()

    def names(self) -> list[str]:
        """Folder names of all runs here, the newest first."""
        found = [path.parent for path in self.first.parent.glob("*/meta.json")]
        newest = sorted(found, key=lambda folder: (-(folder / "meta.json").stat().st_mtime_ns, folder.name))
        return [folder.name for folder in newest if _is_run(folder)]

    def open(self, name: str) -> records.Run:
        """The run called `name`; RunStoreError if there is none of that name here."""
        if name not in self.names():
            raise RunStoreError(f"{name}: no such run in {self.first.parent}")
        return records.open_run(self.first.parent / name)


def _is_run(folder: Path) -> bool:
    """Whether the folder can be opened and is one that dcsim wrote."""
    try:
        run = records.open_run(folder)
    except RunStoreError:
        return False
    return "requests_in" in run.summary and "name" in run.spec
