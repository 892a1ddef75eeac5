"""Speed for one user against tokens per second and chip: what one replica offers at each load, and what a fleet takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dcsim.errors import CapacityError
from dcsim.llm.program import Shape
from dcsim.power.site import Draw
from dcsim.power.steady import Meters, steady, together
from dcsim.study.machine import Machine


@dataclass(frozen=True, slots=True)
class Load:
    """One replica in a steady state: `micro_batches` of `batch` sequences follow one another round its stages.

    A round takes `interval_s`; every sequence advances by one token in it. `power_w` is the replica's part of what the
    site's meter reads while every replica of the cluster carries this load, `it_power_w` of what the racks' meters do.
    """

    batch: int
    micro_batches: int
    interval_s: float
    tokens_per_s_per_user: float
    tokens_per_s: float
    tokens_per_s_per_chip: float
    concurrency: int
    power_w: float
    it_power_w: float
    energy_j_per_token: float
    work_j: float  # what one micro-batch adds to the waiting of the replica's chips


def loads(machine: Machine, context: int, batches: tuple[int, ...] | None = None, *, proved: bool = True) -> list[Load]:
    """Every load the memory holds at `context` tokens a sequence, over the batch sizes of programs, or of any chip without.

    For each batch: one micro-batch alone, as many as keep every stage busy, and one more (which no longer speeds
    anything up but shows the limit). How long their rounds take is as in `Machine.round_ps`.
    """
    machine.require_context(Shape(1, context))
    found = []
    for batch in batches or machine.batches_held(context):
        room = machine.mapping.memory.room.sequences_max(context) // batch
        if room < 1:
            break
        time = machine.time(Shape(batch, context))
        full = machine.full(Shape(batch, context), time, proved=proved) if room > 1 else 1
        for count in sorted({1, min(full, room), min(full + 1, room)}):
            interval_s = machine.round_ps(Shape(batch, context), count, time, proved=proved) * 1e-12
            found.append(_load(machine, batch, count, interval_s, time.work_j))
    if not found:
        kept = machine.mapping.memory.room
        raise CapacityError(
            f"a context of {context} tokens does not fit: it takes {kept.cost(context)} of {kept.capacity} {kept.unit}",
            kept.cost(context),
            kept.capacity,
        )
    return found


def _load(machine: Machine, batch: int, count: int, interval_s: float, work_j: float) -> Load:
    concurrency = batch * count
    rate = concurrency / interval_s
    drawn = drawn_by(machine, work_j, count / interval_s, rate)
    chips, replicas = machine.mapping.chips_used, machine.mapping.replicas
    watts, racks_w = drawn.power_w / replicas, drawn.it_power_w / replicas
    return Load(batch, count, interval_s, 1 / interval_s, rate, rate / chips, concurrency, watts, racks_w, watts / rate, work_j)


def drawn_by(
    machine: Machine, work_j: float, micro_batches_per_s: float, tokens_per_s: float, replicas: int | None = None
) -> Draw:
    """What a cluster draws whose first `replicas` (default: all) go through so many micro-batches a second."""
    chips_in = machine.site.chips_in(machine.replica_chips)[:replicas]
    return steady(machine.site, chips_in, {"work": work_j}, micro_batches_per_s, tokens_per_s)


def frontier(points: list[Load]) -> list[Load]:
    """The loads no other beats in both speed per user and tokens per second, fastest first."""
    kept: list[Load] = []
    for load in sorted(points, key=lambda p: (-p.tokens_per_s_per_user, -p.tokens_per_s)):
        if not kept or load.tokens_per_s > kept[-1].tokens_per_s:
            kept.append(load)
    return kept


def best_load(points: list[Load], tokens_per_s_per_user: float) -> Load:
    """The load with most tokens per second that still gives each user this speed; CapacityError if none does."""
    fast = [load for load in points if load.tokens_per_s_per_user >= tokens_per_s_per_user]
    if not fast:
        most = max(load.tokens_per_s_per_user for load in points)
        raise CapacityError(
            f"{tokens_per_s_per_user:g} tokens/s per user is out of reach: {most:.4g} at most, at batch 1 alone",
            tokens_per_s_per_user,
            most,
        )
    return max(fast, key=lambda load: load.tokens_per_s)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Whole clusters like the topology that give a rate at a speed per user."""

    load: Load
    replicas: int
    clusters: int
    chips: int
    racks: int
    meters: Meters


def fleet(machine: Machine, load: Load, tokens_per_s: float) -> Fleet:
    """As many replicas as the rate takes, in whole clusters; no spare for peaks, prompts or faults.

    Replicas of the last cluster that the rate does not take stand idle, as do chips that no replica uses.
    """
    replicas = math.ceil(tokens_per_s / load.tokens_per_s)
    full, rest = divmod(replicas, machine.mapping.replicas)
    pace = load.work_j, load.micro_batches / load.interval_s, load.tokens_per_s
    meters = together([(full, drawn_by(machine, *pace)), (int(rest > 0), drawn_by(machine, *pace, replicas=rest))])
    clusters, site = full + (rest > 0), machine.site
    return Fleet(
        load,
        replicas,
        clusters,
        clusters * int(site.chips.sum()),
        clusters * site.racks,
        meters,
    )
