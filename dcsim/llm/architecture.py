"""An LLM as a list of layers, its layers as a list of blocks, and what all of them hold: parameters, bytes, arithmetic.

A transformer layer is one attention block and one feed-forward block (with cross-attention between them in the decoder of an
encoder-decoder); where both share one input, the layer is one block. Pipeline stages are cut at block boundaries, so a block is
the smallest thing a stage can hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, cycle, islice

from dcsim.llm.kinds import ATTENTIONS, FEED_FORWARDS, Attention, Kind
from dcsim.llm.kinds.feed_forward import Dense
from dcsim.llm.kinds.full import Cross, Full
from dcsim.llm.precision import own_format
from dcsim.llm.storage import EMBEDDING, ENCODER, HEAD, Stored, Weight
from dcsim.llm.sublayers import Embedding, Head, Layer, LayerInput, Sublayer, Tower, TowerInput, TowerLayer, TowerOutput
from dcsim.spec.layers import CrossAttention, FullAttention, RoutedFeedForward
from dcsim.spec.llm import EncoderSpec, LlmSpec, PatternSpec, PredictionSpec
from dcsim.spec.mapping import BYTES, stored_bytes

# The only kinds of attention and feed-forward of an LLM whose layers are all alike.
_ALL = "all"

Names = tuple[tuple[str, ...], str | None]  # the keys of a layer's attentions, side by side, and of its feed-forward


def layer_names(llm: LlmSpec) -> list[Names]:
    """Which kinds each decoder layer has, first to last."""
    if not llm.pattern:
        return [((_ALL,), _ALL)] * llm.layers
    turns = [_names(place) for place in llm.pattern for _ in range(place.layers)]
    return list(islice(cycle(turns), llm.layers))


def layer_kinds(llm: LlmSpec) -> dict[str, int]:
    """How many layers of each kind there are, as `attention + feed-forward`, in order of appearance."""
    makers = _Makers(llm)
    counts: dict[str, int] = {}
    for attentions, feed_forward in layer_names(llm):
        parts = [" beside ".join(makers.attention_spec(name).kind for name in attentions)] if attentions else []
        parts += [makers.feed_forward_kind(feed_forward)] if feed_forward else []
        label = " + ".join(parts) or "nothing"
        counts[label] = counts.get(label, 0) + 1
    return counts


def sublayers(llm: LlmSpec) -> tuple[Sublayer, ...]:
    """The blocks, first to last; equal ones are the same object.

    An encoder in front of a decoder comes before the embedding of the decoder's tokens; an encoder alone
    comes after the embedding and has no head, since it gives vectors and not tokens.
    """
    makers = _Makers(llm)
    towers = [block for encoder in llm.encoders.values() for block in _tower(encoder)]
    start = makers.embedding()
    if not llm.layers:
        return (start, *towers)
    layers = [block for names in layer_names(llm) for block in makers.layer(names)]
    return (*towers, start, *layers, makers.head())


def layer_blocks(llm: LlmSpec) -> tuple[tuple[int, ...], ...]:
    """Indexes, in `sublayers`, of the blocks of each layer: those of towers in front, then the decoder's."""
    makers = _Makers(llm)
    towers = [len(_tower(encoder)) for encoder in llm.encoders.values()]
    if not llm.layers:
        return tuple((i,) for i in range(1, 1 + sum(towers)))
    sizes = [1] * sum(towers) + [0] + [len(makers.layer(names)) for names in layer_names(llm)]
    starts = list(accumulate([0, *(size or 1 for size in sizes)]))
    return tuple(tuple(range(start, start + size)) for start, size in zip(starts, sizes, strict=False) if size)


def prediction_sublayers(llm: LlmSpec) -> tuple[tuple[Sublayer, ...], list[Weight]]:
    """The blocks of the layers that predict further tokens, and the product in front of each; nothing if there are none."""
    if llm.prediction is None:
        return (), []
    makers = _Makers(llm)
    blocks = makers.layer(_names(llm.prediction)) * llm.prediction.layers
    return blocks, [Weight(HEAD, ((2 * llm.d_model, llm.d_model),))] * llm.prediction.layers


def degree_max(llm: LlmSpec) -> int:
    """The most shards a layer can be cut into: whole heads of each kind of attention, at least one a shard."""
    makers = _Makers(llm)
    heads = [makers.attention(name).heads for names in set(layer_names(llm)) for name in names[0]]
    if not llm.layers:
        heads = [encoder.heads for encoder in llm.encoders.values()]
    return min(heads, default=llm.d_model)


