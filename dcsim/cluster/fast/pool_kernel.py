"""Hosts, router and replicas of the plain case, compiled: the rules of `host`, `routers` and `replica` over arrays.

Times are picoseconds, tokens and indexes whole numbers. `advance` runs events in order until a given time; at one
instant requests reach replicas before rounds end. What is not in it (see `knows`) runs in those modules instead, and
tests hold the rows of both equal to the last bit.
"""

from __future__ import annotations

from typing import Any

from dcsim.cluster.fast import layout as c
from dcsim.cluster.fast.engine_kernel import growing, held, preempt
from dcsim.cluster.fast.heap_kernel import pop, push
from dcsim.cluster.fast.kept_kernel import cost, make_room, take_kept
from dcsim.cluster.fast.layout import PoolState
from dcsim.cluster.fast.pools_kernel import append, fetch, join_landed, land, pass_on, passed, rouse, send
from dcsim.cluster.fast.rounds_kernel import (
    backlog,
    begin,
    book_came,
    change_in_system,
    close,
    end_rounds,
    give_way,
    go,
    work_by,
)
from dcsim.kernels.jit import entry, leaf, part
from dcsim.power.caps_kernel import set_draw


@entry
def advance(s: PoolState, until: int, idle: bool) -> int:
    """Run all events up to `until`, and with `idle` the time after the last one, taking samples of energy on the way.

    Stops early where it needs something from the caller, and goes on when called again.
    """
    now = s.now
    if now[c.SENDS] < 0:
        send(s)
    while True:
        if not now[c.BEGINNING] and not now[c.PASSING]:
            need = _next(s, until, idle)
            if need != c.GO_ON:
                return need
        _act(s)
        if now[c.BEGINNING]:
            need = _begin(s, abs(now[c.BEGINNING]) - 1)
            if need:
                return need


@leaf
def _next(s: PoolState, until: int, idle: bool) -> int:
    """Move the clock to the next event and say which it is; or what is needed first."""
    now = s.now
    while True:
        if now[c.GAPS_USED] * 2 > len(s.gaps):
            return c.NEED_GAPS
        if now[c.AREA] > c.SUM_MAX or now[c.FULL]:
            return c.NEED_SUMS
        if now[c.TIGHT]:
            return c.NEED_TIDY
        if now[c.NEXT_ARRIVAL] == now[c.KNOWN] and now[c.MORE]:
            return c.NEED_ARRIVALS
        if len(s.asked) and now[c.KNOWN] - now[c.BASE] == len(s.requests):
            return c.NEED_ARRIVALS
        arrival = s.thinking[0, 0] if now[c.THINKING] else c.NEVER
        if now[c.NEXT_ARRIVAL] < now[c.KNOWN]:
            arrival = s.requests[now[c.NEXT_ARRIVAL] - now[c.BASE], c.ARRIVAL]
        landing = s.landings[0, 0] if now[c.LANDINGS] else c.NEVER
        ready = s.ready[0, 0] if now[c.READY_COUNT] else c.NEVER
        replica = _least(s.looked_at[c.WAKE])
        wake = s.looked_at[c.WAKE, replica]
        time = min(min(arrival, ready), min(wake, landing))
        if time == c.NEVER and not idle:
            return c.REACHED
        if now[c.NEXT_SAMPLE] < time and now[c.NEXT_SAMPLE] <= until:
            if now[c.SAMPLES] == len(s.samples):
                return c.NEED_SAMPLES
            _sample(s)
            continue
        if time > until or time == c.NEVER:
            return c.REACHED
        now[c.NOW] = time
        now[c.EVENTS] += 1
        now[c.REPLICA_DUE] = replica
        now[c.EVENT] = (
            c.LANDS if landing == time else c.STANDS_READY if ready == time else c.COMES if arrival == time else c.WAKES
        )
        return c.GO_ON


