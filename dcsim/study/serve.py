"""From a resolved spec to a run's tables and summary: the story of one run, room by room."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dcsim.cluster.copies import Copies
from dcsim.cluster.engine_programs import AnyPrograms, EnginePrograms
from dcsim.cluster.live import LiveState
from dcsim.cluster.programs import Times
from dcsim.cluster.service import Placement, ServedBy, serve
from dcsim.economics.bill import parts_of
from dcsim.errors import Problem, SpecError
from dcsim.llm.program import Shape
from dcsim.network.timing import IterationTime
from dcsim.power.chain import power_terms
from dcsim.results import metrics
from dcsim.results.records import Table, TableWriter
from dcsim.spec.load import Resolved
from dcsim.spec.topology import Topology
from dcsim.study.idle import idle_chips
from dcsim.study.machine import Machine, build
from dcsim.workload.closed import ClosedLoop, make_closed_loop
from dcsim.workload.generate import iterate_requests
from dcsim.workload.requests import Requests

if TYPE_CHECKING:
    from dcsim.cluster.simpy.chips import Chips

_BLOCK = 65_536  # requests made, and rows written, at a time
ENGINE_KEYS = ("engine", "engine_processes", "engine_events")  # of a run's meta: who served it, and what that took
WHAT_RAN = (  # of its meta too: what a run's metrics are of
    *("llm", "interconnect", "software", "tp", "pp", "replicas", "chips_used"),
    *("chunk_tokens", "objective", "search"),
    *("chips_installed", "idle_chips", "idle_spare_chips", "idle_power_w", "idle_buy_usd", "pue", "power_entry"),
    *("programs_recompiled", "recompile_s"),
)

Served = tuple[dict[str, Table], dict[str, Any], dict[str, Any]]  # tables, summary without digest, meta


@dataclass(frozen=True, slots=True)
class ReadyMachine:
    """A machine with its programs, the first of which is timed: what runs share that differ in traffic alone."""

    machine: Machine
    programs: AnyPrograms
    token_fractions: dict[str, float]


def prepare(spec: Topology, seed: int) -> ReadyMachine:
    """Build the machine of a spec and time a lone sequence's next token, with where its time goes."""
    machine = build(spec, seed)
    parts: dict[str, float] = {}
    programs = programs_of(machine, _timing(machine, parts))
    lone = programs.times(programs.lone)
    if not parts:  # an engine's iterations say where their time goes
        parts.update(_shares(lone))
    return ReadyMachine(machine, programs, parts)


def serve_scenario(
    resolved: Resolved,
    seed: int,
    progress: Any = None,
    rows: TableWriter | None = None,
    rounds: bool = False,
    zoom: str = "service",
    timeline: Path | None = None,
    prepared: ReadyMachine | None = None,
    watch: Callable[[LiveState], None] | None = None,
) -> Served:
    """Build the machine of a spec and serve its workload on it.

    `rows` takes the requests' rows (default: in memory); `rounds` keeps the rounds table as well. `zoom: chips` has chips and
    links carry every round out, and writes what they did to `timeline`; `progress` then counts iterations. How many there will
    be the service zoom says first. `watch` sees now and then what the service zoom's run looks like. `prepared` is the machine of
    a spec that differs in its workload alone, if there is one.
    """
    spec = resolved.spec
    ready = prepared or prepare(spec, seed)
    machine, programs, parts = ready.machine, ready.programs, ready.token_fractions
    if zoom == "service":
        tables, summary, meta = serve_on(machine, programs, spec, seed, progress, rows, rounds, watch=watch)
        return tables, summary, meta | {"token_fractions": parts, "zoom": zoom}
    from dcsim.network.scheduled.replay import collector_paused
    from dcsim.study import chip_zoom

    chip_zoom.check(machine, _traffic(spec, seed)[0])
    short, _, _ = serve_on(machine, programs, spec.model_copy(update={"engine": "simpy"}), seed, rounds=True)
    chips = chip_zoom.chips_of(machine, short["rounds"], seed, progress)
    with collector_paused():
        tables, summary, meta = serve_on(machine, programs, spec, seed, None, rows, rounds, chips)
    if timeline is not None:
        chip_zoom.write_timeline(timeline, tables, chips, machine.fabric)
    return tables, summary, meta | {"token_fractions": parts, "zoom": zoom, **chip_zoom.report(chips)}


