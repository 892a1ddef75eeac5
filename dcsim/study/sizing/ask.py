"""From what people ask to systems to search, and the answers for each rate."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dcsim import library
from dcsim.errors import DcsimError, Problem, SpecError
from dcsim.spec.unused import Keys
from dcsim.study.scenario import rate_of
from dcsim.study.sizing.peak import STRETCH_S, Peak, peak_of
from dcsim.study.sizing.rows import Wanted
from dcsim.study.sizing.search import Told, size
from dcsim.study.sizing.sizes import growth_of
from dcsim.study.sizing.slo import targets_of
from dcsim.study.sweep.case import Case
from dcsim.study.sweep.journal import Journal
from dcsim.units import MONEY, POWER, TIME, parse_quantity

PLANS = "plans"  # beside the runs
DEFAULT_LLM, DEFAULT_WORKLOAD = "llama-2-70b", "chat"  # where no system is named: all are asked for the same
RATES = 4  # looked at where the rate grows
_SPARE = re.compile(r"\s*(\d+)\s*(rack|node|chip)s?\s*")


@dataclass(frozen=True, slots=True)
class PlanAsked:
    """Systems, and what each must hold, for each rate."""

    cases: tuple[Case, ...]
    wanted: tuple[Wanted, ...]
    peaks: tuple[Peak | None, ...] = ()  # of each case, the stretch of a day that it is asked for
    sensitivity: bool = False  # whether it is asked how far the answer moves
    skipped: tuple[dict[str, str], ...] = ()  # systems that cannot be asked, with the reason
    best_only: bool = False  # whether nobody named the systems, so that only the best is wanted


def ask(
    topologies: Sequence[str],
    rate: str,
    slo: Sequence[str] = (),
    *,
    workload: str | None = None,
    llm: str | None = None,
    interconnects: Sequence[str] = (),
    settings: Sequence[str] = (),
    max_power: str | None = None,
    max_cost: str | None = None,
    spare: str | None = None,
    minimise: str = "cost",
    peak: str | None = None,
    sensitivity: bool = False,
    seed: int = 1,
) -> PlanAsked:
    """Check all of it before anything is simulated. SpecError with what is wrong.

    `rate` may grow: `50/s..200/s`. Of a workload with a day's curve it is the day's mean, and its busiest `peak` (an hour) has to
    hold. Without topologies the systems of the library are in a contest for the same LLM and workload; those
    that differ in their size alone are asked once.
    """
    rates = _rates(rate)
    named = list(topologies)
    if not named:
        llm, workload = llm or DEFAULT_LLM, workload or DEFAULT_WORKLOAD
    cases, peaks, skipped = list[Case](), list[Peak | None](), list[dict[str, str]]()
    stretch_s = _quantity("--peak", peak, TIME, "1h") or STRETCH_S
    known: set[str] = set()
    for name in named or library.names("topologies"):
        for network in interconnects or (None,):
            case = Case(name, tuple(settings), network, llm, run=True, seed=seed, workload=workload)
            try:
                spec = case.load({}).resolved.spec
            except DcsimError as error:
                if named:
                    raise
                skipped.append({"topology": name, "reason": str(error)})
                continue
            kind = _kind_of(spec)
            if kind in known and not named:
                continue
            known.add(kind)
            busiest = peak_of(spec, stretch_s)
            cases.append(replace(case, settings=(*case.settings, *busiest.settings)) if busiest else case)
            peaks.append(busiest)
    own = cases[0].load({}).resolved.spec.slo if cases else None
    if own is None:
        raise SpecError(Problem("plan", "no system can be asked", skipped[0]["reason"] if skipped else ""))
    wanted = Wanted(
        rates[0],
        targets_of(slo, own),
        minimise,
        _quantity("--max-power", max_power, POWER, "300kW"),
        _quantity("--max-cost", max_cost, MONEY, "5MUSD"),
        _spare(spare),
        seed,
    )
    return PlanAsked(
        tuple(cases),
        tuple(replace(wanted, rate_per_s=one) for one in rates),
        tuple(peaks),
        sensitivity,
        tuple(skipped),
        best_only=not named,
    )


def _kind_of(spec: Any) -> str:
    """What two topologies share that differ only in how many units there are of them."""
    growth = growth_of(spec)
    saved = spec.saved()
    fabric = {"kind": spec.fabric.kind} if growth.settings else saved["fabric"]
    parts = {name: saved[name] for name in ("chip", "node", "host", "network", "power", "serving")}
    return str([fabric, parts, growth.node_chips, {} if growth.settings else saved["mapping"]])


def _rates(text: str) -> list[float]:
    first, dots, last = text.partition("..")
    if not dots:
        return [rate_of(first)]
    low, high = rate_of(first), rate_of(last)
    if not low < high:
        raise SpecError(Problem(f"--rate {text}", "does not grow", "for example --rate 50/s..200/s"))
    return [low * (high / low) ** (i / (RATES - 1)) for i in range(RATES)]


def _quantity(option: str, text: str | None, dimension: str, example: str) -> float | None:
    if text is None:
        return None
    try:
        value = parse_quantity(text, dimension)
    except ValueError as error:
        raise SpecError(Problem(f"{option} {text}", str(error), f"for example {option} {example}")) from None
    if value <= 0:
        raise SpecError(Problem(f"{option} {text}", "leaves nothing to build", f"for example {option} {example}"))
    return value


def _spare(text: str | None) -> tuple[int, str]:
    if text is None:
        return 0, "rack"
    match = _SPARE.fullmatch(text)
    if match is None:
        raise SpecError(Problem(f"--spare {text}", "not of the form 1rack", "racks, nodes or chips: for example --spare 1rack"))
    return int(match[1]), match[2]


def journal_in(runs: Path) -> Journal:
    """Where all that plans simulate is kept, for this code."""
    from dcsim.study.store import fingerprint

    return Journal(runs / PLANS / f"{fingerprint()}.jsonl")


def sized(
    asked: PlanAsked,
    journal: Journal | None = None,
    progress: Callable[[Mapping[str, Any]], None] | None = None,
    jobs: int = 1,
) -> tuple[dict[str, Any], list[Keys]]:
    """The answer for the first rate, with `growth`: one for each rate where it grows; and the keys that were given.

    `progress` hears each candidate that was simulated; what it raises ends the search, whose journal keeps what was found.
    """
    told = Told(journal, progress)
    loads = [peak.load if peak else 1.0 for peak in asked.peaks]
    results = [size(asked.cases, wanted, told, jobs, loads, best_only=asked.best_only) for wanted in asked.wanted]
    first = {**results[0], "skipped": list(asked.skipped)}
    busiest = {peak.told: peak for peak in asked.peaks if peak}
    first["assumes"] += list(busiest)
    first["peak"] = [{"hour": one.hour, "stretch_s": one.stretch_s, "load": one.load} for one in busiest.values()]
    if asked.sensitivity:
        first["sensitivity"] = _sensitivity(asked, loads, first["answer"], told, jobs)
    if len(results) > 1:
        told_of_each = ("rate_per_s", "answer", "answers")
        first["growth"] = [{key: one[key] for key in told_of_each} for one in results]
    return first, told.keys


def _sensitivity(
    asked: PlanAsked, loads: Sequence[float], answer: Mapping[str, Any] | None, told: Told, jobs: int
) -> list[dict[str, Any]]:
    """Of the first rate's answer; nothing where there is none."""
    if answer is None:
        return []
    from dcsim.study.sizing.sensitivity import sensitivity

    def is_it(case: Case) -> bool:
        return (case.topology, case.load({}).resolved.spec.network.name) == (answer["file"], answer["interconnect"])

    case, load = next((case, load) for case, load in zip(asked.cases, loads, strict=True) if is_it(case))
    return sensitivity(case, load, dict(answer), asked.wanted[0], told, jobs)
