"""The figures an answer rests on whose sources allow a range, and settings that move them to its ends."""

from __future__ import annotations

from dcsim.spec.document import Figure, Path_
from dcsim.spec.load import Resolved
from dcsim.spec.section import was_read


def ranged_figures(resolved: Resolved) -> dict[str, tuple[str, str]]:
    """Settings for the two ends of every figure with a range of numbers that has been read so far, by dotted key."""
    return {
        ".".join(path): (_setting(path, figure, 0), _setting(path, figure, -1))
        for path, figure in sorted(resolved.figures.items())
        if len(figure.range) == 2 and was_read(resolved.spec, path)
    }


def _setting(path: Path_, figure: Figure, end: int) -> str:
    """`dotted.key=value`: a bare number in a range has the unit of the figure's value."""
    value = figure.range[end]
    unit = figure.value.split(maxsplit=1)[1:] if isinstance(figure.value, str) and not isinstance(value, str) else []
    return f"{'.'.join(path)}={' '.join([str(value), *unit])}"
