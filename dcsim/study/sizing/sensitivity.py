"""How far the answer of a plan moves with figures that nobody has measured: the size it would be with each at both its ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dcsim.llm.program import Shape
from dcsim.study.explain import FRACTION, Effect, explain
from dcsim.study.sizing.rows import Row, Searched, Wanted
from dcsim.study.sizing.search import Crew, Told
from dcsim.study.sizing.sizes import growth_of
from dcsim.study.sizing.smallest import Smallest
from dcsim.study.sweep.case import Case

UNCERTAIN = ("assumed", "calibrated")
FIGURES_MAX = 5  # those that move a token's time most
_NUMBER = re.compile(r"[+-]?[\d_.]+(?:[eE][+-]?\d+)?")


def sensitivity(case: Case, load: float, answer: Row, wanted: Wanted, told: Told, jobs: int = 1) -> list[dict[str, Any]]:
    """For each of the uncertain figures that move a token's time most, the smallest size that holds with it at either end.

    Ends are those of the figure's range, where its file states one, else a tenth either way. Sizes from one below the answer's on
    are looked at, with the first seed. `load` is what the answer's case was asked for (`Searched`).
    """
    settings = tuple(f"{key}={value}" for key, value in answer["settings"].items())
    laid = replace(case, settings=(*case.settings, *settings)).load({}).resolved
    shape = Shape(1, min(laid.spec.serving.context_buckets))
    effects = [
        one for one in explain(laid, shape, seed=wanted.seed).effects if one.kind in UNCERTAIN and one.swing("iteration_s")
    ]
    moved = [(effect, ends_of(effect)) for effect in effects[:FIGURES_MAX]]
    cases = [replace(case, settings=(*case.settings, f"{one.key}={end}")) for one, ends in moved for end in ends]
    found = iter(_smallest(cases, load, max(1, answer["units"] - 1), wanted, told, jobs))
    return [
        {
            "key": effect.key,
            "kind": effect.kind,
            "source": effect.source,
            "value": effect.value,
            "low": _told(ends[0], next(found)),
            "high": _told(ends[1], next(found)),
        }
        for effect, ends in moved
    ]


def ends_of(effect: Effect) -> tuple[str, str]:
    """A figure's two ends as `--set` takes them, in the unit of its value; those of a whole number are whole numbers."""
    number, unit = _number_and_unit(effect.value)
    if len(effect.range) == 2:
        low, high = (_number_and_unit(end)[0] for end in effect.range)
    else:
        low, high = number * (1 - FRACTION), number * (1 + FRACTION)
        if isinstance(effect.value, int):
            low, high = round(low), round(high)
    return f"{low:.12g}{unit}", f"{high:.12g}{unit}"


def _number_and_unit(value: object) -> tuple[float, str]:
    match = _NUMBER.match(text := str(value))
    assert match is not None, text
    return float(match[0].replace("_", "")), text[match.end() :]


def _smallest(cases: Sequence[Case], load: float, least: int, wanted: Wanted, told: Told, jobs: int) -> list[Row | None]:
    systems = []
    for place, case in enumerate(cases):
        spec = case.load({}).resolved.spec
        systems.append(Searched(place, case, spec, growth_of(spec), load))
    searches = [Smallest(system, wanted) for system in systems]
    with Crew(systems, wanted, replace(told, progress=None), jobs) as crew:
        return crew.run(searches, [search.from_size(least) for search in searches])


def _told(end: str, row: Row | None) -> dict[str, Any]:
    keys = ("units", "racks", "chips", "power_w", "capital_usd", "usd_per_h")
    return {"value": end, **{key: None if row is None else row[key] for key in keys}}
