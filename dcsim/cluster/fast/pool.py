"""The compiled copy: hosts, router and replicas of an undisturbed run in one compiled state (see `knows`).

The caller moves the clock; between two calls the pool runs every event by itself. It gives the rows, gaps, limits
and energies that `cluster/simpy` gives (tests), at a tenth of the time.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from dcsim.cluster.admission import Limits
from dcsim.cluster.copies import Copies
from dcsim.cluster.engine_programs import CONTEXT_STEP, AnyPrograms, EnginePrograms
from dcsim.cluster.fast import engine_kernel, kept_kernel, pool_kernel
from dcsim.cluster.fast import layout as c
from dcsim.cluster.fast.knows import BATCHING, ROUTERS
from dcsim.cluster.fast.rounds_kernel import count_gap
from dcsim.cluster.fast.traffic import Arrivals, Asking
from dcsim.cluster.live import LiveState
from dcsim.cluster.marks import error_draws
from dcsim.cluster.programs import Round
from dcsim.cluster.rows import LIMITS, request_rows, sums_tables
from dcsim.llm.kv import SequenceRoom
from dcsim.llm.program import Shape
from dcsim.network.lockstep import Chunk
from dcsim.power.caps_kernel import Caps
from dcsim.power.hosts import token_pj
from dcsim.power.rack import RackMeter, power_table
from dcsim.results.records import FINISHED, IN_FLIGHT, REJECTED, Table, TableWriter
from dcsim.spec.topology import Topology
from dcsim.units import PS_PER_S, to_ps
from dcsim.workload.closed import ClosedLoop
from dcsim.workload.requests import Requests

_READINGS = 512  # kept as counts before they become watts
_SAMPLES = 64  # of power, between two returns of the kernel
_ERRORS = 16  # draws of bit errors at first
_STATUS = np.array([IN_FLIGHT, FINISHED, REJECTED], "U9")  # by the kernel's numbers


class Pool:
    """Takes blocks of requests as it comes to them, writes their rows as they end and has the racks' power sampled.

    Once it has `ended`, `end_ps` is the length of the run.
    """

    def __init__(
        self,
        spec: Topology,
        programs: AnyPrograms,
        room: SequenceRoom,
        caps: Caps,
        racks: list[RackMeter],
        traffic: Iterator[Requests] | ClosedLoop,
        class_names: tuple[str, ...],
        priorities: tuple[int, ...],
        rows: TableWriter,
        *,
        skip: bool,
        seed: int,
        copies: Copies | None = None,
    ) -> None:
        self._spec, self._programs, self._racks, self._rows = spec, programs, racks, rows
        self._room, self._copies = room, copies
        self._class_names = np.array(class_names)
        self._shapes: dict[Shape | None, int] = {}
        levels = sorted(set(priorities), reverse=True)
        level_of = np.array([levels.index(priority) for priority in priorities], np.int64)  # by class
        drain_ps = to_ps(spec.serving.drain_s)
        self._traffic = Asking(traffic, drain_ps) if isinstance(traffic, ClosedLoop) else Arrivals(traffic, level_of, drain_ps)
        self._error_draws = [error_draws(seed, replica) for replica in range(len(caps.wait_w))]
        self._s = _new_state(spec, programs, room, caps, len(levels), skip, self._traffic)
        self._draw_errors()
        self._s.replicas[:, c.UNTIL_ERROR] = self._s.draws[:, 0]
        self._s.replicas[:, c.NEXT_DRAW] = 1
        self._work_pj = [0] * len(caps.wait_w)  # of each replica, before what the state holds
        self._last_reading = [0] * (1 + 2 * len(self._work_pj) + spec.serving.host_servers)
        self._ends_ps, self._lengths_ps = array("q"), array("q")  # of the intervals read so far
        self._spent = array("d")  # [interval, (time, in programs by replica, work by replica, core time by host)], not yet watts
        self._limits = dict.fromkeys(LIMITS, 0)
        self.ended, self.end_ps = False, 0
        self._area = 0
        self._reply_ps = int(self._s.fixed[c.REPLY])

    @property
    def closed(self) -> int:
        """Requests that have reached their end."""
        return int(self._s.now[c.CLOSED])

    def live(self) -> LiveState:
        """What it looks like now."""
        self._settle()
        now, replicas = self._s.now, self._s.replicas
        rack_w = tuple(watts for rack in self._racks for watts in rack.watts[-1:])
        decoding = tuple(int(count) for count in replicas[:, c.COUNT])
        return LiveState(int(now[c.NOW]) / PS_PER_S, self.closed, int(now[c.IN_SYSTEM]), decoding, rack_w)

    @property
    def events(self) -> int:
        """Arrivals, hand-overs, ends of rounds and samples so far."""
        return int(self._s.now[c.EVENTS])

    def advance(self) -> None:
        """Run until a block of arrivals or samples has been dealt with, or to the end of the run.

        The run ends with the last token of the last request, or when draining has taken too long; not before its duration.
        """
        while True:
            need = self._run(self._traffic.until)
            if need == c.REACHED and (stop_ps := self._traffic.stop(self._s.now)) is not None:
                return self._finish(stop_ps)
            if need in (c.NEED_ARRIVALS, c.NEED_SAMPLES):
                return None

    def _run(self, until: int, *, idle: bool = False) -> int:
        """Call the kernel and give it what it needs; returns what that was."""
        need = pool_kernel.advance(self._s, until, idle)
        self._take_sums()
        self._provide(need)
        return need

    def _finish(self, stop_ps: int) -> None:
        """Run on while the last reply is on its way and the workload's duration lasts, and take the last samples."""
        end = max(stop_ps + self._reply_ps, to_ps(self._spec.workload.duration_s))
        while self._run(end, idle=True) != c.REACHED:
            pass
        self._hand_over_samples()
        pool_kernel.read_meters(self._s, end, self._s.samples[0], self._s.host_samples[0])
        self._read_meters([end])
        self.ended, self.end_ps = True, end

    def tables(self) -> tuple[dict[str, Table], float]:
        """The run's requests, gaps and limits tables at its end, and the mean number of requests in the system."""
        end = self.end_ps
        if self._s.now[c.CLOSED] < self._s.now[c.KNOWN]:
            pool_kernel.settle(self._s, end)
            self._take_sums()
        s = self._s
        self._write(s.requests[: s.now[c.KNOWN] - s.now[c.BASE]], int(s.now[c.BASE]))
        used = s.gaps[s.gaps[:, 1] > 0].tolist()
        in_system = int(s.now[c.IN_SYSTEM]) * (end - int(s.now[c.CHANGED]))
        mean = (self._area + in_system) / end if end else 0.0
        return {"requests": self._rows.close(), **sums_tables(dict(used), self._limits)}, mean

    def _take_sums(self) -> None:
        """Move sums that could outgrow 64 bits into Python's integers."""
        s = self._s
        for name, value in zip(LIMITS, s.limits.tolist(), strict=True):
            self._limits[name] += value
        s.limits[:] = 0
        self._area += int(s.now[c.AREA])
        s.now[c.AREA] = 0

    def _provide(self, need: int) -> None:
        s = self._s
        if need in (c.NEED_DECODE, c.NEED_CHUNK, c.NEED_ROUND):
            self._time_round(need, self._programs)
        elif need == c.NEED_COPIES:
            self._send()
        elif need == c.NEED_GAPS:
            self._grow_gaps()
        elif need == c.NEED_DRAWS:
            self._draw_errors()
        elif need == c.NEED_TIDY:
            self._tidy_kept()
        elif need == c.NEED_SAMPLES or s.now[c.FULL]:
            self._hand_over_samples()
        elif need == c.NEED_ARRIVALS:
            self._next_block()

    def _time_round(self, need: int, programs: AnyPrograms) -> None:
        """How long a round takes, and what it works: of compiled programs, or of an engine."""
        s = self._s
        count, bucket = int(s.now[c.NEED_COUNT]), int(s.now[c.NEED_BUCKET])
        if isinstance(programs, EnginePrograms):
            chunks = [Chunk(start, stop, bool(ends)) for start, stop, ends in s.chunks[: s.now[c.NEED_CHUNKS]].tolist()]
            round_ = programs.mixed(count, bucket, chunks)
            s.answer[:] = round_.latency_ps, round_.alone_ps, _work_pj(round_)
            if chunks:
                s.now[c.ANSWERED] = 1
            else:
                self._remember(count, bucket)
        elif need == c.NEED_DECODE:
            round_ = programs.decode(count, bucket)
            (one,) = round_.micro_batches
            numbers = self._number(round_), one.bit_errors, one.shape.batch, round_.grid_ps
            s.decode[count, bucket] = round_.latency_ps, round_.occupancy_ps, round_.alone_ps, *numbers
            s.decode_pj[count, bucket] = _work_pj(round_)
        else:
            round_ = programs.chunk(bucket)
            hazard = round_.micro_batches[0].bit_errors
            s.chunk[bucket] = round_.latency_ps, round_.occupancy_ps, self._number(round_), hazard
            s.chunk_pj[bucket] = _work_pj(round_)

    def _send(self) -> None:
        """When KV that is about to be sent is where it is decoded."""
        s, now = self._s, int(self._s.now[c.NOW])
        for place in s.sends[: s.now[c.SENDS]]:
            request = s.requests[place[0] - s.now[c.BASE]]
            source, target, prompt, given = request[[c.SOURCE, c.REPLICA, c.PROMPT, c.GIVEN]].tolist()
            place[1] = self._copies.send(source, target, prompt + given - 1, now) if self._copies else now
        s.now[c.SENDS] *= -1  # answered

    def _remember(self, sequences: int, step: int) -> None:
        """Note the answer for an engine's rounds without prompts, in a table that is never more than half full."""
        old = self._s.rounds
        if 2 * self._s.now[c.ROUNDS_USED] >= len(old):
            self._s = self._s._replace(rounds=np.zeros((4 * len(old), 4), np.int64))
            self._s.now[c.ROUNDS_USED] = 0
            for key, *answer in old[old[:, 1] > 0].tolist():
                engine_kernel.remember(self._s, key >> 32, key & 0xFFFFFFFF, np.array(answer, np.int64))
        engine_kernel.remember(self._s, sequences, step, self._s.answer)

    def _hand_over_samples(self) -> None:
        s, count, interval = self._s, int(self._s.now[c.SAMPLES]), int(self._s.fixed[c.SAMPLE_PS])
        first = int(s.now[c.NEXT_SAMPLE]) - count * interval
        self._read_meters([first + i * interval for i in range(count)])
        self._work_pj = [before + work for before, work in zip(self._work_pj, s.replicas[:, c.WORK].tolist(), strict=True)]
        s.replicas[:, c.WORK] = 0
        s.now[c.SAMPLES] = s.now[c.FULL] = 0

    def _read_meters(self, ends_ps: list[int]) -> None:
        """Have the racks' meters read the intervals that end then, of which the state holds the first so many samples."""
        s = self._s
        for i, end in enumerate(ends_ps):
            last = self._last_reading
            if end == last[0]:
                continue
            program_ps, work_pj = s.samples[i].T.tolist()
            work_pj = [before + work for before, work in zip(self._work_pj, work_pj, strict=True)]
            self._last_reading = reading = [end, *program_ps, *work_pj, *s.host_samples[i].tolist()]
            self._ends_ps.append(end)
            self._lengths_ps.append(end - last[0])
            self._spent.extend([new - old for new, old in zip(reading, last, strict=True)])
        if len(self._spent) >= _READINGS * len(self._last_reading):
            self._settle()

    def _settle(self) -> None:
        """Turn the readings so far into watts."""
        replicas = len(self._work_pj)
        rows = np.frombuffer(self._spent, np.float64).reshape(-1, len(self._last_reading))
        time, program, work, core = np.split(rows, np.cumsum([1, replicas, replicas]), axis=1)
        for rack in self._racks:
            rack.add(time[:, 0], program[:, rack.replicas], work[:, rack.replicas], core[:, rack.hosts])
        self._spent = array("d")

    def power_table(self) -> Table:
        """The racks' readings, once the run has ended."""
        self._settle()
        return power_table(self._racks, self._ends_ps, self._lengths_ps)

    def _number(self, round_: Round) -> int:
        """A number for the round's program."""
        return self._shapes.setdefault(round_.first, len(self._shapes))

    def _grow_gaps(self) -> None:
        old = self._s.gaps
        self._s = self._s._replace(gaps=np.zeros((4 * len(old), 2), np.int64))
        self._s.now[c.GAPS_USED] = 0
        for gap, times in old[old[:, 1] > 0].tolist():
            count_gap(self._s, gap, times)

    def _draw_errors(self) -> None:
        """Forget the draws that are used up, and have twice as many besides those that are left."""
        s, size = self._s, max(_ERRORS, 2 * self._s.draws.shape[1])
        draws = np.empty((len(s.replicas), size), np.int64)
        for own, old, used, more in zip(draws, s.draws, s.replicas[:, c.NEXT_DRAW], self._error_draws, strict=True):
            left = old[used:]
            own[: len(left)] = left
            own[len(left) :] = list(islice(more, size - len(left)))
        s.replicas[:, c.NEXT_DRAW] = 0
        self._s = s._replace(draws=draws)

    def _tidy_kept(self) -> None:
        """Forget turns that were taken or dropped; more room where one replica keeps so many that little would be won."""
        s, size = self._s, len(self._s.kept[0]) // 3
        turns = []
        for rep, places in zip(s.replicas, s.kept, strict=True):
            entries = places[np.arange(rep[c.KEPT_FIRST], rep[c.KEPT_NEXT]) % size]
            turns.append(entries[entries[:, 1] > 0])
        self._s = s._replace(kept=_no_turns(len(s.replicas), 2 * size if max(map(len, turns)) > size // 4 else size))
        s.replicas[:, [c.KEPT_FIRST, c.KEPT_NEXT, c.KEPT_TOTAL, c.KEPT_KNOWN]] = 0
        for k, left in enumerate(turns):
            kept_kernel.refill(s.now, s.replicas[k], self._s.kept[k], self._s.costs, left)
        s.now[c.TIGHT] = 0

    def _next_block(self) -> None:
        """Write the rows of requests before the first open one, and put the next block of arrivals behind the rest."""
        s, now = self._s, self._s.now
        block = self._traffic.next_rows()
        if block is None:
            now[c.MORE] = 0
            return
        rows, known, has_sessions = block
        if has_sessions:
            s.fixed[c.REUSE] = self._spec.serving.prefix_reuse and not self._spec.serving.prefill_replicas
        held = s.requests[: now[c.KNOWN] - now[c.BASE]]
        ended = held[:, c.STATUS] != c.OPEN
        done = int(ended.argmin()) if not ended.all() else len(held)
        if done:
            self._write(held[:done], int(now[c.BASE]))
        requests = np.concatenate([held[done:], rows])
        ready = np.zeros((len(requests), 2), np.int64)
        ready[: now[c.READY_COUNT]] = s.ready[: now[c.READY_COUNT]]
        self._s = s._replace(requests=requests, ready=ready)
        now[c.BASE] += done
        now[c.KNOWN] += known

    def _write(self, requests: NDArray[np.int64], first: int) -> None:
        count = len(requests)
        columns = [np.arange(first, first + count)]
        columns += [requests[:, column] for column in (c.PROMPT, c.OUTPUT, c.GIVEN)]
        columns += [requests[:, column] for column in (c.REUSED, c.REPLAYS, c.HOST, c.REPLICA)]
        times = requests[:, [c.ARRIVAL, c.READY, c.ADMITTED, c.FIRST, c.FINISHED]].T
        reason = np.array([self._reason(row) for row in requests], "U") if requests[:, c.REASON].any() else np.full(count, "")
        self._rows.write(
            request_rows(
                np.array(columns), times, self._class_names[requests[:, c.KLASS]], _STATUS[requests[:, c.STATUS]], reason
            )
        )

    def _reason(self, request: NDArray[np.int64]) -> str:
        reason = request[c.REASON]
        if not reason:
            return ""
        if reason == c.HOST_FULL:
            return f"host {request[c.HOST]}: queue of {self._spec.host.queue_max} full"
        if reason == c.NEVER_FITS:
            limits = Limits(self._spec.llm.context_max, self._room, self._programs.context_max)
            return limits.refusal(int(request[c.PROMPT]), int(request[c.OUTPUT]))
        return f"replica {request[c.NEXT]}: queue of {self._spec.serving.queue_max} full"


def _work_pj(round_: Round) -> int:
    """The round's work, which two rounds' worth of must fit in 64 bits."""
    assert round_.work_pj < 2**62, f"a round of {round_.work_pj / 1e12:.0f} J"
    return round_.work_pj


def _new_state(
    spec: Topology, programs: AnyPrograms, room: SequenceRoom, caps: Caps, levels: int, skip: bool, traffic: Arrivals | Asking
) -> c.PoolState:
    serving, host, contexts, count = spec.serving, spec.host, len(programs.contexts), len(caps.wait_w)
    fixed = _fixed(spec, programs, room, skip)
    if count > 1:  # a choice among one has no effect, and shall say so
        fixed[c.ROUTER] = ROUTERS[serving.router]
    now = np.zeros(c.NOW_ENTRIES, np.int64)
    now[c.TURN], now[c.DECODE_TURN], now[c.NEXT_SAMPLE] = -1, -1, to_ps(spec.power.sample_s)
    thinking, asks, asked = traffic.into(now, fixed)
    replicas = np.zeros((count, c.WAITING_ENDS + 2 * levels), np.int64)
    replicas[:, c.WAITING_ENDS :] = c.NONE
    replicas[:, c.KV_FREE], replicas[:, c.WHY] = room.capacity, c.L_KV
    looked_at = np.zeros((2, count), np.int64)
    looked_at[c.WAKE] = c.NEVER
    replicas[:, [c.PROMPT_HEAD, c.PASSED_HEAD, c.LANDED_HEAD, c.PROGRAM]] = c.NONE

    def zeros(*shape: int) -> NDArray[np.int64]:
        return np.zeros(shape, np.int64)

    return c.PoolState(
        now=now,
        fixed=fixed,
        requests=zeros(0, c.REQUEST_COLUMNS),
        replicas=replicas,
        looked_at=looked_at,
        caps=caps,
        kept=_no_turns(count, max(1024, 1 << (4 * serving.sequences_max).bit_length())),
        sequences=zeros(count, serving.sequences_max, 2),
        in_bucket=zeros(count, contexts),
        cores=zeros(serving.host_servers, host.cores),
        starts=zeros(serving.host_servers, host.queue_max + 1),
        hosts=zeros(serving.host_servers, 3),
        ready=zeros(0, 2),
        contexts=np.array(programs.contexts, np.int64),
        costs=zeros(0) if room.by_tokens else room.costs(min(spec.llm.context_max + 1, programs.contexts[-1])),
        decode=zeros(serving.sequences_max + 1, contexts, 7),
        decode_pj=zeros(serving.sequences_max + 1, contexts),
        chunk=zeros(contexts, 4),
        chunk_pj=zeros(contexts),
        rounds=zeros(1024, 4),
        chunks=zeros(serving.sequences_max, 3),
        answer=zeros(3),
        gaps=zeros(1024, 2),
        limits=zeros(len(LIMITS)),
        samples=zeros(_SAMPLES, count, 2),
        host_samples=zeros(_SAMPLES, serving.host_servers),
        busy=zeros(serving.host_servers),
        backlog=zeros(serving.host_servers),
        sends=zeros(serving.sequences_max, 2),
        landings=zeros(count * serving.sequences_max, 2),
        draws=zeros(count, 0),
        thinking=thinking,
        asks=asks,
        asked=asked,
    )


def _no_turns(replicas: int, size: int) -> NDArray[np.int64]:
    """Empty rings of `size` places, a power of two, with their tables."""
    kept = np.full((replicas, 3 * size, 2), c.NONE, np.int64)
    kept[:, :size] = 0
    return kept


def _fixed(spec: Topology, programs: AnyPrograms, room: SequenceRoom, skip: bool) -> NDArray[np.int64]:
    serving, host = spec.serving, spec.host
    bus_ps, detokenise_ps = to_ps(host.bus_s), to_ps(host.detokenise_token_s)
    fixed = np.zeros(c.FIXED_ENTRIES, np.int64)
    fixed[c.KV], fixed[c.SEQUENCES_MAX], fixed[c.QUEUE_MAX] = room.capacity, serving.sequences_max, serving.queue_max
    if isinstance(programs, EnginePrograms):
        engine = programs.engine
        fixed[c.ENGINE], fixed[c.GROWS], fixed[c.STEP_TOKENS] = 1, engine.preemption != "never", CONTEXT_STEP
        fixed[c.CHUNK], fixed[c.PREFILL_MAX] = 1, engine.batched_tokens_max * programs.apart
        fixed[c.BATCHING] = BATCHING[engine.batching]
    else:
        fixed[c.CHUNK] = programs.chunk_tokens
        fixed[c.PREFILL_MAX] = max(serving.prefill_tokens_max, programs.chunk_tokens)
        fixed[c.BATCHING] = BATCHING[serving.batching]
    fixed[c.SWITCH] = to_ps(spec.chip.program_switch_s) if spec.chip.kind == "lpu" else 0
    fixed[c.REPLY], fixed[c.SKIP] = bus_ps + detokenise_ps, skip
    fixed[c.HOST_QUEUE_MAX], fixed[c.REQUEST_PS] = host.queue_max, to_ps(host.request_s)
    fixed[c.TOKENISE_PS], fixed[c.BUS_PS] = to_ps(host.tokenise_token_s), bus_ps
    fixed[c.BUS_TOKEN_PS] = to_ps(host.token_bytes / host.bus_bandwidth_bytes_per_s)
    fixed[c.SAMPLE_PS], fixed[c.TOKEN_PJ] = to_ps(spec.power.sample_s), token_pj(host)
    fixed[c.LLM_CONTEXT], fixed[c.READERS] = spec.llm.context_max, serving.prefill_replicas
    return fixed
