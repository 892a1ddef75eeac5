"""What the compiled copy knows of the model: all that is not listed here. Whatever it does not know, SimPy serves."""

from __future__ import annotations

from dcsim.cluster.fast import layout as c
from dcsim.spec.topology import Topology

BATCHING = {"continuous": c.CONTINUOUS, "prefill_first": c.PREFILL_FIRST, "static": c.STATIC}
ROUTERS = {"least_loaded": c.LEAST_LOADED, "round_robin": c.ROUND_ROBIN, "session": c.BY_SESSION}


def unknown(spec: Topology, *, replicas: int, drawn: bool, rounds: bool, chips: bool) -> list[str]:
    """What a run asks for that the copy does not know, as keys of the spec; empty: it can serve the run.

    `drawn`: the network gives several times for one shape; `rounds`: the rounds table is wanted; `chips`: so is every chip and
    link. A router is asked only where there are several replicas.
    """
    serving = spec.serving
    engine = serving.engine
    switches = spec.chip.kind == "lpu" and spec.chip.program_switch_s > 0
    asked = {
        "workload.trace.prefix_block_tokens": spec.workload.kind == "replay" and spec.workload.trace.prefix_block_tokens > 0,
        "network: iterations drawn at random": drawn,
        "--rounds": rounds,
        "--zoom chips": chips,
        "serving.engine.preemption: swap": engine is not None and engine.preemption == "swap",
        "serving.engine.batching": engine is not None and engine.batching not in BATCHING,
        "serving.engine on chips that switch programs": engine is not None and switches,
        "serving.admission": serving.admission != "in_turn",
        "serving.batching": engine is None and serving.batching not in BATCHING,
        "serving.router": replicas > 1 and serving.router not in ROUTERS,
        "serving.speculation": serving.speculation is not None,
        "mapping.prefill": spec.mapping.prefill is not None,
        "serving.patience": serving.patience_s > 0,
        "serving.timeout": serving.timeout_s > 0,
        "faults": spec.faults.any,
    }
    return [key for key, is_asked in asked.items() if is_asked]
