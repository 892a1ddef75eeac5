"""Small clusters with made-up iteration times, so that the cluster room is tested by itself."""

from dataclasses import dataclass

import numpy as np

from dcsim.cluster.copies import Copies
from dcsim.fabric.graph import from_cables
from dcsim.llm.kv import SequenceRoom
from dcsim.llm.storage import EACH_TOKEN, Growth
from dcsim.network.timing import BREAKDOWN, InFlightTime, IterationTime
from dcsim.network.wires import Wires
from dcsim.workload.closed import ClosedLoop
from dcsim.workload.requests import Requests


@dataclass(frozen=True)
class Line:
    """An iteration time linear in batch, context and new tokens, all in microseconds."""

    base: float = 3000.0
    per_sequence: float = 10.0
    per_context_token: float = 0.01
    per_new_token: float = 30.0
    stages: int = 60
    energy_j: float = 20.0
    hazard: float = 0.0  # of bit errors, for each sequence of a batch

    def __call__(self, shape):
        us = self.base + self.per_sequence * shape.batch + self.per_context_token * shape.context
        us += self.per_new_token * (shape.new_tokens - 1)
        ps = int(us * 1e6)
        energy_j = self.energy_j * shape.batch * shape.new_tokens
        return IterationTime(ps, ps // self.stages, energy_j, hazard=self.hazard * shape.batch)


@dataclass(frozen=True)
class Steps:
    """Iterations of whatever tokens there are, in seconds: linear in rows, and in what sequences and prompts look back at."""

    base_s: float = 2e-3
    row_s: float = 5e-6
    context_s: float = 1e-8
    apart: int = 1

    def iteration(self, sequences, context, chunks=(), check_tokens=1):
        parts = np.zeros(len(BREAKDOWN))
        parts[0] = self.base_s + self.row_s * (sequences * check_tokens + sum(chunk.tokens for chunk in chunks))
        parts[1] = self.context_s * (sequences * context + sum(chunk.stop * chunk.tokens for chunk in chunks))
        return parts

    def joules(self, parts, power):
        return 1e3 * float(parts[0]) + 5e2 * float(parts[1])


class InFlight(Line):
    """The same, with times of its own for micro-batches that follow one another: a stage is held for a tenth longer."""

    def in_flight(self, shape):
        alone = self(shape)
        return InFlightTime(alone.occupancy_ps * 11 // 10, alone.latency_ps * 21 // 20)


def make_table(arrival_s, prompt_tokens, output_tokens):
    count = len(arrival_s)
    return Requests(
        np.asarray(arrival_s, float),
        np.asarray(prompt_tokens, np.int32),
        np.asarray(output_tokens, np.int32),
        np.zeros(count, np.int16),
        np.full(count, -1, np.int32),
        np.zeros(count, np.int32),
    )


def random_requests(count, rate_per_s, seed, prompt=800, output=100):
    random = np.random.default_rng(seed)
    return make_table(
        np.cumsum(random.exponential(1 / rate_per_s, count)),
        1 + random.poisson(prompt, count),
        1 + random.poisson(output, count),
    )


def uneven_room(tokens):
    """Room of two chips: one keeps every token and a state, the other a window, a state and an entry for every 4 tokens."""
    growths = (EACH_TOKEN, Growth(tokens_max=200), Growth(stride=4), Growth(always=1))
    return SequenceRoom(growths, ((10, 0, 0, 500.5), (0, 30, 16, 700)), (tokens * 10, tokens * 20), 4096)


def slow_copies(token_s, replicas=4):
    """Makes the links of a run: each replica is one chip on a switch, and a token takes `token_s` of a link."""
    star = from_cables("star", replicas, [(i, replicas, "adapter", 0.0) for i in range(replicas)], vertex_count=replicas + 1)
    links = star.link_count
    wires = Wires(1, np.full(links, round(token_s * 1e15)), np.zeros(links, np.int64), 0)
    return lambda: Copies(star, wires, [[i] for i in range(replicas)], lambda tokens: np.array([tokens]))


# No program to load, and hosts that take no time.
PLAIN = [
    "chip.program_switch=0 s",
    "host.request=0 s",
    "host.tokenise_token=0 s",
    "host.bus=0 s",
    "host.detokenise_token=0 s",
    "host.token=0 B",
]


def constant(latency_us, stages=10**6):
    """Every round takes the same time, whatever it does."""
    ps = int(latency_us * 1e6)
    return lambda shape: IterationTime(ps, ps // stages, 0.0)


def closed(users, think_s, requests=40, prompt=10, output=20, duration_s=0.0, requests_max=0):
    shape = (users, requests)
    return ClosedLoop(
        np.full(shape, think_s), np.full(shape, prompt, np.int32), np.full(shape, output, np.int32), duration_s, requests_max
    )


def agree(serve_small, traffic, **setup):
    """SimPy and the compiled copy serve the traffic, with the same rows to the last bit; returns the copy's result."""
    one, other = (serve_small(traffic, engine=engine, **setup) for engine in ("simpy", "compiled"))
    assert one.tables.keys() - {"limits_over_time", "programs"} == other.tables.keys()  # the copy keeps sums over time alone
    for table in ("requests", "gaps", "limits", "power", "kv_links"):
        for name, column in one.tables.get(table, {}).items():
            np.testing.assert_array_equal(column, other.tables[table][name], err_msg=f"{table}.{name}")
    assert (one.elapsed_s, one.concurrency_mean) == (other.elapsed_s, other.concurrency_mean)
    return other
