"""The kinds of layers: for each `kind:` of `spec.layers` what it holds, keeps and does. A new one is a line in a table here.

All answer the same questions, each for `tp` shards: `weights(tp)`, `stored(tp)` (what a sequence leaves behind),
`steps(plan, rows)` (between the norm and the exchange that every block has), and `token_flop(context)`: arithmetic beside the
weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from dcsim.llm.blocks import Step
from dcsim.llm.kinds.compressed import Compressed
from dcsim.llm.kinds.feed_forward import Dense, Routed, Square
from dcsim.llm.kinds.full import Cross, Full
from dcsim.llm.kinds.latent import Latent
from dcsim.llm.kinds.states import Convolution, Delta, Lightning, StateSpace, StateSpace2
from dcsim.llm.plan import Plan
from dcsim.llm.storage import ATTENTION, Stored, Weight


class Kind(Protocol):
    """What each kind of layer answers."""

    def weights(self, tp: int) -> list[Weight]:
        """Its matrices and vectors."""

    def stored(self, tp: int) -> list[Stored]:
        """What one sequence keeps."""

    def token_flop(self, context: int) -> int:
        """FLOPs of one token at `context` beside 2 for each weight it meets."""

    def steps(self, plan: Plan, rows: int) -> list[Step]:
        """Operations on `rows` rows; on each shard a part of the sum that is the block's result."""


class Attention(Kind, Protocol):
    """A kind that mixes tokens."""

    @property
    def heads(self) -> int:
        """What is cut over shards in whole pieces: there can be no more shards."""


# Each takes the section, the layer's width, and the tokens of an encoder that cross-attention looks at.
ATTENTIONS: dict[str, Callable[[Any, int, int], Attention]] = {
    "full": lambda spec, d, _: Full(spec, d),
    "windowed": lambda spec, d, _: Full(spec, d),
    "chunked": lambda spec, d, _: Full(spec, d),
    "cross": lambda spec, d, tokens: Cross(spec, d, tokens),
    "latent": lambda spec, d, _: Latent(spec, d),
    "compressed": lambda spec, d, _: Compressed(spec, d),
    "delta": lambda spec, d, _: Delta(spec, d),
    "lightning": lambda spec, d, _: Lightning(spec, d),
    "mamba": lambda spec, d, _: StateSpace(spec, d),
    "mamba2": lambda spec, d, _: StateSpace2(spec, d),
    "convolution": lambda spec, d, _: Convolution(spec, d),
    "linear": lambda spec, d, _: Square(d, ATTENTION),
}

FEED_FORWARDS: dict[str, Callable[[Any, int], Kind]] = {
    "dense": lambda spec, d: Dense(spec.d_ff, spec.activation, d),
    "routed": lambda spec, d: Routed(spec, d),
    "linear": lambda spec, d: Square(d),
}
