"""Whole-process figures of a command: the operating system's own accounting, median of several runs."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
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


def _once(arguments: list[str]) -> tuple[float, float, float]:
    start = time.perf_counter()
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(arguments, env=usual, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{arguments} ended with status {status}")
    process.returncode = 0
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def row(name: str, value: str, target: str) -> None:
    """Print one figure beside its target."""
    print(f"{name:<52} {value:>18}   target {target}", flush=True)
