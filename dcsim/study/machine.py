"""A built cluster: its network in place and how the LLM is laid over it. Every study starts here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dcsim.cluster.programs import CHUNK_TOKENS, Programs, Round, Times, any_batches, batches_of
from dcsim.errors import CapacityError, Problem, SlackError, SpecError
from dcsim.fabric.build import build_fabric
from dcsim.fabric.graph import Fabric
from dcsim.llm.layer_per_stage import lay_by_layer
from dcsim.llm.mapping import Mapping, candidates, lay
from dcsim.llm.program import Shape
from dcsim.network.network import Network, make_network
from dcsim.network.timing import InFlightTime, IterationTime
from dcsim.power.site import Site, site_of
from dcsim.spec.chip import LpuChip
from dcsim.spec.mapping import Objective, ObjectiveName
from dcsim.spec.topology import Topology
from dcsim.study.shape_times import ShapeTimes

if TYPE_CHECKING:
    from dcsim.study.search import MappingFound


@dataclass(frozen=True)
class Machine:
    """A built cluster: its network in place and the mapping of the LLM over its chips."""

    spec: Topology
    network: Network
    mapping: Mapping
    seed: int = 1  # of what a network draws
    found: MappingFound | None = None  # how the mapping was chosen; None: it was given
    readers: Machine | None = None  # replicas that only read prompts, where they are laid otherwise (`mapping.prefill`)

    @cached_property
    def site(self) -> Site:
        """What stands in its racks."""
        return site_of(self.network)

    @property
    def terms(self) -> dict[str, Any]:
        """What ran, by the names that results give it."""
        spec, mapping = self.spec, self.mapping
        degrees = {"tp": mapping.tp, "pp": mapping.pp, "replicas": mapping.replicas}
        return {"topology": spec.name, "llm": spec.llm.name, **spec.network.terms, **degrees, **self.chosen}

    @property
    def chosen(self) -> dict[str, Any]:
        """How the mapping was chosen, by the names that results give it: `search` is None where it was not searched for."""
        own, found = self.spec.mapping, self.found
        by_rule = own.rule if own.rule != "auto" else "given"
        return {
            "chunk_tokens": self.chunk_tokens,
            "objective": found.objective if found else by_rule,
            "search": asdict(found) | {"kv_tokens": self.mapping.memory.kv_tokens} if found else None,
        }

    @property
    def given(self) -> tuple[str, ...]:
        """Settings that give the same mapping by hand."""
        mapping = self.mapping
        degrees = f"mapping.tp={mapping.tp}", f"mapping.pp={mapping.pp}"
        if self.found is None:
            return degrees
        return *degrees, f"mapping.replicas={mapping.replicas}", f"serving.chunk_tokens={self.chunk_tokens}"

    @property
    def chunk_tokens(self) -> int:
        """Prompt tokens of one chunk."""
        given = self.spec.serving.chunk_tokens
        return CHUNK_TOKENS if given == "auto" else given

    @property
    def batches(self) -> tuple[int, ...]:
        """The batch sizes that iterations are padded to, smallest first."""
        return batches_of(self.spec.serving, self.spec.chip)

    def batches_held(self, context: int) -> tuple[int, ...]:
        """Batches of sequences of `context` tokens that memory holds: of the sizes of programs, or up to the last that fits
        (and that `serving.sequences_max` lets in).
        """
        serving, room = self.spec.serving, self.mapping.memory.room.sequences_max(context)
        if serving.batch_buckets is None and not isinstance(self.spec.chip, LpuChip):
            return any_batches(min(room, serving.sequences_max)) if room else ()
        return tuple(batch for batch in self.batches if batch <= room)

    def programs(self, time_shape: Callable[[Shape], Times] | None = None, *, proved: bool = True) -> Programs:
        """The programs of one replica, each timed when it is first asked for (by `time_shape`; left out: by the network).

        Unless `proved`, micro-batches of one shape follow each other as soon as chips and links have no more to do for one.
        """
        in_flight = self._kept.in_flight if self._kept and proved else None
        return Programs(self.spec.serving, time_shape or self.times, self.batches, in_flight)

    @cached_property
    def _kept(self) -> ShapeTimes | None:
        """Times that are kept, where programs are compiled, which takes long."""
        prove = self.network.times_in_flight()
        return ShapeTimes(self.network, prove, self.spec, self.mapping) if prove else None

    def round_ps(self, shape: Shape, count: int, time: IterationTime, *, proved: bool = True) -> int:
        """How long rounds of `count` micro-batches of `shape` take where nothing else is served, as runs count them.

        `time` is one's alone. Several that decode, and do not read a prompt, take what is proved for them in flight where
        programs are compiled, unless not `proved`.
        """
        times = self._time_in_flight(shape) if proved and count > 1 else None
        if times is None:
            return Round(time.latency_ps, count * time.occupancy_ps).clean_ps
        return Round(times.latency_ps, count * times.interval_ps, grid_ps=times.interval_ps).clean_ps

    def full(self, shape: Shape, time: IterationTime, *, proved: bool = True) -> int:
        """The most micro-batches that a round has room for without taking longer than for two; see `round_ps`."""
        times = self._time_in_flight(shape) if proved else None
        if times is None:
            return max(1, time.latency_ps // max(1, time.occupancy_ps))
        return -(-times.latency_ps // times.interval_ps)

    def _time_in_flight(self, shape: Shape) -> InFlightTime | None:
        return self._kept.in_flight(shape) if self._kept and shape.new_tokens == 1 else None

    @property
    def replica_chips(self) -> tuple[tuple[int, ...], ...]:
        """The chips of each replica."""
        return (*(self.readers.replica_chips if self.readers else ()), *self.mapping.chips)

    @property
    def fabric(self) -> Fabric:
        """The chips and all that joins them."""
        return self.network.fabric

    def time(self, shape: Shape, *, few: bool = False) -> IterationTime:
        """Mean time of one iteration of `shape`, or of the first few; as `Network.time`, without where it goes."""
        return self._kept.times(shape)[0] if self._kept else self.network.time(shape, few=few)

    def times(self, shape: Shape, *, parts: bool = False) -> tuple[IterationTime, ...]:
        """As `Network.times`."""
        return (self._kept or self.network).times(shape, parts=parts)

    def on(self, spec: Topology) -> Machine:
        """The same chips, mapping and prompt chunk on the network of another spec."""
        spec = with_chunk(spec, self.chunk_tokens)
        return Machine(
            spec, make_network(spec, self.network.bare, self.mapping, self.seed), self.mapping, self.seed, found=self.found
        )

    def require_context(self, shape: Shape) -> None:
        """Raise CapacityError for a context longer than the LLM was built for."""
        llm = self.spec.llm
        if shape.context > llm.context_max:
            what = f"a context of {shape.context:,} tokens is longer than {llm.name}'s own, {llm.context_max:,} (llm.context_max)"
            raise CapacityError(what, shape.context, llm.context_max)

    def require_room(self, shape: Shape) -> None:
        """Raise CapacityError unless the LLM has the shape's context and a replica's memory holds its sequences' KV."""
        self.require_context(shape)
        room = self.mapping.memory.room
        needed = shape.batch * room.cost(shape.context)
        if needed > room.capacity:
            sequences = f"{shape.batch:,} x {shape.context:,} tokens of context"
            raise CapacityError(
                f"{sequences} need KV room for {needed:,} {room.unit}, there is {room.capacity:,}", needed, room.capacity
            )


