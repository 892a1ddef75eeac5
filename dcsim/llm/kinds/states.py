"""Layers with a state of fixed size in place of keys and values: delta rule, lightning attention, Mamba, short convolution."""

from __future__ import annotations

from dataclasses import dataclass

from dcsim.llm.blocks import Step
from dcsim.llm.plan import Plan
from dcsim.llm.storage import NORM, STATE, Growth, Stored, Weight, by_columns, by_rows, head_groups, split, whole
from dcsim.spec.layers import DeltaAttention, LightningAttention, Mamba, Mamba2, ShortConvolution

# States gather rounding errors over a whole sequence; engines keep them in 32 bit (`mamba_ssm_dtype` in configs).
STATE_PRECISION = "fp32"
ONCE = Growth(always=1)


def _tail(taps: int, channels: tuple[int, ...]) -> list[Stored]:
    """The inputs a convolution over `taps` tokens still needs."""
    return [Stored(Growth(always=taps - 1), channels)] if taps > 1 else []


@dataclass(frozen=True, slots=True)
class Delta:
    """Gated delta rule: what the state recalls for a key is subtracted from the value before it is added."""

    spec: DeltaAttention
    d_model: int

    @property
    def heads(self) -> int:
        """Value heads: no more shards than these."""
        return self.spec.value_heads

    def groups(self, tp: int) -> tuple[tuple[int, ...], ...]:
        """Value heads by shard and key head."""
        return head_groups(self.spec.value_heads, self.spec.key_heads, tp)

    def value_heads(self, tp: int) -> tuple[int, ...]:
        """Value heads, and states, of each shard."""
        return split(self.spec.value_heads, tp)

    def convolved(self, tp: int) -> tuple[int, ...]:
        """Channels of queries, keys and values."""
        s = self.spec
        return tuple(2 * len(groups) * s.d_key + sum(groups) * s.d_value for groups in self.groups(tp))

    def inward(self, tp: int) -> Weight:
        """Queries, keys, values, the step size of each head, and what is not of low rank of decays and gate."""
        s = self.spec
        each = 1 + (0 if s.decay_rank else 1) + (0 if s.gate_rank else s.d_value)
        columns = tuple(n + heads * each for n, heads in zip(self.convolved(tp), self.value_heads(tp), strict=True))
        return by_columns(STATE, self.d_model, columns)

    def narrow(self, tp: int) -> list[tuple[str, Weight]]:
        """Decays and gate of low rank: down on every shard, up for its heads."""
        s = self.spec
        found = []
        for name, rank, width in (("decay", s.decay_rank, s.d_key), ("gate", s.gate_rank, s.d_value)):
            if rank:
                columns = tuple(heads * width for heads in self.value_heads(tp))
                found.append((f"{name}_down", whole(STATE, self.d_model, rank, tp)))
                found.append((f"{name}_up", by_columns(STATE, rank, columns)))
        return found

    def outward(self, tp: int) -> Weight:
        """The product that brings the heads' results back to the layer's width."""
        return by_rows(STATE, tuple(heads * self.spec.d_value for heads in self.value_heads(tp)), self.d_model)

    def weights(self, tp: int) -> list[Weight]:
        """All its matrices, and the taps of the convolution."""
        taps = by_columns(NORM, self.spec.convolution, self.convolved(tp))
        return [self.inward(tp), *(weight for _, weight in self.narrow(tp)), self.outward(tp), taps]

    def stored(self, tp: int) -> list[Stored]:
        """One state a value head."""
        size = self.spec.d_key * self.spec.d_value
        states = Stored(ONCE, tuple(heads * size for heads in self.value_heads(tp)), STATE_PRECISION)
        return [states, *_tail(self.spec.convolution, self.convolved(tp))]

    def token_flop(self, context: int) -> int:
        """FLOPs of one token beside its weights: every state is met three times (recall, change, read)."""
        return 6 * self.spec.value_heads * self.spec.d_key * self.spec.d_value

    def steps(self, plan: Plan, rows: int) -> list[Step]:
        """Products in, convolution, state, gated norm, product out."""
        s, tp = self.spec, plan.tp
        heads = self.value_heads(tp)
        return [
            plan.products("query_key_value", self.inward(tp), rows),
            *(plan.products(name, weight, rows) for name, weight in self.narrow(tp)),
            plan.vector("convolve", rows, tuple(max(1, s.convolution) * n for n in self.convolved(tp))),
            *plan.state(("recall", "change", "read"), rows, heads, s.d_key, s.d_value, STATE_PRECISION),
            plan.vector("gate_and_norm", rows, tuple(3 * count * s.d_value for count in heads)),
            plan.products("attention_out", self.outward(tp), rows),
        ]


