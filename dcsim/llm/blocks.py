"""One block of an LLM as a chain of operations and collectives, the same on every shard.

Each shard works through the steps one after another: a step depends on the step before it on the same shard,
and a collective joins the shards. The list of operations of a block follows from its kind alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from dcsim.llm import architecture as arch
from dcsim.llm.cost import Work, operation_cost
from dcsim.llm.shards import Shards
from dcsim.spec.chip import LpuChip, RooflineChip
from dcsim.spec.llm import LlmSpec
from dcsim.spec.mapping import BYTES, MappingSpec

# Each shard offers its best 40 tokens (a usual top-k) as pairs of 4-byte score and 4-byte index: one 320-byte
# vector.
CANDIDATES, CANDIDATE_BYTES = 40, 8
TOKEN_BYTES = 4

# Passes of the vector unit over a row: add the residual, sum the squares, scale; maximum, exponentials with
# their sum, scale.
NORM_PASSES, SOFTMAX_PASSES = 3, 3


@dataclass(frozen=True, slots=True)
class Shape:
    """What one iteration does: `batch` sequences advance by `new_tokens` each, the last at position
    `context`.

    Decode: new_tokens 1. A prefill chunk: batch 1, context = tokens already there plus new_tokens.
    """

    batch: int
    context: int
    new_tokens: int = 1

    @property
    def rows(self) -> int:
        """Rows of activations: one for each new token of each sequence."""
        return self.batch * self.new_tokens


@dataclass(frozen=True, slots=True)
class Operation:
    """Work on every chip of a stage; tuples hold one entry for each shard.

    `part` is "matrix", "attention", "vector" or "host". It starts when `lead_rows` of `rows` input rows are
    there; its first and last output vectors are ready `first_cycles` and `last_cycles` after that.
    """

    name: str
    part: str
    first_cycles: tuple[int, ...]
    last_cycles: tuple[int, ...]
    rows: int
    lead_rows: int
    flop: tuple[int, ...] = ()
    weight_bytes: tuple[int, ...] = ()
    kv_bytes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Collective:
    """All shards of a stage exchange: `op` is "all_reduce", "reduce_scatter" or "all_gather".

    `size_bytes` is the whole: what each shard holds before a reduction, and after a gathering.
    """

    name: str
    op: str
    size_bytes: int
    rows: int


Step = Operation | Collective


@dataclass(frozen=True, slots=True)
class Block:
    """The steps of one block. Equal blocks of a program are the same object, so that each is compiled once."""

    kind: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a block's steps follow from."""

    llm: LlmSpec
    chip: LpuChip | RooflineChip
    spec: MappingSpec
    shards: Shards
    shape: Shape

    @property
    def active_bytes(self) -> int:
        """Bytes of one activation that enters a matrix product."""
        return BYTES[self.spec.activations]

    @property
    def sum_bytes(self) -> int:
        """Bytes of one element between products: what chips exchange and sum is never narrower than 16 bit."""
        return max(2, self.active_bytes)


def build_block(plan: Plan, kind: str, scattered: bool = False) -> Block:
    """The block of `kind`. If `scattered`, each shard ends with its slice of the result instead of the whole.

    A stage that sends its result on needs only slices: the next stage gathers them, which puts the second
    half of the all-reduce behind the hop and sends every byte over the hop once instead of tp times.
    """
    makers = {
        arch.EMBEDDING: _embedding,
        arch.HEAD: _head,
        arch.ATTENTION: _attention,
        arch.ENCODER_ATTENTION: _encoder_attention,
        arch.CROSS_ATTENTION: _cross_attention,
        arch.FEED_FORWARD: _feed_forward,
        arch.ENCODER_FEED_FORWARD: _feed_forward,
        arch.PARALLEL_LAYER: _parallel_layer,
    }
    rows = encoder_rows(plan) if kind in (arch.ENCODER_ATTENTION, arch.ENCODER_FEED_FORWARD) else plan.shape.rows
    if not rows:
        return Block(kind, ())
    steps = makers[kind](plan, rows)
    if kind not in (arch.EMBEDDING, arch.HEAD):
        steps += _exchange(plan, "reduce_scatter" if scattered else "all_reduce", rows * _row_bytes(plan))
    elif kind == arch.EMBEDDING and not scattered:
        steps += _exchange(plan, "all_gather", rows * _row_bytes(plan))
    return Block(kind, tuple(steps))


def encoder_rows(plan: Plan) -> int:
    """Rows the encoder works on: the tokens of an encoder-only LLM; in front of a decoder, `encoder_tokens`
    of each sequence in the first chunk of its prefill and none after.
    """
    if not plan.llm.layers:
        return plan.shape.rows
    first_chunk = plan.shape.context == plan.shape.new_tokens
    return plan.shape.batch * plan.llm.encoder_tokens if first_chunk and plan.llm.encoder_layers else 0


