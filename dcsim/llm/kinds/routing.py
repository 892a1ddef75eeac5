"""Experts that are chosen at run time: how many are worked through, on how many rows, and which visits find no room."""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache

from dcsim.llm.plan import Plan
from dcsim.spec.layers import RoutedFeedForward
from dcsim.spec.mapping import MappingSpec


def met_of(spec: RoutedFeedForward) -> int:
    """Experts that a token visits: choices of the router that do nothing are as likely as others."""
    return round(spec.experts_active * spec.experts / (spec.experts + spec.experts_empty))


def visits(plan: Plan, spec: RoutedFeedForward, met: int, held: int, rows: int) -> tuple[tuple[int, int], ...]:
    """How many of the `held` experts that a shard has a part of work on how many rows each: (experts, rows) groups.

    `met` are those that a token visits. Which ones is known only at run time. A program fixed before that works through all of
    them, each with room for every row (`mapping.experts: all`) or for so many as it is given (`capacity`), or it holds
    min(held, rows x experts_active) slots, each with room for every row (the worst case, nothing dropped); a slot's weights are
    addressed by the router's answer. Elsewhere, and where `visited` says so, work goes by tokens: with each token's experts
    drawn evenly and independently, held x (1 - (1 - met / experts) ^ rows) are visited by any of the rows, and their weights are
    read once.
    """
    choice = plan.spec.experts
    if choice == "all":
        return ((held, rows),)
    if choice == "capacity":
        return ((held, capacity_rows(spec, plan.spec, rows)),)
    if plan.static and choice != "visited":
        return ((min(held, rows * spec.experts_active), rows),)
    load = heaviest(plan.spec.expert_load, spec.experts, plan.spec.ep)
    visited = max(1, round(held * (1 - max(0.0, 1 - load * met / spec.experts) ** rows)))
    each, rest = divmod(-(-round(rows * met * held * load) // spec.experts), visited)
    return tuple((count, share) for count, share in ((visited - rest, each), (rest, each + 1)) if count and share)


@lru_cache(maxsize=64)
def heaviest(load: str | tuple[float, ...], experts: int, groups: int) -> float:
    """How many times the mean load the group of chips with the most has, the experts lying on `groups` in turn; 1 where all
    chips share all experts. `load` as `mapping.expert_load`.
    """
    if groups == 1 or load == "balanced":
        return 1.0
    shares = shares_of(load, experts)
    return max(sum(shares[group::groups]) for group in range(groups)) * groups


def capacity_rows(spec: RoutedFeedForward, mapping: MappingSpec, rows: int) -> int:
    """Rows that each expert has room for under `mapping.capacity_factor`: so many times the mean, at least one, at most all."""
    return min(rows, max(1, math.ceil(mapping.capacity_factor * rows * met_of(spec) / spec.experts)))


def dropped_fraction(spec: RoutedFeedForward, mapping: MappingSpec, rows: int) -> float:
    """The expected share of visits to experts that find no room, with each token's experts drawn independently of other tokens'.

    The visitors of an expert are binomial: of X ~ B(rows, p) max(0, X - room) are dropped. With an even load p is experts met
    over experts; else each expert's own, in proportion to `mapping.expert_load`, at most 1.
    """
    room, met = capacity_rows(spec, mapping, rows), met_of(spec)
    chances = Counter(min(1.0, met * share) for share in shares_of(mapping.expert_load, spec.experts))
    over = sum(count * _mean_beyond(rows, chance, room) for chance, count in chances.items())
    visits_mean = rows * sum(chance * count for chance, count in chances.items())
    return over / visits_mean if visits_mean else 0.0


def shares_of(load: str | tuple[float, ...], experts: int) -> list[float]:
    """How the visits are shared among experts by `mapping.expert_load`; their sum is 1."""
    if load == "balanced":
        return [1 / experts] * experts
    weights = [1 / (k + 1) for k in range(experts)] if isinstance(load, str) else [load[k % len(load)] for k in range(experts)]
    return [weight / sum(weights) for weight in weights]


def _mean_beyond(count: int, chance: float, room: int) -> float:
    """E[max(0, X - room)] of X ~ B(count, chance)."""
    if room >= count or chance >= 1:
        return float(max(0, count - room))
    if chance <= 0:
        return 0.0

    def weighed(visitors: int) -> float:
        ways = math.lgamma(count + 1) - math.lgamma(visitors + 1) - math.lgamma(count - visitors + 1)
        return abs(visitors - room) * math.exp(ways + visitors * math.log(chance) + (count - visitors) * math.log1p(-chance))

    mean = count * chance
    if room < mean:  # what is short of room has few terms
        return mean - room + sum(weighed(visitors) for visitors in range(room))
    beyond, visitors = 0.0, room + 1
    while visitors <= count and (term := weighed(visitors)) > 1e-12 * beyond:
        beyond, visitors = beyond + term, visitors + 1
    return beyond