@leaf
def _act(s: PoolState) -> None:
    """What happens now: of requests that reach replicas one, from a host or from the replica that has read it."""
    now, index, turn = s.now, c.NONE, c.TURN
    first, behind = 0, len(s.replicas)
    if now[c.BEGINNING]:
        return
    if now[c.PASSING]:
        index, first, turn = pass_on(s, now[c.PASSING] - 1), s.fixed[c.READERS], c.DECODE_TURN
    elif now[c.EVENT] == c.LANDS:
        land(s)
    elif now[c.EVENT] == c.STANDS_READY:
        index = s.ready[0, 1]
        pop(s.ready, now[c.READY_COUNT])
        now[c.READY_COUNT] -= 1
        if s.fixed[c.READERS]:
            behind = s.fixed[c.READERS]
    elif now[c.EVENT] == c.COMES:
        if not len(s.asked) or _ask(s):
            now[c.NEXT_ARRIVAL] += 1
            _accept(s, now[c.NEXT_ARRIVAL] - 1)
    else:
        _end(s, now[c.REPLICA_DUE])
    if index != c.NONE:
        _submit(s, _route(s, index, first, behind, turn), index)
        if now[c.PASSING]:
            passed(s, now[c.PASSING] - 1, index, now[c.NOW])


@leaf
def _sample(s: PoolState) -> None:
    """Note what has been drawn by the end of a sample, now that all events up to then have run."""
    now = s.now
    read_meters(s, now[c.NEXT_SAMPLE], s.samples[now[c.SAMPLES]], s.host_samples[now[c.SAMPLES]])
    now[c.SAMPLES] += 1
    now[c.EVENTS] += 1
    now[c.NEXT_SAMPLE] += s.fixed[c.SAMPLE_PS]


@entry
def read_meters(s: PoolState, at: int, replicas: Any, hosts: Any) -> None:
    """What has been drawn by `at`: [replica, 2] time in a program and work, [host] core time; see `replica.Replica.drawn`."""
    for k in range(len(s.replicas)):
        rep = s.replicas[k]
        replicas[k, 0] = rep[c.IN_PROGRAM] + (at - rep[c.SINCE] if rep[c.RUNNING] else 0)
        replicas[k, 1] = rep[c.WORK] + work_by(rep, at)
    for h in range(len(s.hosts)):
        hosts[h] = s.hosts[h, c.BOOKED] - backlog(s, h, at)


