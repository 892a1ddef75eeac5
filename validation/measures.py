"""Values that come from one machine: what the commands `iteration`, `collective`, `topology`, `schedule` and `run` print."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from dcsim.errors import CapacityError, FabricError, SpecError
from dcsim.llm.program import Shape
from dcsim.network.timing import IterationTime
from dcsim.spec.chip import LpuChip
from dcsim.spec.host import HostSpec
from dcsim.spec.load import Resolved
from dcsim.spec.ranges import ranged_figures
from dcsim.study.machine import Machine, build
from validation.frozen import load, load_case


@dataclass(frozen=True, slots=True)
class Answer:
    """A computed value, other figures worth knowing beside it, and by figure the settings that move it to its ends.

    `held` are settings that keep the choices made (the mapping), so that moving one figure moves nothing else.
    """

    value: float
    also: Mapping[str, float] = field(default_factory=dict)
    ends: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    held: tuple[str, ...] = ()


def answer_of(
    result: Mapping[str, Any], metric: str, over: str, also: Sequence[str], resolved: Resolved, machine: Machine | None = None
) -> Answer:
    """`metric` of a command's result, divided by `over` if given; call it last, when all figures have been read."""
    value = float(result[metric]) / (float(result[over]) if over else 1.0)
    held = (f"mapping.tp={machine.mapping.tp}", f"mapping.pp={machine.mapping.pp}") if machine else ()
    return Answer(value, {name: float(result[name]) for name in also}, ranged_figures(resolved), held)


