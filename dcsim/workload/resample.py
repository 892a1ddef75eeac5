"""Requests from a trace's rows: replayed as they are, or drawn in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import WorkloadError
from dcsim.spec.workload import BootstrapWorkload, ReplayWorkload
from dcsim.workload.requests import Requests, plain, require_countable
from dcsim.workload.streams import stream
from dcsim.workload.synthetic import scaled_output
from dcsim.workload.traces import read_trace

ROWS_AT_ONCE = 100_000


def replay(spec: ReplayWorkload, resolve: Callable[[str], Path]) -> Iterator[Requests]:
    """The trace's rows in order, `repeat` times, time divided by `rate_scale`."""
    block_tokens = spec.trace.prefix_block_tokens
    trace = read_trace(resolve(spec.trace.file), spec.trace, with_blocks=block_tokens > 0)
    if spec.repeat > 1 and trace.span_s == 0:
        raise WorkloadError(f"{spec.trace.file}: all rows arrive at once; `repeat` needs a `window`")
    output_tokens = scaled_output(trace.output_tokens, spec.output_scale)
    if not (spec.duration_s or spec.requests):
        require_countable((spec.repeat - 1) * trace.span_s / spec.rate_scale)
    for turn in range(spec.repeat):
        arrival_s = (trace.arrival_s + turn * trace.span_s) / spec.rate_scale
        rows = plain(arrival_s, trace.prompt_tokens, output_tokens)
        yield rows if trace.blocks is None else replace(rows, blocks=trace.blocks, block_tokens=block_tokens)


def bootstrap(spec: BootstrapWorkload, seed: int, resolve: Callable[[str], Path]) -> Iterator[Requests]:
    """Moving-block bootstrap in time (Künsch 1989; wrapped around as Politis and Romano 1992), no end.

    A block starts anywhere in the trace with equal chance, so every row is drawn equally often and the mean
    rate is the trace's.
    """
    trace = read_trace(resolve(spec.trace.file), spec.trace)
    block_s = spec.block_s
    if not 0 < block_s <= trace.span_s:
        raise WorkloadError(f"{spec.trace.file}: `block` of {block_s:g} s is longer than the {trace.span_s:g} s of the trace")
    output_tokens = scaled_output(trace.output_tokens, spec.output_scale)
    pace = spec.rate_scale * (spec.mean_per_s * trace.span_s / len(trace) if spec.mean_per_s else 1.0)
    rng = stream(seed, "workload.block")
    twice_s = np.concatenate([trace.arrival_s, trace.arrival_s + trace.span_s])
    blocks_at_once = min(ROWS_AT_ONCE, max(1, int(ROWS_AT_ONCE * trace.span_s / (len(trace) * block_s))))
    done, last_s = 0, 0.0
    while True:
        require_countable(done * block_s / pace)
        start_s = rng.random(blocks_at_once) * trace.span_s
        first = np.searchsorted(twice_s, start_s)
        rows, block = ranges(first, np.searchsorted(twice_s, start_s + block_s))
        arrival_s = ((done + block) * block_s + (twice_s[rows] - start_s[block])) / pace
        # A row at a block's end may round past the next block's first: keep the arrivals in order.
        arrival_s = np.maximum.accumulate(np.maximum(arrival_s, last_s))
        last_s = arrival_s[-1] if len(arrival_s) else last_s
        done += blocks_at_once
        rows %= len(trace)
        yield plain(arrival_s, trace.prompt_tokens[rows], output_tokens[rows])


def ranges(start: NDArray[np.int64], stop: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The indices start[i]..stop[i]-1 for every i, end to end, and the i of each."""
    sizes = stop - start
    which = np.repeat(np.arange(len(start)), sizes)
    before = np.cumsum(sizes) - sizes
    return start[which] + np.arange(len(which)) - before[which], which
