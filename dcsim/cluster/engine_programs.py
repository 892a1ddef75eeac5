"""What a replica under a serving engine runs: iterations of whatever tokens there are, and how long each takes."""

from __future__ import annotations

from collections.abc import Sequence

from dcsim.cluster.programs import MicroBatches, Programs, Round
from dcsim.llm.blocks import Shape
from dcsim.network.lockstep import Chunk, LockStep
from dcsim.network.timing import BREAKDOWN, IterationTime
from dcsim.spec.chip import ChipPower
from dcsim.spec.engine import EngineSpec
from dcsim.spec.topology import ServingSpec

# Mean contexts of so many tokens share a time, that of their middle: a thousandth of what a context costs anywhere.
CONTEXT_STEP = 32


class EnginePrograms:
    """Iterations under `engine`, timed by `lockstep` and remembered.

    A sequence gains a token an iteration, or has `check_tokens` drafted ones checked. The engine's own time is in every
    iteration, as `host`.
    """

    drawn = False  # all iterations of one content are alike

    def __init__(self, engine: EngineSpec, serving: ServingSpec, lockstep: LockStep, power: ChipPower, context_max: int) -> None:
        self.engine, self._lockstep, self._power = engine, lockstep, power
        self.context_max = context_max + 1  # nothing is compiled, so that only the LLM's own context limits
        self.contexts = (self.context_max,)
        drafts = serving.speculation
        self._check_tokens = 1 + drafts.draft_tokens if drafts else 1
        self._draft_s = drafts.draft_tokens * drafts.draft_token_s if drafts else 0.0
        self._decode: dict[tuple[int, int], Round] = {}

    @property
    def lone(self) -> Shape:
        """A lone sequence's next token."""
        return Shape(1, CONTEXT_STEP)

    @property
    def shapes_timed(self) -> int:
        """How many different iterations have been asked for."""
        return len(self._decode)

    def times(self, shape: Shape) -> tuple[IterationTime, ...]:
        """The time of decoding `shape`, and where it goes."""
        parts = self._lockstep.iteration(shape.batch, shape.context)
        joules = self._lockstep.joules(parts, self._power)
        seconds = dict(zip(BREAKDOWN, parts.tolist(), strict=True))
        seconds["host"] += self._own_s(shape.batch)
        latency_ps = round(sum(seconds.values()) * 1e12)
        return (IterationTime(latency_ps, latency_ps, joules, seconds),)

    def mixed(self, sequences: int, step: int, chunks: Sequence[Chunk]) -> Round:
        """A token for each of `sequences`, whose mean context lies in `step` (of CONTEXT_STEP tokens), and chunks beside."""
        if not chunks:
            key = sequences, step
            if key not in self._decode:
                self._decode[key] = self._round(sequences, step, ())
            return self._decode[key]
        return self._round(sequences, step, chunks)

    def _round(self, sequences: int, step: int, chunks: Sequence[Chunk]) -> Round:
        context = (step + 0.5) * CONTEXT_STEP
        parts = self._lockstep.iteration(sequences, context, chunks)
        seconds = float(parts.sum()) + self._own_s(sequences + len(chunks))
        if sequences:
            seconds += self._draft_s
        latency_ps = max(1, round(seconds * 1e12))
        alone_ps = latency_ps
        if sequences and (sequences > 1 or chunks):
            alone_ps = self.mixed(1, step, ()).latency_ps
        work_pj = round(self._lockstep.joules(parts, self._power) * 1e12)
        shape = Shape(max(1, sequences), round(context))
        batches = MicroBatches(shape, 1, latency_ps, latency_ps)
        return Round(latency_ps, latency_ps, work_pj, alone_ps if sequences else 0, shape, shape, 0, (batches,))

    def _own_s(self, sequences: int) -> float:
        return self.engine.step_s + sequences * self.engine.sequence_s


AnyPrograms = Programs | EnginePrograms
