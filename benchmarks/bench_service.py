"""The service zoom: cost of a request by number of requests and of replicas, the reference loop, a long stream.

Iteration times are made up (linear in batch, context and new tokens), so only the service zoom is measured.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import command, row
from dcsim.cluster.programs import Programs
from dcsim.cluster.service import Placement, ServiceResult, serve
from dcsim.fabric.build import build_fabric
from dcsim.llm.kv import room_of_tokens
from dcsim.llm.program import Shape
from dcsim.network.network import make_network
from dcsim.network.timing import IterationTime
from dcsim.power.site import site_of
from dcsim.results.records import TableWriter
from dcsim.spec.load import load
from dcsim.workload.generate import iterate_requests


def iteration(shape: Shape) -> IterationTime:
    """3 ms, and something for every sequence and token."""
    us = 3000 + 10 * shape.batch + 0.01 * shape.context + 30 * (shape.new_tokens - 1)
    return IterationTime(int(us * 1e6), int(us * 1e6) // 60, 20.0 * shape.batch * shape.new_tokens)


MILLION, SESSIONS = ("million", "workload.mean={} requests/s"), ("sessions", "workload.rate_scale={}")


def run(
    requests: int,
    rate: float,
    replicas: int = 1,
    folder: str | None = None,
    workload: tuple[str, str] = MILLION,
    engine: str = "compiled",
    **options: Any,
) -> tuple[float, ServiceResult]:
    """CPU seconds and result of one run of Azure's lengths, or of sessions, on 512 chips."""
    name, rate_key = workload
    settings = [f"workload.requests={requests}", "workload.duration=0 s", rate_key.format(rate), f"engine={engine}"]
    spec = load("8rack", workload=name, settings=settings).spec
    fabric = build_fabric(spec.fabric)
    active = np.flatnonzero(fabric.chip_active).tolist()
    size = len(active) // replicas
    chips = tuple(tuple(active[i * size : (i + 1) * size]) for i in range(replicas))
    placement = Placement(site_of(make_network(spec, fabric)), chips, room_of_tokens(100_000))
    rows = TableWriter("requests", Path(folder) / "requests.parquet") if folder else None
    start = time.process_time()
    blocks = iterate_requests(spec.workload, 1, 65_536)
    result = serve(spec, fabric, placement, Programs(spec.serving, iteration), blocks, rows=rows, **options)
    return time.process_time() - start, result


def main() -> None:
    """Figures beside their targets."""
    with tempfile.TemporaryDirectory() as folder:
        run(2_000, 20, folder=folder)  # load compiled kernels and the Parquet library
    costs = {}
    for requests in (10_000, 100_000, 1_000_000):
        with tempfile.TemporaryDirectory() as folder:
            cpu_s, _ = run(requests, 25, folder=folder)
        costs[requests] = cpu_s / requests
        name = f"{requests:,} requests, 1 replica, rows written"
        row(name, f"{cpu_s:.2f} s {cpu_s / requests * 1e6:.1f} us each", "20 s for 1 M")
    row("cost of a request, 10 k to 1 M", f"{costs[1_000_000] / costs[10_000]:.2f} x", "1.3 x")
    cpu_s, _ = run(100_000, 4, workload=SESSIONS)
    row("100,000 requests of sessions, prefixes reused", f"{cpu_s * 10:.1f} us each", "20 us")
    one, many = (run(200_000, 40, replicas)[0] for replicas in (1, 64))
    row("cost of a request, 1 to 64 replicas", f"{many / one:.2f} x", "1.3 x")
    simpy_s, result = run(20_000, 5, engine="simpy", skip=False, record_rounds=True)
    rounds = result.tables["rounds"]["rounds"].sum()
    for name, cpu_s in (("on SimPy", simpy_s), ("compiled", run(20_000, 5, engine="compiled", skip=False)[0])):
        row(f"every round waited for, {name}", f"{rounds / cpu_s:,.0f} iterations/s", "100,000")
    cpu_s, _ = run(20_000, 5, engine="simpy")
    row("20,000 requests on SimPy", f"{cpu_s / 20_000 * 1e6:.0f} us each", "100 us")
    stream = "from benchmarks.bench_service import stream; stream()"
    usage = command([sys.executable, "-c", stream], runs=1, warmup=0)
    row("5 M requests streamed to Parquet", f"{usage.wall_s:.0f} s {usage.memory_mb:.0f} MB", "memory of those in flight")


def stream(requests: int = 5_000_000) -> None:
    """Serve five million requests, rows to a file."""
    with tempfile.TemporaryDirectory() as folder:
        run(requests, 45, replicas=4, folder=folder)