class _Makers:
    """Makes an LLM's blocks, each kind once."""

    def __init__(self, llm: LlmSpec) -> None:
        self._llm = llm
        self._layers: dict[Names, tuple[Layer, ...]] = {}
        self._cross = next((e for e in llm.encoders.values() if e.joins == "cross_attention"), None)

    @property
    def encoder_tokens(self) -> int:
        """Tokens that cross-attention looks at."""
        encoder = self._cross
        return encoder.inputs * (encoder.tokens_out or encoder.tokens) if encoder else 0

    def attention_spec(self, name: str) -> FullAttention | CrossAttention:
        """The section of an attention by its key; for an LLM whose layers are all alike, made of the figures at the top."""
        llm = self._llm
        if name != _ALL or llm.pattern:
            return llm.attention[name]  # type: ignore[return-value]  # any kind: what all have in common is all that is read here
        return FullAttention(kind="full", heads=llm.heads, kv_heads=llm.kv_heads, d_head=llm.d_head)

    def attention(self, name: str) -> Attention:
        """The kind of attention of a key."""
        spec = self.attention_spec(name)
        return ATTENTIONS[spec.kind](spec, self._llm.d_model, self.encoder_tokens)

    def feed_forward_kind(self, name: str) -> str:
        """What the feed-forward of a key is called."""
        llm = self._llm
        if name != _ALL or llm.pattern:
            spec = llm.feed_forward[name]
            return "routed and shared" if isinstance(spec, RoutedFeedForward) and spec.shared_d_ff else spec.kind
        return "routed" if llm.experts > 1 else "dense"

    def feed_forward(self, name: str) -> Kind:
        """The kind of feed-forward of a key."""
        llm = self._llm
        if name != _ALL or llm.pattern:
            spec = llm.feed_forward[name]
            return FEED_FORWARDS[spec.kind](spec, llm.d_model)
        if llm.experts == 1:
            return Dense(llm.d_ff, llm.activation, llm.d_model)
        routed = RoutedFeedForward(
            kind="routed", experts=llm.experts, experts_active=llm.experts_active, d_ff=llm.d_ff, activation=llm.activation
        )
        return FEED_FORWARDS["routed"](routed, llm.d_model)

    def layer(self, names: Names) -> tuple[Layer, ...]:
        """The blocks of a layer."""
        if names not in self._layers:
            self._layers[names] = tuple(self._make_layer(*names))
        return self._layers[names]

    def _make_layer(self, attentions: tuple[str, ...], feed_forward: str | None) -> Iterator[Layer]:
        llm = self._llm
        mixing = tuple(self.attention(name) for name in attentions)
        after = (self.feed_forward(feed_forward),) if feed_forward else ()
        if mixing and after and llm.parallel_attention and len(mixing) == 1:
            yield self._block("parallel_layer", (*mixing, *after), parallel=True, last=True)
            return
        if mixing:
            kind = "cross_attention" if all(isinstance(kind, Cross) for kind in mixing) else "attention"
            yield self._block(kind, mixing, last=not after)
            if self._cross and not llm.pattern:  # the decoder of an encoder-decoder: in every layer
                cross = CrossAttention(kind="cross", heads=llm.heads, kv_heads=llm.kv_heads, d_head=llm.d_head)
                yield self._block("cross_attention", (Cross(cross, llm.d_model, self.encoder_tokens),))
        if after:
            yield self._block("feed_forward", after, last=True)

    def _block(self, kind: str, inner: tuple[Kind, ...], parallel: bool = False, last: bool = False) -> Layer:
        llm = self._llm
        extra = (
            LayerInput(llm.vocab_layer_input or llm.vocab, llm.d_layer_input, llm.d_model) if llm.d_layer_input and last else None
        )
        return Layer(kind, inner, llm.d_model, llm.norms, llm.residual_streams, extra, parallel)

    def embedding(self) -> Embedding:
        """The table of tokens; positions of encoders that have no product in front stand with it."""
        llm = self._llm
        positions = llm.positions + sum(encoder.tokens for encoder in llm.encoders.values() if not encoder.d_input)
        return Embedding(llm.vocab, positions, llm.d_model, llm.d_embedding or llm.d_model)

    def head(self) -> Head:
        """The table of the tokens to choose from."""
        llm = self._llm
        return Head(llm.vocab, llm.d_model, llm.d_embedding or llm.d_model, llm.residual_streams)


def _names(place: PatternSpec | PredictionSpec) -> Names:
    attention = place.attention
    return (attention,) if isinstance(attention, str) else tuple(attention or ()), place.feed_forward


