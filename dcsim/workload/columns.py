"""Tells by their names, and by what is in them, which columns of a stranger's table hold what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from dcsim.errors import WorkloadError, shown
from dcsim.spec.workload import ArrivalUnit, TraceColumns
from dcsim.workload.trace_values import are_whole, numbers_of, written_dates


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What people call each of the three, in lower case, words joined by `_`, without a unit at the end.
NAMES: dict[str, frozenset[str]] = {
    "arrival": _words(
        "arrival arrived_at arrival_time arrived timestamp time ts t at start start_time started_at created created_at date "
        "datetime request_time request_timestamp received received_at"
    ),
    "prompt_tokens": _words(
        "prompt_tokens prompt prompt_length prompt_len input_tokens input input_length input_len context_tokens request_tokens "
        "num_prefill_tokens prefill_tokens tokens_in in_tokens num_prompt_tokens n_prompt_tokens num_input_tokens"
    ),
    "output_tokens": _words(
        "output_tokens output output_length output_len completion_tokens completion generated_tokens generation_tokens "
        "response_tokens response num_decode_tokens decode_tokens tokens_out out_tokens num_output_tokens answer_tokens"
    ),
}
MEANING = {
    "arrival": "the time of arrival",
    "prompt_tokens": "the prompt's tokens",
    "output_tokens": "the answer's tokens",
}
_UNITS = {"s": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s", "ms": "ms", "us": "us", "ns": "ns"}
# Seconds since 1970 of our times: numbers as large as these are such, in the unit that makes them so.
_EPOCH_S = (1e9, 1e10)


def told_by_name(header: Sequence[str], cells: Sequence[Sequence[Any]], given: ArrivalUnit | None = None) -> TraceColumns:
    """The columns of a table whose `header` names each of the three once. `cells[i]` are those of column i,
    `given` the unit of arrivals where that is known.

    Raises WorkloadError with one question where a name is missing or two might be meant, or the unit cannot be told.
    """
    plain = {name: _plain(name) for name in header}
    found = {role: [name for name in header if plain[name][0] in names] for role, names in NAMES.items()}
    for role, columns in found.items():
        if len(columns) != 1:
            raise WorkloadError(_question(role, columns, header, found))
    arrival = found["arrival"][0]
    unit = given or plain[arrival][1] or _unit_of(cells[list(header).index(arrival)])
    if unit is None:
        units = ", ".join(get_args(ArrivalUnit)[:-1])
        raise WorkloadError(
            f"which unit does column {shown(arrival)} count in? Its numbers are whole; set workload.trace.arrival_unit to one of "
            f"{units}"
        )
    return TraceColumns.model_validate({role: columns[0] for role, columns in found.items()} | {"arrival_unit": unit})


def _plain(name: str) -> tuple[str, str | None]:
    """A column's name as NAMES has it, and the unit at its end, if any."""
    words = [word for word in re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip()).lower()) if word]
    unit = _UNITS.get(words[-1]) if len(words) > 1 else None
    return "_".join(words[:-1] if unit else words), unit


def _unit_of(cells: Sequence[Any]) -> str | None:
    """What arrivals without a unit in their name count in; None where that cannot be told."""
    if written_dates(list(cells)):
        return "date"
    values = numbers_of(list(cells))
    known = values[np.isfinite(values)]
    if not len(known):
        return "s"  # whatever they are, they are told one by one
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)):
        if _EPOCH_S[0] * factor <= known.min() and known.max() < _EPOCH_S[1] * factor:
            return unit
    return None if are_whole(list(cells)) and known.max() > 0 else "s"


def _question(role: str, columns: Sequence[str], header: Sequence[str], found: dict[str, list[str]]) -> str:
    of = f"{' or '.join(map(shown, columns))}?" if columns else f"It has {', '.join(map(shown, header))}"
    first = f"which column holds {MEANING[role]}{': ' if columns else '? '}{of}"
    example = [f"workload.trace.columns.{one}={(found[one] or ['NAME'])[0]}" for one in NAMES]
    return f"columns of no known format: {first}; tell it: --set workload.trace.format=columns " + " ".join(
        f"--set '{setting}'" for setting in example
    )
