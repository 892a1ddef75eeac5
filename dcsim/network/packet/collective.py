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
from dcsim.network.packet.library import choose_pattern, exchange_among
from dcsim.network.packet.rules_of import faults_of, place_calls, software_of
from dcsim.network.tasks import LINK, SEND, TaskBuilder, Tasks
from dcsim.network.timing import Exchanged


def packet_collective(
    place: Attached, op: str, size_bytes: int, chips: Sequence[int], algorithm: str = "auto", seed: int = 1
) -> Exchanged:
    """Time `op` over `size_bytes` among `chips`, `network.replications` times; op `send` goes from the first to the last.

    Raises FabricError for an algorithm the operation does not have.
    """
    pattern, tasks, engine = _engine(place, op, size_bytes, chips, algorithm, seed)
    done = [engine.iteration(i, fresh=True) for i in range(place.network.replications)]
    times_s = tuple(one.finish_ps * 1e-12 for one in done)
    return Exchanged(pattern, times_s, int((tasks.size_bytes > 0).sum()), {"packets": done[0].packets})


def packet_collective_parts(
    place: Attached, op: str, size_bytes: int, chips: Sequence[int], seed: int = 1
) -> NDArray[np.float64]:
    """[BREAKDOWN] seconds of `op` over `size_bytes` among `chips` alone, along its critical path."""
    _, tasks, engine = _engine(place, op, size_bytes, chips, place.spec.mapping.all_reduce, seed)
    return breakdown_ps(engine.iteration(0, fresh=True), tasks) * 1e-12


def _engine(
    place: Attached, op: str, size_bytes: int, chips: Sequence[int], algorithm: str, seed: int
) -> tuple[str, Tasks, Engine]:
    """The pattern a collective takes, its tasks, and the engine that carries them out."""
    spec, network, joined, layers = place.spec, place.network, place.fabric, place.layers
    builder = TaskBuilder(spec.chip.clock_hz)
    pattern = algorithm
    if op == "send":
        pattern = "direct"
        builder.message(chips[0], chips[-1], size_bytes, [], LINK, SEND)
    else:
        if algorithm != "auto" and (op, algorithm) not in ALGORITHMS:
            raise FabricError(f"no collective '{op}' by '{algorithm}'")
        step = Collective(op, op, size_bytes, 1)
        if algorithm == "auto":
            pattern = choose_pattern(step, chips, joined, layers)
        exchange_among(chips, algorithm, joined, layers, vector_unit(spec.chip, network))(
            builder, step, chips, [[] for _ in chips]
        )
    tasks = place_calls(builder.build(), joined)
    faults = faults_of(network, joined)
    return pattern, tasks, Engine(joined, layers.figures, tasks, software_of(layers), faults=faults, seed=seed)
