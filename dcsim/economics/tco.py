"""Total cost of ownership of servers, as the Chiplet Cloud study reckons it (arXiv 2307.02666 and its artifact).

Structure and constants are the study's own. Read it with these gaps in mind: a month has 30 days and so a year 360;
upkeep is paid once, whatever the life; running the datacenter is priced per watt (the artifact's comment says per kW);
mean over peak power enters as a fraction (the artifact sets 1, the paper gives none). One version of the artifact
multiplies the cooling overhead by watts and months a second time; here it is electricity x (PUE - 1), as in the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from dcsim.spec.price import TcoPrices
from dcsim.units import TIME, UNITS

MONTHS_PER_YEAR = 12
HOURS_PER_YEAR = 24 * 30 * MONTHS_PER_YEAR  # the model's year of 360 days
YEAR_S = UNITS[TIME]["y"]  # a life written in years is that many model years


@dataclass(frozen=True, slots=True)
class Tco:
    """Cost of one server (or cluster) over its life, term by term, in USD."""

    server_usd: float
    server_interest_usd: float
    server_upkeep_usd: float
    datacenter_usd: float
    datacenter_interest_usd: float
    datacenter_upkeep_usd: float
    electricity_usd: float
    overhead_usd: float  # cooling and conversion beyond the servers' own power

    @property
    def total_usd(self) -> float:
        """The sum of all terms."""
        return sum(self.terms().values())

    def terms(self) -> dict[str, float]:
        """Each term in USD, by its name without the unit, in the order of the sum."""
        return {field.name.removesuffix("_usd"): getattr(self, field.name) for field in fields(self)}


def years(life_s: float) -> float:
    """A life in years."""
    return life_s / YEAR_S


def interest_usd(principal_usd: float, interest_fraction: float, life_y: float) -> float:
    """All interest of a loan paid back in equal monthly payments: payment x n - principal.

    payment = P m / (1 - (1 + m)^-n) with m = interest_fraction / 12 and n = 12 life_y (a whole number or not).
    """
    month, payments = interest_fraction / MONTHS_PER_YEAR, life_y * MONTHS_PER_YEAR
    if month == 0 or principal_usd == 0:
        return 0.0
    payment_usd = principal_usd * month / -math.expm1(-payments * math.log1p(month))
    return payment_usd * payments - principal_usd


def tco(
    peak_w: float,
    server_usd: float,
    prices: TcoPrices,
    *,
    average_power_fraction: float | None = None,
    pue: float | None = None,
    life_y: float | None = None,
) -> Tco:
    """Cost over the life of servers that draw at most `peak_w` at the wall and cost `server_usd` to get.

    What a run has measured (`average_power_fraction`, `pue`) takes the place of the price file's assumption.
    """
    life_y = years(prices.server_life_s) if life_y is None else life_y
    pue = prices.pue if pue is None else pue
    if average_power_fraction is None:
        average_power_fraction = prices.average_power_fraction
    building_y = years(prices.datacenter_life_s)
    share = peak_w * life_y / building_y  # watts, times the part of the building's life that this server fills
    energy_kwh = peak_w * average_power_fraction / 1000 * HOURS_PER_YEAR * life_y
    electricity_usd = prices.electricity_kwh_usd * energy_kwh
    return Tco(
        server_usd=server_usd,
        server_interest_usd=interest_usd(server_usd, prices.interest_fraction, life_y),
        server_upkeep_usd=prices.server_upkeep_fraction * server_usd,
        datacenter_usd=prices.datacenter_watt_usd * share,
        datacenter_interest_usd=interest_usd(prices.datacenter_watt_usd, prices.interest_fraction, building_y) * share,
        datacenter_upkeep_usd=prices.datacenter_watt_month_usd * peak_w * life_y * MONTHS_PER_YEAR,
        electricity_usd=electricity_usd,
        overhead_usd=electricity_usd * (pue - 1),
    )


def owned_usd_per_h(peak_w: float, server_usd: float, prices: TcoPrices, life_y: float) -> float:
    """TCO over the hours of a life: falls as the life grows, towards interest, building and electricity alone."""
    return tco(peak_w, server_usd, prices, life_y=life_y).total_usd / (life_y * HOURS_PER_YEAR)


def break_even_life_y(
    peak_w: float, server_usd: float, prices: TcoPrices, worth_usd_per_h: float, *, life_max_y: float = 100.0
) -> float:
    """The shortest life, to a millionth of it, at which owning costs no more an hour than `worth_usd_per_h`.

    `worth_usd_per_h` is what the servers earn, or the rent they save. Infinite if `life_max_y` does not suffice.
    """

    def too_short(life_y: float) -> bool:
        return owned_usd_per_h(peak_w, server_usd, prices, life_y) > worth_usd_per_h

    low, high = 0.0, life_max_y
    if too_short(high):
        return math.inf
    while high - low > 1e-6 * high and high > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if too_short(middle) else (low, middle)
    return high
