"""The mapping with the best objective: degrees, replicas and prompt chunk, searched for each network and chip on its own.

All mappings that `llm.mapping.choices` lists and that hold a request of the workload are laid out. Narrow groups come first; what
a wider one can do at best follows from its chips' work, beside the network's part in the widest timed so far, which is not less
for more chips. Only those that might win are timed, a few shapes each, and ordered by what these shapes promise. For `capacity`
the workload then decides: who does not hold the SLO at the best rate so far is out after one run; the others' rates are bisected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np

from dcsim.cluster.fast.knows import unknown
from dcsim.cluster.programs import CHUNK_TOKENS, Programs
from dcsim.economics.bill import bill, parts_of, total_usd
from dcsim.economics.cost import life_usd_per_h, usd_per_mtoken
from dcsim.errors import CapacityError, SlackError
from dcsim.fabric.build import build_fabric
from dcsim.llm.mapping import NO_LIMIT, Layout, Mapping, choices, lay
from dcsim.llm.program import Shape
from dcsim.llm.stages import cut_stages, plan_memory
from dcsim.network.network import Network, make_network
from dcsim.network.timing import IterationTime
from dcsim.spec.faults import FaultsSpec
from dcsim.spec.mapping import ObjectiveName
from dcsim.spec.topology import Topology
from dcsim.study.estimate import BetweenContexts, Demand, Promise, WithoutNetwork, demand_of, serving_rate, token_rate
from dcsim.study.frontier import loads
from dcsim.study.machine import Machine, active_nodes, objective_of, with_chunk
from dcsim.workload.closed import make_closed_loop
from dcsim.workload.generate import iterate_requests
from dcsim.workload.requests import Requests, plain

SEED = 1  # of the traffic that decides: a mapping is not chosen anew for each seed
REQUESTS_MAX = 20_000  # of the workload, its first, that decide
SAMPLE_S = 86_400.0  # between rows of the power table, which nobody asks for here
CHUNKS = (16, 32, 64, 128, 256, 512, 1024)  # prompt tokens of a chunk, where nobody names another number
TIMED_EACH = 3  # cuts into stages that are timed for one tensor-parallel degree
SERVED_MAX = 8  # mappings that serve the workload
DOUBT, SAME_WIDTH = 1.15, 1.05  # by how much a promise may be too low and its mapping still be left out
FAR_BEHIND, NEAR = 0.7, 0.8  # of the best promise: no wider groups are timed; the workload is served
TOLERANCE = 0.02  # of the winner's rate
ROUGHLY = 0.1  # of the rate of who came next
ROUGHLY_STEPS = (1 + ROUGHLY) ** np.arange(1, 16)  # down to a quarter
BEYOND = 2.0  # times what steady rounds promise: who holds that is not loaded by the workload
UNITS = {"capacity": "requests/s", "latency": "s an iteration", "throughput": "tokens/s", "cost": "USD per million tokens"}


@dataclass(frozen=True, slots=True)
class Choice:
    """A mapping with a prompt chunk, and its `value` by the objective: see `UNITS`; None: not known."""

    tp: int
    pp: int
    replicas: int
    chunk_tokens: int
    value: float | None = None


@dataclass(frozen=True, slots=True)
class MappingFound:
    """What a search found: the winner and who came next, what binds the winner, and numbers of chips nearby that change much.

    `limit` is one of kv, stage cut, bucket, chunk, pipeline and latency. `cliffs` are numbers of stages as wide as the winner's,
    with the chips of a replica that they take and the tokens of KV they hold.
    """

    objective: str
    unit: str
    winner: Choice
    runner_up: Choice | None
    limit: str
    cliffs: tuple[dict[str, int], ...] = ()
    mappings: int = 1  # that fit and hold a request
    timed: int = 0
    served: int = 0  # runs of the workload


def search(spec: Topology, tell: Callable[[str], None] = lambda _: None) -> MappingFound:
    """Find the mapping with the best objective; `tell` hears how far that is.

    Raises CapacityError where none fits, or none holds a request of the workload.
    """
    ground = _Ground.of(spec, tell)
    is_rate = ground.objective == "capacity"
    lacks = spec.workload.kind == "closed" or not len(ground.head)  # nobody comes, or at no rate that could be raised
    return _OBJECTIVES["latency" if is_rate and lacks else ground.objective](ground)


def promises(spec: Topology) -> list[Choice]:
    """Mappings, each with the chunk that is best for it, and the requests per second that they promise within the SLO.

    The best comes first, and those that cannot win are left out. Raises what `search` raises.
    """
    ground = _Ground.of(spec, lambda _: None)
    options = _promising(ground, serving_rate, ground.spec.serving.chunk_tokens == "auto")
    return [option.choice(option.load.per_s) for option in options]


@dataclass
class _Ground:
    """What is searched: the mappings, on which network, for which requests."""

    spec: Topology
    network: Network
    head: Requests
    demand: Demand
    mappings: list[Mapping]
    objective: ObjectiveName
    tell: Callable[[str], None]
    timed: int = 0
    served: int = 0

    @classmethod
    def of(cls, spec: Topology, tell: Callable[[str], None]) -> _Ground:
        objective = objective_of(spec)
        replaced = {"faults": FaultsSpec(), "engine": "compiled"}
        workload = spec.workload.model_copy(update={"rate_scale": 1.0})
        power = spec.power.model_copy(update={"sample_s": SAMPLE_S})
        spec = spec.model_copy(update={"workload": workload, "power": power, **replaced})
        network = make_network(spec, build_fabric(spec.fabric), seed=SEED)
        nodes = active_nodes(network.fabric)
        chips, node_chips = sum(map(len, nodes)), max(map(len, nodes))
        mappings = []
        for degrees in choices(spec.llm, spec.chip, spec.mapping, chips, node_chips):
            if objective == "latency" and spec.mapping.replicas is None:
                degrees = degrees._replace(replicas=1)
            mappings.append(_lay(spec, degrees, nodes))
        head = _head(spec)
        demand = demand_of(head, spec.llm)
        roomy = _roomy(mappings, demand, spec.llm.name)
        return cls(spec, network, head, demand, roomy, objective, tell)

    def machine(self, mapping: Mapping, chunk_tokens: int) -> Machine:
        spec = with_chunk(self.spec, chunk_tokens)
        return Machine(spec, self.network.laid(mapping), mapping, SEED)

    @property
    def chunk_tokens(self) -> int:
        given = self.spec.serving.chunk_tokens
        return CHUNK_TOKENS if given == "auto" else given


def _lay(spec: Topology, degrees: Layout, nodes: list[list[int]]) -> Mapping:
    own = spec.mapping.model_copy(update={"replicas": degrees.replicas})
    return lay(spec.llm, spec.chip, own, degrees.tp, degrees.pp, nodes)


def _head(spec: Topology) -> Requests:
    """The first requests of the workload; of users who wait for answers what they will ask."""
    if spec.workload.kind != "closed":
        return next(iterate_requests(spec.workload, SEED, REQUESTS_MAX), plain(np.zeros(0), *np.zeros((2, 0), np.int32)))
    loop = make_closed_loop(spec.workload, SEED)
    asked = loop.prompt_tokens.ravel()[:REQUESTS_MAX], loop.output_tokens.ravel()[:REQUESTS_MAX]
    return plain(np.zeros(len(asked[0])), *asked)


def _roomy(mappings: list[Mapping], demand: Demand, llm: str) -> list[Mapping]:
    """Those that hold the longest request; where none does, those with most room, if that holds the shortest."""

    def holds(mapping: Mapping, tokens: int) -> bool:
        return mapping.memory.room.cost(tokens) <= mapping.memory.room.capacity

    roomy = [mapping for mapping in mappings if holds(mapping, demand.tokens_max)]
    if roomy:
        return roomy
    most = max(mapping.memory.kv_tokens_max for mapping in mappings)
    if not any(holds(mapping, demand.tokens_min) for mapping in mappings):
        what = f"no mapping of {llm or 'the LLM'} on these chips holds one request of the workload: "
        raise CapacityError(
            f"{what}the shortest has {demand.tokens_min:,} tokens, there is room for {most:,}", demand.tokens_min, most
        )
    return [mapping for mapping in mappings if mapping.memory.kv_tokens_max == most]


@dataclass
class _Option:
    """A mapping whose shapes are timed as they are asked for."""

    machine: Machine
    programs: Programs
    load: Promise = field(default_factory=lambda: Promise(0.0, 0, "latency"))
    times: dict[Shape, IterationTime] = field(default_factory=dict)

    @classmethod
    def of(
        cls, machine: Machine, demand: Demand | None, times: dict[Shape, IterationTime] | None = None, *, proved: bool = False
    ) -> _Option:
        """Without a `demand` every shape is timed itself; `proved` as for `Machine.programs`."""
        known: dict[Shape, IterationTime] = {} if times is None else times

        def time(shape: Shape) -> IterationTime:
            known[shape] = machine.time(shape, few=True)
            return known[shape]

        between = BetweenContexts(time, machine.spec.serving, demand, known) if demand else time
        return cls(machine, machine.programs(between, proved=proved), times=known)

    @property
    def chunk_tokens(self) -> int:
        return self.programs.chunk_tokens

    def choice(self, value: float | None) -> Choice:
        mapping = self.machine.mapping
        return Choice(mapping.tp, mapping.pp, mapping.replicas, self.chunk_tokens, value)


Value = Callable[[Topology, Mapping, Programs, Demand], Promise]


def _promising(ground: _Ground, value: Value, chunks: bool = False) -> list[_Option]:
    """Options with a timed promise, the best first; those that cannot win are not timed.

    Wider groups gain by their chips' work and lose by their network and by shorter pipelines: they keep no more of what chips
    alone would do than narrower ones do, and after two widths that fall far behind no wider one is looked at. With `chunks`
    prompt chunks are looked for as well: wide groups take long to time, so each width begins with the best chunk so far.
    """
    options: list[_Option] = []
    best, network_ps, behind, chunk, kept = 0.0, 0, 0, ground.chunk_tokens, 1.0
    for _, group in groupby(ground.mappings, key=lambda mapping: mapping.tp):
        found = list(group)
        promised = [(_at_best(ground, mapping, network_ps, value, chunk), i) for i, mapping in enumerate(found)]
        timed: list[_Option] = []
        shares: list[float] = []  # of what chips alone would do
        for promise, i in sorted(promised, reverse=True)[:TIMED_EACH]:
            if options and promise * min(kept, max(shares, default=1.0)) * (SAME_WIDTH if shares else DOUBT) <= best:
                continue
            option = _timed(ground, found[i], value, chunk)
            if option is None:
                continue
            network_ps = max(network_ps, _of_network_ps(ground, option))
            if option.load.per_s and network_ps:
                shares.append(option.load.per_s / promise)
            if chunks and not timed and option.load.per_s >= FAR_BEHIND * best:
                option = _best_chunk(ground, option)
                chunk = option.chunk_tokens if option.load.per_s >= best else chunk
            timed.append(option)
            options.append(option)
            best = max(best, option.load.per_s)
        if len(options) > len(timed):  # the first width was measured against no network at all
            kept = min(kept, max(shares, default=1.0))
        behind = 0 if any(option.load.per_s >= FAR_BEHIND * best for option in timed) else behind + 1
        if behind == 2:
            break
    return sorted(options, key=lambda option: -option.load.per_s)


def _at_best(ground: _Ground, mapping: Mapping, network_ps: int, value: Value, chunk_tokens: int) -> float:
    """What a mapping promises on chips whose network takes no longer than it did for narrower groups."""
    spec = with_chunk(ground.spec, chunk_tokens)
    machine = Machine(spec, ground.network, mapping, SEED)
    return value(spec, mapping, machine.programs(WithoutNetwork(spec, mapping, network_ps), proved=False), ground.demand).per_s


def _timed(ground: _Ground, mapping: Mapping, value: Value, chunk_tokens: int) -> _Option | None:
    """The mapping with its promise; None for one whose program the network cannot have."""
    option = _Option.of(ground.machine(mapping, chunk_tokens), None if value is _speed else ground.demand)
    ground.timed += 1
    ground.tell(f"timing tp {mapping.tp}, pp {mapping.pp}, one of {len(ground.mappings)} mappings")
    try:
        option.load = value(option.machine.spec, mapping, option.programs, ground.demand)
    except SlackError:
        return None
    return option


def _of_network_ps(ground: _Ground, option: _Option) -> int:
    """What the network takes of the smallest shape that was timed; of a lone sequence's next token where none was."""
    least = min(option.times, key=lambda shape: (shape.rows, shape.context), default=option.programs.lone)
    alone = WithoutNetwork(ground.spec, option.machine.mapping)(least)
    return max(0, option.programs.times(least)[0].latency_ps - alone.latency_ps)


