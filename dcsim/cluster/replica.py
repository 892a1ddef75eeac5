"""One replica: a pipeline of chips that serves its sequences round by round.

In a round every micro-batch passes every stage once: each decoding sequence gains a token, and some prompt
chunks are read. No micro-batch overtakes another, so a round takes the slowest one's latency, or the busiest
stage's total occupancy where that is longer. Between two changes of what it carries (admission, end of a
prompt, end of a sequence, a context bucket crossed) a round's time is constant, so the replica sleeps over all
those rounds at once; `skip=False` wakes it every round, as a reference that must give the same rows.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import simpy

from dcsim.cluster.ledger import Ledger
from dcsim.cluster.programs import Programs, Round
from dcsim.records import FINISHED, REJECTED
from dcsim.spec.topology import ServingSpec


@dataclass(slots=True)
class _Prompt:
    request: int
    tokens: int
    read: int = 0


@dataclass(frozen=True, slots=True)
class ReplicaPower:
    """What one replica's chips draw: fixed when idle, fixed when in a program, and a cap on what work may add."""

    idle_w: float
    wait_w: float
    work_w_max: float  # power available to work above wait_w; infinite without a cap


class Replica:
    """Sequences, their KV room and the rounds they share. `submit` hands it a request that is ready."""

    def __init__(
        self, env: simpy.Environment, index: int, programs: Programs, kv_tokens: int, serving: ServingSpec,
        power: ReplicaPower, ledger: Ledger, reply_ps: int, skip: bool = True,
    ) -> None:
        self._env, self._index, self._programs, self._ledger = env, index, programs, ledger
        self._kv_tokens, self._kv_free = kv_tokens, kv_tokens
        self._sequences_max, self._queue_max = serving.sequences_max, serving.queue_max
        self._prefill_tokens_max = max(serving.prefill_tokens_max, serving.chunk_tokens)
        self._power, self._reply_ps, self._skip = power, reply_ps, skip
        self._waiting: deque[int] = deque()
        self._prompts: deque[_Prompt] = deque()
        self._ends: list[tuple[int, int]] = []  # heap of (last round, request) of decoding sequences
        self._lengths: list[tuple[int, int]] = []  # heap of (-(context - round), last round): longest context first
        self._round = 0
        self._idle: simpy.Event | None = None
        self._asleep = False  # over several rounds, may be woken
        self._came = 0  # requests at the tail of `_waiting` that came in since the round began
        self._energy_j, self._draw_w, self._since = 0.0, power.idle_w, 0
        self.tokens = 0
        self.process = env.process(self._run())

    @property
    def load(self) -> int:
        """Requests here and not finished."""
        return len(self._waiting) + len(self._prompts) + len(self._ends)

    def submit(self, request: int) -> None:
        """Take a request that stands ready now; reject it if it could never be served."""
        ledger = self._ledger
        prompt, output = self._lengths_of(request)
        reason = self._refusal(prompt, output)
        if reason:
            ledger.close(request, REJECTED, reason)
            return
        ledger.replica[request] = self._index
        self._waiting.append(request)
        self._came += 1
        if self._idle is not None:
            self._idle.succeed()
            self._idle = None
        elif self._asleep:
            self._asleep = False
            self.process.interrupt()

    def energy_j(self, now: int) -> float:
        """Energy of the replica's chips from time 0 to `now`."""
        return self._energy_j + self._draw_w * (now - self._since) / 1e12

    def _lengths_of(self, request: int) -> tuple[int, int]:
        requests = self._ledger.requests
        return int(requests.prompt_tokens[request]), int(requests.output_tokens[request])

    def _refusal(self, prompt: int, output: int) -> str:
        if prompt + output > self._kv_tokens:
            return f"needs KV room for {prompt + output} tokens, a replica has {self._kv_tokens}"
        if prompt + output > self._programs.context_max:
            return f"context of {prompt + output} tokens exceeds the largest compiled, {self._programs.context_max}"
        if len(self._waiting) >= self._queue_max:
            return f"replica {self._index}: queue of {self._queue_max} full"
        return ""

    def _run(self) -> Generator[simpy.Event, Any, None]:
        env = self._env
        while True:
            if not (self._waiting or self._prompts or self._ends):
                self._draw(self._power.idle_w)
                self._idle = env.event()
                yield self._idle
            self._admit()
            chunks, round_ = self._compose()
            length = self._round_ps(round_)
            self._draw(self._power.wait_w + round_.energy_j / (length / 1e12))
            start, rounds = env.now, self._rounds_until_change(bool(chunks))
            self._came = 0
            try:
                self._asleep = rounds > 1
                yield env.timeout(rounds * length)
            except simpy.Interrupt:
                # A request came in: stop at the next round's end.
                rounds = max(1, -(-(env.now - start) // length))
                yield env.timeout(start + rounds * length - env.now)
            self._asleep = False
            self._book_waits(start)
            self._advance(rounds, length, round_, chunks)

    def _admit(self) -> None:
        """Give KV room and a sequence slot, first come first served; the first that does not fit blocks the rest."""
        now = self._env.now
        while self._waiting and len(self._prompts) + len(self._ends) < self._sequences_max:
            prompt, output = self._lengths_of(self._waiting[0])
            if prompt + output > self._kv_free:
                break
            request = self._waiting.popleft()
            self._kv_free -= prompt + output
            self._ledger.admitted[request] = now
            self._prompts.append(_Prompt(request, prompt))

    def _compose(self) -> tuple[list[tuple[_Prompt, int]], Round]:
        """The prompt chunks this round reads, and the round's latency, occupancy and energy."""
        programs = self._programs
        latency = occupancy = 0
        energy = 0.0
        if self._ends:
            decode = programs.decode(len(self._ends), self._context_max())
            latency, occupancy, energy = decode.latency_ps, decode.occupancy_ps, decode.energy_j
        chunks, budget = [], self._prefill_tokens_max
        for prompt in self._prompts:
            read = prompt.read
            while read < prompt.tokens and budget >= programs.chunk_tokens:
                step = min(programs.chunk_tokens, prompt.tokens - read)
                read, budget = read + step, budget - programs.chunk_tokens
                chunk = programs.prefill(read)
                latency, occupancy, energy = max(latency, chunk.latency_ps), occupancy + chunk.occupancy_ps, energy + chunk.energy_j
            if read > prompt.read:
                chunks.append((prompt, read))
            if budget < programs.chunk_tokens:
                break
        return chunks, Round(latency, occupancy, energy)

    def _round_ps(self, round_: Round) -> int:
        """The slowest micro-batch or the busiest stage, stretched where a power cap slows all chips together."""
        length = max(round_.latency_ps, round_.occupancy_ps)
        return max(length, int(round_.energy_j / self._power.work_w_max * 1e12))

    def _rounds_until_change(self, reading: bool) -> int:
        if reading or not self._skip:
            return 1
        longest = self._context_max()
        until_bucket = self._programs.bucket(longest) - longest + 1
        return min(self._ends[0][0] - self._round, until_bucket)

    def _context_max(self) -> int:
        """Longest context among decoding sequences, the token being made included."""
        while self._lengths[0][1] <= self._round:
            heapq.heappop(self._lengths)
        return self._round - self._lengths[0][0]

    def _advance(self, rounds: int, length: int, round_: Round, chunks: list[tuple[_Prompt, int]]) -> None:
        """`rounds` rounds have passed: count tokens, end sequences, finish prompts."""
        now, ledger, decoding = self._env.now, self._ledger, len(self._ends)
        if decoding:
            ledger.count_gap(length, decoding * rounds)
            self.tokens += decoding * rounds
        self._book_round(rounds, length, round_, decoding)
        self._round += rounds
        while self._ends and self._ends[0][0] <= self._round:
            self._finish(heapq.heappop(self._ends)[1], now)
        for prompt, read in chunks:
            prompt.read = read
        while self._prompts and self._prompts[0].read == self._prompts[0].tokens:
            self._first_token(self._prompts.popleft(), now)

    def _first_token(self, prompt: _Prompt, now: int) -> None:
        request, output = prompt.request, int(self._ledger.requests.output_tokens[prompt.request])
        self._ledger.first_token[request] = now + self._reply_ps
        self.tokens += 1
        if output == 1:
            self._finish(request, now)
            return
        last = self._round + output - 1
        heapq.heappush(self._ends, (last, request))
        heapq.heappush(self._lengths, (self._round - prompt.tokens - 1, last))

    def _finish(self, request: int, now: int) -> None:
        ledger, (prompt, output) = self._ledger, self._lengths_of(request)
        self._kv_free += prompt + output
        ledger.finished[request] = now + self._reply_ps
        ledger.tokens_out[request] = output
        ledger.limits["host"] += self._reply_ps
        ledger.close(request, FINISHED)

    def _draw(self, watts: float) -> None:
        """From now on the replica's chips draw `watts`."""
        now = self._env.now
        self._energy_j += self._draw_w * (now - self._since) / 1e12
        self._draw_w, self._since = watts, now

    def _book_waits(self, start: int) -> None:
        """Book the time of waiting requests since `start`: blocked at admission, or come in during the round."""
        now, ledger, blocked = self._env.now, self._ledger, len(self._waiting) - self._came
        slots_full = len(self._prompts) + len(self._ends) >= self._sequences_max
        ledger.limits["sequence_slots" if slots_full else "kv_memory"] += blocked * (now - start)
        for request in islice(reversed(self._waiting), self._came):
            ledger.limits["iteration_latency"] += now - ledger.ready[request]

    def _book_round(self, rounds: int, length: int, round_: Round, decoding: int) -> None:
        """Book the rounds' time: the part a lone token would take, and what lengthened it."""
        limits, prompts = self._ledger.limits, len(self._prompts)
        limits["prefill"] += prompts * rounds * length
        if not decoding:
            return
        alone = min(length, self._programs.decode(1, self._context_max()).latency_ps)
        limits["iteration_latency"] += decoding * rounds * alone
        free = max(round_.latency_ps, round_.occupancy_ps)
        cause = "pipeline" if round_.occupancy_ps > round_.latency_ps else "prefill" if prompts else "iteration_latency"
        limits[cause] += decoding * rounds * (min(free, length) - alone)
        limits["power_cap"] += decoding * rounds * (length - free)
