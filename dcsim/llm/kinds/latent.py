"""Multi-head latent attention: to all tokens, to the last ones, or to those an indexer picks."""

from __future__ import annotations

from dataclasses import dataclass

from dcsim.llm.blocks import Step
from dcsim.llm.kinds.index import Index
from dcsim.llm.plan import Plan, View, causal
from dcsim.llm.storage import ATTENTION, EACH_TOKEN, Growth, Stored, Weight, by_columns, by_rows, split, whole
from dcsim.spec.layers import LatentAttention


@dataclass(frozen=True, slots=True)
class Latent:
    """Every shard stores the latent vector and the rotary key of each token; heads are cut over the shards."""

    spec: LatentAttention
    d_model: int

    @property
    def heads(self) -> int:
        """Query heads: no more shards than these."""
        return self.spec.heads

    @property
    def index(self) -> Index | None:
        """What picks tokens, if anything does."""
        return Index(self.spec.index, self.d_model, self.spec.q_rank or self.d_model) if self.spec.index else None

    @property
    def stored_width(self) -> int:
        """Elements stored for a token."""
        return self.spec.kv_rank + self.spec.d_rope

    def columns(self, tp: int, each: int) -> tuple[int, ...]:
        """`each` columns for every head of a shard."""
        return tuple(heads * each for heads in split(self.spec.heads, tp))

    def down(self, tp: int) -> Weight:
        """Latent vector, rotary key and narrow queries, on every shard alike."""
        return whole(ATTENTION, self.d_model, self.stored_width + self.spec.q_rank, tp)

    def query(self, tp: int) -> Weight:
        """Queries of the shard's heads, from their narrow form or from the layer's input."""
        k = self.spec.q_rank or self.d_model
        return by_columns(ATTENTION, k, self.columns(tp, self.spec.d_nope + self.spec.d_rope))

    def keys(self, tp: int) -> Weight:
        """What makes keys without position of latent vectors, or applied to the query what may look at these directly."""
        return by_rows(ATTENTION, self.columns(tp, self.spec.d_nope), self.spec.kv_rank)

    def values(self, tp: int) -> Weight:
        """What makes values of latent vectors."""
        return by_columns(ATTENTION, self.spec.kv_rank, self.columns(tp, self.spec.d_value))

    def gate(self, tp: int) -> list[Weight]:
        """The output gate."""
        return [by_columns(ATTENTION, self.d_model, self.columns(tp, self.spec.d_value))] if self.spec.gate != "none" else []

    def outward(self, tp: int) -> Weight:
        """The product that brings the heads' results back to the layer's width."""
        return by_rows(ATTENTION, self.columns(tp, self.spec.d_value), self.d_model)

    def weights(self, tp: int) -> list[Weight]:
        """All its matrices."""
        own = [self.down(tp), self.query(tp), self.keys(tp), self.values(tp), *self.gate(tp), self.outward(tp)]
        return own + (self.index.weights(tp) if self.index else [])

    def stored(self, tp: int) -> list[Stored]:
        """A latent vector and a rotary key a token seen, and the indexer's key."""
        growth = Growth(self.spec.window) if self.spec.window else EACH_TOKEN
        return [Stored(growth, (self.stored_width,) * tp), *(self.index.stored(tp, EACH_TOKEN) if self.index else [])]

    def seen(self, context: int) -> int:
        """Tokens attended to."""
        if self.spec.window:
            return min(context, self.spec.window)
        return self.index.seen(context) if self.index else context

    def token_flop(self, context: int) -> int:
        """FLOPs of one token beside its weights: every head meets the latent vectors twice and the rotary keys once."""
        looking = 2 * self.spec.heads * (self.stored_width + self.spec.kv_rank) * self.seen(context)
        return looking + (self.index.token_flop(context) if self.index else 0)

    def spread(self, tokens: int, context: int) -> bool:
        """Whether making all heads' keys and values of the context takes less arithmetic than `tokens` queries that look at the
        latent vectors themselves. So it is when prompts are read, and engines do so.
        """
        s = self.spec
        making = s.kv_rank * (s.d_nope + s.d_value)
        direct = tokens * (making + context * (self.stored_width + s.kv_rank))
        return context * making + tokens * context * (s.d_nope + s.d_rope + s.d_value) < direct

    def steps(self, plan: Plan, rows: int) -> list[Step]:
        """Products down and up, picking, attention, product out."""
        tp, sequences, context = plan.tp, plan.shape.batch, plan.shape.context
        tokens = rows // sequences
        s = self.spec
        made = tuple(self.stored_width + s.q_rank + n for n in self.columns(tp, s.d_nope + s.d_rope))
        picks = self.index is not None and context > self.index.spec.tokens
        whole_context = not picks and not s.window
        looked = self._spread(plan, rows) if whole_context and self.spread(tokens, context) else self._direct(plan, rows, picks)
        return [
            plan.products("latent_down", self.down(tp), rows),
            plan.products("query", self.query(tp), rows),
            *(plan.products("gate", weight, rows) for weight in self.gate(tp)),
            plan.vector("rotate_and_store", rows, made),
            *(self.index.steps(plan, rows, context) if self.index else []),
            *looked,
            plan.products("attention_out", self.outward(tp), rows),
        ]

    def _direct(self, plan: Plan, rows: int, picks: bool) -> list[Step]:
        """Queries brought to the latent vectors' width look at these; the sums are brought to the values' width."""
        tokens, context, window = rows // plan.shape.batch, plan.shape.context, self.spec.window
        together = min(tokens, window) if window else tokens
        view = View(
            tuple((heads,) if heads else () for heads in split(self.spec.heads, plan.tp)),
            self.stored_width,
            self.spec.kv_rank,
            min(context, window + together - 1) if window else self.seen(context),
            together,
            alone=picks,
            values_are_keys=True,
            seen_fraction=1.0 if picks or window else causal(context, together),
            kernel="latent",
        )
        return [
            plan.products("query_to_latent", self.keys(plan.tp), rows),
            *plan.attend(rows, plan.shape.batch, view),
            plan.products("latent_to_value", self.values(plan.tp), rows),
        ]

    def _spread(self, plan: Plan, rows: int) -> list[Step]:
        """Keys and values of all heads are made of the context's latent vectors, and attended to as in full attention."""
        s, context = self.spec, plan.shape.context
        every = plan.shape.batch * context
        view = View(
            tuple((1,) * heads for heads in split(s.heads, plan.tp)),
            s.d_nope + s.d_rope,
            s.d_value,
            context,
            rows // plan.shape.batch,
            cached=False,
            seen_fraction=causal(context, rows // plan.shape.batch),
            kernel="latent_prompts",
        )
        return [
            plan.products("latent_to_key", self.keys(plan.tp), every),
            plan.products("latent_to_value", self.values(plan.tp), every),
            *plan.attend(rows, plan.shape.batch, view),
        ]
