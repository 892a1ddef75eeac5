"""What people set in Python as the texts that `--set` takes: mappings, plain numbers where the unit is clear, numpy's numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dcsim import units
from dcsim.errors import Problem, SpecError, shown
from dcsim.spec.section import dimension_at, part_at
from dcsim.spec.topology import Topology

# The unit that a plain number of these is in. Of data nobody can tell bits from bytes, or thousands from 1,024.
CLEAR = {
    units.TIME: "s",
    units.POWER: "W",
    units.ENERGY: "J",
    units.MONEY: "USD",
    units.LENGTH: "m",
    units.FREQUENCY: "Hz",
    units.EVENTS: "1/s",
}


def texts_of(changes: Mapping[str, Any], spec: Topology) -> list[str]:
    """`dotted.key=value` texts of a mapping from dotted keys, or of sections in sections; `spec` says which keys have units."""
    return [f"{key}={_text(key, value, spec)}" for key, value in _leaves(changes, "")]


def _leaves(changes: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in changes.items():
        if not isinstance(key, str) or not key:
            raise SpecError(Problem(f"with_({{{shown(key)}: ...}})", "a key is a text such as 'fabric.racks'"))
        if isinstance(value, Mapping):
            if not value:
                raise SpecError(Problem(f"with_({{'{prefix}{key}': {{}}}})", "sets nothing", "give it keys"))
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(key: str, value: Any, spec: Topology) -> str:
    value = value.item() if hasattr(value, "item") and not hasattr(value, "__len__") else value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value != 0:
        *above, last = key.split(".")
        unit = CLEAR.get(dimension_at(part_at(spec, tuple(above)), last) or "")
        if unit is not None:
            return json.dumps(f"{value!r} {unit}")
    try:
        return json.dumps(str(value) if isinstance(value, Path) else value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise SpecError(Problem(f"with_({{'{key}': {shown(value)}}})", "no value that a file could hold")) from None
