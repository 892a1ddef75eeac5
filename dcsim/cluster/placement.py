"""Where the replicas stand and what each can hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _no_time(tokens: int) -> float:
    return 0.0


@dataclass(frozen=True, slots=True)
class Placement:
    """Which chips each replica uses and how many tokens of KV cache each replica holds.

    `weight_bytes` is what the fullest chip stores of the LLM; `copy_s(tokens)` the time to send the KV of so many
    tokens from one replica to another.
    """

    replica_chips: tuple[tuple[int, ...], ...]
    kv_tokens: int
    weight_bytes: float = 0.0
    copy_s: Callable[[int], float] = _no_time
