"""All that a block's steps follow from, and how steps are made: products with weights, attention, states, vectors, exchanges."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from dcsim.llm.blocks import Collective, Operation, Shape, Step
from dcsim.llm.cost import ALL, Work, operation_cost
from dcsim.llm.precision import active_bytes, format_of
from dcsim.llm.storage import EXPERTS, Weight
from dcsim.spec.chip import Chip, LpuChip, RooflineChip
from dcsim.spec.llm import LlmSpec
from dcsim.spec.mapping import BYTES, MappingSpec

# Passes of the vector unit over a row: add the residual, sum the squares, scale; maximum, exponentials with
# their sum, scale.
NORM_PASSES, SOFTMAX_PASSES = 3, 3

# Tokens of a prompt that a linear attention works on at once (Yang et al., arXiv:2312.06635); between them the state passes.
STATE_CHUNK = 64

Counts = tuple[int, ...]  # one for each shard
Products = tuple[tuple[int, int, int, int], ...]  # as of `cost.Work`


def sum_bytes(spec: MappingSpec) -> int:
    """Bytes of one element between products: what chips exchange and sum is never narrower than 16 bit."""
    return 2 if spec.activations == "stored" else max(2, int(BYTES[spec.activations]))


@dataclass(frozen=True)
class Plan:
    """The LLM, the chip, the mapping and the shape: `tp` shards work on `shape`."""

    llm: LlmSpec
    chip: Chip
    spec: MappingSpec
    tp: int
    shape: Shape

    @cached_property
    def sum_bytes(self) -> int:
        """Of this mapping."""
        return sum_bytes(self.spec)

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of one row of what blocks add to the residual stream."""
        return self.llm.d_model * self.sum_bytes

    @property
    def whole_kernels(self) -> bool:
        """Whether the chip says what kernels take that do all of an attention, or of a layer's experts, at once."""
        return isinstance(self.chip, RooflineChip) and self.chip.operators is not None

    @property
    def static(self) -> bool:
        """Whether the program is fixed before the tokens are known, as on chips without schedulers of their own."""
        return isinstance(self.chip, LpuChip)

    def products(self, name: str, weight: Weight, rows: int) -> Operation:
        """`rows` rows times each of the weight's matrices."""
        return self.routed(name, weight, ((weight.count, rows),), rows)

    def routed(self, name: str, weight: Weight, groups: tuple[tuple[int, int], ...], rows: int) -> Operation:
        """Of the weight's matrices `count` meet `met` rows each, for each (count, met) of `groups`; `rows` rows come in."""
        stored = BYTES[format_of(self.llm, self.spec, weight.part)]
        active = active_bytes(self.llm, self.spec, self.chip, weight.part)
        kernel = "experts" if weight.part == EXPERTS else ""
        works = [
            Work("matrix", rows, rows, tuple((count, met, k, n) for count, met in groups), stored, active, kernel=kernel)
            for k, n in weight.shapes
        ]
        return self._operation(name, works)

    def vector(self, name: str, rows: int, elements: Counts, fused: bool = False) -> Operation:
        """A vector operation on `elements` of each row, one count for each shard."""
        active = self.sum_bytes
        return self._operation(
            name, [Work("vector", rows, 1, elements=rows * n, active_bytes=active, fused=fused) for n in elements]
        )

    def norm(self, rows: int, width: int) -> Operation:
        """Every shard has the whole row and norms all of it."""
        return self.vector("norm", rows, (NORM_PASSES * width,) * self.tp)

    def attend(self, rows: int, sequences: int, view: View) -> list[Step]:
        """Scores, softmax and weighted sum of `rows` rows of `sequences` sequences over the keys and values of `view`.

        The whole rectangle: a static program cannot skip the masked part. Kernels that do all of it at once skip it.
        """
        if self.whole_kernels:
            return [self._attention("attention", rows, sequences, view)]
        softmax = tuple(SOFTMAX_PASSES * sum(groups) * view.keys for groups in view.groups)
        return [
            self._against("scores", rows, sequences, view, view.d_key, view.keys),
            self.vector("softmax", rows, softmax, fused=True),
            self._against("weighted_sum", rows, sequences, view, view.keys, view.d_value, again=view.values_are_keys, fused=True),
        ]

    def _against(
        self, name: str, rows: int, sequences: int, view: View, k: int, n: int, again: bool = False, fused: bool = False
    ) -> Operation:
        """Rows against stored keys, or values, [k x n] of each of a shard's key/value heads."""
        tokens = rows // sequences
        parts, inside = (tokens, 1) if view.alone else (-(-tokens // view.together), view.together)
        stored = BYTES[self.spec.kv] if view.cached else 2
        active = max(self.kv_active_bytes, min(stored, 2))
        if again and not self.static:  # the kernel that made the scores has it at hand
            stored = 0
        works = [
            Work(
                "attention",
                rows,
                tokens,
                tuple((sequences * parts, inside * heads, k, n) for heads in groups),
                stored,
                active,
                fused=fused,
            )
            for groups in view.groups
        ]
        return self._operation(name, works)

    def _attention(self, name: str, rows: int, sequences: int, view: View) -> Operation:
        """All of an attention in one kernel: products with keys, then with values; equal groups of heads together."""
        tokens = rows // sequences
        parts, inside = (tokens, 1) if view.alone else (-(-tokens // view.together), view.together)
        stored = BYTES[self.spec.kv] if view.cached else 2
        active = max(self.kv_active_bytes, min(stored, 2))
        works = []
        for groups in view.groups:
            alike = Counter(groups)
            keys, values = (
                tuple((sequences * parts * count, inside * heads, k, n) for heads, count in alike.items())
                for k, n in ((view.d_key, view.keys), (view.keys, view.d_value))
            )
            works.append(
                Work(
                    "attention",
                    rows,
                    inside,
                    keys + values,
                    stored,
                    active,
                    kernel=view.kernel,
                    seen_fraction=view.seen_fraction,
                    stored_products=len(keys) if view.values_are_keys else ALL,
                )
            )
        return self._operation(name, works)

    @cached_property
    def kv_active_bytes(self) -> int | float:
        """Bytes of one element of queries and scores."""
        return 2 if self.spec.activations == "stored" else BYTES[self.spec.activations]

    def scores(self, name: str, rows: int, sequences: int, view: View) -> Operation:
        """Scores alone."""
        if self.whole_kernels:
            return self._attention(name, rows, sequences, view)
        return self._against(name, rows, sequences, view, view.d_key, view.keys)

    def state(self, names: tuple[str, ...], rows: int, heads: Counts, k: int, n: int, precision: str) -> list[Step]:
        """Products of each row with a state of [k x n] for each of a shard's heads, one for each name.

        A prompt's tokens are taken `STATE_CHUNK` at a time; within such a chunk each sees the ones before it.
        """
        sequences = self.shape.batch
        tokens = rows // sequences
        chunk = min(tokens, STATE_CHUNK)
        pieces = sequences * -(-tokens // chunk)
        products = [(name, chunk, k, n, BYTES[precision]) for name in names]
        if tokens > 1:
            products += [("chunk_scores", chunk, k, chunk, 2), ("chunk_sum", chunk, chunk, n, 2)]
        if self.whole_kernels:
            shapes = [tuple((pieces * count, met, a, b) for _, met, a, b, _ in products) if count else () for count in heads]
            return [self._states(rows, shapes, precision)]
        return [
            self._state(
                name, rows, tuple(((pieces * count, met, a, b),) if count else () for count in heads), stored, fused=i > 0
            )
            for i, (name, met, a, b, stored) in enumerate(products)
        ]

    def scan(self, rows: int, channels: Counts, width: int, precision: str) -> list[Step]:
        """Every channel of a shard passes its tokens over a state of its own, `width` wide, one after another.

        A product cannot do it: chips with programs fixed beforehand use their vector unit, others a kernel that reads and writes
        the state once.
        """
        if self.static:
            return [self.vector("scan", rows, tuple(6 * n * width for n in channels))]
        sequences = self.shape.batch
        products = tuple(((sequences, rows // sequences, n, width),) if n else () for n in channels)
        if self.whole_kernels:
            return [self._states(rows, [2 * own for own in products], precision)]
        return [self._state(name, rows, products, BYTES[precision], fused=name == "read") for name in ("change", "read")]

    def _state(
        self, name: str, rows: int, products: tuple[tuple[tuple[int, int, int, int], ...], ...], stored: int | float, fused: bool
    ) -> Operation:
        together = rows // self.shape.batch
        return self._operation(name, [Work("attention", rows, together, own, stored, 2, fused=fused) for own in products])

    def _states(self, rows: int, products: list[Products], precision: str) -> Operation:
        """Change and use of states in one kernel; the first of each shard's products is with the states."""
        together = rows // self.shape.batch
        works = [
            Work("attention", rows, together, own, BYTES[precision], 2, kernel="states", stored_products=1) for own in products
        ]
        return self._operation("states", works)

    def exchange(self, op: str, size_bytes: int, row_bytes: int = 0) -> list[Step]:
        """A collective, or nothing where one chip holds all."""
        rows = max(1, size_bytes // (row_bytes or self.row_bytes))
        return [Collective(op, op, size_bytes, rows)] if self.tp > 1 else []

    def host(self, cycles: int) -> Operation:
        """The host chooses the next token: each shard's token waits for it."""
        times = (cycles,) * self.tp
        return Operation("host", "host", times, times, self.shape.batch, self.shape.batch)

    def _operation(self, name: str, works: list[Work]) -> Operation:
        """Cost the shards' shares; equal shares are costed once."""
        costs = {work: operation_cost(self.chip, work) for work in set(works)}
        stored = tuple(work.read_bytes for work in works)
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


@dataclass(frozen=True, slots=True)
class View:
    """The keys and values that an attention looks at.

    `groups` as of `storage.head_groups`; `keys` of them for `together` rows of a sequence at once (fewer than its new tokens
    where a window moves with them), or for each row `alone` where each picks its own. Not `cached`: made in this iteration.
    `seen_fraction` of the rectangle of rows and keys is not masked. `kernel` names a kind of attention with kernels of its own.
    """

    groups: tuple[Counts, ...]
    d_key: int
    d_value: int
    keys: int
    together: int
    alone: bool = False
    cached: bool = True
    values_are_keys: bool = False
    seen_fraction: float = 1.0
    kernel: str = ""


def causal(keys: int, together: int) -> float:
    """Share of the rectangle that `together` successive tokens see of `keys`, the last of them all."""
    return 1 - (together - 1) / (2 * keys) if keys else 1.0
