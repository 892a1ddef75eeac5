"""Prefill and decode apart: the first `fixed[READERS]` replicas read prompts and pass them on, the others fetch KV and decode.

See `link.KvTransfers`. A request waits at the replica that decodes it while its KV stays where it was made; once admitted its KV
is on its way (the caller says how long), and both ends hold room until it is there.
"""

from __future__ import annotations

from typing import Any

from dcsim.cluster.fast import layout as c
from dcsim.cluster.fast.engine_kernel import held, join
from dcsim.cluster.fast.heap_kernel import pop, push
from dcsim.cluster.fast.kept_kernel import cost
from dcsim.cluster.fast.layout import PoolState
from dcsim.cluster.fast.rounds_kernel import end_soon, enter
from dcsim.kernels.jit import leaf, part


@leaf
def pass_on(s: PoolState, k: int) -> int:
    """The next request that a replica has read, whose KV it holds for the one that decodes it."""
    rep = s.replicas[k]
    index = rep[c.PASSED_HEAD]
    request = s.requests[index - s.now[c.BASE]]
    rep[c.PASSED_HEAD] = request[c.NEXT]
    rep[c.COPYING] += 1
    s.looked_at[c.LOAD, k] -= 1
    request[c.SOURCE] = k
    return int(index)


@leaf
def passed(s: PoolState, k: int, index: int, now: int) -> None:
    """It waits at another replica, or was rejected there; behind the last the next rounds begin."""
    request = s.requests[index - s.now[c.BASE]]
    if request[c.STATUS] != c.OPEN:
        let_go(s, request, now)
    if s.replicas[k, c.PASSED_HEAD] == c.NONE:
        s.now[c.PASSING] = 0
        s.now[c.BEGINNING] = k + 1


@leaf
def fetch(s: PoolState, k: int, index: int, now: int) -> None:
    """An admitted request's KV is to be sent; the caller is asked before anything else happens."""
    s.requests[index - s.now[c.BASE], c.FETCHED] = now
    s.replicas[k, c.COPYING] += 1
    s.sends[s.now[c.SENDS], 0] = index
    s.now[c.SENDS] += 1


@part
def send(s: PoolState) -> None:
    """The caller has said when KV is there: in the order it was sent where it comes at one instant."""
    now = s.now
    for place in range(-now[c.SENDS]):
        push(s.landings, now[c.LANDINGS], s.sends[place, 1], now[c.SENT] << 31 | s.sends[place, 0])
        now[c.LANDINGS] += 1
        now[c.SENT] += 1
    now[c.SENDS] = 0


@leaf
def land(s: PoolState) -> None:
    """KV is where it is decoded: its source is free of it, and the request decodes from the next round on."""
    index, now = s.landings[0, 1] & 0x7FFFFFFF, s.now[c.NOW]
    pop(s.landings, s.now[c.LANDINGS])
    s.now[c.LANDINGS] -= 1
    request = s.requests[index - s.now[c.BASE]]
    let_go(s, request, now)
    rep = s.replicas[request[c.REPLICA]]
    s.limits[c.L_COPIES] += now - request[c.FETCHED]
    rep[c.CAME] += 1
    rep[c.CAME_SUM] += now
    append(s, rep, c.LANDED_HEAD, c.LANDED_TAIL, index)
    rouse(s, request[c.REPLICA], now)


@leaf
def let_go(s: PoolState, request: Any, now: int) -> None:
    """The replica that read a request need not hold its KV any more; see `replica.Replica.copied`."""
    source = request[c.SOURCE]
    request[c.SOURCE] = c.NONE
    s.replicas[source, c.COPYING] -= 1
    s.replicas[source, c.KV_FREE] += cost(s.costs, request[c.PROMPT] + 1)
    rouse(s, source, now)


@leaf
def join_landed(s: PoolState, k: int, now: int) -> None:
    """Those whose KV has come decode from now on; the token they wait to follow may be older."""
    rep = s.replicas[k]
    while rep[c.LANDED_HEAD] != c.NONE:
        index = rep[c.LANDED_HEAD]
        request = s.requests[index - s.now[c.BASE]]
        rep[c.LANDED_HEAD] = request[c.NEXT]
        rep[c.COPYING] -= 1
        if s.fixed[c.GROWS]:
            rep[c.KV_FREE] += cost(s.costs, held(s, k, request))
        if request[c.MADE] != now:
            request[c.LATE] = 1
            rep[c.LATES] += 1
        join(rep, request)
        enter(s, k, index)


@leaf
def rouse(s: PoolState, k: int, now: int) -> None:
    """See `replica.Replica.rouse`."""
    if s.replicas[k, c.RUNNING]:
        end_soon(s, k, now)
    else:
        s.looked_at[c.WAKE, k] = min(s.looked_at[c.WAKE, k], now)


@leaf
def append(s: PoolState, rep: Any, head: int, tail: int, index: int) -> None:
    """Put a request at the end of a list linked through NEXT; an empty list has head NONE."""
    s.requests[index - s.now[c.BASE], c.NEXT] = c.NONE
    if rep[head] == c.NONE:
        rep[head] = index
    else:
        s.requests[rep[tail] - s.now[c.BASE], c.NEXT] = index
    rep[tail] = index
