"""Attention to a window and, beyond it, to entries that each stand for several tokens (DeepSeek-V4)."""

from __future__ import annotations

from dataclasses import dataclass

from dcsim.llm.blocks import Step
from dcsim.llm.kinds.index import Index
from dcsim.llm.plan import Plan, View
from dcsim.llm.storage import ATTENTION, Growth, Stored, Weight, by_columns, by_rows, split, whole
from dcsim.spec.layers import CompressedAttention

# The tokens that wait to be compressed are kept as they were multiplied, in 32 bit.
WAITING = "fp32"


@dataclass(frozen=True, slots=True)
class Compressed:
    """One key that is its own value, for all heads, on every shard; heads are cut over the shards."""

    spec: CompressedAttention
    d_model: int

    @property
    def heads(self) -> int:
        """Query heads: no more shards than these."""
        return self.spec.heads

    @property
    def times(self) -> int:
        """Two products and widths where entries overlap."""
        return 2 if self.spec.overlap else 1

    @property
    def index(self) -> Index | None:
        """What picks entries: its keys are compressed as the attention's are (values and gates, twice where entries overlap)."""
        if self.spec.index is None:
            return None
        return Index(self.spec.index, self.d_model, self.spec.q_rank, 2 * self.times * self.spec.index.d_head)

    def entries(self, context: int) -> int:
        """Compressed entries there are."""
        return context // self.spec.ratio if self.spec.ratio else 0

    def columns(self, tp: int) -> tuple[int, ...]:
        """Columns of the shard's heads."""
        return tuple(heads * self.spec.d_head for heads in split(self.spec.heads, tp))

    def down(self, tp: int) -> Weight:
        """Narrow queries, the key, and values and gates of the compressor, on every shard alike."""
        s = self.spec
        compressor = 2 * self.times * s.d_head if s.ratio else 0
        return whole(ATTENTION, self.d_model, s.q_rank + s.d_head + compressor, tp)

    def query(self, tp: int) -> Weight:
        """Queries of the shard's heads."""
        return by_columns(ATTENTION, self.spec.q_rank, self.columns(tp))

    def outward(self, tp: int) -> tuple[Weight, Weight]:
        """Each group of heads to its own small width, and all of these to the layer's width.

        A group's heads may lie on several shards: its small vector is a sum, which the second product may come before.
        """
        s = self.spec
        groups = tuple(-(-heads * s.o_groups // s.heads) for heads in split(s.heads, tp))
        return by_rows(ATTENTION, self.columns(tp), s.o_rank), by_rows(
            ATTENTION, tuple(g * s.o_rank for g in groups), self.d_model
        )

    def weights(self, tp: int) -> list[Weight]:
        """All its matrices."""
        return [self.down(tp), self.query(tp), *self.outward(tp), *(self.index.weights(tp) if self.index else [])]

    def stored(self, tp: int) -> list[Stored]:
        """The window's keys, the entries, the indexer's keys, and what waits to be compressed."""
        s = self.spec
        found = [Stored(Growth(s.window), (s.d_head,) * tp)]
        if s.ratio:
            every = Growth(stride=s.ratio)
            found.append(Stored(every, (s.d_head,) * tp))
            waiting = 2 * self.times**2 * s.ratio
            widths = s.d_head + (s.index.d_head if s.index else 0)
            found.append(Stored(Growth(always=waiting), (widths,) * tp, WAITING))
            if self.index:
                found += self.index.stored(tp, every)
        return found

    def seen(self, context: int) -> int:
        """Keys attended to: the window's, and entries."""
        entries = self.entries(context)
        return min(context, self.spec.window) + (self.index.seen(entries) if self.index else entries)

    def token_flop(self, context: int) -> int:
        """FLOPs of one token beside its weights: every head meets each key twice."""
        looking = 4 * self.spec.heads * self.spec.d_head * self.seen(context)
        return looking + (self.index.token_flop(self.entries(context)) if self.index else 0)

    def steps(self, plan: Plan, rows: int) -> list[Step]:
        """Products down and up, compression, picking, attention, the two products out."""
        s, tp, sequences = self.spec, plan.tp, plan.shape.batch
        tokens, entries = rows // sequences, self.entries(plan.shape.context)
        heads = tuple((count,) if count else () for count in split(s.heads, tp))
        picks = self.index is not None and entries > self.index.spec.tokens
        together = tokens if picks else min(tokens, s.window)
        window = min(plan.shape.context, s.window + (0 if picks else together - 1))
        keys = window + (self.index.seen(entries) if self.index else entries)
        view = View(heads, s.d_head, s.d_head, keys, together, alone=picks, values_are_keys=True)
        made = tuple(s.q_rank + (1 + 2 * self.times) * s.d_head + n for n in self.columns(tp))
        first, second = self.outward(tp)
        return [
            plan.products("latent_down", self.down(tp), rows),
            plan.products("query", self.query(tp), rows),
            plan.vector("rotate_compress_and_store", rows, made),
            *(self.index.steps(plan, rows, entries) if self.index else []),
            *plan.attend(rows, sequences, view),
            plan.products("groups_out", first, rows),
            plan.products("attention_out", second, rows),
        ]
