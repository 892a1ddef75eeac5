"""Values that compare machines: at one speed per user, under other mappings and networks, with figures moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from dcsim.economics.bill import parts_of
from dcsim.economics.cost import usd_per_mtoken
from dcsim.llm.program import Shape
from dcsim.spec.load import Resolved
from dcsim.spec.price import RentPrices, read_prices
from dcsim.study.capacity import capacity
from dcsim.study.explain import moved
from dcsim.study.frontier import Load, best_load, fleet, loads
from dcsim.study.machine import Machine, build
from dcsim.study.plan import money
from validation.frozen import load
from validation.measures import Answer, answer_of, timed_iteration

SECONDS_PER_DAY = 86_400


def duty_gain(topology: str, *, context: int) -> Answer:
    """Uses of each weight with all stages busy, over its uses for one user: what concurrency makes of idle SRAM."""
    _, machine, points = _loads(topology, context, ())
    alone, full = points[0], max(points, key=lambda p: p.tokens_per_s)
    clock_hz = machine.spec.chip.clock_hz
    uses = full.micro_batches / full.interval_s * alone.interval_s
    return Answer(
        uses,
        {
            "cycles_between_uses_alone": alone.interval_s * clock_hz,
            "cycles_between_uses_full": full.interval_s / full.micro_batches * clock_hz,
            "concurrency_full": full.concurrency,
        },
    )


def speed_ratio(
    topology: str,
    *,
    set: Sequence[str] = (),
    other: str | None = None,
    other_set: Sequence[str] = (),
    other_interconnect: str | None = None,
    context: int = 2048,
    prefill: int = 0,
    extra: Sequence[str] = (),
) -> Answer:
    """Speed per user at batch 1, over that of another topology, or of the same with other settings or another interconnect.

    Of a prompt of `prefill` tokens read at once, if given. `extra` settings apply to both, but those of the network not to
    another one, and none to another topology.
    """
    shared = [text for text in extra if not other and not (other_interconnect and text.startswith("network."))]
    one = timed_iteration(topology, (*set, *extra), context=max(context, prefill), prefill=prefill)
    two = timed_iteration(
        other or topology, (*other_set, *shared), interconnect=other_interconnect, context=max(context, prefill), prefill=prefill
    )
    mine, theirs = one.result["iteration_s"], two.result["iteration_s"]
    return Answer(theirs / mine, {"iteration_s": mine, "other_iteration_s": theirs}, one.ends)


def per_bandwidth_ratio(topology: str, other: str, *, context: int, set: Sequence[str] = (), extra: Sequence[str] = ()) -> Answer:
    """Speed per user at batch 1 per memory bandwidth, over the same of another system."""
    resolved = load(topology, settings=[*set, *extra])
    one, two = build(resolved.spec), build(load(other, settings=tuple(set)).spec)
    shape = Shape(1, context)
    speeds = [1e12 / machine.time(shape).latency_ps for machine in (one, two)]
    per = [
        speed / machine.mapping.tp / machine.mapping.pp / machine.spec.chip.memory_bandwidth_bytes_per_s
        for speed, machine in zip(speeds, (one, two), strict=True)
    ]
    result = {"ratio": per[0] / per[1], "tokens_per_s_per_user": speeds[0], "other_tokens_per_s_per_user": speeds[1]}
    return answer_of(result, "ratio", "", tuple(result)[1:], resolved, one)


def throughput_ratio(
    topology: str,
    other: str,
    *,
    tokens_per_s_per_user: float,
    context: int,
    set: Sequence[str] = (),
    other_set: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Answer:
    """Tokens/s per chip at a speed per user, over the same of another system."""
    resolved, machine, mine = best_of(topology, tokens_per_s_per_user, context, [*set, *extra])
    theirs = best_of(other, tokens_per_s_per_user, context, other_set)[2]
    result = {"ratio": mine.tokens_per_s_per_chip / theirs.tokens_per_s_per_chip, **_beside(mine, theirs)}
    return answer_of(result, "ratio", "", tuple(result)[1:], resolved, machine)


def energy_ratio(
    topology: str,
    other: str,
    *,
    tokens_per_s_per_user: float,
    context: int,
    set: Sequence[str] = (),
    other_set: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Answer:
    """Energy per output token at a speed per user, hosts and fans included, over the same of another system."""
    resolved, machine, mine = best_of(topology, tokens_per_s_per_user, context, [*set, *extra])
    theirs = best_of(other, tokens_per_s_per_user, context, other_set)[2]
    result = {"ratio": mine.energy_j_per_token / theirs.energy_j_per_token, **_beside(mine, theirs)}
    return answer_of(result, "ratio", "", tuple(result)[1:], resolved, machine)


def best_of(topology: str, speed: float, context: int, settings: Sequence[str]) -> tuple[Resolved, Machine, Load]:
    """A system and its load of most tokens/s at a speed per user."""
    resolved, machine, points = _loads(topology, context, tuple(settings))
    return resolved, machine, best_load(points, speed)


@lru_cache(maxsize=64)
def _loads(topology: str, context: int, settings: tuple[str, ...]) -> tuple[Resolved, Machine, list[Load]]:
    """A system and all its loads, at which several rows look."""
    resolved = load(topology, settings=settings)
    machine = build(resolved.spec)
    return resolved, machine, loads(machine, context)


def _beside(mine: Load, theirs: Load) -> dict[str, float]:
    """Both systems' figures at their best loads."""
    return {
        f"{whose}{name}": getattr(load, name)
        for whose, load in (("", mine), ("other_", theirs))
        for name in ("tokens_per_s_per_user", "tokens_per_s_per_chip", "concurrency", "energy_j_per_token")
    }


