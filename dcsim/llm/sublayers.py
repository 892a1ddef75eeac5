"""The blocks of an LLM: embedding, attention, feed-forward, head, and those of encoders. Pipeline stages are cut between them.

A block knows what it stores and which steps it has. Kinds of layers (`kinds`) say what lies between a block's norm and the
exchange at its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dcsim.llm.blocks import Block, Step
from dcsim.llm.kinds import Kind
from dcsim.llm.kinds.feed_forward import Dense, Routed, Square
from dcsim.llm.kinds.full import Cross, Full
from dcsim.llm.plan import NORM_PASSES, Plan
from dcsim.llm.storage import EMBEDDING, ENCODER, HEAD, NORM, SHARED, Stored, Weight, by_columns, split, whole
from dcsim.spec.llm import EncoderSpec

# Each shard offers its best 40 tokens (a usual top-k) as pairs of 4-byte score and 4-byte index: one 320-byte
# vector.
CANDIDATES, CANDIDATE_BYTES = 40, 8
TOKEN_BYTES = 4


class Sublayer(Protocol):
    """One block of an LLM, the smallest thing a stage can hold."""

    @property
    def kind(self) -> str:
        """How listings call it."""

    def weights(self, tp: int) -> list[Weight]:
        """What it stores."""

    def stored(self, tp: int) -> list[Stored]:
        """What each sequence leaves behind."""

    def token_flop(self, context: int) -> int:
        """FLOPs of one decoded token beside 2 for each weight it meets."""

    def rows(self, plan: Plan) -> int:
        """Rows it works on; 0: it has nothing to do in this iteration."""

    def steps(self, plan: Plan, scattered: bool) -> list[Step]:
        """Its steps. If `scattered`, each shard ends with its slice of the result instead of the whole."""


def build_block(plan: Plan, sublayer: Sublayer, scattered: bool = False) -> Block:
    """The steps of `sublayer`. If `scattered`, each shard ends with its slice of the result instead of the whole.

    A stage that sends its result on needs only slices: the next stage gathers them, which puts the second
    half of the all-reduce behind the hop and sends every byte over the hop once instead of tp times.
    """
    return Block(sublayer.kind, tuple(sublayer.steps(plan, scattered)) if sublayer.rows(plan) else ())


def gather_block(plan: Plan, size_bytes: int) -> Block:
    """What a stage does first with the slices it was sent."""
    return Block("gather", tuple(plan.exchange("all_gather", size_bytes)))


@dataclass(frozen=True, slots=True)
class Layer:
    """A block of a decoder layer, with its norm and exchange: attention, feed-forward, or both of a parallel layer."""

    kind: str
    inner: tuple[Kind, ...]
    d_model: int
    norms: int = 1
    streams: int = 1
    layer_input: LayerInput | None = None
    parallel: bool = False

    def weights(self, tp: int) -> list[Weight]:
        """Those of its kinds, its norms, and what mixes residual streams."""
        found = [weight for kind in self.inner for weight in kind.weights(tp)]
        found.append(whole(NORM, self.norms, self.d_model, tp))
        if self.streams > 1:
            found.append(self.mixing(tp))
        return found + (self.layer_input.weights(tp) if self.layer_input else [])

    @property
    def attends(self) -> bool:
        """Whether it is attention or state alone, of which a mapping may make copies (`mapping.attention_dp`)."""
        return not any(isinstance(kind, (Dense, Routed, Square)) for kind in self.inner)

    def mixing(self, tp: int) -> Weight:
        """From all streams: a weight for each on the way in and on the way out, and how they mix among themselves."""
        return whole(SHARED, self.streams * self.d_model, (2 + self.streams) * self.streams, tp)

    def stored(self, tp: int) -> list[Stored]:
        """What its kinds keep."""
        return [stored for kind in self.inner for stored in kind.stored(tp)]

    def token_flop(self, context: int) -> int:
        """What its kinds do beside their weights."""
        return sum(kind.token_flop(context) for kind in self.inner)

    def rows(self, plan: Plan) -> int:
        """Every new token's, unless it looks at an encoder that had no input."""
        idle = all(isinstance(kind, Cross) and not kind.tokens for kind in self.inner)
        return 0 if idle else plan.shape.rows

    def steps(self, plan: Plan, scattered: bool) -> list[Step]:
        """Mixing of streams, norm, kinds, exchange, norm."""
        rows = plan.shape.rows
        size = rows * plan.row_bytes
        inside = self._parallel(plan, rows, size) if self.parallel else self._one(plan, rows)
        after = (
            [plan.vector("norm", rows, tuple(NORM_PASSES * n for n in self._width(plan, scattered)))] if self.norms > 1 else []
        )
        return [
            *self._mix_in(plan, rows),
            *inside,
            *plan.exchange("reduce_scatter" if scattered else "all_reduce", size),
            *after,
            *self._mix_out(plan, rows, scattered),
            *(self.layer_input.steps(plan, rows) if self.layer_input else []),
        ]

    def _one(self, plan: Plan, rows: int) -> list[Step]:
        return [plan.norm(rows, self.d_model), *(step for kind in self.inner for step in kind.steps(plan, rows))]

    def _parallel(self, plan: Plan, rows: int, size_bytes: int) -> list[Step]:
        """Attention and feed-forward share the norm, one product in, one product out and one all-reduce.

        Unless the mapping says that the library does not join them, or they cannot be joined: then each works as in a serial
        layer, and their results are summed over the shards together or apart.
        """
        attention, feed_forward = self.inner
        joined = isinstance(attention, Full) and attention.joins and isinstance(feed_forward, Dense)
        if plan.spec.parallel_layer == "joined" and joined:
            return self._joined(plan, rows)
        between = plan.exchange("all_reduce", size_bytes) if plan.spec.parallel_layer == "apart" else []
        first = [plan.norm(rows, self.d_model), *attention.steps(plan, rows)]
        return [*first, *between, plan.norm(rows, self.d_model), *feed_forward.steps(plan, rows)]

    def _joined(self, plan: Plan, rows: int) -> list[Step]:
        attention, feed_forward = self.inner
        assert isinstance(attention, Full)
        assert isinstance(feed_forward, Dense)
        tp = plan.tp
        a, f = attention.inward(tp), feed_forward.inward(tp)
        inward = by_columns(f.part, self.d_model, tuple(x + y for (_, x), (_, y) in zip(a.shapes, f.shapes, strict=True)))
        b, g = attention.outward(tp), feed_forward.outward(tp)
        outward = Weight(g.part, tuple((x + y, self.d_model) for (x, _), (y, _) in zip(b.shapes, g.shapes, strict=True)))
        return [
            plan.norm(rows, self.d_model),
            plan.products("query_key_value_and_up", inward, rows),
            plan.vector("rotate_store_and_activate", rows, tuple(n for _, n in inward.shapes)),
            *attention.look(plan, rows, plan.shape.batch, plan.shape.context),
            plan.products("out_and_down", outward, rows),
        ]

    def _width(self, plan: Plan, scattered: bool) -> tuple[int, ...]:
        return split(self.d_model, plan.tp) if scattered else (self.d_model,) * plan.tp

    def _mix_in(self, plan: Plan, rows: int) -> list[Step]:
        """Weights of the streams, and their weighted sum."""
        if self.streams == 1:
            return []
        return [
            plan.products("mix_streams", self.mixing(plan.tp), rows),
            plan.vector("sum_streams", rows, (2 * self.streams * self.d_model,) * plan.tp),
        ]

    def _mix_out(self, plan: Plan, rows: int, scattered: bool) -> list[Step]:
        """Every stream is a weighted sum of all and of the block's result."""
        if self.streams == 1:
            return []
        each = (self.streams + 1) * self.streams
        return [plan.vector("spread_to_streams", rows, tuple(each * n for n in self._width(plan, scattered)))]


