"""The next rounds of a replica: how many alike follow one another, and how long they take."""

from __future__ import annotations

from dataclasses import replace

from dcsim.cluster.marks import Marks
from dcsim.cluster.programs import Round, combine
from dcsim.cluster.setup import ReplicaSetup
from dcsim.cluster.simpy.batch import Batch
from dcsim.cluster.simpy.capping import CappedMeters
from dcsim.cluster.simpy.pace import Drawn, DrawPlaces, Steady
from dcsim.llm.program import Shape


class NextRounds:
    """Chooses for one replica. `done` counts its rounds so far, `program` is the last one it ran (None: none is loaded), and
    `drained_ps` when the last micro-batch of rounds in flight is through; `ended_ps` is when rounds ended last.
    """

    def __init__(self, replica: int, setup: ReplicaSetup, batch: Batch, places: DrawPlaces, marks: Marks) -> None:
        self._replica, self._setup, self._batch, self._places, self._marks = replica, setup, batch, places, marks
        self.done = 0
        self.program: Shape | None = None
        self.drained_ps, self.ended_ps = 0, -1

    def choose(self, caps: CappedMeters | None, now: int) -> tuple[Steady | Drawn, int]:
        """The pace of the rounds that begin now, and how many of them pass until something changes."""
        setup, batch = self._setup, self._batch
        round_ = self._compose()
        count = batch.steps_until_change() if setup.skip else 1
        if not round_.draws:
            round_, count = self._with_reruns(round_, count)
        is_on_grid = round_.goes_on(self.program) and self.ended_ps == now
        lead_ps = 0 if is_on_grid else max(0, self.drained_ps - now)
        if setup.switch_ps:
            lead_ps += (round_.switches + (round_.first != self.program)) * setup.switch_ps
        self.program = round_.last
        # Each sequence's token is handed on by the host beside the chips.
        extra_pj = batch.decoding.count * setup.token_pj if batch.decodes else 0
        pace: Steady | Drawn
        if round_.draws:
            place, offset, left = self._places.at(self.done)
            count = min(count, left)
            rounds = [round_.at(place, offset + i) for i in range(count)]
            lengths = [self._length_ps(r, extra_pj, caps) for r in rounds]
            pace = Drawn(rounds, lengths, lead_ps, extra_pj)
        else:
            rounds, lengths = [round_], [self._length_ps(round_, extra_pj, caps)]
            pace = Steady(round_, lengths[0], lead_ps, extra_pj)
        if caps and any(length > _natural_ps(r) for r, length in zip(rounds, lengths, strict=True)) and not caps.is_steady():
            count = 1  # look again
        return pace, count

    def stop(self) -> None:
        """All that was under way is lost, the program too."""
        self.program, self.drained_ps = None, 0

    def passed(self, pace: Steady | Drawn, rounds: int, now: int) -> None:
        """So many rounds at this pace have passed, the last of them now."""
        self.done += rounds
        round_, _ = pace.first()
        self.drained_ps, self.ended_ps = max(self.drained_ps, now + round_.drain_ps), now
        if isinstance(pace, Steady) and not round_.reruns:
            self._marks.passed(round_.micro_batches, rounds)

    def _with_reruns(self, round_: Round, count: int) -> tuple[Round, int]:
        """The rounds before the one with the next marked iteration, or that one with what runs again in it."""
        clean = self._marks.clean_rounds(round_.micro_batches, count)
        if clean:
            return round_, clean
        marked = self._marks.marked(round_.micro_batches)
        for number in sorted({number for number, _ in marked}):
            for request in self._batch.served_by(number):
                request.replays += 1
        return round_.again([replace(batches, count=1) for _, batches in marked]), 1

    def _compose(self) -> Round:
        parts = self._batch.compose()
        if len(parts) == 1:
            return parts[0]
        if self._setup.programs.drawn:
            place, offset, _ = self._places.at(self.done)
            parts = [part.at(place, offset) for part in parts]
        return combine(parts)

    def _length_ps(self, round_: Round, extra_pj: int, caps: CappedMeters | None) -> int:
        """A round's length, stretched where a power cap slows all chips together."""
        length = _natural_ps(round_)
        return caps.length_ps(self._replica, round_.work_pj + extra_pj, length) if caps else length


def _natural_ps(round_: Round) -> int:
    """What it takes without caps."""
    return round_.clean_ps + round_.rerun_ps
