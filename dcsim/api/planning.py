"""What to build, in Python: the smallest and cheapest system for a rate of requests within its SLOs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dcsim.api import html
from dcsim.api.scenario import Scenario
from dcsim.study.in_python import speaks_python
from dcsim.study.sizing.ask import ask, journal_in, sized
from dcsim.study.store import opened

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class PlannedSystem:
    """A system that holds what is asked: how large it is, what it draws and costs, and what gives way first beyond it."""

    topology: str
    unit: str
    units: int
    racks: int
    chips: int
    replicas: int
    power_w: float
    power_w_max: float
    capital_usd: float
    usd_per_h: float
    usd_per_mtoken: float | None
    binding: str


@dataclass(frozen=True)
class PlanAnswer:
    """A plan; `content` holds all of it, as `dcsim plan --json` prints it."""

    content: Mapping[str, Any]

    @property
    def answer(self) -> PlannedSystem | None:
        """The best of all systems; None where none holds."""
        return _system(self.content["answer"])

    @property
    def systems(self) -> list[PlannedSystem]:
        """The smallest of each system that holds."""
        return [system for row in self.content["answers"] if (system := _system(row)) is not None]

    @property
    def candidates(self) -> pd.DataFrame:
        """Everything looked at: `holds`, and the `reason` where it does not."""
        return _table(self.content["candidates"])

    @property
    def sensitivity(self) -> pd.DataFrame:
        """The size it would be with each uncertain figure at its two ends, if `sensitivity` was asked for."""
        rows = self.content.get("sensitivity", [])
        ends = ("low", "high")
        return _table([{**row, **{f"{end}_{key}": value for end in ends for key, value in row[end].items()}} for row in rows])

    @property
    def front(self) -> pd.DataFrame:
        """Systems that no other beats in cost, power and speed at once."""
        return _table(self.content["front"])

    def _repr_html_(self) -> str:
        found = self.answer
        facts = [("for", f"{self.content['rate_per_s']:.4g} requests/s")]
        if found is None:
            facts.append(("answer", "nothing that was asked holds"))
        else:
            facts += [
                ("build", f"{found.topology} of {found.units:,} {found.unit}s: {found.racks:,} racks, {found.chips:,} chips"),
                ("draws", html.watts(found.power_w)),
                ("costs", f"{found.capital_usd / 1e6:,.4g} M USD, {html.number(found.usd_per_mtoken, 'USD per million tokens')}"),
                ("breaks first", found.binding),
            ]
        rows = self.candidates
        shown = [name for name in ("topology", "units", "unit", "holds", "reason") if name in rows]
        return html.card_and_table("plan", facts, rows[shown])


def _table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([dict(row) for row in rows])


def _system(row: Mapping[str, Any] | None) -> PlannedSystem | None:
    return None if row is None else PlannedSystem(**{name: row[name] for name in PlannedSystem.__slots__})


@speaks_python
def plan(
    topologies: Scenario | str | Path | Sequence[str | Path] = (),
    *,
    rate: str | float,
    slo: str | Mapping[str, str | float] | Sequence[str] = (),
    workload: str | Path | None = None,
    llm: str | Path | None = None,
    interconnects: Sequence[str] = (),
    max_power: str | float | None = None,
    max_cost: str | float | None = None,
    spare: str | None = None,
    minimise: Literal["cost", "power", "racks"] = "cost",
    peak: str | float | None = None,
    sensitivity: bool = False,
    seed: int = 1,
    workers: int = 1,
    progress: Callable[[Mapping[str, Any]], None] | None = None,
) -> PlanAnswer:
    """The smallest size of each system that meets every target at the rate, jointly, by simulation; the best of them.

    `rate` is requests per second (`"50/s"`, a number, or `"50/s..200/s"`), `slo` a mapping such as `{"ttft_p99": "1 s"}` (plain
    numbers are seconds) or the name of a preset. Without topologies the best of the library is looked for. Power is W, cost USD,
    where they are plain numbers. Of a workload with a day's curve `rate` is the day's mean, and its busiest `peak` (an hour; in s
    if a plain number) has to hold. With
    `sensitivity` it says how large the answer would be with each of the most uncertain figures at its two ends. While a store is
    open, what is simulated is kept there, and taken from there. `workers` are processes; the answer does not depend on them.
    `progress` hears each candidate as a row; whatever it raises ends the search.
    """
    if isinstance(topologies, Scenario):
        asked = topologies.asked
        names, settings = [asked.topology], list(asked.settings)
        workload, llm = workload or asked.workload, llm or asked.llm
        interconnects = interconnects or ([asked.interconnect] if asked.interconnect else [])
    else:
        given = [topologies] if isinstance(topologies, (str, Path)) else list(topologies)
        names, settings = [str(name) for name in given], []
    wanted = ask(
        names,
        rate if isinstance(rate, str) else f"{rate!r}/s",
        _targets(slo),
        workload=None if workload is None else str(workload),
        llm=None if llm is None else str(llm),
        interconnects=interconnects,
        settings=settings,
        max_power=_with_unit(max_power, "W"),
        max_cost=_with_unit(max_cost, "USD"),
        spare=spare,
        minimise=minimise,
        peak=_with_unit(peak, "s"),
        sensitivity=sensitivity,
        seed=seed,
    )
    store = opened()
    return PlanAnswer(sized(wanted, journal_in(store.folder) if store else None, progress, workers)[0])


def _targets(slo: str | Mapping[str, str | float] | Sequence[str]) -> list[str]:
    if isinstance(slo, str):
        return [slo]
    if isinstance(slo, Mapping):
        return [f"{name}={value if isinstance(value, str) else f'{value!r} s'}" for name, value in slo.items()]
    return list(slo)


def _with_unit(value: str | float | None, unit: str) -> str | None:
    return value if isinstance(value, str) or value is None else f"{value!r} {unit}"
