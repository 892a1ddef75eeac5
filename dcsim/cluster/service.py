"""The service zoom: traffic through hosts, replicas and racks, event by event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from dcsim.cluster.placement import Placement
from dcsim.cluster.programs import Programs
from dcsim.cluster.simpy.faults import fault_rows
from dcsim.fabric.graph import Fabric
from dcsim.power.caps import caps_of
from dcsim.power.rack import Racks, chips_per_rack
from dcsim.results.records import Table, TableWriter
from dcsim.spec.topology import Topology
from dcsim.units import PS_PER_S
from dcsim.workload.closed import ClosedLoop
from dcsim.workload.requests import Requests

__all__ = ["Placement", "ServiceResult", "serve"]

Traffic = Requests | Iterable[Requests] | ClosedLoop


@dataclass(frozen=True, slots=True)
class ServiceResult:
    """Tables of one run, its length, the time average of requests in the system and the share of time replicas work."""

    tables: dict[str, Table]
    elapsed_s: float
    concurrency_mean: float
    availability: float = 1.0


def serve(
    spec: Topology,
    fabric: Fabric,
    placement: Placement,
    programs: Programs,
    requests: Traffic,
    *,
    skip: bool = True,
    seed: int = 1,
    rows: TableWriter | None = None,
    progress: Callable[[int], None] | None = None,
    compiled: bool = True,
    record_rounds: bool = False,
) -> ServiceResult:
    """Serve every request, or those that are done `serving.drain` after the last arrival.

    `requests` is a table, its blocks, or the users of a closed loop. `rows` takes the rows of the requests table
    (default: in memory). `progress` is called now and then with the number of requests that have reached their end.
    `record_rounds` adds the rounds table, for traces.
    `skip=False` wakes replicas every round and `compiled=False` does without `pool`: slower, with the same rows.
    """
    rows = rows or TableWriter("requests")
    traffic, names, priorities = _classes(spec, requests)
    if compiled and not record_rounds and not isinstance(traffic, ClosedLoop) and is_plain(spec, programs):
        return _serve_plain(spec, fabric, placement, programs, traffic, names, priorities, rows, skip, progress)
    from dcsim.cluster.simpy.run import Detailed

    run = Detailed(
        spec,
        fabric,
        placement,
        programs,
        traffic,
        names,
        priorities,
        rows,
        skip=skip,
        seed=seed,
        record_rounds=record_rounds,
        progress=progress,
    )
    tables, end, concurrency, availability = run.run()
    return ServiceResult(tables, end / PS_PER_S, concurrency, availability)


def is_plain(spec: Topology, programs: Programs) -> bool:
    """Whether nothing asked for is beyond `pool` (closed loops apart)."""
    serving = spec.serving
    special = (
        serving.speculation
        or serving.prefill_replicas
        or serving.patience_s
        or serving.timeout_s
        or programs.drawn
        or spec.faults.any
    )
    return not special


def _serve_plain(
    spec: Topology,
    fabric: Fabric,
    placement: Placement,
    programs: Programs,
    blocks: Iterator[Requests],
    names: tuple[str, ...],
    priorities: tuple[int, ...],
    rows: TableWriter,
    skip: bool,
    progress: Callable[[int], None] | None,
) -> ServiceResult:
    """The compiled pool, from one block of arrivals or samples of power to the next."""
    from dcsim.cluster.fast.pool import Pool

    chips_in = chips_per_rack(fabric, placement.replica_chips)
    caps, racks = caps_of(spec, fabric, chips_in), Racks(spec, fabric, chips_in)
    pool = Pool(spec, programs, placement.kv_tokens, caps, racks, blocks, names, priorities, rows, skip=skip)
    while not pool.ended:
        pool.advance()
        if progress:
            progress(pool.closed)
    tables, concurrency = pool.tables()
    tables |= {"power": racks.table(), "faults": fault_rows([])}
    return ServiceResult(tables, pool.end_ps / PS_PER_S, concurrency)


def _classes(spec: Topology, traffic: Traffic) -> tuple[Iterator[Requests] | ClosedLoop, tuple[str, ...], tuple[int, ...]]:
    """The traffic in blocks, the names of its classes and their priorities."""
    if isinstance(traffic, ClosedLoop):
        return traffic, ("default",), (0,)
    blocks = iter([traffic] if isinstance(traffic, Requests) else traffic)
    first = next(blocks, None)
    if first is None:
        return iter(()), ("default",), (0,)
    priority = {entry.name: entry.priority for entry in spec.workload.classes}
    return chain([first], blocks), first.class_names, tuple(priority.get(name, 0) for name in first.class_names)
