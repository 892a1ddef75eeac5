"""The sequences a replica decodes: who ends when, and how long the longest is.

Step by step each sequence grows by a known number of tokens: one, or what speculation drew for it when it joined. So
the step at which it outgrows a compiled context, and the one at which it ends, are known ahead, and one sorted list holds
the next such step of every sequence.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass

from dcsim.cluster.request import Request

# Tokens a sequence has been given after 1, 2, ... further steps, until its end.
Growth = Callable[[Request], list[int]]


@dataclass(slots=True, eq=False)
class _Sequence:
    request: Request
    joined: int  # step at which it joined
    given: int  # tokens given by then
    growth: list[int] | None  # None: one a step
    number: int  # among all that ever joined
    bucket: int = 0  # index of the compiled context it needs now
    end: int = 0  # step at which it ends

    def given_after(self, steps: int) -> int:
        if self.growth is None:
            return self.given + steps
        return self.growth[steps - 1] if steps else self.given

    def steps_until(self, given: int) -> int:
        """Steps from joining until at least `given` tokens are given."""
        if self.growth is None or given <= self.given:
            return max(0, given - self.given)
        return bisect_left(self.growth, given) + 1


class Decoding:
    """Sequences and their steps. `contexts` are the compiled contexts, `ahead` the tokens drafted beyond a sequence.

    `tokens_per_step` are what a step yields a sequence on average.
    """

    def __init__(
        self, contexts: tuple[int, ...], growth: Growth | None = None, ahead: int = 0, tokens_per_step: float = 1.0
    ) -> None:
        self._contexts, self._growth, self._ahead, self.tokens_per_step = contexts, growth, ahead, tokens_per_step
        self._step = 0
        self._sequences: dict[int, _Sequence] = {}  # request index -> sequence
        # (step, request index, how manieth sequence, sequence), soonest first; a request may join again after it has left
        self._changes: list[tuple[int, int, int, _Sequence]] = []
        self._joins = 0
        self._in_bucket = [0] * len(contexts)
        self.bucket = 0  # index of the largest compiled context any sequence needs
        self.count = 0
        self._at_start = 0.0  # tokens that all sequences would have had at step 0, had they grown as on average
        self.together = 0  # tokens so far that came in the same step as the one before them

    def __contains__(self, request: Request) -> bool:
        return request.index in self._sequences

    def join(self, request: Request) -> None:
        """Decode the request from the next step on."""
        growth = self._growth(request) if self._growth else None
        self._joins += 1
        sequence = _Sequence(request, self._step, request.given, growth, self._joins)
        sequence.end = self._step + sequence.steps_until(request.output)
        self._sequences[request.index] = sequence
        self.count += 1
        self._at_start += self._start_of(sequence)
        self._enter(sequence)

    def context_mean(self) -> float:
        """Mean tokens of a sequence's context, the one being made among them, if all under way have grown as on average."""
        return self._at_start / self.count + self._step * self.tokens_per_step + 1

    def contexts(self) -> list[int]:
        """Tokens of each sequence's context now, the one being made among them."""
        step = self._step
        return [s.request.prompt + s.given_after(step - s.joined) + 1 for s in self._sequences.values()]

    @property
    def latest(self) -> Request:
        """The sequence that joined last."""
        return next(reversed(self._sequences.values())).request

    def _start_of(self, sequence: _Sequence) -> float:
        return sequence.request.prompt + sequence.given - sequence.joined * self.tokens_per_step

    def steps_until_change(self) -> int:
        """Steps until a sequence ends or outgrows its compiled context; there must be one."""
        while True:
            step, index, _, sequence = self._changes[0]
            if self._sequences.get(index) is sequence:
                return step - self._step
            self._changes.pop(0)

    def advance(self, steps: int) -> list[Request]:
        """`steps` steps have passed, not beyond the next change; returns the requests that ended, oldest first."""
        self._step += steps
        ended = []
        while self._changes and self._changes[0][0] <= self._step:
            _, index, _, sequence = self._changes.pop(0)
            if self._sequences.get(index) is not sequence:
                continue
            request = sequence.request
            if sequence.end <= self._step:
                self.leave(request)
                ended.append(request)
            else:
                self._in_bucket[sequence.bucket] -= 1
                self._enter(sequence)
        return ended

    def leave(self, request: Request) -> None:
        """Stop decoding the request; its `given` is brought up to date."""
        sequence = self._sequences.pop(request.index)
        steps = self._step - sequence.joined
        given = min(sequence.given_after(steps), request.output)
        self.together += given - sequence.given - steps
        request.given = given
        self.count -= 1
        self._at_start -= self._start_of(sequence)
        self._in_bucket[sequence.bucket] -= 1
        while self.bucket and not self._in_bucket[self.bucket]:
            self.bucket -= 1

    def requests(self) -> list[Request]:
        """Everything being decoded, in order of joining."""
        return [sequence.request for sequence in self._sequences.values()]

    def clear(self) -> None:
        """Forget everything."""
        for request in self.requests():
            self.leave(request)
        self._changes.clear()

    def _enter(self, sequence: _Sequence) -> None:
        """Count the sequence under the compiled context it needs now, and note its next change."""
        request, passed = sequence.request, self._step - sequence.joined
        fixed = request.prompt + self._ahead
        bucket = bisect_left(self._contexts, fixed + sequence.given_after(passed))
        sequence.bucket = bucket
        self._in_bucket[bucket] += 1
        self.bucket = max(self.bucket, bucket)
        # The context must hold the token being made: one more than the bucket's length is too long.
        outgrown = sequence.joined + sequence.steps_until(self._contexts[bucket] - fixed + 1)
        insort(self._changes, (min(sequence.end, outgrown), request.index, sequence.number, sequence))
