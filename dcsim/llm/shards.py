"""How the blocks of an LLM are cut over the chips of one stage (tensor parallel); shares may be uneven by
one.
"""

from __future__ import annotations

from dataclasses import dataclass

from dcsim.errors import SpecError
from dcsim.llm import architecture as arch
from dcsim.spec.llm import LlmSpec


@dataclass(frozen=True, slots=True)
class Shards:
    """What each of `tp` shards holds of heads, hidden columns, vocabulary and width: tuples of length tp.

    `groups[r]` lists, for each key/value head that shard r needs, how many of its query heads r holds. A
    key/value head whose query heads lie on several shards is stored on each of them.
    """

    groups: tuple[tuple[int, ...], ...]
    ff: tuple[int, ...]
    vocab: tuple[int, ...]
    width: tuple[int, ...]

    @property
    def tp(self) -> int:
        """Chips that share a block."""
        return len(self.ff)

    @property
    def heads(self) -> tuple[int, ...]:
        """Query heads of each shard."""
        return tuple(sum(group) for group in self.groups)

    @property
    def kv_heads(self) -> tuple[int, ...]:
        """Key/value heads of each shard, copies included."""
        return tuple(len(group) for group in self.groups)


def split(total: int, parts: int) -> tuple[int, ...]:
    """`total` in `parts` whole shares that differ by at most one, larger ones first."""
    share, rest = divmod(total, parts)
    return tuple(share + (i < rest) for i in range(parts))


def cut(llm: LlmSpec, tp: int) -> Shards:
    """Cut `llm` over `tp` chips. Raises SpecError if there are more chips than query heads."""
    if tp > llm.heads:
        raise SpecError(f"mapping.tp of {tp} exceeds the {llm.heads} query heads: a shard would hold none")
    if llm.heads % llm.kv_heads:
        raise SpecError(f"llm.heads of {llm.heads} is not a multiple of llm.kv_heads, {llm.kv_heads}")
    per_group = llm.heads // llm.kv_heads
    groups, start = [], 0
    for count in split(llm.heads, tp):
        end = start + count
        owners = range(start // per_group, (end - 1) // per_group + 1)
        groups.append(tuple(min(end, (g + 1) * per_group) - max(start, g * per_group) for g in owners))
        start = end
    return Shards(tuple(groups), split(llm.d_ff, tp), split(llm.vocab, tp), split(llm.d_model, tp))


def block_weights(llm: LlmSpec, shards: Shards, kind: str) -> tuple[int, ...]:
    """Weights each shard stores of one block of `kind`: norms and the router of experts are on every shard."""
    d, d_head = llm.d_model, llm.d_head
    per_column = arch.up_columns(llm, 1) * d + d  # up-projections and the down-projection
    router = d * llm.experts if llm.experts > 1 else 0
    attention = [2 * d * d_head * (h + kv) + d for h, kv in zip(shards.heads, shards.kv_heads, strict=True)]
    feed_forward = [llm.experts * per_column * columns + router + d for columns in shards.ff]
    if kind == arch.EMBEDDING:
        rows = arch.block_parameters(llm, kind) // d
        return tuple(rows * width for width in shards.width)
    if kind == arch.HEAD:
        return tuple(d * (rows + 1) for rows in shards.vocab)
    if kind == arch.PARALLEL_LAYER:
        return tuple(a + f - d for a, f in zip(attention, feed_forward, strict=True))
    if kind in (arch.FEED_FORWARD, arch.ENCODER_FEED_FORWARD):
        return tuple(feed_forward)
    return tuple(attention)


def block_kv_elements(llm: LlmSpec, shards: Shards, kind: str) -> tuple[int, ...]:
    """Key and value elements each shard keeps of one block for each token of context.

    Cross-attention keeps those of `encoder_tokens` for each sequence; they are spread over the longest
    context.
    """
    if kind in (arch.ATTENTION, arch.PARALLEL_LAYER):
        tokens = 1
    elif kind == arch.CROSS_ATTENTION:
        tokens = -(-llm.encoder_tokens // llm.context_max)
    else:
        tokens = 0
    return tuple(2 * llm.d_head * kv * tokens for kv in shards.kv_heads)
