"""The figures an answer rests on whose sources allow a range, and settings that move them to its ends."""

from __future__ import annotations

from typing import Any

from dcsim.spec.document import Figure, Path_
from dcsim.spec.load import Resolved
from dcsim.spec.section import Section


def ranged_figures(resolved: Resolved) -> dict[str, tuple[str, str]]:
    """Settings for the two ends of every figure with a range of numbers that has been read so far, by dotted key."""
    return {
        ".".join(path): (_setting(path, figure, 0), _setting(path, figure, -1))
        for path, figure in sorted(resolved.figures.items())
        if len(figure.range) == 2 and was_read(resolved.spec, path)
    }


def was_read(section: Any, path: Path_) -> bool:
    """Whether the field at `path` has been read since the spec was made."""
    for key in path:
        if not isinstance(section, Section):
            return True
        name = field_name(section, key)
        if name not in section.fields_read():
            return False
        section = section.__dict__[name]
    return True


def field_name(section: Section, key: str) -> str:
    """The field that stands under `key` in a file."""
    return next((name for name, field in type(section).model_fields.items() if (field.alias or name) == key), key)


def _setting(path: Path_, figure: Figure, end: int) -> str:
    """`dotted.key=value`: a bare number in a range has the unit of the figure's value."""
    value = figure.range[end]
    unit = figure.value.split(maxsplit=1)[1:] if isinstance(figure.value, str) and not isinstance(value, str) else []
    return f"{'.'.join(path)}={' '.join([str(value), *unit])}"