@dataclass(frozen=True, slots=True)
class LayerInput:
    """A token's further embedding for one layer: looked up, gated from the residual stream and added to it."""

    rows_of_table: int
    width: int
    d_model: int

    def weights(self, tp: int) -> list[Weight]:
        """The table, the share of what is made of the first embedding, gate and projection."""
        return [
            by_columns(EMBEDDING, self.rows_of_table, split(self.width, tp)),
            *(whole(SHARED, self.d_model, self.width, tp) for _ in range(2)),
            whole(SHARED, self.width, self.d_model, tp),
        ]

    def steps(self, plan: Plan, rows: int) -> list[Step]:
        """Products and a look-up, on every shard."""
        _, made, gate, back = self.weights(plan.tp)
        return [
            plan.products("layer_input", made, rows),
            plan.products("layer_gate", gate, rows),
            plan.vector("layer_look_up", rows, (3 * self.width,) * plan.tp),
            plan.products("layer_back", back, rows),
        ]


class _LeavesNothing:
    """A block of which sequences keep nothing, and whose arithmetic for a decoded token is that of its weights alone."""

    __slots__ = ()

    def stored(self, tp: int) -> list[Stored]:
        """Nothing is kept."""
        return []

    def token_flop(self, context: int) -> int:
        """Nothing beside its weights."""
        return 0


