"""Kinds of layers: what mixes tokens (attention, state) and what works on each token alone (feed-forward).

A new kind is a section here, its arithmetic in `dcsim/llm/kinds`, and a line in `dcsim/llm/kinds/__init__.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dcsim.spec.section import Count, Positive, Section

Activation = Literal["swiglu", "geglu", "reglu", "gelu", "relu", "relu2"]

# Heads and layers are handled one by one. More of them than this is a slip of the pen that would fill the memory: Falcon-180B has
# 232 heads, DeepNet (arXiv:2203.00555) 1,000 layers.
HEADS_MAX, LAYERS_MAX = 1024, 2000

Heads = Annotated[Positive, Field(le=HEADS_MAX)]


class IndexSpec(Section):
    """A small attention that scores all tokens (or compressed entries) and picks those the large one looks at."""

    heads: Heads = Field(description="Query heads of the indexer.")
    d_head: Positive = Field(description="Width of one; one key of this width is stored for each token or entry.")
    tokens: Positive = Field(description="Tokens or entries it picks.")
    shared: bool = Field(default=False, description="The picks of an earlier layer are used again: no indexer here.")


class FullAttention(Section):
    """Softmax attention to all tokens before; grouped-query where there are fewer key/value heads than heads."""

    kind: Literal["full"]
    heads: Heads = Field(description="Query heads.")
    kv_heads: Heads = Field(description="Key/value heads.")
    d_head: Positive = Field(description="Width of a query and of a key.")
    d_value: Count = Field(default=0, description="Width of a value; 0: as of a key.")
    q_rank: Count = Field(default=0, description="Queries pass through this width first; 0: one product.")
    gate: Literal["none", "head", "channel"] = Field(
        default="none", description="Results are gated from the layer's input: not, one gate a head, or one an element."
    )
    keys: Literal["own", "also_values", "of_earlier_layer"] = Field(
        default="own",
        description="Keys and values have products of their own, or share one, or are an earlier layer's.",
    )


class WindowedAttention(FullAttention):
    """The same to the last `window` tokens."""

    # Each kind is told by its own word, which the type checker takes for a change of the inherited key.
    kind: Literal["windowed"]  # type: ignore[assignment]
    window: Positive = Field(description="Tokens seen, the own one included.")


class ChunkedAttention(FullAttention):
    """The same within blocks of `chunk` tokens; memory and time are those of a full block once it could be full."""

    kind: Literal["chunked"]  # type: ignore[assignment]  # as above
    chunk: Positive = Field(description="Tokens of a block.")


class CrossAttention(Section):
    """Queries of the decoder, keys and values of an encoder's output, made once for a request."""

    kind: Literal["cross"]
    heads: Heads = Field(description="Query heads.")
    kv_heads: Heads = Field(description="Key/value heads.")
    d_head: Positive = Field(description="Width of one head.")


class LatentAttention(Section):
    """Multi-head latent attention: one latent vector and one rotary key a token are stored for all heads.

    DeepSeek-V2 (arXiv:2405.04434); with `index` sparse as in DeepSeek-V3.2 (arXiv:2512.02556).
    """

    kind: Literal["latent"]
    heads: Heads = Field(description="Query heads.")
    q_rank: Count = Field(default=0, description="Width queries pass through; 0: one product.")
    kv_rank: Positive = Field(description="Width of the stored latent vector.")
    d_nope: Positive = Field(description="Width of a query without position.")
    d_rope: Count = Field(description="Width of a query's rotary part and of the rotary key stored beside the latent vector.")
    d_value: Positive = Field(description="Width of a value.")
    gate: Literal["none", "channel"] = Field(default="none", description="Results are gated from the layer's input.")
    index: IndexSpec | None = Field(default=None, description="Picks the tokens that are attended to.")
    window: Count = Field(default=0, description="Last tokens seen, the own one included; 0: all.")


class CompressedAttention(Section):
    """A window of shared key/values, and beyond it one entry for every `ratio` tokens, all or those an indexer picks.

    Grouped low-rank output product. DeepSeek-V4: compressed sparse (with `index`) and heavily compressed attention.
    """

    kind: Literal["compressed"]
    heads: Heads = Field(description="Query heads.")
    d_head: Positive = Field(description="Width of a query and of the one key that is its own value.")
    q_rank: Positive = Field(description="Width queries pass through.")
    o_rank: Positive = Field(description="Width each group of heads is brought to on the way out.")
    o_groups: Heads = Field(description="Groups of heads on the way out.")
    window: Positive = Field(description="Last tokens seen uncompressed.")
    ratio: Count = Field(default=0, description="Tokens of one compressed entry; 0: nothing beyond the window.")
    overlap: bool = Field(default=False, description="An entry also mixes the tokens of the one before: twice the products.")
    index: IndexSpec | None = Field(default=None, description="Picks the entries that are attended to.")


