"""How a computed value stands to a published one, and what would change the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping

# A value within this factor of the published one, or of its range, reproduces it: what was measured and described to be compared
# more closely than what somebody saw or said of a deployment.
MEASURED_FACTOR, FACTOR = 1.25, 1.5


def ratio_of(simulated: float, published: tuple[float, float]) -> float:
    """simulated / published; for a range, over its nearest end, and 1 inside it."""
    low, high = published
    if low <= simulated <= high:
        return 1.0
    nearest = low if simulated < low else high
    return simulated / nearest if nearest else math.inf


def ln_error(ratio: float) -> float | None:
    """ln(simulated / published); None where the ratio is 0, negative or infinite."""
    return math.log(ratio) if 0 < ratio < math.inf else None


def holds(kind: str, ratio: float, is_point: bool = True, factor: float = FACTOR) -> bool:
    """A structure must agree exactly (to rounding of floats), and so must what somebody argued to be more or less than a
    bound; every other value within `factor`."""
    if kind == "structure" or (kind == "arithmetic" and not is_point):
        return math.isclose(ratio, 1.0, rel_tol=1e-9)
    return 1 / factor <= ratio <= factor


def verdict(
    kind: str,
    ratio: float,
    ends: Mapping[str, tuple[float, float]],
    is_point: bool = True,
    factor: float = FACTOR,
) -> tuple[str, list[str]]:
    """ "reproduced", "contradicted" or "depends on: ...", and the figures it depends on.

    `ends` gives, by figure, the ratios at the two ends of the range its source allows. A verdict depends on the
    figures that, moved alone over their range, turn it into the other one.
    """
    base = holds(kind, ratio, is_point, factor)
    turning = [name for name, pair in ends.items() if any(holds(kind, end, is_point, factor) != base for end in pair)]
    if turning:
        return "depends on: " + ", ".join(turning), turning
    return ("reproduced" if base else "contradicted"), []
