"""Where the replicas stand and what each can hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dcsim.cluster.copies import Copies
from dcsim.llm.kv import SequenceRoom
from dcsim.power.site import Site


@dataclass(frozen=True, slots=True)
class Placement:
    """Which chips each replica uses, on which floor, and the room each has for what sequences keep.

    `weight_bytes` is what the fullest chip stores of the LLM; `copies` gives a run's links for KV on its way from one
    replica to another, where prefill and decode are apart. `recompile_s` is what all programs take to be compiled again when a
    node moves to its spare.
    """

    site: Site
    replica_chips: tuple[tuple[int, ...], ...]
    room: SequenceRoom
    weight_bytes: float = 0.0
    copies: Callable[[], Copies] | None = None
    reading_room: SequenceRoom | None = None  # of replicas that only read prompts, where they are laid otherwise
    recompile_s: float = 0.0