class DeltaAttention(Section):
    """Linear attention with the delta rule and a decay: a state of d_key x d_value a head instead of keys and values.

    Gated DeltaNet (arXiv:2412.06464): one decay a head. Kimi Delta Attention (arXiv:2510.26692): one a key channel.
    """

    kind: Literal["delta"]
    key_heads: Heads = Field(description="Heads of queries and keys.")
    value_heads: Heads = Field(description="Heads of values, and states.")
    d_key: Positive = Field(description="Width of a key.")
    d_value: Positive = Field(description="Width of a value.")
    convolution: Count = Field(default=4, description="Taps of the short convolution over queries, keys and values; 0: none.")
    decay_rank: Count = Field(default=0, description="Decays of key channels pass through this width; 0: one decay a head.")
    gate_rank: Count = Field(default=0, description="The output gate passes through this width; 0: one product.")


class LightningAttention(Section):
    """Linear attention with a fixed decay: a state of d_head x d_head a head (MiniMax-01, arXiv:2501.08313)."""

    kind: Literal["lightning"]
    heads: Heads = Field(description="Heads, and states.")
    d_head: Positive = Field(description="Width of one head.")


class Mamba(Section):
    """Selective state space (Mamba, arXiv:2312.00752): a state of d_state for each inner channel."""

    kind: Literal["mamba"]
    d_inner: Positive = Field(description="Inner channels.")
    d_state: Positive = Field(description="State of one channel.")
    dt_rank: Positive = Field(description="Width that time steps pass through.")
    convolution: Positive = Field(default=4, description="Taps of the short convolution.")


class Mamba2(Section):
    """State space with one decay a head (Mamba-2, arXiv:2405.21060): a state of d_head x d_state a head."""

    kind: Literal["mamba2"]
    heads: Heads = Field(description="Heads, and states.")
    d_head: Positive = Field(description="Width of one head.")
    d_state: Positive = Field(description="State of one channel.")
    groups: Heads = Field(description="Groups of heads that share input and output projections of the state.")
    convolution: Positive = Field(default=4, description="Taps of the short convolution.")


class ShortConvolution(Section):
    """A gated convolution over the last tokens (LFM2)."""

    kind: Literal["convolution"]
    convolution: Positive = Field(description="Taps, the own token included.")


class DenseFeedForward(Section):
    """Two products with an activation between, three if it is gated."""

    kind: Literal["dense"]
    d_ff: Positive = Field(description="Hidden width.")
    activation: Activation = Field(default="swiglu", description="Gated ones (swiglu, geglu) have a third matrix.")


class RoutedFeedForward(Section):
    """Experts, of which a router sends each token to a few; beside them, if given, one that every token visits."""

    kind: Literal["routed"]
    experts: Positive = Field(description="Experts.")
    experts_active: Positive = Field(description="Experts each token visits.")
    d_ff: Positive = Field(description="Hidden width of one expert.")
    activation: Activation = Field(default="swiglu", description="Gated ones (swiglu, geglu) have a third matrix.")
    shared_d_ff: Count = Field(default=0, description="Hidden width of what every token visits, all shared experts together.")
    d_latent: Count = Field(default=0, description="Experts work in this width, to which tokens are brought first; 0: d_model.")
    experts_empty: Count = Field(default=0, description="Further choices of the router that do nothing (LongCat's zero experts).")
    experts_aside: Count = Field(default=0, description="Experts that only tokens of images visit; text never meets them.")
    d_ff_aside: Count = Field(default=0, description="Hidden width of one of these.")

    @model_validator(mode="after")
    def _no_more_are_visited_than_there_are(self) -> RoutedFeedForward:
        experts, active = (self.__dict__[key] for key in ("experts", "experts_active"))  # not self: looking here is no use of it
        if active > experts:
            raise ValueError(f"experts_active of {active} is more than the {experts} experts there are")
        return self


class SquareProduct(Section):
    """One product of d_model x d_model in attention's or the feed-forward's place (layers thinned by a search)."""

    kind: Literal["linear"]


AttentionSpec = Annotated[
    FullAttention
    | WindowedAttention
    | ChunkedAttention
    | CrossAttention
    | LatentAttention
    | CompressedAttention
    | DeltaAttention
    | LightningAttention
    | Mamba
    | Mamba2
    | ShortConvolution
    | SquareProduct,
    Field(discriminator="kind"),
]
FeedForwardSpec = Annotated[DenseFeedForward | RoutedFeedForward | SquareProduct, Field(discriminator="kind")]
