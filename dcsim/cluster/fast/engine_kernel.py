"""Replicas of the compiled pool under a serving engine: rounds of whatever tokens there are, and room that grows.

See `engine_batch.EngineBatch`, and `replica.Replica` on room. Times of rounds come from the caller: those without prompts are
remembered in a hash table, the others are asked for one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dcsim.cluster.fast import layout as c
from dcsim.cluster.fast.heap_kernel import push
from dcsim.cluster.fast.kept_kernel import cost
from dcsim.cluster.fast.layout import PoolState
from dcsim.kernels.jit import entry, leaf, part


@leaf
def ask(s: PoolState, k: int, decodes: bool) -> int:
    """Have `answer` hold how long the replica's next round takes and what it works; returns what is needed first, or 0."""
    rep, now = s.replicas[k], s.now
    if now[c.ANSWERED]:
        now[c.ANSWERED] = 0
        return 0
    sequences = rep[c.COUNT] if decodes else 0
    step = step_of(s, rep) if decodes else 0
    if not rep[c.PROMPTS]:
        place = _place(s.rounds, _key(sequences, step))
        if s.rounds[place, 1]:
            for i in range(3):
                s.answer[i] = s.rounds[place, 1 + i]
            return 0
    now[c.NEED_COUNT], now[c.NEED_BUCKET], now[c.NEED_CHUNKS] = sequences, step, 0
    left, index = rep[c.BUDGET], rep[c.PROMPT_HEAD]
    while index != c.NONE and left > 0:
        request = s.requests[index - now[c.BASE]]
        whole = request[c.PROMPT] + request[c.GIVEN]
        stop = min(whole, request[c.READ] + left)
        left -= stop - request[c.READ]
        chunk = s.chunks[now[c.NEED_CHUNKS]]
        chunk[0], chunk[1], chunk[2] = request[c.READ], stop, stop == whole
        now[c.NEED_CHUNKS] += 1
        index = request[c.NEXT]
    return c.NEED_ROUND


@entry
def remember(s: PoolState, sequences: int, step: int, answer: Any) -> None:
    """A round without prompts takes and works what `answer` says."""
    place = _place(s.rounds, _key(sequences, step))
    if not s.rounds[place, 1]:
        s.now[c.ROUNDS_USED] += 1
    s.rounds[place, 0] = _key(sequences, step)
    for i in range(3):
        s.rounds[place, 1 + i] = answer[i]


@part
def _key(sequences: int, step: int) -> int:
    return sequences << 32 | step


@part
def _place(table: Any, key: int) -> int:
    """Where the table has the key, or else the free place that it would take."""
    place = ((key ^ (key >> 29)) * 0x2545F4914F6CDD1D >> 20) & (len(table) - 1)
    while table[place, 1] and table[place, 0] != key:
        place = (place + 1) & (len(table) - 1)
    return int(place)


@part
def context_mean(rep: Any) -> float:
    """See `decoding.Decoding.context_mean`."""
    return float(rep[c.AT_START] / rep[c.COUNT] + float(rep[c.STEP]) + 1.0)


@part
def step_of(s: PoolState, rep: Any) -> int:
    """The step that the mean context lies in."""
    return int(np.floor(context_mean(rep) / s.fixed[c.STEP_TOKENS]))


@leaf
def rounds_alike(s: PoolState, rep: Any) -> int:
    """Rounds until the mean context has grown into the next step."""
    return max(1, int(np.ceil((step_of(s, rep) + 1) * s.fixed[c.STEP_TOKENS] - context_mean(rep))))


@leaf
def growing(s: PoolState, k: int) -> int:
    """See `replica.Replica._growing`."""
    rep = s.replicas[k]
    if not s.fixed[c.GROWS] or not rep[c.COUNT]:
        return 0
    if not len(s.costs):
        return int(np.ceil(rep[c.COUNT] * context_mean(rep)))
    total = 0
    for place in range(rep[c.COUNT]):
        request = s.requests[s.sequences[k, place, 1] - s.now[c.BASE]]
        total += cost(s.costs, request[c.PROMPT] + request[c.GIVEN] + rep[c.STEP] - request[c.JOINED] + 1)
    return total


