"""Sweeps: what a point takes beside its run, and how much sooner two workers are done.

Processor time throughout, so that others on the machine do not count: a sweep by two workers takes what its parent takes and half
of what both workers take together, start-up, imports and compiled programs of each included.
"""

import resource
import tempfile
import time
from pathlib import Path

from benchmarks.measure import row
from dcsim.study.sweep.case import Case, Worker
from dcsim.study.sweep.journal import journal_of
from dcsim.study.sweep.sweep import sweep

POINTS = 40


def main() -> None:
    """Overhead of short points; 40 points of an hour of chat on 8 racks by one process and by two workers."""
    short = Case("64chip", ("mapping.tp=8", "mapping.pp=8", "workload.requests=2"), workload="glimpse", run=True)
    row("a point beside its run, kept in a journal", f"{1e3 * _overhead_s(short):.1f} ms", "20 ms")
    hour = Case("8rack", ("mapping.tp=8", "mapping.pp=64", "mapping.replicas=1"), workload="chat", run=True)
    scales = [("workload.rate_scale", [str(1 + i / 100) for i in range(POINTS)])]
    parent_s, workers_s = _cpu_s(lambda: sweep(hour, scales, jobs=2))
    alone_s, _ = _cpu_s(lambda: sweep(hour, scales))
    gain = alone_s / (parent_s + workers_s / 2)
    row(f"{POINTS} hours of chat on 8rack: alone; two workers", f"{alone_s:.0f} s; {gain:.2f} x", "1.6 x")
    row("300 of them by two workers", f"{300 / POINTS * (parent_s + workers_s / 2):.0f} s", "600 s")


def _overhead_s(case: Case, count: int = 200) -> float:
    """Processor time of a point in a sweep less that of its run alone."""
    values = [str(1 + i / 1000) for i in range(count)]
    worker = Worker(case)
    scenario = case.load({})
    worker._served(scenario, 1)  # compiled, timed
    begun = time.process_time()
    for _ in values:
        worker._served(scenario, 1)
    run_s = time.process_time() - begun
    with tempfile.TemporaryDirectory() as folder:
        whole_s, _ = _cpu_s(lambda: sweep(case, [("workload.rate_scale", values)], journal=journal_of(case, Path(folder))))
    return (whole_s - run_s) / count


def _cpu_s(work: object) -> tuple[float, float]:
    """Processor seconds of this process, and of processes that ended meanwhile."""
    assert callable(work)
    before = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    work()
    after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own, children = (b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(before, after, strict=True))
    return own, children