def _by_capacity(ground: _Ground) -> MappingFound:
    """The largest rate of the workload that holds the SLO."""
    options = _promising(ground, serving_rate, ground.spec.serving.chunk_tokens == "auto")
    if not options:
        raise SlackError("no mapping has a program that these clocks allow (network.clock.slack_cycles)")
    # Mappings are compared by programs, at rates of arrival.
    is_apart = ground.spec.workload.kind == "closed" or ground.spec.serving.engine is not None
    cannot = is_apart or unknown(ground.spec, replicas=1, drawn=False, rounds=False, chips=False)
    if not options[0].load.per_s:
        return _out_of_reach(ground)
    if cannot:
        return _by_promise(ground, options, "capacity")
    try:
        return _Race(ground, [options[0], *_rivals(options)]).run()
    except _TooFew:
        return _by_promise(ground, options, "capacity")


def _out_of_reach(ground: _Ground) -> MappingFound:
    """No mapping holds the SLO at any rate: the fastest comes nearest."""
    found = _by_latency(ground)
    second = found.runner_up and replace(found.runner_up, value=0.0)
    return replace(found, objective="capacity", unit=UNITS["capacity"], winner=replace(found.winner, value=0.0), runner_up=second)


def _rivals(options: list[_Option]) -> list[_Option]:
    """Those whose promise is near that of the first."""
    return [option for option in options[1:SERVED_MAX] if option.load.per_s >= NEAR * options[0].load.per_s]