@entry
def settle(s: PoolState, at: int) -> None:
    """The run ends at `at`: bring open requests' tokens, and what their time went to, up to date."""
    for k in range(len(s.replicas)):
        rep = s.replicas[k]
        if rep[c.RUNNING]:
            rounds = min((at - rep[c.SINCE] - rep[c.LEAD]) // rep[c.LENGTH], rep[c.ROUNDS])
            if rounds > 0:
                came, rep[c.CAME] = rep[c.CAME], 0
                came_sum, rep[c.CAME_SUM] = rep[c.CAME_SUM], 0
                end_rounds(s, k, rounds, rep[c.SINCE] + rep[c.LEAD] + rounds * rep[c.LENGTH])
                rep[c.CAME], rep[c.CAME_SUM] = came, came_sum
        since = at - rep[c.SINCE]
        s.limits[rep[c.WHY]] += rep[c.BLOCKED] * since
        s.limits[c.L_PREFILL] += rep[c.PROMPTS] * since
        s.limits[c.L_LATENCY if rep[c.DECODES] else c.L_PREFILL] += rep[c.COUNT] * since
        book_came(s, rep, at)
        for place in range(rep[c.COUNT]):
            request = s.requests[s.sequences[k, place, 1] - s.now[c.BASE]]
            request[c.GIVEN] += rep[c.STEP] - request[c.JOINED]
    for place in range(s.now[c.LANDINGS]):
        index = s.landings[place, 1] & 0x7FFFFFFF
        s.limits[c.L_COPIES] += at - s.requests[index - s.now[c.BASE], c.FETCHED]
    for place in range(s.now[c.READY_COUNT]):
        s.limits[c.L_HOST] -= s.ready[place, 0] - at
        s.requests[s.ready[place, 1] - s.now[c.BASE], c.READY] = c.NONE


@part
def _least_loaded(loads: Any, first: int, behind: int) -> int:
    """The first replica of those with the fewest requests."""
    best = first
    for k in range(first, behind):
        if loads[k] < loads[best]:
            best = k
    return best


@part
def _least(values: Any) -> int:
    """The first place of the least value; two plain loops, which the compiler makes faster than one that keeps the place."""
    least, k = values[0], 0
    for value in values:
        least = min(least, value)
    while values[k] != least:
        k += 1
    return k


@leaf
def _route(s: PoolState, index: int, first: int, behind: int, turn: int) -> int:
    """Of the replicas from `first` to before `behind` the next in turn, the session's, or the first with the fewest requests."""
    if s.fixed[c.ROUTER] == c.ROUND_ROBIN:
        s.now[turn] = (s.now[turn] + 1) % (behind - first)
        return int(first + s.now[turn])
    session = s.requests[index - s.now[c.BASE], c.SESSION]
    if s.fixed[c.ROUTER] == c.BY_SESSION and session >= 0:
        return int(first + session % (behind - first))
    if behind - first == len(s.replicas):
        return _least(s.looked_at[c.LOAD])
    return _least_loaded(s.looked_at[c.LOAD], first, behind)


@leaf
def _ask(s: PoolState) -> bool:
    """The user whose time has come asks, unless enough has been asked in all; see `users.Users`."""
    now, user = s.now, s.thinking[0, 1]
    pop(s.thinking, now[c.THINKING])
    now[c.THINKING] -= 1
    if s.fixed[c.ASKS_MAX] and now[c.KNOWN] >= s.fixed[c.ASKS_MAX]:
        go(s, now[c.NOW])
        return False
    request, ask = s.requests[now[c.KNOWN] - now[c.BASE]], s.asks[user, s.asked[user]]
    request[c.ARRIVAL], request[c.USER] = now[c.NOW], user
    request[c.PROMPT], request[c.OUTPUT] = ask[c.ASK_PROMPT], ask[c.ASK_OUTPUT]
    s.asked[user] += 1
    now[c.KNOWN] += 1
    return True


@leaf
def _accept(s: PoolState, index: int) -> None:
    """See `admission.Limits` and `host.HostServer.accept`."""
    now, fixed, request = s.now, s.fixed, s.requests[index - s.now[c.BASE]]
    time, h = now[c.NOW], now[c.NEXT_HOST]
    change_in_system(s, time, 1)
    tokens = request[c.PROMPT] + request[c.OUTPUT]
    if tokens - 1 > fixed[c.LLM_CONTEXT] or tokens > s.contexts[-1] or cost(s.costs, tokens) > fixed[c.KV]:
        close(s, request, time, c.REJECTED_STATUS, c.NEVER_FITS)
        return
    now[c.NEXT_HOST] = (h + 1) % len(s.hosts)
    host, starts, cores = s.hosts[h], s.starts[h], s.cores[h]
    request[c.HOST] = h
    while host[c.WAITERS] and starts[host[c.FIRST_PLACE]] <= time:
        host[c.FIRST_PLACE] = (host[c.FIRST_PLACE] + 1) % len(starts)
        host[c.WAITERS] -= 1
    core = cores.argmin()
    if cores[core] > time and host[c.WAITERS] >= fixed[c.HOST_QUEUE_MAX]:
        close(s, request, time, c.REJECTED_STATUS, c.HOST_FULL)
        return
    work = fixed[c.REQUEST_PS] + request[c.PROMPT] * fixed[c.TOKENISE_PS]
    start = max(time, cores[core])
    cores[core] = start + work
    if start > time:
        starts[(host[c.FIRST_PLACE] + host[c.WAITERS]) % len(starts)] = start
        host[c.WAITERS] += 1
    host[c.BOOKED] += work
    ready = start + work + fixed[c.BUS_PS] + request[c.PROMPT] * fixed[c.BUS_TOKEN_PS]
    request[c.READY] = ready
    s.limits[c.L_HOST] += ready - time
    push(s.ready, now[c.READY_COUNT], ready, index)
    now[c.READY_COUNT] += 1
    if len(s.caps.room_w) and start == time:
        give_way(s, time)


@leaf
def _submit(s: PoolState, k: int, index: int) -> None:
    """See `replica.Replica.submit`."""
    request, rep, fixed, now = s.requests[index - s.now[c.BASE]], s.replicas[k], s.fixed, s.now[c.NOW]
    if rep[c.WAITING] >= fixed[c.QUEUE_MAX]:
        request[c.NEXT] = k  # for the reason's text
        close(s, request, now, c.REJECTED_STATUS, c.QUEUE_FULL)
        return
    request[c.REPLICA] = k
    s.looked_at[c.LOAD, k] += 1
    ends = c.WAITING_ENDS + 2 * request[c.LEVEL]
    append(s, rep, ends, ends + 1, index)
    rep[c.WAITING] += 1
    rep[c.CAME] += 1
    rep[c.CAME_SUM] += now
    rouse(s, k, now)


@leaf
def _end(s: PoolState, k: int) -> None:
    """End the rounds under way; then what was read in them is passed on, and the next begin."""
    rep, now = s.replicas[k], s.now[c.NOW]
    if rep[c.RUNNING]:
        end_rounds(s, k, rep[c.ROUNDS], now)
        rep[c.RUNNING] = 0
    else:
        s.limits[rep[c.WHY]] += rep[c.BLOCKED] * (now - rep[c.SINCE])
        book_came(s, rep, now)
    if rep[c.PASSED_HEAD] != c.NONE:
        s.now[c.PASSING] = k + 1
    else:
        s.now[c.BEGINNING] = k + 1


@leaf
def _begin(s: PoolState, k: int) -> int:
    """Begin the replica's next rounds if it has anything to do; what is needed for it comes before all else at this instant."""
    now = s.now
    if now[c.BEGINNING] < 0 or _prepare(s, k):
        now[c.BEGINNING] = -(k + 1)  # prepared
        need = begin(s, k)
        if need:
            return int(need)
    now[c.BEGINNING] = 0
    return c.NEED_COPIES if now[c.SENDS] > 0 else 0


@leaf
def _prepare(s: PoolState, k: int) -> bool:
    """Let those decode whose KV has come, make room and admit; whether there is anything to do then."""
    rep, now = s.replicas[k], s.now[c.NOW]
    join_landed(s, k, now)
    preempt(s, k, now)
    _admit(s, k, now)
    rep[c.SINCE] = now
    rep[c.BLOCKED] = rep[c.WAITING]
    full = rep[c.PROMPTS] + rep[c.COUNT] + rep[c.COPYING] >= s.fixed[c.SEQUENCES_MAX]
    rep[c.WHY] = c.L_SLOTS if full else c.L_BATCH if s.fixed[c.BATCHING] == c.STATIC else c.L_KV
    if rep[c.PROMPTS] or rep[c.COUNT]:
        return True
    s.looked_at[c.WAKE, k] = c.NEVER
    if len(s.caps.room_w):
        set_draw(s.caps, k, 0.0, now)
    return False


@leaf
def _admit(s: PoolState, k: int, now: int) -> None:
    """See `replica.Replica._admit` and `kv.KvRoom.take`."""
    rep, head = s.replicas[k], c.WAITING_ENDS
    if s.fixed[c.BATCHING] == c.STATIC and rep[c.PROMPTS] + rep[c.COUNT] + rep[c.COPYING]:
        return
    free = rep[c.KV_FREE] - growing(s, k)
    while rep[c.WAITING] and rep[c.PROMPTS] + rep[c.COUNT] + rep[c.COPYING] < s.fixed[c.SEQUENCES_MAX]:
        while rep[head] == c.NONE:
            head += 2
        index = rep[head]
        request = s.requests[index - s.now[c.BASE]]
        room = cost(s.costs, held(s, k, request))
        if room > free:
            return
        rep[head] = request[c.NEXT]
        rep[c.WAITING] -= 1
        if s.fixed[c.REUSE] and request[c.SESSION] >= 0:
            kept = take_kept(rep, s.kept[k], s.costs, request[c.SESSION])
            shared = min(request[c.PREFIX], request[c.PROMPT] - 1)
            if kept <= shared or not len(s.costs):
                request[c.READ] = min(kept, shared)
                request[c.REUSED] += request[c.READ]
        rep[c.KV_FREE] -= room
        free -= room
        if rep[c.KEPT_TOTAL] > free:
            make_room(rep, s.kept[k], s.costs, free)
        if request[c.ADMITTED] == c.NONE:
            request[c.ADMITTED] = now
        if request[c.SOURCE] != c.NONE:
            fetch(s, k, index, now)
        else:
            append(s, rep, c.PROMPT_HEAD, c.PROMPT_TAIL, index)
            rep[c.PROMPTS] += 1
