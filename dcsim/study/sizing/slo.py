"""Service level objectives: which percentile of what must be under which time, all of them jointly."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dcsim import library
from dcsim.errors import Problem, SpecError
from dcsim.spec.document import read_document
from dcsim.spec.topology import SloSpec
from dcsim.units import TIME, format_time, parse_quantity

PRESETS = "workloads/slos"
NAMES = tuple(f"{what}_p{q}" for what in ("ttft", "tpot", "itl", "e2e") for q in (50, 90, 99))


@dataclass(frozen=True, slots=True)
class Target:
    """`metric` of a run's summary must be at most `limit_s`; `source` says whose target it is."""

    metric: str
    limit_s: float
    source: str = ""

    @property
    def name(self) -> str:
        """As people write it: ttft_p99."""
        return self.metric.replace("_s_", "_")

    def missed(self, row: Mapping[str, Any]) -> str:
        """How a run misses it, in a few words; nothing if it does not. A run in which nothing was timed misses nothing."""
        value = row.get(self.metric)
        if value is None or value <= self.limit_s:
            return ""
        return f"{self.name} {format_time(value)}, more than {format_time(self.limit_s)}"


def targets_of(texts: Sequence[str], own: SloSpec) -> tuple[Target, ...]:
    """`ttft_p99=1s`, and names of presets, in order; a later one of the same metric counts. None given: the topology's own."""
    if not texts:
        return (Target("ttft_s_p99", own.ttft_s, "slo.ttft"), Target("tpot_s_p99", own.tpot_s, "slo.tpot"))
    found: dict[str, Target] = {}
    for text in texts:
        for target in read_target(text):
            found[target.metric] = target
    return tuple(found.values())


def read_target(text: str) -> list[Target]:
    """The targets of `ttft_p99=1s`, or those of a preset. SpecError with what is wrong."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        return _preset(name)
    return [_target(name, value, f"--slo {text}", f"--slo {text}")]


def _target(name: str, value: Any, where: str, source: str) -> Target:
    plain = re.sub(r"_s(?=_p\d)", "", name)
    if plain not in NAMES:
        near = difflib.get_close_matches(plain, NAMES, n=1, cutoff=0.5)
        mend = f"did you mean {near[0]}?" if near else f"known: {', '.join(NAMES)}"
        raise SpecError(Problem(where, f"'{name}' is no target", mend))
    try:
        limit_s = parse_quantity(value, TIME)
    except ValueError as error:
        raise SpecError(Problem(where, str(error), f"for example --slo {plain}=1s")) from None
    if limit_s <= 0:
        raise SpecError(Problem(where, "no answer comes in no time", f"for example --slo {plain}=1s"))
    return Target(plain.replace("_p", "_s_p"), limit_s, source)


def _preset(name: str) -> list[Target]:
    document = read_document(library.find(name, PRESETS, "--slo"))
    targets = document.data.get("targets")
    if not isinstance(targets, dict) or not targets:
        raise SpecError(Problem(document.place(()), "needs `targets`", "such as ttft_p99: 1 s"))
    return [_target(str(key), value, document.place(("targets", str(key))), f"{name}.{key}") for key, value in targets.items()]
