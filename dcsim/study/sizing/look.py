"""What is asked of one point of a system, and whoever finds it out: in this process or in a worker's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any

from dcsim.errors import DcsimError
from dcsim.spec.topology import Topology
from dcsim.study.sizing.bound import Traffic, too_slow, traffic_of
from dcsim.study.sizing.layouts import Ways, ways
from dcsim.study.sizing.sizes import Settings, growth_of
from dcsim.study.sizing.slo import Target
from dcsim.study.sweep.case import Case, Done, Worker

NO_LIMIT = "1000 h"  # of a time that no target is about


@dataclass(frozen=True, slots=True)
class Look:
    """How may the LLM be laid over a size (`ways`), or how does it serve `rate_per_s` when it is laid as the point says?"""

    system: int  # its place among those that are searched
    point: Settings
    rate_per_s: float  # of one cluster
    seed: int = 1
    ways: bool = False


@dataclass(slots=True)
class Looker:
    """Looks at points of systems one after another; what points of a system share is kept while it is looked at."""

    cases: tuple[Case, ...]
    targets: tuple[Target, ...]
    seed: int = 1
    _workers: dict[int, Worker] = field(default_factory=dict)
    _traffic: dict[int, Traffic] = field(default_factory=dict)

    def __call__(self, look: Look) -> Done:
        """The row of a run or its `error`; of ways the fields of `Ways`, which `ways_of` reads."""
        return self._ways(look) if look.ways else self._served(look)

    @property
    def tpot_s(self) -> float | None:
        """The tightest limit of the time per output token."""
        return _tightest(self.targets, "tpot_s")

    def _ways(self, look: Look) -> Done:
        case = self.cases[look.system]
        limits = {name: _tightest(self.targets, f"{name}_s") for name in ("ttft", "tpot")}
        slo = {f"slo.{name}": NO_LIMIT if limit is None else f"{limit!r} s" for name, limit in limits.items()}
        own = case.load({}).resolved.spec
        growth = growth_of(own)
        copies = {"mapping.replicas": "auto"} if growth.unit == "rack" and own.mapping.replicas is None else {}
        try:
            spec = case.load({**copies, **look.point, **slo, "mapping.objective": "capacity"}).resolved.spec
        except DcsimError as error:
            return Done(_plain(Ways((), 0.0, str(error), hopeless=growth.settings is None)))
        if look.system not in self._traffic:
            self._traffic[look.system] = traffic_of(spec, self.seed)
        return Done(_plain(ways(spec, growth, self._traffic[look.system], look.rate_per_s, self.tpot_s)))

    def _served(self, look: Look) -> Done:
        """Served by the compiled copy where it knows all that is asked for."""
        if look.system not in self._workers:
            self._workers.clear()  # clusters with their compiled programs may be large
            self._workers[look.system] = Worker(self.cases[look.system])
        worker = self._workers[look.system]
        point = {**look.point, "rate": f"{look.rate_per_s!r} requests/s"}
        done = self._too_slow(worker, point, look.seed) or worker(({**point, "engine": "compiled"}, look.seed))
        if "the compiled copy does not know" in str(done.row.get("error", "")):
            done = worker(({**point, "engine": "simpy"}, look.seed))
        return done

    def _too_slow(self, worker: Worker, point: Settings, seed: int) -> Done | None:
        """The row of a cluster in which even one user alone is too slow, who need not be served to see it."""
        try:
            spec: Topology = worker.case.load({**point, "engine": "compiled"}).resolved.spec
            programs = worker.ready(spec, seed).programs
        except (DcsimError, MemoryError):
            return None  # which the run itself says
        lone_s = max(time.latency_ps for time in programs.times(programs.lone)) * 1e-12
        slow = too_slow(spec, lone_s, self.tpot_s)
        return Done({**point, "error": slow, "hopeless": True}) if slow else None


def _tightest(targets: Sequence[Target], metric: str) -> float | None:
    return min((target.limit_s for target in targets if target.metric.startswith(metric)), default=None)


def _plain(found: Ways) -> dict[str, Any]:
    """As a line of JSON can say it."""
    return asdict(found) | {"requests_per_s": None if found.requests_per_s == inf else found.requests_per_s}


def ways_of(done: Done) -> Ways:
    """The `Ways` that a look found; none where its worker was lost."""
    row = done.row
    if "error" in row:
        return Ways((), 0.0, str(row["error"]))
    rate = row["requests_per_s"]
    return Ways(
        tuple(row["settings"]),
        inf if rate is None else rate,
        row["reason"],
        row["hopeless"],
        tuple(row["others"]),
        row["waiting"],
    )