def racks_for(
    topology: str,
    *,
    tokens_per_s: float,
    tokens_per_s_per_user: float,
    context: int,
    set: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Answer:
    """Racks that give a rate at a speed per user."""
    resolved, machine, best = best_of(topology, tokens_per_s_per_user, context, [*set, *extra])
    needed = fleet(machine, best, tokens_per_s)
    result = {
        "racks": needed.racks,
        "chips": needed.chips,
        "power_w": needed.meters.power_w,
        "replicas": needed.replicas,
        "concurrency_per_replica": needed.load.concurrency,
    }
    return answer_of(result, "racks", "", tuple(result)[1:], resolved, machine)


def tco_gain(
    topology: str, *, batch: int, context: int, usd_per_h: float, tokens_per_s: float, set: Sequence[str] = ()
) -> Answer:
    """Rent of another machine per token it generates, over the TCO per token of a full cluster at what it costs to build.

    Each server has one adapter and one switch port: the links that leave every chip of the fabric are shares of it.
    """
    resolved = load(topology, settings=tuple(set))
    machine = build(resolved.spec)
    best = max(loads(machine, context, (batch,)), key=lambda point: point.tokens_per_s)
    parts = parts_of(machine.site)
    parts = replace(parts, adapters=parts.nodes, switch_ports=parts.nodes)
    cost = money(parts, resolved.spec, fleet(machine, best, best.tokens_per_s), "build")
    rented = usd_per_mtoken(usd_per_h, tokens_per_s)
    return Answer(
        rented / cost["usd_per_mtoken"],
        {
            "usd_per_mtoken": cost["usd_per_mtoken"],
            "rented_usd_per_mtoken": rented,
            "tokens_per_s": best.tokens_per_s,
            "capital_usd": cost["capital_usd"],
            "concurrency": best.concurrency,
        },
    )


def tco_gain_over(
    topology: str,
    other: str,
    *,
    batch: int,
    context: int,
    rent: str,
    set: Sequence[str] = (),
    other_set: Sequence[str] = (),
) -> Answer:
    """As `tco_gain`, over another topology whose chips are rented and serve as many tokens as they can, at whatever speed."""
    rents, _ = read_prices(rent, RentPrices)
    theirs = max(_loads(other, context, tuple(other_set))[2], key=lambda load: load.tokens_per_s_per_chip)
    gain = tco_gain(
        topology, batch=batch, context=context, usd_per_h=rents.chip_hour_usd, tokens_per_s=theirs.tokens_per_s_per_chip, set=set
    )
    beside = {"other_tokens_per_s_per_chip": theirs.tokens_per_s_per_chip, "other_concurrency": theirs.concurrency}
    return Answer(gain.value, {**gain.also, **beside})


def tokens_of_servers(topology: str, *, batch: int, context: int, tokens_per_s: float, set: Sequence[str] = ()) -> Answer:
    """Tokens/s of one server, of the most that its cluster serves, over the tokens/s of another machine."""
    machine = build(load(topology, settings=tuple(set)).spec)
    best = max(loads(machine, context, (batch,)), key=lambda point: point.tokens_per_s)
    servers = int(machine.site.nodes.sum())
    return Answer(
        best.tokens_per_s / servers / tokens_per_s,
        {"tokens_per_s": best.tokens_per_s, "servers": servers, "tokens_per_s_per_user": best.tokens_per_s_per_user},
    )


def racks_served(topology: str, *, tokens_per_s: float, set: Sequence[str] = ()) -> Answer:
    """Racks whose workload has so many output tokens a second at the largest rate that holds its SLO: with prompts and queues."""
    racks, found = _at_capacity(topology, tuple(set))
    served = found["at_capacity"]
    beside = {
        "output_tokens_per_s_per_rack": served["output_tokens_per_s"] / racks,
        "requests_per_s_per_rack": found["capacity_requests_per_s"] / racks,
        "tokens_per_s_per_user_p50": served["tokens_per_s_per_user_p50"],
    }
    return Answer(racks * tokens_per_s / served["output_tokens_per_s"], beside)


def requests_a_day(topology: str, *, racks: float, users: int, set: Sequence[str] = ()) -> Answer:
    """Requests that each of `users` may send a day to so many racks which hold their SLO, all hours alike."""
    own, found = _at_capacity(topology, tuple(set))
    per_s = found["capacity_requests_per_s"] * racks / own
    return Answer(per_s * SECONDS_PER_DAY / users, {"requests_per_s": per_s})


@lru_cache(maxsize=8)
def _at_capacity(topology: str, settings: tuple[str, ...]) -> tuple[int, dict[str, Any]]:
    """Racks of a topology, and what `dcsim capacity` says of it."""
    resolved = load(topology, settings=settings)
    return build(resolved.spec).site.racks, capacity(resolved)


def elasticity(
    topology: str, figure: str, *, batch: int = 1, context: int = 2048, set: Sequence[str] = (), also: Sequence[str] = ()
) -> Answer:
    """Percent of speed per user gained for one percent more of a figure, over 10 % both ways; `also` other figures."""
    machine = build(load(topology, settings=tuple(set)).spec)
    values = {name: _elasticity(machine, name, Shape(batch, context)) for name in (figure, *also)}
    return Answer(values[figure], {name: values[name] for name in also})


def _elasticity(machine: Machine, figure: str, shape: Shape) -> float:
    low, high = (_speed(machine, figure, factor, shape) for factor in (0.9, 1.1))
    return (high - low) / _speed(machine, figure, 1.0, shape) / 0.2


def _speed(machine: Machine, figure: str, factor: float, shape: Shape) -> float:
    spec = moved(machine.spec, tuple(figure.split(".")), factor)
    return 1 / machine.on(spec).time(shape).latency_ps
