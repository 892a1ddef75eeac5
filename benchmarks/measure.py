"""Whole-process figures of a command: the operating system's own accounting, median of several runs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Medians over runs."""

    wall_s: float
    cpu_s: float
    memory_mb: float


def command(arguments: list[str], runs: int = 5, warmup: int = 1) -> Usage:
    """Run a command several times; its output is thrown away, a failure raises.

    Python keeps its bytecode, as it does after an install (a continuous-integration machine may have switched that off,
    which costs 0.2 s a start).
    """
    samples = [_once(arguments) for _ in range(warmup + runs)][warmup:]
    return Usage(*(statistics.median(column) for column in zip(*samples, strict=True)))


# A process starts with the peak memory of the one that made it, so a small process makes the one that is measured.
_MEASURE = """
import json, os, subprocess, sys, time
begun = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
process.returncode = 0
wall_s = time.perf_counter() - begun
print(json.dumps([status, wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]))
"""


def _once(arguments: list[str]) -> list[float]:
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    measuring = [sys.executable, "-S", "-c", _MEASURE, *arguments]
    figures: list[float]
    status, *figures = json.loads(subprocess.run(measuring, env=usual, stdout=subprocess.PIPE, check=True).stdout)
    if status:
        raise RuntimeError(f"{arguments} ended with status {status}")
    return figures


def row(name: str, value: str, target: str) -> None:
    """Print one figure beside its target."""
    print(f"{name:<52} {value:>18}   target {target}", flush=True)
