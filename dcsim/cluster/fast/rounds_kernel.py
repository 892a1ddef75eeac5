"""Rounds of the compiled pool: what one does, how long it takes and what it leaves, as `replica` and `decoding` do it."""

from __future__ import annotations

from typing import Any

import numpy as np

from dcsim.cluster.fast import layout as c
from dcsim.cluster.fast.engine_kernel import ask, growing, held, join, leave, rounds_alike, rounds_of_room
from dcsim.cluster.fast.heap_kernel import pop, push
from dcsim.cluster.fast.kept_kernel import cost, keep
from dcsim.cluster.fast.layout import PoolState
from dcsim.cluster.fast.reruns_kernel import have_draws, met, micro_batches, rerun
from dcsim.kernels.jit import entry, leaf, part
from dcsim.power.caps_kernel import crowded, length_ps, set_draw


@leaf
def begin(s: PoolState, k: int) -> int:
    """Compose the next round and sleep until something changes; returns what is needed first, or 0."""
    rep, fixed = s.replicas[k], s.fixed
    decodes = rep[c.COUNT] > 0 and (fixed[c.BATCHING] == c.CONTINUOUS or not rep[c.PROMPTS])
    if fixed[c.ENGINE]:
        rep[c.BUDGET] = max(1, fixed[c.PREFILL_MAX] - (rep[c.COUNT] if decodes else 0))
        need = ask(s, k, decodes)
        if need:
            return int(need)
        latency, alone, work = s.answer[0], s.answer[1], s.answer[2]
        rep[c.HAZARD] = rep[c.RERUN] = rep[c.DRAIN] = 0
        _start(s, k, decodes, latency, latency, alone, latency, work + (rep[c.COUNT] * fixed[c.TOKEN_PJ] if decodes else 0), 0)
        return 0
    return _begin_compiled(s, k, decodes)


