"""What the forms of plans, sweeps and systems ask the library for, and the command lines that ask the same."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboard.uploads import path_of

if TYPE_CHECKING:
    from dcsim.study.sizing.ask import PlanAsked
    from dcsim.study.sweep import Case, Design

Asked = dict[str, Any]


def plan_of(asked: Asked, store: Path) -> PlanAsked:
    """A plan that is checked; files that were brought are found in the store. SpecError with what is wrong."""
    from dcsim.study.sizing.ask import ask

    names = {name: asked[name] or None for name in ("max_power", "max_cost", "spare", "peak")}
    return ask(
        [path_of(store, name) or name for name in asked["topologies"]],
        asked["rate"],
        asked["slo"],
        workload=path_of(store, asked["workload"]),
        llm=path_of(store, asked["llm"]),
        interconnects=[path_of(store, name) or name for name in asked["interconnects"]],
        settings=asked["settings"],
        minimise=asked["minimise"],
        sensitivity=asked["sensitivity"],
        seed=asked["seed"],
        **names,
    )


def plan_command(asked: Asked) -> str:
    """`dcsim plan` of the same."""
    words = ["dcsim", "plan", *asked["topologies"], "--rate", asked["rate"]]
    words += [word for target in asked["slo"] for word in ("--slo", target)]
    words += ["--interconnect", ",".join(asked["interconnects"])] if asked["interconnects"] else []
    for name in ("workload", "llm", "max_power", "max_cost", "spare", "peak"):
        words += [f"--{name.replace('_', '-')}", asked[name]] if asked[name] else []
    words += ["--minimise", asked["minimise"]] if asked["minimise"] != "cost" else []
    return _line([*words, *(["--sensitivity"] if asked["sensitivity"] else [])], asked)


def sweep_of(asked: Asked, store: Path) -> tuple[Case, Design]:
    """What is swept, and over which points. SpecError with what is wrong."""
    from dcsim.study.sweep import Case, Design

    case = Case(
        path_of(store, asked["topology"]) or asked["topology"],
        tuple(asked["settings"]),
        path_of(store, asked["interconnect"]),
        path_of(store, asked["llm"]),
        asked["batch"],
        asked["context"] or None,
        0,
        asked["zoom"] == "run",
        asked["seed"],
        path_of(store, asked["workload"]),
        asked["rate"] or None,
    )
    return case, Design(asked["design"], asked["values"], samples=asked["samples"], seed=asked["seed"])


def sweep_command(asked: Asked) -> str:
    """`dcsim sweep` of the same."""
    words = ["dcsim", "sweep", asked["topology"], "--zoom", asked["zoom"]]
    words += [word for key, values in asked["values"].items() for word in ("--set-range", f"{key}={','.join(values)}")]
    words += ["--design", asked["design"]] if asked["design"] != "grid" else []
    words += ["--samples", str(asked["samples"])] if asked["samples"] else []
    words += ["--replications", str(asked["replications"])] if asked["replications"] > 1 else []
    if asked["zoom"] == "iteration":
        words += ["--batch", str(asked["batch"]), *(["--context", str(asked["context"])] if asked["context"] else [])]
    for name in ("workload", "llm", "interconnect", "rate"):
        words += [f"--{name}", asked[name]] if asked[name] else []
    return _line(words, asked)


def systems_command(asked: Asked) -> str:
    """`dcsim compare` of the same systems."""
    words = ["dcsim", "compare", *asked["topologies"], "--llm", ",".join(asked["llms"])]
    words += ["--interconnect", ",".join(asked["interconnects"])] if asked["interconnects"] else []
    words += ["--prompt-tokens", str(asked["prompt"]), "--output-tokens", str(asked["output"]), "--users", asked["users"]]
    return _line(words, asked)


def _line(words: list[str], asked: Asked) -> str:
    words += [word for setting in asked["settings"] for word in ("--set", setting)]
    return shlex.join([*words, *(["--seed", str(asked["seed"])] if asked["seed"] != 1 else [])])