@leaf
def rounds_of_room(s: PoolState, k: int) -> int:
    """See `replica.Replica._rounds_of_room`."""
    rep = s.replicas[k]
    if not s.fixed[c.GROWS] or not rep[c.COUNT]:
        return int(c.NEVER)
    left = rep[c.KV_FREE] - growing(s, k)
    return int(1 + max(0, left // (rep[c.COUNT] * max(1, cost(s.costs, 1)))))


@leaf
def preempt(s: PoolState, k: int, now: int) -> None:
    """See `replica.Replica._make_room`, where sequences are read anew."""
    rep = s.replicas[k]
    while s.fixed[c.GROWS] and rep[c.COUNT] > 1 and growing(s, k) > rep[c.KV_FREE]:
        _put_back(s, k, _latest(s, k), now)


@part
def _latest(s: PoolState, k: int) -> int:
    """The place of the sequence that joined last."""
    latest, most = 0, -1
    for place in range(s.replicas[k, c.COUNT]):
        join = s.requests[s.sequences[k, place, 1] - s.now[c.BASE], c.JOIN]
        if join > most:
            latest, most = place, join
    return latest


@part
def _put_back(s: PoolState, k: int, place: int, now: int) -> None:
    """A decoding sequence goes back to wait before all of its priority; nothing of it is left in KV."""
    rep, heap = s.replicas[k], s.sequences[k]
    index = heap[place, 1]
    request = s.requests[index - s.now[c.BASE]]
    _take_out(heap, rep[c.COUNT], place)
    rep[c.COUNT] -= 1
    s.in_bucket[k, request[c.BUCKET]] -= 1
    while rep[c.TOP] and not s.in_bucket[k, rep[c.TOP]]:
        rep[c.TOP] -= 1
    leave(rep, request)
    request[c.GIVEN] += rep[c.STEP] - request[c.JOINED]
    request[c.READ] = 0
    if request[c.LATE]:
        request[c.LATE] = 0
        rep[c.LATES] -= 1
    else:
        request[c.MADE] = now
    head = c.WAITING_ENDS + 2 * request[c.LEVEL]
    request[c.NEXT] = rep[head]
    if rep[head] == c.NONE:
        rep[head + 1] = index
    rep[head] = index
    rep[c.WAITING] += 1


@part
def _take_out(heap: Any, count: int, place: int) -> None:
    """Take a pair from anywhere in a heap of `count`: the pairs behind it are put in anew."""
    heap[place, 0], heap[place, 1] = heap[count - 1, 0], heap[count - 1, 1]
    for behind in range(place, count - 1):
        push(heap, behind, heap[behind, 0], heap[behind, 1])


@leaf
def join(rep: Any, request: Any) -> None:
    """A sequence decodes from the next step on; see `decoding.Decoding.join`."""
    request[c.JOINED], request[c.END] = rep[c.STEP], rep[c.STEP] + request[c.OUTPUT] - request[c.GIVEN]
    request[c.JOIN] = rep[c.JOINS]
    rep[c.JOINS] += 1
    rep[c.AT_START] += request[c.PROMPT] + request[c.GIVEN] - request[c.JOINED]


@leaf
def leave(rep: Any, request: Any) -> None:
    """A sequence decodes no more; what it was given by joining must still stand."""
    rep[c.AT_START] -= request[c.PROMPT] + request[c.GIVEN] - request[c.JOINED]


@leaf
def held(s: PoolState, k: int, request: Any) -> int:
    """Tokens whose room a request holds in a replica from admission on: until it decodes or is elsewhere, or until its end."""
    if s.fixed[c.GROWS] or k < s.fixed[c.READERS]:
        return int(request[c.PROMPT] + request[c.GIVEN] + 1)
    return int(request[c.PROMPT] + request[c.OUTPUT])