def build(spec: Topology, seed: int = 1) -> Machine:
    """Build the fabric, put the network in place and lay the LLM over the active chips.

    With `mapping.rule` that rule lays it; degrees that are given stay; others are searched for (`study.search`), or taken from a
    search that was made before. Raises CapacityError if nothing fits.
    """
    network = make_network(spec, build_fabric(spec.fabric), seed=seed)
    nodes = active_nodes(network.fabric)
    if spec.mapping.prefill is not None:
        return _pools(spec, network, nodes, seed)
    if spec.mapping.rule == "layer_per_stage":
        mapping = lay_by_layer(spec.llm, spec.chip, spec.mapping, nodes, max(spec.serving.context_buckets))
        return Machine(with_chunk(spec), network.laid(mapping), mapping, seed)
    if not is_searched(spec):
        return _inside_nodes(spec, network, nodes, seed)
    from dcsim.study.found import find

    found = find(for_objective(spec, objective_of(spec)))
    best = found.winner
    mapping = lay(spec.llm, spec.chip, spec.mapping.model_copy(update={"replicas": best.replicas}), best.tp, best.pp, nodes)
    return Machine(with_chunk(spec, best.chunk_tokens), network.laid(mapping), mapping, seed, found=found)


def _inside_nodes(spec: Topology, network: Network, nodes: list[list[int]], seed: int) -> Machine:
    """The degrees that are given, or the candidate inside nodes with the shortest decode iteration at batch 1 and half the LLM's
    context.

    It is taken among those with KV room for one sequence of full context (among all, if none has it); ties go to the fewest
    shards.
    """
    chips, node_chips = sum(len(node) for node in nodes), max(len(node) for node in nodes)
    machines = []
    for tp, pp in candidates(spec.llm, spec.chip, spec.mapping, chips, node_chips):
        mapping = lay(spec.llm, spec.chip, spec.mapping, tp, pp, nodes)
        machines.append(Machine(with_chunk(spec), network.laid(mapping), mapping, seed))
    if len(machines) == 1:
        return machines[0]
    probe = Shape(1, max(1, spec.llm.context_max // 2))
    roomy = [machine for machine in machines if machine.mapping.memory.kv_tokens_max >= spec.llm.context_max]
    return min(roomy or machines, key=lambda machine: _latency_ps(machine, probe))


def _latency_ps(machine: Machine, shape: Shape) -> float:
    """Time of one iteration; without end for a mapping whose program needs more slack than is given."""
    try:
        return machine.time(shape).latency_ps
    except SlackError:
        return math.inf


def is_searched(spec: Topology) -> bool:
    """Whether its mapping is searched for: degrees are left open, and no rule gives them."""
    own = spec.mapping
    return own.rule == "auto" and "auto" in (own.tp, own.pp)


def objective_of(spec: Topology) -> ObjectiveName:
    """What its mapping is searched for: what it says, or the largest rate that holds its SLO, or speed for one user without."""
    named = spec.mapping.objective
    if named != "auto":
        return named
    return "capacity" if {"workload", "slo"} <= spec.model_fields_set else "latency"


def for_objective(spec: Topology, objective: Objective) -> Topology:
    """The spec with its mapping searched for another objective."""
    return spec.model_copy(update={"mapping": spec.mapping.model_copy(update={"objective": objective})})


def _pools(spec: Topology, network: Network, nodes: list[list[int]], seed: int) -> Machine:
    """Two pools of unequal degrees: replicas that read prompts on the first chips, replicas that decode on those that follow.

    Raises SpecError where one of them has no replica or degrees are left to find, CapacityError where chips or memory fall short.
    """
    own, pool, readers = spec.mapping, spec.mapping.prefill, spec.serving.prefill_replicas
    assert pool is not None
    if not isinstance(own.replicas, int) or own.tp == "auto" or own.pp == "auto" or not 0 < readers < own.replicas:
        what = "needs serving.prefill_replicas of 1 or more, mapping.replicas beyond them, and tp and pp as numbers"
        raise SpecError(Problem("mapping.prefill", what, "for example --set serving.prefill_replicas=2 --set mapping.replicas=3"))
    degrees = {"tp": pool.tp, "attention_dp": pool.attention_dp, "ep": pool.ep}
    first = own.model_copy(update={**degrees, "replicas": readers, "prefill": None})
    rest = own.model_copy(update={"replicas": own.replicas - readers, "prefill": None})
    order = [chip for node in nodes for chip in node]
    taken = set(order[: readers * pool.tp * own.pp])
    left = [kept for node in nodes if (kept := [chip for chip in node if chip not in taken])]
    head = [kept for node in nodes if (kept := [chip for chip in node if chip in taken])]
    reading = lay(spec.llm, spec.chip, first, pool.tp, own.pp, head)
    decoding = lay(spec.llm, spec.chip, rest, own.tp, own.pp, left)
    reader = Machine(spec, network.laid(reading), reading, seed)
    return Machine(spec, network.laid(decoding), decoding, seed, readers=reader)


def build_held(spec: Topology, seed: int = 1) -> Machine:
    """As `build`; what was read of the spec to find the mapping does not count as read, only what the machine is made of.

    For those who ask what a figure moves while the mapping stays.
    """
    machine = build(spec, seed)
    if machine.found is None:
        return machine
    mapping = machine.mapping
    spec.forget_reads()
    return replace(build(by_hand(machine.spec, mapping.tp, mapping.pp, mapping.replicas), seed), found=machine.found)


def by_hand(spec: Topology, tp: int, pp: int, replicas: int) -> Topology:
    """The spec with these degrees given."""
    return spec.model_copy(update={"mapping": spec.mapping.model_copy(update={"tp": tp, "pp": pp, "replicas": replicas})})


def with_chunk(spec: Topology, chunk_tokens: int = CHUNK_TOKENS) -> Topology:
    """The spec with so many tokens in a prompt chunk, unless it names a number."""
    if spec.serving.chunk_tokens != "auto":
        return spec
    return spec.model_copy(update={"serving": spec.serving.model_copy(update={"chunk_tokens": chunk_tokens})})


def active_nodes(fabric: Fabric) -> list[list[int]]:
    """The active chips of each node that has any, in order."""
    nodes: dict[int, list[int]] = {}
    for chip in range(fabric.chip_count):
        if fabric.chip_active[chip]:
            nodes.setdefault(int(fabric.node_of[chip]), []).append(chip)
    return list(nodes.values())
