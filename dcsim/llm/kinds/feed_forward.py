"""What works on each token alone: dense feed-forward blocks, routed experts, and one product in their place."""

from __future__ import annotations

from dataclasses import dataclass

from dcsim.errors import SpecError
from dcsim.llm.blocks import Step
from dcsim.llm.kinds.routing import met_of, visits
from dcsim.llm.plan import Plan
from dcsim.llm.storage import DENSE, EXPERTS, ROUTER, SHARED, Stored, Weight, by_columns, by_rows, split, whole
from dcsim.spec.layers import Activation, RoutedFeedForward

GATED = ("swiglu", "geglu", "reglu")


def up_columns(activation: Activation, hidden: tuple[int, ...]) -> tuple[int, ...]:
    """Output columns of the first product for so many hidden ones: gate and up together."""
    return tuple(n * (2 if activation in GATED else 1) for n in hidden)


@dataclass(frozen=True, slots=True)
class Dense:
    """Up (and gate), activation, down."""

    d_ff: int
    activation: Activation
    d_model: int
    part: str = DENSE

    def hidden(self, tp: int) -> tuple[int, ...]:
        """Hidden columns of each shard."""
        return split(self.d_ff, tp)

    def inward(self, tp: int) -> Weight:
        """The product of the layer's input."""
        return by_columns(self.part, self.d_model, up_columns(self.activation, self.hidden(tp)))

    def outward(self, tp: int) -> Weight:
        """The product back to the layer's width."""
        return by_rows(self.part, self.hidden(tp), self.d_model)

    def weights(self, tp: int) -> list[Weight]:
        """Both matrices."""
        return [self.inward(tp), self.outward(tp)]

    def stored(self, tp: int) -> list[Stored]:
        """Nothing is kept of a token."""
        return []

    def token_flop(self, context: int) -> int:
        """Nothing beside its weights."""
        return 0

    def steps(self, plan: Plan, rows: int) -> list[Step]:
        """Up, activation, down."""
        up = up_columns(self.activation, self.hidden(plan.tp))
        return [
            plan.products("up", self.inward(plan.tp), rows),
            plan.vector("activation", rows, up),
            plan.products("down", self.outward(plan.tp), rows),
        ]


@dataclass(frozen=True, slots=True)
class Routed:
    """Every shard holds its columns of every expert, and of the shared one."""

    spec: RoutedFeedForward
    d_model: int

    @property
    def width(self) -> int:
        """Width that experts take in."""
        return self.spec.d_latent or self.d_model

    def experts(self, tp: int, whole_on_chips: bool = False, groups: int = 1) -> tuple[Weight, Weight]:
        """Up and down of all experts: every shard its columns of each, or `whole_on_chips` its own experts or its part of one.

        With `groups` of shards each has its share of the experts, and a shard its columns of these. Either way every shard holds
        as much. Raises SpecError where experts do not come out even over the chips.
        """
        s, count = self.spec, self.spec.experts
        hidden = split(s.d_ff, tp)
        if groups > 1:
            if tp % groups or groups > count:
                raise SpecError(
                    f"mapping.ep of {groups}: neither {tp} chips nor {count} experts can be shared out to so many groups"
                )
            hidden = split(s.d_ff, tp // groups) * groups
            count = -(-count // groups)
        elif whole_on_chips:
            if count % tp and tp % count:
                raise SpecError(f"mapping.experts of own_chips: {count} experts do not come out even over {tp} chips")
            hidden = split(s.d_ff, max(1, tp // count)) * min(tp, count)
            count = max(1, count // tp)
        met = met_of(s)
        up = by_columns(EXPERTS, self.width, up_columns(s.activation, hidden), count, min(met, count))
        return up, by_rows(EXPERTS, hidden, self.width, count, min(met, count))

    def router(self, tp: int) -> Weight:
        """Scores of all experts, on every shard."""
        return whole(ROUTER, self.d_model, self.spec.experts + self.spec.experts_empty, tp)

    def latent(self, tp: int) -> list[Weight]:
        """Into and out of the width that experts work in, on every shard."""
        narrow = self.spec.d_latent
        return [whole(SHARED, self.d_model, narrow, tp), whole(SHARED, narrow, self.d_model, tp)] if narrow else []

    @property
    def shared(self) -> Dense | None:
        """The expert that every token visits."""
        s = self.spec
        return Dense(s.shared_d_ff, s.activation, self.d_model, SHARED) if s.shared_d_ff else None

    def weights(self, tp: int) -> list[Weight]:
        """All its matrices."""
        shared = self.shared.weights(tp) if self.shared else []
        return [self.router(tp), *self.latent(tp), *self.experts(tp), *self.aside(tp), *shared]

    def aside(self, tp: int) -> list[Weight]:
        """Experts that text never meets."""
        s, hidden = self.spec, split(self.spec.d_ff_aside, tp)
        if not s.experts_aside:
            return []
        up = by_columns(EXPERTS, self.width, up_columns(s.activation, hidden), s.experts_aside, active=0)
        return [up, by_rows(EXPERTS, hidden, self.width, s.experts_aside, active=0)]

    def stored(self, tp: int) -> list[Stored]:
        """Nothing is kept of a token."""
        return []

    def token_flop(self, context: int) -> int:
        """Nothing beside its weights."""
        return 0

    def steps(self, plan: Plan, rows: int) -> list[Step]:
        """Router, experts, and the shared expert."""
        s, tp = self.spec, plan.tp
        choices = s.experts + s.experts_empty
        up, down = self.experts(tp, plan.spec.experts == "own_chips", plan.spec.ep)
        groups = visits(plan, s, self.experts(1)[0].active, up.count, rows)
        activated = sum(count * met for count, met in groups)
        into, out = [[plan.products("latent", weight, rows)] for weight in self.latent(tp)] or ([], [])
        columns = tuple(n for _, n in up.shapes)
        return [
            plan.products("router", self.router(tp), rows),
            plan.vector("choose_experts", rows, (choices,) * tp),
            *into,
            plan.routed("up", up, groups, rows),
            plan.vector("activation", rows, tuple(-(-activated * n // rows) for n in columns), fused=plan.whole_kernels),
            plan.routed("down", down, groups, rows),
            *out,
            *(self.shared.steps(plan, rows) if self.shared else []),
        ]


@dataclass(frozen=True, slots=True)
class Square:
    """One product of the layer's width, in attention's or the feed-forward's place."""

    d_model: int
    part: str = DENSE

    @property
    def heads(self) -> int:
        """Columns: no more shards than these."""
        return self.d_model

    def weights(self, tp: int) -> list[Weight]:
        """Its matrix, cut by rows, so that shards yield sums as other blocks do."""
        return [by_rows(self.part, split(self.d_model, tp), self.d_model)]

    def stored(self, tp: int) -> list[Stored]:
        """Nothing is kept of a token."""
        return []

    def token_flop(self, context: int) -> int:
        """Nothing beside its weights."""
        return 0

    def steps(self, plan: Plan, rows: int) -> list[Step]:
        """The product."""
        return [plan.products("linear", self.weights(plan.tp)[0], rows)]
