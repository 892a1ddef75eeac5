"""Lay an LLM over chips: blocks to stages, stages to chips, and whether it all fits in memory.

The rule `inside_nodes`, fixed before any published speed was compared: a tensor-parallel group stays inside a node, the only
neighbourhood in which every pair of chips has a link of its own; only an LLM of which no mapping inside nodes fits gets
groups of whole nodes, as few as fit. For each such degree the pipeline takes all chips offered (more stages mean more
room for KV cache at the price of a hop each), and of these candidates the caller takes the one with the shortest decode
iteration at batch 1. Added later, without effect on any system compared before: candidates with KV room for one sequence
of full context go first. A wider group given by hand may be faster for one user; it shares few cables and leaves a pipeline
with few stages, so it serves fewer users at once.

Where no rule is named, `study.search` chooses among `choices`: groups of any size inside a node (powers of two and
divisors of the heads) or of whole nodes, cut into as many stages as there are chips for, as few as fit, or whole layers a
stage; and as many replicas as are left room for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil, inf
from typing import NamedTuple

from dcsim.errors import CapacityError, SpecError
from dcsim.llm import architecture as arch
from dcsim.llm.kv import NO_LIMIT
from dcsim.llm.precision import told, weight_bytes
from dcsim.llm.stages import MemoryPlan, Stages, cut_stages, fewest_stages, limit_bytes, plan_memory
from dcsim.spec.chip import Chip
from dcsim.spec.llm import LlmSpec
from dcsim.spec.mapping import MappingSpec

# Wider groups are not tried when the fewest chips are named that would do; the widest anyone has published is 128.
SHARDS_MAX = 1024

# Cuts into stages that are looked at for one tensor-parallel degree: the fewest, the most, and others evenly between.
CUTS_MAX = 8

__all__ = ["NO_LIMIT", "Layout", "Mapping", "MemoryPlan", "candidates", "choices", "fewest_chips", "lay", "place"]


class Layout(NamedTuple):
    """Chips that share a layer, stages, copies."""

    tp: int
    pp: int
    replicas: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """`stages[s]` are the indexes of stage s's blocks; `replica_chips[replica][s][r]` is the chip of its
    shard r.

    With `head_apart` the last stage is the head alone, on as many chips as it was given, which may hold layers too. With
    `host_embedding` no chip holds the embedding: hosts look rows up.
    """

    spec: MappingSpec
    tp: int  # chips of one stage
    stages: Stages
    replica_chips: tuple[tuple[tuple[int, ...], ...], ...]
    memory: MemoryPlan
    head_apart: bool = False
    host_embedding: bool = False

    @property
    def pp(self) -> int:
        """Stages of one replica that hold layers."""
        return len(self.stages) - self.head_apart

    @property
    def stage_of_width(self) -> dict[int, tuple[int, ...]]:
        """The chips of the first stage of each width."""
        return {len(chips): chips for chips in reversed(self.stage_chips)}

    @property
    def shared_chips(self) -> frozenset[int]:
        """Chips of the first replica that are of two stages: those that hold the head beside layers."""
        return frozenset(self.stage_chips[-1]) & {chip for stage in self.stage_chips[:-1] for chip in stage}

    @property
    def chips_used(self) -> int:
        """Chips of one replica."""
        return len(self.chips[0])

    @property
    def chips(self) -> tuple[tuple[int, ...], ...]:
        """The chips of each replica, each once, stage by stage."""
        return tuple(tuple(dict.fromkeys(chip for stage in replica for chip in stage)) for replica in self.replica_chips)

    @property
    def replicas(self) -> int:
        """Copies of the LLM."""
        return len(self.replica_chips)

    @property
    def stage_chips(self) -> tuple[tuple[int, ...], ...]:
        """The chips of the first replica's stages."""
        return self.replica_chips[0]