def _best_chunk(ground: _Ground, option: _Option) -> _Option:
    """The mapping with the prompt chunk that promises most, from its own on: shorter ones first, which are soon timed."""
    best = option
    for step in (-1, 1):
        for chunk in _from(option.chunk_tokens, step):
            other = _with_chunk(ground, option, chunk)
            if other.load.per_s > best.load.per_s:
                best = other
            elif best.load.per_s or step > 0:
                break
        if best is not option:
            break
    return best


def _with_chunk(ground: _Ground, option: _Option, chunk_tokens: int) -> _Option:
    """The mapping with other prompt chunks."""
    machine = ground.machine(option.machine.mapping, chunk_tokens)
    other = _Option.of(machine, ground.demand, option.times)
    other.load = serving_rate(machine.spec, machine.mapping, other.programs, ground.demand)
    return other


def _from(chunk_tokens: int, step: int) -> tuple[int, ...]:
    """The shorter (`step` -1) or longer (1) chunks, the next first."""
    place = CHUNKS.index(chunk_tokens)
    return CHUNKS[:place][::-1] if step < 0 else CHUNKS[place + 1 :]


class _TooFew(Exception):
    """The workload is too short to load a mapping."""


class _Race:
    """Options that serve the workload, each at the best rate so far first."""

    def __init__(self, ground: _Ground, options: list[_Option]) -> None:
        self._ground, self._options = ground, options
        span_s = float(ground.head.arrival_s[-1] - ground.head.arrival_s[0])
        self._per_s = len(ground.head) / span_s if span_s else 1.0
        self._best: _Option = options[0]
        self._scale = 0.0  # that the best holds
        self._next: list[tuple[float, _Option]] = []  # scales that others hold
        self._kept = 0.0  # the most of its promise that anybody has kept

    def run(self) -> MappingFound:
        """The best, after all that might be have served."""
        for option in self._options:
            self._try(option)
        if not self._scale:
            return _out_of_reach(self._ground)
        if self._ground.spec.serving.chunk_tokens == "auto":
            self._other_chunks()
        scale, second = self._second()
        self._scale = self._proved(self._best, self._scale)
        if second is not None and scale > self._scale:
            scale = self._proved(second, scale)
        if second is not None and scale > self._scale:  # within the tolerance of each other
            self._best, second, self._scale, scale = second, self._best, scale, self._scale
        runner_up = None if second is None else second.choice(scale * self._per_s or None)
        return _found(self._ground, "capacity", self._best.choice(self._scale * self._per_s), runner_up, self._best.load.limit)

    def _try(self, option: _Option) -> bool:
        """Serve with the option, unless its promise is too low; whether it is the best now."""
        promise = option.load.per_s / self._per_s
        if not self._scale:
            scale = self._first(option, promise)
        elif promise * max(self._kept, 1.0) * DOUBT < self._scale:
            return False
        elif self._holds(option, self._scale * (1 + TOLERANCE)):
            scale = self._largest(option, self._scale * (1 + TOLERANCE))
            self._next.append((self._scale, self._best))
        else:
            self._next.append((0.0, option))
            return False
        if scale:
            self._best, self._scale, self._kept = option, scale, max(self._kept, scale / promise)
        return scale > 0

    def _first(self, option: _Option, promise: float) -> float:
        """The largest scale of an option that nothing is known of; 0 if it holds not even a small part of its promise."""
        for part in (1 / 2, 1 / 8, 1 / 32):
            if promise and self._holds(option, promise * part):
                return self._largest(option, promise * part)
        return 0.0

    def _largest(self, option: _Option, low: float, high: float = 0.0, tolerance: float = TOLERANCE) -> float:
        """The largest scale that holds, from one that does, below one that does not if that is known.

        Raises _TooFew where none is too large: so few requests are no load, at whatever rate they come.
        """
        factor, most = 1.25, BEYOND * option.load.per_s / self._per_s
        while not high:
            if low > most:
                raise _TooFew
            if not self._holds(option, low * factor):
                high = low * factor
            else:
                low, factor = low * factor, factor * factor
        while high / low > 1 + tolerance:
            middle = (low * high) ** 0.5
            low, high = (middle, high) if self._holds(option, middle) else (low, middle)
        return low

    def _proved(self, option: _Option, scale: float) -> float:
        """The largest scale up to `scale` that holds at the intervals that are proved, where programs are compiled; 0: none."""
        if self._ground.network.times_in_flight() is None:
            return scale
        proved = _Option.of(option.machine, self._ground.demand, option.times, proved=True)
        proved.load = option.load
        if self._holds(proved, scale):
            return scale
        for low in scale / ROUGHLY_STEPS:
            if self._holds(proved, low):
                return self._largest(proved, low, low * (1 + ROUGHLY))
        return 0.0

    def _holds(self, option: _Option, scale: float) -> bool:
        from dcsim.study.capacity import meets
        from dcsim.study.serve import serve_on

        head, spec = self._ground.head, option.machine.spec
        traffic = replace(head, arrival_s=head.arrival_s / scale)
        mapping = option.machine.mapping
        self._ground.tell(f"serving on tp {mapping.tp}, pp {mapping.pp} at {scale * self._per_s:.3g} requests/s")
        _, summary, _ = serve_on(option.machine, option.programs, spec, SEED, traffic=traffic)
        self._ground.served += 1
        return meets(summary, spec.slo.ttft_s, spec.slo.tpot_s)

    def _other_chunks(self) -> None:
        """Shorter and longer prompt chunks with the best mapping, as long as they are better."""
        for step in (-1, 1):
            for chunk in _from(self._best.chunk_tokens, step):
                if not self._try(_with_chunk(self._ground, self._best, chunk)):
                    break

    def _second(self) -> tuple[float, _Option | None]:
        """The best of the others, with the scale it holds; 0 if that is below a quarter of the best."""
        if not self._next:
            return 0.0, None
        scale, option = max(self._next, key=lambda pair: pair[0] or pair[1].load.per_s * self._kept / self._per_s)
        high = self._scale * (1 + TOLERANCE)
        for low in () if scale else (self._scale / 1.25, self._scale / 2, self._scale / 4):
            if self._holds(option, low):
                return self._largest(option, low, high, ROUGHLY), option
            high = low
        return scale, option


