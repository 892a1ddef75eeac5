"""What it costs to make a card: wafer, yield, test, package, board."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dcsim.spec.price import SiliconPrices


@dataclass(frozen=True, slots=True)
class CardCost:
    """Cost of one card, step by step, in USD. Each step holds the ones before it."""

    gross_dies: float
    yield_fraction: float
    raw_die_usd: float  # wafer over gross dies
    good_die_usd: float
    tested_usd: float
    packaged_usd: float
    card_usd: float


def gross_dies(die_mm2: float, wafer_diameter_m: float) -> float:
    """Whole dies on a wafer: pi d^2 / (4 A) - pi d / sqrt(2 A), the common estimate (de Vries 2005), not rounded.

    The second term takes off the dies cut by the rim. Zero for a die too large for the wafer.
    """
    diameter_mm = wafer_diameter_m * 1000
    dies = math.pi * diameter_mm**2 / (4 * die_mm2) - math.pi * diameter_mm / math.sqrt(2 * die_mm2)
    return max(0.0, dies)


def yield_fraction(die_mm2: float, prices: SiliconPrices) -> float:
    """Share of dies without a defect: (1 + A D0 / alpha)^-alpha, the negative binomial model (Stapper 1983)."""
    defects = die_mm2 / prices.area_per_defect_mm2
    return float((1 + defects / prices.clustering) ** -prices.clustering)


def yield_with_spares(die_mm2: float, spares: int, prices: SiliconPrices) -> float:
    """Share of dies with at most `spares` defects, where each defect costs one spare part of the die.

    The same negative binomial counts the defects, so no spares give `yield_fraction`. Optimistic: every defect is
    taken to strike a part that has a spare.
    """
    alpha = prices.clustering
    defects = die_mm2 / prices.area_per_defect_mm2
    chance = yield_fraction(die_mm2, prices)  # of k = 0 defects
    total = chance
    for k in range(1, spares + 1):
        chance *= (k - 1 + alpha) / k * defects / (defects + alpha)
        total += chance
    return min(1.0, total)


def card_cost(die_mm2: float, prices: SiliconPrices) -> CardCost:
    """Cost of one single-die card. A die lost in packaging takes its test and its substrate along."""
    dies = gross_dies(die_mm2, prices.wafer_diameter_m)
    good = yield_fraction(die_mm2, prices)
    raw_usd = prices.wafer_usd / dies if dies else math.inf
    tested_usd = raw_usd / good * (1 + prices.test_fraction)
    substrate_usd = die_mm2 * prices.substrate_area_ratio * prices.substrate_mm2_usd
    packaged_usd = (tested_usd + substrate_usd) / prices.bonding_yield_fraction
    return CardCost(dies, good, raw_usd, raw_usd / good, tested_usd, packaged_usd, packaged_usd + prices.board_usd)
