"""What a replica under a serving engine runs: iterations of whatever tokens there are, and how long each takes."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

from dcsim.cluster.programs import MicroBatches, Programs, Round
from dcsim.llm.blocks import Shape
from dcsim.network.lockstep import Chunk, LockStep
from dcsim.network.timing import BREAKDOWN, IterationTime
from dcsim.spec.chip import ChipPower
from dcsim.spec.engine import EngineSpec
from dcsim.spec.llm import LlmSpec
from dcsim.spec.topology import ServingSpec

# Mean contexts of so many tokens share a time, that of their middle: a thousandth of what a context costs anywhere.
CONTEXT_STEP = 32


class EnginePrograms:
    """Iterations under `engine`, timed by `lockstep` and remembered.

    A sequence gains a token an iteration, or has `check_tokens` drafted ones checked. The engine's own time is in every
    iteration, as `host`.
    """

    drawn = False  # all iterations of one content are alike

    def __init__(self, engine: EngineSpec, serving: ServingSpec, lockstep: LockStep, power: ChipPower, llm: LlmSpec) -> None:
        self.engine, self._lockstep, self._power = engine, lockstep, power
        self.reading: EnginePrograms | None = None  # of replicas that only read prompts, where they are laid otherwise
        # Nothing is compiled, so that only the LLM's own context limits; drafts may go beyond it.
        self._drafts, self._layers = serving.speculation, llm.layers
        self.context_max = llm.context_max + 1 + (self._drafts.draft_tokens if self._drafts else 0)
        self.contexts = (self.context_max,)
        self._decode: dict[tuple[int, int], Round] = {}

    def under(self, engine: EngineSpec) -> EnginePrograms:
        """The same chips under another engine; what was timed on them is shared."""
        made = copy(self)
        made.engine, made._decode = engine, {}
        return made

    @property
    def apart(self) -> int:
        """Iterations that go on side by side, each with a budget of tokens of its own."""
        return self._lockstep.apart

    @property
    def lone(self) -> Shape:
        """A lone sequence's next token."""
        return Shape(1, CONTEXT_STEP)

    @property
    def shapes_timed(self) -> int:
        """How many different iterations have been asked for."""
        return len(self._decode)

    def times(self, shape: Shape) -> tuple[IterationTime, ...]:
        """The time of one iteration of `shape`, and where it goes."""
        if shape.new_tokens == 1:
            parts = self._lockstep.iteration(shape.batch, shape.context)
        else:
            chunks = [Chunk(shape.context - shape.new_tokens, shape.context)] * shape.batch
            parts = self._lockstep.iteration(0, 0, chunks)
        joules = self._lockstep.joules(parts, self._power)
        seconds = dict(zip(BREAKDOWN, parts.tolist(), strict=True))
        seconds["host"] += self.engine.step_s + (
            -(-shape.batch // self._lockstep.apart) * self._taken_in_s if shape.new_tokens > 1 else 0.0
        )
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
        check = 1 + self._drafts.draft_tokens if self._drafts else 1
        parts = self._lockstep.iteration(sequences, context, chunks, check)
        own_s = self.engine.step_s + -(-sum(chunk.ends for chunk in chunks) // self._lockstep.apart) * self._taken_in_s
        seconds = float(parts.sum()) + own_s
        if sequences:
            seconds += self._draft_s(sequences, context)
        latency_ps = max(1, round(seconds * 1e12))
        alone_ps = latency_ps
        if sequences and (sequences > 1 or chunks):
            alone_ps = self.mixed(1, step, ()).latency_ps
        work_pj = round(self._lockstep.joules(parts, self._power) * 1e12)
        shape = Shape(max(1, sequences), round(context))
        batches = MicroBatches(shape, 1, latency_ps, latency_ps)
        return Round(latency_ps, latency_ps, work_pj, alone_ps if sequences else 0, shape, shape, 0, (batches,))

    @property
    def _taken_in_s(self) -> float:
        return self.engine.sequence_s * self._layers

    def _draft_s(self, sequences: int, context: float) -> float:
        """Time to draft: as long as is said, or else a layer like the LLM's own and its head for each token drafted."""
        drafts = self._drafts
        if drafts is None:
            return 0.0
        if drafts.draft_token_s is not None:
            return drafts.draft_tokens * drafts.draft_token_s
        head_s = float(self._lockstep.head(sequences).sum())
        layers_s = float(self._lockstep.iteration(sequences, context).sum()) - head_s
        return drafts.draft_tokens * (layers_s / max(1, self._layers) + head_s)


AnyPrograms = Programs | EnginePrograms
