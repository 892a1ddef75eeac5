"""Softmax attention with keys and values of its own: full, grouped, windowed, chunked; and cross-attention to an encoder."""

from __future__ import annotations

from dataclasses import dataclass

from dcsim.llm.blocks import Step
from dcsim.llm.plan import Plan, View, causal
from dcsim.llm.storage import ATTENTION, EACH_TOKEN, Growth, Stored, Weight, by_columns, by_rows, head_groups, whole
from dcsim.spec.layers import ChunkedAttention, CrossAttention, FullAttention, WindowedAttention


@dataclass(frozen=True, slots=True)
class Full:
    """Attention to all tokens before, or to the last `seen_max` of them."""

    spec: FullAttention
    d_model: int
    part: str = ATTENTION

    @property
    def heads(self) -> int:
        """Query heads: no more shards than these."""
        return self.spec.heads

    @property
    def d_value(self) -> int:
        """Width of a value."""
        return self.spec.d_value or self.spec.d_head

    @property
    def seen_max(self) -> int:
        """Tokens seen at most; 0: no limit."""
        if isinstance(self.spec, WindowedAttention):
            return self.spec.window
        return self.spec.chunk if isinstance(self.spec, ChunkedAttention) else 0

    @property
    def joins(self) -> bool:
        """Whether its first product reads the layer's input and nothing lies between it and the scores."""
        return not self.spec.q_rank

    def seen(self, context: int) -> int:
        """Tokens that the one at position `context` attends to."""
        return min(context, self.seen_max) if self.seen_max else context

    def groups(self, tp: int) -> tuple[tuple[int, ...], ...]:
        """Query heads by shard and key/value head."""
        return head_groups(self.spec.heads, self.spec.kv_heads, tp)

    def query_columns(self, tp: int) -> tuple[int, ...]:
        """Columns of the queries' product on each shard."""
        return tuple(sum(groups) * self.spec.d_head for groups in self.groups(tp))

    def key_value_columns(self, tp: int) -> tuple[int, ...]:
        """Columns of the keys' and values' product."""
        made = {"own": self.spec.d_head + self.d_value, "also_values": self.spec.d_head, "of_earlier_layer": 0}[self.spec.keys]
        return tuple(len(groups) * made for groups in self.groups(tp))

    def gate_columns(self, tp: int) -> tuple[int, ...]:
        """Columns of the output gate's product."""
        each = {"none": 0, "head": 1, "channel": self.d_value}[self.spec.gate]
        return tuple(sum(groups) * each for groups in self.groups(tp))

    def inward(self, tp: int) -> Weight:
        """The product of the layer's input: queries (unless they pass a smaller width), keys, values and gate."""
        parts = [self.key_value_columns(tp), self.gate_columns(tp)]
        if not self.spec.q_rank:
            parts.append(self.query_columns(tp))
        return by_columns(self.part, self.d_model, tuple(map(sum, zip(*parts, strict=True))))

    def outward(self, tp: int) -> Weight:
        """The product that brings the heads' results back to the layer's width."""
        return by_rows(self.part, tuple(sum(groups) * self.d_value for groups in self.groups(tp)), self.d_model)

    def query(self, tp: int) -> tuple[Weight, Weight]:
        """The two products of queries that pass a smaller width."""
        rank = self.spec.q_rank
        return whole(self.part, self.d_model, rank, tp), by_columns(self.part, rank, self.query_columns(tp))

    def weights(self, tp: int) -> list[Weight]:
        """All its matrices."""
        return [self.inward(tp), self.outward(tp), *(self.query(tp) if self.spec.q_rank else ())]

    def stored(self, tp: int) -> list[Stored]:
        """Keys and values of the tokens seen."""
        if self.spec.keys == "of_earlier_layer":
            return []
        growth = Growth(self.seen_max) if self.seen_max else EACH_TOKEN
        width = self.spec.d_head + self.d_value
        return [Stored(growth, tuple(len(groups) * width for groups in self.groups(tp)))]

    def token_flop(self, context: int) -> int:
        """FLOPs of one token beside its weights: 2 for each element of a head's key and value and token seen."""
        return 2 * self.spec.heads * (self.spec.d_head + self.d_value) * self.seen(context)

    def made(self, tp: int) -> tuple[int, ...]:
        """Elements of queries, keys, values and gates made for a row on each shard."""
        parts = (self.query_columns(tp), self.key_value_columns(tp), self.gate_columns(tp))
        return tuple(map(sum, zip(*parts, strict=True)))

    def look(self, plan: Plan, rows: int, sequences: int, context: int, masked: bool = True) -> list[Step]:
        """Scores, softmax and weighted sum over the tokens before, or over all where none is `masked`.

        Rows of a prompt see windows that move with them: as many rows as a window is long share the keys of two windows.
        """
        tokens = rows // sequences
        together = min(tokens, self.seen_max) if self.seen_max else tokens
        keys = min(context, self.seen_max + together - 1) if self.seen_max else context
        if isinstance(self.spec, ChunkedAttention):
            keys = self.seen(context)
        seen = 1.0
        if masked and self.seen_max and context >= keys > self.seen_max:
            seen = self.seen_max / keys
        elif masked:
            seen = causal(keys, min(together, keys))
        view = View(self.groups(plan.tp), self.spec.d_head, self.d_value, keys, together, seen_fraction=seen)
        return plan.attend(rows, sequences, view)

    def steps(self, plan: Plan, rows: int) -> list[Step]:
        """Product in, positions and store, attention, product out."""
        return self.steps_over(plan, rows, plan.shape.batch, plan.shape.context)

    def steps_over(self, plan: Plan, rows: int, sequences: int, context: int, masked: bool = True) -> list[Step]:
        """The same of `sequences` sequences of `context` tokens."""
        first: list[Step] = [plan.products("query_key_value", self.inward(plan.tp), rows)]
        if self.spec.q_rank:
            down, up = self.query(plan.tp)
            first += [plan.products("query_down", down, rows), plan.products("query_up", up, rows)]
        return [
            *first,
            plan.vector("rotate_and_store", rows, self.made(plan.tp)),
            *self.look(plan, rows, sequences, context, masked),
            plan.products("attention_out", self.outward(plan.tp), rows),
        ]