@dataclass(frozen=True, slots=True)
class Embedding(_LeavesNothing):
    """Each shard reads its columns of the tokens' rows: no shard needs to know which token it is before it starts."""

    vocab: int
    positions: int
    d_model: int
    width: int  # of the table
    kind: str = "embedding"

    def weights(self, tp: int) -> list[Weight]:
        """Tokens' and positions' rows; what brings a narrow table to the layers' width."""
        tables = (
            by_columns(EMBEDDING, self.vocab, split(self.width, tp)),
            by_columns(EMBEDDING, self.positions, split(self.d_model, tp)),
        )
        return [table for table in tables if table.shapes[0][0]] + self.widening(tp)

    def widening(self, tp: int) -> list[Weight]:
        """The product from a narrow table's width."""
        return [] if self.width == self.d_model else [by_columns(HEAD, self.width, split(self.d_model, tp))]

    def rows(self, plan: Plan) -> int:
        """Every new token's."""
        return plan.shape.rows

    def steps(self, plan: Plan, scattered: bool) -> list[Step]:
        """A look-up and a gathering."""
        rows = plan.shape.rows
        steps: list[Step] = [plan.vector("embedding", rows, split(self.width, plan.tp))]
        if self.widening(plan.tp):
            steps += plan.exchange("all_gather", rows * self.width * plan.sum_bytes, self.width * plan.sum_bytes)
            steps += [plan.products("widen", weight, rows) for weight in self.widening(plan.tp)]
        return steps + ([] if scattered else plan.exchange("all_gather", rows * plan.row_bytes))


@dataclass(frozen=True, slots=True)
class Head(_LeavesNothing):
    """Scores of the last token of each sequence, each shard's best, and the choice among all of them on every shard.

    It keeps its own table even if the LLM ties it to the embedding, because the two are cut differently (vocabulary against
    width) and mostly sit on different stages.
    """

    vocab: int
    d_model: int
    width: int
    streams: int = 1
    kind: str = "head"

    def table(self, tp: int) -> Weight:
        """A row for each token it may choose."""
        return by_columns(HEAD, self.width, split(self.vocab, tp))

    def weights(self, tp: int) -> list[Weight]:
        """The table and a norm, each shard its share of the table; what brings results to a narrow table's width."""
        return [self.table(tp), whole(NORM, 1, self.d_model, tp), *(weight for _, weight in self.before(tp))]

    def before(self, tp: int) -> list[tuple[str, Weight]]:
        """Products before the table's, on every shard."""
        found = [("sum_streams", whole(SHARED, self.streams * self.d_model, self.streams, tp))] if self.streams > 1 else []
        return found + ([("narrow", whole(HEAD, self.d_model, self.width, tp))] if self.width != self.d_model else [])

    def rows(self, plan: Plan) -> int:
        """The last token of each sequence."""
        return plan.shape.batch

    def steps(self, plan: Plan, scattered: bool) -> list[Step]:
        """Norm, product, choice."""
        tp, rows = plan.tp, plan.shape.batch
        vocab = split(self.vocab, tp)
        return [
            plan.norm(rows, self.d_model),
            *(plan.products(name, weight, rows) for name, weight in self.before(tp)),
            plan.products("head", self.table(tp), rows),
            plan.vector("best_tokens", rows, vocab),
            *plan.exchange("all_gather", rows * tp * CANDIDATES * CANDIDATE_BYTES),
            plan.vector("sample", rows, (tp * CANDIDATES,) * tp),
        ]