@leaf
def _begin_compiled(s: PoolState, k: int, decodes: bool) -> int:
    """A round of programs compiled beforehand."""
    rep, fixed = s.replicas[k], s.fixed
    latency = occupancy = alone = switches = work = grid = 0
    program, left, is_marked = rep[c.PROGRAM], rep[c.UNTIL_ERROR], False
    rep[c.BUDGET] = fixed[c.PREFILL_MAX]
    if decodes:
        known = s.decode[rep[c.COUNT], rep[c.TOP]]
        if not known[0]:
            s.now[c.NEED_COUNT], s.now[c.NEED_BUCKET] = rep[c.COUNT], rep[c.TOP]
            return c.NEED_DECODE
        latency, occupancy, alone = known[0], known[1], known[2]
        switches, program, grid = int(known[3] != program), known[3], known[6]
        work = s.decode_pj[rep[c.COUNT], rep[c.TOP]] + rep[c.COUNT] * fixed[c.TOKEN_PJ]
        iterations = micro_batches(rep[c.COUNT], known[5])
        is_marked = met(left, known[4], iterations)
        left -= 0 if is_marked else iterations * known[4]
    chunk, budget, index = fixed[c.CHUNK], rep[c.BUDGET], rep[c.PROMPT_HEAD]
    while index != c.NONE and budget >= chunk:
        request = s.requests[index - s.now[c.BASE]]
        end, stop = request[c.READ], min(request[c.PROMPT], request[c.READ] + budget // chunk * chunk)
        while end < stop:
            end = min(end + chunk, stop)
            bucket = np.searchsorted(s.contexts, end)
            known = s.chunk[bucket]
            if not known[0]:
                s.now[c.NEED_BUCKET] = bucket
                return c.NEED_CHUNK
            latency, occupancy, grid = max(latency, known[0]), occupancy + known[1], 0
            switches += known[2] != program
            program = known[2]
            work += s.chunk_pj[bucket]
            is_marked = is_marked or met(left, known[3], 1)
            left -= 0 if is_marked else known[3]
            budget -= chunk
        index = request[c.NEXT]
    rep[c.RERUN] = rep[c.RERUN_WORK] = 0
    rep[c.HAZARD] = 0 if is_marked else rep[c.UNTIL_ERROR] - left
    if is_marked:
        if not have_draws(s, k, decodes):
            return c.NEED_DRAWS
        rerun(s, k, decodes)
        work += rep[c.RERUN_WORK]
    clean = max(latency, occupancy)
    if grid:
        clean = -(-clean // grid) * grid
    rep[c.DRAIN] = max(0, occupancy - grid + latency - clean - rep[c.RERUN]) if grid else 0
    lead = switches * fixed[c.SWITCH]
    if switches or not grid or rep[c.ENDED] != rep[c.SINCE]:  # not on the grid of the rounds before
        lead += max(0, rep[c.DRAINED] - rep[c.SINCE])
    rep[c.PROGRAM] = program
    _start(s, k, decodes, latency, occupancy, alone, clean, work, lead)
    return 0


@leaf
def _start(
    s: PoolState, k: int, decodes: bool, latency: int, occupancy: int, alone: int, clean: int, work: int, lead: int
) -> None:
    """Rounds that take `clean`, and what runs again in them, begin now: so many of them until something changes."""
    rep, fixed = s.replicas[k], s.fixed
    length, rounds = clean + rep[c.RERUN], 1
    if fixed[c.SKIP] and not rep[c.PROMPTS] and not rep[c.RERUN]:
        rounds = min(s.sequences[k, 0, 0] - rep[c.STEP], 1 + c.SUM_MAX // max(1, work))
        if rep[c.HAZARD]:
            rounds = min(rounds, rep[c.UNTIL_ERROR] // rep[c.HAZARD])
        if fixed[c.ENGINE]:
            rounds = min(rounds, rounds_alike(s, rep), rounds_of_room(s, k))
    if len(s.caps.room_w):
        now, natural = rep[c.SINCE], length
        see_hosts(s, now)
        length = length_ps(s.caps, k, work, natural, now, s.busy, s.backlog)
        if length > natural and (len(s.replicas) > 1 or s.busy.any()):
            rounds = 1  # look again
    rep[c.LATENCY], rep[c.OCCUPANCY], rep[c.ALONE], rep[c.CLEAN] = latency, occupancy, alone, clean
    rep[c.LENGTH], rep[c.LEAD], rep[c.DECODES], rep[c.ROUNDS], rep[c.RUNNING] = length, lead, decodes, rounds, 1
    rep[c.ROUND_WORK] = work
    span = lead + rounds * length
    s.looked_at[c.WAKE, k] = rep[c.SINCE] + span
    if len(s.caps.room_w):
        set_draw(s.caps, k, s.caps.wait_w[k] + work * rounds / span, rep[c.SINCE])
        give_way(s, rep[c.SINCE])


@part
def work_by(rep: Any, at: int) -> int:
    """Work above waiting of the rounds under way: of whole rounds, and of the one under way in proportion (`pace.Steady`)."""
    if not rep[c.RUNNING]:
        return 0
    passed = at - rep[c.SINCE] - rep[c.LEAD]
    rounds = max(0, passed // rep[c.LENGTH])
    part = int(rep[c.ROUND_WORK] * (max(0, passed - rounds * rep[c.LENGTH]) / rep[c.LENGTH]))
    return int(rounds * rep[c.ROUND_WORK] + part)


@leaf
def end_soon(s: PoolState, k: int, now: int) -> None:
    """Let a replica's rounds end with the one under way."""
    rep = s.replicas[k]
    if rep[c.ROUNDS] > 1:
        rounds = max(0, (now - rep[c.SINCE] - 1 - rep[c.LEAD]) // rep[c.LENGTH]) + 1
        if rounds < rep[c.ROUNDS]:
            rep[c.ROUNDS] = rounds
            s.looked_at[c.WAKE, k] = rep[c.SINCE] + rep[c.LEAD] + rounds * rep[c.LENGTH]


@part
def give_way(s: PoolState, now: int) -> None:
    """See `capping.Capping.give_way`."""
    see_hosts(s, now)
    for group in range(len(s.caps.room_w)):
        if crowded(s.caps, group, s.busy):
            for k in range(len(s.replicas)):
                if s.caps.share[k, group] > 0 and s.replicas[k, c.RUNNING]:
                    end_soon(s, k, now)


@part
def see_hosts(s: PoolState, now: int) -> None:
    """Note each host's cores at work and its backlog."""
    for h in range(len(s.hosts)):
        s.busy[h] = 0
        for free_at in s.cores[h]:
            s.busy[h] += free_at > now
        s.backlog[h] = backlog(s, h, now)


@part
def backlog(s: PoolState, h: int, now: int) -> int:
    """Core time that host `h` has still to spend on requests taken in."""
    left = 0
    for free_at in s.cores[h]:
        left += max(0, free_at - now)
    return left


@part
def end_rounds(s: PoolState, k: int, rounds: int, now: int) -> None:
    """See `replica.Replica._end`."""
    rep, since = s.replicas[k], s.replicas[k, c.SINCE]
    _book_rounds(s, rep, rounds, now)
    rep[c.IN_PROGRAM] += now - since
    rep[c.WORK] += rep[c.ROUND_WORK] * rounds
    rep[c.UNTIL_ERROR] -= rep[c.HAZARD] * rounds
    rep[c.ENDED], rep[c.DRAINED] = now, max(rep[c.DRAINED], now + rep[c.DRAIN])
    s.now[c.FULL] |= rep[c.WORK] > c.SUM_MAX
    rep[c.SINCE] = now
    if rep[c.DECODES]:
        _count_gaps(s, k, rounds, since)
        rep[c.STEP] += rounds
        _end_sequences(s, k, now)
    elif rep[c.COUNT]:
        _mark_late(s, k, since)
    if rep[c.PROMPTS]:
        _end_prompts(s, k, now)


@entry
def count_gap(s: PoolState, gap: int, times: int) -> None:
    """`times` tokens followed their predecessors after `gap`."""
    table = s.gaps
    place = ((gap ^ (gap >> 17)) * 0x2545F4914F6CDD1D >> 20) & (len(table) - 1)
    while table[place, 1] and table[place, 0] != gap:
        place = (place + 1) & (len(table) - 1)
    if not table[place, 1]:
        s.now[c.GAPS_USED] += 1
        table[place, 0] = gap
    table[place, 1] += times


@leaf
def _count_gaps(s: PoolState, k: int, rounds: int, since: int) -> None:
    rep = s.replicas[k]
    first = rep[c.LEAD] + rep[c.LENGTH]
    if rep[c.COUNT] > rep[c.LATES]:
        count_gap(s, first, rep[c.COUNT] - rep[c.LATES])
    if rep[c.LATES]:
        for place in range(rep[c.COUNT]):
            request = s.requests[s.sequences[k, place, 1] - s.now[c.BASE]]
            if request[c.LATE]:
                count_gap(s, since + first - request[c.MADE], 1)
                request[c.LATE] = 0
        rep[c.LATES] = 0
    if rounds > 1:
        count_gap(s, rep[c.LENGTH], rep[c.COUNT] * (rounds - 1))


@leaf
def _mark_late(s: PoolState, k: int, since: int) -> None:
    """Decoding stood still since then: the next token's gap is longer than a round."""
    rep = s.replicas[k]
    for place in range(rep[c.COUNT]):
        request = s.requests[s.sequences[k, place, 1] - s.now[c.BASE]]
        if not request[c.LATE]:
            request[c.LATE], request[c.MADE] = 1, since
            rep[c.LATES] += 1


@leaf
def _end_sequences(s: PoolState, k: int, now: int) -> None:
    """See `decoding.Decoding.advance`: all that end leave before the first gives its room back."""
    rep, heap, in_bucket = s.replicas[k], s.sequences[k], s.in_bucket[k]
    first = last = c.NONE
    while rep[c.COUNT] and heap[0, 0] <= rep[c.STEP]:
        index = heap[0, 1]
        request = s.requests[index - s.now[c.BASE]]
        pop(heap, rep[c.COUNT])
        rep[c.COUNT] -= 1
        in_bucket[request[c.BUCKET]] -= 1
        if request[c.END] <= rep[c.STEP]:
            while rep[c.TOP] and not in_bucket[rep[c.TOP]]:
                rep[c.TOP] -= 1
            leave(rep, request)
            request[c.GIVEN], request[c.NEXT] = request[c.OUTPUT], c.NONE
            if first == c.NONE:
                first = index
            else:
                s.requests[last - s.now[c.BASE], c.NEXT] = index
            last = index
        else:
            enter(s, k, index)
    while first != c.NONE:
        request = s.requests[first - s.now[c.BASE]]
        first = request[c.NEXT]
        _finish(s, k, request, 0 if s.fixed[c.GROWS] else request[c.PROMPT] + request[c.OUTPUT], now)


@leaf
def enter(s: PoolState, k: int, index: int) -> None:
    """Count a sequence under the compiled context it needs now, and note its next change."""
    rep, request, contexts = s.replicas[k], s.requests[index - s.now[c.BASE]], s.contexts
    bucket = np.searchsorted(contexts, request[c.PROMPT] + request[c.GIVEN] + rep[c.STEP] - request[c.JOINED])
    request[c.BUCKET] = bucket
    s.in_bucket[k, bucket] += 1
    rep[c.TOP] = max(rep[c.TOP], bucket)
    outgrown = request[c.JOINED] + max(0, contexts[bucket] - request[c.PROMPT] + 1 - request[c.GIVEN])
    push(s.sequences[k], rep[c.COUNT], min(request[c.END], outgrown), index)
    rep[c.COUNT] += 1


@leaf
def _end_prompts(s: PoolState, k: int, now: int) -> None:
    """Count what the round has read, as `begin` chose it, and make the token that follows: the first, or one after a pause."""
    rep, chunk, budget = s.replicas[k], s.fixed[c.CHUNK], s.replicas[k, c.BUDGET]
    index = rep[c.PROMPT_HEAD]
    while index != c.NONE and budget >= chunk:
        request = s.requests[index - s.now[c.BASE]]
        whole = request[c.PROMPT] + request[c.GIVEN]
        stop = min(whole, request[c.READ] + budget // chunk * chunk)
        budget -= -(-(stop - request[c.READ]) // chunk) * chunk
        request[c.READ] = stop
        following = request[c.NEXT]
        if stop == whole:
            rep[c.PROMPT_HEAD] = following
            rep[c.PROMPTS] -= 1
            if request[c.FIRST] == c.NONE:
                request[c.FIRST] = now + s.fixed[c.REPLY]
            else:
                count_gap(s, now - request[c.MADE], 1)
            room = held(s, k, request)
            request[c.GIVEN] += 1
            request[c.MADE] = now
            rep[c.WORK] += s.fixed[c.TOKEN_PJ]
            if request[c.GIVEN] == request[c.OUTPUT]:
                _finish(s, k, request, room, now)
            elif k < s.fixed[c.READERS]:
                request[c.NEXT] = c.NONE
                if rep[c.PASSED_HEAD] == c.NONE:
                    rep[c.PASSED_HEAD] = index
                else:
                    s.requests[rep[c.PASSED_TAIL] - s.now[c.BASE], c.NEXT] = index
                rep[c.PASSED_TAIL] = index
            else:
                if s.fixed[c.GROWS]:
                    rep[c.KV_FREE] += cost(s.costs, room)
                join(rep, request)
                enter(s, k, index)
        index = following


@part
def _finish(s: PoolState, k: int, request: Any, room: int, now: int) -> None:
    """See `replica.Replica._finish` and `kv.KvRoom.give_back`; room for so many tokens is free again."""
    rep, tokens = s.replicas[k], request[c.PROMPT] + request[c.OUTPUT]
    rep[c.KV_FREE] += cost(s.costs, room)
    s.looked_at[c.LOAD, k] -= 1
    if s.fixed[c.REUSE] and request[c.SESSION] >= 0:
        keep(s.now, rep, s.kept[k], s.costs, request[c.SESSION], tokens - 1, rep[c.KV_FREE] - growing(s, k))
    request[c.FINISHED] = now + s.fixed[c.REPLY]
    s.limits[c.L_HOST] += s.fixed[c.REPLY]
    s.now[c.AREA] += s.fixed[c.REPLY]
    close(s, request, now, c.FINISHED_STATUS, 0)


@part
def close(s: PoolState, request: Any, now: int, status: int, reason: int) -> None:
    """See `ledger.Ledger.close`, and what the user does then (`users.Users`)."""
    request[c.STATUS], request[c.REASON] = status, reason
    change_in_system(s, now, -1)
    s.now[c.CLOSED] += 1
    s.now[c.LAST_CLOSE] = now
    if len(s.asked):
        think(s, request[c.USER], request[c.FINISHED] if status == c.FINISHED_STATUS else now, now)


@part
def think(s: PoolState, user: int, since: int, now: int) -> None:
    """From `since` on the user thinks, and asks again; or has no more to ask, or no more time."""
    number = s.asked[user]
    due = c.NEVER
    if number < s.asks.shape[1]:
        due = since + s.asks[user, number, c.ASK_THINK]
    if due >= s.fixed[c.ASK_UNTIL]:
        go(s, now)
        return
    push(s.thinking, s.now[c.THINKING], due, user)
    s.now[c.THINKING] += 1


@part
def go(s: PoolState, now: int) -> None:
    """A user asks no more; all is done when none is left and all that was asked is answered, at the same instant or later."""
    s.now[c.ACTIVE] -= 1
    s.now[c.DONE_AT] = now


@part
def change_in_system(s: PoolState, time: int, change: int) -> None:
    now = s.now
    now[c.AREA] += now[c.IN_SYSTEM] * (time - now[c.CHANGED])
    now[c.IN_SYSTEM] += change
    now[c.CHANGED] = time


@part
def book_came(s: PoolState, rep: Any, now: int) -> None:
    s.limits[c.L_LATENCY] += rep[c.CAME] * now - rep[c.CAME_SUM]
    rep[c.CAME] = rep[c.CAME_SUM] = 0


@leaf
def _book_rounds(s: PoolState, rep: Any, rounds: int, now: int) -> None:
    """See `attribution.Attribution.rounds`."""
    limits, span, length, decoding = s.limits, now - rep[c.SINCE], rep[c.LENGTH], rep[c.COUNT]
    limits[rep[c.WHY]] += rep[c.BLOCKED] * span
    book_came(s, rep, now)
    limits[c.L_PREFILL] += rep[c.PROMPTS] * span
    if not rep[c.DECODES]:
        limits[c.L_PREFILL] += decoding * span
        return
    alone, free = min(length, rep[c.ALONE]), rep[c.CLEAN]
    cause = c.L_PIPELINE if rep[c.OCCUPANCY] > rep[c.LATENCY] else c.L_PREFILL if rep[c.PROMPTS] else c.L_LATENCY
    limits[c.L_LATENCY] += decoding * rounds * alone
    limits[cause] += decoding * rounds * (free - alone)
    limits[c.L_FAULT] += decoding * rounds * rep[c.RERUN]
    limits[c.L_POWER] += decoding * rounds * (length - free - rep[c.RERUN])
    limits[c.L_SWITCH] += decoding * (span - rounds * length)
