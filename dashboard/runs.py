"""The folder that a dashboard serves: runs found by name, so that a page can ask for no other; points and jobs kept beside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import current_app

from dashboard.jobs import Jobs
from dashboard.points import Points
from dcsim.errors import RunStoreError
from dcsim.results import records
from dcsim.study.store import OURS


@dataclass(frozen=True, slots=True)
class Stranger:
    """A folder beside the runs that cannot be shown, and why."""

    name: str
    reason: str


class RunFolder:
    """Runs in `folder`, read anew each time, as runs come and go while the page is open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.jobs = Jobs(self.folder)
        self.points = Points(self.folder / ".dashboard" / "points")

    def all(self) -> tuple[list[records.Run], list[Stranger]]:
        """Every run here, the newest first, and what lies beside them."""
        runs, strangers = [], []
        for path in self._folders():
            found = _read(path)
            if isinstance(found, Stranger):
                strangers.append(found)
            else:
                runs.append(found)
        return sorted(runs, key=_age), strangers

    def open(self, name: str | None) -> records.Run:
        """The run called `name`; RunStoreError if there is none of that name here."""
        path = next((path for path in self._folders() if path.name == name), None)
        if path is None:
            raise RunStoreError(f"{str(name)[:100]}: no such run in {self.folder.name}")
        found = _read(path)
        if isinstance(found, Stranger):
            raise RunStoreError(f"{found.name}: {found.reason}")
        return found

    def _folders(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        here = (path for path in self.folder.iterdir() if not path.name.startswith(".") and path.name not in OURS)
        return sorted(path for path in here if path.is_dir() and not path.is_symlink())


def store() -> RunFolder:
    """The store of the app that serves the request at hand."""
    own: RunFolder = current_app.config["DCSIM_STORE"]
    return own


def _age(run: records.Run) -> tuple[float, str]:
    return -(run.folder / "meta.json").stat().st_mtime, run.folder.name


NEEDED: dict[str, tuple[str, ...]] = {
    "summary": ("requests_in", "elapsed_s", "seed", "digest"),
    "meta": ("llm", "interconnect", "chips_used", "tp", "pp", "replicas"),
    "spec": ("name", "power"),
}


def _read(folder: Path) -> records.Run | Stranger:
    """The run in `folder`; what is wrong with it if it cannot be shown."""
    reason = records.why_no_run(folder)
    if reason:
        return Stranger(folder.name, reason)
    run = records.open_run(folder)
    parts: dict[str, Any] = {"summary": run.summary, "meta": run.meta, "spec": run.spec}
    for part, names in NEEDED.items():
        lacking = [name for name in names if name not in parts[part]] if isinstance(parts[part], dict) else list(names)
        if lacking:
            return Stranger(folder.name, f"{part}.json has no {', '.join(lacking)}: another version's run, or none")
    return run
