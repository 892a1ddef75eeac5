"""What a run's tokens cost: USD per million output tokens, and USD for the speed one user sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dcsim.economics.bill import Basis, Line, Parts, Spec, bill, peak_power_w, total_usd
from dcsim.economics.tco import HOURS_PER_YEAR, tco, years
from dcsim.results.sensitivity import Bar, parameters_of, put, tornado
from dcsim.spec.document import Figure, Path_
from dcsim.spec.price import RentPrices, TcoPrices

SECONDS_PER_HOUR = 3600
TOKENS_PER_MTOKEN = 1e6


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a run's output tokens on one basis: `buy`, `build` or `rent`.

    `terms` splits `usd_per_mtoken`; both are as at the run's load (`tokens_per_s`, `concurrency_mean`): a machine
    that stands idle half the time costs twice as much a token. What a run without tokens or a rented machine does
    not have is None.
    """

    basis: str
    usd_per_h: float
    usd_per_mtoken: float | None
    terms: dict[str, float]  # USD per million output tokens
    capital_usd: float | None
    usd_per_user_speed: float | None  # capital over the median user's tokens/s
    usd_per_throughput: float | None  # capital over output tokens/s
    tokens_per_s: float
    concurrency_mean: float | None
    lines: tuple[Line, ...] = ()


def owned_cost(
    summary: Mapping[str, Any],
    parts: Parts,
    spec: Spec,
    prices: TcoPrices,
    basis: Basis,
    figures: Mapping[Path_, Figure] | None = None,
) -> Cost:
    """Cost of a run on parts that are owned: bill and power into the TCO model, over the tokens of a life like the run.

    Mean power and PUE are the run's own, so electricity is the run's `energy_j_per_token` at the price of a kWh.
    """
    lines = bill(parts, spec, prices, basis, figures)
    capital_usd, peak_w = total_usd(lines), peak_power_w(parts, spec)
    pue = spec["power"]["pue"]
    mean_w = (summary["power_w_mean"] or 0.0) / pue
    life = tco(peak_w, capital_usd, prices, average_power_fraction=mean_w / peak_w if peak_w else 0.0, pue=pue)
    hours = years(prices.server_life_s) * HOURS_PER_YEAR
    rate, speed = summary["output_tokens_per_s"], summary["tokens_per_s_per_user_p50"]
    terms = {name: usd_per_mtoken(usd / hours, rate) for name, usd in life.terms().items()} if rate else {}
    return Cost(
        basis,
        life.total_usd / hours,
        sum(terms.values()) if rate else None,
        terms,
        capital_usd,
        capital_usd / speed if speed else None,
        capital_usd / rate if rate else None,
        rate,
        summary["concurrency_mean"],
        tuple(lines),
    )


def rented_cost(summary: Mapping[str, Any], chips: int, rent: RentPrices) -> Cost:
    """Cost of a run on `chips` chips rented by the hour; the rent includes power and everything around the chips."""
    usd_per_h, rate = chips * rent.chip_hour_usd, summary["output_tokens_per_s"]
    usd = usd_per_mtoken(usd_per_h, rate) if rate else None
    terms = {"rent": usd} if usd is not None else {}
    return Cost("rent", usd_per_h, usd, terms, None, None, None, rate, summary["concurrency_mean"])


def usd_per_mtoken(usd_per_h: float, tokens_per_s: float) -> float:
    """USD per million tokens of something that costs `usd_per_h` and makes `tokens_per_s` (above 0)."""
    return usd_per_h / (tokens_per_s * SECONDS_PER_HOUR) * TOKENS_PER_MTOKEN


def cost_tornado(
    summary: Mapping[str, Any],
    parts: Parts,
    spec: Spec,
    prices: TcoPrices,
    basis: Basis,
    figures: Mapping[Path_, Figure],
    *,
    over_range: bool = False,
) -> list[Bar]:
    """How far `usd_per_mtoken` of a run moves with each figure of prices and peak power; widest first.

    `figures` as for `bill`. The run itself is not repeated: figures that would change its speed or its mean power
    move only what they cost. Figures without effect are left out.
    """
    names = {field.alias or name: name for name, field in TcoPrices.model_fields.items()}
    tree = {**spec, "price": prices.model_dump(by_alias=True)}

    def answer(values: dict[str, float]) -> float:
        changed = put(tree, values)
        moved = {names[key]: value for key, value in changed["price"].items()}
        cost = owned_cost(summary, parts, changed, prices.model_copy(update=moved), basis)
        return cost.usd_per_mtoken or 0.0

    bars = tornado(parameters_of(tree, figures, over_range=over_range), answer)
    return [bar for bar in bars if bar.swing > 0]
