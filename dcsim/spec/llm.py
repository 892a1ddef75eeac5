"""LLM architectures: the numbers that decide bytes and FLOPs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dcsim.spec.section import Count, Named, Positive


class LlmSpec(Named):
    """A transformer. Decoder-only unless `encoder_layers` is set; encoder-only when `layers` is 0."""

    layers: Count = Field(description="Decoder layers; 0 for an encoder-only architecture.")
    encoder_layers: Count = Field(
        default=0, description="Encoder layers; with decoder layers, each of those has cross-attention."
    )
    encoder_tokens: Count = Field(default=0, description="Positions the encoder sees for one request (1500 for 30 s of speech).")
    d_model: Positive = Field(description="Width of the residual stream.")
    heads: Positive = Field(description="Query heads.")
    kv_heads: Positive = Field(description="Key/value heads; fewer than heads for grouped-query attention.")
    d_head: Positive = Field(description="Width of one head.")
    d_ff: Positive = Field(description="Hidden width of the feed-forward block (of one expert, if there are experts).")
    vocab: Positive = Field(description="Vocabulary size.")
    activation: Literal["swiglu", "geglu", "gelu", "relu"] = Field(
        description="Feed-forward activation; the gated ones have a third matrix."
    )
    parallel_attention: bool = Field(default=False, description="Attention and feed-forward share one input and one all-reduce.")
    tied_embeddings: bool = Field(default=False, description="Input embedding and output head share one matrix.")
    experts: Positive = Field(default=1, description="Experts per feed-forward block.")
    experts_active: Positive = Field(default=1, description="Experts each token visits.")
    positions: Count = Field(default=0, description="Learned position embeddings; 0 for rotary.")
    context_max: Positive = Field(default=4096, description="Longest context it was built for, in tokens.")
