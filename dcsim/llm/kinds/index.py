"""The indexer of sparse attention: scores every token (or compressed entry) cheaply and picks the best."""

from __future__ import annotations

from dataclasses import dataclass

from dcsim.llm.blocks import Step
from dcsim.llm.plan import Plan, View
from dcsim.llm.storage import ATTENTION, Growth, Stored, Weight, whole
from dcsim.spec.layers import IndexSpec


@dataclass(frozen=True, slots=True)
class Index:
    """Queries of `d_query` wide input, one key a token; every shard does all of it, since a pick needs all heads' scores."""

    spec: IndexSpec
    d_model: int
    d_query: int
    key_columns: int = 0  # 0: the key's width; more where a compressor makes it

    def weights(self, tp: int) -> list[Weight]:
        """Queries; keys and the heads' weights. None where an earlier layer's picks are used."""
        s = self.spec
        if s.shared:
            return []
        return [
            whole(ATTENTION, self.d_query, s.heads * s.d_head, tp),
            whole(ATTENTION, self.d_model, (self.key_columns or s.d_head) + s.heads, tp),
        ]

    def stored(self, tp: int, growth: Growth) -> list[Stored]:
        """One key for every entry."""
        return [] if self.spec.shared else [Stored(growth, (self.spec.d_head,) * tp)]

    def seen(self, entries: int) -> int:
        """Entries left for the large attention."""
        return min(entries, self.spec.tokens)

    def token_flop(self, entries: int) -> int:
        """FLOPs of one token's scores."""
        return 0 if self.spec.shared else 2 * self.spec.heads * self.spec.d_head * entries

    def steps(self, plan: Plan, rows: int, entries: int) -> list[Step]:
        """Products, scores of all entries, and the choice among them; nothing to choose where all are picked."""
        s = self.spec
        if s.shared:
            return []
        query, key = self.weights(plan.tp)
        make: list[Step] = [
            plan.products("index_query", query, rows),
            plan.products("index_key", key, rows),
            plan.vector("index_store", rows, ((s.heads + 1) * s.d_head,) * plan.tp),
        ]
        if entries <= s.tokens:
            return make
        view = View(((s.heads,),) * plan.tp, s.d_head, 0, entries, rows // plan.shape.batch)
        return [
            *make,
            plan.scores("index_scores", rows, plan.shape.batch, view),
            plan.vector("pick", rows, ((s.heads + 1) * entries,) * plan.tp),
        ]
