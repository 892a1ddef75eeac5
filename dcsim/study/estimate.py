"""What a mapping would serve, from a few timed shapes: good enough to order mappings by, not to quote.

A replica decodes n sequences a round; each asks for `output_tokens` rounds, so n / output_tokens prompts are read a round, whole.
A round without a prompt takes the slowest micro-batch or what all of them hold the busiest stage for; with one, also the chunks'.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from dcsim.cluster.programs import Programs
from dcsim.errors import CapacityError
from dcsim.llm.blocks import Operation
from dcsim.llm.mapping import Mapping
from dcsim.llm.program import Shape, program_of
from dcsim.network.timing import IterationTime
from dcsim.spec.llm import LlmSpec
from dcsim.spec.topology import ServingSpec, Topology
from dcsim.workload.requests import Requests

UNEVEN = 0.75  # of the mean stage's room: with less at the tightest, the cut into stages wastes memory


@dataclass(frozen=True, slots=True)
class Demand:
    """Means of the workload's requests that the LLM can take, and the tokens of the shortest and the longest of them."""

    prompt_tokens: float
    output_tokens: float
    tokens_min: int
    tokens_max: int

    @property
    def context(self) -> int:
        """The context of a sequence half-way through its answer."""
        return max(1, round(self.prompt_tokens + self.output_tokens / 2))


def demand_of(requests: Requests, llm: LlmSpec) -> Demand:
    """Of no requests: the least there can be. Raises CapacityError where the LLM can take none of them."""
    if not len(requests):
        return Demand(1.0, 1.0, 1, 1)
    tokens = requests.prompt_tokens.astype(np.int64) + requests.output_tokens
    taken = tokens <= llm.context_max
    if not taken.any():
        least = int(tokens.min(initial=0))
        what = f"the shortest request has {least:,} tokens, more than {llm.name or 'the LLM'} takes (llm.context_max)"
        raise CapacityError(what, least, llm.context_max)
    return Demand(
        float(requests.prompt_tokens[taken].mean()),
        float(requests.output_tokens[taken].mean()),
        int(tokens[taken].min()),
        int(tokens[taken].max()),
    )


@dataclass(frozen=True, slots=True)
class Promise:
    """What all replicas serve at the best number of sequences, and what bounds it."""

    per_s: float  # requests or tokens
    sequences: int  # of one replica
    limit: str  # kv, stage cut, bucket, chunk, pipeline or latency


def serving_rate(spec: Topology, mapping: Mapping, programs: Programs, demand: Demand) -> Promise:
    """Requests per second of all replicas, times to first token and per token inside the SLO; 0 if no load has them so."""
    alone = programs.decode(1, _bucket(programs, demand.context))
    if max(alone.latency_ps, alone.occupancy_ps) * 1e-12 > spec.slo.tpot_s:
        return Promise(0.0, 0, "latency")  # nor with other chunks, so that none is timed
    chunks = ceil(demand.prompt_tokens / programs.chunk_tokens)
    reading = programs.chunk(_bucket(programs, demand.prompt_tokens))
    prompts = max(1.0, demand.prompt_tokens / max(spec.serving.prefill_tokens_max, programs.chunk_tokens))
    held = mapping.memory.room.sequences_max(round(demand.prompt_tokens + demand.output_tokens))
    best = Promise(0.0, 0, "latency")
    for count in _counts(min(held, spec.serving.sequences_max)):
        decode = programs.decode(count, _bucket(programs, demand.context))
        alone_ps = max(decode.latency_ps, decode.occupancy_ps)
        read_ps = max(alone_ps, reading.latency_ps, decode.occupancy_ps + chunks * reading.occupancy_ps)
        arriving = count / demand.output_tokens  # a round
        mean_ps = max(
            alone_ps + min(1.0, arriving) * (read_ps - alone_ps), decode.occupancy_ps + arriving * chunks * reading.occupancy_ps
        )
        round_s = mean_ps * 1e-12
        if round_s > spec.slo.tpot_s or prompts * read_ps * 1e-12 > spec.slo.ttft_s:
            continue
        rate = mapping.replicas * count / (demand.output_tokens * round_s)
        if rate > best.per_s:
            times_ps = decode.occupancy_ps, chunks * reading.occupancy_ps
            best = Promise(rate, count, _limit(mapping, programs, demand, count, held, *times_ps))
    return best