@dataclass(frozen=True, slots=True)
class Lightning:
    """Linear attention with a fixed decay a head, an output gate and a norm."""

    spec: LightningAttention
    d_model: int

    @property
    def heads(self) -> int:
        """Heads: no more shards than these."""
        return self.spec.heads

    def columns(self, tp: int) -> tuple[int, ...]:
        """Columns of the shard's heads."""
        return tuple(heads * self.spec.d_head for heads in split(self.spec.heads, tp))

    def weights(self, tp: int) -> list[Weight]:
        """Queries, keys, values and gate; and out."""
        columns = self.columns(tp)
        return [by_columns(STATE, self.d_model, tuple(4 * n for n in columns)), by_rows(STATE, columns, self.d_model)]

    def stored(self, tp: int) -> list[Stored]:
        """One state a head."""
        size = self.spec.d_head**2
        return [Stored(ONCE, tuple(heads * size for heads in split(self.spec.heads, tp)), STATE_PRECISION)]

    def token_flop(self, context: int) -> int:
        """FLOPs of one token beside its weights: every state is met twice (change, read)."""
        return 4 * self.spec.heads * self.spec.d_head**2

    def steps(self, plan: Plan, rows: int) -> list[Step]:
        """Products in, state, gated norm, product out."""
        d, (inward, outward) = self.spec.d_head, self.weights(plan.tp)
        heads = split(self.spec.heads, plan.tp)
        return [
            plan.products("query_key_value", inward, rows),
            plan.vector("activate", rows, tuple(4 * n for n in self.columns(plan.tp))),
            *plan.state(("change", "read"), rows, heads, d, d, STATE_PRECISION),
            plan.vector("gate_and_norm", rows, tuple(3 * n for n in self.columns(plan.tp))),
            plan.products("attention_out", outward, rows),
        ]


@dataclass(frozen=True, slots=True)
class StateSpace2:
    """Mamba-2: heads with one decay each; groups of them share the projections into and out of the state."""

    spec: Mamba2
    d_model: int

    @property
    def heads(self) -> int:
        """Heads: no more shards than these."""
        return self.spec.heads

    def groups(self, tp: int) -> tuple[tuple[int, ...], ...]:
        """Heads by shard and group."""
        return head_groups(self.spec.heads, self.spec.groups, tp)

    def inner(self, tp: int) -> tuple[int, ...]:
        """Inner channels of each shard."""
        return tuple(heads * self.spec.d_head for heads in split(self.spec.heads, tp))

    def convolved(self, tp: int) -> tuple[int, ...]:
        """Channels of inputs and of the projections into and out of the state."""
        shared = tuple(2 * len(groups) * self.spec.d_state for groups in self.groups(tp))
        return tuple(map(sum, zip(self.inner(tp), shared, strict=True)))

    def weights(self, tp: int) -> list[Weight]:
        """In: gate, convolved channels, time steps; out; and vectors."""
        parts = (self.inner(tp), self.convolved(tp), split(self.spec.heads, tp))
        taps = by_columns(NORM, self.spec.convolution, self.convolved(tp))
        return [
            by_columns(STATE, self.d_model, tuple(map(sum, zip(*parts, strict=True)))),
            by_rows(STATE, self.inner(tp), self.d_model),
            taps,
        ]

    def stored(self, tp: int) -> list[Stored]:
        """One state a head."""
        states = tuple(n * self.spec.d_state for n in self.inner(tp))
        return [Stored(ONCE, states, STATE_PRECISION), *_tail(self.spec.convolution, self.convolved(tp))]

    def token_flop(self, context: int) -> int:
        """FLOPs of one token beside its weights: every state is met twice (change, read)."""
        return 4 * self.spec.heads * self.spec.d_head * self.spec.d_state

    def steps(self, plan: Plan, rows: int) -> list[Step]:
        """Product in, convolution, state, gated norm, product out."""
        s, tp = self.spec, plan.tp
        inward, outward, _ = self.weights(tp)
        return [
            plan.products("state_in", inward, rows),
            plan.vector("convolve", rows, tuple(s.convolution * n for n in self.convolved(tp))),
            *plan.state(("change", "read"), rows, split(s.heads, tp), s.d_state, s.d_head, STATE_PRECISION),
            plan.vector("gate_and_norm", rows, tuple(3 * n for n in self.inner(tp))),
            plan.products("state_out", outward, rows),
        ]


