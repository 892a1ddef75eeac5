"""The rate-speed frontier of each system that serves one LLM: tokens/s per chip against tokens/s per user."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dcsim.errors import CapacityError
from dcsim.study.frontier import frontier, loads
from dcsim.study.machine import build
from validation.frozen import load

# Each system with the settings that lay this LLM over it, where its own mapping is another LLM's.
SYSTEMS: dict[str, tuple[str, ...]] = {
    "8rack": (),
    "dgx-a100": (),
    "dgx-h100": (),
    "tpu-v4-64": (),
    "chiplet-cloud-gpt3": ("mapping.tp=8", "mapping.pp=auto"),
    "wse-3x4": (),
    "rtx-4090x8": (),
}
LLM, CONTEXT = "llama-2-70b", 2048


def frontiers(llm: str = LLM, context: int = CONTEXT) -> dict[str, list[dict[str, Any]]]:
    """By system, the loads that no other beats; none where not even one sequence fits."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, settings in SYSTEMS.items():
        machine = build(load(name, llm=llm, settings=settings).spec)
        try:
            found[name] = [asdict(point) for point in frontier(loads(machine, context))]
        except CapacityError:
            found[name] = []
    return found


def _mapped() -> list[str]:
    """What has to be set for the systems whose own mapping is another LLM's."""
    return [f"{name} with `{' '.join(f'--set {text}' for text in settings)}`" for name, settings in SYSTEMS.items() if settings]


def section(found: dict[str, list[dict[str, Any]]], llm: str = LLM, context: int = CONTEXT) -> list[str]:
    """The frontiers as lines of a Markdown page."""
    lines = [
        "",
        "## Rate against speed",
        "",
        f"{llm} at a context of {context} tokens, each system with the precision its file names. Decoding only, every replica "
        "full; energy at the site's meter, with all that stands in the racks. "
        f"`dcsim plan SYSTEM --llm {llm} --tokens-per-s R --tokens-per-s-per-user S` prints the same and sizes a fleet"
        f"{'; '.join(['', *_mapped()])}.",
        "",
        "![tokens/s per chip against tokens/s per user](frontier.svg)",
        "",
        "| system | tokens/s per user | tokens/s per chip | sequences | J per token |",
        "|---|---|---|---|---|",
    ]
    for name, points in found.items():
        lines += [
            f"| {name} | {point['tokens_per_s_per_user']:.4g} | {point['tokens_per_s_per_chip']:.4g} | {point['concurrency']} | "
            f"{point['energy_j_per_token']:.3g} |"
            for point in points
        ]
    return lines
