"""What a workload looks like before anything serves it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dcsim.errors import WorkloadError
from dcsim.spec.unused import unused
from dcsim.study.scenario import load
from dcsim.workload.describe import describe
from dcsim.workload.generate import make_requests
from dcsim.workload.traces import find_trace, read_trace

BINS = 60  # of the rate over time
ANY_TOPOLOGY = "node"  # only its workload is read, and that is replaced


def workload(name: str, seed: int = 1, settings: list[str] | tuple[str, ...] = (), rate: str | None = None) -> dict[str, Any]:
    """Rate, burstiness and lengths of the workload `name` (file or library entry), and its rate over time.

    `failed_rows` are those of its trace that count as failed requests and are left out.
    `settings` hold `workload.KEY=VALUE` texts, `rate` (`30/s`) is what it is scaled to.
    Raises WorkloadError for a closed loop, whose arrivals depend on who serves.
    """
    resolved = load(ANY_TOPOLOGY, workload=name, set=settings, rate=rate).resolved
    spec = resolved.spec.workload
    if spec.kind == "closed":
        raise WorkloadError(f"{name}: users of a closed loop ask when they are answered; `dcsim run` shows their rate")
    requests = make_requests(spec, seed)
    traced = spec.kind in ("replay", "bootstrap")
    failed = read_trace(find_trace(spec.trace.file), spec.trace).dropped if traced else 0
    counts, edges = np.histogram(requests.arrival_s, BINS)
    plain = describe(requests).as_dict()
    finite = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in plain.items()}
    return {
        "name": spec.name,
        "kind": spec.kind,
        "seed": seed,
        **finite,
        "failed_rows": failed,
        "rate_over_time": {"interval_s": float(edges[1] - edges[0]), "requests": counts.tolist()},
        "unused_keys": unused(resolved, topology=False),
    }