@dataclass(frozen=True, slots=True)
class StateSpace:
    """Mamba: every inner channel has a state and a decay of its own for each element of it, which no product can share."""

    spec: Mamba
    d_model: int

    @property
    def heads(self) -> int:
        """Channels: no more shards than these."""
        return self.spec.d_inner

    def weights(self, tp: int) -> list[Weight]:
        """In, choice of time steps and projections, time steps, out; and vectors."""
        s, inner = self.spec, split(self.spec.d_inner, tp)
        return [
            by_columns(STATE, self.d_model, tuple(2 * n for n in inner)),
            by_rows(STATE, inner, s.dt_rank + 2 * s.d_state),
            by_columns(STATE, s.dt_rank, inner),
            by_rows(STATE, inner, self.d_model),
            by_columns(NORM, s.convolution + s.d_state, inner),
        ]

    def stored(self, tp: int) -> list[Stored]:
        """One state a channel."""
        inner = split(self.spec.d_inner, tp)
        states = Stored(ONCE, tuple(n * self.spec.d_state for n in inner), STATE_PRECISION)
        return [states, *_tail(self.spec.convolution, inner)]

    def token_flop(self, context: int) -> int:
        """FLOPs of one token beside its weights: every element of the state is changed and read."""
        return 4 * self.spec.d_inner * self.spec.d_state

    def steps(self, plan: Plan, rows: int) -> list[Step]:
        """Product in, convolution, choice, scan, product out. The choice is a sum over all channels, hence over the shards."""
        s, inner = self.spec, split(self.spec.d_inner, plan.tp)
        inward, choice, times, outward, _ = self.weights(plan.tp)
        chosen = rows * (s.dt_rank + 2 * s.d_state) * plan.sum_bytes
        return [
            plan.products("state_in", inward, rows),
            plan.vector("convolve", rows, tuple(s.convolution * n for n in inner)),
            plan.products("choose_state", choice, rows),
            *plan.exchange("all_reduce", chosen, chosen // rows),
            plan.products("time_steps", times, rows),
            *plan.scan(rows, inner, s.d_state, STATE_PRECISION),
            plan.vector("gate", rows, tuple(2 * n for n in inner)),
            plan.products("state_out", outward, rows),
        ]


@dataclass(frozen=True, slots=True)
class Convolution:
    """A short convolution between two gates."""

    spec: ShortConvolution
    d_model: int

    @property
    def heads(self) -> int:
        """Channels: no more shards than these."""
        return self.d_model

    def weights(self, tp: int) -> list[Weight]:
        """In: two gates and the input; out; and the taps."""
        width = split(self.d_model, tp)
        return [
            by_columns(STATE, self.d_model, tuple(3 * n for n in width)),
            by_rows(STATE, width, self.d_model),
            by_columns(NORM, self.spec.convolution, width),
        ]

    def stored(self, tp: int) -> list[Stored]:
        """The last inputs."""
        return _tail(self.spec.convolution, split(self.d_model, tp))

    def token_flop(self, context: int) -> int:
        """FLOPs of one token beside its weights: those of vectors, which are not counted."""
        return 0

    def steps(self, plan: Plan, rows: int) -> list[Step]:
        """Product in, gates and convolution, product out."""
        inward, outward, _ = self.weights(plan.tp)
        elements = tuple((2 + self.spec.convolution) * n for n in split(self.d_model, plan.tp))
        return [
            plan.products("convolution_in", inward, rows),
            plan.vector("convolve", rows, elements),
            plan.products("convolution_out", outward, rows),
        ]