def token_rate(spec: Topology, mapping: Mapping, programs: Programs, demand: Demand) -> Promise:
    """Tokens per second of all replicas that KV room for whole requests allows, inside the SLO per token if any load is."""
    held = mapping.memory.room.sequences_max(round(demand.prompt_tokens + demand.output_tokens))
    best = {True: Promise(0.0, 0, "latency"), False: Promise(0.0, 0, "latency")}
    for count in _counts(min(held, spec.serving.sequences_max)):
        decode = programs.decode(count, _bucket(programs, demand.context))
        round_s = max(decode.latency_ps, decode.occupancy_ps) * 1e-12
        rate, inside = mapping.replicas * count / round_s, round_s <= spec.slo.tpot_s
        if rate > best[inside].per_s:
            best[inside] = Promise(rate, count, _limit(mapping, programs, demand, count, held, decode.occupancy_ps, 0))
    return best[True] if best[True].per_s else best[False]


def _limit(mapping: Mapping, programs: Programs, demand: Demand, count: int, held: int, decode_ps: int, prompt_ps: int) -> str:
    """What more of would raise the rate: room for KV, evener stages, other batches, shorter chunks, or a faster pipeline."""
    if count >= held:
        return "stage cut" if _evenness(mapping) < UNEVEN else "kv"
    if prompt_ps * count / demand.output_tokens > decode_ps:
        return "chunk"
    batch = programs.decode(count, _bucket(programs, demand.context)).micro_batches[0].shape.batch
    return "bucket" if batch == programs.batches[-1] and batch < count else "pipeline"


def _evenness(mapping: Mapping) -> float:
    """Room of the tightest chip as a share of the mean, of those that keep anything."""
    room = mapping.memory.room
    kept = room.chip_bytes(room.context_max)
    tokens = [free / size for free, size in zip(room.free_bytes, kept, strict=False) if size]
    return min(tokens) * len(tokens) / sum(tokens) if tokens and sum(tokens) else 1.0


def _counts(most: int) -> list[int]:
    """1, 2, 4 and so on, and `most`."""
    return sorted({1 << power for power in range(most.bit_length()) if 1 << power < most} | ({most} if most > 0 else set()))


def _bucket(programs: Programs, tokens: float) -> int:
    return min(bisect_left(programs.contexts, tokens), len(programs.contexts) - 1)


class BetweenContexts:
    """Times of shapes, of which those at the shortest and the longest context that the workload needs are `known` or measured.

    Between the two a time is taken to grow evenly with the context, as attention's work does (within 1 % on shipped systems).
    """

    def __init__(
        self, time: Callable[[Shape], IterationTime], serving: ServingSpec, demand: Demand, known: dict[Shape, IterationTime]
    ) -> None:
        contexts = sorted(serving.context_buckets)
        self._ends = contexts[0], contexts[min(bisect_left(contexts, demand.tokens_max), len(contexts) - 1)]
        self._time, self._known = time, known

    def __call__(self, shape: Shape) -> IterationTime:
        """The time of a shape."""
        if shape not in self._known:
            low, high = self._ends
            low = max(low, shape.new_tokens)
            self._known[shape] = self._between(shape, low, high) if low < shape.context < high else self._time(shape)
        return self._known[shape]

    def _between(self, shape: Shape, low: int, high: int) -> IterationTime:
        first, last = (self(replace(shape, context=context)) for context in (low, high))
        part = (shape.context - low) / (high - low)
        return IterationTime(
            round(first.latency_ps + part * (last.latency_ps - first.latency_ps)),
            round(first.occupancy_ps + part * (last.occupancy_ps - first.occupancy_ps)),
            first.work_j + part * (last.work_j - first.work_j),
            hazard=first.hazard,
        )


class WithoutNetwork:
    """Times of shapes from the chips' work alone, and `network_ps` that is added for what the network takes, at a guess."""

    def __init__(self, spec: Topology, mapping: Mapping, network_ps: int = 0) -> None:
        self._spec, self._mapping, self._network_ps = spec, mapping, network_ps

    def __call__(self, shape: Shape) -> IterationTime:
        """All stages one after another, and the busiest of them."""
        program, cycles = program_of(self._spec, self._mapping, shape), dict[int, int]()
        stages = []
        for stage in program.stages:
            for block in stage.blocks:
                if id(block) not in cycles:
                    cycles[id(block)] = sum(max(step.last_cycles) for step in block.steps if isinstance(step, Operation))
            stages.append(sum(cycles[id(block)] for block in stage.blocks))
        ps = 1e12 / program.clock_hz
        latency_ps = round(sum(stages) * ps) + self._network_ps
        return IterationTime(latency_ps, round(max(stages) * ps) + self._network_ps // len(stages), 0.0)