@dataclass(frozen=True, slots=True)
class Tower:
    """What the blocks of one encoder share: on how many rows it works, and when."""

    spec: EncoderSpec

    def rows(self, plan: Plan) -> int:
        """Its positions of every sequence: those of the prompt itself, or of each input in the first chunk of its prompt."""
        if not self.spec.tokens:
            return plan.shape.rows
        first_chunk = plan.shape.context == plan.shape.new_tokens
        return plan.shape.batch * self.spec.inputs * self.spec.tokens if first_chunk else 0

    def rows_out(self, plan: Plan) -> int:
        """Rows it hands on."""
        return self.rows(plan) * (self.spec.tokens_out or 1) // (self.spec.tokens if self.spec.tokens_out else 1)

    def row_bytes(self, plan: Plan) -> int:
        """Bytes of one row of its residual stream."""
        return self.spec.d_model * plan.sum_bytes


@dataclass(frozen=True, slots=True)
class TowerInput(_LeavesNothing):
    """Patches of an image (or pieces of a sound) brought to the tower's width, with their positions."""

    tower: Tower
    kind: str = "encoder_input"

    def weights(self, tp: int) -> list[Weight]:
        """One product, and a vector for each position."""
        width, spec = split(self.tower.spec.d_model, tp), self.tower.spec
        return [by_columns(ENCODER, spec.d_input, width), by_columns(NORM, spec.tokens, width)]

    def rows(self, plan: Plan) -> int:
        """The tower's."""
        return self.tower.rows(plan)

    def steps(self, plan: Plan, scattered: bool) -> list[Step]:
        """The product and a gathering."""
        rows, row = self.rows(plan), self.tower.row_bytes(plan)
        product = plan.products("patches", self.weights(plan.tp)[0], rows)
        return [product, *([] if scattered else plan.exchange("all_gather", rows * row, row))]


@dataclass(frozen=True, slots=True)
class TowerLayer(_LeavesNothing):
    """A block of an encoder: attention of all its positions to all, or feed-forward."""

    kind: str
    inner: Full | Dense
    tower: Tower

    def weights(self, tp: int) -> list[Weight]:
        """Those of its kind and a norm."""
        return [*self.inner.weights(tp), whole(NORM, 1, self.tower.spec.d_model, tp)]

    def rows(self, plan: Plan) -> int:
        """The tower's."""
        return self.tower.rows(plan)

    def steps(self, plan: Plan, scattered: bool) -> list[Step]:
        """Norm, its kind, exchange."""
        rows, row = self.rows(plan), self.tower.row_bytes(plan)
        sequences = plan.shape.batch * (self.tower.spec.inputs if self.tower.spec.tokens else 1)
        if isinstance(self.inner, Full):
            inside = self.inner.steps_over(plan, rows, sequences, rows // sequences, masked=False)
        else:
            inside = self.inner.steps(plan, rows)
        op = "reduce_scatter" if scattered else "all_reduce"
        return [plan.norm(rows, self.tower.spec.d_model), *inside, *plan.exchange(op, rows * row, row)]


@dataclass(frozen=True, slots=True)
class TowerOutput(_LeavesNothing):
    """The products that bring a tower's output to the LLM's width, after positions were merged."""

    tower: Tower
    kind: str = "encoder_output"

    def weights(self, tp: int) -> list[Weight]:
        """Each is cut by its columns."""
        return [by_columns(ENCODER, k, split(n, tp)) for k, n in self.tower.spec.projections]

    def rows(self, plan: Plan) -> int:
        """Rows handed on."""
        return self.tower.rows_out(plan)

    def steps(self, plan: Plan, scattered: bool) -> list[Step]:
        """Products, each gathered before the next."""
        rows = self.rows(plan)
        steps: list[Step] = []
        for i, (weight, (_, width)) in enumerate(zip(self.weights(plan.tp), self.tower.spec.projections, strict=True), 1):
            row = width * plan.sum_bytes
            last = i == len(self.tower.spec.projections)
            steps.append(plan.products("project", weight, rows))
            steps += [] if last and scattered else plan.exchange("all_gather", rows * row, row)
        return steps
