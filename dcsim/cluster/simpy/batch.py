"""The sequences a replica serves, and what its next round does with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque

from dcsim.cluster.programs import Programs, Round
from dcsim.cluster.request import Request
from dcsim.cluster.simpy.decoding import Decoding
from dcsim.policies.batching import Batching


class Batch(ABC):
    """Prompts being read in order of admission, and answers being decoded; at most `budget` tokens of prompts a round."""

    def __init__(self, policy: Batching, budget: int, decoding: Decoding) -> None:
        self._policy, self._budget = policy, budget
        self.prompts: deque[Request] = deque()
        self.decoding = decoding
        self.decodes = False  # whether sequences gain a token in the round composed last
        self.chunks: list[tuple[Request, int]] = []  # prompts it reads, and how far

    def __len__(self) -> int:
        return len(self.prompts) + self.decoding.count

    @abstractmethod
    def compose(self) -> list[Round]:
        """The parts of the next round: a token for each sequence, and chunks of prompts in order of admission."""

    @abstractmethod
    def served_by(self, iteration: int) -> list[Request]:
        """Whose tokens the iteration of that number, in the round composed last, makes or reads."""

    @abstractmethod
    def steps_until_change(self) -> int:
        """Rounds alike from the one composed last on: until a prompt or a sequence ends, or contexts have grown too far."""

    def advance(self, rounds: int) -> tuple[list[Request], list[Request]]:
        """So many rounds have passed; returns the sequences that ended, and the prompts that are read."""
        ended = self.decoding.advance(rounds) if self.decodes else []
        for request, read in self.chunks:
            request.read = read
        done = []
        while self.prompts and self.prompts[0].read == self.prompts[0].to_read:
            done.append(self.prompts.popleft())
        return ended, done


class CompiledBatch(Batch):
    """Of programs compiled beforehand: prompts come in whole chunks, the longest context decides."""

    def __init__(self, programs: Programs, policy: Batching, prefill_tokens_max: int, decoding: Decoding) -> None:
        super().__init__(policy, max(prefill_tokens_max, programs.chunk_tokens), decoding)
        self._programs = programs

    def compose(self) -> list[Round]:
        """The parts of the next round: a token for each sequence, and chunks of prompts in order of admission."""
        chunk, budget = self._programs.chunk_tokens, self._budget
        parts: list[Round] = []
        self.decodes = self.decoding.count > 0 and self._policy.decodes(len(self.prompts))
        if self.decodes:
            parts.append(self._programs.decode(self.decoding.count, self.decoding.bucket))
        self.chunks = []
        for request in self.prompts:
            if budget < chunk:
                break
            start, stop = request.read, min(request.to_read, request.read + budget // chunk * chunk)
            budget -= -(-(stop - start) // chunk) * chunk
            parts.append(self._programs.read(start, stop))
            self.chunks.append((request, stop))
        return parts

    def served_by(self, iteration: int) -> list[Request]:
        """Whose tokens the iteration of that number, in the round composed last, makes or reads.

        Sequences are in micro-batches in order of arrival.
        """
        if self.decodes:
            decode = self._programs.decode(self.decoding.count, self.decoding.bucket)
            if iteration < decode.iterations:
                size = decode.micro_batches[0].shape.batch
                sequences = sorted(self.decoding.requests(), key=lambda request: request.index)
                return sequences[iteration * size : (iteration + 1) * size]
            iteration -= decode.iterations
        for request, stop in self.chunks:
            iteration -= -(-(stop - request.read) // self._programs.chunk_tokens)
            if iteration < 0:
                return [request]
        raise AssertionError("no such iteration in this round")

    def steps_until_change(self) -> int:
        """Rounds alike from the one composed last on: until a prompt or a sequence ends or outgrows its compiled context."""
        return 1 if self.chunks else self.decoding.steps_until_change()
