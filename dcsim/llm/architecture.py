"""An LLM as a list of blocks, and what each holds: parameters and KV cache.

A transformer layer is one attention block and one feed-forward block (with cross-attention between them in
the decoder of an encoder-decoder); where both share one input, the layer is one block. Pipeline stages are
cut at block boundaries, so a block is the smallest thing a stage can hold.
"""

from __future__ import annotations

from dcsim.spec.llm import LlmSpec

EMBEDDING, HEAD = "embedding", "head"
ENCODER_ATTENTION, ENCODER_FEED_FORWARD = "encoder_attention", "encoder_feed_forward"
ATTENTION, CROSS_ATTENTION, FEED_FORWARD, PARALLEL_LAYER = (
    "attention",
    "cross_attention",
    "feed_forward",
    "parallel_layer",
)

# Learned matrices in a feed-forward block: the gated activations have a gate beside the up-projection.
_MATRICES = {"swiglu": 3, "geglu": 3, "gelu": 2, "relu": 2}


def block_kinds(llm: LlmSpec) -> tuple[str, ...]:
    """The kind of each block, first to last.

    An encoder in front of a decoder comes before the embedding of the decoder's tokens; an encoder alone
    comes after the embedding and has no head, since it gives vectors and not tokens.
    """
    encoder = (ENCODER_ATTENTION, ENCODER_FEED_FORWARD) * llm.encoder_layers
    if not llm.layers:
        return (EMBEDDING, *encoder)
    if llm.parallel_attention:
        layer: tuple[str, ...] = (PARALLEL_LAYER,)
    elif llm.encoder_layers:
        layer = (ATTENTION, CROSS_ATTENTION, FEED_FORWARD)
    else:
        layer = (ATTENTION, FEED_FORWARD)
    return (*encoder, EMBEDDING, *layer * llm.layers, HEAD)


def up_columns(llm: LlmSpec, columns: int) -> int:
    """Output columns of the first feed-forward product for `columns` hidden ones: gate and up together."""
    return columns * (_MATRICES[llm.activation] - 1)


def block_parameters(llm: LlmSpec, kind: str) -> int:
    """Parameters stored in one block of `kind`.

    Norms are counted with the block they precede. Biases, token types, BERT's pooler and Whisper's
    convolutions are left out: together under half a percent. A head keeps its own table even if the LLM ties
    it to the embedding, because the two are cut differently (vocabulary against width) and mostly sit on
    different stages.
    """
    d = llm.d_model
    attention = 2 * d * (llm.heads + llm.kv_heads) * llm.d_head + d
    experts = llm.experts * _MATRICES[llm.activation] * d * llm.d_ff
    feed_forward = experts + (d * llm.experts if llm.experts > 1 else 0) + d
    positions = llm.positions + (llm.encoder_tokens if llm.encoder_layers and llm.layers else 0)
    return {
        EMBEDDING: (llm.vocab + positions) * d,
        ATTENTION: attention,
        CROSS_ATTENTION: attention,
        ENCODER_ATTENTION: attention,
        FEED_FORWARD: feed_forward,
        ENCODER_FEED_FORWARD: feed_forward,
        PARALLEL_LAYER: attention + feed_forward - d,  # one norm serves both
        HEAD: llm.vocab * d + d,
    }[kind]


def parameter_count(llm: LlmSpec) -> int:
    """Parameters as published: a tied head counts once."""
    total = sum(block_parameters(llm, kind) for kind in block_kinds(llm))
    return total - (llm.vocab * llm.d_model if llm.tied_embeddings and llm.layers else 0)


def active_parameter_count(llm: LlmSpec) -> int:
    """Parameters one token meets: of the experts only those it visits."""
    return parameter_count(llm) - _idle_expert_parameters(llm)


def _idle_expert_parameters(llm: LlmSpec) -> int:
    idle = (llm.experts - llm.experts_active) * _MATRICES[llm.activation] * llm.d_model * llm.d_ff
    return idle * (llm.layers + llm.encoder_layers)


def kv_bytes_per_token(llm: LlmSpec, element_bytes: int) -> int:
    """Keys and values one token leaves in all decoder layers: 2 x layers x kv heads x d_head x bytes."""
    return 2 * llm.layers * llm.kv_heads * llm.d_head * element_bytes


def flop_per_token(llm: LlmSpec, context: int) -> int:
    """FLOPs of one token decoded at `context` by a decoder-only LLM: 2 for each weight of a matrix it meets
    and 4 for each query-head element and context token. The embedding is a look-up and costs none.
    """
    blocks = [kind for kind in block_kinds(llm) if kind != EMBEDDING]
    norms = len(blocks) * llm.d_model
    matrices = sum(block_parameters(llm, kind) for kind in blocks) - norms - _idle_expert_parameters(llm)
    return 2 * matrices + 4 * llm.layers * llm.heads * llm.d_head * context
