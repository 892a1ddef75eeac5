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
    Objective,
    Seed,
    Settings,
    say,
    with_engine,
    with_objective,
    write_picture,
)
from dcsim.cli.systems import OutputTokens, PromptTokens, Users, compare_systems

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
SameMapping = Annotated[
    bool | None,
    typer.Option(
        "--same-mapping/--own-mapping",
        help="Give every network the first one's mapping, or each its own best (default).",
    ),
]
DEFAULT = "scheduled,infiniband-ndr,roce-400g"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(
        epilog="Example: dcsim compare 8rack h100_sxm b200_sxm --llm llama-3.1-70b  (or one TOPOLOGY and --interconnect "
        "scheduled,infiniband-ndr,roce-400g)"
    )(compare)
    app.command(epilog="Example: dcsim scale topologies/8rack.yaml --sizes 64,512,1500")(scale)


def compare(
    topology: Annotated[
        list[str],
        typer.Argument(metavar="TOPOLOGY...", help="A topology file or name; several are served and compared as systems."),
    ],
    interconnect: Annotated[
        str | None,
        typer.Option(
            help=f"Networks to compare, by name, with commas between; default: {DEFAULT}. With several TOPOLOGYs for those whose "
            "own is scheduled; default: their own."
        ),
    ] = None,
    llm: Annotated[
        str | None,
        typer.Option(help="LLM file, name, or Hugging Face config.json; default: the topology's. Several with commas between."),
    ] = None,
    batch: Batch = 1,
    context: Context = None,
    prefill: Prefill = 0,
    replications: FewOrMany = None,
    load: Load = None,
    load_pattern: LoadPattern = None,
    jitter: Jitter = None,
    fairness: Fairness = None,
    objective: Objective = None,
    same_mapping: SameMapping = None,
    serve: Annotated[str | None, typer.Option(help="Also serve so much of the workload on each, e.g. '60 s'.")] = None,
    prompt_tokens: PromptTokens = None,
    output_tokens: OutputTokens = None,
    users: Users = None,
    settings: Settings = None,
    engine: Engine = None,
    seed: Seed = 1,
    figure: FigureFile = None,
    as_json: Json = False,
) -> None:
    """Time an LLM on several interconnects and take the gaps apart. `--set network.KEY` is for packet networks.

    Each has the mapping that serves the objective best on it, then the one with its lowest latency; with --same-mapping all have
    the first one's.

    With several topologies, or several LLMs, users are served on each system instead, more and more of them, laid out in several
    ways: USD and J per million tokens against one user's speed, with what is known of the error.
    """
    if len(topology) > 1 or len(_names(llm or "")) > 1:
        compare_systems(
            topology,
            _names(llm or ""),
            interconnects=_names(interconnect or ""),
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            users=users,
            settings=settings,
            not_asked={
                **{"batch": batch != 1, "context": context, "prefill": prefill, "replications": replications},
                **{"load": load, "load-pattern": load_pattern, "jitter": jitter, "fairness": fairness, "serve": serve},
                **{"objective": objective, "same-mapping": same_mapping, "engine": engine},
            },
            figure=figure,
            seed=seed,
            as_json=as_json,
        )
        return
    if prompt_tokens or output_tokens or users:
        from dcsim.errors import Problem, SpecError

        raise SpecError(Problem("--users", "is how several TOPOLOGYs are served", "name more than one, or leave it out"))
    from dcsim.cli.report_compare import print_compare
    from dcsim.spec.load import load as load_spec
    from dcsim.study import compare as study
    from dcsim.study.iteration import shape_of
    from dcsim.study.users import without_network

    served = load_spec(topology[0], llm=llm, settings=without_network(settings or [])).spec.llm
    result = study.compare(
        topology[0],
        _names(DEFAULT if interconnect is None else interconnect),
        shape_of(batch, context, prefill, served),
        llm=llm,
        settings=with_engine(with_objective(settings, objective), engine),
        packet_settings=_packet_settings(replications, load, load_pattern, jitter, fairness),
        seed=seed,
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
    objective: Objective = None,
    same_mapping: SameMapping = None,
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
        settings=with_objective(settings, objective),
        same_mapping=same_mapping,
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
