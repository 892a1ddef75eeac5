"""What no replica could ever serve is turned away as it arrives (M3), before a host spends work on it."""

from __future__ import annotations

from dataclasses import dataclass

from dcsim.llm.kv import SequenceRoom
from dcsim.results.records import BEYOND_LLM


@dataclass(frozen=True, slots=True)
class Limits:
    """The most tokens a request may have, by each thing that limits them.

    `llm` is the longest context the LLM was built for, `room` a replica's for keys, values and states, `compiled` the longest
    context a program is compiled for; a request's prompt and answer together, and `ahead` drafted tokens, must fit the two.
    """

    llm: int
    room: SequenceRoom
    compiled: int
    ahead: int = 0

    def refusal(self, prompt: int, output: int) -> str:
        """Why a request can never be served; nothing if it can. Its last token is given and never read by the LLM."""
        positions, tokens = prompt + output - 1, prompt + output + self.ahead
        if positions > self.llm:
            return f"{BEYOND_LLM}: {positions} tokens, it was built for {self.llm} (llm.context_max)"
        if self.room.cost(tokens) > self.room.capacity:
            return self._beyond_room(tokens)
        if tokens > self.compiled:
            return f"context of {tokens} tokens exceeds the largest compiled, {self.compiled}"
        return ""

    def _beyond_room(self, tokens: int) -> str:
        room = self.room
        if room.by_tokens:
            return f"needs KV room for {tokens} tokens, a replica has {room.capacity}"
        return f"needs KV room of {room.cost(tokens)} B for {tokens} tokens, a replica has {room.capacity} B on its tightest chip"
