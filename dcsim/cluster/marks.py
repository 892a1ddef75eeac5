"""Bit errors that error correction cannot mend: a vector is marked, and its iteration runs again (M19).

Errors are a Poisson process over iterations: one of hazard h meets none with chance exp(-h). A replica draws from its own
stream how much hazard passes until the next error. All of that is counted in whole units, so that a stretch of equal rounds
meets an error in the same iteration as rounds looked at one by one do, and whoever counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf, log
from typing import TYPE_CHECKING

import numpy as np

from dcsim.errors import Problem, SpecError
from dcsim.workload.streams import stream

if TYPE_CHECKING:
    from dcsim.cluster.programs import MicroBatches

UNIT = 2**56  # of hazard: what an iteration has of 1; a draw beyond 127 has no room in 64 bits, and a chance of 1e-55
RERUNS_MAX = 10.0  # of an iteration on average, beyond which a run is refused: it would be one of errors
_DRAWS = 64  # at a time


def bit_errors(hazard: float) -> int:
    """An iteration's hazard in whole units. Raises SpecError where hardly any iteration would be clean.

    Until one is clean there are exp(h) - 1 reruns on average.
    """
    if hazard > log(1 + RERUNS_MAX):
        chance = "no iteration" if hazard == inf else f"one iteration in {np.exp(min(hazard, 700.0)):.3g}"
        raise SpecError(Problem("network.error_rate", f"leaves {chance} without a bit error", "give a smaller one"))
    return round(hazard * UNIT)


def error_draws(seed: int, replica: int) -> Iterator[int]:
    """How much hazard passes from one error of a replica to the next, in whole units."""
    random = stream(seed, f"replica.{replica}.bit_errors")
    while True:
        yield from np.rint(np.minimum(random.standard_exponential(_DRAWS), 127.0) * UNIT).astype(np.int64).tolist()


class Marks:
    """Which iterations of one replica are marked. `draws` as `error_draws` gives them."""

    def __init__(self, draws: Iterator[int]) -> None:
        self._draws = draws
        self._left = -1  # hazard until the next error; nothing is drawn before there is any

    def clean_rounds(self, micro_batches: Sequence[MicroBatches], count: int) -> int:
        """How many of `count` equal rounds pass before the one with the next marked iteration."""
        hazard = _hazard(micro_batches)
        if not hazard:
            return count
        if self._left < 0:
            self._left = next(self._draws)
        return min(count, self._left // hazard)

    def passed(self, micro_batches: Sequence[MicroBatches], rounds: int) -> None:
        """So many rounds without a marked iteration have passed."""
        self._left -= rounds * _hazard(micro_batches)

    def marked(self, micro_batches: Sequence[MicroBatches]) -> list[tuple[int, MicroBatches]]:
        """A round with a marked iteration: the number of each, and what it is one of, once for each time that it is marked.

        A marked iteration runs again until it is clean. What it had left to go when it was marked does not matter, as an
        exponential distribution has no memory.
        """
        found, number = [], 0
        for batches in micro_batches:
            for _ in range(batches.count):
                while self._left < batches.bit_errors:
                    self._left = next(self._draws)
                    found.append((number, batches))
                self._left -= batches.bit_errors
                number += 1
        return found


def _hazard(micro_batches: Sequence[MicroBatches]) -> int:
    return sum(batches.count * batches.bit_errors for batches in micro_batches)
