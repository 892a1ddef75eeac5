"""Every error dcsim raises on purpose.

    DcsimError
    ├── SpecError       a file or an option is wrong (holds every problem found, with place and mend)
    ├── FabricError     the topology cannot be built: ports exceeded, vertices cut off
    ├── CapacityError   the LLM, or a request, does not fit: says what is needed and what there is
    ├── ScheduleError   a vector is late, or two share a slot: names link and cycle
    ├── WorkloadError   a trace row or a generator setting is wrong: names the row
    └── OutputError     something cannot be written: nothing of it is left, and what was there before still is
        └── RunStoreError   a run folder cannot be written or read

Anything else that escapes is a bug. The command line turns a DcsimError into one clear
message and exit code 2.
"""

from __future__ import annotations

from dataclasses import dataclass


class DcsimError(Exception):
    """Base of all errors a user can mend."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a file: where it is, what it is, how to mend it."""

    where: str
    what: str
    mend: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}"
        return f"{text}; {self.mend}" if self.mend else text


class SpecError(DcsimError):
    """A topology, workload or option is wrong. `problems` lists all of them at once."""

    def __init__(self, problems: list[Problem] | Problem | str) -> None:
        if isinstance(problems, str):
            problems = Problem("spec", problems)
        self.problems = problems if isinstance(problems, list) else [problems]
        super().__init__("\n".join(str(problem) for problem in self.problems))


class FabricError(DcsimError):
    """The fabric cannot be built as asked."""


class CapacityError(DcsimError):
    """Something does not fit: `needed` and `available` are in the unit the message names."""

    def __init__(self, message: str, needed: float = 0.0, available: float = 0.0) -> None:
        self.needed = needed
        self.available = available
        super().__init__(message)


class ScheduleError(DcsimError):
    """A static schedule breaks a rule. `fault` names the rule; `link` and `cycle` say where (-1: nowhere)."""

    def __init__(self, message: str, fault: str = "", link: int = -1, cycle: int = -1) -> None:
        self.fault = fault
        self.link = link
        self.cycle = cycle
        super().__init__(message)


class WorkloadError(DcsimError):
    """A trace or a traffic generator cannot give requests."""


class OutputError(DcsimError):
    """A file or folder cannot be written. Nothing of it is left, and what was there before still is."""


class RunStoreError(OutputError):
    """A run folder cannot be written or read."""
