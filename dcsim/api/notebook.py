"""Progress in a notebook's cell: one line that is rewritten; nothing anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from dcsim.units import format_time

_EVERY_S = 0.5


def progress_in_notebook(noun: str) -> Callable[[int, int], None] | None:
    """What hears of work that is done, if there is a cell to show it in."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython import display

    show: Any = display.display  # type: ignore[attr-defined, unused-ignore]  # IPython's types leave its functions out
    text: Any = display.Markdown
    handle, began, shown = show(text(""), display_id=True), time.monotonic(), [0.0]

    def told(done: int, total: int) -> None:
        now = time.monotonic()
        if now - shown[0] < _EVERY_S and done < total:
            return
        shown[0] = now
        left = "" if done >= total or not done else f", about {format_time((now - began) / done * (total - done), 2)} left"
        handle.update(text(f"{done:,} of {total:,} {noun}{left}" if done < total else ""))

    return told
