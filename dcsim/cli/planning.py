"""The command that says what to build."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dcsim.cli.answer import give, typed
from dcsim.cli.machine import Context
from dcsim.cli.options import Json, Llm, Objective, Seed, Settings, Workload, say, with_objective
from dcsim.interrupt import last_words

if TYPE_CHECKING:
    from dcsim.study.sizing.ask import PlanAsked


class Least(StrEnum):
    """What is least of the systems that hold."""

    COST, POWER, RACKS = "cost", "power", "racks"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: dcsim plan topologies/8rack.yaml --rate 50/s --slo ttft_p99=1s --slo tpot_p99=10ms")(plan)


def plan(
    topology: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TOPOLOGY]...", help="Systems to size; default: the best in the library that holds the LLM."),
    ] = None,
    rate: Annotated[str | None, typer.Option(help="Requests in a second: 50/s; or growth: 50/s..200/s.")] = None,
    slo: Annotated[
        list[str] | None,
        typer.Option(metavar="TARGET", help="ttft_p99=1s, or a preset such as chat; repeatable. Default: the topology's."),
    ] = None,
    workload: Workload = None,
    llm: Llm = None,
    interconnect: Annotated[
        str | None, typer.Option(help="Networks to try, with commas between; default: each topology's.")
    ] = None,
    max_power: Annotated[str | None, typer.Option(help="At the site's meter, at most: 300kW.")] = None,
    max_cost: Annotated[str | None, typer.Option(help="Of what is bought, at most: 5MUSD.")] = None,
    spare: Annotated[str | None, typer.Option(help="Bought beside what must hold: 1rack, 2node, 8chip.")] = None,
    minimise: Annotated[Least, typer.Option(help="What is least of the systems that hold.")] = Least.COST,
    peak: Annotated[
        str | None,
        typer.Option(help="Of a day's curve, the busiest stretch that must hold; --rate is the day's mean. Default: 1h."),
    ] = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="How large it would be with each of the most uncertain figures at its two ends.")
    ] = False,
    tokens_per_s: Annotated[
        float | None, typer.Option(min=0.0, help="A quick estimate instead: output tokens per second the fleet must give.")
    ] = None,
    tokens_per_s_per_user: Annotated[
        float | None, typer.Option(min=0.0, help="Of the quick estimate: tokens per second each user must get.")
    ] = None,
    context: Context = None,
    objective: Objective = None,
    settings: Settings = None,
    prices: Annotated[
        str | None, typer.Option(help="Price file, or its name in topologies/prices; default: the topology's.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; the answer does not depend on it. Default: one a core.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Simulate again what runs/plans has.")] = False,
    seed: Seed = 1,
    as_json: Json = False,
) -> None:
    """Find the smallest system that serves a rate of requests within its SLOs, jointly, by simulation.

    Sizes, ways to lay the LLM over them, chunks, replicas and networks are tried; what cannot hold by a bound is not simulated.
    With --tokens-per-s and no --rate it gives a quick estimate of throughput instead, without prompts, queues or bursts.
    """
    from dcsim.errors import Problem, SpecError

    priced = [*with_objective(settings, objective), *([f"network.prices={prices}"] if prices else [])]
    if rate is None:
        speeds = (tokens_per_s, tokens_per_s_per_user)
        _estimate(topology or [], speeds, context, llm, interconnect, priced, settings, seed, as_json)
        return
    if tokens_per_s is not None or tokens_per_s_per_user is not None or context is not None:
        raise SpecError(Problem("--rate", "is given beside options of the quick estimate", "leave those out"))
    from dcsim.study.sizing.ask import ask

    asked = ask(
        topology or [],
        rate,
        slo or [],
        workload=workload,
        llm=llm,
        interconnects=[name.strip() for name in interconnect.split(",") if name.strip()] if interconnect else [],
        settings=priced,
        max_power=max_power,
        max_cost=max_cost,
        spare=spare,
        minimise=minimise.value,
        peak=peak,
        sensitivity=sensitivity,
        seed=seed,
    )
    _size(asked, jobs, fresh, settings, seed, as_json)


def _size(asked: PlanAsked, jobs: int | None, fresh: bool, settings: list[str] | None, seed: int, as_json: bool) -> None:
    from dcsim.cli.report_plan import candidate_line, print_sized
    from dcsim.spec.unused import unused_of
    from dcsim.study.sizing.ask import journal_in, sized
    from dcsim.study.store import RUNS
    from dcsim.workers import cores

    def hear(row: Mapping[str, Any]) -> None:
        if not as_json:
            say(candidate_line(row))

    journal = journal_in(RUNS)
    if fresh:
        journal.path.unlink(missing_ok=True)
    with last_words(lambda: "interrupted; what was simulated is kept in runs/plans"):
        result, keys = sized(asked, journal, hear, jobs or cores())
    result["command"] = typed()
    give(result, print_sized, as_json=as_json, seed=seed, unused=unused_of(keys), settings=settings)
    if not as_json:
        say(f"{result['simulations']} simulations, {result['simulations_kept']} more kept from before in {journal.path}")


def _estimate(
    topologies: list[str],
    speeds: tuple[float | None, float | None],
    context: int | None,
    llm: str | None,
    interconnect: str | None,
    priced: list[str],
    settings: list[str] | None,
    seed: int,
    as_json: bool,
) -> None:
    from dcsim.cli.report_explain import print_plan
    from dcsim.errors import Problem, SpecError
    from dcsim.spec.load import load
    from dcsim.spec.unused import unused
    from dcsim.study import plan as study

    tokens_per_s, tokens_per_s_per_user = speeds
    if tokens_per_s is None or tokens_per_s_per_user is None:
        mend = "for example --rate 50/s --slo ttft_p99=1s, or for a quick estimate --tokens-per-s and --tokens-per-s-per-user"
        raise SpecError(Problem("plan", "needs a --rate of requests", mend))
    if len(topologies) != 1:
        raise SpecError(Problem("--tokens-per-s", "a quick estimate is of one TOPOLOGY", "name one"))
    resolved = load(topologies[0], llm=llm, network=interconnect, settings=priced)
    result = study.plan(
        resolved, tokens_per_s=tokens_per_s, tokens_per_s_per_user=tokens_per_s_per_user, context=context, seed=seed
    )
    give(result, print_plan, as_json=as_json, seed=seed, unused=unused(resolved), settings=settings)
