"""Commands that look at one thing: an LLM, a machine's topology, one iteration, its schedule, one collective."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from dcsim.cli.answer import give, seedless
from dcsim.cli.options import (
    Interconnect,
    Json,
    Llm,
    NoSeed,
    Objective,
    Seed,
    Settings,
    TopologyPath,
    bytes_of,
    say,
    with_objective,
    writable,
)

Batch = Annotated[int, typer.Option(min=1, help="Sequences that advance by one token.")]
Context = Annotated[
    int | None,
    typer.Option(min=1, help="Tokens of context of each, the new ones included; default: 2048, or the LLM's own if shorter."),
]
Prefill = Annotated[int, typer.Option(min=0, help="Read a prompt chunk of this many tokens instead of decoding.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog="Example: dcsim llm llama-3.1-405b --context 32768")(llm)
    app.command(epilog="Example: dcsim topology topologies/8rack.yaml --export 8rack.graphml")(topology)
    app.command(epilog="Example: dcsim iteration topologies/8rack.yaml --batch 1 --context 4096")(iteration)
    app.command(epilog="Example: dcsim power topologies/8rack.yaml --set power=hall")(power)
    app.command(epilog="Example: dcsim schedule topologies/64chip.yaml --trace timeline.json.gz")(schedule)
    app.command(epilog="Example: dcsim collective h100_sxm --op all_reduce --bytes 16KiB --ranks 8 --library nccl")(collective)


def llm(
    path: Annotated[str, typer.Argument(metavar="LLM", help="A name, a YAML file, a Hugging Face config.json or its folder.")],
    context: Annotated[int, typer.Option(min=1, help="Tokens of context of the one sequence that is counted.")] = 4096,
    seed: NoSeed = None,
    as_json: Json = False,
) -> None:
    """Count an LLM's parameters, the bytes of its weights, and what one sequence keeps of its context."""
    from dcsim.cli.tables import print_llm
    from dcsim.spec.llm import LlmSpec
    from dcsim.spec.load import read_entry
    from dcsim.spec.unused import unused_in_entry
    from dcsim.study.llm import describe

    entry, document, files = read_entry(path, "workloads/llms", LlmSpec)
    result = describe(entry, context)
    unused = unused_in_entry(entry, document, files)
    give(result, print_llm, as_json=as_json, seed=seed, unused=unused | seedless(seed))


def topology(
    topology: TopologyPath,
    interconnect: Interconnect = None,
    settings: Settings = None,
    export: Annotated[Path | None, typer.Option(help="Write the graph as .graphml or .json.", callback=writable)] = None,
    seed: NoSeed = None,
    as_json: Json = False,
) -> None:
    """Count chips, links, hops, bisection and cables of a topology, and what its network draws and costs."""
    from dcsim.cli.tables import print_topology
    from dcsim.spec.load import load
    from dcsim.spec.unused import unused
    from dcsim.study import topology as study

    resolved = load(topology, network=interconnect, settings=settings or [])
    result = study.topology(resolved.spec, export)
    give(result, print_topology, as_json=as_json, seed=seed, unused=unused(resolved) | seedless(seed), settings=settings)
    if export:
        say(f"written: {export}")


def iteration(
    topology: TopologyPath,
    batch: Batch = 1,
    context: Context = None,
    prefill: Prefill = 0,
    llm: Llm = None,
    interconnect: Interconnect = None,
    objective: Objective = None,
    settings: Settings = None,
    seed: Seed = 1,
    as_json: Json = False,
) -> None:
    """Time one iteration of one replica and say where the time goes."""
    from dcsim.cli.tables import print_iteration
    from dcsim.spec.load import load
    from dcsim.spec.unused import unused
    from dcsim.study import iteration as study
    from dcsim.study.machine import build

    resolved = load(topology, llm=llm, network=interconnect, settings=with_objective(settings, objective))
    machine = build(resolved.spec, seed)
    shape = study.shape_of(batch, context, prefill, machine.spec.llm)
    machine.require_room(shape)
    result = study.iteration(machine, shape)
    give(result, print_iteration, as_json=as_json, seed=seed, unused=unused(resolved), settings=settings)


