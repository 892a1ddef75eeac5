"""Hosts, router and replicas of the plain case, compiled: the rules of `host`, `routers` and `replica` over arrays.

Times are picoseconds, tokens and indexes whole numbers. `advance` runs events in order until a given time; at one
instant requests reach replicas before rounds end. What is not plain (`pool.is_plain`) runs in those modules instead,
and a test holds the rows of both equal to the last bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

# Columns of `requests`, one row a request. GIVEN is at joining until the request ends.
(ARRIVAL, PROMPT, OUTPUT, KLASS, HOST, REPLICA, READY, ADMITTED, FIRST, FINISHED, GIVEN, READ, MADE, LATE, JOINED,
 BUCKET, END, NEXT, STATUS, REASON) = range(20)
REQUEST_COLUMNS = 20
OPEN, FINISHED_STATUS, REJECTED_STATUS = range(3)
HOST_FULL, NO_ROOM, TOO_LONG, QUEUE_FULL = range(1, 5)  # REASON

# Columns of `replicas`. Waiting requests and prompts are lists linked through NEXT.
(WAKE, SINCE, ROUNDS, LENGTH, LEAD, LATENCY, OCCUPANCY, ALONE, DECODES, RUNNING, STEP, COUNT, TOP, LATES, KV_FREE,
 WAIT_HEAD, WAIT_TAIL, WAITING, PROMPT_HEAD, PROMPT_TAIL, PROMPTS, BLOCKED, WHY, CAME, CAME_SUM, PROGRAM, DRAW_SINCE,
 LOAD) = range(28)
REPLICA_COLUMNS = 28
ENERGY, DRAW, ROUND_ENERGY, WORK_MAX, IDLE_W, WAIT_W = range(6)  # columns of `power`
POWER_COLUMNS = 6

# Entries of `now`: AREA and the limits are emptied by the caller before they outgrow 63 bits.
(NOW, NEXT_ARRIVAL, KNOWN, MORE, BASE, IN_SYSTEM, AREA, CHANGED, CLOSED, LAST_CLOSE, READY_COUNT, GAPS_USED, NEXT_HOST,
 TURN, NEED_COUNT, NEED_BUCKET) = range(16)
NOW_ENTRIES = 16

# Entries of `fixed`.
(KV, SEQUENCES_MAX, QUEUE_MAX, HOST_QUEUE_MAX, CHUNK, PREFILL_MAX, BATCHING, IN_TURN, SWITCH, REPLY, SKIP, REQUEST_PS,
 TOKENISE_PS, BUS_PS, BUS_TOKEN_PS, DETOKENISE_PS) = range(16)
FIXED_ENTRIES = 16
CONTINUOUS, PREFILL_FIRST, STATIC = range(3)  # BATCHING
FIRST_PLACE, WAITERS, CORE_TIME = range(3)  # columns of `hosts`

REACHED, NEED_DECODE, NEED_CHUNK, NEED_GAPS, NEED_ARRIVALS = range(5)  # what `advance` returns
NEVER = np.iinfo(np.int64).max
NONE = -1

# As in `ledger.LIMITS`.
L_HOST, L_KV, L_SLOTS, L_BATCH, L_PREFILL, L_PIPELINE, L_POWER, L_LATENCY, L_SWITCH = range(9)


class State(NamedTuple):
    """int64 arrays, but for energies and powers; the first index is the replica or host where one is named."""

    now: Any  # [NOW_ENTRIES]
    fixed: Any  # [FIXED_ENTRIES]
    requests: Any  # [index - BASE, column]
    replicas: Any  # [replica, column]
    power: Any  # [replica, column] joules and watts
    sequences: Any  # [replica, place, 2] heap of (step of next change, request) of decoding sequences
    in_bucket: Any  # [replica, compiled context] sequences that need it
    cores: Any  # [host, core] when each is free
    starts: Any  # [host, place] ring of start times of requests that wait for a core
    hosts: Any  # [host, column]
    ready: Any  # [place, 2] heap of (time, request) on their way from hosts to replicas
    contexts: Any  # [compiled context] tokens
    decode: Any  # [sequences, compiled context, 4] latency, occupancy, alone, program; latency 0: not yet known
    decode_j: Any  # [sequences, compiled context] joules
    chunk: Any  # [compiled context, 3] latency, occupancy, program; latency 0: not yet known
    chunk_j: Any  # [compiled context] joules
    gaps: Any  # [place, 2] hash table of (gap, count); count 0: free
    limits: Any  # [LIMITS] request-picoseconds


@njit(cache=True)
def advance(s: State, until: int) -> int:
    """Run all events up to `until`; stops early where it needs something from the caller, and goes on when called again."""
    now = s.now
    while True:
        if now[GAPS_USED] * 2 > len(s.gaps):
            return NEED_GAPS
        if now[NEXT_ARRIVAL] == now[KNOWN] and now[MORE]:
            return NEED_ARRIVALS
        arrival = NEVER
        if now[NEXT_ARRIVAL] < now[KNOWN]:
            arrival = s.requests[now[NEXT_ARRIVAL] - now[BASE], ARRIVAL]
        ready = s.ready[0, 0] if now[READY_COUNT] else NEVER
        replica = _first_to_wake(s.replicas)
        wake = s.replicas[replica, WAKE]
        time = min(arrival, ready, wake)
        if time > until or time == NEVER:
            return REACHED
        now[NOW] = time
        if ready == time:
            request = s.ready[0, 1]
            _pop(s.ready, now[READY_COUNT])
            now[READY_COUNT] -= 1
            _submit(s, _route(s), request)
        elif arrival == time:
            _accept(s, now[NEXT_ARRIVAL])
            now[NEXT_ARRIVAL] += 1
        else:
            need = _wake(s, replica)
            if need:
                return need


@njit(cache=True)
def settle(s: State, at: int) -> None:
    """Book the whole rounds that have passed by `at`, and bring open requests' tokens up to date."""
    for k in range(len(s.replicas)):
        rep = s.replicas[k]
        if rep[RUNNING]:
            rounds = min((at - rep[SINCE] - rep[LEAD]) // rep[LENGTH], rep[ROUNDS])
            if rounds > 0:
                came, rep[CAME] = rep[CAME], 0
                came_sum, rep[CAME_SUM] = rep[CAME_SUM], 0
                _end(s, k, rounds, rep[SINCE] + rep[LEAD] + rounds * rep[LENGTH])
                rep[CAME], rep[CAME_SUM] = came, came_sum
        for place in range(rep[COUNT]):
            request = s.requests[s.sequences[k, place, 1] - s.now[BASE]]
            request[GIVEN] += rep[STEP] - request[JOINED]


@njit(cache=True)
def count_gap(s: State, gap: int, times: int) -> None:
    """`times` tokens followed their predecessors after `gap`."""
    table = s.gaps
    place = ((gap ^ (gap >> 17)) * 0x2545F4914F6CDD1D >> 20) & (len(table) - 1)
    while table[place, 1] and table[place, 0] != gap:
        place = (place + 1) & (len(table) - 1)
    if not table[place, 1]:
        s.now[GAPS_USED] += 1
        table[place, 0] = gap
    table[place, 1] += times


@njit(cache=True)
def _first_to_wake(replicas: Any) -> int:
    first = 0
    for k in range(1, len(replicas)):
        if replicas[k, WAKE] < replicas[first, WAKE]:
            first = k
    return first


@njit(cache=True)
def _route(s: State) -> int:
    """The next replica in turn, or the first of those with the fewest requests."""
    if s.fixed[IN_TURN]:
        s.now[TURN] = (s.now[TURN] + 1) % len(s.replicas)
        return int(s.now[TURN])
    best = 0
    for k in range(1, len(s.replicas)):
        if s.replicas[k, LOAD] < s.replicas[best, LOAD]:
            best = k
    return best


@njit(cache=True)
def _accept(s: State, index: int) -> None:
    """See `host.HostServer.accept`."""
    now, fixed, request = s.now, s.fixed, s.requests[index - s.now[BASE]]
    time, h = now[NOW], now[NEXT_HOST]
    now[NEXT_HOST] = (h + 1) % len(s.hosts)
    _change_in_system(s, time, 1)
    host, starts, cores = s.hosts[h], s.starts[h], s.cores[h]
    request[HOST] = h
    while host[WAITERS] and starts[host[FIRST_PLACE]] <= time:
        host[FIRST_PLACE] = (host[FIRST_PLACE] + 1) % len(starts)
        host[WAITERS] -= 1
    core = cores.argmin()
    if cores[core] > time and host[WAITERS] >= fixed[HOST_QUEUE_MAX]:
        _close(s, request, time, REJECTED_STATUS, HOST_FULL)
        return
    work = fixed[REQUEST_PS] + request[PROMPT] * fixed[TOKENISE_PS]
    start = max(time, cores[core])
    cores[core] = start + work
    if start > time:
        starts[(host[FIRST_PLACE] + host[WAITERS]) % len(starts)] = start
        host[WAITERS] += 1
    host[CORE_TIME] += work + request[OUTPUT] * fixed[DETOKENISE_PS]
    ready = start + work + fixed[BUS_PS] + request[PROMPT] * fixed[BUS_TOKEN_PS]
    request[READY] = ready
    s.limits[L_HOST] += ready - time
    _push(s.ready, now[READY_COUNT], ready, index)
    now[READY_COUNT] += 1


@njit(cache=True)
def _submit(s: State, k: int, index: int) -> None:
    """See `replica.Replica.submit`."""
    request, rep, fixed, now = s.requests[index - s.now[BASE]], s.replicas[k], s.fixed, s.now[NOW]
    tokens = request[PROMPT] + request[OUTPUT]
    reason = 0
    if tokens > fixed[KV]:
        reason = NO_ROOM
    elif tokens > s.contexts[-1]:
        reason = TOO_LONG
    elif rep[WAITING] >= fixed[QUEUE_MAX]:
        reason = QUEUE_FULL
    if reason:
        request[NEXT] = k  # for the reason's text
        _close(s, request, now, REJECTED_STATUS, reason)
        return
    request[REPLICA] = k
    rep[LOAD] += 1
    _append(s, rep, WAIT_HEAD, WAIT_TAIL, index)
    rep[WAITING] += 1
    rep[CAME] += 1
    rep[CAME_SUM] += now
    if not rep[RUNNING]:
        rep[WAKE] = min(rep[WAKE], now)
    elif rep[ROUNDS] > 1:
        rounds = max(0, (now - rep[SINCE] - 1 - rep[LEAD]) // rep[LENGTH]) + 1
        if rounds < rep[ROUNDS]:
            rep[ROUNDS] = rounds
            rep[WAKE] = rep[SINCE] + rep[LEAD] + rounds * rep[LENGTH]


@njit(cache=True)
def _wake(s: State, k: int) -> int:
    """End the rounds under way and begin the next; returns what is needed for it, or 0."""
    rep, now = s.replicas[k], s.now[NOW]
    if rep[RUNNING]:
        _end(s, k, rep[ROUNDS], now)
        rep[RUNNING] = 0
    else:
        s.limits[rep[WHY]] += rep[BLOCKED] * (now - rep[SINCE])
        _book_came(s, rep, now)
    _admit(s, rep, now)
    rep[SINCE] = now
    rep[BLOCKED] = rep[WAITING]
    full = rep[PROMPTS] + rep[COUNT] >= s.fixed[SEQUENCES_MAX]
    rep[WHY] = L_SLOTS if full else L_BATCH if s.fixed[BATCHING] == STATIC else L_KV
    if not (rep[PROMPTS] or rep[COUNT]):
        rep[WAKE] = NEVER
        _energy_to(s.power[k], rep, now, s.power[k, IDLE_W])
        return 0
    return _begin(s, k)


@njit(cache=True)
def _admit(s: State, rep: Any, now: int) -> None:
    """See `replica.Replica._admit`."""
    if s.fixed[BATCHING] == STATIC and rep[PROMPTS] + rep[COUNT]:
        return
    while rep[WAITING] and rep[PROMPTS] + rep[COUNT] < s.fixed[SEQUENCES_MAX]:
        index = rep[WAIT_HEAD]
        request = s.requests[index - s.now[BASE]]
        tokens = request[PROMPT] + request[OUTPUT]
        if tokens > rep[KV_FREE]:
            return
        rep[WAIT_HEAD] = request[NEXT]
        rep[WAITING] -= 1
        rep[KV_FREE] -= tokens
        request[ADMITTED] = now
        _append(s, rep, PROMPT_HEAD, PROMPT_TAIL, index)
        rep[PROMPTS] += 1


@njit(cache=True)
def _append(s: State, rep: Any, head: int, tail: int, index: int) -> None:
    """Put a request at the end of a list linked through NEXT; an empty list has head NONE."""
    s.requests[index - s.now[BASE], NEXT] = NONE
    if rep[head] == NONE:
        rep[head] = index
    else:
        s.requests[rep[tail] - s.now[BASE], NEXT] = index
    rep[tail] = index


@njit(cache=True)
def _begin(s: State, k: int) -> int:
    """Compose the next round and sleep until something changes; returns what is needed first, or 0."""
    rep, fixed, power = s.replicas[k], s.fixed, s.power[k]
    latency = occupancy = alone = switches = 0
    energy, program = 0.0, rep[PROGRAM]
    decodes = rep[COUNT] > 0 and (fixed[BATCHING] == CONTINUOUS or not rep[PROMPTS])
    rep[WAKE] = rep[SINCE]  # should something be missing, the round begins again
    if decodes:
        known = s.decode[rep[COUNT], rep[TOP]]
        if not known[0]:
            s.now[NEED_COUNT], s.now[NEED_BUCKET] = rep[COUNT], rep[TOP]
            return NEED_DECODE
        latency, occupancy, alone = known[0], known[1], known[2]
        switches, program = int(known[3] != program), known[3]
        energy = s.decode_j[rep[COUNT], rep[TOP]]
    chunk, budget, index = fixed[CHUNK], fixed[PREFILL_MAX], rep[PROMPT_HEAD]
    while index != NONE and budget >= chunk:
        request = s.requests[index - s.now[BASE]]
        end, stop = request[READ], min(request[PROMPT], request[READ] + budget // chunk * chunk)
        prompt_j = 0.0
        while end < stop:
            end = min(end + chunk, stop)
            bucket = np.searchsorted(s.contexts, end)
            known = s.chunk[bucket]
            if not known[0]:
                s.now[NEED_BUCKET] = bucket
                return NEED_CHUNK
            latency, occupancy = max(latency, known[0]), occupancy + known[1]
            switches += known[2] != program
            program = known[2]
            prompt_j += s.chunk_j[bucket]
            budget -= chunk
        energy += prompt_j
        index = request[NEXT]
    length = max(latency, occupancy, int(energy / power[WORK_MAX] * 1e12))
    rounds = 1
    if fixed[SKIP] and not rep[PROMPTS]:
        rounds = s.sequences[k, 0, 0] - rep[STEP]
    lead = switches * fixed[SWITCH]
    rep[LATENCY], rep[OCCUPANCY], rep[ALONE], rep[LENGTH], rep[LEAD] = latency, occupancy, alone, length, lead
    rep[PROGRAM], rep[DECODES], rep[ROUNDS], rep[RUNNING] = program, decodes, rounds, 1
    power[ROUND_ENERGY] = energy
    span = lead + rounds * length
    _energy_to(power, rep, rep[SINCE], power[WAIT_W] + energy * rounds / (span / 1e12))
    rep[WAKE] = rep[SINCE] + span
    return 0


@njit(cache=True)
def _end(s: State, k: int, rounds: int, now: int) -> None:
    """See `replica.Replica._end`."""
    rep, power, since = s.replicas[k], s.power[k], s.replicas[k, SINCE]
    _book_rounds(s, rep, rounds, now)
    power[ENERGY] += power[WAIT_W] * (now - since) / 1e12 + power[ROUND_ENERGY] * rounds
    rep[SINCE] = rep[DRAW_SINCE] = now
    if rep[DECODES]:
        _count_gaps(s, k, rounds, since)
        rep[STEP] += rounds
        _end_sequences(s, k, now)
    elif rep[COUNT]:
        _mark_late(s, k, since)
    if rep[PROMPTS]:
        _end_prompts(s, k, now)


@njit(cache=True)
def _count_gaps(s: State, k: int, rounds: int, since: int) -> None:
    rep = s.replicas[k]
    first = rep[LEAD] + rep[LENGTH]
    if rep[COUNT] > rep[LATES]:
        count_gap(s, first, rep[COUNT] - rep[LATES])
    if rep[LATES]:
        for place in range(rep[COUNT]):
            request = s.requests[s.sequences[k, place, 1] - s.now[BASE]]
            if request[LATE]:
                count_gap(s, since + first - request[MADE], 1)
                request[LATE] = 0
        rep[LATES] = 0
    if rounds > 1:
        count_gap(s, rep[LENGTH], rep[COUNT] * (rounds - 1))


@njit(cache=True)
def _mark_late(s: State, k: int, since: int) -> None:
    """Decoding stood still since then: the next token's gap is longer than a round."""
    rep = s.replicas[k]
    for place in range(rep[COUNT]):
        request = s.requests[s.sequences[k, place, 1] - s.now[BASE]]
        if not request[LATE]:
            request[LATE], request[MADE] = 1, since
            rep[LATES] += 1


@njit(cache=True)
def _end_sequences(s: State, k: int, now: int) -> None:
    """See `decoding.Decoding.advance`."""
    rep, heap, in_bucket = s.replicas[k], s.sequences[k], s.in_bucket[k]
    while rep[COUNT] and heap[0, 0] <= rep[STEP]:
        index = heap[0, 1]
        request = s.requests[index - s.now[BASE]]
        _pop(heap, rep[COUNT])
        rep[COUNT] -= 1
        in_bucket[request[BUCKET]] -= 1
        if request[END] <= rep[STEP]:
            while rep[TOP] and not in_bucket[rep[TOP]]:
                rep[TOP] -= 1
            request[GIVEN] = request[OUTPUT]
            _finish(s, rep, request, now)
        else:
            _enter(s, k, index)


@njit(cache=True)
def _enter(s: State, k: int, index: int) -> None:
    """Count a sequence under the compiled context it needs now, and note its next change."""
    rep, request, contexts = s.replicas[k], s.requests[index - s.now[BASE]], s.contexts
    bucket = np.searchsorted(contexts, request[PROMPT] + request[GIVEN] + rep[STEP] - request[JOINED])
    request[BUCKET] = bucket
    s.in_bucket[k, bucket] += 1
    rep[TOP] = max(rep[TOP], bucket)
    outgrown = request[JOINED] + max(0, contexts[bucket] - request[PROMPT] + 1 - request[GIVEN])
    _push(s.sequences[k], rep[COUNT], min(request[END], outgrown), index)
    rep[COUNT] += 1


@njit(cache=True)
def _end_prompts(s: State, k: int, now: int) -> None:
    """Count what the round has read, as `_begin` chose it, and give first tokens."""
    rep, chunk, budget = s.replicas[k], s.fixed[CHUNK], s.fixed[PREFILL_MAX]
    index = rep[PROMPT_HEAD]
    while index != NONE and budget >= chunk:
        request = s.requests[index - s.now[BASE]]
        stop = min(request[PROMPT], request[READ] + budget // chunk * chunk)
        budget -= -(-(stop - request[READ]) // chunk) * chunk
        request[READ] = stop
        following = request[NEXT]
        if stop == request[PROMPT]:
            rep[PROMPT_HEAD] = following
            rep[PROMPTS] -= 1
            request[FIRST], request[GIVEN], request[MADE] = now + s.fixed[REPLY], 1, now
            if request[OUTPUT] == 1:
                _finish(s, rep, request, now)
            else:
                request[JOINED], request[END] = rep[STEP], rep[STEP] + request[OUTPUT] - 1
                _enter(s, k, index)
        index = following


@njit(cache=True)
def _finish(s: State, rep: Any, request: Any, now: int) -> None:
    rep[KV_FREE] += request[PROMPT] + request[OUTPUT]
    rep[LOAD] -= 1
    request[FINISHED] = now + s.fixed[REPLY]
    s.limits[L_HOST] += s.fixed[REPLY]
    s.now[AREA] += s.fixed[REPLY]
    _close(s, request, now, FINISHED_STATUS, 0)


@njit(cache=True)
def _close(s: State, request: Any, now: int, status: int, reason: int) -> None:
    request[STATUS], request[REASON] = status, reason
    _change_in_system(s, now, -1)
    s.now[CLOSED] += 1
    s.now[LAST_CLOSE] = now


@njit(cache=True)
def _change_in_system(s: State, time: int, change: int) -> None:
    now = s.now
    now[AREA] += now[IN_SYSTEM] * (time - now[CHANGED])
    now[IN_SYSTEM] += change
    now[CHANGED] = time


@njit(cache=True)
def _energy_to(power: Any, rep: Any, now: int, watts: float) -> None:
    power[ENERGY] += power[DRAW] * (now - rep[DRAW_SINCE]) / 1e12
    power[DRAW] = watts
    rep[DRAW_SINCE] = now


@njit(cache=True)
def _book_came(s: State, rep: Any, now: int) -> None:
    s.limits[L_LATENCY] += rep[CAME] * now - rep[CAME_SUM]
    rep[CAME] = rep[CAME_SUM] = 0


@njit(cache=True)
def _book_rounds(s: State, rep: Any, rounds: int, now: int) -> None:
    """See `booking.Booking.rounds`."""
    limits, span, length, decoding = s.limits, now - rep[SINCE], rep[LENGTH], rep[COUNT]
    limits[rep[WHY]] += rep[BLOCKED] * span
    _book_came(s, rep, now)
    limits[L_PREFILL] += rep[PROMPTS] * span
    if not rep[DECODES]:
        limits[L_PREFILL] += decoding * span
        return
    alone, free = min(length, rep[ALONE]), max(rep[LATENCY], rep[OCCUPANCY])
    cause = L_PIPELINE if rep[OCCUPANCY] > rep[LATENCY] else L_PREFILL if rep[PROMPTS] else L_LATENCY
    limits[L_LATENCY] += decoding * rounds * alone
    limits[cause] += decoding * rounds * (free - alone)
    limits[L_POWER] += decoding * rounds * (length - free)
    limits[L_SWITCH] += decoding * (span - rounds * length)


@njit(cache=True)
def _push(heap: Any, count: int, key: int, value: int) -> None:
    """Add (key, value) to a heap of `count` pairs, the smallest pair first."""
    place = count
    while place:
        above = (place - 1) >> 1
        if heap[above, 0] < key or (heap[above, 0] == key and heap[above, 1] < value):
            break
        heap[place, 0], heap[place, 1] = heap[above, 0], heap[above, 1]
        place = above
    heap[place, 0], heap[place, 1] = key, value


@njit(cache=True)
def _pop(heap: Any, count: int) -> None:
    """Take the first pair off a heap of `count` pairs."""
    last = count - 1
    key, value = heap[last, 0], heap[last, 1]
    place, below = 0, 1
    while below < last:
        right = below + 1
        if right < last and (heap[right, 0] < heap[below, 0] or (
            heap[right, 0] == heap[below, 0] and heap[right, 1] < heap[below, 1]
        )):
            below = right
        if key < heap[below, 0] or (key == heap[below, 0] and value < heap[below, 1]):
            break
        heap[place, 0], heap[place, 1] = heap[below, 0], heap[below, 1]
        place, below = below, 2 * below + 1
    heap[place, 0], heap[place, 1] = key, value
