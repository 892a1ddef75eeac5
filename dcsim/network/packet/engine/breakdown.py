"""Where the time of an iteration went."""

from __future__ import annotations

from typing import Any

import numpy as np

from dcsim.network.packet.engine import breakdown_kernel as kernel
from dcsim.network.packet.engine.state import EngineState

# `slowest` is waiting for the slowest message of several awaited together: what it queued (jitter included) beyond
# their mean. `release` is time before the first task was let go; `other` could not be attributed.
PARTS = ("compute", "software", "jitter", "switch", "wire", "serialisation", "queueing", "slowest", "release", "other")


def critical_path(s: EngineState, parts_ps: Any, base_ps: int) -> Any:
    """The critical path of a finished iteration by part, int64[part]; sums to its finish minus `base_ps`."""
    out = np.zeros(kernel.PART_COUNT, np.int64)
    if len(s.tasks) > 1:
        kernel.walk(s, parts_ps, base_ps, out)
    return out