def power(
    topology: TopologyPath,
    batch: Batch = 1,
    context: Context = None,
    llm: Llm = None,
    interconnect: Interconnect = None,
    objective: Objective = None,
    settings: Settings = None,
    seed: Seed = 1,
    as_json: Json = False,
) -> None:
    """Say where a cluster's power goes, from chips to the site's meter, and how fast a rack's draw swings."""
    from dcsim.cli.report_explain import print_power
    from dcsim.spec.load import load
    from dcsim.spec.unused import unused
    from dcsim.study import power as study
    from dcsim.study.iteration import shape_of
    from dcsim.study.machine import build

    resolved = load(topology, llm=llm, network=interconnect, settings=with_objective(settings, objective))
    machine = build(resolved.spec, seed)
    shape = shape_of(batch, context, 0, machine.spec.llm)
    machine.require_room(shape)
    result = study.power(machine, shape)
    give(result, print_power, as_json=as_json, seed=seed, unused=unused(resolved), settings=settings)


def schedule(
    topology: TopologyPath,
    batch: Batch = 1,
    context: Context = None,
    prefill: Prefill = 0,
    llm: Llm = None,
    objective: Objective = None,
    settings: Settings = None,
    seed: Seed = 1,
    trace: Annotated[
        Path | None, typer.Option(help="Write a Perfetto timeline (.json.gz): chips and links as tracks.", callback=writable)
    ] = None,
    as_json: Json = False,
) -> None:
    """Compile one iteration, prove the schedule, replay it on drifting clocks."""
    from dcsim.cli.tables import print_schedule
    from dcsim.spec.load import load
    from dcsim.spec.unused import unused
    from dcsim.study import schedule as study
    from dcsim.study.iteration import shape_of
    from dcsim.study.machine import build

    resolved = load(topology, llm=llm, settings=with_objective(settings, objective))
    machine = build(resolved.spec, seed)
    shape = shape_of(batch, context, prefill, machine.spec.llm)
    machine.require_room(shape)
    result = study.schedule(machine, shape, seed, trace, say)
    give(result, print_schedule, as_json=as_json, seed=seed, unused=unused(resolved), settings=settings)
    if trace:
        say(f"written: {trace}")


def collective(
    topology: TopologyPath,
    op: Annotated[str, typer.Option(help="all_reduce, all_gather, reduce_scatter, all_to_all, broadcast, send.")] = "all_reduce",
    size: Annotated[str, typer.Option("--bytes", help="Size with unit, such as 16KiB.")] = "16KiB",
    ranks: Annotated[int, typer.Option(min=2, help="Chips that take part: the first active ones.")] = 8,
    algorithm: Annotated[
        str,
        typer.Option(
            help="auto (the library's quickest), direct, one_shot, two_shot, hierarchical, ring, tree, pipeline, in_network."
        ),
    ] = "auto",
    protocol: Annotated[
        str, typer.Option(help="auto (the quickest), or one that the library has: ll, ll128, simple, plain.")
    ] = "auto",
    software: Annotated[
        str | None, typer.Option("--library", help="Library of calls, an entry of topologies/software such as nccl or verbs.")
    ] = None,
    settings: Settings = None,
    form: Annotated[str, typer.Option("--format", help="text, or nccl for what nccl-tests prints.")] = "text",
    seed: Seed = 1,
    as_json: Json = False,
) -> None:
    """Time one collective alone on the fabric."""
    from dcsim.cli.tables import print_collective
    from dcsim.errors import SpecError
    from dcsim.spec.load import load
    from dcsim.spec.unused import unused
    from dcsim.study import collective as study

    size_bytes = bytes_of(size)
    if form not in ("text", "nccl"):
        raise SpecError(f"--format: '{form}' is not known; use text or nccl")
    settings = [*(settings or []), *([f"network.software={software}"] if software else [])]
    resolved = load(topology, settings=settings)
    result = study.collective(resolved.spec, op, size_bytes, ranks, algorithm, protocol, seed)
    give(result, partial(print_collective, form=form), as_json=as_json, seed=seed, unused=unused(resolved), settings=settings)
