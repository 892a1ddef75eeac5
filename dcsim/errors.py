"""Every error dcsim raises on purpose.

    DcsimError
    ├── SpecError       a file or an option is wrong (holds every problem found, with place and mend)
    │   └── SlackError      the slack given for the links is less than a program needs
    ├── FabricError     the topology cannot be built: ports exceeded, vertices cut off
    ├── CapacityError   the LLM, or a request, does not fit: says what is needed and what there is
    ├── ScheduleError   a vector is late, or two share a slot: names link and cycle
    ├── WorkloadError   a trace row or a generator setting is wrong: names the row
    ├── WorkerError     a process that did part of the work was killed
    └── OutputError     something cannot be written: nothing of it is left, and what was there before still is
        └── RunStoreError   a run folder cannot be written or read

Anything else that escapes is a bug. The command line turns a DcsimError into one clear
message and exit code 2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

VALUE_MAX = 300  # characters of any value that a message repeats
_LINE_MAX = 1500
_PROBLEMS_MAX = 50
_LONG = re.compile(rf"\S{{{VALUE_MAX + 1},}}")


def shown(value: Any) -> str:
    """A value as a message may repeat it: as Python writes it, on one line, and no longer than VALUE_MAX."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of more than 4300 digits; data that hold themselves
        text = f"a whole number of {value.bit_length()} bits" if isinstance(value, int) else f"a {type(value).__name__}"
    return _cut(text, VALUE_MAX)


def _cut(text: str, most: int) -> str:
    """The text's two ends where it is longer than `most`."""
    half = (most - 5) // 2
    return text if len(text) <= most else f"{text[:half]} ... {text[-half:]}"


def _tidy(line: str) -> str:
    """A line that shows on any terminal: no control characters, no endless words, no endless line."""
    if not line.isprintable():
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return _cut(_LONG.sub(lambda match: _cut(match[0], VALUE_MAX), line), _LINE_MAX)


class DcsimError(Exception):
    """Base of all errors a user can mend. Its text is fit to be shown: see `_tidy`."""

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(_tidy(line) for line in message.split("\n")))


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a file: where it is, what it is, how to mend it."""

    where: str
    what: str
    mend: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}; {self.mend}" if self.mend else text


class SpecError(DcsimError):
    """A topology, workload or option is wrong. `problems` lists all of them at once."""

    def __init__(self, problems: list[Problem] | Problem | str) -> None:
        if isinstance(problems, str):
            problems = Problem("", problems)  # the text says where
        self.problems = problems if isinstance(problems, list) else [problems]
        lines = [str(problem).replace("\n", " ") for problem in self.problems[:_PROBLEMS_MAX]]
        more = len(self.problems) - len(lines)
        super().__init__("\n".join([*lines, f"and {more:,} more"] if more else lines))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems,)  # as it was when it comes from a worker


class SlackError(SpecError):
    """The slack given is less than a program needs."""


class FabricError(DcsimError):
    """The fabric cannot be built as asked."""


class CapacityError(DcsimError):
    """Something does not fit: `needed` and `available` are in the unit the message names."""

    def __init__(self, message: str, needed: float = 0.0, available: float = 0.0) -> None:
        self.needed = needed
        self.available = available
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.needed, self.available)


class ScheduleError(DcsimError):
    """A static schedule breaks a rule. `fault` names the rule; `link` and `cycle` say where (-1: nowhere)."""

    def __init__(self, message: str, fault: str = "", link: int = -1, cycle: int = -1) -> None:
        self.fault = fault
        self.link = link
        self.cycle = cycle
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.fault, self.link, self.cycle)


class WorkloadError(DcsimError):
    """A trace or a traffic generator cannot give requests."""


class WorkerError(DcsimError):
    """A process that did part of the work was killed."""


class OutputError(DcsimError):
    """A file or folder cannot be written. Nothing of it is left, and what was there before still is."""


class RunStoreError(OutputError):
    """A run folder cannot be written or read."""