def _timing(machine: Machine, parts: dict[str, float]) -> Callable[[Shape], Times]:
    """Times shapes. Of the first, a lone sequence's next token, the share of each part goes to `parts`."""

    def time(shape: Shape) -> Times:
        if parts:
            return machine.times(shape)
        drawn = machine.times(shape, parts=True)
        parts.update(_shares(drawn))
        return drawn

    return time


def _shares(times: Sequence[IterationTime]) -> dict[str, float]:
    seconds = {name: sum(one.breakdown_s[name] for one in times) for name in times[0].breakdown_s}
    return {name: value / sum(seconds.values()) for name, value in seconds.items()}


def programs_of(machine: Machine, time: Callable[[Shape], Times]) -> AnyPrograms:
    """What the replicas of a machine run: programs compiled for some shapes, timed by `time`, or what their engine finds to do.

    Raises SpecError for an engine where the network runs compiled programs, and for unequal pools without an engine.
    """
    spec = machine.spec
    engine = spec.serving.engine
    if engine is None:
        if machine.readers:
            what = "replicas of unequal degrees are served under an engine alone"
            raise SpecError(Problem("mapping.prefill", what, "name one, for example --set serving.engine=vllm"))
        return machine.programs(time)

    def made(one: Machine) -> EnginePrograms:
        return EnginePrograms(engine, spec.serving, one.network.lockstep(), spec.chip.power, spec.llm)

    programs = made(machine)
    programs.reading = made(machine.readers) if machine.readers else None
    return programs


def serve_on(
    machine: Machine,
    programs: AnyPrograms,
    spec: Topology,
    seed: int,
    progress: Any = None,
    rows: TableWriter | None = None,
    rounds: bool = False,
    chips: Chips | None = None,
    traffic: Requests | None = None,
    watch: Callable[[LiveState], None] | None = None,
) -> Served:
    """Serve the spec's workload (or `traffic`) on a machine already built, with the shapes already timed in `programs`."""
    requests, total = _traffic(spec, seed) if traffic is None else (traffic, len(traffic))
    report = partial(_report, progress, total) if progress else None
    result = serve(
        spec,
        machine.fabric,
        _placement(machine),
        programs,
        requests,
        seed=seed,
        rows=rows,
        progress=report,
        watch=watch,
        record_rounds=rounds,
        chips=chips,
    )
    result.tables["classes"] = metrics.class_table(
        result.tables["requests"],
        [entry.name for entry in spec.workload.classes],
        targets=_targets(spec),
        elapsed_s=result.elapsed_s,
        warmup_s=spec.serving.warmup_s,
    )
    summary = metrics.summarise(
        result.tables,
        slo_ttft_s=spec.slo.ttft_s,
        slo_tpot_s=spec.slo.tpot_s,
        pue=spec.power.pue,
        elapsed_s=result.elapsed_s,
        concurrency_mean=result.concurrency_mean,
        seed=seed,
        warmup_s=spec.serving.warmup_s,
        availability_fraction=result.availability,
        targets=_targets(spec),
    )
    meta = _meta(machine, programs) | engine_meta([result.engine]) | _copies_meta(result.tables, result.elapsed_s)
    if summary["requests_rejected"] or summary["requests_failed"]:
        meta["reasons"] = metrics.reasons(result.tables["requests"])
    return result.tables, summary, meta


def engine_meta(engines: Sequence[ServedBy]) -> dict[str, Any]:
    """Who served one run or several, and the SimPy processes and events that it took in all."""
    return {
        "engine": " and ".join(dict.fromkeys(engine.name for engine in engines)),
        "engine_processes": sum(engine.processes for engine in engines),
        "engine_events": sum(engine.events for engine in engines),
    }


