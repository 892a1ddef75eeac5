"""One cluster and its traffic, ready to run: what the command line and `dcsim.api` load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcsim import __version__
from dcsim.errors import Problem, SpecError
from dcsim.interrupt import careful_interrupts
from dcsim.results import records
from dcsim.spec.load import Resolved
from dcsim.spec.load import load as load_spec
from dcsim.spec.unused import unused
from dcsim.study.store import RUNS, Store, fingerprint, opened, run_hash
from dcsim.units import EVENTS, parse_quantity

if TYPE_CHECKING:
    from dcsim.cluster.live import LiveState
    from dcsim.study.serve import ReadyMachine

RATE_MAX = 1e9  # requests per second: everybody on earth asks every eighth second
Progress = Callable[[int, int], None]  # requests done, requests in all


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checked topology with what it serves. Make one with `load`."""

    resolved: Resolved

    @property
    def spec(self) -> Any:
        """The resolved spec (`spec.topology.Topology`)."""
        return self.resolved.spec

    def run(
        self,
        seed: int = 1,
        out: str | Path | None = None,
        *,
        save: bool = False,
        progress: Progress | None = None,
        watch: Callable[[LiveState], None] | None = None,
        rounds: bool = False,
        zoom: str = "service",
        fresh: bool = False,
        prepared: ReadyMachine | None = None,
    ) -> records.Run:
        """Serve the workload; returns the run, saved to `out`, to `runs/<hash>` if `save` is set, or to the store that is open.

        A run that the store has is not run again, unless `fresh`: the same spec, seed and code give the same rows.

        `rounds` keeps the rounds table as well, which only SimPy can. `zoom="chips"` has every chip and link carry every round
        out, with the same times, and leaves `timeline.json.gz` in the run's folder; `progress` then counts iterations. `watch`
        sees now and then what the run looks like (`cluster.live.LiveState`).

        Raises CapacityError before anything runs if the LLM does not fit, RunStoreError if `out` cannot be written.
        """
        from dcsim.study.serve import serve_scenario

        spec = self.resolved.spec.model_dump(mode="json", by_alias=True)
        store = Store(RUNS) if save else opened()
        name = run_hash(spec, seed, zoom)
        folder = Path(out) if out is not None else (store.folder if store else RUNS) / name
        kept = store.find(name, ("rounds",) if rounds else ()) if store and out is None and not fresh else None
        if kept is not None:
            return kept
        ways: dict[str, Any] = {"rounds": rounds, "zoom": zoom, "prepared": prepared, "watch": watch}
        if out is None and store is None:
            with careful_interrupts():
                tables, summary, meta = self._serve(serve_scenario, seed, progress, None, **ways)
            return records.Run(folder, summary, spec, meta, tables)
        # Rows go to their file as requests end, so that memory holds only those in flight.
        with careful_interrupts(), records.new_run(folder) as work:
            rows = records.TableWriter("requests", work / "requests.parquet")
            ways["timeline"] = work / "timeline.json.gz"
            tables, summary, meta = self._serve(serve_scenario, seed, progress, rows, **ways)
            records.fill(work, tables, summary, spec, meta)
        return records.Run(folder, summary, spec, meta)

    def unused(self, run: records.Run) -> dict[str, str]:
        """Keys without effect on a run of this, and where each was given; a run that was kept says so itself."""
        if not run.reused:
            return unused(self.resolved)
        places, keys = self.resolved.places, run.meta.get("unused_keys", [])
        return {key: places[tuple(key.split("."))] for key in keys if tuple(key.split(".")) in places}

    def _serve(self, serve: Any, seed: int, progress: Progress | None, rows: records.TableWriter | None, **ways: Any) -> Any:
        tables, summary, meta = serve(self.resolved, seed, progress, rows, **ways)
        summary["digest"] = records.digest(tables, summary)
        return (
            tables,
            summary,
            {
                "dcsim_version": __version__,
                "schema_version": records.STORE_VERSION,
                "files": fingerprint(),
                "seed": seed,
                "unused_keys": [*unused(self.resolved)],
                "prices": _prices(self.resolved),
                **meta,
            },
        )


def load(
    topology: str | Path,
    *,
    llm: str | None = None,
    workload: str | None = None,
    interconnect: str | None = None,
    set: Sequence[str] = (),
    duration: str | None = None,
    engine: str | None = None,
    rate_scale: float | None = None,
    rate: str | None = None,
) -> Loaded:
    """Read a topology (path or library name) and what it names; SpecError with every problem found.

    `set` holds `dotted.key=value` texts, such as `mapping.tp=16`; `duration` (with unit) cuts the workload and
    `rate_scale` makes its requests come that many times as fast, `rate` (`50/s`) so many in a second.
    `engine` says who serves (`spec.topology.Topology`).
    """
    settings = list(set)
    if duration is not None:
        settings.append(f"workload.duration={duration}")
    if engine is not None:
        settings.append(f"engine={engine}")
    if rate_scale is not None:
        if rate is not None:
            raise SpecError(Problem("--rate", "is given beside --rate-scale", "leave out one of them"))
        settings.append(f"workload.rate_scale={rate_scale}")
    resolved = load_spec(topology, llm=llm, workload=workload, network=interconnect, settings=settings)
    if rate is not None:
        settings.append(f"workload.rate_scale={scale_for(resolved, rate)!r}")
        resolved = load_spec(topology, llm=llm, workload=workload, network=interconnect, settings=settings)
    if duration is not None and not resolved.spec.workload.duration_s:
        raise SpecError(Problem("--duration", f"no request arrives within {duration}", "leave it out to serve all"))
    return Loaded(resolved)


def rate_of(text: str, option: str = "--rate") -> float:
    """Requests per second of a text such as `50/s` or `30 requests/min`. SpecError for none, or none above 0."""
    try:
        rate_per_s = parse_quantity(text, EVENTS)
    except ValueError as error:
        raise SpecError(Problem(option, str(error), f"for example {option} 30/s")) from None
    if not 0 < rate_per_s <= RATE_MAX:
        raise SpecError(Problem(option, f"'{text}' is no rate of requests", f"above 0, at most {RATE_MAX:g} requests/s"))
    return rate_per_s


def scale_for(resolved: Resolved, rate: str) -> float:
    """The `workload.rate_scale` with which the workload has `rate` requests per second on average."""
    from dcsim.workload.generate import own_rate_per_s

    workload, wanted_per_s = resolved.spec.workload, rate_of(rate)
    return workload.rate_scale * wanted_per_s / own_rate_per_s(workload)


def _prices(resolved: Resolved) -> dict[str, dict[str, str]]:
    """Kind and source of each figure that the cost of a run rests on, so that a saved run can say so."""
    known = {path: resolved.figures[path] for path in sorted(resolved.figures) if path[0] in COSTED or path[:2] in COSTED}
    return {".".join(path): {"kind": figure.kind, "source": figure.source} for path, figure in known.items()}


COSTED: frozenset[Any] = frozenset(
    {
        "node",
        "host",
        ("chip", "price"),
        ("chip", "power"),
        ("network", "prices"),
        ("network", "adapter_price"),
        ("network", "port"),
        ("network", "switch_power"),
        ("network", "adapter_power"),
        ("network", "adapter_price"),
        ("network", "prices"),
        ("power", "optic"),
    }
)
