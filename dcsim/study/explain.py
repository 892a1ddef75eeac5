"""Every figure in force with its source, and how far the answer moves when a figure moves by a tenth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dcsim.errors import DcsimError
from dcsim.llm.program import Shape
from dcsim.spec.document import Path_
from dcsim.spec.load import Resolved
from dcsim.spec.section import part_at, was_read, with_value
from dcsim.study.machine import Machine, build, build_held

METRICS = {
    "iteration_s": "time of one decode iteration",
    "tokens_per_s": "tokens per second with all stages busy",
    "energy_j": "energy of all the replica's chips during one iteration alone",
}
FRACTION = 0.1


@dataclass(frozen=True, slots=True)
class Effect:
    """One figure in force. `low` and `high` are the metrics with the figure a tenth lower and higher.

    They are None where the figure cannot move by a tenth: text, lists, small whole numbers, or a value with which
    the machine cannot be built.
    """

    key: str
    value: Any
    kind: str
    source: str
    range: tuple[Any, ...]
    low: dict[str, float] | None
    high: dict[str, float] | None

    def swing(self, metric: str) -> float:
        """Distance between the answers at both ends; 0 where the figure cannot move."""
        return abs(self.high[metric] - self.low[metric]) if self.low and self.high else 0.0

    def elasticity(self, metric: str, answer: float) -> float:
        """Percent of the answer for one percent of the figure."""
        return (self.high[metric] - self.low[metric]) / answer / (2 * FRACTION) if self.low and self.high else 0.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer and every figure's effect on it, those with the widest swing of `metric` first, then by key."""

    metric: str
    answer: dict[str, float]
    effects: list[Effect]
    terms: dict[str, Any]  # what was timed, as of `Machine.terms`


def explain(resolved: Resolved, shape: Shape, metric: str = "iteration_s", seed: int = 1) -> Explanation:
    """Time `shape` on the resolved topology, and again with each figure a tenth lower and higher.

    The mapping stays as chosen at first. Figures that timing the iteration does not read cannot move it and are not
    run again.
    """
    build(resolved.spec, seed)
    chose = resolved.spec.reads()
    machine = build_held(resolved.spec, seed)
    machine.require_context(shape)
    answer = answers(machine, shape)
    effects = [_effect(machine, resolved, path, shape, answer) for path in sorted(resolved.figures)]
    resolved.spec.take_as_read(chose)
    effects.sort(key=lambda effect: (-effect.swing(metric), effect.key))
    return Explanation(metric, answer, effects, machine.terms)


def answers(machine: Machine, shape: Shape) -> dict[str, float]:
    """All metrics of one iteration."""
    time = machine.time(shape)
    latency_s = time.latency_ps * 1e-12
    chips = machine.mapping.chips_used
    return {
        "iteration_s": latency_s,
        "tokens_per_s": shape.rows / (time.occupancy_ps * 1e-12),
        "energy_j": time.work_j + chips * machine.spec.chip.power.wait_w * latency_s,
    }


def _effect(machine: Machine, resolved: Resolved, path: Path_, shape: Shape, answer: dict[str, float]) -> Effect:
    figure = resolved.figures[path]
    low: dict[str, float] | None = answer
    high: dict[str, float] | None = answer
    if was_read(resolved.spec, path):
        low, high = (_answers_at(machine, path, factor, shape) for factor in (1 - FRACTION, 1 + FRACTION))
    return Effect(".".join(path), figure.value, figure.kind, figure.source, figure.range, low, high)


def _answers_at(machine: Machine, path: Path_, factor: float, shape: Shape) -> dict[str, float] | None:
    """The metrics with one figure multiplied by `factor`; None where that means nothing."""
    if not can_move(machine.spec, path):
        return None
    try:
        return answers(machine.on(moved(machine.spec, path, factor)), shape)
    except DcsimError:
        return None


def can_move(spec: Any, path: Path_) -> bool:
    """Whether the value at `path` is a number that a tenth changes: a whole number must be 10 or more."""
    value = part_at(spec, path)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, float) or abs(value) >= round(1 / FRACTION)


def moved(part: Any, path: Path_, factor: float) -> Any:
    """A copy of a spec with the number at `path` multiplied, whole numbers rounded; checks are not repeated."""
    value = part_at(part, path)
    return with_value(part, path, round(value * factor) if isinstance(value, int) else value * factor)


def as_json(result: Explanation) -> dict[str, Any]:
    """The explanation as plain data: one object a figure, with the answer at both ends and the elasticity."""
    answer = result.answer[result.metric]
    return {
        **result.terms,
        "metric": result.metric,
        "answer": result.answer,
        "fraction": FRACTION,
        "figures": [
            {
                "key": effect.key,
                "value": effect.value,
                "kind": effect.kind,
                "source": effect.source,
                "range": list(effect.range),
                "low": effect.low,
                "high": effect.high,
                "elasticity": effect.elasticity(result.metric, answer),
            }
            for effect in result.effects
        ],
    }
