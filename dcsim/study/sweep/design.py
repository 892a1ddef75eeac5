"""Which points a sweep visits: each a mapping from dotted keys to texts, as `--set` takes them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import Problem, SpecError
from dcsim.workload.streams import stream

POINTS_MAX = 1_000_000
Settings = dict[str, str]
_RANGE = re.compile(r"\s*([+-]?[\d._]+(?:[eE][+-]?\d+)?)\s*(\D*?)\s*\.\.\s*([+-]?[\d._]+(?:[eE][+-]?\d+)?)\s*(\D.*?)?\s*")


@dataclass(frozen=True, slots=True)
class Design:
    """`kind` is one of DESIGNS. `values` holds the values of each key, or one range `1 s..10 s` for those that draw.

    `samples` is how many points are drawn, with `seed`; `points` lists them for the kind `list`.
    """

    kind: str = "grid"
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    points: Sequence[Mapping[str, str]] = ()
    samples: int = 0
    seed: int = 1

    def settings(self) -> list[Settings]:
        """The points in order. SpecError for a design that says too little, too much or nothing."""
        if self.kind not in DESIGNS:
            raise SpecError(Problem("--design", f"'{self.kind}' is not known", f"use {', '.join(DESIGNS)}"))
        if self.kind == "list":
            if not self.points or self.values:
                raise SpecError(Problem("--design list", "takes `points`, each with its keys, and no `values`"))
        elif not self.values or self.points:
            raise SpecError(Problem(f"--design {self.kind}", "takes values of keys, at least of one"))
        drawn = self.kind in DRAWN
        if drawn != bool(self.samples):
            what = "needs --samples: how many points to draw" if drawn else "draws nothing"
            raise SpecError(Problem(f"--design {self.kind}", what, "" if drawn else "leave out --samples"))
        found = DESIGNS[self.kind](self)
        if len(found) > POINTS_MAX:
            raise SpecError(Problem(f"--design {self.kind}", f"{len(found):,} points are more than {POINTS_MAX:,}"))
        return found


def parse_range(text: str) -> tuple[str, list[str]]:
    """`mapping.tp=1,2,4` as key and values; SpecError for any other form."""
    key, equals, values = text.partition("=")
    found = [value.strip() for value in values.split(",") if value.strip()]
    if not equals or not key.strip() or not found:
        raise SpecError(Problem(f"--set-range {text}", "not of the form key=value,value", "for example mapping.tp=1,2,4"))
    return key.strip(), found


def _grid(design: Design) -> list[Settings]:
    """Every combination, the last key fastest."""
    count = 1
    for values in design.values.values():
        count *= len(values)
    if count > POINTS_MAX:
        raise SpecError(Problem("--design grid", f"{count:,} points are more than {POINTS_MAX:,}", "use random or latin"))
    return [dict(zip(design.values, values, strict=True)) for values in itertools.product(*design.values.values())]


def _zip(design: Design) -> list[Settings]:
    """The first values of all keys, then the second."""
    lengths = {key: len(values) for key, values in design.values.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise SpecError(Problem("--design zip", f"keys have different numbers of values: {told}", "give as many of each"))
    return [dict(zip(design.values, values, strict=True)) for values in zip(*design.values.values(), strict=True)]


def _list(design: Design) -> list[Settings]:
    return [dict(point) for point in design.points]


def _random(design: Design) -> list[Settings]:
    """Each key drawn by itself, evenly over its values or its range."""
    return _placed(design, stream(design.seed, "sweep.design").random((design.samples, len(design.values))))


def _latin(design: Design) -> list[Settings]:
    """A Latin hypercube (McKay, Beckman, Conover 1979): each key's range in as many even parts as points, one point in each."""
    from scipy.stats import qmc

    return _placed(design, qmc.LatinHypercube(len(design.values), rng=stream(design.seed, "sweep.design")).random(design.samples))


def _placed(design: Design, unit: NDArray[np.float64]) -> list[Settings]:
    """Points of the unit cube [sample, key] as values of the keys."""
    columns = [_along(key, values, unit[:, i]) for i, (key, values) in enumerate(design.values.items())]
    return [dict(zip(design.values, values, strict=True)) for values in zip(*columns, strict=True)]


def _along(key: str, values: Sequence[str], unit: NDArray[np.float64]) -> list[str]:
    match = _RANGE.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        if any(".." in value for value in values):
            raise SpecError(Problem(f"--set-range {key}={','.join(values)}", "not a range", "for example 1 s..10 s"))
        return [values[min(int(u * len(values)), len(values) - 1)] for u in unit]
    low, high, unit_low, unit_high = match[1], match[3], match[2] or "", match[4] or ""
    if unit_low not in ("", unit_high):
        raise SpecError(Problem(f"--set-range {key}={values[0]}", f"two units, '{unit_low}' and '{unit_high}'", "use one"))
    whole = all(re.fullmatch(r"[+-]?\d+", end) for end in (low, high))
    first, last = float(low), float(high)
    if not first < last:
        raise SpecError(Problem(f"--set-range {key}={values[0]}", "ends before it begins"))
    if whole and not unit_high:
        return [str(int(first + u * (last - first + 1))) for u in unit]
    return [f"{first + u * (last - first):.6g} {unit_high}".strip() for u in unit]


DESIGNS: dict[str, Callable[[Design], list[Settings]]] = {
    "grid": _grid,
    "zip": _zip,
    "list": _list,
    "random": _random,
    "latin": _latin,
}
DRAWN = ("random", "latin")


def texts(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Values of keys from a file or from Python as texts: one value, or a list of them."""
    return {key: [text_of(value) for value in (found if _is_list(found) else [found])] for key, found in values.items()}


def text_of(value: Any) -> str:
    """One value as `--set` takes it."""
    import json

    value = value.item() if hasattr(value, "item") else value
    return value if isinstance(value, str) else json.dumps(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, range)) or hasattr(value, "tolist")
