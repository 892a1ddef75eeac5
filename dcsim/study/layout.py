"""What stands where and does what: a row for each chip, and for each directed link, of a built cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.llm.program import Shape
from dcsim.network.tasks import COMPUTE
from dcsim.study.machine import Machine

Columns = dict[str, NDArray[Any]]


def chip_rows(machine: Machine, shape: Shape) -> Columns:
    """[chip] where it stands, what it holds, and how long it computes in one iteration of `shape`, alone.

    `replica`, `stage` and `shard` are -1 for chips of none; a chip of two stages is told by the first. `busy_s` is that of the
    chip's fellow in the first replica, which all others are like; `busy_fraction` is its share of the iteration.
    """
    fabric, mapping = machine.fabric, machine.mapping
    count = fabric.chip_count
    replica, stage, shard, fellow = (np.full(count, -1, np.int64) for _ in range(4))
    for number, stages in enumerate(mapping.replica_chips):
        for place, chips in enumerate(stages):
            for rank, chip in enumerate(chips):
                if replica[chip] < 0:
                    replica[chip], stage[chip], shard[chip] = number, place, rank
                    fellow[chip] = mapping.stage_chips[place][rank]
    spans = machine.network.spans(shape)
    computing = spans.tasks.kind == COMPUTE
    held_s = (spans.last_s - spans.start_s)[computing]
    busy_s = np.bincount(spans.tasks.chip[computing], held_s, count)
    own_s = np.where(fellow >= 0, busy_s[fellow], 0.0)
    return {
        "chip": np.arange(count),
        "node": fabric.node_of[:count].astype(np.int64),
        "rack": fabric.rack_of[:count].astype(np.int64),
        "active": fabric.chip_active.copy(),
        "replica": replica,
        "stage": stage,
        "shard": shard,
        "busy_s": own_s,
        "busy_fraction": own_s / max(float(spans.last_s.max(initial=0.0)), 1e-30),
    }


def link_rows(machine: Machine, shape: Shape) -> Columns:
    """[link] its ends, class, length and payload, and how long it clocks out bytes in one iteration of `shape`, alone."""
    fabric = machine.fabric
    busy_s = machine.network.link_busy_s(shape)
    iteration_s = machine.time(shape).latency_ps * 1e-12
    payload = np.broadcast_to(np.asarray(machine.network.link_payload_bytes_per_s(), np.float64), (fabric.link_count,))
    return {
        "link": np.arange(fabric.link_count),
        "source": fabric.link_source.astype(np.int64),
        "target": fabric.link_target.astype(np.int64),
        "link_class": np.array(fabric.link_classes)[fabric.link_class],
        "length_m": fabric.link_length_m.copy(),
        "payload_bytes_per_s": payload.copy(),
        "busy_s": busy_s,
        "busy_fraction": busy_s / iteration_s,
    }


def link_use_over_time(machine: Machine, programs: Mapping[str, Any]) -> Columns:
    """[interval, replica, link class] for what share of an interval links clock out bytes of the replica's iterations.

    `programs` is the run's table of that name: each iteration keeps the links of its replica busy as long as one of its shape
    does alone. `use_fraction_max` is the busiest link's, `use_fraction_mean` over the links that any of those shapes uses. KV on
    its way between replicas is not among it (table `kv_links`).
    """
    columns = {name: np.asarray(programs[name]) for name in ("time_s", "interval_s", "replica", "iterations")}
    shapes, kind = np.unique(
        np.stack([programs[name] for name in ("batch", "context", "new_tokens")], 1), axis=0, return_inverse=True
    )
    busy_s = np.stack([machine.network.link_busy_s(Shape(*map(int, shape))) for shape in shapes])
    rows, row = np.unique(np.stack([columns["time_s"], columns["replica"]], 1), axis=0, return_inverse=True)
    iterations = np.zeros((len(rows), len(shapes)))
    np.add.at(iterations, (row.ravel(), kind.ravel()), columns["iterations"])
    length_s = np.zeros(len(rows))
    length_s[row.ravel()] = columns["interval_s"]
    found: list[Columns] = []
    for number, name in enumerate(machine.fabric.link_classes):
        own = busy_s[:, (machine.fabric.link_class == number) & busy_s.any(axis=0)]
        if own.shape[1]:
            use = iterations @ own / length_s[:, None]
            found.append(
                {
                    "time_s": rows[:, 0],
                    "interval_s": length_s,
                    "replica": rows[:, 1].astype(np.int64),
                    "link_class": np.full(len(rows), name),
                    "use_fraction_mean": use.mean(axis=1),
                    "use_fraction_max": use.max(axis=1),
                }
            )
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}
