"""The service zoom: traffic through hosts, replicas and racks, served by SimPy's processes or by their compiled copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from dcsim.cluster.engine_programs import AnyPrograms
from dcsim.cluster.fast.knows import unknown
from dcsim.cluster.live import LiveState
from dcsim.cluster.placement import Placement
from dcsim.cluster.rows import fault_rows
from dcsim.errors import CapacityError, Problem, SpecError
from dcsim.fabric.graph import Fabric
from dcsim.power.caps import caps_of
from dcsim.power.rack import meters
from dcsim.results.records import Table, TableWriter
from dcsim.spec.topology import Topology
from dcsim.units import PS_PER_S
from dcsim.workload.closed import ClosedLoop
from dcsim.workload.requests import Requests

if TYPE_CHECKING:
    from dcsim.cluster.simpy.chips import Chips

__all__ = ["Placement", "ServedBy", "ServiceResult", "serve"]

Traffic = Requests | Iterable[Requests] | ClosedLoop
# `engine: auto` has SimPy serve up to so many requests, some seconds' work, and the compiled copy where there are more.
SIMPY_REQUESTS_MAX = 50_000


@dataclass(frozen=True, slots=True)
class ServedBy:
    """Who served a run: `simpy` or `compiled`, with how many SimPy processes (none in the copy) and events."""

    name: str
    processes: int
    events: int


@dataclass(frozen=True, slots=True)
class ServiceResult:
    """Tables of one run, its length, the time average of requests in the system and the share of time replicas work."""

    tables: dict[str, Table]
    elapsed_s: float
    concurrency_mean: float
    engine: ServedBy
    availability: float = 1.0


def serve(
    spec: Topology,
    fabric: Fabric,
    placement: Placement,
    programs: AnyPrograms,
    requests: Traffic,
    *,
    skip: bool = True,
    seed: int = 1,
    rows: TableWriter | None = None,
    progress: Callable[[int], None] | None = None,
    watch: Callable[[LiveState], None] | None = None,
    record_rounds: bool = False,
    chips: Chips | None = None,
) -> ServiceResult:
    """Serve every request, or those that are done `serving.drain` after the last arrival.

    `requests` is a table, its blocks, or the users of a closed loop. `rows` takes the rows of the requests table
    (default: in memory). `progress` is called now and then with the number of requests that have reached their end, and
    `watch` with what the run looks like.
    `record_rounds` adds the rounds table, for traces. `skip=False` wakes replicas every round: slower, with the same rows.
    `chips` carry every round out, in chip zoom, which records rounds too.
    `spec.engine` says who serves; the rows are the same. Raises SpecError where the copy shall serve what it does not know.
    """
    _require_decoders(spec, placement)
    rows = rows or TableWriter("requests")
    traffic, names, priorities = _classes(spec, requests)
    traffic, is_compiled = _choose(spec, placement, programs, traffic, record_rounds, chips is not None)
    if is_compiled:
        return _serve_compiled(spec, placement, programs, traffic, names, priorities, rows, skip, seed, progress, watch)
    from dcsim.cluster.simpy.cluster import Cluster

    cluster = Cluster(
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
        record_rounds=record_rounds or chips is not None,
        progress=progress,
        watch=watch,
        chips=chips,
    )
    tables, end, concurrency, availability = cluster.run()
    if chips:
        chips.finish()
    engine = ServedBy("simpy", cluster.env.processes, cluster.env.events)
    return ServiceResult(tables, end / PS_PER_S, concurrency, engine, availability)


def _require_decoders(spec: Topology, placement: Placement) -> None:
    """Raises CapacityError where replicas that only read prompts leave none to decode."""
    readers, count = spec.serving.prefill_replicas, len(placement.replica_chips)
    if readers >= count:
        what = f"serving.prefill_replicas of {readers} leaves none of {count} to decode; mapping.replicas sets how many"
        raise CapacityError(what, readers + 1, count)


def _choose(
    spec: Topology,
    placement: Placement,
    programs: AnyPrograms,
    traffic: Iterator[Requests] | ClosedLoop,
    rounds: bool,
    chips: bool,
) -> tuple[Iterator[Requests] | ClosedLoop, bool]:
    """Whether the compiled copy serves, and the traffic, which had to be looked at to count it."""
    is_many = False
    if isinstance(traffic, ClosedLoop):
        is_many = traffic.most_requests > SIMPY_REQUESTS_MAX
    elif spec.engine == "auto":
        traffic, is_many = _look_ahead(traffic, SIMPY_REQUESTS_MAX)
    if spec.engine == "simpy" or (spec.engine == "auto" and not is_many):
        return traffic, False
    beyond = unknown(
        spec,
        replicas=len(placement.replica_chips),
        drawn=programs.drawn,
        rounds=rounds,
        chips=chips,
    )
    if beyond and spec.engine == "compiled":
        raise SpecError(
            Problem("engine: compiled", f"the compiled copy does not know {', '.join(beyond)}", "use engine auto or simpy")
        )
    return traffic, not beyond


def _look_ahead(blocks: Iterator[Requests], count: int) -> tuple[Iterator[Requests], bool]:
    """The blocks again, and whether they hold more than `count` requests."""
    seen: list[Requests] = []
    while sum(map(len, seen)) <= count:
        block = next(blocks, None)
        if block is None:
            return iter(seen), False
        seen.append(block)
    return chain(seen, blocks), True


def _serve_compiled(
    spec: Topology,
    placement: Placement,
    programs: AnyPrograms,
    traffic: Iterator[Requests] | ClosedLoop,
    names: tuple[str, ...],
    priorities: tuple[int, ...],
    rows: TableWriter,
    skip: bool,
    seed: int,
    progress: Callable[[int], None] | None,
    watch: Callable[[LiveState], None] | None,
) -> ServiceResult:
    """The compiled pool, from one block of arrivals or samples of power to the next."""
    from dcsim.cluster.fast.pool import Pool

    chips_in = placement.site.chips_in(placement.replica_chips)
    caps, racks = caps_of(placement.site, chips_in), meters(placement.site, chips_in)
    copies = placement.copies() if spec.serving.prefill_replicas and placement.copies else None
    pool = Pool(
        spec, programs, placement.room, caps, racks, traffic, names, priorities, rows, skip=skip, seed=seed, copies=copies
    )
    while not pool.ended:
        pool.advance()
        if progress:
            progress(pool.closed)
        if watch:
            watch(pool.live())
    tables, concurrency = pool.tables()
    tables |= {"power": pool.power_table(), "faults": fault_rows([])}
    if copies:
        tables["kv_links"] = copies.table()
    return ServiceResult(tables, pool.end_ps / PS_PER_S, concurrency, ServedBy("compiled", 0, pool.events))


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
