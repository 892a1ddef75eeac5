"""The table of requests a run serves: struct of arrays, one entry a request, in order of arrival."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Requests:
    """Arrivals and lengths. `arrival_s` is ascending and starts the clock at 0."""

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]  # at least 1
    output_tokens: NDArray[np.int32]  # at least 1
    klass: NDArray[np.int16]  # index into class_names (priority and metrics per class)
    session: NDArray[np.int32]  # requests of one conversation share it; -1: none
    prefix_tokens: NDArray[np.int32]  # leading prompt tokens shared with the session's previous turn
    class_names: tuple[str, ...] = ("default",)

    def __len__(self) -> int:
        return len(self.arrival_s)
