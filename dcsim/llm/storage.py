"""What a block of an LLM keeps: weights, and what each sequence leaves behind (keys and values, or a state)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The parts of an LLM that a checkpoint may store in precisions of their own, as `spec.llm.StoredPrecision` calls them.
ATTENTION, STATE, DENSE, EXPERTS, SHARED, ROUTER = "attention", "state", "dense", "experts", "shared", "router"
NORM, EMBEDDING, HEAD, ENCODER = "norm", "embedding", "head", "encoder"

# Parts that are no matrices of a product: a look-up, or a vector.
NOT_MULTIPLIED = (NORM, EMBEDDING)


@dataclass(frozen=True, slots=True)
class Weight:
    """Stored matrices of one kind: `count` of shape (k, n) on each shard, of which a token meets `active`.

    `shapes` has one entry for each shard. A matrix that is not cut has the same on all.
    """

    part: str
    shapes: tuple[tuple[int, int], ...]
    count: int = 1
    active: int = -1  # -1: all

    @property
    def elements(self) -> tuple[int, ...]:
        """Elements on each shard."""
        return tuple(self.count * k * n for k, n in self.shapes)

    @property
    def met(self) -> int:
        """Elements one token meets in products, on all shards."""
        if self.part in NOT_MULTIPLIED:
            return 0
        return sum(self.elements) - self.idle

    @property
    def idle(self) -> int:
        """Elements one token does not meet, on all shards."""
        return (0 if self.active < 0 else self.count - self.active) * sum(k * n for k, n in self.shapes)


def whole(part: str, k: int, n: int, tp: int, count: int = 1) -> Weight:
    """A matrix that every shard has all of."""
    return Weight(part, ((k, n),) * tp, count)


def by_columns(part: str, k: int, columns: tuple[int, ...], count: int = 1, active: int = -1) -> Weight:
    """A matrix cut by its output columns."""
    return Weight(part, tuple((k, n) for n in columns), count, active)


def by_rows(part: str, rows: tuple[int, ...], n: int, count: int = 1, active: int = -1) -> Weight:
    """A matrix cut by its input rows: what the shards yield is summed."""
    return Weight(part, tuple((k, n) for k in rows), count, active)


@dataclass(frozen=True, slots=True)
class Growth:
    """How many entries of something a sequence keeps at a context: one for each token, for its last `tokens_max` tokens, for
    every `stride` tokens, or as many as ever (`always`).
    """

    tokens_max: int = 0  # 0: no limit
    stride: int = 1
    always: int = 0

    def entries(self, context: int) -> int:
        """Entries at `context` tokens."""
        if self.always:
            return self.always
        seen = min(context, self.tokens_max) if self.tokens_max else context
        return seen // self.stride

    def all_entries(self, contexts: NDArray[np.int64]) -> NDArray[np.int64]:
        """`entries` at each of many contexts."""
        if self.always:
            return np.full_like(contexts, self.always)
        seen = np.minimum(contexts, self.tokens_max) if self.tokens_max else contexts
        return seen // self.stride


EACH_TOKEN = Growth()


@dataclass(frozen=True, slots=True)
class Stored:
    """What one sequence keeps in one block: `elements` on each shard for every entry of `growth`.

    In the precision of the KV cache, unless it has its own.
    """

    growth: Growth
    elements: tuple[int, ...]
    precision: str = ""


def split(total: int, parts: int) -> tuple[int, ...]:
    """`total` in `parts` whole shares that differ by at most one, larger ones first."""
    share, rest = divmod(total, parts)
    return tuple(share + (i < rest) for i in range(parts))


def head_groups(heads: int, kv_heads: int, tp: int) -> tuple[tuple[int, ...], ...]:
    """For each shard and each key/value head it needs, how many of its query heads it holds.

    Query heads are cut as evenly as whole heads allow. A key/value head whose query heads lie on several shards is stored on each
    of them. Shards beyond the heads hold none.
    """
    per_group = heads // kv_heads
    groups, start = [], 0
    for count in split(heads, tp):
        end = start + count
        owners = range(start // per_group, (end - 1) // per_group + 1) if count else ()
        groups.append(tuple(min(end, (g + 1) * per_group) - max(start, g * per_group) for g in owners))
        start = end
    return tuple(groups)
