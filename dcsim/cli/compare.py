"""Commands that compare interconnects: on one cluster, and over sizes."""

from __future__ import annotations

from typing import Annotated

import typer

from dcsim.cli.answer import give
from dcsim.cli.machine import Batch, Context, Prefill
from dcsim.cli.options import (
    Engine,
    FigureFile,
    Json,
    Llm,
    Objective,
    Seed,
    Settings,
    TopologyPath,
    say,
    with_engine,
    with_objective,
    write_picture,
)

Interconnects = Annotated[str, typer.Option("--interconnect", help="Networks to compare, by name, with commas between.")]
Replications = Annotated[int, typer.Option(min=1, help="Successive iterations simulated of each packet network.")]
FewOrMany = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Successive iterations simulated of each packet network; default: its own, 20 where nothing disturbs them, or as "
        "many as have 5 million packets.",
    ),
]
Load = Annotated[float | None, typer.Option(min=0.0, max=0.99, help="Cross traffic on packet networks' busiest link, 0..1.")]
LoadPattern = Annotated[
    str | None, typer.Option(help="Where cross traffic goes: every_link (alike on all), uniform, perm, adversarial or incast.")
]
Fairness = Annotated[
    str | None, typer.Option(help="What packets get for a chip's cables: equal_bandwidth, equal_radix, equal_cost or pcie.")
]
Jitter = Annotated[
    str | None, typer.Option(help="Host jitter on packet networks: an entry of topologies/jitter such as host, or off.")
]
SameMapping = Annotated[bool, typer.Option("--same-mapping", help="Give every network the mapping found for the first one.")]
DEFAULT = "scheduled,infiniband-ndr,roce-400g"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog="Example: dcsim compare topologies/8rack.yaml --interconnect scheduled,infiniband-ndr,roce-400g")(compare)
    app.command(epilog="Example: dcsim scale topologies/8rack.yaml --sizes 64,512,1500")(scale)


def compare(
    topology: TopologyPath,
    interconnect: Interconnects = DEFAULT,
    llm: Llm = None,
    batch: Batch = 1,
    context: Context = None,
    prefill: Prefill = 0,
    replications: FewOrMany = None,
    load: Load = None,
    load_pattern: LoadPattern = None,
    jitter: Jitter = None,
    fairness: Fairness = None,
    objective: Objective = None,
    own_mapping: Annotated[bool, typer.Option(help="Give each network its own best mapping, not the first one's.")] = False,
    same_mapping: SameMapping = False,
    serve: Annotated[str | None, typer.Option(help="Also serve so much of the workload on each, e.g. '60 s'.")] = None,
    settings: Settings = None,
    engine: Engine = None,
    seed: Seed = 1,
    figure: FigureFile = None,
    as_json: Json = False,
) -> None:
    """Time an LLM on several interconnects and take the gaps apart. `--set network.KEY` is for packet networks.

    All have the first one's mapping. With --objective each has the mapping that serves it best there, then the one with its
    lowest latency.
    """
    from dcsim.cli.report_compare import print_compare
    from dcsim.spec.load import load as load_spec
    from dcsim.study import compare as study
    from dcsim.study.iteration import shape_of
    from dcsim.study.users import without_network

    served = load_spec(topology, llm=llm, settings=without_network(settings or [])).spec.llm
    result = study.compare(
        topology,
        _names(interconnect),
        shape_of(batch, context, prefill, served),
        llm=llm,
        settings=with_engine(with_objective(settings, objective), engine),
        packet_settings=_packet_settings(replications, load, load_pattern, jitter, fairness),
        seed=seed,
        own_mapping=own_mapping,
        same_mapping=same_mapping,
        serve=serve,
        packets_max=0 if replications or _sets_replications(settings) else study.PACKETS_MAX,
        progress=say,
    )
    give(result, print_compare, as_json=as_json, seed=seed, unused=result["unused_keys"], settings=settings)
    if serve is None and not as_json:
        say("what users see of it, and what holding the SLO takes: add --serve '60 s'")
    if figure:
        from dcsim.results.pictures import waterfall

        write_picture(waterfall(result["candidates"]), figure)


def scale(
    topology: Annotated[str, typer.Argument(metavar="[TOPOLOGY]", help="An LPU topology, resized.")] = "8rack",
    interconnect: Interconnects = "scheduled,infiniband-ndr",
    sizes: Annotated[str, typer.Option(help="Numbers of chips, with commas between.")] = "64,128,264,512,1024,1500",
    llm: Annotated[str | None, typer.Option(help="LLMs, with commas between; each size takes the largest that fits.")] = None,
    batch: Batch = 1,
    context: Annotated[int, typer.Option(min=1, help="Tokens of context of each, the new one included.")] = 2048,
    replications: Replications = 20,
    load: Load = None,
    load_pattern: LoadPattern = None,
    jitter: Jitter = None,
    fairness: Fairness = None,
    settings: Settings = None,
    seed: Seed = 1,
    figure: FigureFile = None,
    as_json: Json = False,
) -> None:
    """Compare interconnects over cluster sizes, with the largest LLM that fits each."""
    from dcsim.cli.report_compare import print_scale
    from dcsim.errors import SpecError
    from dcsim.llm.program import Shape
    from dcsim.study import scale as study

    if not all(size.isdigit() and int(size) > 0 for size in _names(sizes)):
        raise SpecError(f"--sizes: '{sizes}' is not a list of whole numbers such as 64,512")
    result = study.scale(
        topology,
        _names(interconnect),
        Shape(batch, context),
        sizes=[int(size) for size in _names(sizes)],
        llms=_names(llm) if llm else study.LLMS,
        settings=settings or [],
        packet_settings=_packet_settings(replications, load, load_pattern, jitter, fairness),
        seed=seed,
        progress=say,
    )
    give(result, print_scale, as_json=as_json, seed=seed, unused=result["unused_keys"], settings=settings)
    if figure:
        from dcsim.results.pictures import scale as draw

        write_picture(draw(result["rows"]), figure)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _sets_replications(settings: list[str] | None) -> bool:
    return any(setting.partition("=")[0].strip() == "network.replications" for setting in settings or ())


def _packet_settings(
    replications: int | None, load: float | None, pattern: str | None, jitter: str | None, fairness: str | None
) -> list[str]:
    """What was asked for, as settings of packet networks; the rest is as their files say."""
    asked = {
        "replications": replications,
        "load_fraction": load,
        "load_pattern": pattern,
        "jitter": None if jitter is None else f'"{jitter}"',
        "fairness": fairness,
    }
    return [f"network.{key}={value}" for key, value in asked.items() if value is not None]
