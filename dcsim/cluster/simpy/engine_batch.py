"""The sequences of a replica under a serving engine: each iteration has one budget of tokens for answers and prompts."""

from __future__ import annotations

from math import ceil

from dcsim.cluster.engine_programs import CONTEXT_STEP, EnginePrograms
from dcsim.cluster.programs import Round
from dcsim.cluster.request import Request
from dcsim.cluster.simpy.batch import Batch
from dcsim.cluster.simpy.decoding import Decoding
from dcsim.network.lockstep import Chunk
from dcsim.policies.batching import BATCHING


class EngineBatch(Batch):
    """As `Batch`, of programs that are compiled for nothing: a prompt is cut where the iteration's tokens end."""

    def __init__(self, programs: EnginePrograms, decoding: Decoding) -> None:
        engine = programs.engine
        # Each copy of attention, and each micro-batch of a pipeline, is scheduled by itself.
        super().__init__(BATCHING[engine.batching], engine.batched_tokens_max * programs.apart, decoding)
        self._programs = programs

    def compose(self) -> list[Round]:
        """The next iteration, all in one."""
        self.decodes = self.decoding.count > 0 and self._policy.decodes(len(self.prompts))
        sequences = self.decoding.count if self.decodes else 0
        left = max(1, self._budget - sequences) if self.prompts else 0
        self.chunks, chunks = [], []
        for request in self.prompts:
            if left <= 0:
                break
            stop = min(request.to_read, request.read + left)
            left -= stop - request.read
            chunks.append(Chunk(request.read, stop, stop == request.to_read))
            self.chunks.append((request, stop))
        return [self._programs.mixed(sequences, self._step() if sequences else 0, chunks)]

    def served_by(self, iteration: int) -> list[Request]:
        """As `Batch`: the one iteration of a round serves all."""
        return [*(self.decoding.requests() if self.decodes else ()), *(request for request, _ in self.chunks)]

    def steps_until_change(self) -> int:
        """As `Batch`; the mean context growing into the next step is a change too."""
        if self.chunks:
            return 1
        grown = (self._step() + 1) * CONTEXT_STEP - self.decoding.context_mean()
        return min(self.decoding.steps_until_change(), max(1, ceil(grown / self.decoding.tokens_per_step)))

    def _step(self) -> int:
        return int(self.decoding.context_mean() // CONTEXT_STEP)
