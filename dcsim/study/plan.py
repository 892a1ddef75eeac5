"""What to build for a rate at a speed per user: chips, racks, power and money, with what it leaves out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dcsim.economics.bill import Basis, Parts, bill, parts_of, total_usd
from dcsim.economics.cost import BASES, life_usd_per_h, usd_per_mtoken
from dcsim.errors import Problem, SpecError
from dcsim.power.chain import power_terms
from dcsim.spec.load import Resolved
from dcsim.spec.topology import Topology
from dcsim.study.frontier import Fleet, best_load, fleet, frontier, loads
from dcsim.study.idle import idle_chips
from dcsim.study.iteration import context_of
from dcsim.study.machine import build

RATE_MAX = 1e15  # tokens per second: a hundred thousand for everybody on earth
ASSUMES = (
    "decoding only: reading prompts takes further chips or time",
    "every replica is always full: no spare for peaks, uneven load or faults",
    "every sequence at the given context; none waits for another",
    "whole clusters like the topology, all of whose chips draw power: those that no replica uses, idle",
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
    the speed is out of reach, SpecError for rates that are none.
    """
    for name, rate in (("--tokens-per-s", tokens_per_s), ("--tokens-per-s-per-user", tokens_per_s_per_user)):
        if not 0 < rate <= RATE_MAX:
            raise SpecError(Problem(name, f"{rate:g} is no rate a fleet can give", f"more than 0, at most {RATE_MAX:g}"))
    context = context_of(context, resolved.spec.llm)
    spec = resolved.spec
    machine = build(spec, seed)
    points = loads(machine, context)
    best = best_load(points, tokens_per_s_per_user)
    needed = fleet(machine, best, tokens_per_s)
    parts = parts_of(machine.site)
    return {
        "topology": spec.name,
        "llm": spec.llm.name,
        **spec.network.terms,
        "tokens_per_s": tokens_per_s,
        "tokens_per_s_per_user": best.tokens_per_s_per_user,
        "context": context,
        "tp": machine.mapping.tp,
        "pp": machine.mapping.pp,
        **machine.chosen,
        "batch": best.batch,
        "micro_batches": best.micro_batches,
        "concurrency_per_replica": best.concurrency,
        "tokens_per_s_per_replica": best.tokens_per_s,
        "replicas": needed.replicas,
        "clusters": needed.clusters,
        "chips": needed.chips,
        "racks": needed.racks,
        **idle_chips(machine, needed.clusters, needed.replicas),
        "parts": {part: needed.clusters * count for part, count in asdict(parts).items()},
        **asdict(needed.meters),
        "network_w": needed.clusters * machine.site.network_w,
        "energy_j_per_token": needed.meters.power_w / (needed.replicas * best.tokens_per_s),
        **power_terms(spec),
        "prices": spec.network.prices.name,
        "money": {basis: money(parts, spec, needed, basis) for basis in BASES},
        "frontier": [asdict(load) for load in frontier(points)],
        "assumes": list(ASSUMES),
    }


def money(parts: Parts, spec: Topology, needed: Fleet, basis: Basis) -> dict[str, float]:
    """Capital of all clusters of `parts` each, their cost an hour over their life, and that over the tokens served."""
    clusters, one_usd = needed.clusters, total_usd(bill(parts, spec, basis))
    usd_per_h = clusters * life_usd_per_h(parts, spec, one_usd, needed.meters.power_w / clusters)[0]
    return {
        "capital_usd": clusters * one_usd,
        "usd_per_h": usd_per_h,
        "usd_per_mtoken": usd_per_mtoken(usd_per_h, needed.replicas * needed.load.tokens_per_s),
    }
