"""The table of requests a run serves: struct of arrays, one entry a request, in order of arrival."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import WorkloadError
from dcsim.spec.workload import LATEST_S

COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens", "klass", "session", "prefix_tokens")


@dataclass(frozen=True, slots=True)
class Requests:
    """Arrivals and lengths. `arrival_s` is ascending and starts the clock at 0."""

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]  # at least 1
    output_tokens: NDArray[np.int32]  # at least 1
    klass: NDArray[np.int16]  # index into class_names (priority and metrics per class)
    session: NDArray[np.int32]  # requests of one conversation share it; -1: none
    prefix_tokens: NDArray[np.int32]  # leading prompt tokens shared with the session's previous turn
    class_names: tuple[str, ...] = ("default",)
    blocks: NDArray[Any] | None = None  # of each prompt a tuple of block ids (`Request.blocks`); None: not known
    block_tokens: int = 0  # of one block

    def __len__(self) -> int:
        return len(self.arrival_s)

    def part(self, start: int, stop: int) -> Requests:
        """Rows start..stop-1, as views."""
        cut = {name: getattr(self, name)[start:stop] for name in COLUMNS}
        blocks = None if self.blocks is None else self.blocks[start:stop]
        return Requests(**cut, class_names=self.class_names, blocks=blocks, block_tokens=self.block_tokens)


def plain(
    arrival_s: NDArray[np.float64],
    prompt_tokens: NDArray[np.int32],
    output_tokens: NDArray[np.int32],
) -> Requests:
    """Requests of one class without sessions."""
    n = len(arrival_s)
    return Requests(
        arrival_s,
        prompt_tokens,
        output_tokens,
        np.zeros(n, np.int16),
        np.full(n, -1, np.int32),
        np.zeros(n, np.int32),
    )


def require_countable(arrival_s: float) -> None:
    """Raise WorkloadError for a request, or a stretch without any, beyond the times a run can count."""
    if arrival_s > LATEST_S:
        raise WorkloadError(
            f"the workload goes on after {LATEST_S / 86_400:.0f} days, longer than a run can count: set `duration`, "
            "a higher `rate_scale`, or the trace's `window`"
        )


def join(blocks: Iterable[Requests]) -> Requests:
    """Blocks laid end to end; no block gives an empty table."""
    parts = list(blocks)
    if not parts:
        return plain(np.empty(0), np.empty(0, np.int32), np.empty(0, np.int32))
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    known = [part.blocks for part in parts if part.blocks is not None]
    ids = np.concatenate(known) if len(known) == len(parts) else None
    return Requests(**columns, class_names=parts[0].class_names, blocks=ids, block_tokens=parts[0].block_tokens)


def reblock(blocks: Iterable[Requests], rows: int) -> Iterator[Requests]:
    """The same rows in blocks of `rows`, the last one shorter."""
    held: list[Requests] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        if count >= rows:
            table = join(held)
            whole = count - count % rows
            yield from (table.part(start, start + rows) for start in range(0, whole, rows))
            held, count = [table.part(whole, count)], count - whole
    if count:
        yield join(held)
