"""One collective, or one message, alone on an idle packet network: wire, switches and the library's own costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import FabricError
from dcsim.llm.blocks import Collective
from dcsim.network.collectives import ALGORITHMS
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.iteration import Attached, breakdown_ps, vector_unit
from dcsim.network.packet.library import AUTO, Party, Way, choose_way, exchanged
from dcsim.network.packet.rules_of import faults_of, place_calls, software_of
from dcsim.network.tasks import LINK, SEND, TaskBuilder, Tasks
from dcsim.network.timing import Exchanged


def packet_collective(
    place: Attached,
    op: str,
    size_bytes: int,
    chips: Sequence[int],
    algorithm: str = "auto",
    protocol: str = "auto",
    seed: int = 1,
) -> Exchanged:
    """Time `op` over `size_bytes` among `chips`, `network.replications` times; op `send` goes from the first to the last.

    Raises FabricError for an algorithm the operation does not have, or a protocol the library does not have.
    """
    way, tasks, engine = _engine(place, op, size_bytes, chips, algorithm, protocol, seed)
    done = [engine.iteration(i, fresh=True) for i in range(place.network.replications)]
    times_s = tuple(one.finish_ps * 1e-12 for one in done)
    pattern, used = (way.algorithm, way.protocol) if way else ("direct", "")
    return Exchanged(pattern, times_s, int((tasks.size_bytes > 0).sum()), {"packets": done[0].packets}, used)


def packet_collective_parts(
    place: Attached, op: str, size_bytes: int, chips: Sequence[int], seed: int = 1
) -> NDArray[np.float64]:
    """[BREAKDOWN] seconds of `op` over `size_bytes` among `chips` alone, along its critical path."""
    asked = place.spec.mapping.all_reduce
    _, tasks, engine = _engine(place, op, size_bytes, chips, asked if (op, asked) in ALGORITHMS else AUTO, AUTO, seed)
    return breakdown_ps(engine.iteration(0, fresh=True), tasks) * 1e-12


def _engine(
    place: Attached, op: str, size_bytes: int, chips: Sequence[int], algorithm: str, protocol: str, seed: int
) -> tuple[Way | None, Tasks, Engine]:
    """The way a collective takes (None: it is one message), its tasks, and the engine that carries them out."""
    spec, network, joined, layers = place.spec, place.network, place.fabric, place.layers
    builder, way = TaskBuilder(spec.chip.clock_hz), None
    if op == "send":
        if algorithm not in (AUTO, "direct") or protocol != AUTO:
            raise FabricError("a message is sent as it is: 'send' has no algorithms and no protocols")
        builder.message(chips[0], chips[-1], size_bytes, [], LINK, SEND)
    else:
        step, party = Collective(op, op, size_bytes), Party.of(chips, joined, layers, vector_unit(spec.chip, network))
        way = choose_way(step, party, builder.clock_hz, algorithm, protocol)
        exchanged(builder, step, chips, [[] for _ in chips], party, way)
    tasks = place_calls(builder.build(), joined, layers.software)
    faults = faults_of(network, joined)
    return way, tasks, Engine(joined, layers.figures, tasks, software_of(layers), faults=faults, seed=seed)
