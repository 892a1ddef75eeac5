"""Room for what sequences keep, as a function of their context: windows cap it, states of fixed size do not grow at all.

Every chip of a replica keeps its share of each sequence. If all of them grow in proportion to the context, room is a number
of tokens. Otherwise it is the bytes of the tightest chip, of which a sequence takes what its share is on the chip it fills most:
never too little, and exact where one chip is the tightest at every context.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np
from numpy.typing import NDArray

from dcsim.llm.storage import EACH_TOKEN, Growth

# Room for this many tokens stands for "no limit" where nothing is kept (encoder only).
NO_LIMIT = 2**62


@dataclass(frozen=True)
class SequenceRoom:
    """`free_bytes` of each chip beside its weights; `entry_bytes[chip]` what a sequence keeps there for each growth's entries."""

    growths: tuple[Growth, ...]
    entry_bytes: tuple[tuple[int | float, ...], ...]
    free_bytes: tuple[int, ...]
    context_max: int

    def chip_bytes(self, context: int) -> tuple[int, ...]:
        """Bytes one sequence of `context` tokens keeps on each chip."""
        entries = [growth.entries(context) for growth in self.growths]
        return tuple(self._bytes(each, entries) for each in self.entry_bytes)

    @staticmethod
    def _bytes(each: tuple[int | float, ...], entries: list[int]) -> int:
        return ceil(sum(size * count for size, count in zip(each, entries, strict=True)))

    @cached_property
    def by_tokens(self) -> bool:
        """Whether everything kept, if anything is, grows in proportion to the context."""
        return not self._different or all(growth == EACH_TOKEN for growth in self.growths)

    @property
    def unit(self) -> str:
        """What `capacity` and `cost` count."""
        return "tokens" if self.by_tokens else "bytes on the tightest chip"

    @cached_property
    def _different(self) -> tuple[tuple[int, tuple[int | float, ...]], ...]:
        """(free bytes, bytes of entries) of chips, equal ones once, without those that keep nothing."""
        pairs = zip(self.free_bytes, self.entry_bytes, strict=True)
        return tuple(dict.fromkeys((free, each) for free, each in pairs if any(each)))

    @cached_property
    def capacity(self) -> int:
        """The room that `cost` counts in: tokens, or bytes of the chip that is tightest at full context."""
        if self.by_tokens:
            return min((int(free // sum(each)) for free, each in self._different), default=NO_LIMIT)
        entries = [growth.entries(self.context_max) for growth in self.growths]
        return min(self._different, key=lambda chip: chip[0] / max(1, self._bytes(chip[1], entries)))[0]

    def cost(self, context: int) -> int:
        """What one sequence of `context` tokens takes of `capacity` (of none: nothing); sequences fit if their costs do."""
        if self.by_tokens or not context:
            return context
        known = self._costs.get(context)
        if known is None:
            entries = [growth.entries(context) for growth in self.growths]
            known = self._costs[context] = max(ceil(self._bytes(each, entries) * share) for each, share in self._shares)
        return known

    def costs(self, context_max: int) -> NDArray[np.int64]:
        """`cost` of each context from none to `context_max`."""
        contexts = np.arange(context_max + 1)
        if self.by_tokens:
            return contexts
        most = np.zeros(context_max + 1)
        for each, share in self._shares:
            size = np.zeros(context_max + 1)
            for growth, entry in zip(self.growths, each, strict=True):
                size += entry * growth.all_entries(contexts)
            np.maximum(most, np.ceil(np.ceil(size) * share), out=most)
        most[0] = 0
        return most.astype(np.int64)

    @cached_property
    def _shares(self) -> tuple[tuple[tuple[int | float, ...], float], ...]:
        """Bytes of entries of each chip, and what a byte there counts for on the tightest chip, where it counts for one."""
        capacity = self.capacity
        return tuple((each, capacity / free) for free, each in self._different)

    @cached_property
    def _costs(self) -> dict[int, int]:
        return {}

    def sequences_max(self, context: int) -> int:
        """Sequences of `context` tokens that fit at once."""
        return self.capacity // max(1, self.cost(context))

    def tokens(self, context: int) -> int | None:
        """Tokens held in sequences of `context` tokens, parts of sequences included; None if nothing is kept for any."""
        if not self._different:
            return None
        return self.capacity * context // self.cost(context)


def room_of_tokens(tokens: int) -> SequenceRoom:
    """Room for so many tokens, in whatever sequences."""
    return SequenceRoom((EACH_TOKEN,), ((1,),), (tokens,), max(1, tokens))
