"""What a run's tokens cost: USD per million output tokens, and USD for the speed one user sees.

A saved run is costed from its folder alone: its spec, prices included, and its parts are in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dcsim.economics.bill import Basis, Line, Parts, bill, site_again, total_usd
from dcsim.economics.tco import HOURS_PER_YEAR, tco, years
from dcsim.errors import RunStoreError
from dcsim.power.chain import power_terms
from dcsim.reading import reading
from dcsim.results.records import Run
from dcsim.results.sensitivity import Bar, parameters_of, tornado
from dcsim.spec.document import Figure, Path_
from dcsim.spec.price import RentPrices, TcoPrices, read_prices
from dcsim.spec.section import with_value
from dcsim.spec.topology import Topology

SECONDS_PER_HOUR = 3600
TOKENS_PER_MTOKEN = 1e6
BARS = 8  # of a run's tornado
BASES: tuple[Basis, ...] = ("buy", "build")

Figures = Mapping[Path_, Figure]


@dataclass(frozen=True, slots=True)
class TokenCost:
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


def run_money(run: Run, basis: Basis = "buy") -> dict[str, float | None]:
    """Capital, cost an hour and per million tokens of a run at its own prices: `run_cost` in short."""
    cost = owned_cost(run.summary, _parts(run), Topology.from_saved(run.spec), basis)
    return {"capital_usd": cost.capital_usd, "usd_per_h": cost.usd_per_h, "usd_per_mtoken": cost.usd_per_mtoken}


def run_cost(run: Run, prices: str | None = None, rent: str | None = None) -> dict[str, Any]:
    """`usd_per_mtoken` of a saved run and what it consists of, by basis, at the run's own prices or at those named.

    Rented only where a rent is named. Raises RunStoreError for a run whose parts another version wrote down, or changed since.
    """
    with reading(run.folder, RunStoreError):
        return _run_cost(run, prices, rent)


def _run_cost(run: Run, prices: str | None, rent: str | None) -> dict[str, Any]:
    parts, spec, figures = _parts(run), Topology.from_saved(run.spec), _figures(run.meta.get("prices", {}))
    if prices is not None:
        spec, stated = priced(spec, prices)
        figures = {path: figure for path, figure in figures.items() if path[:2] != PRICES} | stated
    found: dict[str, Any] = {}
    for basis in BASES:
        cost = owned_cost(run.summary, parts, spec, basis, figures)
        found[basis] = {**_as_json(cost), "sensitivities": _sensitivities(run.summary, parts, spec, basis, figures)}
    if rent:
        found["rent"] = _as_json(rented_cost(run.summary, parts.chips, read_prices(rent, RentPrices)[0]))
    return {
        "run": str(run.folder),
        "prices": spec.network.prices.name,
        "rent": rent,
        "parts": asdict(parts),
        **{key: run.summary.get(key) for key in POWER_KEYS},
        **power_terms(spec),
        "bases": found,
    }


PRICES: Path_ = ("network", "prices")
POWER_KEYS = ("power_w_mean", "it_power_w_mean", "rack_power_w_max")  # of the run, which its electricity is paid for


def priced(spec: Topology, prices: str) -> tuple[Topology, dict[Path_, Figure]]:
    """The spec at the prices of another list, and where these come from, by their place in the spec."""
    section, stated = read_prices(prices, TcoPrices)
    network = spec.network.model_copy(update={"prices": section})
    return spec.model_copy(update={"network": network}), {(*PRICES, *path[1:]): figure for path, figure in stated.items()}


def owned_cost(
    summary: Mapping[str, Any], parts: Parts, spec: Topology, basis: Basis, figures: Figures | None = None
) -> TokenCost:
    """Cost of a run on parts that are owned: bill and power into the TCO model, over the tokens of a life like the run.

    Mean power and PUE are the run's own, so electricity is the run's `energy_j_per_token` at the price of a kWh.
    """
    lines = bill(parts, spec, basis, figures)
    capital_usd, rate = total_usd(lines), summary["output_tokens_per_s"]
    usd_per_h, life = life_usd_per_h(parts, spec, capital_usd, summary["power_w_mean"] or 0.0)
    terms = {name: usd_per_mtoken(usd, rate) for name, usd in life.items()} if rate else {}
    speed = summary["tokens_per_s_per_user_p50"]
    return TokenCost(
        basis,
        usd_per_h,
        sum(terms.values()) if rate else None,
        terms,
        capital_usd,
        capital_usd / speed if speed else None,
        capital_usd / rate if rate else None,
        rate,
        summary["concurrency_mean"],
        tuple(lines),
    )


def life_usd_per_h(parts: Parts, spec: Topology, capital_usd: float, power_w: float) -> tuple[float, dict[str, float]]:
    """What owning these parts costs an hour over their life while the site draws `power_w`; all of it, and term by term."""
    prices, pue = spec.network.prices, spec.power.pue
    peak_w = site_again(parts, spec).peak().it_power_w
    life = tco(peak_w, capital_usd, prices, average_power_fraction=power_w / pue / peak_w if peak_w else 0.0, pue=pue)
    hours = years(prices.server_life_s) * HOURS_PER_YEAR
    return life.total_usd / hours, {name: usd / hours for name, usd in life.terms().items()}


def rented_cost(summary: Mapping[str, Any], chips: int, rent: RentPrices) -> TokenCost:
    """Cost of a run on `chips` chips rented by the hour; the rent includes power and everything around the chips."""
    usd_per_h, rate = chips * rent.chip_hour_usd, summary["output_tokens_per_s"]
    usd = usd_per_mtoken(usd_per_h, rate) if rate else None
    terms = {"rent": usd} if usd is not None else {}
    return TokenCost("rent", usd_per_h, usd, terms, None, None, None, rate, summary["concurrency_mean"])


def usd_per_mtoken(usd_per_h: float, tokens_per_s: float) -> float:
    """USD per million tokens of something that costs `usd_per_h` and makes `tokens_per_s` (above 0)."""
    return usd_per_h / (tokens_per_s * SECONDS_PER_HOUR) * TOKENS_PER_MTOKEN


def cost_tornado(
    summary: Mapping[str, Any], parts: Parts, spec: Topology, basis: Basis, figures: Figures, *, over_range: bool = False
) -> list[Bar]:
    """How far `usd_per_mtoken` of a run moves with each figure of prices and peak power; widest first.

    `figures` as for `bill`. The run itself is not repeated: figures that would change its speed or its mean power
    move only what they cost. Figures without effect are left out.
    """
    parameters = parameters_of(spec.saved(), figures, over_range=over_range)
    usual = {parameter.name: parameter.value for parameter in parameters}

    def answer(values: dict[str, float]) -> float:
        changed = spec
        for name, value in values.items():
            if value != usual[name]:
                changed = with_value(changed, tuple(name.split(".")), value)
        return owned_cost(summary, parts, changed, basis).usd_per_mtoken or 0.0

    bars = tornado(parameters, answer)
    return [bar for bar in bars if bar.swing > 0]


def _parts(run: Run) -> Parts:
    try:
        return Parts(**run.meta["parts"])
    except (KeyError, TypeError) as error:
        raise RunStoreError(f"{run.folder}: meta.json lists no parts, so that it cannot be costed; run it again") from error


def _as_json(cost: TokenCost) -> dict[str, Any]:
    lines = [{**asdict(line), "usd": line.usd} for line in cost.lines]
    return {**{key: value for key, value in asdict(cost).items() if key != "lines"}, "lines": lines}


def _figures(stated: Mapping[str, Mapping[str, str]]) -> dict[Path_, Figure]:
    """What the run says of its prices; their values are in its spec."""
    return {tuple(key.split(".")): Figure(None, said["kind"], said["source"], ()) for key, said in stated.items()}


def _sensitivities(
    summary: Mapping[str, Any], parts: Parts, spec: Topology, basis: Basis, figures: Figures
) -> list[dict[str, Any]]:
    """The widest bars of USD per million tokens, each figure a tenth lower and higher."""
    bars = cost_tornado(summary, parts, spec, basis, figures)
    return [{**asdict(bar), "elasticity": bar.elasticity} for bar in bars[:BARS]]