def gather_block(plan: Plan, size_bytes: int) -> Block:
    """What a stage does first with the slices it was sent."""
    return Block("gather", tuple(_exchange(plan, "all_gather", size_bytes)))


def host_operation(plan: Plan, cycles: int) -> Operation:
    """The host chooses the next token: each shard's token waits for it."""
    times = (cycles,) * plan.shards.tp
    return Operation("host", "host", times, times, plan.shape.batch, plan.shape.batch)


def _row_bytes(plan: Plan) -> int:
    return plan.llm.d_model * plan.sum_bytes


def _exchange(plan: Plan, op: str, size_bytes: int) -> list[Step]:
    """A collective, or nothing where one chip holds all."""
    rows = max(1, size_bytes // _row_bytes(plan))
    return [Collective(op, op, size_bytes, rows)] if plan.shards.tp > 1 else []


def _operation(plan: Plan, name: str, works: list[Work]) -> Operation:
    """Cost the shards' shares; equal shares are costed once."""
    costs = {work: operation_cost(plan.chip, work) for work in set(works)}
    stored = tuple(work.matrix_elements * work.stored_bytes for work in works)
    attention = works[0].part == "attention"
    none = (0,) * len(works)
    return Operation(
        name,
        works[0].part,
        tuple(costs[work].first_cycles for work in works),
        tuple(costs[work].last_cycles for work in works),
        works[0].rows,
        max(cost.lead_rows for cost in costs.values()),
        tuple(work.flop for work in works),
        none if attention else stored,
        stored if attention else none,
    )


def _matrix(plan: Plan, name: str, rows: int, shapes: list[tuple[int, int]], count: int = 1) -> Operation:
    """`rows` rows times `count` weight matrices of shapes (k, n), one shape for each shard."""
    stored = BYTES[plan.spec.weights]
    works = [
        Work("matrix", rows, rows, ((count, rows, k, n),), stored, max(plan.active_bytes, min(stored, 2))) for k, n in shapes
    ]
    return _operation(plan, name, works)


def _vector(plan: Plan, name: str, rows: int, elements: list[int], fused: bool = False) -> Operation:
    """A vector operation on `elements` of each row, one count for each shard."""
    active = plan.sum_bytes
    return _operation(
        plan,
        name,
        [Work("vector", rows, 1, elements=rows * n, active_bytes=active, fused=fused) for n in elements],
    )


def _norm(plan: Plan, rows: int) -> Operation:
    """Every shard has the whole row and norms all of it."""
    return _vector(plan, "norm", rows, [NORM_PASSES * plan.llm.d_model] * plan.shards.tp)


def _cached(plan: Plan, name: str, sequences: int, tokens: int, context: int, transpose: bool) -> Operation:
    """`tokens` rows of each sequence against the `context` keys (or values, `transpose`) of each of a shard's
    heads.
    """
    stored, d_head = BYTES[plan.spec.kv], plan.llm.d_head
    k, n = (context, d_head) if transpose else (d_head, context)
    works = [
        Work(
            "attention",
            sequences * tokens,
            tokens,
            tuple((sequences, tokens * heads, k, n) for heads in groups),
            stored,
            max(plan.active_bytes, min(stored, 2)),
            fused=transpose,
        )
        for groups in plan.shards.groups
    ]
    return _operation(plan, name, works)


def _attend(plan: Plan, rows: int, context: int) -> list[Step]:
    """Scores, softmax and weighted sum over `context` tokens, the whole rectangle: a static program cannot
    skip the masked part.
    """
    sequences = plan.shape.batch
    tokens = rows // sequences
    softmax = [SOFTMAX_PASSES * heads * context for heads in plan.shards.heads]
    return [
        _cached(plan, "scores", sequences, tokens, context, False),
        _vector(plan, "softmax", rows, softmax, fused=True),
        _cached(plan, "weighted_sum", sequences, tokens, context, True),
    ]


def _query_columns(plan: Plan) -> list[int]:
    return [heads * plan.llm.d_head for heads in plan.shards.heads]


def _query_key_value_columns(plan: Plan) -> list[int]:
    pairs = zip(plan.shards.heads, plan.shards.kv_heads, strict=True)
    return [(heads + 2 * kv) * plan.llm.d_head for heads, kv in pairs]


def _attention_steps(plan: Plan, rows: int, context: int) -> list[Step]:
    d = plan.llm.d_model
    columns = _query_key_value_columns(plan)
    return [
        _norm(plan, rows),
        _matrix(plan, "query_key_value", rows, [(d, n) for n in columns]),
        _vector(plan, "rotate_and_store", rows, columns),
        *_attend(plan, rows, context),
        _matrix(plan, "attention_out", rows, [(k, d) for k in _query_columns(plan)]),
    ]


def _attention(plan: Plan, rows: int) -> list[Step]:
    return _attention_steps(plan, rows, plan.shape.context)


def _encoder_attention(plan: Plan, rows: int) -> list[Step]:
    return _attention_steps(plan, rows, rows // plan.shape.batch)


def _cross_attention(plan: Plan, rows: int) -> list[Step]:
    """Queries from the decoder; keys and values of the encoder's output, made once in the first chunk."""
    d, encoder = plan.llm.d_model, encoder_rows(plan)
    columns = [2 * kv * plan.llm.d_head for kv in plan.shards.kv_heads]
    make = (
        [
            _matrix(plan, "encoder_key_value", encoder, [(d, n) for n in columns]),
            _vector(plan, "store", encoder, columns),
        ]
        if encoder
        else []
    )
    return [
        *make,
        _norm(plan, rows),
        _matrix(plan, "query", rows, [(d, n) for n in _query_columns(plan)]),
        *_attend(plan, rows, plan.llm.encoder_tokens),
        _matrix(plan, "attention_out", rows, [(k, d) for k in _query_columns(plan)]),
    ]


def _expert_slots(plan: Plan, rows: int) -> int:
    """Expert matrices one iteration has slots for.

    Which experts a token visits is known only at run time, while the program is fixed: it holds min(experts,
    rows x experts_active) slots, each with room for every row (the worst case, nothing dropped). A slot's
    weights are addressed by the router's answer. Every shard holds its columns of every expert.
    """
    return min(plan.llm.experts, rows * plan.llm.experts_active)


def _feed_forward(plan: Plan, rows: int) -> list[Step]:
    llm, ff, slots = plan.llm, plan.shards.ff, _expert_slots(plan, rows)
    route = (
        [
            _matrix(plan, "router", rows, [(llm.d_model, llm.experts)] * len(ff)),
            _vector(plan, "choose_experts", rows, [llm.experts] * len(ff)),
        ]
        if llm.experts > 1
        else []
    )
    return [
        _norm(plan, rows),
        *route,
        _matrix(plan, "up", rows, [(llm.d_model, arch.up_columns(llm, n)) for n in ff], slots),
        _vector(plan, "activation", rows, [slots * arch.up_columns(llm, n) for n in ff]),
        _matrix(plan, "down", rows, [(n, llm.d_model) for n in ff], slots),
    ]


def _parallel_layer(plan: Plan, rows: int) -> list[Step]:
    """Attention and feed-forward share the norm, one product in, one product out and one all-reduce.

    Unless the mapping says that the library does not join them: then each works as in a serial layer, and their
    results are summed over the shards together or apart.
    """
    if plan.spec.parallel_layer != "joined":
        apart = plan.spec.parallel_layer == "apart"
        between = _exchange(plan, "all_reduce", rows * _row_bytes(plan)) if apart else []
        return [*_attention(plan, rows), *between, *_feed_forward(plan, rows)]
    d, ff = plan.llm.d_model, plan.shards.ff
    up = [arch.up_columns(plan.llm, n) for n in ff]
    inward = [a + b for a, b in zip(_query_key_value_columns(plan), up, strict=True)]
    outward = [a + b for a, b in zip(_query_columns(plan), ff, strict=True)]
    return [
        _norm(plan, rows),
        _matrix(plan, "query_key_value_and_up", rows, [(d, n) for n in inward]),
        _vector(plan, "rotate_store_and_activate", rows, inward),
        *_attend(plan, rows, plan.shape.context),
        _matrix(plan, "out_and_down", rows, [(k, d) for k in outward]),
    ]


def _embedding(plan: Plan, rows: int) -> list[Step]:
    """Each shard reads its columns of the tokens' rows: no shard needs to know which token it is before it
    starts.
    """
    return [_vector(plan, "embedding", rows, list(plan.shards.width))]


def _head(plan: Plan, rows: int) -> list[Step]:
    """Scores of the last token of each sequence, each shard's best, and the choice among all of them on every
    shard.
    """
    tp, rows = plan.shards.tp, plan.shape.batch
    return [
        _norm(plan, rows),
        _matrix(plan, "head", rows, [(plan.llm.d_model, n) for n in plan.shards.vocab]),
        _vector(plan, "best_tokens", rows, list(plan.shards.vocab)),
        *_exchange(plan, "all_gather", rows * tp * CANDIDATES * CANDIDATE_BYTES),
        _vector(plan, "sample", rows, [tp * CANDIDATES] * tp),
    ]
