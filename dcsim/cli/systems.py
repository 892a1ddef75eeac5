"""`dcsim compare` of several topologies or LLMs: what tokens cost and draw on each, against one user's speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dcsim.cli.answer import give
from dcsim.cli.options import say, write_picture

PromptTokens = Annotated[
    int | None, typer.Option(min=1, help="With several TOPOLOGYs: tokens of the longest prompt, 1024 if not said.")
]
OutputTokens = Annotated[
    int | None, typer.Option(min=2, help="With several TOPOLOGYs: tokens of the longest answer, 1024 if not said.")
]
Users = Annotated[
    str | None, typer.Option(help="With several TOPOLOGYs: users of one replica, in turn; 1,4,16,64,256 if not said.")
]


def compare_systems(
    topologies: Sequence[str],
    llms: Sequence[str],
    *,
    interconnects: Sequence[str],
    prompt_tokens: int | None,
    output_tokens: int | None,
    users: str | None,
    settings: list[str] | None,
    not_asked: Mapping[str, Any],
    figure: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Serve the LLMs on the systems and print what came of it. `not_asked` are options of one topology alone: SpecError."""
    from dcsim.errors import Problem, SpecError
    from dcsim.library import beside
    from dcsim.study import systems as study

    for option, value in not_asked.items():
        if value:
            what = "is for the networks of one TOPOLOGY"
            raise SpecError(Problem(f"--{option}", what, "several are served: --prompt-tokens, --output-tokens, --users"))
    usual = study.UserLoad()
    asked = study.load_of(
        prompt_tokens or usual.prompt_tokens, output_tokens or usual.output_tokens, users or ",".join(map(str, usual.users))
    )
    result = study.systems(
        topologies,
        llms or study.LLMS,
        interconnects=interconnects,
        settings=settings or (),
        asked=asked,
        error_of=beside("validation.measured.known").error_of,
        seed=seed,
        progress=say,
    )
    give(result, print_systems, as_json=as_json, seed=seed, unused=result["unused_keys"], settings=settings)
    if figure:
        from dcsim.results.pictures_of_systems import cost_against_speed

        write_picture(cost_against_speed(result), figure)


def print_systems(result: Mapping[str, Any]) -> None:
    """The best loads of each system, LLM by LLM, with what is known of their error, and what cannot serve it."""
    from dcsim.cli.report_compare import plain_table, print_table
    from dcsim.cli.tables import console
    from dcsim.results.systems import error_text, laid_out, name_of, rows_of

    out = console()
    lengths = (
        f"prompts of {result['prompt_tokens']:,} tokens, answers of {result['output_tokens']:,}, lengths from 0.8 to 1 of it"
    )
    for llm in result["llms"]:
        out.print(f"{llm}: {lengths}")
        own = [head for head in result["systems"] if head["llm"] == llm]
        table = plain_table("system", "laid out", "users", "tokens/s/user", "tokens/s", "USD/Mtoken", "MJ/Mtoken", "error")
        for head in own:
            for i, row in enumerate(rows_of(result, head, best=True)):
                name, error = (name_of(head), error_text(head)) if i == 0 else ("", "")
                table.add_row(
                    name,
                    laid_out(row),
                    f"{row['users']:,}",
                    f"{row['tokens_per_s_per_user']:,.1f}",
                    f"{row['tokens_per_s']:,.0f}",
                    f"{row['usd_per_mtoken']:,.4g}",
                    f"{row['j_per_mtoken'] / 1e6:,.4g}",
                    error,
                )
        print_table(out, table)
        for head in own:
            if head["reason"]:
                out.print(f"{name_of(head)} cannot serve it: {head['reason']}", soft_wrap=True)
    out.print("error: mean |ln(simulated / measured)| of the time per output token, over so many measured jobs; -: none is known")
    for assumption in result["assumes"]:
        out.print(f"assumes: {assumption}", soft_wrap=True)
