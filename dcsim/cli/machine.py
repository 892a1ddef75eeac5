"""Commands that look at one machine: its topology, one iteration, its schedule, one collective."""

from __future__ import annotations

from typing import Annotated

import typer

from dcsim.cli.options import Interconnect, Json, Llm, Settings, TopologyPath, print_json


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog="Example: dcsim iteration topologies/8rack.yaml --batch 1 --context 4096")(iteration)


def iteration(
    topology: TopologyPath,
    batch: Annotated[int, typer.Option(min=1, help="Sequences that advance by one token.")] = 1,
    context: Annotated[int, typer.Option(min=1, help="Tokens of context of each, the new ones included.")] = 2048,
    prefill: Annotated[int, typer.Option(min=0, help="Read a prompt chunk of this many tokens instead of decoding.")] = 0,
    llm: Llm = None, interconnect: Interconnect = None, settings: Settings = None, as_json: Json = False,
) -> None:
    """Time one iteration of one replica and say where the time goes."""
    from dcsim.llm.program import Shape
    from dcsim.spec.load import load
    from dcsim.study import iteration as study
    from dcsim.study.machine import build

    machine = build(load(topology, llm=llm, network=interconnect, settings=settings or []).spec)
    shape = Shape(1, max(context, prefill), prefill) if prefill else Shape(batch, context)
    result = study.iteration(machine, shape)
    if as_json:
        print_json(result)
    else:
        from dcsim.report import print_iteration

        print_iteration(result)
