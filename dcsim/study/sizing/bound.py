"""The most requests a second that a cluster could serve within its targets, were everything at its best.

Rate x (time that a request's chunks, and its share of the largest batches, hold the busiest stage) <= replicas; and by Little's
law rate x (KV that a request keeps x how long it does at least) <= room. Contexts and queues cost more than they do here: a size
that the bound refuses cannot hold, and one that it lets pass is simulated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.cluster.programs import CHUNK_TOKENS
from dcsim.llm.program import Shape
from dcsim.network.timing import IterationTime
from dcsim.spec.topology import Topology
from dcsim.study.machine import Machine
from dcsim.units import format_time
from dcsim.workload.generate import iterate_requests

Timing = Callable[[Shape], IterationTime]

SAMPLE = 20_000  # requests looked at
MARGIN = 1.1  # a bound is taken for one only with so much to spare: runs are finite, and a queue grows slowly


@dataclass(frozen=True, slots=True)
class Traffic:
    """Lengths of the first requests of a workload that the LLM can take, and their share among all."""

    prompt: NDArray[np.float64]
    fresh: NDArray[np.float64]  # of the prompt, less what the turn before has left
    output: NDArray[np.float64]
    share: float


def traffic_of(spec: Topology, seed: int) -> Traffic:
    """The workload's lengths, as far as the LLM's own context goes."""
    block = next(iterate_requests(spec.workload, seed, SAMPLE))
    prompt, output = block.prompt_tokens.astype(np.float64), block.output_tokens.astype(np.float64)
    taken = prompt + output - 1 <= spec.llm.context_max
    fresh = prompt - block.prefix_tokens
    return Traffic(prompt[taken], fresh[taken], output[taken], float(taken.mean()) if len(taken) else 0.0)


@dataclass(frozen=True, slots=True)
class RateBound:
    """The most requests a second of all kinds, and what sets it, in a few words."""

    requests_per_s: float
    reason: str
    hopeless: bool = False  # whether more of the same cannot help
    lone_s: float = 0.0  # between two tokens of one user alone


def bound_of(machine: Machine, traffic: Traffic, tpot_s: float | None, time: Timing | None = None) -> RateBound:
    """The bound of a cluster, its shapes timed by `time` (left out: by its network); 0 requests a second if even one user alone
    is too slow.
    """
    time = time or machine.time
    serving, replicas = machine.spec.serving, machine.mapping.replicas
    context = min(serving.context_buckets)
    lone_s = time(Shape(1, context)).latency_ps * 1e-12
    slow = too_slow(machine.spec, lone_s, tpot_s)
    if slow:
        return RateBound(0.0, slow, True, lone_s)
    drafts = drafts_of(machine.spec)
    if not len(traffic.prompt):
        return RateBound(float("inf"), "", lone_s=lone_s)
    batch = max(*machine.batches, serving.sequences_max if serving.engine else 1)  # an engine's batches are of any size
    full = time(Shape(batch, context))
    decode_s = float(traffic.output.mean()) / (drafts * batch) * full.occupancy_ps * 1e-12
    prefill_s = min(
        _prefill_s(machine.spec, traffic, tokens, time) for tokens in (machine.chunk_tokens, *chunks_beside(machine.spec))
    )
    found: list[tuple[float, str]] = [(replicas / max(decode_s + prefill_s, 1e-12), "the busiest stage")]
    room = machine.mapping.memory.room
    kept = float((traffic.output * (traffic.prompt + traffic.output / 2)).mean()) * lone_s / drafts
    tokens = machine.mapping.memory.kv_tokens
    if tokens is not None and room.by_tokens and kept > 0:
        found.append((replicas * tokens / kept, "KV room"))
    rate, what = min(found)
    whole = rate / traffic.share
    return RateBound(whole, f"{what} for {whole:.3g} requests/s at most", lone_s=lone_s)


def drafts_of(spec: Topology) -> int:
    """Tokens that one iteration gives at most."""
    return spec.serving.speculation.draft_tokens + 1 if spec.serving.speculation else 1


def too_slow(spec: Topology, lone_s: float, tpot_s: float | None) -> str:
    """In a few words that one user alone, whose iterations take `lone_s`, has his tokens too slowly; nothing if not."""
    if tpot_s is None or lone_s / drafts_of(spec) <= tpot_s:
        return ""
    return f"one token takes {format_time(lone_s)} alone, more than {format_time(tpot_s)}"


def _prefill_s(spec: Topology, traffic: Traffic, chunk_tokens: int, time: Timing) -> float:
    """Time that the chunks of a prompt hold the busiest stage, each at the least context it can have."""
    chunk = time(Shape(1, max(chunk_tokens, min(spec.serving.context_buckets)), chunk_tokens))
    return float(np.ceil(traffic.fresh / chunk_tokens).mean()) * chunk.occupancy_ps * 1e-12


def chunks_beside(spec: Topology, chunk_tokens: int | None = None) -> tuple[int, ...]:
    """Other sizes of prompt chunks than `chunk_tokens` (left out: the topology's), tried where that is not enough."""
    given = spec.serving.chunk_tokens
    own = chunk_tokens or (CHUNK_TOKENS if given == "auto" else given)
    return tuple(n for n in (own * 4, max(16, own // 4)) if n != own and n <= spec.serving.prefill_tokens_max)