def lay(llm: LlmSpec, chip: Chip, spec: MappingSpec, tp: int, pp: int, nodes: Sequence[Sequence[int]]) -> Mapping:
    """Map `llm` over `tp` x `pp` chips for each replica; `nodes` lists the active chips of each node, in
    order.

    `replicas: auto` makes as many as there are chips for, and one where nothing is said. Raises CapacityError if chips or memory
    do not suffice, with the fewest chips that would do, and SpecError if there are more stages than blocks.
    """
    chip_count = sum(len(node) for node in nodes)
    replicas = max(1, chip_count // (tp * pp)) if spec.replicas == "auto" else spec.replicas or 1
    if tp * pp * replicas > chip_count:
        needed = tp * pp * replicas
        raise CapacityError(
            f"mapping needs {needed} chips ({replicas} x {pp} stages x {tp}), {chip_count} are active",
            needed,
            chip_count,
        )
    require_heads(llm, tp // spec.attention_dp)
    count = len(arch.sublayers(llm))
    if pp > count:
        raise SpecError(f"mapping.pp of {pp} exceeds the {count} blocks of {llm.name or 'the LLM'}")
    stages = cut_stages(llm, chip, spec, tp, pp, range(count))
    if stages is None:
        raise _does_not_fit(llm, chip, spec, pp * tp)
    memory = plan_memory(llm, chip, spec, tp, stages)
    chips = place(nodes, tp, pp * replicas)
    copies = tuple(tuple(chips[i * pp : (i + 1) * pp]) for i in range(replicas))
    return Mapping(spec, tp, stages, copies, memory)


def candidates(llm: LlmSpec, chip: Chip, spec: MappingSpec, chip_count: int, node_chips: int = 8) -> list[tuple[int, int]]:
    """The (tp, pp) inside nodes of `node_chips`, all `chip_count` active chips used, that `spec` allows and that fit; of groups
    of whole nodes the first, if no other fits.

    Raises CapacityError, naming the fewest chips that would do, if none fits, and SpecError for more shards than heads.
    """
    if spec.tp != "auto":
        require_heads(llm, spec.tp // spec.attention_dp)
    offered = min(chip_count, spec.chips_max or chip_count)
    offered //= _copies_given(spec) or 1
    if _all_weight_bytes(llm, spec) > offered * limit_bytes(chip):
        raise _does_not_fit(llm, chip, spec, offered, node_chips)
    inside, across = _degrees(llm, spec, node_chips, offered)
    found = [pair for tp in inside if (pair := _fit(llm, chip, spec, tp, offered))]
    found = found or list(islice((pair for tp in across if (pair := _fit(llm, chip, spec, tp, offered))), 1))
    if not found:
        raise _does_not_fit(llm, chip, spec, offered, node_chips)
    return found


def choices(llm: LlmSpec, chip: Chip, spec: MappingSpec, chip_count: int, node_chips: int = 8) -> list[Layout]:
    """All degrees to choose from on `chip_count` active chips in nodes of `node_chips`, narrow groups first.

    Raises what `candidates` raises where there is none.
    """
    least = candidates(llm, chip, spec, chip_count, node_chips)
    given = _copies_given(spec)
    offered = min(chip_count // (given or 1), spec.chips_max or chip_count)
    inside, across = _degrees(llm, spec, node_chips, offered)
    found = []
    for tp in [*inside, *_worth(llm, across)]:
        fewest = fewest_stages(llm, chip, spec, tp)
        most = min(offered // tp, len(arch.sublayers(llm)))
        for pp in [spec.pp] if spec.pp != "auto" else _cuts(llm, fewest, most, 1 if given else offered // tp):
            if fewest <= pp <= most:
                found.append(Layout(tp, pp, given or chip_count // (tp * pp)))
    return found or [Layout(tp, pp, given or 1) for tp, pp in least]


def _copies_given(spec: MappingSpec) -> int:
    """Replicas as the file or the command line says, one where both degrees are given; 0: as many as one likes."""
    if spec.replicas is None:
        return 0 if "auto" in (spec.tp, spec.pp) else 1
    return 0 if spec.replicas == "auto" else spec.replicas


def _worth(llm: LlmSpec, widths: Sequence[int]) -> list[int]:
    """Of widths of whole nodes the narrowest for each number of heads that a shard then has: wider ones gain it nothing."""
    heads = arch.degree_max(llm)
    return sorted({ceil(heads / tp): tp for tp in reversed(widths)}.values())


def _cuts(llm: LlmSpec, fewest: int, most: int, chips: int) -> list[int]:
    """Numbers of stages between `fewest` and `most`: those two, whole layers a stage, and as many as let more copies in.

    `chips` is the number of groups there are chips for.
    """
    layers = max(1, len(arch.layer_blocks(llm)))
    whole = {-(-layers // each) for each in range(1, layers + 1)}
    copies = {chips // count for count in range(1, chips // fewest + 1)}
    found = sorted(pp for pp in {fewest, most} | whole | copies if fewest <= pp <= most)
    if len(found) <= CUTS_MAX:
        return found
    return sorted({found[round(i * (len(found) - 1) / (CUTS_MAX - 1))] for i in range(CUTS_MAX)})


def _fit(llm: LlmSpec, chip: Chip, spec: MappingSpec, tp: int, offered: int) -> tuple[int, int] | None:
    """(tp, pp) with as many stages as `offered` chips give, or None if that does not fit."""
    blocks = len(arch.sublayers(llm))
    pp = min(offered // tp, blocks) if spec.pp == "auto" else spec.pp
    fits = 1 <= pp * tp <= offered and pp <= blocks and fewest_stages(llm, chip, spec, tp) <= pp
    return (tp, pp) if fits else None


def place(nodes: Sequence[Sequence[int]], tp: int, stages: int) -> list[tuple[int, ...]]:
    """The chips of each of `stages` stages in order.

    A stage stays within a node if tp allows, or starts at a node's first chip; where that wastes too many
    chips, stages follow one another without gaps.
    """
    widest = max(len(node) for node in nodes)
    chunks: list[tuple[int, ...]] = []
    if tp <= widest:
        for node in nodes:
            chunks += [tuple(node[i : i + tp]) for i in range(0, len(node) - tp + 1, tp)]
    else:
        group: list[int] = []
        for node in nodes:
            group += node
            if len(group) >= tp:
                chunks.append(tuple(group[:tp]))
                group = []
    if len(chunks) < stages:
        flat = [chip for node in nodes for chip in node]
        chunks = [tuple(flat[i : i + tp]) for i in range(0, len(flat) - tp + 1, tp)]
    return chunks[:stages]


def fewest_chips(llm: LlmSpec, chip: Chip, spec: MappingSpec, node_chips: int = 8) -> tuple[int, int, int]:
    """The fewest chips that hold one replica and one token of its KV cache: (chips, tp, pp), or zeros if none do.

    Looks at the degrees that `candidates` looks at, so that many chips do indeed suffice.
    """
    blocks = len(arch.sublayers(llm))
    # However they are cut, the shards of the largest block hold all of it.
    largest = max(weight_bytes(llm, spec, block.weights(1)) for block in set(arch.sublayers(llm)))
    least = -(-largest // limit_bytes(chip))
    inside, across = _degrees(llm, spec, node_chips, SHARDS_MAX)
    fewest = (0, 0, 0)
    for tp in [*inside, *across]:
        if not least <= tp <= SHARDS_MAX or 0 < fewest[0] <= tp:
            continue
        pp = fewest_stages(llm, chip, spec, tp)
        if pp <= blocks and not 0 < fewest[0] <= tp * pp:
            fewest = (tp * pp, tp, pp)
    return fewest


def require_heads(llm: LlmSpec, tp: int) -> None:
    """Raise SpecError for more shards than heads."""
    heads = arch.degree_max(llm)
    if tp > heads:
        raise SpecError(f"mapping.tp of {tp} exceeds the {heads} query heads: a shard would hold none")


def _degrees(llm: LlmSpec, spec: MappingSpec, node_chips: int, chips: int) -> tuple[Sequence[int], Sequence[int]]:
    """Tensor-parallel degrees to try inside a node (powers of two and divisors of the heads), and of whole nodes; none with more
    shards than `chips`.
    """
    if spec.tp != "auto":
        return [spec.tp], []
    heads = arch.degree_max(llm)
    inside = [n for n in range(1, min(node_chips, heads) + 1) if heads % n == 0 or n & (n - 1) == 0]
    return inside, range(2 * node_chips, min(heads, chips) + 1, node_chips)


def _all_weight_bytes(llm: LlmSpec, spec: MappingSpec) -> int:
    return weight_bytes(llm, spec, arch.weights_of(arch.sublayers(llm)))


def _does_not_fit(llm: LlmSpec, chip: Chip, spec: MappingSpec, offered: int, node_chips: int = 8) -> CapacityError:
    needed = _all_weight_bytes(llm, spec)
    available = offered * limit_bytes(chip)
    chips, tp, pp = fewest_chips(llm, chip, spec, node_chips)
    bare = -(-needed // limit_bytes(chip))
    mend = f"the fewest chips that would do are {chips} (tp {tp}, pp {pp}; {bare} if blocks could be cut freely)"
    if not chips:
        mend = f"no number of chips would do, in stages of up to {SHARDS_MAX:,}: one block of it exceeds a stage"
    return CapacityError(
        f"{llm.name or 'the LLM'} needs {needed / 1e9:.2f} GB of {told(llm, spec)} weights and room for KV cache; "
        f"{offered} chips offer {available / 1e9:.2f} GB of {limit_bytes(chip) / 1e6:.1f} MB each; {mend}",
        needed if chips else inf,
        available,
    )
