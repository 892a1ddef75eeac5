"""The study object: one cluster and its traffic, changed with `with_` and asked with `run`, `iteration`, `capacity` and more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcsim.api import html
from dcsim.api import run as runs
from dcsim.api.answers import CapacityAnswer, ComparisonAnswer, CostAnswer, IterationAnswer, MappingAnswer
from dcsim.api.run import ServedRun
from dcsim.errors import Problem, SpecError
from dcsim.spec.load import Resolved
from dcsim.study import scenario as study
from dcsim.study.in_python import speaks_python
from dcsim.study.settings import texts_of

if TYPE_CHECKING:
    from dcsim.llm.program import Shape
    from dcsim.spec.topology import Topology

Progress = study.Progress
SECTIONS = ("chip", "node", "host", "fabric", "network", "mapping", "serving", "slo", "power", "faults", "engine")
INTERCONNECTS = ("scheduled", "infiniband-ndr", "roce-400g")


@dataclass(frozen=True, slots=True)
class ScenarioAsked:
    """What a scenario was made of: names, settings in order (the last of a key counts), and a rate."""

    topology: str
    llm: str | None = None
    workload: str | None = None
    interconnect: str | None = None
    settings: tuple[str, ...] = ()
    rate: str | None = None

    def loaded(self) -> study.Loaded:
        """Read and checked."""
        return study.load(
            self.topology,
            llm=self.llm,
            workload=self.workload,
            interconnect=self.interconnect,
            set=self.settings,
            rate=self.rate,
        )


@dataclass(frozen=True, slots=True)
class Scenario:
    """A checked topology with what it serves. Make one with `dcsim.load`, others like it with `with_`; it never changes."""

    asked: ScenarioAsked
    loaded: study.Loaded

    @property
    def spec(self) -> Topology:
        """The resolved spec; its sections and keys are those of the files (docs/FILES.md), in base units."""
        return self.loaded.resolved.spec

    @property
    def resolved(self) -> Resolved:
        """The spec with the source of each figure."""
        return self.loaded.resolved

    @speaks_python
    def with_(
        self,
        changes: Mapping[str, Any] | None = None,
        *,
        llm: str | Path | None = None,
        workload: str | Path | None = None,
        interconnect: str | Path | None = None,
        rate: str | float | None = None,
        **sections: Any,
    ) -> Scenario:
        """Another scenario that differs in `changes`: dotted keys (`{"fabric.racks": 12}`), or sections in sections.

        Values are as in the files: texts with units (`"300 ns"`), or plain numbers in s, W, J, USD, m, Hz and requests/s where
        the key's unit is one of these. `rate` is requests per second. Sections may be keywords: `with_(fabric={"racks": 12})`.
        Raises SpecError with every problem found.
        """
        for name in sections:
            if name.partition(".")[0] not in SECTIONS:
                known = ("llm", "workload", "interconnect", "rate", *SECTIONS)
                near = get_close_matches(name, known, n=1, cutoff=0.5)
                mend = f"did you mean {near[0]}=?" if near else f"known: {', '.join(known)}"
                raise SpecError(Problem(f"with_({name}=...)", "unknown argument", mend))
        old = self.asked
        asked = replace(
            old,
            llm=_name(llm) or old.llm,
            workload=_name(workload) or old.workload,
            interconnect=_name(interconnect) or old.interconnect,
            rate=_rate(rate) or old.rate,
        )
        every = {**(changes or {}), **sections}
        spec = asked.loaded().resolved.spec if every and asked != old else self.spec
        return _made(replace(asked, settings=(*asked.settings, *texts_of(every, spec))))

    @speaks_python
    def run(
        self,
        seed: int = 1,
        out: str | Path | None = None,
        *,
        save: bool = False,
        progress: Progress | None = None,
        rounds: bool = False,
        zoom: str = "service",
    ) -> ServedRun:
        """Serve the workload.

        Nothing is written unless `out` names a folder, `save` is set (runs/<hash>), or a store is open (`dcsim.store`), which
        also gives back a run that it has. `rounds` keeps the rounds table; `zoom="chips"` has every chip and link carry every
        round out. Raises CapacityError before anything runs if the LLM does not fit.
        """
        return runs.of(self.loaded.run(seed, out, save=save, progress=progress, rounds=rounds, zoom=zoom))

    @speaks_python
    def iteration(self, batch: int = 1, context: int | None = None, prefill: int = 0, seed: int = 1) -> IterationAnswer:
        """One iteration: time, speed, breakdown and energy, as `dcsim iteration`."""
        from dcsim.study import iteration
        from dcsim.study.machine import build

        return IterationAnswer(iteration.iteration(build(self.spec, seed), self._shape(batch, context, prefill)))

    @speaks_python
    def capacity(self, seed: int = 1, tolerance_fraction: float = 0.02) -> CapacityAnswer:
        """The largest rate that holds the SLO, and what limits it, as `dcsim capacity`."""
        from dcsim.study.capacity import capacity

        return CapacityAnswer(capacity(self.resolved, seed, tolerance_fraction))

    @speaks_python
    def mapping(self, seed: int = 1) -> MappingAnswer:
        """How the LLM is laid over the chips, and what KV room that leaves."""
        from dcsim.study.layout import chip_rows
        from dcsim.study.machine import build

        machine = build(self.spec, seed)
        laid = machine.mapping
        content = {
            **machine.terms,
            "chips_used": laid.chips_used * laid.replicas,
            "chips_active": int(machine.fabric.chip_active.sum()),
            "kv_tokens": laid.memory.kv_tokens,
            "weight_bytes_max": laid.memory.weight_bytes_max,
        }
        return MappingAnswer(content, chip_rows(machine, self._shape(1, None, 0)))

    @speaks_python
    def cost(self, seed: int = 1, prices: str | None = None, rent: str | None = None) -> CostAnswer:
        """What a token costs when the workload is served, as `dcsim cost` of that run."""
        return self.run(seed).cost(prices, rent)

    @speaks_python
    def compare(
        self,
        interconnects: Sequence[str] = INTERCONNECTS,
        *,
        batch: int = 1,
        context: int | None = None,
        prefill: int = 0,
        same_mapping: bool | None = None,
        serve: str | None = None,
        seed: int = 1,
    ) -> ComparisonAnswer:
        """The same program on several interconnects, as `dcsim compare`; with `serve` (a time) users on each as well."""
        from dcsim.study import compare

        asked = self.asked
        workload = [f"workload={asked.workload}"] if asked.workload else []
        return ComparisonAnswer(
            compare.compare(
                asked.topology,
                list(interconnects),
                self._shape(batch, context, prefill),
                llm=asked.llm,
                settings=[*workload, *asked.settings],
                same_mapping=same_mapping,
                serve=serve,
                seed=seed,
                packets_max=compare.PACKETS_MAX,
            )
        )

    def _shape(self, batch: int, context: int | None, prefill: int) -> Shape:
        from dcsim.study.iteration import shape_of

        return shape_of(batch, context, prefill, self.spec.llm)

    def __repr__(self) -> str:
        return f"<dcsim scenario {self._title()}>"

    def _title(self) -> str:
        spec = self.spec
        return f"{spec.name}: {spec.llm.name} on {spec.chip.name}, {spec.network.name}"

    def _repr_html_(self) -> str:
        spec, asked = self.spec, self.asked
        changed = ", ".join(asked.settings) or "nothing"
        facts = [
            ("fabric", str(spec.fabric.kind)),
            ("workload", f"{spec.workload.name} ({spec.workload.kind})" + (f" at {asked.rate}" if asked.rate else "")),
            ("SLO", f"TTFT {html.seconds(spec.slo.ttft_s)}, TPOT {html.seconds(spec.slo.tpot_s)}"),
            ("changed", changed if len(changed) <= _CHANGES_SHOWN else f"{len(asked.settings)} keys"),
        ]
        return html.card(self._title(), facts)


_CHANGES_SHOWN = 120


def _made(asked: ScenarioAsked) -> Scenario:
    return Scenario(asked, asked.loaded())


def _name(name: str | Path | None) -> str | None:
    return None if name is None else str(name)


def _rate(rate: str | float | None) -> str | None:
    return rate if isinstance(rate, str) or rate is None else f"{rate!r} requests/s"


@speaks_python
def load(
    topology: str | Path,
    *,
    llm: str | Path | None = None,
    workload: str | Path | None = None,
    interconnect: str | Path | None = None,
    set: Sequence[str] | Mapping[str, Any] = (),
    duration: str | float | None = None,
    engine: str | None = None,
    rate_scale: float | None = None,
    rate: str | float | None = None,
) -> Scenario:
    """Read a topology (path or library name) and what it names; SpecError with every problem found.

    `set` holds changes as `Scenario.with_` takes them, or `dotted.key=value` texts. `duration` cuts the workload, `rate_scale`
    makes its requests come that many times as fast, `rate` (`"50/s"`, or a number) so many in a second.
    """
    if rate is not None and rate_scale is not None:
        raise SpecError(Problem("rate=", "is given beside rate_scale=", "leave out one of them"))
    texts = () if isinstance(set, Mapping) else tuple(set)
    asked = ScenarioAsked(str(topology), _name(llm), _name(workload), _name(interconnect), texts, _rate(rate))
    spec = replace(asked, rate=None).loaded().resolved.spec
    plain = {"workload.duration": duration, "engine": engine, "workload.rate_scale": rate_scale}
    changes = {**(set if isinstance(set, Mapping) else {}), **{key: value for key, value in plain.items() if value is not None}}
    asked = replace(asked, settings=(*texts, *texts_of(changes, spec)))
    made = _made(asked)
    if duration is not None and not made.spec.workload.duration_s:
        raise SpecError(Problem("duration=", f"no request arrives within {duration}", "leave it out to serve all"))
    return made


def compare(scenario: Scenario | str | Path, interconnects: Sequence[str] = INTERCONNECTS, **how: Any) -> ComparisonAnswer:
    """The same program on several interconnects; `how` as for `Scenario.compare`."""
    return as_scenario(scenario).compare(interconnects, **how)


def as_scenario(scenario: Scenario | str | Path) -> Scenario:
    """A scenario, or the one that a topology's name or file stands for."""
    return scenario if isinstance(scenario, Scenario) else load(scenario)
