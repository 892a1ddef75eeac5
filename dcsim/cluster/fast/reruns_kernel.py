"""Iterations of the compiled pool that run again, as a vector of theirs has an error that cannot be mended (see `marks`).

`UNTIL_ERROR` is the hazard that a replica has still to go, `NEXT_DRAW` the place of the draw that comes next.
"""

from __future__ import annotations

import numpy as np

from dcsim.cluster.fast import layout as c
from dcsim.cluster.fast.layout import PoolState
from dcsim.kernels.jit import part


@part
def micro_batches(sequences: int, batch: int) -> int:
    """Iterations that so many sequences take."""
    return -(-sequences // batch)


@part
def met(left: int, hazard: int, iterations: int) -> bool:
    """Whether one of so many iterations is marked; their summed hazard could be beyond 64 bits."""
    return hazard > 0 and left // hazard < iterations


@part
def have_draws(s: PoolState, k: int, decodes: bool) -> bool:
    """Whether there are draws enough for the round, in which an iteration is marked."""
    return _walk(s, k, decodes, False)


@part
def rerun(s: PoolState, k: int, decodes: bool) -> None:
    """Find what runs again in the round, for how long, and whose it is; there must be draws enough."""
    _walk(s, k, decodes, True)


@part
def _walk(s: PoolState, k: int, decodes: bool, is_real: bool) -> bool:
    """Go through the round's iterations, as `rounds_kernel.begin` composes them; False if draws run out.

    Only if `is_real` is anything changed.
    """
    rep, fixed, contexts = s.replicas[k], s.fixed, s.contexts
    left, draw = rep[c.UNTIL_ERROR], rep[c.NEXT_DRAW]
    if decodes:
        known, count = s.decode[rep[c.COUNT], rep[c.TOP]], rep[c.COUNT]
        iterations = micro_batches(count, known[5])
        for number in range(iterations):
            left, draw, times = _iteration(s, k, known[4], left, draw)
            if draw < 0:
                return False
            if times and is_real:
                rep[c.RERUN] += times * known[0]
                rep[c.RERUN_WORK] += times * (s.decode_pj[count, rep[c.TOP]] // iterations)
                _count_sequences(s, k, number * known[5], (number + 1) * known[5])
    chunk, budget, index = fixed[c.CHUNK], fixed[c.PREFILL_MAX], rep[c.PROMPT_HEAD]
    while index != c.NONE and budget >= chunk:
        request = s.requests[index - s.now[c.BASE]]
        end, stop = request[c.READ], min(request[c.PROMPT], request[c.READ] + budget // chunk * chunk)
        while end < stop:
            end = min(end + chunk, stop)
            bucket = np.searchsorted(contexts, end)
            known = s.chunk[bucket]
            left, draw, times = _iteration(s, k, known[3], left, draw)
            if draw < 0:
                return False
            if times and is_real:
                rep[c.RERUN] += times * known[0]
                rep[c.RERUN_WORK] += times * s.chunk_pj[bucket]
                request[c.REPLAYS] += 1
            budget -= chunk
        index = request[c.NEXT]
    if is_real:
        rep[c.UNTIL_ERROR], rep[c.NEXT_DRAW] = left, draw
    return True


@part
def _iteration(s: PoolState, k: int, hazard: int, left: int, draw: int) -> tuple[int, int, int]:
    """Run one until it is clean: hazard left then, the next draw (-1: there is none) and how often it was marked."""
    times = 0
    while left < hazard:
        if draw == s.draws.shape[1]:
            return left, -1, times
        left = s.draws[k, draw]
        draw += 1
        times += 1
    return left - hazard, draw, times


@part
def _count_sequences(s: PoolState, k: int, first: int, behind: int) -> None:
    """An iteration of the decoding sequences from `first` to before `behind`, in order of arrival, runs again."""
    sequences, count = s.sequences[k], s.replicas[k, c.COUNT]
    for place in range(count):
        index, before = sequences[place, 1], 0
        for other in range(count):
            before += sequences[other, 1] < index
        if first <= before < behind:
            s.requests[index - s.now[c.BASE], c.REPLAYS] += 1
