"""Work in the background: each job is a folder, so that servers may come and go, and several may share one store.

A job waits, runs, and is done, failed or cancelled; `state.json` says so. Who works on a job holds a lock on its `lock` file for
as long as it lives, and so does each of the few workers on its place. Locks go with their process: a job that is marked as
running and is held by nobody lost its worker, and is begun again once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dcsim import library
from dcsim.writing import whole_file

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
WORKERS = 2  # at once, however many servers share the store
BEGUN_MOST = 2  # times, before a job that loses its worker each time is given up
# Work of seconds, which goes before other work; and of minutes, of which there is one at a time, so that a place is left.
SHORT, LONG = ("topology", "schedule", "run-links"), ("plan", "sweep", "systems", "claims")
LINGER_S = 30.0  # a worker without work stays so long: its kernels are loaded
LOOKS = 120  # at a run, that its job keeps while it is under way
ROWS_LIVE = 12  # that a job tells of while it is under way
NAME = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class BackgroundJob:
    """What is known of a job: what was asked (`kind` and `ask`), and how far it is."""

    name: str
    kind: str
    ask: dict[str, Any]
    title: str
    state: str
    done: int
    total: int
    note: str
    result: dict[str, Any]
    live: list[dict[str, Any]]
    created: float
    begun: int = 0
    link: str = ""  # to the view that asked for it

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self.state in (DONE, FAILED, CANCELLED)


class Jobs:
    """The jobs of a store."""

    def __init__(self, store: Path) -> None:
        self.folder = store / ".dashboard" / "jobs"
        self._store = store
        self._children: list[subprocess.Popen[bytes]] = []

    @staticmethod
    def name_of(kind: str, ask: dict[str, Any]) -> str:
        """The name of the job that does this work."""
        return hashlib.sha256(json.dumps([kind, ask], sort_keys=True).encode()).hexdigest()[:12]

    def submit(self, kind: str, ask: dict[str, Any], title: str, link: str = "") -> str:
        """Have a job done; returns its name. The same work asked for twice is one job while it is under way."""
        name = self.name_of(kind, ask)
        known = self.find(name)
        if known is None or known.over:
            folder = self.folder / name
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / "job.json", {"kind": kind, "ask": ask, "title": title, "link": link, "created": time.time()})
            (folder / "cancel").unlink(missing_ok=True)
            _write(folder / "state.json", {"state": WAITING})
        self.wake()
        return name

    def find(self, name: str | None) -> BackgroundJob | None:
        """The job of that name; None if there is none, or its files are no job's."""
        if not name or not NAME.fullmatch(name):
            return None
        folder = self.folder / name
        try:
            job, state = (json.loads((folder / f"{part}.json").read_text()) for part in ("job", "state"))
            return BackgroundJob(
                name,
                str(job["kind"]),
                dict(job["ask"]),
                str(job["title"]),
                str(state["state"]),
                int(state.get("done", 0)),
                int(state.get("total", 0)),
                str(state.get("note", "")),
                dict(state.get("result", {})),
                list(state.get("live", [])),
                float(job["created"]),
                int(state.get("begun", 0)),
                str(job.get("link", "")),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def all(self) -> list[BackgroundJob]:
        """Every job, the newest first."""
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        found = [job for job in map(self.find, names) if job is not None]
        return sorted(found, key=lambda job: (-job.created, job.name))

    def cancel(self, name: str | None) -> None:
        """Stop a job: one that waits is never begun, one that runs is interrupted and, if it does not listen, ended."""
        job = self.find(name)
        if job is None or job.over:
            return
        folder = self.folder / job.name
        (folder / "cancel").touch()
        with held(folder / "lock") as mine:
            if mine:
                _write(folder / "state.json", {"state": CANCELLED})
                return
        for sent in (signal.SIGINT, signal.SIGKILL):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((folder / "lock").read_text()), sent)
            if _until_free(folder / "lock", 3.0):
                break
        after = self.find(job.name)
        if after is not None and not after.over:
            _write(folder / "state.json", {"state": CANCELLED, "done": job.done, "total": job.total})
        self.wake()

    def remove(self, name: str) -> None:
        """Forget a job that is over."""
        job = self.find(name)
        if job is not None and job.over:
            for path in (self.folder / job.name).iterdir():
                path.unlink()
            (self.folder / job.name).rmdir()

    def wake(self) -> None:
        """See to it that somebody works, if there is work and a place for one more."""
        self._children = [child for child in self._children if child.poll() is None]
        if len(self._children) >= WORKERS or not self.folder.is_dir() or next(self.ready(), None) is None:
            return  # those that were started are on their way
        for place in range(WORKERS):
            with held(self.folder.parent / f"worker-{place}") as free:
                pass
            if free:
                self._start()
                return

    def ready(self) -> Iterator[BackgroundJob]:
        """Jobs to be begun, short ones first, then the oldest: those that wait, and those whose worker is gone."""
        for job in sorted(self.all(), key=lambda job: (job.kind not in SHORT, job.created, job.name)):
            if job.state == WAITING:
                yield job
            elif job.state == RUNNING:
                with held(self.folder / job.name / "lock") as lost:
                    pass
                if lost:
                    yield job

    def _start(self) -> None:
        """Start a worker that outlives this process."""
        code = "import sys; sys.path.insert(0, sys.argv[1]); from dashboard.worker import main; main(sys.argv[2])"
        command = [sys.executable, "-c", code, str(library.root()), str(self._store)]
        with (self.folder.parent / "worker.log").open("ab") as log:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self._children.append(child)


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a lock file for the block, with this process's number in it; False if somebody else holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        if not _lock(file):
            yield False
            return
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield True


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _until_free(path: Path, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with held(path) as free:
            pass
        if free:
            return True
        time.sleep(0.05)
    return False


def _write(path: Path, content: dict[str, Any]) -> None:
    with whole_file(path) as part:
        part.write_text(json.dumps(content))


class PutBack(Exception):
    """Raised by work that others may go before, and that keeps what it has done: it waits, and goes on later."""


class JobReport:
    """How a worker tells of its job; `interrupt` is raised by a job that was cancelled."""

    def __init__(self, folder: Path, begun: int) -> None:
        self._folder, self._begun, self._told = folder, begun, 0.0
        self._looks, self._every, self._kept = 0, 1, list[dict[str, Any]]()
        self.live: list[dict[str, Any]] = []

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Say how far the job is, a few times a second at most; raises KeyboardInterrupt if it was cancelled."""
        now = time.monotonic()
        if now - self._told < 0.25 and done < total:
            return
        self._told = now
        if (self._folder / "cancel").exists():
            raise KeyboardInterrupt
        self._tell(RUNNING, done=done, total=total, note=note, live=self.live)

    def look(self, state: dict[str, Any]) -> None:
        """Keep what a run looks like now: at most LOOKS looks, evenly over its time so far; of each rack, the last alone."""
        self._looks += 1
        if self._looks % self._every == 0:
            self._kept.append({name: value for name, value in state.items() if name != "rack_w"})
        if len(self._kept) > LOOKS:
            self._kept, self._every = self._kept[::2], 2 * self._every
        self.live = [*self._kept, state]

    def found(self, row: dict[str, Any], done: int, total: int = 0, note: str = "") -> None:
        """The same of work that finds rows, the last dozen of which are told."""
        self.live = [*self.live[1 - ROWS_LIVE :], row]
        self.progress(done, total, note)

    def over(self, state: str, **more: Any) -> None:
        """Say how the job ended."""
        self._tell(state, live=self.live, **more)

    def _tell(self, state: str, **more: Any) -> None:
        _write(self._folder / "state.json", {"state": state, "begun": self._begun, **more})
