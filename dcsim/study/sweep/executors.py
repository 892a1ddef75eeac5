"""Who does the points of a sweep: this process, supervised workers on this machine, or a Dask cluster's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dcsim.errors import Problem, SpecError
from dcsim.study.sweep.case import Case, Done, Task, Worker

_CONNECT_S = 10.0
RETRIES = 3  # times a point is done again whose Dask worker was lost, before it is a row that says so

Found = Iterator[tuple[int, Done]]  # places of tasks, and what came of each, in the order in which they are done


def by(executor: str | None, case: Case, tasks: Sequence[Task], jobs: int) -> Found:
    """The tasks done by `jobs` workers here, or by the cluster that `executor` names. Rows do not depend on it."""
    if executor is not None:
        return by_dask(executor, case, tasks)
    if jobs == 1 or len(tasks) < 2:
        return enumerate(map(Worker(case), tasks))
    return by_workers(case, tasks, jobs)


def by_workers(case: Case, tasks: Sequence[Task], jobs: int) -> Found:
    """Each in a process that lasts: kernels are loaded once. One that is killed is replaced, and its point says so."""
    from dcsim.workers import Lost, spread

    for place, found in spread(Worker(case), tasks, min(jobs, len(tasks))):
        if isinstance(found, Lost):
            found = Done({**tasks[place][0], "error": found.reason}, lost=True)
        yield place, found


def by_dask(address: str, case: Case, tasks: Sequence[Task]) -> Found:
    """The tasks on a Dask cluster: `dask://host:8786`. A worker that is lost has its points done by another."""
    try:
        import distributed
    except ModuleNotFoundError as missing:
        mend = "install it with: pip install 'dcsim[cluster]'"
        raise SpecError(Problem(f"--executor {address}", "the package 'distributed' is not installed", mend)) from missing
    dask: Any = distributed  # without types of its own
    scheme, _, place = address.partition("://")
    if scheme != "dask" or not place:
        raise SpecError(Problem(f"--executor {address}", "is no cluster that is known", "for example dask://localhost:8786"))
    with _quiet():
        try:
            client = dask.Client(f"tcp://{place}", timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as refused:
            what = f"no scheduler answers ({str(refused).splitlines()[0] if str(refused) else type(refused).__name__})"
            raise SpecError(Problem(f"--executor {address}", what, "start one with `dask scheduler`")) from refused
        with client:
            case = _everywhere(case)
            futures = [client.submit(_task, case, task, pure=False, retries=RETRIES, key=_key(i)) for i, task in enumerate(tasks)]
            places = {future.key: i for i, future in enumerate(futures)}
            for future in dask.as_completed(futures, loop=client.loop):
                i = places[future.key]
                error = future.exception() if future.status == "error" else None
                if future.status == "finished":
                    yield i, future.result()
                else:
                    why = f"its worker was lost {RETRIES + 1} times or more" if _is_lost(error) else f"{error or future.status}"
                    yield i, Done({**tasks[i][0], "error": why}, lost=True)
                future.release()


def _key(i: int) -> str:
    import secrets

    return f"dcsim-{i}-{secrets.token_hex(6)}"


def _is_lost(error: Any) -> bool:
    return type(error).__name__ in ("KilledWorker", "CommClosedError", "WorkerCrashed")


def _everywhere(case: Case) -> Case:
    """The case with its files' whole paths, as workers stand in other folders; they must see these files."""
    from dataclasses import replace

    from dcsim.library import is_file

    def whole(name: str | None) -> str | None:
        return str(Path(name).expanduser().resolve()) if name is not None and is_file(Path(name).expanduser()) else name

    return replace(
        case,
        topology=whole(case.topology) or case.topology,
        llm=whole(case.llm),
        workload=whole(case.workload),
        interconnect=whole(case.interconnect),
    )


def _task(case: Case, task: Task) -> Done:
    """On a Dask worker: what points share is kept with the worker, which does several at once in threads."""
    from distributed import get_worker

    kept = get_worker().__dict__.setdefault("dcsim_workers", {})
    import threading

    doer = kept.setdefault((case, threading.get_ident()), Worker(case))
    found = doer(task)
    assert isinstance(found, Done)
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Dask's own lines about workers that come and go are the cluster's, not this command's."""
    import logging

    log = logging.getLogger("distributed")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)