def _by_promise(ground: _Ground, options: list[_Option], objective: str) -> MappingFound:
    """The order of what timed shapes promise, where the workload itself cannot be served in the search."""
    second = options[1].choice(options[1].load.per_s) if len(options) > 1 else None
    return _found(ground, objective, options[0].choice(options[0].load.per_s), second, options[0].load.limit)


def _by_throughput(ground: _Ground) -> MappingFound:
    """The most tokens per second in KV room."""
    return _by_promise(ground, _promising(ground, token_rate), "throughput")


def _by_cost(ground: _Ground) -> MappingFound:
    """The fewest USD per token: chips and all around them bought, at the watts they draw while they serve most tokens."""
    options = _promising(ground, token_rate)[:TIMED_EACH]
    priced = sorted(((_usd_per_mtoken(option.machine, ground.demand), i) for i, option in enumerate(options)))
    usd, first = priced[0]
    second = options[priced[1][1]].choice(priced[1][0]) if len(priced) > 1 else None
    return _found(ground, "cost", options[first].choice(usd), second, options[first].load.limit)


def _usd_per_mtoken(machine: Machine, demand: Demand) -> float:
    spec, parts = machine.spec, parts_of(machine.site)
    points = loads(machine, min(demand.context, spec.llm.context_max), proved=False)
    load = max(points, key=lambda load: (load.interval_s <= spec.slo.tpot_s, load.tokens_per_s))
    replicas = machine.mapping.replicas
    usd_per_h, _ = life_usd_per_h(parts, spec, total_usd(bill(parts, spec, "buy")), load.power_w * replicas)
    return usd_per_mtoken(usd_per_h, load.tokens_per_s * replicas)


