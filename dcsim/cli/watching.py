"""What a terminal shows while a sweep goes on: how far it is, how long it takes, and the best points so far."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dcsim.units import format_time

BEST = 5  # points shown
LESS_IS_BETTER = ("_s", "_w", "_j", "_usd", "usd_per_h", "usd_per_mtoken", "energy_j_per_token", "racks", "chips")


class SweepLines:
    """A live table on stderr while the block runs; silent when stderr is not a terminal."""

    def __init__(self, keys: Sequence[str], metrics: Sequence[str]) -> None:
        self._keys, self._metrics = list(keys), list(metrics)
        self._live: Any = None
        self._began = 0.0

    def __enter__(self) -> SweepLines:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), transient=True, refresh_per_second=4)
            self._live.start()
            self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def on(self, kept: Mapping[int, dict[str, Any]]) -> Callable[[int, int], None] | None:
        """What hears of every point that is done; None where nobody looks."""
        if self._live is None:
            return None
        return lambda done, total: self._live.update(self._table(list(kept.values()), done, total))

    def _table(self, rows: Sequence[Mapping[str, Any]], done: int, total: int) -> Any:
        from rich.table import Table

        passed_s = time.monotonic() - self._began
        left = "" if done == total else f", about {format_time(passed_s / done * (total - done), 2)} left"
        failed = sum("error" in row for row in rows)
        title = f"{done:,} of {total:,} points{left}" + (f"; {failed:,} without a result" if failed else "")
        table = Table(*self._keys, *self._metrics, title=title, box=None, pad_edge=False)
        for row in best(rows, self._metrics)[:BEST]:
            table.add_row(*(_cell(row.get(name)) for name in (*self._keys, *self._metrics)))
        return table


def best(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[Mapping[str, Any]]:
    """Rows in order of the first metric that is a number, the best first."""
    for name in metrics:
        found = [row for row in rows if isinstance(row.get(name), (int, float))]
        if found and name not in ("tp", "pp"):
            less = any(part in name for part in ("_s_p", "energy_", "usd", "power_w")) or name.endswith(LESS_IS_BETTER)
            less = less and not name.endswith(("per_s", "tokens_per_s_per_user"))
            return sorted(found, key=lambda row: float(row[name]), reverse=not less)
    return list(rows)


def _cell(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else "" if value is None else str(value)
