"""The cost of a saved run, from its folder alone: parts and prices are in it, the price file is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from dcsim.economics.bill import Basis, Parts
from dcsim.economics.cost import Cost, cost_tornado, owned_cost, rented_cost
from dcsim.errors import RunStoreError
from dcsim.reading import reading
from dcsim.results.records import Run
from dcsim.spec.document import Figure, Path_
from dcsim.spec.price import RentPrices, TcoPrices, read_prices, tco_in

BASES: tuple[Literal["buy", "build", "rent"], ...] = ("buy", "build", "rent")
BARS = 8  # of a tornado


def run_cost(run: Run, prices: str | None = None, rent: str | None = None) -> dict[str, Any]:
    """`usd_per_mtoken` and what it consists of, by basis; rented only where a rent is named.

    Prices are the run's own (`network.prices`) unless others are named.

    Raises RunStoreError for a run saved by a version that did not write down its parts, or changed since.
    """
    with reading(run.folder, RunStoreError):
        return _run_cost(run, prices, rent)


def _run_cost(run: Run, prices: str | None, rent: str | None) -> dict[str, Any]:
    if "parts" not in run.meta:
        raise RunStoreError(f"{run.folder}: meta.json lists no parts, so that it cannot be costed; run it again")
    parts = Parts(**run.meta["parts"])
    figures = _figures(run.meta.get("prices", {}))
    own = run.spec["network"].get("prices")
    if prices or not own:
        tco, stated = read_prices(prices or "chiplet-cloud", TcoPrices)
    else:
        tco = tco_in(own)
        stated = {("price", *path[2:]): figure for path, figure in figures.items() if path[:2] == ("network", "prices")}
    figures |= stated
    found: dict[str, Any] = {}
    for basis in ("buy", "build"):
        cost = owned_cost(run.summary, parts, run.spec, tco, basis, figures)
        found[basis] = {**_as_json(cost), "sensitivities": _sensitivities(run, parts, tco, basis, figures)}
    if rent:
        found["rent"] = _as_json(rented_cost(run.summary, parts.chips, read_prices(rent, RentPrices)[0]))
    return {"run": str(run.folder), "prices": tco.name, "rent": rent, "parts": asdict(parts), "bases": found}


def _as_json(cost: Cost) -> dict[str, Any]:
    lines = [{**asdict(line), "usd": line.usd} for line in cost.lines]
    return {**{key: value for key, value in asdict(cost).items() if key != "lines"}, "lines": lines}


def _figures(stated: Mapping[str, Mapping[str, str]]) -> dict[Path_, Figure]:
    """What the run says of its prices; their values are in its spec."""
    return {tuple(key.split(".")): Figure(None, said["kind"], said["source"], ()) for key, said in stated.items()}


def _sensitivities(run: Run, parts: Parts, tco: TcoPrices, basis: Basis, figures: Mapping[Path_, Figure]) -> list[dict[str, Any]]:
    """The widest bars of USD per million tokens, each figure a tenth lower and higher."""
    bars = cost_tornado(run.summary, parts, run.spec, tco, basis, figures)
    return [{**asdict(bar), "elasticity": bar.elasticity} for bar in bars[:BARS]]
