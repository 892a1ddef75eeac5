"""A cluster as a picture needs it: where each chip stands, and what it does and keeps in one iteration."""

from __future__ import annotations

from typing import Any

import numpy as np

from dcsim.spec.load import load
from dcsim.study.iteration import CONTEXT, shape_of
from dcsim.study.layout import chip_rows, link_rows
from dcsim.study.machine import build


def standing(topology: str, network: str | None = None, batch: int = 1) -> dict[str, Any]:
    """Chips column by column, with None where a spare has no value, and the cables within each node with their use.

    `use` and `links` are shares of one iteration of `batch` sequences, `queue` the longest queue in it before a link from or
    to the chip in bytes, `kv` the bytes a chip keeps of one sequence of CONTEXT tokens. Without a `network` it is the topology's
    own.
    """
    machine = build(load(topology, network=network).spec)
    shape = shape_of(batch, None, 0, machine.spec.llm)
    machine.require_context(shape)
    chips, links = chip_rows(machine, shape), link_rows(machine, shape)
    count, fabric = machine.fabric.chip_count, machine.fabric
    busiest, queue = np.zeros(fabric.vertex_count), np.zeros(fabric.vertex_count)
    np.maximum.at(busiest, links["source"], links["busy_fraction"])
    for end in ("source", "target"):
        np.maximum.at(queue, links[end], machine.network.link_queue_bytes(shape))
    kept = np.full(count, np.nan)
    own = np.asarray(machine.mapping.memory.room.chip_bytes(min(CONTEXT, machine.spec.llm.context_max)), float)
    for replica in machine.replica_chips:
        kept[list(replica)] = own[: len(replica)]
    used = chips["stage"] >= 0
    inside = (links["source"] < links["target"]) & (links["target"] < count)
    cables: dict[str, list[tuple[int, int, float]]] = {}
    ends = (links[name][inside].tolist() for name in ("source", "target", "busy_fraction"))
    for source, target, use in zip(*ends, strict=True):
        if fabric.node_of[source] == fabric.node_of[target]:
            cables.setdefault(str(int(fabric.node_of[source])), []).append((source, target, float(f"{use:.4g}")))
    # Links of one replica are timed, which all others are like; chips of the others have no figure of their own.
    first = np.zeros(count, bool)
    first[list(machine.replica_chips[0])] = True
    return {
        "topology": topology,
        "llm": machine.spec.llm.name,
        "network": machine.spec.network.name,
        "tp": machine.mapping.tp,
        "pp": machine.mapping.pp,
        "replicas": machine.mapping.replicas,
        "links": fabric.link_count,
        "iteration_s": machine.time(shape).latency_ps * 1e-12,
        "links_of": cables,
        "chips": {
            "chip": chips["chip"].tolist(),
            "node": chips["node"].tolist(),
            "rack": chips["rack"].tolist(),
            "active": chips["active"].tolist(),
            "stage": _column(chips["stage"].astype(float), used),
            "use": _column(chips["busy_fraction"], used),
            "links": _column(busiest[:count], first),
            "queue": _column(queue[:count], first),
            "kv": _column(kept, used & np.isfinite(kept)),
        },
    }


def _column(values: Any, known: Any) -> list[float | None]:
    return [float(f"{value:.5g}") if there else None for value, there in zip(values.tolist(), known.tolist(), strict=True)]
