"""One replica: a process that serves its sequences round by round on a pipeline of chips.

In a round every micro-batch passes every stage once: each decoding sequence gains a token, and some prompt
chunks are read. No micro-batch overtakes another, so a round takes the slowest one's latency, or the busiest
stage's total occupancy where that is longer. Between two changes of what it carries (admission, end of a
prompt, end of a sequence, a context bucket crossed) nothing but the rounds' number grows, so the process sleeps over
all those rounds at once; `skip=False` wakes it every round, as a reference that must give the same rows.

What comes from outside is seen at the end of the round it comes in; only a fault cuts a round short.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Protocol

import simpy

from dcsim.cluster.engine_programs import EnginePrograms
from dcsim.cluster.marks import Marks
from dcsim.cluster.request import UNSET, Request
from dcsim.cluster.setup import ReplicaSetup
from dcsim.cluster.simpy.attribution import Attribution
from dcsim.cluster.simpy.batch import Batch, CompiledBatch
from dcsim.cluster.simpy.capping import CappedMeters
from dcsim.cluster.simpy.client import Patience
from dcsim.cluster.simpy.decoding import Decoding
from dcsim.cluster.simpy.engine_batch import EngineBatch
from dcsim.cluster.simpy.environment import ROUND, Environment, Process
from dcsim.cluster.simpy.gaps import TokenGaps
from dcsim.cluster.simpy.kv import KvRoom
from dcsim.cluster.simpy.ledger import Ledger
from dcsim.cluster.simpy.outage import Outage, outage_of
from dcsim.cluster.simpy.pace import Drawn, DrawPlaces, Steady
from dcsim.cluster.simpy.rounds import NextRounds
from dcsim.cluster.simpy.speculation import tokens_per_step
from dcsim.policies.admission import ADMISSION, Waiting
from dcsim.policies.batching import BATCHING
from dcsim.results.records import FAILED, IN_FLIGHT, REJECTED


class Desk(Protocol):
    """Who sends requests to replicas (see `dispatch`), as a replica knows it."""

    def change_load(self, replica: Replica, by: int) -> None:
        """Requests have come to the replica, or gone."""

    def set_down(self, replica: Replica, down: bool) -> None:
        """The replica stands still, or works again."""

    def recover(self, request: Request, label: str) -> None:
        """A fault destroyed what a request had."""

    def send_elsewhere(self, request: Request, label: str) -> None:
        """A request that waited at a replica that has stopped."""


_SOONER = "rounds end with the one under way"  # cause of an interrupt that only cuts a stretch of equal rounds


class Replica:
    """Sequences, their KV room and the rounds they share. `submit` hands it a request that is ready.

    `desk` hears of load, outages and requests to be served anew. `pass_on`, `fetch` and `forget` are set where prefill and
    decode are apart (see `link`): a replica that only reads prompts passes each on, a replica that decodes fetches its KV, if any
    is elsewhere, and lets the source `forget` a request that will not come. `caps` is set where meters have caps.
    """

    def __init__(
        self,
        env: Environment,
        index: int,
        setup: ReplicaSetup,
        places: DrawPlaces,
        marks: Marks,
        ledger: Ledger,
        patience: Patience,
        desk: Desk,
    ) -> None:
        self._env, self.index, self._ledger, self._desk = env, index, ledger, desk
        self._setup, self._patience = setup, patience
        serving = setup.serving
        self._sequences_max, self._queue_max = serving.sequences_max, serving.queue_max
        self._policy = BATCHING[serving.engine.batching if serving.engine else serving.batching]
        self._next = ADMISSION[serving.admission]
        self.pass_on: Callable[[Replica, Request], None] | None = None
        self.fetch: Callable[[Replica, Request], bool] | None = None
        self.forget: Callable[[Request], None] | None = None
        self.caps: CappedMeters | None = None
        self._ahead = serving.speculation.draft_tokens if serving.speculation else 0
        self.kv = KvRoom(setup.room, lambda: serving.prefix_reuse and not serving.prefill_replicas, self._growing)
        preemption = serving.engine.preemption if serving.engine else "never"
        self._grows, self._swaps = preemption != "never", preemption == "swap"
        self._bus_free = 0  # when the last copy to or from hosts' memory ends
        self._waiting: Waiting[Request] = Waiting(setup.priorities)
        mean = tokens_per_step(serving.speculation) if serving.speculation else 1.0
        self._decoding = Decoding(setup.programs.contexts, setup.growth, self._ahead, mean)
        self._batch = self._make_batch()
        self._next_rounds = NextRounds(index, setup, self._batch, places, marks)
        self._copying: dict[int, Request] = {}  # holding room while KV is copied to or from another replica
        self._landed: list[Request] = []  # copied here, decode from the next round on
        self._leaving: list[Request] = []  # whose clients have gone
        self._gaps = TokenGaps(ledger.count_gap)
        self._attribution = Attribution(ledger.spent)
        self._pace: Steady | Drawn | None = None  # rounds under way
        self._rounds = 0  # how many of them until the next wake
        self._since = 0  # when they began, or when the replica was last looked at
        self._asleep = False  # over rounds under way
        self._bell: simpy.Event | None = None  # rung when something comes and no round is under way
        self.down_until, self._down_since, self.down_ps = 0, -1, 0
        self._program_ps = self._work_pj = 0  # of rounds that have ended, in whole numbers
        self.process = env.process(self._live())

    def _make_batch(self) -> Batch:
        """Of whatever tokens there are under a serving engine, else of compiled programs."""
        programs, serving = self._setup.programs, self._setup.serving
        if isinstance(programs, EnginePrograms):
            return EngineBatch(programs, self._decoding)
        return CompiledBatch(programs, self._policy, serving.prefill_tokens_max, self._decoding)

    # The process

    def _live(self) -> Process:
        """Serve, until a fault interrupts; stand still until repaired; and again."""
        while True:
            try:
                yield from self._serve()
            except simpy.Interrupt as interrupt:
                if interrupt.cause is not _SOONER:
                    yield from self._stand_still(outage_of(interrupt, f"replica {self.index}"))

    def _serve(self) -> Process:
        """Round after round while there is anything to do, then wait for the bell."""
        env = self._env
        while True:
            yield env.moment(0, ROUND, self.index)  # all that comes at this instant comes first
            self._attribution.idle(env.now, self._since)
            while self._begin():
                yield from self._sleep()
                self._end(self._rounds, env.now)
            self._bell = env.event()
            yield self._bell

    def _sleep(self) -> Process:
        """Let the rounds pass; who comes may cut their number down to the one under way."""
        assert self._pace is not None
        self._asleep = True
        while self._asleep:
            try:
                yield self._env.moment(self._since + self._pace.span_ps(self._rounds) - self._env.now, ROUND, self.index)
                self._asleep = False
            except simpy.Interrupt as interrupt:
                if interrupt.cause is not _SOONER:
                    raise

    def _stand_still(self, outage: Outage) -> Process:
        """Lose all KV, and do nothing until repaired; further faults may make that later."""
        self._stop(outage)
        while self._env.now < self.down_until:
            try:
                yield self._env.timeout(self.down_until - self._env.now)
            except simpy.Interrupt as interrupt:
                if interrupt.cause is not _SOONER:
                    self.down_until = max(self.down_until, outage_of(interrupt, f"replica {self.index}").until_ps)
        self.down_ps += self._env.now - self._down_since
        self._down_since = -1
        self._desk.set_down(self, False)

    # What comes from outside

    def submit(self, request: Request) -> None:
        """Take a request that stands ready now; reject it if too many wait."""
        now = self._env.now
        if self._waiting.count >= self._queue_max:
            self._ledger.close(request, REJECTED, f"replica {self.index}: queue of {self._queue_max} full")
            return
        request.replica, request.since_ps = self.index, now
        self._desk.change_load(self, 1)
        self._waiting.append(request)
        self._attribution.came(now)
        if self._patience.is_over(request, now):
            self._leaving.append(request)
        self.rouse()

    def leave(self, request: Request) -> None:
        """The request's client has gone."""
        self._leaving.append(request)
        self.rouse()

    def landed(self, request: Request) -> None:
        """The KV this replica fetched is here."""
        if self._copying.pop(request.index, None):
            self._attribution.copied(request.since_ps, self._env.now)
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
        elif request in self._batch.prompts:
            self._batch.prompts.remove(request)
        elif request in self._landed:
            self._landed.remove(request)
        elif self._copying.pop(request.index, None):
            self._attribution.copy_ended(request.since_ps, self._env.now)
        else:
            self._waiting.remove(request)
        self.kv.give_back(request, keep=False)
        if self.forget:
            self.forget(request)
        self._desk.change_load(self, -1)

    def rouse(self) -> None:
        """Something came: begin now if no round is under way, else when the one under way ends."""
        if self._bell is not None:
            self._bell.succeed()
            self._bell = None
        elif self._asleep and self._rounds > 1:
            assert self._pace is not None
            rounds = self._pace.rounds_within(self._env.now - self._since - 1) + 1
            if rounds < self._rounds:
                self._rounds = rounds
                self.process.interrupt(_SOONER)

    @property
    def decoding(self) -> int:
        """Sequences that gain tokens in its rounds."""
        return self._decoding.count

    def drawn(self) -> tuple[int, int]:
        """(time in a program in ps, work above waiting in pJ) of the replica's chips from time 0 to now."""
        work_pj = self._work_pj + self._decoding.together * self._setup.token_pj
        if self._pace is None:
            return self._program_ps, work_pj
        passed = self._env.now - self._since
        return self._program_ps + passed, work_pj + self._pace.work_pj(passed)

    def close_out(self) -> None:
        """The run ends now: bring the tokens given to open requests, and what their time went to, up to date."""
        now = self._env.now
        self._settle()
        self._attribution.end(now, self._since, len(self._batch.prompts), self._decoding.count, self._batch.decodes)
        for request in self._copying.values():
            if request.replica == self.index:
                self._attribution.copy_ended(request.since_ps, now)
        self._decoding.clear()
        if self._decoding.together:
            self._ledger.count_gap(0, self._decoding.together)
        if self._down_since >= 0:
            self.down_ps += now - self._down_since

    # Faults

    def _stop(self, outage: Outage) -> None:
        """Stop in mid-round: what was read and decoded here is lost, what waited is served elsewhere."""
        now = self._env.now
        self._settle()
        held = [*self._decoding.requests(), *self._batch.prompts, *self._landed]
        outage.hit += len(held)
        self._attribution.lost(now, self._since, len(self._batch))
        for request in self._decoding.requests():
            request.token_ps = self._gaps.last_token_ps(request, self._since)
        self._decoding.clear()
        waiting = list(self._waiting)
        for request in self._copying.values():
            if request.replica == self.index:  # on its way here, still whole at its source
                self._attribution.copy_ended(request.since_ps, now)
                waiting.append(request)
        for request in waiting if self._swaps else ():  # hosts lose what was swapped to them, or was on its way back
            request.swapped, request.read = False, 0
        for queue in (self._batch.prompts, self._landed, self._copying, self._gaps, self._leaving, self.kv):
            queue.clear()
        self._waiting = Waiting(self._setup.priorities)
        if self._pace is not None:  # the round under way has drawn power for nothing
            self._work(self._pace, now - self._since)
        self._next_rounds.stop()
        self._pace, self._since = None, now
        self._asleep, self._bell = False, None
        if self._setup.chips:
            self._setup.chips.stop()
        self.down_until, self._down_since = max(self.down_until, outage.until_ps), now
        if self.caps:
            self.caps.idle(self.index)
        self._desk.change_load(self, -len(held) - len(waiting))
        self._desk.set_down(self, True)
        for request in held:
            self._desk.recover(request, outage.label)
        for request in waiting:
            self._desk.send_elsewhere(request, outage.label)

    def _settle(self) -> None:
        """Book the whole rounds that have passed since the last wake: what was chosen then ends here."""
        if self._pace is None:
            return
        rounds = min(self._pace.rounds_within(self._env.now - self._since), self._rounds)
        if rounds:
            came = self._attribution.set_aside()
            pace = self._pace
            self._end(rounds, self._since + pace.span_ps(rounds))
            self._pace = pace.after(rounds)
            self._attribution.put_back(came)

    # Rounds

    def _begin(self) -> bool:
        """Let go, admit, compose the next round and say how long until something changes; False if there is nothing to do."""
        now, batch = self._env.now, self._batch
        self._let_go(now)
        for request in self._landed:
            self._join(request, now)
        self._landed.clear()
        self._make_room()
        self._admit(now)
        self._since = now
        self._attribution.begin(self._waiting.count, self._why_waiting())
        if not len(batch):
            if self.caps:
                self.caps.idle(self.index)
            return False
        self._pace, self._rounds = self._next_rounds.choose(self.caps, now)
        self._rounds = min(self._rounds, self._rounds_of_room())
        if self._setup.chips:
            self._setup.chips.begin(self._pace)
        if self.caps:
            span = self._pace.span_ps(self._rounds)
            self.caps.work(self.index, self._pace.work_pj(span) / span)
        return True

    def _let_go(self, now: int) -> None:
        """Fail requests here whose clients have gone."""
        for request in self._leaving:
            if request.status == IN_FLIGHT and request.replica == self.index and (reason := self._patience.is_over(request, now)):
                self.drop(request)
                self._ledger.close(request, FAILED, reason)
        self._leaving.clear()

    def _admit(self, now: int) -> None:
        """Give KV room and a sequence slot to those the policies name."""
        waiting = self._waiting
        if not waiting.count or not self._policy.admits(self._active()):
            return
        while waiting.count and self._active() < self._sequences_max:
            request = self._next(waiting, self._fits)
            if request is None:
                break
            waiting.remove(request)
            self.kv.take(request, self._room(request), find=not request.swapped)
            if request.admitted_ps == UNSET:
                request.admitted_ps = now
            if request.swapped:
                request.swapped, request.since_ps = False, now
                self._copying[request.index] = request
                self._env.process(self._swap_in(request, now))
            elif self.fetch and self.fetch(self, request):
                request.since_ps = now
                self._copying[request.index] = request
            else:
                self._batch.prompts.append(request)

    def _over_the_bus(self, request: Request, now: int) -> int:
        """When what a request stored is at the other end: one after another, all chips at the same time."""
        self._bus_free = max(self._bus_free, now) + self._setup.swap_ps(request.to_read)
        return self._bus_free

    def _swap_in(self, request: Request, begun: int) -> Process:
        yield self._env.timeout(self._over_the_bus(request, begun) - begun)
        if request.since_ps == begun and self._copying.get(request.index) is request:  # a fault may have come between
            self.landed(request)

    def _fits(self, request: Request) -> bool:
        return self.kv.fits(self._room(request))

    def _room(self, request: Request) -> int:
        """Tokens of whose KV the request holds here from admission to its end."""
        if self.pass_on or self._grows:
            return request.to_read + 1
        return request.prompt + request.output + self._ahead

    def _growing(self) -> int:
        """What decoding sequences store, and room for the next token of each; nothing where they hold it from the beginning."""
        if not self._grows or not self._decoding.count:
            return 0
        room = self._setup.room
        if room.by_tokens:
            return ceil(self._decoding.count * self._decoding.context_mean())
        return sum(map(room.cost, self._decoding.contexts()))

    def _make_room(self) -> None:
        """Where the next tokens have no room, the sequences that joined last go back to wait; they are read anew, or swapped."""
        while self._grows and self._decoding.count > 1 and self.kv.used + self._growing() > self.kv.capacity:
            request = self._decoding.latest
            request.token_ps = self._gaps.last_token_ps(request, self._env.now)
            self._decoding.leave(request)
            self._gaps.leave(request)
            self.kv.give_back(request, keep=False)
            if self._swaps:  # its room is free at once; the copies keep their order on the bus
                request.swapped = True
                self._over_the_bus(request, self._env.now)
            else:
                request.read = 0
            self._waiting.put_back(request)

    def _rounds_of_room(self) -> int:
        """Rounds until decoding sequences may have filled the room; no fewer where they hold it from the beginning."""
        if not self._grows or not self._decoding.count:
            return self._rounds
        left = self.kv.capacity - self.kv.used - self._growing()
        each = self._decoding.count * self._decoding.tokens_per_step * self._setup.room.cost(1)
        return 1 + max(0, int(left // each))

    def _active(self) -> int:
        return len(self._batch) + len(self._copying) + len(self._landed)

    def _why_waiting(self) -> str:
        active = self._active()
        if active >= self._sequences_max:
            return "sequence_slots"
        return "kv_memory" if self._policy.admits(active) else "batch"

    def _end(self, rounds: int, now: int) -> None:
        """`rounds` rounds have passed: count tokens, end sequences, finish prompts."""
        pace, since, batch, decoding = self._pace, self._since, self._batch, self._decoding.count
        assert pace is not None
        self._attribution.rounds(pace, rounds, now, now - since, len(batch.prompts), decoding, batch.decodes)
        self._work(pace, now - since)
        round_, _ = pace.first()
        if self._setup.rounds is not None:
            decoded = decoding if batch.decodes else 0
            self._setup.rounds.append((self.index, since, now, rounds, decoded, len(batch.chunks), round_.iterations))
        if not isinstance(self._setup.programs, EnginePrograms):  # whose iterations hold any mixture of tokens
            for shape, count in round_.shapes().items():
                self._ledger.iterations.add((self.index, shape), count * rounds, since, now)
        self._next_rounds.passed(pace, rounds, now)
        self._pace, self._since = None, now
        if batch.decodes:
            self._gaps.rounds(pace, rounds, decoding, since)
        elif decoding:
            self._gaps.stand_still(self._decoding.requests(), since)
        ended, read = batch.advance(rounds)
        for request in ended:
            self._finish(request)
        for request in read:
            self._first_token(request, now)

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
            self._desk.change_load(self, -1)
            self.pass_on(self, request)
        else:
            self._join(request, now)

    def _join(self, request: Request, now: int) -> None:
        if self._grows:
            self.kv.let_grow(request)
        self._decoding.join(request)
        self._gaps.join(request, now)

    def _finish(self, request: Request) -> None:
        self.kv.give_back(request)
        self._desk.change_load(self, -1)
        self._ledger.finish(request, self._setup.reply_ps)

    def _work(self, pace: Steady | Drawn, passed_ps: int) -> None:
        """So much time has been spent in rounds."""
        self._program_ps += passed_ps
        self._work_pj += pace.work_pj(passed_ps)