@dataclass(frozen=True, slots=True)
class Cross:
    """Queries from the decoder; keys and values of an encoder's output of `tokens`, made once in a request's first chunk."""

    spec: CrossAttention
    d_model: int
    tokens: int

    @property
    def heads(self) -> int:
        """Query heads: no more shards than these."""
        return self.spec.heads

    def groups(self, tp: int) -> tuple[tuple[int, ...], ...]:
        """Query heads by shard and key/value head."""
        return head_groups(self.spec.heads, self.spec.kv_heads, tp)

    def columns(self, tp: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Columns of the queries' product, and of the keys' and values'."""
        d = self.spec.d_head
        return tuple(sum(g) * d for g in self.groups(tp)), tuple(2 * len(g) * d for g in self.groups(tp))

    def weights(self, tp: int) -> list[Weight]:
        """All its matrices: of queries, of keys and values, and out."""
        queries, keys_values = self.columns(tp)
        return [
            by_columns(ATTENTION, self.d_model, queries),
            by_columns(ATTENTION, self.d_model, keys_values),
            by_rows(ATTENTION, queries, self.d_model),
        ]

    def stored(self, tp: int) -> list[Stored]:
        """Keys and values of the encoder's output, as many as ever."""
        return [Stored(Growth(always=self.tokens), self.columns(tp)[1])] if self.tokens else []

    def token_flop(self, context: int) -> int:
        """FLOPs of one token beside its weights."""
        return 4 * self.spec.heads * self.spec.d_head * self.tokens

    def steps(self, plan: Plan, rows: int) -> list[Step]:
        """Keys and values once, then as any attention, over the encoder's output."""
        queries, keys_values, out = self.weights(plan.tp)
        first = plan.shape.context == plan.shape.new_tokens
        encoded = plan.shape.batch * self.tokens if first else 0
        make: list[Step] = (
            [
                plan.products("encoder_key_value", keys_values, encoded),
                plan.vector("store", encoded, self.columns(plan.tp)[1]),
            ]
            if encoded
            else []
        )
        d = self.spec.d_head
        return [
            *make,
            plan.products("query", queries, rows),
            *plan.attend(rows, plan.shape.batch, View(self.groups(plan.tp), d, d, self.tokens, rows // plan.shape.batch)),
            plan.products("attention_out", out, rows),
        ]
