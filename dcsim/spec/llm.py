"""LLM architectures: the numbers that decide bytes and FLOPs.

An LLM is a list of layers. Where all are alike, their figures stand at the top (`heads`, `d_ff`, ...). Where they differ,
`attention` and `feed_forward` name the kinds there are, and `pattern` says which layers are which.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from dcsim.spec.layers import HEADS_MAX, LAYERS_MAX, Activation, AttentionSpec, FeedForwardSpec, Heads
from dcsim.spec.mapping import Precision
from dcsim.spec.section import Count, Named, Positive, Section, some

Layers = Annotated[Positive, Field(le=LAYERS_MAX)]

# The figures of a layer that stand at the top where all layers are alike.
PLAIN = ("heads", "kv_heads", "d_head", "d_ff")


class PatternSpec(Section):
    """Layers that follow one another: which kind mixes their tokens, and which works on each."""

    layers: Layers = Field(default=1, description="How many of them.")
    attention: str | Annotated[tuple[str, ...], AfterValidator(some)] | None = Field(
        default=None, description="A key of `attention`, several that work side by side on one input, or none."
    )
    feed_forward: str | None = Field(default=None, description="A key of `feed_forward`, or none.")


class PredictionSpec(Section):
    """Layers that predict tokens further ahead (multi-token prediction), each with a product of twice the width in front."""

    layers: Layers = Field(description="How many of them.")
    attention: str | None = Field(default=None, description="A key of `attention`, or none.")
    feed_forward: str | None = Field(default=None, description="A key of `feed_forward`, or none.")


class EncoderSpec(Section):
    """An encoder: of speech or text for cross-attention, or a tower that makes tokens of the prompt from an image or sound."""

    joins: Literal["cross_attention", "prompt", "alone"] = Field(
        description="What its output is: keys and values of cross-attention, tokens of the prompt, or the answer itself "
        "(an LLM that only encodes)."
    )
    inputs: Count = Field(default=1, description="Images or clips that come with a request; 0: text alone.")
    layers: Layers = Field(description="Layers of full attention, all tokens to all.")
    d_model: Positive = Field(description="Width of its residual stream.")
    heads: Heads = Field(description="Query heads.")
    kv_heads: Heads = Field(description="Key/value heads.")
    d_head: Positive = Field(description="Width of one head.")
    d_ff: Positive = Field(description="Hidden width of the feed-forward block.")
    activation: Activation = Field(description="Feed-forward activation.")
    tokens: Count = Field(default=0, description="Positions of one input (patches of an image); 0: as many as the prompt has.")
    d_input: Count = Field(default=0, description="Elements of one patch, brought to d_model by a product; 0: none is counted.")
    tokens_out: Count = Field(default=0, description="Tokens handed on for one input; 0: as many.")
    projections: tuple[tuple[Positive, Positive], ...] = Field(
        default=(), description="Products that bring its output to the LLM's width, as pairs of input and output width."
    )


class StoredPrecision(Section):
    """How the weights are stored, part by part, as a checkpoint has them; a part without a word is as `weights` says."""

    weights: Precision = Field(description="All that is not named below.")
    attention: Precision | None = Field(default=None, description="Products of attention.")
    state: Precision | None = Field(default=None, description="Products of linear attention and state space layers.")
    dense: Precision | None = Field(default=None, description="Dense feed-forward blocks.")
    experts: Precision | None = Field(default=None, description="Routed experts.")
    shared: Precision | None = Field(default=None, description="Shared experts.")
    router: Precision | None = Field(default=None, description="Routers.")
    norm: Precision | None = Field(default=None, description="Norms and other vectors.")
    embedding: Precision | None = Field(default=None, description="Embedding tables.")
    head: Precision | None = Field(default=None, description="Output head.")
    encoder: Precision | None = Field(default=None, description="Encoders and towers.")
    activations: Precision | None = Field(
        default=None, description="What enters the products of parts stored in 8 bits or fewer, where a chip multiplies it."
    )


class LlmSpec(Named):
    """A transformer or a relative of it. Encoder-only when `layers` is 0."""

    layers: Count = Field(le=LAYERS_MAX, description="Decoder layers; 0 for an encoder-only architecture.")
    d_model: Positive = Field(description="Width of the residual stream.")
    vocab: Positive = Field(description="Vocabulary size.")
    context_max: Positive = Field(default=4096, description="Longest context it was built for, in tokens.")
    heads: Count = Field(default=0, le=HEADS_MAX, description="Query heads of every layer, where all are alike.")
    kv_heads: Count = Field(default=0, le=HEADS_MAX, description="Key/value heads; fewer than heads for grouped-query attention.")
    d_head: Count = Field(default=0, description="Width of one head.")
    d_ff: Count = Field(default=0, description="Hidden width of the feed-forward block (of one expert, if there are experts).")
    activation: Activation = Field(
        default="swiglu",
        description="Feed-forward activation; the gated ones have a third matrix. Kinds of layers have their own.",
    )
    experts: Positive = Field(default=1, description="Experts per feed-forward block.")
    experts_active: Positive = Field(default=1, description="Experts each token visits.")
    attention: dict[str, AttentionSpec] = Field(
        default_factory=dict, description="Where layers differ: the kinds of attention and state there are, by name."
    )
    feed_forward: dict[str, FeedForwardSpec] = Field(
        default_factory=dict, description="Where layers differ: the kinds of feed-forward blocks there are, by name."
    )
    pattern: tuple[PatternSpec, ...] = Field(
        default=(), description="Where layers differ: which are which, first to last; it repeats until there are `layers`."
    )
    prediction: PredictionSpec | None = Field(default=None, description="Layers that predict further tokens; none by default.")
    encoders: dict[str, EncoderSpec] = Field(default_factory=dict, description="Encoders and towers by name; none by default.")
    parallel_attention: bool = Field(default=False, description="Attention and feed-forward share one input and one all-reduce.")
    norms: Literal[1, 2] = Field(default=1, description="Norms of a block: before it, or before and after.")
    residual_streams: Positive = Field(
        default=1,
        description="Residual streams that are mixed before and after each block (hyper-connections, arXiv:2409.19606).",
    )
    tied_embeddings: bool = Field(default=False, description="Input embedding and output head share one matrix.")
    d_embedding: Count = Field(default=0, description="Width of both tables where it is not d_model; 0: d_model.")
    d_layer_input: Count = Field(
        default=0, description="Width of a token's further embedding for each layer (Gemma 3n and 4); 0: none."
    )
    vocab_layer_input: Count = Field(default=0, description="Rows of that table; 0: vocab.")
    positions: Count = Field(default=0, description="Learned position embeddings; 0 for rotary.")
    precision: StoredPrecision | None = Field(default=None, description="How its weights are stored, if that is known.")
    assumed: tuple[str, ...] = Field(default=(), description="What was taken for granted when it was read from a foreign file.")

    @model_validator(mode="after")
    def _layers_are_said_once(self) -> LlmSpec:
        _check_layers(self.__dict__, self.model_fields_set)  # not self: looking here is not having an effect
        return self


def _check_layers(llm: dict[str, Any], given: set[str]) -> None:
    """Raise ValueError unless the layers are said in one of the two ways."""
    if llm["experts_active"] > llm["experts"]:
        raise ValueError(f"experts_active of {llm['experts_active']} is more than the {llm['experts']} experts there are")
    if llm["pattern"]:
        _check_pattern(llm)
        plain, fields = (*PLAIN, "experts", "experts_active", "activation"), LlmSpec.model_fields
        twice = [key for key in plain if key in given and llm[key] != fields[key].default]  # a saved spec has every key
        if twice:
            raise ValueError(f"'{twice[0]}' stands at the top and layers have a pattern; give it to the kinds it belongs to")
    elif llm["layers"]:
        missing = [key for key in PLAIN if not llm[key]] + [key for key in ("activation",) if key not in given]
        if missing:
            raise ValueError(f"'{missing[0]}' is missing; where layers differ, give `attention`, `feed_forward` and `pattern`")
        if llm["heads"] % llm["kv_heads"]:
            raise ValueError(f"heads of {llm['heads']} is not a multiple of kv_heads, {llm['kv_heads']}")
    elif not llm["encoders"]:
        raise ValueError("has neither layers nor encoders")


def _check_pattern(llm: dict[str, Any]) -> None:
    places = [place.__dict__ for place in (*llm["pattern"], *filter(None, [llm["prediction"]]))]
    for place in places:
        for key in ("attention", "feed_forward"):
            names = place[key]
            for name in (names,) if isinstance(names, str) else names or ():
                if name not in llm[key]:
                    raise ValueError(
                        f"pattern names the {key} '{name}', which is not there; known: {', '.join(llm[key]) or 'none'}"
                    )
    count = sum(place.__dict__["layers"] for place in llm["pattern"])
    if count > llm["layers"]:
        raise ValueError(f"the pattern has {count} layers, more than {llm['layers']}")