def iteration(
    topology: str,
    metric: str,
    *,
    over: str = "",
    batch: int = 1,
    context: int | None = None,
    prefill: int = 0,
    llm: str | None = None,
    interconnect: str | None = None,
    set: Sequence[str] = (),
    seed: int = 1,
    also: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Answer:
    """`metric` of one iteration."""
    timed = timed_iteration(topology, (*set, *extra), llm, interconnect, batch, context, prefill, seed)
    value = float(timed.result[metric]) / (float(timed.result[over]) if over else 1.0)
    return Answer(value, {name: float(timed.result[name]) for name in also}, timed.ends, timed.held)


@dataclass(frozen=True, slots=True)
class TimedRow:
    """What `dcsim iteration` prints and four figures derived from it; see Answer for the rest."""

    result: Mapping[str, Any]
    ends: Mapping[str, tuple[str, str]]
    held: tuple[str, ...]


@cache
def timed_iteration(
    topology: str,
    settings: tuple[str, ...],
    llm: str | None = None,
    interconnect: str | None = None,
    batch: int = 1,
    context: int | None = None,
    prefill: int = 0,
    seed: int = 1,
) -> TimedRow:
    """One iteration, at which several rows may look."""
    from dcsim.study import iteration as study

    resolved = load(topology, llm=llm, network=interconnect, settings=settings)
    machine = build(resolved.spec, seed)
    result = study.iteration(machine, study.shape_of(batch, context, prefill, machine.spec.llm))
    shape = Shape(batch, study.context_of(context, machine.spec.llm))
    result["utilisation"] = utilisation(machine, shape, result["occupancy_s"])
    result["utilisation_alone"] = utilisation(machine, shape, result["iteration_s"])
    result["power_w_per_chip"] = result["energy_j"] / result["iteration_s"] / result["chips_used"]
    result["time_between_uses_cycles"] = result["iteration_s"] * resolved.spec.chip.clock_hz
    held = f"mapping.tp={machine.mapping.tp}", f"mapping.pp={machine.mapping.pp}"
    return TimedRow(result, ranged_figures(resolved), held)


def utilisation(machine: Machine, shape: Shape, interval_s: float) -> float:
    """Arithmetic of one micro-batch every `interval_s`, over the 16-bit peak of all active chips per replica, used or not."""
    from dcsim.llm.architecture import flop_per_token

    if not machine.spec.llm.layers:
        return 0.0
    flop = flop_per_token(machine.spec.llm, shape.context) * shape.rows
    chips = int(machine.fabric.chip_active.sum()) / machine.mapping.replicas
    return flop / interval_s / (chips * peak_flop_per_s(machine.spec.chip))


def peak_flop_per_s(chip: Any) -> float:
    """Dense 16-bit peak of a chip; an LPU does two products of [1 x 160] x [160 x 320] a cycle (Abts et al., ISCA 2022)."""
    if chip.kind == "roofline":
        return float(chip.fp16_flop_per_s)
    return float(2 * (chip.tile // 2) * chip.tile * (chip.matrix_planes // 2) * chip.clock_hz)


def batch_job(
    topology: str,
    metric: str,
    *,
    batch: int,
    prompt: int,
    output: int,
    llm: str | None = None,
    host: bool = False,
    set: Sequence[str] = (),
    also: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Answer:
    """A batch of equal prompts read at once and decoded to the end, in as many micro-batches as there are stages.

    Prompts are cut into the chunks that serving uses, which follow one another down the pipeline. Every further token
    takes the latency, or all micro-batches' occupancy if that is longer; the context is that half-way through the answer.
    `host` puts one host server in front, as where requests came from outside: it accepts, tokenises and hands over.
    """
    settings = [*set, *extra]
    of = topology, llm, tuple(text for text in settings if not text.startswith("host"))
    resolved, machine = _machine(*of)
    micro = min(machine.mapping.pp, batch)
    size = -(-batch // micro)
    prefill_s = _prefill_s(of, size, micro, prompt)
    decode = _time(*of, Shape(size, prompt + output // 2))
    token_s = max(decode.latency_ps, micro * decode.occupancy_ps) * 1e-12
    front = load(topology, llm=llm, settings=settings)
    host_s = _host_s(front.spec.host, batch, prompt) if host else 0.0
    job_s = host_s + prefill_s + (output - 1) * token_s
    chips = machine.mapping.chips_used
    result = {
        "job_s": job_s,
        "prefill_s": prefill_s,
        "token_s": token_s,
        "host_s": host_s,
        "first_token_s": host_s + prefill_s,
        "processed_tokens_per_s_per_chip": batch * (prompt + output) / job_s / chips,
        "generated_tokens_per_s_per_chip": batch * output / job_s / chips,
    }
    answer = answer_of(result, metric, "", also, resolved, machine)
    return Answer(answer.value, answer.also, {**answer.ends, **ranged_figures(front)}, answer.held)


AS_BUILT = "mapping.rule=layer_per_stage"


def as_built(
    topology: str,
    *,
    llm: str | None = None,
    context: int = 0,
    prompt: int = 0,
    set: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Answer:
    """Tokens/s of one user at `context`, or at which a lone prompt of `prompt` tokens is read, with a stage for each layer.

    Beside it the same with groups inside nodes, and the chips of either, where the LLM fits so. A search finds what is no slower,
    in half a minute for each row on 1,500 chips.
    """
    settings = (AS_BUILT, *set, *extra)
    value, machine, resolved = _speed(topology, llm, settings, context, prompt)
    also = {"chips_used": float(machine.mapping.chips_used), "tp": float(machine.mapping.tp), "pp": float(machine.mapping.pp)}
    try:
        inside, other, _ = _speed(topology, llm, tuple(set), context, prompt)
    except CapacityError:
        pass
    else:
        degrees = {"inside_nodes_tp": float(other.mapping.tp), "inside_nodes_pp": float(other.mapping.pp)}
        also |= {"inside_nodes": inside, **degrees}
    held = () if any(text.startswith("mapping.rule") for text in set) else (f"mapping.tp={machine.mapping.tp}",)
    return Answer(value, also, ranged_figures(resolved), held)


def _speed(
    topology: str, llm: str | None, settings: tuple[str, ...], context: int, prompt: int
) -> tuple[float, Machine, Resolved]:
    of = topology, llm, settings
    resolved, machine = _machine(*of)
    seconds = _reading_s(of, prompt) / prompt if prompt else _time(*of, Shape(1, context)).latency_ps * 1e-12
    return 1 / seconds, machine, resolved


def _reading_s(of: tuple[str, str | None, tuple[str, ...]], prompt: int) -> float:
    """Seconds to read a lone prompt with the programs of serving: every chunk's occupancy, and the last one's latency."""
    machine = _machine(*of)[1]
    chunk, buckets = machine.chunk_tokens, sorted(machine.spec.serving.context_buckets)
    ends = [*range(chunk, prompt, chunk), prompt]
    times = [_time(*of, Shape(1, buckets[bisect_left(buckets, end)], chunk)) for end in ends]
    return (sum(time.occupancy_ps for time in times[:-1]) + times[-1].latency_ps) * 1e-12


@lru_cache(maxsize=64)
def _machine(topology: str, llm: str | None, settings: tuple[str, ...]) -> tuple[Resolved, Machine]:
    """One machine for all rows that look at it; hosts do not matter to it."""
    resolved = load(topology, llm=llm, settings=settings)
    return resolved, build(resolved.spec)


@cache
def _time(topology: str, llm: str | None, settings: tuple[str, ...], shape: Shape) -> IterationTime:
    """One iteration of such a machine."""
    return _machine(topology, llm, settings)[1].time(shape)


def _prefill_s(of: tuple[str, str | None, tuple[str, ...]], size: int, micro: int, prompt: int) -> float:
    """Seconds to read `micro` micro-batches of `size` prompts: every chunk's occupancy, and the last one's latency."""
    chunk = min(prompt, _machine(*of)[1].chunk_tokens)
    ends = range(chunk, prompt + chunk, chunk)  # the last chunk is padded to a whole one
    times = [_time(*of, Shape(size, end, chunk)) for end in ends]
    held_ps = micro * sum(time.occupancy_ps for time in times)
    return (held_ps - times[-1].occupancy_ps + times[-1].latency_ps) * 1e-12


def _host_s(host: HostSpec, batch: int, prompt: int) -> float:
    """Seconds an idle host server holds a batch of prompts: its cores take them in turns; then the bus, and a token's way out."""
    work_s = -(-batch // host.cores) * (host.request_s + prompt * host.tokenise_token_s)
    bus_s = host.bus_s + batch * prompt * host.token_bytes / host.bus_bandwidth_bytes_per_s
    return work_s + bus_s + host.bus_s + host.detokenise_token_s


def collective(
    topology: str,
    metric: str = "time_s",
    *,
    op: str = "all_reduce",
    bytes: str = "16KiB",
    ranks: int = 8,
    set: Sequence[str] = (),
    seed: int = 1,
    extra: Sequence[str] = (),
) -> Answer:
    """`metric` of one collective alone on the fabric."""
    result, resolved = _timed_collective(topology, op, bytes, ranks, (*set, *extra), seed)
    return answer_of(result, metric, "", (), resolved)


@cache
def _timed_collective(
    topology: str, op: str, size: str, ranks: int, settings: tuple[str, ...], seed: int
) -> tuple[Any, Resolved]:
    """One collective, which several rows may look at."""
    from dcsim.study import collective as study
    from dcsim.units import DATA, parse_quantity

    resolved = load(topology, settings=settings)
    return study.collective(resolved.spec, op, round(parse_quantity(size, DATA)), ranks, seed=seed), resolved


def path(topology: str, *, hops: int, size_bytes: int = 320, set: Sequence[str] = (), extra: Sequence[str] = ()) -> Answer:
    """Seconds of one message between two active chips that are `hops` links apart, alone on the fabric."""
    from dcsim.fabric.build import build_fabric
    from dcsim.fabric.routes import distances_to
    from dcsim.network.scheduled.network import CompiledNetwork
    from dcsim.network.tasks import TaskBuilder

    resolved = load(topology, settings=[*set, *extra])
    spec = resolved.spec
    fabric = build_fabric(spec.fabric)
    away = [int(chip) for chip in (distances_to(fabric, 0) == hops).nonzero()[0] if fabric.chip_active[chip]]
    if not away:
        raise FabricError(f"no active chip is {hops} hops from chip 0")
    builder = TaskBuilder(spec.chip.clock_hz)
    builder.message(away[0], 0, size_bytes, [])
    compiled, _ = CompiledNetwork.make(spec, fabric).alone(builder.build())
    result = {"time_s": compiled.makespan_cycles / spec.chip.clock_hz}
    return answer_of(result, "time_s", "", (), resolved)


def topology(
    topology: str,
    metric: str,
    *,
    also: Sequence[str] = (),
    set: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Answer:
    """`metric` of the fabric; `cables_CLASS` counts the cables of one class."""
    from dcsim.study import topology as study

    resolved = load(topology, settings=[*set, *extra])
    result = study.topology(resolved.spec)
    for cable in result["cables"]:
        name = f"cables_{cable['class']}"
        result[name] = result.get(name, 0) + cable["count"]
    return answer_of(result, metric, "", also, resolved)


def schedule(
    topology: str,
    metric: str,
    *,
    over: str = "",
    batch: int = 1,
    context: int | None = None,
    llm: str | None = None,
    set: Sequence[str] = (),
    seed: int = 1,
    extra: Sequence[str] = (),
) -> Answer:
    """`metric` of compiling, proving and replaying one iteration: exact, so that no figure's range can matter."""
    from dcsim.study import schedule as study
    from dcsim.study.iteration import context_of

    machine = build(load(topology, llm=llm, settings=[*set, *extra]).spec)
    result = study.schedule(machine, Shape(batch, context_of(context, machine.spec.llm)), seed)
    return Answer(float(result[metric]) / (float(result[over]) if over else 1.0))


def workload(
    topology: str,
    metric: str,
    *,
    workload: str | None = None,
    llm: str | None = None,
    duration: str | None = None,
    seed: int = 1,
    set: Sequence[str] = (),
    also: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Answer:
    """`metric` of a run's summary."""

    case = load_case(topology, llm=llm, workload=workload, duration=duration, set=[*set, *extra])
    run = case.run(seed)
    meta = run.meta
    answer = answer_of(run.summary, metric, "", also, case.resolved)
    return Answer(answer.value, answer.also, answer.ends, (f"mapping.tp={meta['tp']}", f"mapping.pp={meta['pp']}"))


def chip_image(topology: str, *, set: Sequence[str] = (), extra: Sequence[str] = ()) -> Answer:
    """Seconds of one ResNet-50 image on one chip."""
    from validation.resnet import cycles

    resolved = load(topology, settings=[*set, *extra])
    chip = resolved.spec.chip
    if not isinstance(chip, LpuChip):
        raise SpecError(f"chip '{chip.name}' is not of the kind that ResNet-50 is spelled out for")
    result = {"time_s": cycles(chip) / chip.clock_hz}
    return answer_of(result, "time_s", "", (), resolved)


def chip_product(
    topology: str,
    *,
    rows: int,
    k: int,
    n: int,
    absolute: bool = False,
    set: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Answer:
    """Use of one chip's 16-bit peak (or FLOP/s, if `absolute`) by a product of [rows x k] with a stored [k x n]."""
    from dcsim.llm.cost import Work, operation_cost

    resolved = load(topology, settings=[*set, *extra])
    chip = resolved.spec.chip
    work = Work("matrix", rows, rows, ((1, rows, k, n),), 2, 2)
    seconds = operation_cost(chip, work).last_cycles / chip.clock_hz
    return answer_of({"use": work.flop / seconds / (1 if absolute else peak_flop_per_s(chip))}, "use", "", (), resolved)


def layer(
    topology: str, part: str, *, batch: int = 1, context: int = 1024, set: Sequence[str] = (), extra: Sequence[str] = ()
) -> Answer:
    """Seconds of one decoder layer's operations of `part` (matrix, vector) on one shard, collectives apart."""
    from dcsim.llm import architecture as arch
    from dcsim.llm.blocks import Operation
    from dcsim.llm.plan import Plan
    from dcsim.llm.sublayers import Embedding, Head, build_block

    resolved = load(topology, settings=[*set, *extra])
    spec = resolved.spec
    machine = build(spec)
    plan = Plan(spec.llm, spec.chip, spec.mapping, machine.mapping.tp, Shape(batch, context))
    blocks = {id(block): block for block in arch.sublayers(spec.llm) if not isinstance(block, (Embedding, Head))}
    steps = [step for block in blocks.values() for step in build_block(plan, block).steps if isinstance(step, Operation)]
    cycles = sum(max(step.last_cycles) for step in steps if step.part == part)
    return answer_of({"time_s": cycles / spec.chip.clock_hz}, "time_s", "", (), resolved, machine)


def spread_break_even_bytes(topology: str, *, extra: Sequence[str] = ()) -> Answer:
    """The smallest power of two of bytes between two chips of a node that detours make faster than the direct link alone."""
    resolved = load(topology, settings=list(extra))
    size_bytes = 320
    while size_bytes < 2**24:
        alone = path(topology, hops=1, size_bytes=size_bytes, set=["network.detours_max=0"], extra=extra).value
        if path(topology, hops=1, size_bytes=size_bytes, extra=extra).value < alone:
            return answer_of({"bytes": size_bytes}, "bytes", "", (), resolved)
        size_bytes = 512 if size_bytes == 320 else 2 * size_bytes
    raise CapacityError("detours never pay")
