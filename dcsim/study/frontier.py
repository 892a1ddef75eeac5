"""Speed for one user against tokens per second and chip: what one replica offers at each load, and what a fleet takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dcsim.errors import CapacityError
from dcsim.llm.program import Shape
from dcsim.study.machine import Machine, active_nodes


@dataclass(frozen=True, slots=True)
class Load:
    """One replica in a steady state: `micro_batches` of `batch` sequences follow one another round its stages.

    A round takes `interval_s`; every sequence advances by one token in it. `power_w` is at the wall, the replica's
    share of hosts, fans and idle chips with it, the site's overhead (PUE) not.
    """

    batch: int
    micro_batches: int
    interval_s: float
    tokens_per_s_per_user: float
    tokens_per_s: float
    tokens_per_s_per_chip: float
    concurrency: int
    power_w: float
    energy_j_per_token: float


def loads(machine: Machine, context: int, batches: tuple[int, ...] | None = None) -> list[Load]:
    """Every load the memory holds at `context` tokens a sequence, over the compiled batch sizes.

    For each batch: one micro-batch alone, as many as keep every stage busy, and one more (which no longer speeds
    anything up but shows the limit). A round takes max(latency, micro-batches x occupancy).
    """
    machine.require_context(Shape(1, context))
    found = []
    for batch in batches or machine.spec.serving.batch_buckets:
        room = machine.mapping.memory.kv_tokens_max // context // batch
        if room < 1:
            break
        time = machine.time(Shape(batch, context))
        full = max(1, time.latency_ps // max(1, time.occupancy_ps))
        for count in sorted({1, min(full, room), min(full + 1, room)}):
            interval_s = max(time.latency_ps, count * time.occupancy_ps) * 1e-12
            found.append(_load(machine, batch, count, interval_s, time.energy_j))
    if not found:
        needed, room = context, machine.mapping.memory.kv_tokens_max
        raise CapacityError(f"a context of {needed} tokens does not fit: there is room for {room}", needed, room)
    return found


def _load(machine: Machine, batch: int, count: int, interval_s: float, energy_j: float) -> Load:
    concurrency = batch * count
    rate = concurrency / interval_s
    chips = machine.mapping.tp * machine.mapping.pp
    watts = replica_power_w(machine, count * energy_j / interval_s)
    return Load(batch, count, interval_s, 1 / interval_s, rate, rate / chips, concurrency, watts, watts / rate)


def replica_power_w(machine: Machine, work_w: float) -> float:
    """Wall power of one replica: waiting chips, `work_w` above that, and its share of all else the cluster holds.

    Chips no replica uses stand idle; hosts count as busy. All of it is spread evenly over the replicas.
    """
    spec, mapping, fabric = machine.spec, machine.mapping, machine.fabric
    used = mapping.tp * mapping.pp
    unused = fabric.chip_count - used * mapping.replicas
    nodes = math.ceil(fabric.chip_count / spec.node.chips)
    shared_w = unused * spec.chip.power.idle_w + nodes * (spec.host.busy_w + spec.node.fan_w)
    inside_w = used * spec.chip.power.wait_w + work_w + shared_w / mapping.replicas
    return float(inside_w / spec.node.supply_efficiency)


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
    power_w: float  # at the site's meter


def fleet(machine: Machine, load: Load, tokens_per_s: float) -> Fleet:
    """As many replicas as the rate takes, in whole clusters; no spare for peaks, prompts or faults."""
    replicas = math.ceil(tokens_per_s / load.tokens_per_s)
    clusters = math.ceil(replicas / machine.mapping.replicas)
    fabric = machine.fabric
    nodes = max(len(active_nodes(fabric)), math.ceil(fabric.chip_count / machine.spec.node.chips))
    floor = math.ceil(nodes * machine.spec.node.rack_units / RACK_UNITS)
    named = len(set(fabric.rack_of[: fabric.chip_count].tolist()) - {-1})
    return Fleet(
        load,
        replicas,
        clusters,
        clusters * fabric.chip_count,
        clusters * max(named, floor),
        replicas * load.power_w * machine.spec.power.pue,
    )


RACK_UNITS = 42  # height of an ordinary rack
