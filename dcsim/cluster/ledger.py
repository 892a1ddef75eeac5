"""What happens to each request, written down as it happens; columns of integers in picoseconds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import simpy
from numpy.typing import NDArray

from dcsim.records import FINISHED, IN_FLIGHT, TABLES, Table
from dcsim.workload.requests import Requests

PS_PER_S = 1_000_000_000_000
UNSET = -1

# What a request's time is spent on or waiting for; doubling the named thing shortens it.
LIMITS = ("host", "kv_memory", "sequence_slots", "prefill", "pipeline", "power_cap", "iteration_latency")


def to_ps(seconds: float) -> int:
    """Seconds to the nearest picosecond."""
    return round(seconds * PS_PER_S)


@dataclass(slots=True)
class Ledger:
    """One entry a request in each list; a time that has not come is UNSET."""

    env: simpy.Environment
    requests: Requests
    host: list[int] = field(default_factory=list)
    replica: list[int] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    admitted: list[int] = field(default_factory=list)
    first_token: list[int] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)
    tokens_out: list[int] = field(default_factory=list)
    status: list[str] = field(default_factory=list)
    reason: dict[int, str] = field(default_factory=dict)
    gaps: dict[int, int] = field(default_factory=dict)  # gap in ps -> how often
    limits: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LIMITS, 0))  # request-picoseconds
    open: int = 0  # requests not yet finished, rejected or failed
    in_system: int = 0  # requests that have arrived and are open
    area: int = 0  # integral of in_system over time
    changed: int = 0  # when in_system last changed
    done: simpy.Event = field(init=False)  # succeeds when no request is open

    def __post_init__(self) -> None:
        self.done = self.env.event()
        count = len(self.requests)
        for column in ("host", "replica", "ready", "admitted", "first_token", "finished"):
            setattr(self, column, [UNSET] * count)
        self.tokens_out = [0] * count
        self.status = [IN_FLIGHT] * count
        self.open = count

    def arrive(self, request: int, host: int) -> None:
        """The request reaches a host server now."""
        self.host[request] = host
        self._count(1)

    def close(self, request: int, status: str, reason: str = "") -> None:
        """The request reaches its end now."""
        self.status[request] = status
        if reason:
            self.reason[request] = reason
        self._count(-1)
        self.open -= 1
        if not self.open:
            self.done.succeed()

    def _count(self, change: int) -> None:
        now = self.env.now
        self.area += self.in_system * (now - self.changed)
        self.in_system += change
        self.changed = now

    def concurrency_mean(self) -> float:
        """Time average of requests in the system from time 0 to now."""
        now = self.env.now
        return (self.area + self.in_system * (now - self.changed)) / now if now else 0.0

    def count_gap(self, gap_ps: int, times: int) -> None:
        """`times` tokens followed their predecessors after `gap_ps`."""
        self.gaps[gap_ps] = self.gaps.get(gap_ps, 0) + times

    def tables(self) -> dict[str, Table]:
        """The requests, gaps and limits tables, in seconds."""
        requests = self.requests
        count = len(requests)
        ready, admitted, first, finished = (
            _seconds(values) for values in (self.ready, self.admitted, self.first_token, self.finished)
        )
        gaps_of = np.maximum(requests.output_tokens - 1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            tpot = np.where(gaps_of > 0, (finished - first) / gaps_of, np.nan)
        status = np.array(self.status, dtype="U9")
        tpot[status != FINISHED] = np.nan
        rows = {
            "request": np.arange(count), "arrival_s": requests.arrival_s,
            "klass": np.array(requests.class_names)[requests.klass] if count else np.array([], "U1"),
            "prompt_tokens": requests.prompt_tokens.astype(np.int64),
            "output_tokens": requests.output_tokens.astype(np.int64),
            "tokens_out": np.array(self.tokens_out, np.int64), "status": status,
            "reason": np.array([self.reason.get(i, "") for i in range(count)], dtype="U"),
            "host": np.array(self.host, np.int64), "replica": np.array(self.replica, np.int64),
            "ready_s": ready, "admitted_s": admitted, "first_token_s": first, "finished_s": finished,
            "ttft_s": first - requests.arrival_s, "tpot_s": tpot, "e2e_s": finished - requests.arrival_s,
        }
        gaps = sorted(self.gaps)
        return {
            "requests": {column.name: rows[column.name] for column in TABLES["requests"]},
            "gaps": {"gap_s": np.array(gaps, float) / PS_PER_S, "count": np.array([self.gaps[g] for g in gaps], np.int64)},
            "limits": {
                "resource": np.array(LIMITS), "request_s": np.array([self.limits[n] for n in LIMITS], float) / PS_PER_S
            },
        }


def _seconds(values: list[int]) -> NDArray[np.float64]:
    array = np.array(values, np.int64)
    return np.where(array == UNSET, np.nan, array / PS_PER_S)
