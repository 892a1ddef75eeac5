"""How long successive rounds take: all alike, or drawn from a network's replications.

Replications of a shape follow each other as iterations did, so a run of successive ones keeps their correlation. A
replica's rounds are cut into blocks; each block starts at a random place and goes on from there, the same place for
every shape. Which replication a round takes thus depends on its number alone, not on how the rounds are simulated.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

import numpy as np

from dcsim.cluster.programs import Round


class Steady:
    """Rounds of one length; the first is `lead_ps` longer. `extra_pj` is added to the work of each."""

    __slots__ = ("_extra_pj", "_lead_ps", "_length_ps", "_round", "_work_pj")

    def __init__(self, round_: Round, length_ps: int, lead_ps: int, extra_pj: int = 0) -> None:
        self._round, self._length_ps, self._lead_ps, self._extra_pj = round_, length_ps, lead_ps, extra_pj
        self._work_pj = round_.work_pj + extra_pj

    def after(self, rounds: int) -> Steady:
        """What follows the first so many rounds."""
        return Steady(self._round, self._length_ps, 0 if rounds else self._lead_ps, self._extra_pj)

    def span_ps(self, rounds: int) -> int:
        """Time of the first so many rounds."""
        return self._lead_ps + rounds * self._length_ps

    def first(self) -> tuple[Round, int]:
        """The first round, and how long the pipeline stands still before it."""
        return self._round, self._lead_ps

    def rounds_within(self, time_ps: int) -> int:
        """Whole rounds that end within `time_ps`."""
        return max(0, (time_ps - self._lead_ps) // self._length_ps)

    def work_pj(self, time_ps: int) -> int:
        """Energy above waiting spent within `time_ps`: of whole rounds, and of the one under way in proportion."""
        rounds = self.rounds_within(time_ps)
        return rounds * self._work_pj + _part(self._work_pj, time_ps - self.span_ps(rounds), self._length_ps)

    def parts(self, rounds: int) -> Iterator[tuple[Round, int, int]]:
        """(round, length without lead, how often in a row) of the first so many rounds."""
        yield self._round, self._length_ps, rounds


class Drawn:
    """Rounds each of its own length; the first is `lead_ps` longer. `extra_pj` is added to the work of each."""

    __slots__ = ("_ends_ps", "_extra_pj", "_lengths_ps", "_rounds", "_works_pj")

    def __init__(self, rounds: list[Round], lengths_ps: list[int], lead_ps: int, extra_pj: int = 0) -> None:
        self._rounds, self._lengths_ps, self._extra_pj = rounds, lengths_ps, extra_pj
        self._ends_ps = list(accumulate(lengths_ps, initial=lead_ps))
        self._works_pj = [round_.work_pj + extra_pj for round_ in rounds]

    def after(self, rounds: int) -> Drawn:
        """What follows the first so many rounds."""
        lead_ps = 0 if rounds else self._ends_ps[0]
        return Drawn(self._rounds[rounds:], self._lengths_ps[rounds:], lead_ps, self._extra_pj)

    def span_ps(self, rounds: int) -> int:
        """Time of the first so many rounds."""
        return self._ends_ps[rounds]

    def first(self) -> tuple[Round, int]:
        """The first round, and how long the pipeline stands still before it."""
        return self._rounds[0], self._ends_ps[0]

    def rounds_within(self, time_ps: int) -> int:
        """Whole rounds that end within `time_ps`."""
        return max(0, bisect_left(self._ends_ps, time_ps + 1) - 1)

    def work_pj(self, time_ps: int) -> int:
        """Energy above waiting spent within `time_ps`: of whole rounds, and of the one under way in proportion."""
        rounds = self.rounds_within(time_ps)
        whole_pj = sum(self._works_pj[:rounds])
        if rounds == len(self._rounds):
            return whole_pj
        return whole_pj + _part(self._works_pj[rounds], time_ps - self._ends_ps[rounds], self._lengths_ps[rounds])

    def parts(self, rounds: int) -> Iterator[tuple[Round, int, int]]:
        """(round, length without lead, how often in a row) of the first so many rounds."""
        for round_, length in zip(self._rounds[:rounds], self._lengths_ps[:rounds], strict=True):
            yield round_, length, 1


def _part(work_pj: int, passed_ps: int, length_ps: int) -> int:
    """The share of a round's work that is done when so much of it has passed; none before it begins."""
    return int(work_pj * (max(0, passed_ps) / length_ps))


class DrawPlaces:
    """Where among the replications a replica's blocks of rounds start."""

    def __init__(self, random: np.random.Generator, block: int) -> None:
        self._random, self._block = random, block
        self._drawn = 0  # blocks drawn so far
        self._place = 0.0

    def at(self, round_number: int) -> tuple[float, int, int]:
        """Place of the round's block, the round's offset in it and the rounds left in it, this one included.

        Round numbers must not fall.
        """
        block, offset = divmod(round_number, self._block)
        while self._drawn <= block:
            self._place = float(self._random.random())
            self._drawn += 1
        return self._place, offset, self._block - offset