def _by_latency(ground: _Ground) -> MappingFound:
    """The shortest decode iteration of one sequence at half the LLM's context."""
    options = _promising(ground, _speed)
    if not options:
        raise SlackError("no mapping has a program that these clocks allow (network.clock.slack_cycles)")
    best = options[0]
    second = options[1].choice(1 / options[1].load.per_s) if len(options) > 1 else None
    return _found(ground, "latency", best.choice(1 / best.load.per_s), second, "latency")


def _speed(spec: Topology, mapping: Mapping, programs: Programs, demand: Demand) -> Promise:
    """Iterations a second of one sequence at half the LLM's context."""
    probe = Shape(1, max(1, spec.llm.context_max // 2))
    return Promise(1e12 / programs.times(probe)[0].latency_ps, 1, "latency")


def _found(ground: _Ground, objective: str, winner: Choice, second: Choice | None, limit: str) -> MappingFound:
    cliffs = tuple(_cliffs(ground, winner))
    return MappingFound(
        objective, UNITS[objective], winner, second, limit, cliffs, len(ground.mappings), ground.timed, ground.served
    )


def _cliffs(ground: _Ground, winner: Choice) -> Iterator[dict[str, int]]:
    """The fewest stages that hold as much KV, and the next number whose room grows half as much again as its chips do."""
    spec = ground.spec
    if spec.mapping.pp != "auto":
        return
    count = len(_blocks(spec))

    def tokens(pp: int) -> int:
        stages = cut_stages(spec.llm, spec.chip, spec.mapping, winner.tp, pp, range(count))
        return 0 if stages is None else plan_memory(spec.llm, spec.chip, spec.mapping, winner.tp, stages).kv_tokens_max

    own = tokens(winner.pp)
    if own >= NO_LIMIT:  # an LLM that keeps nothing has as much room anywhere
        return
    fewer = winner.pp
    while fewer > 1 and tokens(fewer - 1) >= own:
        fewer -= 1
    if fewer < winner.pp:
        yield {"pp": fewer, "chips": fewer * winner.tp, "kv_tokens": own}
    for pp in range(winner.pp + 1, min(count, winner.pp + max(8, winner.pp // 2)) + 1):
        room = tokens(pp)
        if room > 1.5 * own * pp / winner.pp:
            yield {"pp": pp, "chips": pp * winner.tp, "kv_tokens": room}
            return


def _blocks(spec: Topology) -> tuple[Any, ...]:
    from dcsim.llm.architecture import sublayers

    return sublayers(spec.llm)


_OBJECTIVES: dict[ObjectiveName, Callable[[_Ground], MappingFound]] = {
    "capacity": _by_capacity,
    "latency": _by_latency,
    "throughput": _by_throughput,
    "cost": _by_cost,
}
