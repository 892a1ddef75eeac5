"""The rows as data: `validation/rows/*.yaml`, one file a group.

A row names what is claimed, where, and which function of this package computes it with which arguments, so that the
command a reader pastes and the number in the table come from the same lines.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcsim.errors import Problem, SpecError
from dcsim.spec.document import read_document
from validation.frozen import RULE
from validation.judge import FACTOR, MEASURED_FACTOR

# Groups of rows that were measured, and described to be compared.
MEASURED = "CLPR"
FOLDER = Path(__file__).resolve().parent / "rows"
# An explained row led to a choice of the model without a figure being fitted to it; it is no prediction and no calibration.
KINDS = ("prediction", "calibration", "explained", "structure", "arithmetic")
_KEYS = {"id", "claim", "source", "kind", "published", "unit", "run", "arguments", "ranges", "missing", "same_as", "unstated"}

# Functions that a command of their own computes: its name, and which arguments it takes as options.
COMMANDS = {
    "iteration": ("iteration", ("batch", "context", "prefill", "llm", "interconnect", "seed", "set")),
    "collective": ("collective", ("op", "bytes", "ranks", "seed", "set")),
    "topology": ("topology", ("set",)),
    "schedule": ("schedule", ("batch", "context", "llm", "seed", "set")),
    "workload": ("run", ("workload", "llm", "duration", "rate-scale", "seed", "set")),
}
# Figures this package derives from what such a command prints; the row's own command prints them.
DERIVED = {"utilisation", "utilisation_alone", "power_w_per_chip", "time_between_uses_cycles"}


@dataclass(frozen=True, slots=True)
class Claim:
    """One row to test. `published` is a value, or a range whose ends may be infinite; `run` names the function.

    `ranges` names the figures, or sections of them, that are moved over their ranges (none in an empty list); None: all.
    `unstated` are choices the source does not state, by argument or dotted setting, with two plausible values.
    """

    id: str
    claim: str
    source: str
    kind: str
    published: tuple[float, float]
    unit: str
    run: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    ranges: tuple[str, ...] | None = None
    missing: str = ""
    same_as: str = ""
    unstated: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def is_point(self) -> bool:
        """Whether one value is published, not a range."""
        return self.published[0] == self.published[1]

    @property
    def factor(self) -> float:
        """Within which of the published value it is reproduced."""
        return MEASURED_FACTOR if self.id[0] in MEASURED and self.kind != "arithmetic" else FACTOR

    @property
    def command(self) -> str:
        """What a reader pastes to see the value."""
        if self.run not in COMMANDS or self.arguments.get("metric") in DERIVED:
            return f"dcsim validate --only {self.id}"
        name, options = COMMANDS[self.run]
        words = ["dcsim", name, str(self.arguments["topology"])]
        for option in options:
            given = self.arguments.get(option.replace("-", "_"), [])
            for value in given if isinstance(given, list) else [given]:
                words += [f"--{option}", shlex.quote(str(value))]
        return " ".join([*words, *self._rule, "--json"])

    @property
    def _rule(self) -> list[str]:
        """The rule of `frozen`, for a command whose mapping would be searched for without it."""
        said = {setting.partition("=")[0] for setting in self.arguments.get("set", [])}
        is_given = "mapping.rule" in said or {"mapping.tp", "mapping.pp"} <= said
        return [] if is_given or self.run in ("collective", "topology") else ["--set", RULE]


def read_claims(folder: Path = FOLDER) -> list[Claim]:
    """All rows, in the order of their ids. Raises SpecError for a row that is not well formed."""
    claims: list[Claim] = []
    for path in sorted(folder.glob("*.yaml")):
        document = read_document(path)
        claims += [_claim(row, f"{path.name}: row {i}") for i, row in enumerate(document.data.get("rows", []))]
    names = [claim.id for claim in claims]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(Problem("claims", f"two rows are called {twice[0]}"))
    for claim in claims:
        if claim.same_as and claim.same_as not in names:
            raise SpecError(Problem("claims", f"{claim.id} is the same as an unknown row '{claim.same_as}'"))
    return sorted(claims, key=lambda claim: _order(claim.id))


def _claim(row: Mapping[str, Any], where: str) -> Claim:
    unknown = sorted(set(row) - _KEYS)
    if unknown or row.get("kind") not in KINDS:
        raise SpecError(Problem(where, f"unknown key '{unknown[0]}'" if unknown else f"unknown kind {row.get('kind')!r}"))
    ranges = row.get("ranges")
    low, high = row["published"] if isinstance(row["published"], list) else (row["published"],) * 2
    return Claim(
        str(row["id"]),
        row["claim"],
        row["source"],
        row["kind"],
        (float(low), float(high)),
        row["unit"],
        row["run"],
        row.get("arguments", {}),
        None if ranges is None else tuple(ranges),
        row.get("missing", ""),
        row.get("same_as", ""),
        {key: tuple(pair) for key, pair in row.get("unstated", {}).items()},
    )


def _order(name: str) -> tuple[str, float]:
    """E2 before E10, E2.1 between E2 and E3."""
    number = name[1:].split(".")
    return name[0], float(number[0]) + (float(number[1]) / 100 if len(number) > 1 else 0)


def read_changes() -> list[dict[str, Any]]:
    """Choices changed after they were frozen: what, why, and the errors before and after."""
    changes = read_document(FOLDER / "choices.yaml").data["changes"]
    return [
        {
            **change,
            "ln_error_before": math.log(change["before"] / change["published"]),
            "ln_error_after": math.log(change["after"] / change["published"]),
        }
        for change in changes
    ]


def read_absent() -> list[dict[str, str]]:
    """Published figures without a row: what and why."""
    return list(read_document(FOLDER / "absent.yaml").data["absent"])
