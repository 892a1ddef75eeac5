"""How far an answer moves when a figure it rests on moves: by 10 %, or over the range its source allows."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dcsim.errors import Problem, SpecError
from dcsim.spec.document import Figure, Path_

_NUMBER = re.compile(r"[+-]?[\d_.]+(?:[eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One figure in force, in base units, and how far it may move."""

    name: str
    value: float
    low: float
    high: float
    kind: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a tornado: the answer at the parameter's low and high end, all others as they are."""

    parameter: Parameter
    answer: float
    answer_low: float
    answer_high: float

    @property
    def swing(self) -> float:
        """Distance between the two answers."""
        return abs(self.answer_high - self.answer_low)

    @property
    def elasticity(self) -> float:
        """Change of the answer in percent for one percent of the parameter, over the bar; 0 where not defined."""
        p = self.parameter
        if not (p.value and self.answer) or p.high == p.low:
            return 0.0
        return (self.answer_high - self.answer_low) / self.answer / ((p.high - p.low) / p.value)


def tornado(parameters: Iterable[Parameter], answer: Callable[[dict[str, float]], float]) -> list[Bar]:
    """Move each parameter to its two ends, the others held; widest bar first, equal bars by name.

    `answer` is given all parameters' values by name.
    """
    parameters = list(parameters)
    values = {p.name: p.value for p in parameters}
    middle = answer(values)
    bars = [Bar(p, middle, answer({**values, p.name: p.low}), answer({**values, p.name: p.high})) for p in parameters]
    return sorted(bars, key=lambda bar: (-bar.swing, bar.parameter.name))


def parameters_of(
    tree: Mapping[str, Any],
    figures: Mapping[Path_, Figure],
    *,
    fraction: float = 0.1,
    over_range: bool = False,
) -> list[Parameter]:
    """All numeric figures of a resolved tree (nested mappings under the files' keys, base units), by dotted name.

    Each moves by `fraction` either way: a derivative, so an efficiency of 0.94 goes to 1.03. With `over_range` it
    moves over the range its file states, where it states one. Whole numbers that count things cannot move by a
    tenth and are left out. Raises SpecError for a range that does not hold its value.
    """
    found = []
    for path, figure in sorted(figures.items()):
        value = _at(tree, path)
        if isinstance(value, bool) or not isinstance(value, float):
            continue
        low, high = sorted((value * (1 - fraction), value * (1 + fraction)))
        if over_range and figure.range:
            low, high = _range(path, figure, value)
        found.append(Parameter(".".join(path), value, low, high, figure.kind, figure.source))
    return found


def _at(tree: Any, path: Path_) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _range(path: Path_, figure: Figure, value: float) -> tuple[float, float]:
    """A figure's range in base units: its ends are written as numbers in the unit of its value."""
    written = _number(figure.value)
    low, high = (_number(end) for end in figure.range)
    if not low <= written <= high:
        what = f"{'.'.join(path)}: range {list(figure.range)} does not hold the value {figure.value}"
        raise SpecError(Problem("figure", what, "write the range in the value's own unit"))
    if written == 0:
        raise SpecError(Problem("figure", f"{'.'.join(path)}: a figure of 0 cannot have a range in its unit"))
    return low * value / written, high * value / written


def _number(text: Any) -> float:
    if isinstance(text, (int, float)):
        return float(text)
    match = _NUMBER.match(str(text).strip())
    return float(match[0].replace("_", "")) if match else math.nan
