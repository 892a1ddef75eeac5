"""What to build for a rate at a speed per user: chips, racks, power and money, with what it leaves out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dcsim.economics.bill import Basis, Parts, count_parts
from dcsim.spec.load import Resolved
from dcsim.spec.topology import Topology
from dcsim.study.frontier import Fleet, best_load, fleet, frontier, loads
from dcsim.study.iteration import context_of
from dcsim.study.machine import build

ASSUMES = (
    "decoding only: reading prompts takes further chips or time",
    "every replica is always full: no spare for peaks, uneven load or faults",
    "every sequence at the given context; none waits for another",
    "whole clusters like the topology; hosts busy, chips no replica uses idle",
)


def plan(
    resolved: Resolved,
    *,
    tokens_per_s: float,
    tokens_per_s_per_user: float,
    context: int | None = None,
    seed: int = 1,
) -> dict[str, Any]:
    """The fewest clusters like this topology that give the rate at the speed, what they draw and cost.

    Money is the TCO at `network.prices` for chips bought and for chips at what they cost their maker. Raises CapacityError if
    the speed is out of reach.
    """
    context = context_of(context, resolved.spec.llm)
    machine = build(resolved.spec, seed)
    points = loads(machine, context)
    best = best_load(points, tokens_per_s_per_user)
    needed = fleet(machine, best, tokens_per_s)
    parts = count_parts(machine.fabric, resolved.spec.node)
    site_energy_j = best.energy_j_per_token * resolved.spec.power.pue
    return {
        "topology": resolved.spec.name,
        "llm": resolved.spec.llm.name,
        **resolved.spec.network.terms,
        "tokens_per_s": tokens_per_s,
        "tokens_per_s_per_user": best.tokens_per_s_per_user,
        "context": context,
        "tp": machine.mapping.tp,
        "pp": machine.mapping.pp,
        "batch": best.batch,
        "micro_batches": best.micro_batches,
        "concurrency_per_replica": best.concurrency,
        "tokens_per_s_per_replica": best.tokens_per_s,
        "replicas": needed.replicas,
        "clusters": needed.clusters,
        "chips": needed.chips,
        "racks": needed.racks,
        "power_w": needed.power_w,
        "energy_j_per_token": site_energy_j,
        "money": {"buy": money(resolved.spec, parts, needed, "buy"), "build": money(resolved.spec, parts, needed, "build")},
        "frontier": [asdict(load) for load in frontier(points)],
        "assumes": list(ASSUMES),
    }


def money(spec: Topology, parts: Parts, needed: Fleet, basis: Basis) -> dict[str, float]:
    """Capital of all clusters of `parts` each, their cost an hour over their life, and that over the tokens served."""
    from dcsim.economics.bill import bill, peak_power_w, total_usd
    from dcsim.economics.tco import HOURS_PER_YEAR, tco, years

    figures = spec.network.prices
    tree = spec.model_dump(mode="json", by_alias=True)
    capital_usd = total_usd(bill(parts, tree, figures, basis))
    peak_w = peak_power_w(parts, tree)
    mean_w = needed.power_w / spec.power.pue / needed.clusters
    life = tco(peak_w, capital_usd, figures, average_power_fraction=mean_w / peak_w, pue=spec.power.pue)
    usd_per_h = life.total_usd / (years(figures.server_life_s) * HOURS_PER_YEAR) * needed.clusters
    served = needed.replicas * needed.load.tokens_per_s
    return {
        "capital_usd": capital_usd * needed.clusters,
        "usd_per_h": usd_per_h,
        "usd_per_mtoken": usd_per_h / (served * 3600) * 1e6,
    }
