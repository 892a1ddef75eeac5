"""One replica: a pipeline of chips that serves its sequences round by round.

In a round every micro-batch passes every stage once: each decoding sequence gains a token, and some prompt
chunks are read. No micro-batch overtakes another, so a round takes the slowest one's latency, or the busiest
stage's total occupancy where that is longer. Between two changes of what it carries (admission, end of a
prompt, end of a sequence, a context bucket crossed) nothing but the rounds' number grows, so the replica sleeps over
all those rounds at once; `skip=False` wakes it every round, as a reference that must give the same rows.

What comes from outside (requests, faults) is seen at the end of the round it comes in; only a fault cuts a round short.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

import simpy

from dcsim.cluster.programs import Round, combine
from dcsim.cluster.request import UNSET, Request
from dcsim.cluster.setup import ReplicaSetup
from dcsim.cluster.simpy.attribution import Booking
from dcsim.cluster.simpy.capping import Capping
from dcsim.cluster.simpy.decoding import Decoding
from dcsim.cluster.simpy.events import Environment, call_at
from dcsim.cluster.simpy.gaps import TokenGaps
from dcsim.cluster.simpy.kv import KvRoom
from dcsim.cluster.simpy.ledger import Ledger
from dcsim.cluster.simpy.pace import Drawn, Places, Steady
from dcsim.cluster.simpy.waiting import Waiting
from dcsim.policies.batching import BATCHING
from dcsim.results.records import FAILED, IN_FLIGHT, REJECTED
from dcsim.units import to_ps


class Replica:
    """Sequences, their KV room and the rounds they share. `submit` hands it a request that is ready.

    `load` hears of requests come (+1) and gone (-1). `pass_on` and `fetch` are set where prefill and decode are apart
    (see `flow`): a replica that only reads prompts passes each on, a replica that only decodes fetches its KV, and lets
    the source `forget` a request that will not come.
    """

    def __init__(
        self,
        env: Environment,
        index: int,
        setup: ReplicaSetup,
        places: Places,
        ledger: Ledger,
        load: Callable[[int], None],
    ) -> None:
        self._env, self.index, self._ledger, self._load = env, index, ledger, load
        self._setup, self._serving, self._programs = setup, setup.serving, setup.programs
        self._prefill_tokens_max = max(setup.serving.prefill_tokens_max, setup.programs.chunk_tokens)
        self._sequences_max, self._queue_max = setup.serving.sequences_max, setup.serving.queue_max
        self._batching = BATCHING[setup.serving.batching]
        self._patience_ps, self._timeout_ps = to_ps(setup.serving.patience_s), to_ps(setup.serving.timeout_s)
        self._places = places
        self.pass_on: Callable[[Request], None] | None = None
        self.fetch: Callable[[Request], None] | None = None
        self.forget: Callable[[Request], None] | None = None
        self.caps: Capping | None = None
        drafts = setup.serving.speculation
        self._ahead = drafts.draft_tokens if drafts else 0
        serving = setup.serving
        self.kv = KvRoom(setup.kv_tokens, lambda: serving.prefix_reuse and not serving.prefill_replicas)
        self._waiting = Waiting(setup.priorities)
        self._prompts: deque[Request] = deque()
        self._decoding = Decoding(setup.programs.contexts, setup.growth, self._ahead)
        self._copying: dict[int, Request] = {}  # holding room while KV is copied to or from another replica
        self._landed: list[Request] = []  # copied here, decode from the next round on
        self._gaps = TokenGaps(ledger.count_gap)
        self._deadlines: list[tuple[int, int, Request]] = []
        self._booking = Booking(ledger.limits)
        self._rounds_done = 0
        self._program: object = None  # the last one run
        self._pace: Steady | Drawn | None = None  # rounds under way
        self._rounds = 0  # how many of them until the next wake
        self._decodes = False  # whether they decode
        self._chunks: list[tuple[Request, int]] = []  # prompts they read, and how far
        self._since = 0  # when they began
        self._alarm: simpy.Event | None = None
        self.down_until = 0
        self._program_ps = self._work_pj = 0  # of rounds that have ended, in whole numbers

    # What comes from outside

    def submit(self, request: Request) -> None:
        """Take a request that stands ready now; reject it if too many wait."""
        now = self._env.now
        if self._waiting.count >= self._queue_max:
            self._ledger.close(request, REJECTED, f"replica {self.index}: queue of {self._queue_max} full")
            return
        request.replica, request.queued_ps = self.index, now
        self._load(1)
        self._waiting.append(request)
        self._booking.came(now)
        if self._patience_ps and request.first_token_ps == UNSET:
            heapq.heappush(self._deadlines, (request.arrival_ps + self._patience_ps, request.index, request))
        if self._timeout_ps:
            heapq.heappush(self._deadlines, (request.arrival_ps + self._timeout_ps, request.index, request))
        self.rouse()

    def landed(self, request: Request) -> None:
        """The KV this replica fetched is here."""
        if self._copying.pop(request.index, None):
            self._booking.copied(request.queued_ps, self._env.now)
            self._landed.append(request)
            self.rouse()

    def copied(self, request: Request) -> None:
        """KV this replica held for another is not needed any more."""
        if self._copying.pop(request.index, None):
            self.kv.give_back(request, keep=False)
            self.rouse()

    def holds_copy(self, request: Request) -> bool:
        """Whether KV of a request passed on is still here."""
        return request.index in self._copying

    def drop(self, request: Request) -> None:
        """Let a request of this replica go, wherever it stands."""
        if request in self._decoding:
            self._decoding.leave(request)
            self._gaps.leave(request)
        elif request in self._prompts:
            self._prompts.remove(request)
        elif request in self._landed:
            self._landed.remove(request)
        elif self._copying.pop(request.index, None):
            self._booking.copy_ended(request.queued_ps, self._env.now)
        else:
            self._waiting.remove(request)
        self.kv.give_back(request, keep=False)
        if self.forget:
            self.forget(request)
        self._load(-1)

    def fail(self, until_ps: int) -> tuple[list[Request], list[Request]]:
        """Stop now, lose all KV, and stand still until then; returns requests that lost work, and waiting ones."""
        now = self._env.now
        self.settle()
        held = [*self._decoding.requests(), *self._prompts, *self._landed]
        self._booking.lost(now, self._since, len(held) - len(self._landed))
        for request in self._decoding.requests():
            request.token_ps = self._gaps.last_token_ps(request, self._since)
        self._decoding.clear()
        waiting = list(self._waiting)
        for request in self._copying.values():
            if request.replica == self.index:  # on its way here, still whole at its source
                self._booking.copy_ended(request.queued_ps, now)
                waiting.append(request)
        for queue in (self._prompts, self._landed, self._copying, self._gaps):
            queue.clear()
        self.kv.clear()
        self._waiting = Waiting(self._setup.priorities)
        self._load(-len(held) - len(waiting))
        if self._pace is not None:  # the round under way has drawn power for nothing
            self._work(self._pace, now - self._since)
        self._pace, self._program, self._since = None, None, now
        self.down_until = max(self.down_until, until_ps)
        if self.caps:
            self.caps.idle(self.index, now)
        self._alarm = call_at(self._env, self.down_until, self._wake, urgent=False)
        return held, waiting

    def settle(self) -> None:
        """Book the whole rounds that have passed since the last wake."""
        now = self._env.now
        if self._pace is None:
            return
        rounds = min(self._pace.rounds_within(now - self._since), self._rounds)
        if rounds:
            came = self._booking.set_aside()
            self._rounds -= rounds
            self._end(rounds, self._since + self._pace.span_ps(rounds))
            self._pace = self._pace.after(rounds)
            self._booking.put_back(came)

    def drawn(self, now: int) -> tuple[int, int]:
        """(time in a program in ps, work above waiting in pJ) of the replica's chips from time 0 to `now`."""
        together_pj = self._decoding.together * self._setup.token_pj
        if self._pace is None:
            return self._program_ps, self._work_pj + together_pj
        passed = now - self._since
        return self._program_ps + passed, self._work_pj + together_pj + self._pace.work_pj(passed)

    def close_out(self) -> None:
        """The run ends now: bring the tokens given to open requests, and what their time went to, up to date."""
        now = self._env.now
        self.settle()
        self._booking.end(now, self._since, len(self._prompts), self._decoding.count, self._decodes)
        for request in self._copying.values():
            if request.replica == self.index:
                self._booking.copy_ended(request.queued_ps, now)
        self._decoding.clear()
        if self._decoding.together:
            self._ledger.count_gap(0, self._decoding.together)

    def _room(self, request: Request) -> int:
        """KV tokens the request holds here from admission to its end."""
        if self.pass_on:
            return request.to_read + 1
        return request.prompt + request.output + self._ahead

    # Rounds

    def rouse(self) -> None:
        """Something came: wake at the end of the round under way, or now if there is none."""
        now = self._env.now
        if now < self.down_until:
            return
        if self._pace is None:
            if self._alarm is None:
                self._alarm = call_at(self._env, now, self._wake, urgent=False)
        elif self._rounds > 1:
            rounds = self._pace.rounds_within(now - self._since - 1) + 1
            if rounds < self._rounds:
                self._rounds = rounds
                self._alarm = call_at(self._env, self._since + self._pace.span_ps(rounds), self._wake, urgent=False)

    def _wake(self, alarm: simpy.Event) -> None:
        if alarm is not self._alarm:  # an earlier wake was set since
            return
        self._alarm = None
        now = self._env.now
        if self._pace is not None:
            self._end(self._rounds, now)
        else:
            self._booking.idle(now, self._since)
        self._begin(now)

    def _begin(self, now: int) -> None:
        """Admit, compose the next round, and sleep until something changes."""
        if self._deadlines:
            self._give_up(now)
        for request in self._landed:
            self._join(request, now)
        self._landed.clear()
        self._admit(now)
        self._since = now
        self._booking.begin(self._waiting.count, self._why_waiting())
        if not (self._prompts or self._decoding.count):
            self._pace = None
            if self.caps:
                self.caps.idle(self.index, now)
            return
        round_ = self._compose()
        self._pace = self._pace_of(round_, now)
        self._program = round_.last
        span = self._pace.span_ps(self._rounds)
        self._alarm = call_at(self._env, now + span, self._wake, urgent=False)
        if self.caps:
            self.caps.work(self.index, self._pace.work_pj(span) / span, now)

    def _admit(self, now: int) -> None:
        """Give KV room and a sequence slot in turn; the first that does not fit blocks the rest."""
        waiting, kv = self._waiting, self.kv
        if not waiting.count or not self._batching.admits(self._active()):
            return
        while waiting.count and self._active() < self._sequences_max:
            request = waiting.head()
            tokens = self._room(request)
            if not kv.fits(tokens):
                break
            waiting.remove(request)
            kv.take(request, tokens)
            if request.admitted_ps == UNSET:
                request.admitted_ps = now
            if self.fetch:
                request.queued_ps = now
                self._copying[request.index] = request
                self.fetch(request)
            else:
                self._prompts.append(request)

    def _active(self) -> int:
        return len(self._prompts) + self._decoding.count + len(self._copying) + len(self._landed)

    def _why_waiting(self) -> str:
        if self._active() >= self._sequences_max:
            return "sequence_slots"
        return "kv_memory" if self._batching.admits(self._active()) else "batch"

    def _compose(self) -> Round:
        """What the next round does: a token for each sequence, and chunks of prompts in order of admission."""
        chunk, budget = self._programs.chunk_tokens, self._prefill_tokens_max
        parts: list[Round] = []
        self._chunks = []
        for request in self._prompts:
            if budget < chunk:
                break
            start, stop = request.read, min(request.to_read, request.read + budget // chunk * chunk)
            budget -= -(-(stop - start) // chunk) * chunk
            parts.append(self._programs.read(start, stop))
            self._chunks.append((request, stop))
        self._decodes = self._decoding.count > 0 and self._batching.decodes(len(self._prompts))
        if self._decodes:
            parts.insert(0, self._programs.decode(self._decoding.count, self._decoding.bucket))
        if len(parts) == 1:
            return parts[0]
        if self._programs.drawn:
            place, offset, _ = self._places.at(self._rounds_done)
            parts = [part.at(place, offset) for part in parts]
        return combine(parts)

    def _pace_of(self, round_: Round, now: int) -> Steady | Drawn:
        """The rounds until the next change, and how long they take."""
        self._rounds = 1
        if not self._chunks and self._setup.skip:
            self._rounds = self._decoding.steps_until_change()
        lead = 0
        if self._setup.switch_ps:
            lead = (round_.switches + (round_.first != self._program)) * self._setup.switch_ps
        # Each sequence's token is handed on by the host beside the chips.
        extra = self._decoding.count * self._setup.token_pj if self._decodes else 0
        pace: Steady | Drawn
        if round_.draws:
            place, offset, left = self._places.at(self._rounds_done)
            self._rounds = min(self._rounds, left)
            rounds = [round_.at(place, offset + i) for i in range(self._rounds)]
            lengths = [self._length(r, extra, now) for r in rounds]
            pace = Drawn(rounds, lengths, lead, extra)
        else:
            rounds, lengths = [round_], [self._length(round_, extra, now)]
            pace = Steady(round_, lengths[0], lead, extra)
        if self.caps and any(map(_is_slowed, rounds, lengths)) and not self.caps.is_steady(now):
            self._rounds = 1  # look again
        if self._deadlines and self._rounds > 1:
            self._rounds = min(self._rounds, pace.rounds_within(self._deadlines[0][0] - now - 1) + 1)
        return pace

    def _length(self, round_: Round, extra_pj: int, now: int) -> int:
        """The slowest micro-batch or the busiest stage, stretched where a power cap slows all chips together."""
        length = max(round_.latency_ps, round_.occupancy_ps)
        return self.caps.length_ps(self.index, round_.work_pj + extra_pj, length, now) if self.caps else length

    # What rounds did

    def _end(self, rounds: int, now: int) -> None:
        """`rounds` rounds have passed: count tokens, end sequences, finish prompts."""
        pace, since, decoding, prompts = self._pace, self._since, self._decoding.count, self._prompts
        assert pace is not None
        self._booking.rounds(pace, rounds, now, now - since, len(prompts), decoding, self._decodes)
        self._work(pace, now - since)
        if self._setup.rounds is not None:
            decoded = decoding if self._decodes else 0
            self._setup.rounds.append((self.index, since, now, rounds, decoded, len(self._chunks)))
        self._rounds_done += rounds
        self._since = now
        if self._decodes:
            self._gaps.rounds(pace, rounds, decoding, since)
            for request in self._decoding.advance(rounds):
                self._finish(request)
        elif decoding:
            self._gaps.stand_still(self._decoding.requests(), since)
        for request, read in self._chunks:
            request.read = read
        while prompts and prompts[0].read == prompts[0].to_read:
            self._first_token(prompts.popleft(), now)

    def _first_token(self, request: Request, now: int) -> None:
        """All of the request's text is read, which makes its next token."""
        if request.first_token_ps == UNSET:
            request.first_token_ps = now + self._setup.reply_ps
        else:  # after a fault
            self._ledger.count_gap(now - request.token_ps, 1)
        request.given += 1
        self._work_pj += self._setup.token_pj
        request.token_ps = now
        if request.given == request.output:
            self._finish(request)
        elif self.pass_on:
            self._copying[request.index] = request
            self._load(-1)
            self.pass_on(request)
        else:
            self._join(request, now)

    def _join(self, request: Request, now: int) -> None:
        self._decoding.join(request)
        self._gaps.join(request, now)

    def _finish(self, request: Request) -> None:
        self.kv.give_back(request)
        self._load(-1)
        self._ledger.finish(request, self._setup.reply_ps)

    def _give_up(self, now: int) -> None:
        """Fail requests here whose client has gone, or whose time is over."""
        while self._deadlines and self._deadlines[0][0] <= now:
            request = heapq.heappop(self._deadlines)[2]
            if request.status != IN_FLIGHT or request.replica != self.index:
                continue
            waited = now - request.arrival_ps
            if self._timeout_ps and waited >= self._timeout_ps:
                reason = f"timed out: not finished within {self._serving.timeout_s:g} s"
            elif self._patience_ps and request.first_token_ps == UNSET:
                reason = f"gave up: no first token within {self._serving.patience_s:g} s"
            else:
                continue
            self.drop(request)
            self._ledger.close(request, FAILED, reason)

    def _work(self, pace: Steady | Drawn, passed_ps: int) -> None:
        """So much time has been spent in rounds."""
        self._program_ps += passed_ps
        self._work_pj += pace.work_pj(passed_ps)


def _is_slowed(round_: Round, length_ps: int) -> bool:
    return length_ps > max(round_.latency_ps, round_.occupancy_ps)