def _tower(encoder: EncoderSpec) -> list[Sublayer]:
    tower, d = Tower(encoder), encoder.d_model
    full = FullAttention(kind="full", heads=encoder.heads, kv_heads=encoder.kv_heads, d_head=encoder.d_head)
    attention = TowerLayer("encoder_attention", Full(full, d, ENCODER), tower)
    feed_forward = TowerLayer("encoder_feed_forward", Dense(encoder.d_ff, encoder.activation, d, ENCODER), tower)
    layers: list[Sublayer] = [attention, feed_forward] * encoder.layers
    front: list[Sublayer] = [TowerInput(tower)] if encoder.d_input else []
    return [*front, *layers, *([TowerOutput(tower)] if encoder.projections else [])]


# What the whole LLM holds


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of an LLM: `text` and its `encoders` and towers (a tied head counts once), those of `prediction` layers apart.

    `active` are those of text without the experts that a token does not visit. The `embedding` counts in both, though a token
    reads one row of it; makers differ there.
    """

    text: int
    encoders: int
    prediction: int
    active: int
    embedding: int

    @property
    def total(self) -> int:
        """Text and towers."""
        return self.text + self.encoders


def parameters(llm: LlmSpec) -> Parameters:
    """Counted block by block. Norms are counted; biases, token types and poolers are left out: together under half a percent."""
    blocks = sublayers(llm)
    towers = [block for block in blocks if isinstance(block, (TowerInput, TowerLayer, TowerOutput))]
    text = [block for block in blocks if not isinstance(block, (TowerInput, TowerLayer, TowerOutput))]
    further, joints = prediction_sublayers(llm)
    encoders = _elements(weights_of(towers)) if llm.layers else 0
    table = llm.vocab * (llm.d_embedding or llm.d_model)
    shared = table if llm.tied_embeddings and llm.layers else 0
    everything = _elements(weights_of(text if llm.layers else blocks))
    idle = sum(weight.idle for weight in weights_of(text))
    return Parameters(
        everything - shared, encoders, _elements([*weights_of(further), *joints]), everything - shared - idle, table
    )


def parameter_count(llm: LlmSpec) -> int:
    """Parameters as published: text and towers, without layers that predict further tokens."""
    return parameters(llm).total


def active_parameter_count(llm: LlmSpec) -> int:
    """Parameters one token meets: all but the experts it does not visit."""
    return parameters(llm).active


def weights_of(blocks: Iterable[Sublayer]) -> list[Weight]:
    """Every weight of the blocks, uncut."""
    return [weight for block in blocks for weight in block.weights(1)]


def _elements(weights: Iterable[Weight]) -> int:
    return sum(weight.elements[0] for weight in weights)


def own_weight_bytes(llm: LlmSpec) -> int:
    """Bytes of text and towers as the LLM's own file stores them; a tied head counts once."""
    elements: dict[str, int] = {}
    for weight in weights_of(sublayers(llm)):
        elements[weight.part] = elements.get(weight.part, 0) + weight.elements[0]
    if llm.tied_embeddings and llm.layers:
        elements[EMBEDDING] -= llm.vocab * (llm.d_embedding or llm.d_model)
    return sum(stored_bytes(count, own_format(llm, part)) for part, count in elements.items())


def stored_of(llm: LlmSpec) -> list[Stored]:
    """What one sequence keeps in all blocks, uncut."""
    return [stored for block in sublayers(llm) for stored in block.stored(1)]


def kv_bytes(llm: LlmSpec, context: int, precision: str) -> int:
    """Bytes that one sequence of `context` tokens keeps: keys and values in `precision`, states in their own."""
    return sum(
        stored_bytes(sum(stored.elements) * stored.growth.entries(context), stored.precision or precision)
        for stored in stored_of(llm)
    )


def kv_bytes_per_token(llm: LlmSpec, element_bytes: int | float) -> float:
    """Bytes a token adds on average up to full context: 2 x layers x kv heads x d_head x bytes where layers keep all."""
    context = llm.context_max
    total = sum(
        sum(stored.elements) * stored.growth.entries(context) * (BYTES[stored.precision] if stored.precision else element_bytes)
        for stored in stored_of(llm)
    )
    return total / context


def flop_per_token(llm: LlmSpec, context: int) -> int:
    """FLOPs of one token decoded at `context`: 2 for each weight of a matrix it meets, and what attention and states do beside
    them (full attention: 4 for each query-head element and context token). The embedding is a look-up and costs none.
    """
    blocks = [block for block in sublayers(llm) if not isinstance(block, (TowerInput, TowerLayer, TowerOutput))]
    return sum(2 * sum(weight.met for weight in block.weights(1)) + block.token_flop(context) for block in blocks)