def engines_of(metas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`engine_meta` of runs of which each one's is known."""
    return engine_meta([ServedBy(m["engine"], m["engine_processes"], m["engine_events"]) for m in metas])


def _traffic(spec: Topology, seed: int) -> tuple[Iterator[Requests] | ClosedLoop, int]:
    """The workload's requests block by block, or its users; and how many requests to expect (0: unknown)."""
    if spec.workload.kind == "closed":
        loop = make_closed_loop(spec.workload, seed)
        return loop, loop.requests_max or loop.think_s.size
    return iterate_requests(spec.workload, seed, _BLOCK), spec.workload.requests


def _targets(spec: Topology) -> dict[str, tuple[float, float]]:
    """(TTFT, TPOT) targets of each class that has its own."""
    return {entry.name: (entry.ttft_s or spec.slo.ttft_s, entry.tpot_s or spec.slo.tpot_s) for entry in spec.workload.classes}


def _placement(machine: Machine) -> Placement:
    """Where the replicas stand, and the links between them."""
    mapping, readers = machine.mapping, machine.readers
    chips = machine.replica_chips

    def copies() -> Copies:
        return Copies(
            machine.fabric,
            machine.network.wires(),
            chips,
            lambda tokens: np.array(mapping.memory.room.chip_bytes(tokens), np.int64),
        )

    room = mapping.memory.room
    reading = readers.mapping.memory.room if readers else None
    recompile_s = _recompiling(machine)["recompile_s"] or 0.0
    return Placement(machine.site, chips, room, mapping.memory.weight_bytes_max, copies, reading, recompile_s)


def _recompiling(machine: Machine) -> dict[str, Any]:
    """Programs compiled again when a node moves to its spare, and how long that takes; None where none are, or nothing fails.

    They are those of every batch and context, and a chunk of a prompt for each context.
    """
    spec = machine.spec
    programs = (len(machine.batches) + 1) * len(spec.serving.context_buckets)
    recompile_s = machine.network.recompile_s(programs) if spec.faults.any else 0.0
    return {"programs_recompiled": programs if recompile_s else None, "recompile_s": recompile_s or None}


def _in_flight(programs: AnyPrograms) -> dict[str, Any]:
    """How many shapes were in flight with others of their kind, and how many of them at an interval proved for them; None where
    nothing has to be proved.
    """
    both = programs.shapes_in_flight if not isinstance(programs, EnginePrograms) else None
    return dict(zip(("shapes_in_flight", "shapes_proved"), both or (None, None), strict=True))


def _copies_meta(tables: Mapping[str, Table], elapsed_s: float) -> dict[str, Any]:
    """What went from pool to pool, where they are apart, and the link held longest."""
    links = tables.get("kv_links")
    if links is None or not len(links["link"]):
        return {}
    busiest = int(links["held_s"].argmax())
    out, into = (
        np.bincount(links[end], links["carried_bytes"], 1 + max(links["source"].max(), links["target"].max()))
        for end in ("source", "target")
    )
    return {
        "kv_copies": {
            "sent_bytes": int(np.maximum(0, out - into).sum()),
            "links": len(links["link"]),
            "busiest_link": int(links["link"][busiest]),
            "busiest_class": str(links["link_class"][busiest]),
            "busiest_fraction": float(links["held_s"][busiest] / max(elapsed_s, links["free_s"][busiest])),
        }
    }


def _report(progress: Any, total: int, done: int) -> None:
    progress(done, max(total, done))


def _meta(machine: Machine, programs: AnyPrograms) -> dict[str, Any]:
    spec, mapping = machine.spec, machine.mapping
    return {
        "llm": spec.llm.name,
        **spec.network.terms,
        "tp": mapping.tp,
        "pp": mapping.pp,
        "replicas": len(machine.replica_chips),
        "chips_used": sum(map(len, machine.replica_chips)),
        "chips_active": int(machine.fabric.chip_active.sum()),
        **idle_chips(machine),
        **_recompiling(machine),
        **_in_flight(programs),
        "kv_tokens": mapping.memory.kv_tokens,
        **machine.chosen,
        "parts": asdict(parts_of(machine.site)),
        **power_terms(spec),
        "slo_ttft_s": spec.slo.ttft_s,
        "slo_tpot_s": spec.slo.tpot_s,
        "shapes_timed": programs.shapes_timed,
    }
