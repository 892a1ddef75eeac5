"""The iteration zoom: one iteration of one replica, where its time goes and what it costs."""

from __future__ import annotations

from typing import Any

from dcsim.llm.program import Shape
from dcsim.network.timing import IterationTime
from dcsim.spec.llm import LlmSpec
from dcsim.study.experts import overflow
from dcsim.study.idle import idle_chips
from dcsim.study.machine import Machine

CONTEXT = 2048  # tokens of context where none is asked for


# The figures of an iteration that are values: a sweep's metrics.
FIGURES = (
    *("llm", "interconnect", "software", "batch", "context", "new_tokens", "iteration_s", "occupancy_s"),
    *("tokens_per_s_per_user", "tokens_per_s", "concurrency", "chips_used", "tp", "pp", "kv_tokens"),
    *("chunk_tokens", "objective"),
    *("concurrency_in_kv_room", "tokens_per_s_in_kv_room", "energy_j"),
    *("experts_dropped_fraction", "experts_complete_fraction"),
    *("chips_installed", "idle_chips", "idle_spare_chips", "idle_power_w", "idle_buy_usd"),
)


def iteration(machine: Machine, shape: Shape) -> dict[str, Any]:
    """Time, speed, breakdown along the critical path and energy of one iteration of `shape`.

    `tokens_per_s` counts pipelined micro-batches: one every `occupancy_s`, `concurrency` of them in flight.
    `tokens_per_s_in_kv_room` is of the sequences that KV room allows, each at the shape's context.
    With `mapping.experts: capacity`, what finds no room stands in `experts_dropped_fraction` and `experts_complete_fraction`.
    `energy_j` is what all chips of the replica draw during one iteration alone: waiting, plus its work.
    """
    machine.require_context(shape)
    spec, mapping = machine.spec, machine.mapping
    time = _time(machine, shape)
    latency_s, occupancy_s = time.latency_ps * 1e-12, time.occupancy_ps * 1e-12
    chips = mapping.chips_used
    kv_tokens = mapping.memory.room.tokens(shape.context)
    return {
        "llm": spec.llm.name,
        **spec.network.terms,
        "batch": shape.batch,
        "context": shape.context,
        "new_tokens": shape.new_tokens,
        "iteration_s": latency_s,
        "occupancy_s": occupancy_s,
        "tokens_per_s_per_user": shape.new_tokens / latency_s,
        "tokens_per_s": shape.rows / occupancy_s,
        "concurrency": latency_s / occupancy_s * shape.batch,
        "chips_used": chips,
        "tp": mapping.tp,
        "pp": mapping.pp,
        "kv_tokens": kv_tokens,
        **machine.chosen,
        **in_kv_room(machine, time, shape, kv_tokens),
        **overflow(spec, shape.rows),
        "breakdown_s": time.breakdown_s,
        "energy_j": time.work_j + chips * spec.chip.power.wait_w * latency_s,
        **idle_chips(machine),
    }


def _time(machine: Machine, shape: Shape) -> IterationTime:
    """The network's time, or what a serving engine makes of it."""
    if machine.spec.serving.engine is None:
        return machine.network.time(shape, parts=True)
    from dcsim.study.serve import programs_of

    return programs_of(machine, machine.times).times(shape)[0]


def in_kv_room(machine: Machine, time: IterationTime, shape: Shape, kv_tokens: int | None) -> dict[str, float]:
    """Sequences in flight that KV room and stages allow, in whole micro-batches, and the throughput they give.

    `kv_tokens` None: nothing limits them but the stages.
    """
    full = max(-(-time.latency_ps // max(1, time.occupancy_ps)), machine.full(shape, time))
    count = full if kv_tokens is None else min(full, kv_tokens // shape.context // shape.batch)
    interval_s = machine.round_ps(shape, count, time) * 1e-12
    return {"concurrency_in_kv_room": count * shape.batch, "tokens_per_s_in_kv_room": count * shape.rows / interval_s}


def shape_of(batch: int, context: int | None, prefill: int, llm: LlmSpec) -> Shape:
    """A decode iteration, or a prompt chunk of `prefill` tokens that ends at `context` (default: see `context_of`)."""
    context = context_of(context, llm)
    return Shape(1, max(context, prefill), prefill) if prefill else Shape(batch, context)


def context_of(context: int | None, llm: LlmSpec) -> int:
    """The context asked for; where none is, `CONTEXT` tokens or the LLM's own context if that is shorter."""
    return min(CONTEXT, llm.context_max) if context is None else context
