"""The comparison of interconnects over cluster sizes: for each number of chips the largest LLM that fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

from dcsim.errors import CapacityError, SpecError
from dcsim.llm.architecture import parameter_count
from dcsim.llm.program import Shape
from dcsim.spec.fabric import LpuDragonfly
from dcsim.spec.load import load
from dcsim.spec.unused import Unused, unused_in_all
from dcsim.study.compare import compare
from dcsim.study.machine import active_nodes

SIZES = (64, 128, 264, 512, 1024, 1500)
LLMS = ("llama-3-8b", "llama-2-70b", "falcon-180b")


def scale(
    topology: str,
    interconnects: Sequence[str],
    shape: Shape,
    *,
    sizes: Sequence[int] = SIZES,
    llms: Sequence[str] = LLMS,
    settings: Sequence[str] = (),
    packet_settings: Sequence[str] = (),
    seed: int = 1,
    same_mapping: bool | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """`compare` at each size for the objective alone; a row for each size and candidate, and the sizes at which no LLM fits."""
    rows: list[dict[str, Any]] = []
    skipped: list[int] = []
    unused: list[Unused] = []
    for chips in sizes:
        own = [*settings, *size_settings(topology, chips, settings)]
        llm = largest_llm(topology, llms, own)
        if llm is None:
            skipped.append(chips)
            continue
        note = (lambda text, chips=chips: progress(f"{chips} chips: {text}")) if progress else None
        result = compare(
            topology,
            interconnects,
            shape,
            llm=llm,
            settings=own,
            packet_settings=packet_settings,
            seed=seed,
            same_mapping=same_mapping,
            lowest_latency=False,
            progress=note,
        )
        rows += [{"chips": chips, "llm": result["llm"], **candidate} for candidate in result["candidates"]]
        unused.append(result["unused_keys"])
    return {
        "topology": topology,
        "batch": shape.batch,
        "context": shape.context,
        "seed": seed,
        "rows": rows,
        "no_llm_fits": skipped,
        "unused_keys": unused_in_all(unused, (*settings, *packet_settings)),
    }


def size_settings(topology: str, chips: int, settings: Sequence[str]) -> list[str]:
    """Settings that give an LPU topology `chips` active chips: lone nodes while all nodes can join all, else racks.

    Racks keep their spare nodes; what the last rack has too much stays idle. SpecError for another kind of fabric.
    """
    fabric = load(topology, settings=list(settings)).spec.fabric
    if not isinstance(fabric, LpuDragonfly):
        raise SpecError(f"{topology}: only a fabric of kind lpu_dragonfly can be given any size, not {fabric.kind}")
    nodes = ceil(chips / fabric.chips_per_node)
    limit = [f"mapping.chips_max={chips}"]
    if nodes <= fabric.chips_per_node * fabric.global_ports + 1:
        return [f"fabric.nodes={nodes}", "fabric.racks=0", *limit]
    racks = ceil(nodes / (fabric.nodes_per_rack - fabric.spare_nodes_per_rack))
    return [f"fabric.racks={racks}", "fabric.nodes=0", *limit]


def largest_llm(topology: str, llms: Sequence[str], settings: Sequence[str]) -> str | None:
    """The LLM with the most parameters that fits, or None."""
    count = {name: parameter_count(load(topology, llm=name, settings=list(settings)).spec.llm) for name in llms}
    sized = sorted(count, key=lambda name: count[name], reverse=True)
    return next((name for name in sized if _fits(topology, name, settings)), None)


def _fits(topology: str, llm: str, settings: Sequence[str]) -> bool:
    from dcsim.fabric.build import build_fabric
    from dcsim.llm.mapping import candidates

    spec = load(topology, llm=llm, settings=list(settings)).spec
    nodes = active_nodes(build_fabric(spec.fabric))
    try:
        candidates(spec.llm, spec.chip, spec.mapping, sum(map(len, nodes)), max(map(len, nodes)))
    except CapacityError:
        return False
    return True
