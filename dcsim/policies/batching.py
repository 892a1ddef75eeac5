"""How prompts and answers share a replica's rounds. An entry added to BATCHING can be named by `serving.batching`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Batching:
    """Two questions that are asked before every round.

    `decodes(prompts)`: do decoding sequences gain a token in a round that reads so many prompts?
    `admits(active)`: may a waiting request join while so many are served?
    """

    decodes: Callable[[int], bool]
    admits: Callable[[int], bool]


BATCHING: dict[str, Batching] = {
    "continuous": Batching(decodes=lambda prompts: True, admits=lambda active: True),
    "prefill_first": Batching(decodes=lambda prompts: not prompts, admits=lambda active: True),
    "static": Batching(decodes=lambda prompts: not prompts, admits=lambda active: not active),
}
