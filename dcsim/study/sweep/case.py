"""What a sweep does at each of its points: times one iteration, or serves the workload; a row, or why there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from dcsim.errors import DcsimError
from dcsim.spec.unused import Keys, keys_of

if TYPE_CHECKING:
    from dcsim.spec.topology import Topology
    from dcsim.study.scenario import Loaded
    from dcsim.study.serve import ReadyMachine

# Metrics shown where none is asked for.
SHOWN = {
    "iteration": ["tp", "pp", "iteration_s", "tokens_per_s_per_user", "tokens_per_s", "energy_j"],
    "run": ["ttft_s_p99", "tpot_s_p99", "output_tokens_per_s", "goodput_requests_per_s", "energy_j_per_token", "limited_by"],
}
# What a served point has beside the run's metrics, each told of the whole cluster, chips bought.
BUILT = (
    *("racks", "nodes", "chips", "clusters_a_rack", "replicas", "tp", "pp", "chunk_tokens", "idle_w"),
    *("capital_usd", "usd_per_h", "usd_per_mtoken"),
)
NAMED = ("llm", "workload", "interconnect", "rate")  # keys of a point that are arguments, not keys of the spec


@dataclass(frozen=True, slots=True)
class Case:
    """What to do at each point: the topology, fixed settings, and a shape to time, or `run` to serve the workload."""

    topology: str
    settings: tuple[str, ...] = ()
    interconnect: str | None = None
    llm: str | None = None
    batch: int = 1
    context: int | None = None
    prefill: int = 0
    run: bool = False
    seed: int = 1
    workload: str | None = None
    rate: str | None = None

    def load(self, point: dict[str, str]) -> Loaded:
        """The scenario of a point. SpecError with every problem found."""
        from dcsim.study.scenario import load

        own = {name: point.get(name, getattr(self, name)) for name in NAMED}
        settings = [f"{key}={value}" for key, value in point.items() if key not in NAMED]
        return load(self.topology, set=[*self.settings, *settings], **own)

    def name_of(self, scenario: Loaded, seed: int) -> str:
        """What a point's result is found again by: all that it follows from, the contents of files included."""
        from dcsim.study.store import hash_of, run_hash

        spec = scenario.resolved.spec.saved()
        return hash_of([run_hash(spec, seed), self.run, *([] if self.run else [self.batch, self.context, self.prefill])])

    def plain(self) -> dict[str, Any]:
        """All of it but the seed, for a hash."""
        return {key: value for key, value in asdict(self).items() if key != "seed"}


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one point with one seed: its row, and the keys given to it; none of what could not be built.

    `lost` where its worker was killed or ran out of memory, which may end otherwise another time.
    """

    row: dict[str, Any]
    keys: Keys | None = None
    lost: bool = False


Task = tuple[dict[str, str], int]  # a point and a seed


@dataclass(slots=True)
class Worker:
    """Does points of a case one after another, and keeps what they share: the cluster as long as only its traffic changes."""

    case: Case
    _built: dict[str, tuple[ReadyMachine, dict[str, Any]]] = field(default_factory=dict)

    def __call__(self, task: Task) -> Done:
        """The row of one point: its settings, then its metrics, or `error`. Nothing that a point may do ends the sweep."""
        point, seed = task
        row: dict[str, Any] = {**point}
        try:
            scenario = self.case.load(point)
            metrics = self._served(scenario, seed) if self.case.run else self._iterated(scenario, seed)
        except DcsimError as error:
            return Done({**row, "error": str(error)})
        except MemoryError as error:
            return Done({**row, "error": f"more memory needed than this machine has: {error or 'no details'}"}, lost=True)
        except Exception as error:  # a bug at one point is a row that says so; the others' rows are not lost for it
            return Done({**row, "error": f"{type(error).__name__}: {error}"}, lost=True)
        flat = {name: value for name, value in metrics.items() if not isinstance(value, (dict, list))}
        return Done({**row, **flat}, keys_of(scenario.resolved))

    def _iterated(self, scenario: Loaded, seed: int) -> dict[str, Any]:
        from dcsim.study import iteration as study
        from dcsim.study.machine import build

        spec = scenario.resolved.spec
        shape = study.shape_of(self.case.batch, self.case.context, self.case.prefill, spec.llm)
        figures = study.iteration(build(spec, seed), shape)
        return {name: figures[name] for name in study.FIGURES}

    def _served(self, scenario: Loaded, seed: int) -> dict[str, Any]:
        from dcsim.economics.cost import run_money
        from dcsim.study.serve import ENGINE_KEYS

        spec = scenario.resolved.spec
        ready = self.ready(spec, seed)
        run = scenario.run(seed, prepared=ready)
        parts, site = run.meta["parts"], ready.machine.site
        built = {
            "racks": parts["racks"] + parts["switch_racks"],
            "nodes": parts["nodes"],
            "chips": parts["chips"],
            "clusters_a_rack": spec.power.rack_units // max(1, parts["nodes"] * spec.node.rack_units),
            **{name: run.meta[name] for name in ("replicas", "tp", "pp", "chunk_tokens")},
            "idle_w": site.draw().power_w,
            **run_money(run),
        }
        return {**run.summary, **{name: run.meta[name] for name in ENGINE_KEYS}, **built}

    def ready(self, spec: Topology, seed: int) -> ReadyMachine:
        """The cluster of a spec, its programs timed: the one kept, where that differs in its traffic or the seed of it alone."""
        from dcsim.network.network import draws
        from dcsim.study.serve import prepare

        tree = {key: value for key, value in spec.saved().items() if key != "workload"}
        key = json.dumps([tree, seed if draws(spec) else None], sort_keys=True)
        if key not in self._built:
            self._built.clear()  # a cluster with its compiled programs may be large
            self._built[key] = prepare(spec, seed), spec.reads()
        ready, reads = self._built[key]
        spec.take_as_read(reads)
        return ready


def known_metrics(run: bool) -> frozenset[str]:
    """Every name that a row of a case may have."""
    from dcsim.results.metrics import METRICS
    from dcsim.study.iteration import FIGURES
    from dcsim.study.serve import ENGINE_KEYS

    return frozenset((*(metric.name for metric in METRICS), *ENGINE_KEYS, *BUILT) if run else FIGURES)


Executor = Callable[[Worker, list[Task]], Any]
